"""What happens during training besides the steps. Described here, done by the servers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from .._commands import plain

__all__ = ["EarlyStopping"]


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
        for each in fields(self):
            object.__setattr__(self, each.name, plain(getattr(self, each.name), f"{each.name} of EarlyStopping"))

    def to_json(self) -> dict[str, Any]:
        """The ``EarlyStopping`` message."""
        form: dict[str, Any] = {
            "monitor": self.monitor,
            "patience": self.patience,
            "minDelta": self.min_delta,
            "restoreBestWeights": self.restore_best_weights,
        }
        if self.mode not in ("auto", "min", "max"):
            raise ValueError(f'unknown mode "{self.mode}"; there are auto, min and max')
        if self.mode != "auto":
            form["maximize"] = self.mode == "max"
        return form
