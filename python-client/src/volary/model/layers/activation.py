"""Activations as layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes.rows import halved
from .base import Function, Initializer, Layer, Regularizer, SameShape


@dataclass(eq=True, repr=False)
class Activation(Layer):
    """An activation by itself, by name or with arguments; docs/model-spec.md lists them all; ``glu`` halves an axis."""

    activation: Function

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        options: Mapping[str, Any] = {"name": self.activation} if isinstance(self.activation, str) else self.activation
        return halved(shape, options.get("axis", -1)) if options.get("name") == "glu" else shape


@dataclass(eq=True, repr=False)
class ReLU(SameShape):
    """The input above ``threshold``, at most ``max_value``; below it ``negative_slope`` times what is missing."""

    max_value: float | None = None
    negative_slope: float = 0.0
    threshold: float = 0.0

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class LeakyReLU(SameShape):
    """The input, or ``negative_slope`` times the input below 0."""

    negative_slope: float = 0.3

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class ELU(SameShape):
    """The input, or ``alpha * (exp(input) - 1)`` below 0."""

    alpha: float = 1.0

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class PReLU(SameShape):
    """The input, or a trained ``alpha`` times the input below 0; ``shared_axes`` have one alpha together."""

    alpha_initializer: Initializer = "zeros"
    alpha_regularizer: Regularizer | None = None
    shared_axes: int | Sequence[int] | None = None

    __hash__ = object.__hash__

    def _weights(self, shape: Any) -> Any:
        given = [self.shared_axes] if isinstance(self.shared_axes, int) else self.shared_axes or []
        shared = {0, *(axis % len(shape) for axis in given)}
        return math.prod(extent for axis, extent in enumerate(shape) if axis not in shared)


@dataclass(eq=True, repr=False)
class Softmax(SameShape):
    """Shares of one along an axis or several; steps that the mask leaves out get 0."""

    axis: int | Sequence[int] = -1

    __hash__ = object.__hash__
