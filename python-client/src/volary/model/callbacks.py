"""What happens during training besides the steps. Described here, done by the servers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from .._commands import plain

__all__ = ["EarlyStopping", "ReduceLROnPlateau"]

_MODES = ("auto", "min", "max")


@dataclass(frozen=True)
class EarlyStopping:
    """End training when a history column has not become better for ``patience`` epochs.

    Args:
        monitor: The column, such as ``val_loss`` or ``val_auc``.
        patience: Epochs without progress that are borne.
        min_delta: What counts as progress.
        restore_best_weights: Commit the best epoch's weights, not the last's.
        mode: Whether larger is better; "auto" decides by the metric.
    """

    monitor: str = "val_loss"
    patience: int = 0
    min_delta: float = 0.0
    restore_best_weights: bool = False
    mode: Literal["auto", "min", "max"] = "auto"

    def __post_init__(self) -> None:
        _make_plain(self)

    def to_json(self) -> dict[str, Any]:
        """The ``EarlyStopping`` message."""
        return {
            "monitor": self.monitor,
            "patience": self.patience,
            "minDelta": self.min_delta,
            "restoreBestWeights": self.restore_best_weights,
            **_direction(self.mode),
        }


@dataclass(frozen=True)
class ReduceLROnPlateau:
    """Multiply the learning rate by ``factor`` when a history column has not become better for ``patience`` epochs.

    It multiplies whatever the optimiser's schedule says. The history's ``learning_rate`` tells what each epoch ended with.

    Args:
        monitor: The column, such as ``val_loss`` or ``val_auc``.
        factor: From 0 to below 1.
        patience: Epochs without progress that are borne.
        mode: Whether larger is better; "auto" decides by the metric.
        min_delta: What counts as progress.
        cooldown: Epochs after a reduction that do not count.
        min_lr: No reduction goes below; a schedule may.

    >>> ReduceLROnPlateau("val_auc", factor=0.5, patience=2).to_json()["factor"]
    0.5
    """

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 10
    mode: Literal["auto", "min", "max"] = "auto"
    min_delta: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        _make_plain(self)

    def to_json(self) -> dict[str, Any]:
        """The ``ReduceOnPlateau`` message."""
        return {
            "monitor": self.monitor,
            "factor": self.factor,
            "patience": self.patience,
            "minDelta": self.min_delta,
            "cooldown": self.cooldown,
            "minLearningRate": self.min_lr,
            **_direction(self.mode),
        }


def _make_plain(callback: Any) -> None:
    """The options of a frozen dataclass as Python's own values."""
    for each in fields(callback):
        value = plain(getattr(callback, each.name), f"{each.name} of {type(callback).__name__}")
        object.__setattr__(callback, each.name, value)


def _direction(mode: str) -> dict[str, bool]:
    """The field that says whether larger is better; left out where the server decides."""
    if mode not in _MODES:
        raise ValueError(f'unknown mode "{mode}"; there are auto, min and max')
    return {} if mode == "auto" else {"maximize": mode == "max"}
