"""What ``compile`` and ``fit`` are told of a model's outputs: one thing for all, a dict by output, or a list in their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._commands import plain
from ..errors import InvalidArgumentError
from .losses import Loss, described
from .metrics import Metric
from .shapes import Shape

__all__ = ["LossOfOutput", "OutputTraining", "compiled", "request_of"]


#: What a loss of one output is given as: a name, an object or class of volary.losses, or a function of (y_true, y_pred).
LossOfOutput = str | Loss | type[Loss] | Callable[[Any, Any], Any]


@dataclass(frozen=True)
class OutputTraining:
    """How one output is trained."""

    name: str
    loss: str | dict[str, Any]
    loss_weight: float | None
    metrics: list[str | dict[str, Any]]


def compiled(
    names: Sequence[str], loss: Any, loss_weights: Any, metrics: Any, shapes: Sequence[Shape | None] | None = None
) -> list[OutputTraining]:
    """Each output's loss, weight and metrics, in the order of `names`; `shapes` are those of the outputs, where known.

    >>> [each.loss for each in compiled(["a", "b"], {"a": "mse", "b": "mae"}, None, ())]
    ['mse', 'mae']
    >>> [each.loss_weight for each in compiled(["a", "b"], "mse", [1.0, 0.3], ())]
    [1.0, 0.3]
    >>> [each.metrics for each in compiled(["a", "b"], "mse", None, {"b": ["mae"]})]
    [[], ['mae']]
    """
    description = isinstance(loss, Mapping) and "name" in loss and "name" not in names
    losses = [loss] * len(names) if description else _each("loss", loss, names, shared=True)
    weights = [None] * len(names) if loss_weights is None else _each("loss_weights", loss_weights, names)
    several = len(names) > 1

    def of(name: str, what: str) -> str:
        return f"{what} of output {name!r}" if several else what

    return [
        OutputTraining(
            name,
            described(of(name, "loss"), own, Loss, shape),
            None if weight is None else _weight(weight, name),
            [described(of(name, "a metric"), metric, Metric, shape) for metric in measured],
        )
        for name, own, weight, measured, shape in zip(
            names, losses, weights, _metrics(metrics, names), shapes or [None] * len(names), strict=True
        )
    ]


def request_of(training: Sequence[OutputTraining], label: Any) -> dict[str, Any]:
    """The fields of a Train request that tell of labels, losses and metrics.

    >>> one = compiled(["answer"], "mse", None, ["mae"])
    >>> request_of(one, "y")
    {'label': 'y', 'loss': 'mse', 'metrics': ['mae']}
    >>> request_of(compiled(["a", "b"], "mse", [1, 0.5], ()), {"a": "x", "b": "y"})["outputs"][1]
    {'name': 'b', 'label': 'y', 'loss': 'mse', 'metrics': [], 'lossWeight': 0.5}
    """
    names = [each.name for each in training]
    labels = _each("label", label, names)
    for name, column in zip(names, labels, strict=True):
        if not isinstance(column, str):
            of = f" of output {name!r}" if len(names) > 1 else ""
            raise TypeError(f"label{of} is of type {type(column).__name__}; name a column")
    if len(training) == 1 and training[0].loss_weight is None:
        return {"label": labels[0], "loss": training[0].loss, "metrics": training[0].metrics}
    outputs = []
    for each, column in zip(training, labels, strict=True):
        output: dict[str, Any] = {
            "name": each.name,
            "label": column,
            "loss": each.loss,
            "metrics": each.metrics,
        }
        if each.loss_weight is not None:
            output["lossWeight"] = each.loss_weight
        outputs.append(output)
    return {"outputs": outputs}


def _each(what: str, given: Any, names: Sequence[str], *, shared: bool = False) -> list[Any]:
    """What is given for each output; all of them must be named."""
    if isinstance(given, Mapping):
        _known(what, given, names)
        if missing := [name for name in names if name not in given]:
            raise InvalidArgumentError(f"{what} says nothing of output {missing[0]!r}; give it for {_quoted(names)}")
        return [given[name] for name in names]
    if isinstance(given, list | tuple):
        if len(given) != len(names):
            raise InvalidArgumentError(
                f"{what} has {len(given)} entries; give one for each output, in the order {_quoted(names)}"
            )
        return list(given)
    if shared or len(names) == 1:
        return [given] * len(names)
    raise InvalidArgumentError(
        f"{what} is {given!r} and the model has {len(names)} outputs; give a dict by output, or a list in the order "
        f"{_quoted(names)}"
    )


def _metrics(given: Any, names: Sequence[str]) -> list[list[Any]]:
    """The metrics of each output: for one output a list; for several a dict by output or a list with an entry each."""
    if isinstance(given, str):
        raise TypeError(f"metrics is a list; write [{given!r}]")
    if isinstance(given, Mapping):
        _known("metrics", given, names)
        return [_listed(given.get(name)) for name in names]
    listed = list(given)
    if len(names) == 1:
        nested = len(listed) == 1 and isinstance(listed[0], list | tuple)
        return [_listed(listed[0] if nested else listed)]
    if listed and len(listed) != len(names):
        raise InvalidArgumentError(
            f"metrics has {len(listed)} entries; give a dict by output, or a list of one entry for each of {_quoted(names)}"
        )
    return [_listed(each) for each in listed] or [[] for _ in names]


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    several = isinstance(given, Iterable) and not isinstance(given, str | Mapping | type)
    return list(given) if several else [given]


def _known(what: str, given: Mapping[Any, Any], names: Sequence[str]) -> None:
    for name in given:
        if name not in names:
            raise InvalidArgumentError(f"{what} names {name!r}, which is no output; the outputs are {_quoted(names)}")


def _weight(given: Any, name: str) -> float:
    value = plain(given, f"loss_weights of {name}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InvalidArgumentError(f"loss_weights of output {name!r} is {given!r}; give a number from 0 on")
    return float(value)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
