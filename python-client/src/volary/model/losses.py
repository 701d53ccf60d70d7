"""Losses, by name. ``loss="mse"`` and ``loss=volary.losses.MeanSquaredError()`` are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "CosineSimilarity",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
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


class MeanAbsolutePercentageError(Loss):
    """A hundred times the absolute difference, divided by the label's size."""

    name = "mean_absolute_percentage_error"


class MeanSquaredLogarithmicError(Loss):
    """The squared difference of ``log(1 + label)`` and ``log(1 + answer)``; negative numbers count as 0."""

    name = "mean_squared_logarithmic_error"


class Huber(Loss):
    """Half the square of differences up to 1, beyond that the difference less a half (Huber, 1964)."""

    name = "huber"


class LogCosh(Loss):
    """The logarithm of the difference's hyperbolic cosine: squares of small differences, sizes of large ones."""

    name = "log_cosh"


class Poisson(Loss):
    """``answer - label * log(answer)``: for labels that are counts and a model that answers positive rates."""

    name = "poisson"


class KLDivergence(Loss):
    """``sum(label * log(label / answer))``: for a label that is a distribution, a list column of shares."""

    name = "kl_divergence"


class CosineSimilarity(Loss):
    """The negated cosine of the angle between label and answer, both lists of numbers."""

    name = "cosine_similarity"


class Hinge(Loss):
    """``max(0, 1 - label * answer)`` of labels that are the numbers -1 and 1, or 0 and 1."""

    name = "hinge"


class SquaredHinge(Loss):
    """The square of `Hinge`."""

    name = "squared_hinge"


class BinaryCrossentropy(Loss):
    """For two classes and a model that ends in one sigmoid unit."""

    name = "binary_crossentropy"


class SparseCategoricalCrossentropy(Loss):
    """For a label column of classes and a model that ends in a softmax with one unit for each."""

    name = "sparse_categorical_crossentropy"


class CategoricalCrossentropy(Loss):
    """For one probability per class; the servers refuse it for now, since a label is one column: use the sparse form."""

    name = "categorical_crossentropy"
