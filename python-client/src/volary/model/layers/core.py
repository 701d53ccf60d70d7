"""Dense layers, embeddings, dropout and what joins and shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes import Shape
from .base import Initializer, Layer, Regularizer


@dataclass(eq=True, repr=False)
class InputLayer(Layer):
    """Feature columns side by side; ``columns=None`` is every feature, ``shape`` that of one row.

    Use :func:`volary.Input`.
    """

    columns: Sequence[str] | None = None
    dtype: str = "float32"
    shape: Sequence[int] | None = None

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return (None, None) if self.shape is None else (None, *self.shape)

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Dense(Layer):
    """activation(inputs @ kernel + bias).

    Activations: linear, relu, sigmoid, tanh, softmax, gelu.
    """

    units: int
    activation: str | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return None if input_shape is None else (*input_shape[:-1], self.units)

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Embedding(Layer):
    """A row of a trained table for each integer of an int32 input.

    With ``mask_zero``, 0 is padding: recurrent, pooling and attention layers behind leave it out. A pretrained table is
    ``embeddings_initializer={"name": "values", "values": rows}``, kept as it is by ``trainable=False``.
    """

    input_dim: int
    output_dim: int
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer | None = None
    mask_zero: bool = False

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return None if input_shape is None else (*input_shape, self.output_dim)

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Dropout(Layer):
    """While training, a share ``rate`` of the numbers is 0 and the rest is scaled up by 1 / (1 - rate)."""

    rate: float

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return input_shape

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Activation(Layer):
    """An activation by itself, by name; docs/model-spec.md lists them all."""

    activation: str

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return input_shape

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Concatenate(Layer):
    """Several tensors side by side."""

    axis: int = -1

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        given = input_shape if isinstance(input_shape, list) else [input_shape]
        if any(shape is None for shape in given):
            return None
        last = [shape[-1] for shape in given]
        return (*given[0][:-1], None if None in last else sum(last))

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class BatchNormalization(Layer):
    """Each column to mean 0 and variance 1 over the rows at hand (moving averages when answering), then scaled and shifted."""

    axis: int = -1
    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    moving_mean_initializer: Initializer = "zeros"
    moving_variance_initializer: Initializer = "ones"

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return input_shape

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Flatten(Layer):
    """Everything of a row in one dimension."""

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        if input_shape is None:
            return None
        return (None, None if None in input_shape[1:] else math.prod(input_shape[1:]))

    __hash__ = object.__hash__
