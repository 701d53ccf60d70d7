"""Numbers brought to a common size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes import Shape
from .base import Initializer, Layer, Regularizer


@dataclass(eq=True, repr=False)
class BatchNormalization(Layer):
    """Each index of ``axis`` to mean 0 and variance 1 over the rows at hand, then scaled and shifted.

    Moving averages take their place when answering. Steps that a mask leaves out do not count.
    """

    axis: int = -1
    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    moving_mean_initializer: Initializer = "zeros"
    moving_variance_initializer: Initializer = "ones"
    beta_regularizer: Regularizer | None = None
    gamma_regularizer: Regularizer | None = None

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return input_shape

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class LayerNormalization(Layer):
    """Each row to mean 0 and variance 1 over one axis or several, then scaled and shifted."""

    axis: int | Sequence[int] = -1
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer | None = None
    gamma_regularizer: Regularizer | None = None
    rms_scaling: bool = False

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return input_shape

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class GroupNormalization(Layer):
    """Each group of channels of a row to mean 0 and variance 1, then scaled and shifted; -1 is a group per channel."""

    groups: int = 32
    axis: int = -1
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer | None = None
    gamma_regularizer: Regularizer | None = None

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return input_shape

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class RMSNormalization(Layer):
    """Each row divided by the root of its mean square over one axis or several, then scaled."""

    axis: int | Sequence[int] = -1
    epsilon: float = 1e-6

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return input_shape

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class UnitNormalization(Layer):
    """Each row to length 1 over one axis or several."""

    axis: int | Sequence[int] = -1

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return input_shape

    __hash__ = object.__hash__
