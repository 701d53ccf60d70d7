"""Symbolic tensors: what the functions of :mod:`volary.ops` take and give. They have a shape and no numbers.

Inside a Lambda, a layer's ``call``, a loss or a metric every function adds a node to the program being recorded; on the
tensors of a :class:`volary.Model` it becomes a layer by itself. What is sent is this record, as data.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from .._commands import plain
from .described import option
from .initializers import Initializer
from .regularizers import Regularizer
from .shapes import Shape, is_known, show

__all__ = ["Constant", "Parameter", "Recorder", "Symbolic", "SymbolicTensor", "node", "record"]


class Symbolic:
    """Operators of all symbolic tensors."""

    @property
    def shape(self) -> Shape | None:
        """``None`` for the rows and for extents that only the servers know; no tuple where they alone know the count of axes."""
        raise NotImplementedError

    @property
    def dtype(self) -> str:
        """``float32``, or ``int32`` of an integer input."""
        return "float32"

    @property
    def ndim(self) -> int | None:
        """The count of axes, rows included; ``None`` when unknown."""
        return None if self.shape is None else len(self.shape)

    def __add__(self, other: Any) -> Symbolic:
        return record("add", self, other)

    def __radd__(self, other: Any) -> Symbolic:
        return record("add", other, self)

    def __sub__(self, other: Any) -> Symbolic:
        return record("subtract", self, other)

    def __rsub__(self, other: Any) -> Symbolic:
        return record("subtract", other, self)

    def __mul__(self, other: Any) -> Symbolic:
        return record("multiply", self, other)

    def __rmul__(self, other: Any) -> Symbolic:
        return record("multiply", other, self)

    def __truediv__(self, other: Any) -> Symbolic:
        return record("divide", self, other)

    def __rtruediv__(self, other: Any) -> Symbolic:
        return record("divide", other, self)

    def __pow__(self, other: Any) -> Symbolic:
        return record("power", self, other)

    def __rpow__(self, other: Any) -> Symbolic:
        return record("power", other, self)

    def __matmul__(self, other: Any) -> Symbolic:
        return record("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Symbolic:
        return record("matmul", other, self)

    def __neg__(self) -> Symbolic:
        return record("negative", self)

    def __pos__(self) -> Symbolic:
        return self

    def __abs__(self) -> Symbolic:
        return record("abs", self)

    def __lt__(self, other: Any) -> Symbolic:
        return record("less", self, other)

    def __le__(self, other: Any) -> Symbolic:
        return record("less_equal", self, other)

    def __gt__(self, other: Any) -> Symbolic:
        return record("greater", self, other)

    def __ge__(self, other: Any) -> Symbolic:
        return record("greater_equal", self, other)

    def __eq__(self, other: Any) -> Symbolic:  # type: ignore[override]
        return record("equal", self, other)

    def __ne__(self, other: Any) -> Symbolic:  # type: ignore[override]
        return record("not_equal", self, other)

    __hash__ = object.__hash__

    def __and__(self, other: Any) -> Symbolic:
        return record("logical_and", self, other)

    def __or__(self, other: Any) -> Symbolic:
        return record("logical_or", self, other)

    def __invert__(self) -> Symbolic:
        return record("logical_not", self)

    def __getitem__(self, key: Any) -> Symbolic:
        return record("getitem", self, key)

    # -- what a tensor without numbers cannot be ------------------------------------------------------------------

    def __bool__(self) -> bool:
        raise TypeError(
            "a symbolic tensor has no numbers, so it is neither true nor false; write volary.ops.where(condition, a, b) "
            "instead of if"
        )

    def __iter__(self) -> Any:
        raise TypeError("a symbolic tensor cannot be iterated over; use volary.ops.split, or index it: x[:, 0]")

    def __len__(self) -> int:
        raise TypeError("a symbolic tensor has no length; its extents are in .shape")

    def __float__(self) -> float:
        raise TypeError("a symbolic tensor has no numbers; use the functions of volary.ops on it")

    __int__ = __index__ = __float__  # type: ignore[assignment]

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a symbolic tensor has no numbers for NumPy; use the functions of volary.ops on it")

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **_: Any) -> Any:
        name = _OPERATORS.get(function.__name__)
        if method != "__call__" or name is None:
            raise TypeError(
                f"numpy.{function.__name__} takes numbers, and a symbolic tensor has none; see volary.ops for its like"
            )
        return record(name, *inputs)


# What NumPy calls when an array stands to the left of an operator.
_OPERATORS = {
    **{name: name for name in ("add", "subtract", "multiply", "divide", "power", "matmul", "greater", "less", "equal")},
    **{name: name for name in ("greater_equal", "less_equal", "not_equal")},
    "true_divide": "divide",
    "float_power": "power",
}


@dataclass(frozen=True, eq=False, repr=False)
class SymbolicTensor(Symbolic):
    """A value of a program that is being recorded."""

    recorder: Recorder
    position: int
    known_shape: Shape | None
    kind: str = "float32"

    @property
    def shape(self) -> Shape | None:
        """Its extents; ``None`` for the rows."""
        return self.known_shape

    @property
    def dtype(self) -> str:
        """``float32``, or ``int32``."""
        return self.kind

    def __repr__(self) -> str:
        return f"<symbolic tensor {show(self.shape)}, {self.dtype}>"


class Parameter(Symbolic):
    """An array that is trained with the model.

    Args:
        shape: Its extents; it has no rows.
        initializer: As of a layer's kernel.
        name: Inside the layer; the name of the attribute that holds it when left out.
        trainable: ``False`` keeps it as it starts.
        regularizer: A penalty on its size.
    """

    def __init__(
        self,
        shape: Sequence[int] | int,
        initializer: str | Mapping[str, Any] | Initializer | type[Initializer] = "glorot_uniform",
        *,
        name: str | None = None,
        trainable: bool = True,
        regularizer: str | Mapping[str, Any] | Regularizer | type[Regularizer] | None = None,
    ) -> None:
        extents = plain(shape, "shape of a Parameter")
        extents = [extents] if isinstance(extents, int) else list(extents)
        if any(type(extent) is not int or extent < 1 for extent in extents):
            raise ValueError(
                f"the shape of a Parameter is {tuple(extents)}; give extents from 1, and give the Input a shape where an "
                "extent comes from it"
            )
        self._shape: Shape = tuple(extents)
        self.initializer = option("initializer of a Parameter", initializer, Initializer)
        self.name = name
        self.trainable = bool(trainable)
        self.regularizer = option("regularizer of a Parameter", regularizer, Regularizer)
        # Outside of a layer it becomes part of the one layer that uses it.
        self.used = False

    @property
    def shape(self) -> Shape:
        """Its extents; ``None`` for the rows."""
        return self._shape

    def to_node(self, name: str) -> dict[str, Any]:
        """Its node in a program."""
        described = {"op": "parameter", "name": name, "shape": list(self._shape), "initializer": self.initializer}
        if not self.trainable:
            described["trainable"] = False
        if self.regularizer is not None:
            described["regularizer"] = self.regularizer
        return described

    def __repr__(self) -> str:
        return f"Parameter(shape={self._shape}, initializer={self.initializer!r}, name={self.name!r})"


class Constant(Symbolic):
    """Numbers that belong to the program: a number, nested lists, or an array."""

    def __init__(self, value: Any) -> None:
        self.values = _numbers(plain(value, "a constant"))
        extents: list[int] = []
        level = self.values
        while isinstance(level, list):
            extents.append(len(level))
            level = level[0] if level else None
        if level is None or not _filled(self.values, extents):
            raise ValueError("a constant is empty or its lists have different lengths; give an array")
        self._shape: Shape = tuple(extents)

    @property
    def shape(self) -> Shape:
        """Its extents; ``None`` for the rows."""
        return self._shape

    def __repr__(self) -> str:
        return f"Constant({show(self._shape)})"


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    raise TypeError(f"a constant holds numbers, not {value!r}")


def _filled(value: Any, extents: Sequence[int]) -> bool:
    if not extents:
        return not isinstance(value, list)
    return isinstance(value, list) and len(value) == extents[0] and all(_filled(each, extents[1:]) for each in value)


class Recorder:
    """A program while it is recorded."""

    def __init__(
        self,
        inputs: Sequence[tuple[Shape | None, str]],
        name_of: Callable[[Parameter], str | None] = lambda parameter: None,
    ) -> None:
        self.inputs = [SymbolicTensor(self, i, shape, dtype) for i, (shape, dtype) in enumerate(inputs)]
        self.nodes: list[dict[str, Any]] = []
        self.losses: list[int] = []
        self._positions: dict[int, SymbolicTensor] = {}
        self._held: list[Any] = []
        self._name_of = name_of
        self._taken: set[str] = set()

    def add(self, described: dict[str, Any], shape: Shape | None) -> SymbolicTensor:
        """A node, and the tensor that it makes."""
        self.nodes.append(described)
        return SymbolicTensor(self, len(self.inputs) + len(self.nodes) - 1, shape)

    def tensor(self, value: Any) -> SymbolicTensor:
        """Whatever can be an operand, as a tensor of this program."""
        if isinstance(value, SymbolicTensor):
            if value.recorder is not self:
                raise ValueError(
                    "a symbolic tensor of one layer, loss or metric is used in another; pass it as an input instead"
                )
            return value
        if id(value) in self._positions:
            return self._positions[id(value)]
        if isinstance(value, Parameter):
            name = self._name(value)
            made = self.add(value.to_node(name), value.shape)
        elif isinstance(value, Symbolic) and not isinstance(value, Constant):
            raise TypeError(
                "a tensor of the model is used inside of a layer, loss or metric; pass it as an input instead"
            )
        else:
            constant = value if isinstance(value, Constant) else Constant(value)
            made = self.add({"op": "constant", "values": constant.values}, constant.shape)
        if isinstance(value, Symbolic):
            self._positions[id(value)] = made
            self._held.append(value)
        return made

    def _name(self, parameter: Parameter) -> str:
        base = parameter.name or self._name_of(parameter) or "parameter"
        name, number = base, 0
        while name in self._taken:
            if parameter.name:
                raise ValueError(f'two parameters of one layer are named "{base}"; give each its own name')
            number += 1
            name = f"{base}_{number}"
        self._taken.add(name)
        return name

    def to_json(self, outputs: Sequence[SymbolicTensor]) -> dict[str, Any]:
        """The program."""
        described: dict[str, Any] = {
            "inputs": len(self.inputs),
            "nodes": self.nodes,
            "outputs": [output.position for output in outputs],
        }
        if self.losses:
            described["losses"] = self.losses
        return described


_CURRENT: ContextVar[Recorder | None] = ContextVar("volary_recorder", default=None)


def current() -> Recorder | None:
    """The program that is being recorded."""
    return _CURRENT.get()


def add_loss(loss: Any) -> None:
    """A number per row that the program being recorded adds to the loss."""
    recorder = _CURRENT.get()
    if recorder is None:
        raise RuntimeError("add_loss is called outside of a layer's call; there is no program to add to")
    tensor = recorder.tensor(loss)
    shape = tensor.shape
    if shape is not None and is_known(shape) and (shape[:1] != (None,) or any(extent != 1 for extent in shape[1:])):
        raise ValueError(
            f"add_loss: the loss is {show(tensor.shape)}; give one number for each row: take the sum or mean over all axes "
            "behind the rows"
        )
    recorder.losses.append(tensor.position)


def trace(
    function: Callable[..., Any],
    inputs: Sequence[tuple[Shape | None, str]],
    name_of: Callable[[Parameter], str | None] = lambda parameter: None,
    *,
    what: str,
) -> tuple[dict[str, Any], list[SymbolicTensor]]:
    """The program that `function` records over inputs of these shapes, and its outputs."""
    recorder = Recorder(inputs, name_of)
    token = _CURRENT.set(recorder)
    try:
        answer = _called(function, recorder.inputs)
        given = list(answer) if isinstance(answer, list | tuple) else [answer]
        if not given or any(not isinstance(each, Symbolic) for each in given):
            kinds = ", ".join(type(each).__name__ for each in given) or "nothing"
            raise TypeError(f"{what} answers {kinds}; return a symbolic tensor, or a tuple of them")
        outputs = [recorder.tensor(each) for each in given]
    finally:
        _CURRENT.reset(token)
    return recorder.to_json(outputs), outputs


def _called(function: Callable[..., Any], inputs: list[SymbolicTensor]) -> Any:
    """Several inputs go to a function of one argument as a list, as Keras does, and else one by one."""
    if len(inputs) > 1:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            parameters = []  # type: ignore[assignment]
        kinds = [each.kind for each in parameters]
        positional = [
            kind
            for kind in kinds
            if kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        ]
        if len(positional) == 1 and inspect.Parameter.VAR_POSITIONAL not in kinds:
            return function(list(inputs))
    return function(*inputs)


def record(name: str, *arguments: Any) -> Symbolic:
    """The function of :mod:`volary.ops` that an operator stands for."""
    from .. import ops

    return (ops.arrays.getitem if name == "getitem" else getattr(ops, name))(*arguments)


def node(
    op: str,
    inputs: Sequence[Any],
    infer: Callable[..., Shape],
    arguments: Mapping[str, Any] | None = None,
    *,
    partial: bool = False,
) -> Symbolic:
    """Record `op` over `inputs`; `infer` makes the answer's shape of theirs, when all are known (or, `partial`, anyhow)."""
    described = {key: value for key, value in (arguments or {}).items() if value is not None}
    from .graph import Tensor, connect_function

    recorder = current()
    if recorder is None:
        recorder = next((each.recorder for each in inputs if isinstance(each, SymbolicTensor)), None)
    operands = [each if isinstance(each, Symbolic) else Constant(each) for each in inputs]
    shapes = [each.shape for each in operands]
    shape: Shape | None = None
    if all(is_known(each) or (partial and each is not None) for each in shapes):
        try:
            shape = infer(*shapes)
        except ValueError as error:
            raise ValueError(f"ops.{op.lstrip('_')}: {error}") from None
    if recorder is not None:
        positions = [recorder.tensor(each).position for each in operands]
        return recorder.add({"op": op, "inputs": positions, **described}, shape)
    tensors: list[Tensor] = []
    for each in operands:
        if isinstance(each, Tensor) and not any(each is known for known in tensors):
            tensors.append(each)
    if not tensors:
        raise TypeError(
            f"ops.{op} is called on parameters and constants alone, outside of a layer; call it inside of a Lambda or a "
            "layer's call, or on a tensor of the model"
        )
    for each in operands:
        if isinstance(each, Parameter):
            if each.used:
                raise ValueError(
                    "a Parameter is used twice outside of a layer, where every function is a layer by itself; use it in a "
                    "layer's call"
                )
            each.used = True
    program = Recorder([(tensor.shape, tensor.dtype) for tensor in tensors])
    positions = [
        next(i for i, tensor in enumerate(tensors) if tensor is each)
        if isinstance(each, Tensor)
        else program.tensor(each).position
        for each in operands
    ]
    answer = program.add({"op": op, "inputs": positions, **described}, shape)
    return connect_function(op, program.to_json([answer]), tensors, shape)
