"""What happens during training besides the steps. Described here, done by the servers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from .._commands import plain

__all__ = ["Checkpoint", "EarlyStopping", "ReduceLROnPlateau"]

_MODES = ("auto", "min", "max")


@dataclass(frozen=True)
class Checkpoint:
    """Keep what the job needs to go on: weights, the optimiser's state, and where it stood; at the end of epochs.

    A job that failed, was cancelled or lost a server goes on with :meth:`volary.JobHandle.resume`, to the same bits as if
    nothing had happened; ``model.job`` is that of the last ``fit``. The servers keep it in their store, also after the job has
    ended well, until :meth:`volary.JobHandle.drop_checkpoints`. To commit the best epoch's weights there is
    :class:`EarlyStopping`.

    Args:
        every: Epochs between two checkpoints; the last epoch of a job has one too.
        keep: The newest so many are kept.

    >>> Checkpoint(every=5).to_json()
    {'every': 5, 'keep': 1}
    """

    every: int = 1
    keep: int = 1

    def __post_init__(self) -> None:
        _make_plain(self)
        for name in ("every", "keep"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} of Checkpoint is {value!r}; give a whole number from 1 on")

    def to_json(self) -> dict[str, Any]:
        """The ``Checkpoints`` message."""
        return {"every": self.every, "keep": self.keep}


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
