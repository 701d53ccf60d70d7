"""What every layer is: data with a name. Called on a tensor it gives a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from ..._commands import plain

if TYPE_CHECKING:
    from ..functional import Tensor

__all__ = ["Function", "Initializer", "Layer", "Regularizer"]

Function = str | Mapping[str, Any]
"""An activation by name, or a name with arguments (``{"name": "elu", "alpha": 0.5}``); docs/model-spec.md lists them all."""

Initializer = str | Mapping[str, Any]
"""A name (``"glorot_uniform"``), or a name with arguments (``{"name": "random_normal", "stddev": 0.1}``)."""

Regularizer = str | Mapping[str, Any]
"""``"l1"``, ``"l2"`` or ``"l1_l2"``, or a name with factors (``{"name": "l2", "l2": 1e-4}``)."""


@dataclass(eq=True, repr=False)
class Layer:
    """Base of every layer.

    ``name`` is made from the kind when left out: ``dense``, ``dense_1``, ... With ``trainable=False`` the layer's
    arrays stay as they start. ``activity_regularizer`` is a penalty on its output.
    """

    name: str | None = field(default=None, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)
    activity_regularizer: Regularizer | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, Layer):
                setattr(self, each.name, plain(value, f"{each.name} of {type(self).__name__}"))

    @classmethod
    def kind(cls) -> str:
        """The class as the servers know it."""
        return cls.__name__

    def output_count(self) -> int:
        """How many tensors a call gives."""
        return 1

    def get_config(self) -> dict[str, Any]:
        """Every option but the name; of those that all layers have, the ones that were given."""
        common = {each.name: each.default for each in fields(Layer)}
        given = {each.name: _described(getattr(self, each.name)) for each in fields(self) if each.name != "name"}
        return {name: value for name, value in given.items() if name not in common or value != common[name]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer of a configuration."""
        return cls(**{name: _layer_of(value) for name, value in config.items()})

    def __call__(self, inputs: Tensor | Sequence[Tensor]) -> Tensor:
        """Connect: the tensor that this layer makes of `inputs`."""
        from ..functional import connect

        return connect(self, inputs)

    def __repr__(self) -> str:
        shown = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if getattr(self, each.name) != each.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    __hash__ = object.__hash__


def _described(value: Any) -> Any:
    """A layer inside a layer as its class and options; anything else as it is."""
    return {"layer": value.kind(), "config": value.get_config()} if isinstance(value, Layer) else value


def _layer_of(value: Any) -> Any:
    """The inverse: a layer where its class and options stand."""
    if isinstance(value, Mapping) and set(value) == {"layer", "config"}:
        from .. import layers

        return getattr(layers, value["layer"]).from_config(value["config"])
    return value
