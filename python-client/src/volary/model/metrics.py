"""Metrics, by name. ``metrics=["auc"]`` and ``metrics=[volary.metrics.AUC()]`` are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

__all__ = ["AUC", "Accuracy", "MeanAbsoluteError", "MeanSquaredError", "Metric"]


@dataclass(frozen=True)
class Metric:
    """Base of every metric."""

    name: ClassVar[str]

    def get_config(self) -> dict[str, Any]:
        """Options: none."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The metric of a configuration."""
        return cls(**config)


class Accuracy(Metric):
    """The share of rows whose class was answered."""

    name = "accuracy"


class AUC(Metric):
    """Area under the receiver operating characteristic, for two classes."""

    name = "auc"


class MeanAbsoluteError(Metric):
    """The mean absolute difference."""

    name = "mae"


class MeanSquaredError(Metric):
    """The mean squared difference."""

    name = "mse"
