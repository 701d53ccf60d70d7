"""Several tensors to one: call these on a list of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes import Shape
from .base import Layer


@dataclass(eq=True, repr=False)
class Concatenate(Layer):
    """Several tensors side by side along ``axis``: 1 is the first after the rows, -1 the innermost."""

    axis: int = -1

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        given = input_shape if isinstance(input_shape, list) else [input_shape]
        if self.axis != -1 or any(shape is None for shape in given):
            return None
        last = [shape[-1] for shape in given]
        return (*given[0][:-1], None if None in last else sum(last))

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Add(Layer):
    """The sum of two or more tensors, broadcast as NumPy does."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Subtract(Layer):
    """The first of two tensors less the second."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Multiply(Layer):
    """The product of two or more tensors; masked steps are left out."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Average(Layer):
    """The mean of two or more tensors."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Maximum(Layer):
    """The greatest of two or more tensors, number by number; masked steps are left out."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Minimum(Layer):
    """The least of two or more tensors, number by number; masked steps are left out."""

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Dot(Layer):
    """Sums of products along one axis of each of two tensors; with ``normalize``, the cosine."""

    axes: int | Sequence[int]
    normalize: bool = False

    __hash__ = object.__hash__
