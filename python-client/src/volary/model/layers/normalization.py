"""Numbers brought to a common size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes.rows import extents_at
from .base import Initializer, Regularizer, SameShape


@dataclass(eq=True, repr=False)
class BatchNormalization(SameShape):
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

    __hash__ = object.__hash__

    def _weights(self, shape: Any) -> Any:
        return (self.center + self.scale + 2) * shape[self.axis]


@dataclass(eq=True, repr=False)
class LayerNormalization(SameShape):
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

    __hash__ = object.__hash__

    def _weights(self, shape: Any) -> Any:
        arrays = 1 if self.rms_scaling else self.center + self.scale
        return arrays * extents_at(shape, self.axis)


@dataclass(eq=True, repr=False)
class GroupNormalization(SameShape):
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

    __hash__ = object.__hash__

    def _weights(self, shape: Any) -> Any:
        return (self.center + self.scale) * shape[self.axis]


@dataclass(eq=True, repr=False)
class RMSNormalization(SameShape):
    """Each row divided by the root of its mean square over one axis or several, then scaled."""

    axis: int | Sequence[int] = -1
    epsilon: float = 1e-6

    __hash__ = object.__hash__

    def _weights(self, shape: Any) -> Any:
        return extents_at(shape, self.axis)


@dataclass(eq=True, repr=False)
class UnitNormalization(SameShape):
    """Each row to length 1 over one axis or several."""

    axis: int | Sequence[int] = -1

    __hash__ = object.__hash__
