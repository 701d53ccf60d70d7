"""Activations as layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes import Shape
from .base import Function, Initializer, Layer, Regularizer


@dataclass(eq=True, repr=False)
class Activation(Layer):
    """An activation by itself, by name or with arguments; docs/model-spec.md lists them all."""

    activation: Function

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes; ``glu`` halves an axis."""
        return None if self.activation == "glu" else input_shape

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class ReLU(Layer):
    """The input above ``threshold``, at most ``max_value``; below it ``negative_slope`` times what is missing."""

    max_value: float | None = None
    negative_slope: float = 0.0
    threshold: float = 0.0

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class LeakyReLU(Layer):
    """The input, or ``negative_slope`` times the input below 0."""

    negative_slope: float = 0.3

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class ELU(Layer):
    """The input, or ``alpha * (exp(input) - 1)`` below 0."""

    alpha: float = 1.0

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class PReLU(Layer):
    """The input, or a trained ``alpha`` times the input below 0; ``shared_axes`` have one alpha together."""

    alpha_initializer: Initializer = "zeros"
    alpha_regularizer: Regularizer | None = None
    shared_axes: int | Sequence[int] | None = None

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Softmax(Layer):
    """Shares of one along an axis or several; steps that the mask leaves out get 0."""

    axis: int | Sequence[int] = -1

    __hash__ = object.__hash__
