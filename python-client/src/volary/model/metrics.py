"""Metrics, with Keras' names, arguments and defaults. ``metrics=["auc"]`` and ``metrics=[volary.metrics.AUC()]`` are the same.

>>> Precision(thresholds=0.7).to_json()
{'name': 'precision', 'thresholds': 0.7}

A history column has the metric's name: the first ``Precision`` is ``precision`` and ``val_precision``, a second one with other
options ``precision_1``. All are exact over any number of servers; only the curves round scores, beyond 262,144 distinct ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .described import Described

__all__ = [
    "AUC",
    "NDCG",
    "Accuracy",
    "AveragePrecision",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "CosineSimilarity",
    "F1Score",
    "HitRatio",
    "LogCoshError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanIoU",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "Precision",
    "R2Score",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
]


@dataclass(frozen=True)
class Metric(Described):
    """Base of every metric."""


class Accuracy(Metric):
    """The share of rows whose class was answered: by the threshold of one half, or the largest of one answer per class."""

    name = "accuracy"


@dataclass(frozen=True)
class BinaryAccuracy(Metric):
    """The share of answers on the label's side of the threshold; of labels 0 and 1."""

    name = "binary_accuracy"
    threshold: float = 0.5


class CategoricalAccuracy(Metric):
    """The share of rows whose class has the largest answer."""

    name = "categorical_accuracy"


class SparseCategoricalAccuracy(Metric):
    """As `CategoricalAccuracy`; how the label is written is the loss's matter."""

    name = "sparse_categorical_accuracy"


@dataclass(frozen=True)
class TopKCategoricalAccuracy(Metric):
    """The share of rows whose class is among the `k` largest answers."""

    name = "top_k_categorical_accuracy"
    k: int = 5


@dataclass(frozen=True)
class SparseTopKCategoricalAccuracy(Metric):
    """As `TopKCategoricalAccuracy`; how the label is written is the loss's matter."""

    name = "sparse_top_k_categorical_accuracy"
    k: int = 5


@dataclass(frozen=True)
class AUC(Metric):
    """Area under the receiver operating characteristic, or with ``curve="PR"`` under precision over recall.

    Over every threshold there is, where Keras takes 200.
    """

    name = "auc"
    curve: Literal["ROC", "PR"] = "ROC"


class AveragePrecision(Metric):
    """The mean precision over all thresholds, weighted by the recall each adds; scikit-learn's."""

    name = "average_precision"


@dataclass(frozen=True)
class Precision(Metric):
    """The share of answers above the threshold whose label is 1; of one class or of all together."""

    name = "precision"
    thresholds: float = 0.5
    class_id: int | None = None


@dataclass(frozen=True)
class Recall(Metric):
    """The share of labels of 1 whose answer lies above the threshold; of one class or of all together."""

    name = "recall"
    thresholds: float = 0.5
    class_id: int | None = None


@dataclass(frozen=True)
class F1Score(Metric):
    """The harmonic mean of precision and recall.

    Args:
        average: Over the classes: "macro" each the same, "weighted" by how often each is the label, "micro" all together.
            (Keras' None, a value for each class, is not offered: a metric is one number.)
        threshold: When left out, the largest answer, and one half where there is one answer only.
    """

    name = "f1_score"
    average: Literal["macro", "micro", "weighted"] = "macro"
    threshold: float | None = None


@dataclass(frozen=True)
class MeanIoU(Metric):
    """The mean over the classes met of intersection over union.

    Args:
        num_classes: As many as the model answers, two for labels 0 and 1; may be left out.
        ignore_class: Positions with this label do not count.
    """

    name = "mean_io_u"
    num_classes: int | None = None
    ignore_class: int | None = None


@dataclass(frozen=True)
class HitRatio(Metric):
    """How often the one right item of a group of ``neg_num + 1`` is among the `k` highest (Analytics Zoo's).

    A group is as many rows after each other, or one row of as many answers. Rows of training are shuffled: groups of rows
    are measured over ``validation_data`` and by ``evaluate``. Null where a group has not exactly one right item.
    """

    name = "hit_ratio"
    k: int = 10
    neg_num: int = 100


@dataclass(frozen=True)
class NDCG(Metric):
    """The mean over groups, as `HitRatio` has them, of ``log(2) / log(1 + rank)`` of the right item, 0 beyond rank `k`."""

    name = "ndcg"
    k: int = 10
    neg_num: int = 100


class MeanAbsoluteError(Metric):
    """The mean absolute difference."""

    name = "mae"


class MeanSquaredError(Metric):
    """The mean squared difference."""

    name = "mse"


class RootMeanSquaredError(Metric):
    """The root of the mean squared difference."""

    name = "rmse"


class MeanAbsolutePercentageError(Metric):
    """A hundred times the mean of the absolute difference over the label's size."""

    name = "mape"


class MeanSquaredLogarithmicError(Metric):
    """The mean squared difference of ``log(1 + label)`` and ``log(1 + answer)``."""

    name = "msle"


class LogCoshError(Metric):
    """The mean logarithm of the difference's hyperbolic cosine."""

    name = "log_cosh"


@dataclass(frozen=True)
class CosineSimilarity(Metric):
    """The mean cosine of the angle between answer and label."""

    name = "cosine_similarity"
    axis: int = -1


class R2Score(Metric):
    """One less the squared error over the squared distance from the label's mean; the mean over several outputs."""

    name = "r2_score"
