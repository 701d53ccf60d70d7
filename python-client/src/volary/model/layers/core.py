"""Inputs, dense layers, embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes import Shape
from .base import Function, Initializer, Layer, Regularizer


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

    @classmethod
    def kind(cls) -> str:
        """The class as the servers know it."""
        return "Input"


@dataclass(eq=True, repr=False)
class Dense(Layer):
    """activation(inputs @ kernel + bias).

    An activation is a name, or a name with arguments: ``{"name": "leaky_relu", "negative_slope": 0.1}``.
    """

    units: int
    activation: Function | None = None
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

    With ``sparse``, a step costs as much as the rows it looks up and not as the table: only those rows are updated, and
    the moments of the others do not decay (as with PyTorch's ``SparseAdam``). docs/model-spec.md says which optimizers
    allow it.
    """

    input_dim: int
    output_dim: int
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer | None = None
    mask_zero: bool = False
    sparse: bool = False

    def compute_output_shape(self, input_shape: Any) -> Shape | None:
        """The shape that it makes."""
        return None if input_shape is None else (*input_shape, self.output_dim)

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
