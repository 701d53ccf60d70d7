"""The graph of a network: tensors, and how layers are called on them.

A tensor is a place in the graph, without numbers; a network is all that its outputs depend on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..handles import _names
from .layers import InputLayer, Lambda, Layer
from .shapes import Shape
from .symbolic import Parameter, Symbolic, trace

__all__ = ["Input", "Tensor", "again", "connect", "connect_function", "named", "ordered", "tensors_of"]


@dataclass(frozen=True, eq=False, repr=False)
class Tensor(Symbolic):
    """What a layer makes of its inputs; a place in the graph, without numbers.

    Operators and the functions of :mod:`volary.ops` on it are layers too.

    ``options`` are those of the call, beside the layer's own. A further output of a layer that has several is told by
    ``first``, the call's first output, and its ``number``. ``within`` names the layer as part of a model used as a layer.
    ``shapes`` are those of all outputs of the call, on its first.
    """

    layer: Layer
    inputs: tuple[Tensor, ...] = ()
    options: Mapping[str, Any] | None = None
    first: Tensor | None = None
    number: int = 0
    within: str | None = None
    shapes: tuple[Shape | None, ...] = (None,)

    @property
    def shape(self) -> Shape | None:
        """``None`` for the rows, and for extents that only the servers know."""
        return self.origin.shapes[self.number]

    @property
    def dtype(self) -> str:
        """``float32``, or ``int32`` of an integer input."""
        return self.layer.dtype if isinstance(self.layer, InputLayer) else "float32"

    @property
    def origin(self) -> Tensor:
        """The first output of its call."""
        return self if self.first is None else self.first

    def __repr__(self) -> str:
        output = f", output {self.number}" if self.number else ""
        return f"<tensor {self.shape} of {self.layer}{output}>"


def Input(
    columns: Sequence[str] | None = None,
    dtype: str = "float32",
    name: str | None = None,
    *,
    shape: Sequence[int] | None = None,
) -> Tensor:
    """Feature columns, after the pipeline, as one matrix, or as rows of a shape.

    Args:
        columns: Their names, side by side in this order; ``None`` is every feature that fits the type.
        dtype: ``float32``, or ``int32`` for an embedding.
        name: Of the layer.
        shape: The extents of one row, such as ``(28, 28, 1)``; the columns' numbers fill it innermost first.
    """
    names = None if columns is None else _names("columns", columns)
    return connect(InputLayer(names, dtype, None if shape is None else list(shape), name=name), ())


def connect(layer: Layer, inputs: Tensor | Sequence[Tensor], options: Mapping[str, Any] | None = None) -> Any:
    """The tensor that `layer` makes of `inputs`; a tuple of them where it has several outputs."""
    given = tensors_of(inputs, "a layer")
    input_shape = _input_shape(given)
    shapes: Sequence[Shape | None]
    if not hasattr(layer, "call"):
        made = layer.compute_output_shape(input_shape)
        shapes = made if isinstance(made, list) else [made] * layer.output_count()
    else:
        program, shapes = _recorded(layer, given, input_shape)
        options = {**(options or {}), "program": program}
        if shapes == [None] and type(layer).compute_output_shape is not Layer.compute_output_shape:
            shapes = [layer.compute_output_shape(input_shape)]
    return _outputs(layer, given, options, None, shapes)


def _input_shape(given: Sequence[Tensor]) -> Any:
    """One shape, or a list of several, as ``build`` and ``compute_output_shape`` take it."""
    read = [each.shape for each in given]
    return read[0] if len(read) == 1 else read


def again(first: Tensor, inputs: tuple[Tensor, ...], within: str) -> tuple[Tensor, ...]:
    """The outputs of a call of which `first` is the first, made over other inputs by a model that is used as a layer."""
    layer = first.layer
    made: Any = None
    if not hasattr(layer, "call") and first.inputs:
        made = layer.compute_output_shape(_input_shape(inputs))
    elif [each.shape for each in inputs] == [each.shape for each in first.inputs]:
        # A program is data by now: what it makes of other shapes only the servers know.
        made = list(first.shapes)
    shapes = made if isinstance(made, list) else [made] * len(first.shapes)
    answer = _outputs(layer, inputs, first.options, within, shapes)
    return answer if isinstance(answer, tuple) else (answer,)


def _outputs(
    layer: Layer,
    inputs: tuple[Tensor, ...],
    options: Mapping[str, Any] | None,
    within: str | None,
    shapes: Sequence[Shape | None],
) -> Any:
    """The tensors of one call, one for each shape."""
    first = Tensor(layer, inputs, options, within=within, shapes=tuple(shapes))
    if len(shapes) == 1:
        return first
    return (first, *(Tensor(layer, inputs, options, first, number, within) for number in range(1, len(shapes))))


def _recorded(
    layer: Layer, given: tuple[Tensor, ...], input_shape: Any
) -> tuple[Mapping[str, Any], list[Shape | None]]:
    """The program of a layer of the user's own over these tensors, and the shapes of its outputs."""
    if isinstance(layer, Lambda) and layer.function is None:
        assert layer.program is not None
        return layer.program, [None] * len(layer.program.get("outputs", [None]))
    layer.build(input_shape)

    def name_of(parameter: Parameter) -> str | None:
        return next((name for name, value in vars(layer).items() if value is parameter), None)

    what = f"the function of {layer}" if isinstance(layer, Lambda) else f"call of {type(layer).__name__}"
    function = layer.function if isinstance(layer, Lambda) else layer.call  # type: ignore[attr-defined]
    program, outputs = trace(function, [(each.shape, each.dtype) for each in given], name_of, what=what)
    if isinstance(layer, Lambda):
        layer.program = program
    return program, [output.shape for output in outputs]


def connect_function(op: str, program: Mapping[str, Any], inputs: Sequence[Tensor], shape: Shape | None) -> Tensor:
    """The tensor of one function of :mod:`volary.ops`: a layer by itself, named after it."""
    layer = Lambda(program=program)
    layer.title = op
    tensor: Tensor = _outputs(layer, tuple(inputs), {"program": program}, None, [shape])
    return tensor


def tensors_of(inputs: Tensor | Sequence[Tensor], caller: str) -> tuple[Tensor, ...]:
    """What a layer or model was called on; anything but tensors is refused in the name of `caller`."""
    given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    for each in given:
        if not isinstance(each, Tensor):
            raise TypeError(
                f"{caller} is called on tensors, as volary.Input() gives them, not on a {type(each).__name__}"
            )
    return given


def ordered(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The first output of every call that the outputs depend on, each once, what is read before what reads it."""
    order: list[Tensor] = []
    seen: set[int] = set()
    waiting = [(tensor.origin, False) for tensor in reversed(outputs)]
    while waiting:
        tensor, ready = waiting.pop()
        if ready:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            waiting.append((tensor, True))
            waiting.extend((each.origin, False) for each in reversed(tensor.inputs))
    return order


def named(tensors: Sequence[Tensor]) -> list[str]:
    """Names given, else the kind in snake case, numbered from the second on; a layer's second use is numbered too."""
    given: dict[int, str] = {}
    for tensor in tensors:
        if tensor.within is None and tensor.layer.name is not None:
            given.setdefault(id(tensor.layer), tensor.layer.name)
    taken = set(given.values())
    names = []
    for tensor in tensors:
        layer = tensor.layer
        if tensor.within is None and id(layer) in given:
            # The first use has the name itself.
            names.append(given.pop(id(layer)))
            continue
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", layer.name_base()).lower()
        base = tensor.within or layer.name or kind
        name, number = base, 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return names
