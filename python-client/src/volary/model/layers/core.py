"""Inputs, dense layers, embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes.rows import flat, last
from .base import Function, Initializer, Layer, Regularizer


@dataclass(eq=True, repr=False)
class InputLayer(Layer):
    """Feature columns side by side; ``columns=None`` is every feature, ``shape`` that of one row.

    Use :func:`volary.Input`.
    """

    columns: Sequence[str] | None = None
    dtype: str = "float32"
    shape: Sequence[int] | None = None

    def compute_output_shape(self, input_shape: Any = None) -> Any:
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

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return last(shape, self.units)

    def _weights(self, shape: Any) -> Any:
        return self.units * (shape[-1] + self.use_bias)


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

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return (*shape, self.output_dim)

    def _weights(self, shape: Any) -> Any:
        return self.input_dim * self.output_dim


@dataclass(eq=True, repr=False)
class Flatten(Layer):
    """Everything of a row in one dimension."""

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return flat(shape)
