"""A network as a chain of layers.

>>> from volary import Sequential, layers
>>> model = Sequential([layers.Dense(64, activation="relu"), layers.Dropout(0.1), layers.Dense(1)], name="taxi")
>>> [(layer["name"], layer["inputs"]) for layer in model.to_json()["layers"]]
[('input', []), ('dense', ['input']), ('dropout', ['dense']), ('dense_1', ['dropout'])]
"""

from __future__ import annotations

from collections.abc import Iterable

from .functional import Model
from .graph import Input, Tensor
from .layers import Embedding, InputLayer, Layer

__all__ = ["Sequential"]


class Sequential(Model):
    """Layers one after another, over every feature.

    The input is made by itself: all feature columns side by side, integers when the first layer is an Embedding. Give a
    :func:`volary.Input` as the first item to choose columns.
    """

    def __init__(self, layers: Iterable[Layer | Model | Tensor], *, name: str = "model") -> None:
        tensor: Tensor | None = None
        for each in layers:
            if isinstance(each, Tensor):
                if tensor is not None:
                    raise TypeError("an Input stands first in a Sequential; use volary.Model for several inputs")
                tensor = each
            elif isinstance(each, Layer):
                if tensor is None:
                    tensor = Input(dtype="int32" if isinstance(each, Embedding) else "float32")
                tensor = _single(each(tensor), repr(each))
            elif isinstance(each, Model):
                if tensor is None:
                    tensor = _single(each.input_tensors(), f"the model {each.name!r}")
                tensor = _single(each(tensor), f"the model {each.name!r}")
            else:
                raise TypeError(f"a Sequential holds layers of volary.layers and models, not {type(each).__name__}")
        if tensor is None:
            raise TypeError("a Sequential needs at least one layer")
        super().__init__(outputs=tensor, name=name)

    @property
    def layers(self) -> list[Layer]:
        """The layers in their order; the input is none of them, as in Keras.

        >>> from volary import Sequential, layers
        >>> Sequential([layers.Dense(8), layers.Dense(1)]).layers
        [Dense(units=8), Dense(units=1)]
        """
        return [layer for layer in super().layers if not isinstance(layer, InputLayer)]


def _single(given: Tensor | tuple[Tensor, ...], what: str) -> Tensor:
    """The only tensor."""
    tensors = given if isinstance(given, tuple) else (given,)
    if len(tensors) != 1:
        raise TypeError(f"{what} has {len(tensors)} tensors, a Sequential goes along one; use volary.Model")
    return tensors[0]
