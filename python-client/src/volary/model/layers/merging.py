"""Several tensors to one: call these on a list of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes.rows import dot, merged, side_by_side
from .base import Layer


class _NumberByNumber(Layer):
    def _output_shape(self, *shapes: Any) -> Any:
        return merged(*shapes)


@dataclass(eq=True, repr=False)
class Concatenate(Layer):
    """Several tensors side by side along ``axis``: 1 is the first after the rows, -1 the innermost."""

    axis: int = -1

    __hash__ = object.__hash__

    def _output_shape(self, *shapes: Any) -> Any:
        return side_by_side(*shapes, axis=self.axis)


@dataclass(eq=True, repr=False)
class Add(_NumberByNumber):
    """The sum of two or more tensors, broadcast as NumPy does."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Subtract(_NumberByNumber):
    """The first of two tensors less the second."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Multiply(_NumberByNumber):
    """The product of two or more tensors; masked steps are left out."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Average(_NumberByNumber):
    """The mean of two or more tensors."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Maximum(_NumberByNumber):
    """The greatest of two or more tensors, number by number; masked steps are left out."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Minimum(_NumberByNumber):
    """The least of two or more tensors, number by number; masked steps are left out."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Dot(Layer):
    """Sums of products along one axis of each of two tensors; with ``normalize``, the cosine."""

    axes: int | Sequence[int]
    normalize: bool = False

    __hash__ = object.__hash__

    def _output_shape(self, left: Any, right: Any) -> Any:
        return dot(left, right, self.axes)
