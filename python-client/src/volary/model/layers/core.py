"""Dense layers, embeddings, dropout and what joins and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .base import Initializer, Layer, Regularizer


@dataclass(eq=True, repr=False)
class InputLayer(Layer):
    """Feature columns side by side; ``columns=None`` is every feature, ``shape`` that of one row.

    Use :func:`volary.Input`.
    """

    columns: Sequence[str] | None = None
    dtype: str = "float32"
    shape: Sequence[int] | None = None

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

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Dropout(Layer):
    """While training, a share ``rate`` of the numbers is 0 and the rest is scaled up by 1 / (1 - rate)."""

    rate: float

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Activation(Layer):
    """An activation by itself, by name; docs/model-spec.md lists them all."""

    activation: str

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Concatenate(Layer):
    """Several tensors side by side."""

    axis: int = -1

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

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Flatten(Layer):
    """Everything of a row in one dimension."""

    __hash__ = object.__hash__
