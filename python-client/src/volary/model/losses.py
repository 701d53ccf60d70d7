"""Losses, by name. ``loss="mse"`` and ``loss=volary.losses.MeanSquaredError()`` are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
]


@dataclass(frozen=True)
class Loss:
    """Base of every loss."""

    name: ClassVar[str]

    def get_config(self) -> dict[str, Any]:
        """Options: none."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The loss of a configuration."""
        return cls(**config)


class MeanSquaredError(Loss):
    """The squared difference."""

    name = "mean_squared_error"


class MeanAbsoluteError(Loss):
    """The absolute difference."""

    name = "mean_absolute_error"


class BinaryCrossentropy(Loss):
    """For two classes and a model that ends in one sigmoid unit."""

    name = "binary_crossentropy"


class SparseCategoricalCrossentropy(Loss):
    """For a label column of classes and a model that ends in a softmax with one unit for each."""

    name = "sparse_categorical_crossentropy"


class CategoricalCrossentropy(Loss):
    """For one probability per class; the servers refuse it for now, since a label is one column: use the sparse form."""

    name = "categorical_crossentropy"
