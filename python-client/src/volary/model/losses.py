"""Losses, with Keras' names, arguments and defaults. ``loss="mse"`` and ``loss=volary.losses.MeanSquaredError()`` are the same.

>>> Huber(delta=2).to_json()
{'name': 'huber', 'delta': 2}
>>> MeanSquaredError().to_json()
'mean_squared_error'

Losses over sequences (a model whose answer has several extents to a row) are the mean over the positions of a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .._commands import plain
from .described import Described
from .shapes import Shape, is_known
from .symbolic import trace

__all__ = [
    "CTC",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Dice",
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
    "Quantile",
    "RankHinge",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
]


def described(what: str, given: Any, kind: type[Described], shape: Shape | None = None) -> str | dict[str, Any]:
    """The JSON form of a loss or metric given by name, as a dict, as an object of `kind`, as its class, or as a function.

    A function of symbolic tensors ``(y_true, y_pred)``, both of the `shape` of the model's answer, is recorded as a program.

    >>> [described("loss", each, Loss) for each in ("mse", Huber, Huber(2.0), {"name": "huber", "delta": 3})]
    ['mse', 'huber', {'name': 'huber', 'delta': 2.0}, {'name': 'huber', 'delta': 3}]
    """
    if isinstance(given, str):
        return str(given)
    if isinstance(given, Mapping):
        return plain(given, what)
    if isinstance(given, type) and issubclass(given, kind):
        given = given()
    if isinstance(given, kind):
        return given.to_json()
    if callable(given) and not isinstance(given, type):
        return _recorded(what, given, shape)
    raise TypeError(
        f"{what} is of type {type(given).__name__}; give one of volary.{kind.__module__.rpartition('.')[2]}, its class, its "
        "name, a dict of a name and options, or a function of (y_true, y_pred)"
    )


def _recorded(what: str, function: Callable[[Any, Any], Any], shape: Shape | None) -> dict[str, Any]:
    """The program of a function of (y_true, y_pred), called after the function."""
    title = re.sub(r"\W+", "_", getattr(function, "__name__", "custom"), flags=re.ASCII).strip("_")[:64]
    inputs = [(shape, "float32")] * 2
    program, outputs = trace(function, inputs, what=f"{what} {title}")
    for output in outputs:
        if is_known(output.shape) and output.shape is not None and output.shape[:1] != (None,):
            raise ValueError(
                f"{what} {title} answers {output.shape}; give a number for each row: take the mean over all axes behind the rows"
            )
    return {"name": "custom", "title": "custom" if title == "lambda" else title, "program": program}


@dataclass(frozen=True)
class Loss(Described):
    """Base of every loss."""


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


@dataclass(frozen=True)
class Huber(Loss):
    """Half the square of differences up to `delta`, beyond that `delta` times the difference less half of it (Huber, 1964)."""

    name = "huber"
    delta: float = 1.0


class LogCosh(Loss):
    """The logarithm of the difference's hyperbolic cosine: squares of small differences, sizes of large ones."""

    name = "log_cosh"


@dataclass(frozen=True)
class Quantile(Loss):
    """``max(q * e, (q - 1) * e)`` of ``e = label - answer``: the answer becomes the label's quantile (the pinball loss)."""

    name = "quantile"
    quantile: float = 0.5


class Poisson(Loss):
    """``answer - label * log(answer)``: for labels that are counts and a model that answers positive rates."""

    name = "poisson"


class KLDivergence(Loss):
    """``sum(label * log(label / answer))``: for a label that is a distribution, a list column of shares."""

    name = "kl_divergence"


@dataclass(frozen=True)
class CosineSimilarity(Loss):
    """The negated cosine of the angle between label and answer, both lists of numbers; over the innermost axis."""

    name = "cosine_similarity"
    axis: int = -1


class Hinge(Loss):
    """``max(0, 1 - label * answer)`` of labels that are the numbers -1 and 1, or 0 and 1."""

    name = "hinge"


