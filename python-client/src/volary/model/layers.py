"""Layers, as data. A layer called on a tensor gives a tensor (see :class:`volary.Model`).

>>> Dense(64, activation="relu").get_config()["units"]
64
>>> Dense.from_config(Dense(64).get_config()) == Dense(64)
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from .._commands import plain

if TYPE_CHECKING:
    from .functional import Tensor

__all__ = [
    "Activation",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "InputLayer",
    "Layer",
]

Initializer = str | Mapping[str, Any]
"""A name (``"glorot_uniform"``), or a name with arguments (``{"name": "random_normal", "stddev": 0.1}``)."""


@dataclass(eq=True, repr=False)
class Layer:
    """Base of every layer. ``name`` is made from the kind when left out: ``dense``, ``dense_1``, ..."""

    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for each in fields(self):
            setattr(self, each.name, plain(getattr(self, each.name), f"{each.name} of {type(self).__name__}"))

    def get_config(self) -> dict[str, Any]:
        """Every option but the name, defaults included."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "name"}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer of a configuration."""
        return cls(**config)

    def __call__(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """Connect: the tensor that this layer makes of `inputs`."""
        from .functional import connect

        return connect(self, inputs)

    def __repr__(self) -> str:
        shown = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if getattr(self, each.name) != each.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class InputLayer(Layer):
    """Feature columns side by side as one matrix; ``columns=None`` is every feature. Use :func:`volary.Input`."""

    columns: Sequence[str] | None = None
    dtype: str = "float32"

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

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Embedding(Layer):
    """A row of a trained table for each integer of an int32 input."""

    input_dim: int
    output_dim: int
    embeddings_initializer: Initializer = "uniform"

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
