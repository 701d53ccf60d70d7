"""What every layer is: data with a name. Called on a tensor it gives a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from ..._commands import plain
from ..described import option
from ..initializers import Initializer as InitializerObject
from ..regularizers import Regularizer as RegularizerObject
from ..shapes import show

if TYPE_CHECKING:
    from ..graph import Tensor
    from ..shapes import Shape
    from ..symbolic import Parameter, Symbolic

__all__ = ["Function", "Initializer", "Layer", "Regularizer"]

Function = str | Mapping[str, Any]
"""An activation by name, or a name with arguments (``{"name": "elu", "alpha": 0.5}``); docs/model-spec.md lists them all."""

Initializer = str | Mapping[str, Any] | InitializerObject | type[InitializerObject]
"""One of :mod:`volary.initializers`, its class, or its name (``"glorot_uniform"``), also with arguments
(``{"name": "random_normal", "stddev": 0.1}``)."""

Regularizer = str | Mapping[str, Any] | RegularizerObject | type[RegularizerObject]
"""One of :mod:`volary.regularizers`, its class, or its name (``"l2"``), also with factors (``{"name": "l2", "l2": 1e-4}``)."""


@dataclass(eq=True, repr=False)
class Layer:
    """Base of every layer.

    ``name`` is made from the kind when left out: ``dense``, ``dense_1``, ... With ``trainable=False`` the layer's
    arrays stay as they start. ``activity_regularizer`` is a penalty on its output.

    A layer of your own is a subclass with ``call``, which makes symbolic tensors of symbolic tensors by the functions of
    :mod:`volary.ops`, and with ``build`` where it has parameters. It is recorded once, when it is called on a tensor:

    >>> import volary
    >>> class Scale(volary.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.scale = volary.Parameter((input_shape[-1],), initializer="ones")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> Scale()(volary.Input(shape=(4,))).shape
    (None, 4)
    """

    name: str | None = field(default=None, kw_only=True)
    trainable: bool = field(default=True, kw_only=True)
    activity_regularizer: Regularizer | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for each in fields(self):
            value, what = getattr(self, each.name), f"{each.name} of {type(self).__name__}"
            if each.name.endswith("initializer"):
                setattr(self, each.name, option(what, value, InitializerObject))
            elif each.name.endswith("regularizer"):
                setattr(self, each.name, option(what, value, RegularizerObject))
            elif not isinstance(value, Layer):
                setattr(self, each.name, plain(value, what))

    @classmethod
    def kind(cls) -> str:
        """The class as the servers know it."""
        return "Lambda" if hasattr(cls, "call") else cls.__name__

    def name_base(self) -> str:
        """What it is named after where it has no name."""
        return type(self).__name__ if hasattr(self, "call") else self.kind()

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

    def build(self, input_shape: Any) -> None:
        """Make parameters for inputs of this shape (a list of shapes for several); for layers of your own."""

    def add_weight(
        self,
        shape: Sequence[int] | int,
        initializer: Initializer = "glorot_uniform",
        *,
        name: str | None = None,
        trainable: bool = True,
        regularizer: Regularizer | None = None,
    ) -> Parameter:
        """A :class:`volary.Parameter`, for ``build`` as Keras writes it."""
        from ..symbolic import Parameter

        return Parameter(shape, initializer, name=name, trainable=trainable, regularizer=regularizer)

    def add_loss(self, loss: Symbolic) -> None:
        """Add a number per row to the loss, from inside ``call``; training takes the mean over rows."""
        from ..symbolic import add_loss

        add_loss(loss)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of what it makes of an input of this shape, or of several, listed; a list where it makes several.

        ``None`` is an extent, or a shape, that only the servers know.

        >>> from volary import layers
        >>> layers.Conv2D(8, 3, strides=2, padding="same").compute_output_shape((None, 28, 28, 1))
        (None, 14, 14, 8)
        """
        given = shapes_of(input_shape)
        if any(shape is None for shape in given):
            return None
        try:
            made = self._output_shape(*given)
            for shape in made if isinstance(made, list) else [made]:
                if shape is not None and any(extent is not None and extent < 1 for extent in shape[1:]):
                    raise ValueError(f"it would make {show(shape)} of {show(*given)}; extents must be at least 1")
        except (TypeError, IndexError):
            # An option of a wrong type, a wrong count of inputs, or an input without rows: the servers refuse it by name.
            return None
        except ValueError as error:
            raise ValueError(f"{self!r}: {error}") from None
        return made[0] if isinstance(made, list) and len(made) == 1 else made

    def count_params(self, input_shape: Any) -> int | None:
        """How many numbers its arrays hold for an input of this shape, or for several; ``None`` where only the servers know.

        >>> from volary import layers
        >>> layers.Dense(8).count_params((None, 4))
        40
        """
        if hasattr(self, "call"):
            return None
        if type(self)._weights is Layer._weights:
            return 0
        given = shapes_of(input_shape)
        if any(shape is None for shape in given):
            return None
        try:
            count: int = self._weights(*given)
        except (TypeError, ValueError, IndexError):
            # An extent is not known, or the shape does not fit.
            return None
        return count

    def _output_shape(self, *input_shapes: Any) -> Any:
        """The rule of one layer, over known counts of axes; several shapes are a list."""
        return None

    def _weights(self, *input_shapes: Any) -> Any:
        """The rule of one layer; an extent that is not known is None, and arithmetic with it a TypeError."""
        return 0

    def __call__(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        """Connect: the tensor that this layer makes of `inputs`; a tuple where it makes several."""
        from ..graph import connect

        return connect(self, inputs)

    def __repr__(self) -> str:
        shown = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if getattr(self, each.name) != each.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    __hash__ = object.__hash__


class SameShape(Layer):
    """A layer whose answer has the shape of its input."""

    def _output_shape(self, shape: Any) -> Any:
        return shape


def shapes_of(input_shape: Any) -> list[Shape | None]:
    """The shapes of a call's inputs, which are one shape or a list of them.

    >>> shapes_of((None, 4)), shapes_of([(None, 4), None]), shapes_of(None)
    ([(None, 4)], [(None, 4), None], [None])
    """
    if input_shape is None:
        return [None]
    if isinstance(input_shape, list) and all(each is None for each in input_shape):
        return list(input_shape)
    if any(isinstance(each, list | tuple) for each in input_shape):
        return [None if each is None else tuple(each) for each in input_shape]
    return [tuple(input_shape)]


def _described(value: Any) -> Any:
    """A layer inside a layer as its class and options; anything else as it is."""
    return {"layer": value.kind(), "config": value.get_config()} if isinstance(value, Layer) else value


def _layer_of(value: Any) -> Any:
    """The inverse: a layer where its class and options stand."""
    if isinstance(value, Mapping) and set(value) == {"layer", "config"}:
        from .. import layers

        return getattr(layers, value["layer"]).from_config(value["config"])
    return value
