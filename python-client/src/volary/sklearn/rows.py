"""Between arrays and the rows of a training: weights, rows that are the same, columns.

Knows no server. What it makes depends on the values alone, so that the same rows give the same training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["Columns", "TrainingRows", "float32"]


@dataclass(frozen=True)
class Columns:
    """What the columns of a dataset are called.

    A frame's features keep their names, so that SQL and other clients ask the model by them; an array is one column of vectors.
    """

    features: tuple[str, ...] | None
    label: str
    weight: str

    @classmethod
    def of(cls, features: Sequence[str] | None, label: Any) -> Columns:
        """Names of a label and a weight that no feature has.

        >>> Columns.of(["age", "label"], None)
        Columns(features=('age', 'label'), label='label_', weight='weight')
        """
        taken = {VECTOR} if features is None else set(features)
        names = []
        for name in (label if isinstance(label, str) and label else "label", "weight"):
            while name in taken:
                name += "_"
            taken.add(name)
            names.append(name)
        return cls(None if features is None else tuple(features), *names)

    @property
    def inputs(self) -> list[str]:
        """The columns that the model reads, in their order."""
        return [VECTOR] if self.features is None else list(self.features)

    def table(self, features: np.ndarray) -> pa.Table:
        """Features alone, as the model reads them."""
        if self.features is None:
            return pa.table({VECTOR: _vectors(features)})
        columns = [pa.array(np.ascontiguousarray(features[:, at])) for at in range(len(self.features))]
        return pa.table(columns, names=list(self.features))

    def labelled(self, features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> pa.Table:
        """Rows to train on or to validate with."""
        label = (
            _vectors(labels) if labels.ndim == 2 else pa.array(labels.tolist() if labels.dtype == object else labels)
        )
        table = self.table(features).append_column(self.label, label)
        return table if weights is None else table.append_column(self.weight, pa.array(weights.astype(np.float32)))


#: The column of an array's rows.
VECTOR = "features"


@dataclass(frozen=True)
class TrainingRows:
    """Rows, what they are labelled with as numbers (`targets`: classes by their place), and what each weighs."""

    features: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.features)

    def taken(self, places: np.ndarray) -> TrainingRows:
        """Some of them."""
        return TrainingRows(self.features[places], self.targets[places], self.weights[places])

    def weighing_something(self) -> TrainingRows:
        """Those that count: a row of weight 0 is as good as not there."""
        return self if np.all(self.weights > 0) else self.taken(self.weights > 0)

    def merged(self) -> TrainingRows:
        """Equal rows as one of their weights' sum, in the order of their values.

        Where all rows make one step, that is the same step: whatever order they come in, and whether a row is there twice or
        weighs 2, the same bits are trained.
        """
        # What is a number in float32 is one in float64, and so is a class.
        whole = np.column_stack([self.features.astype(np.float64), self.targets])
        _, places, inverse = np.unique(whole, axis=0, return_index=True, return_inverse=True)
        weights = np.bincount(inverse.reshape(-1), weights=self.weights, minlength=len(places))
        return TrainingRows(self.features[places], self.targets[places], weights)

    def relative_weights(self) -> np.ndarray | None:
        """Weights whose mean is 1, as the servers' loss wants them; ``None`` where all are the same."""
        if np.all(self.weights == self.weights[0]):
            return None
        return self.weights * (len(self) / self.weights.sum())


def float32(name: str, values: np.ndarray) -> np.ndarray:
    """Numbers as the servers compute with them; those that are beyond it are refused.

    >>> float32("y", np.array([1e300]))
    Traceback (most recent call last):
    ...
    ValueError: Input y contains infinity or a value too large for dtype('float32').
    """
    with np.errstate(over="ignore"):
        narrow = np.asarray(values).astype(np.float32)
    if not np.all(np.isfinite(narrow)):
        raise ValueError(f"Input {name} contains infinity or a value too large for dtype('float32').")
    return narrow


def _vectors(rows: np.ndarray) -> pa.Array:
    """A matrix as one column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])
