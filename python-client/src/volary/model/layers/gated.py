"""Dense layers with gates, as Keras 1 and Analytics Zoo have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..shapes.rows import last
from .base import Function, Initializer, Layer, Regularizer, SameShape


@dataclass(eq=True, repr=False)
class Highway(SameShape):
    """``t * activation(x @ kernel + bias) + (1 - t) * x`` with the gate ``t`` of a kernel and a bias of its own.

    The gate's bias starts at ``transform_bias``: a new layer mostly passes its input on.
    """

    activation: Function | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None
    transform_bias: float = -2.0

    __hash__ = object.__hash__

    def _weights(self, shape: Any) -> Any:
        return 2 * shape[-1] * (shape[-1] + self.use_bias)


@dataclass(eq=True, repr=False)
class MaxoutDense(Layer):
    """The greatest of ``nb_feature`` dense layers, number by number."""

    output_dim: int
    nb_feature: int = 4
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return last(shape, self.output_dim)

    def _weights(self, shape: Any) -> Any:
        return self.nb_feature * self.output_dim * (shape[-1] + self.use_bias)
