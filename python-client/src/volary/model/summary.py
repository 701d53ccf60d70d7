"""A network as a table for people, before a server has seen it: what it will make of which shapes, as far as that is known.

The table is the servers' own (``ServedModel.summary``) but for what depends on the data: ``?`` stands for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .graph import Tensor
    from .shapes import Shape

__all__ = ["parameter_count", "table"]

HEADER = ("Layer (type)", "Output shape", "Parameters", "Connected to")


def table(title: str, calls: Sequence[Tensor], names: dict[int, str]) -> str:
    """The calls in their order, each told by its first output; `names` are theirs, by identity."""
    rows = [HEADER]
    counted: set[int] = set()
    counts: list[int | None] = []
    for tensor in calls:
        again = id(tensor.layer) in counted
        counted.add(id(tensor.layer))
        count = 0 if again else parameter_count(tensor)
        counts.append(count)
        read = dict.fromkeys(names[id(each.origin)] for each in tensor.inputs)
        called = f"{names[id(tensor)]} ({tensor.layer.name_base()})"
        rows.append((called, _shown(tensor.shape), "?" if count is None else str(count), ", ".join(read)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}  {read}".rstrip()
        for name, shape, count, read in rows
    ]
    known = sum(count for count in counts if count is not None)
    more = " and those that depend on the data" if None in counts else ""
    return "\n".join(
        [f'Model "{title}"', lines[0], "-" * (sum(widths) + 6), *lines[1:], f"Parameters: {known}{more}", ""]
    )


def parameter_count(tensor: Tensor) -> int | None:
    """How many numbers the arrays of the layer hold that made this first output; ``None`` where they depend on the data."""
    options: dict[str, Any] = dict(tensor.options or {})
    if "program" in options:
        nodes: list[dict[str, Any]] = options["program"]["nodes"]
        return sum(math.prod(node["shape"]) for node in nodes if node["op"] == "parameter")
    if not tensor.inputs:
        return 0
    # A mask is the last input, and no array depends on it.
    inputs = tensor.inputs[:-1] if options.get("attention_mask") else tensor.inputs
    return tensor.layer.count_params([each.shape for each in inputs])


def _shown(shape: Shape | None) -> str:
    if shape is None:
        return "?"
    return f"({', '.join(['rows', *('?' if extent is None else str(extent) for extent in shape[1:])])})"