class SquaredHinge(Loss):
    """The square of `Hinge`."""

    name = "squared_hinge"


class CategoricalHinge(Loss):
    """``max(0, 1 + largest wrong answer - right answer)``, of a list column of one number per class, 1 for the right one."""

    name = "categorical_hinge"


@dataclass(frozen=True)
class RankHinge(Loss):
    """``max(0, margin - first + second)`` of each two neighbouring answers of a row, labelled 1 and 0 (Analytics Zoo's)."""

    name = "rank_hinge"
    margin: float = 1.0


@dataclass(frozen=True)
class BinaryCrossentropy(Loss):
    """For two classes and a model that ends in one sigmoid unit.

    Args:
        from_logits: The model ends without the sigmoid. The servers add it, so that the trained model answers probabilities.
        label_smoothing: Labels are moved towards one half by this factor.
    """

    name = "binary_crossentropy"
    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1


@dataclass(frozen=True)
class BinaryFocalCrossentropy(Loss):
    """`BinaryCrossentropy` times ``(1 - p)**gamma``, p being what the label's class was given (Lin et al., 2018).

    Args:
        apply_class_balancing: Times `alpha` for class 1 and ``1 - alpha`` for class 0.
    """

    name = "binary_focal_crossentropy"
    apply_class_balancing: bool = False
    alpha: float = 0.25
    gamma: float = 2.0
    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1


@dataclass(frozen=True)
class CategoricalCrossentropy(Loss):
    """For a label column of classes, or a list column of one probability per class, and a softmax with one unit for each.

    Args:
        from_logits: The model ends without the softmax. The servers add it, so that the trained model answers probabilities.
        label_smoothing: Labels are moved by this factor towards the same share for each class.
    """

    name = "categorical_crossentropy"
    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1


@dataclass(frozen=True)
class CategoricalFocalCrossentropy(Loss):
    """`CategoricalCrossentropy` with each class times ``alpha * (1 - p)**gamma``."""

    name = "categorical_focal_crossentropy"
    alpha: float = 0.25
    gamma: float = 2.0
    from_logits: bool = False
    label_smoothing: float = 0.0
    axis: int = -1


@dataclass(frozen=True)
class SparseCategoricalCrossentropy(Loss):
    """For a label column of classes and a model that ends in a softmax with one unit for each.

    Over a sequence the label is a list column of class indices, one for each position.

    Args:
        from_logits: The model ends without the softmax. The servers add it, so that the trained model answers probabilities.
        ignore_class: Positions with this index have loss 0. (Keras then averages over the others of the whole batch; here
            they count among the positions of their row.)
    """

    name = "sparse_categorical_crossentropy"
    from_logits: bool = False
    ignore_class: int | None = None
    axis: int = -1


@dataclass(frozen=True)
class CategoricalGeneralizedCrossEntropy(Loss):
    """``(1 - p**q) / q`` of the label's class: less led astray by wrong labels (Zhang and Sabuncu, 2018)."""

    name = "categorical_generalized_cross_entropy"
    q: float = 0.5


class Dice(Loss):
    """``1 - 2 * sum(label * answer) / (sum(label) + sum(answer))`` over all numbers of a row: for masks."""

    name = "dice"


@dataclass(frozen=True)
class Tversky(Loss):
    """`Dice` with what is missed weighed by `alpha` and what is too much by `beta`, as Keras has them."""

    name = "tversky"
    alpha: float = 0.5
    beta: float = 0.5


class CTC(Loss):
    """How likely the steps of an answer read as a sequence of classes (Graves et al., 2006): speech, handwriting.

    The model ends in logits ``(steps, classes)``, without a softmax; class 0 is blank. The label is a list column of as many
    numbers as there are steps: the classes of the sequence, from 1, then zeros. A sequence that needs more steps than there are,
    counting a blank between equal neighbours, is refused with its row; Keras' loss is infinite there.
    """

    name = "ctc"
