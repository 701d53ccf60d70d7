"""What a shape is, and how one is shown, bounded and indexed. Knows neither functions nor layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["Shape", "axes_of", "axis_of", "bounded", "has_rows", "is_known", "show"]

Shape = tuple[int | None, ...]

RANK_MAX = 7
NUMBERS_MAX = 1 << 30
ROWS_STAY = "axis 0 is the rows, and a lane sees only its own part of a minibatch; use another axis"


def is_known(shape: Shape | None) -> bool:
    """Whether every extent but the rows is known.

    >>> is_known((None, 3)), is_known((None, None)), is_known(None)
    (True, False, False)
    """
    return shape is not None and all(extent is not None for extent in shape[1:])


def has_rows(shape: Shape) -> bool:
    """Whether axis 0 is the rows."""
    return len(shape) > 0 and shape[0] is None


def show(*shapes: Shape | None) -> str:
    """Shapes for a message."""
    return " and ".join("of unknown shape" if shape is None else str(shape) for shape in shapes)


def bounded(shape: Sequence[int | None]) -> Shape:
    """A result that the servers take."""
    own = [extent for extent in (shape[1:] if has_rows(tuple(shape)) else shape) if extent is not None]
    if len(shape) > RANK_MAX or not 0 < math.prod(own) <= NUMBERS_MAX:
        raise ValueError(
            f"it would make {tuple(shape)}; at most {RANK_MAX} axes, at least 1 and at most 2**30 numbers per row are allowed"
        )
    return tuple(shape)


def axis_of(shape: Shape, axis: int, *, rows_too: bool = False) -> int:
    """The position of an axis that is not the rows."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{show(shape)} has no axis {axis}; axes are {-len(shape)} to {len(shape) - 1}")
    found = axis % len(shape)
    if found == 0 and has_rows(shape) and not rows_too:
        raise ValueError(f"axis {axis} of {show(shape)} cannot be used; {ROWS_STAY}")
    return found


def axes_of(shape: Shape, axes: Sequence[int] | None) -> list[int]:
    """Distinct axes in rising order; all of them where ``None``."""
    if axes is None:
        if has_rows(shape):
            raise ValueError(
                f"without an axis it would join the rows of {show(shape)}; name the axes, such as axis=-1: rows stay apart, "
                "and training takes the mean over them"
            )
        return list(range(len(shape)))
    found = [axis_of(shape, axis) for axis in axes]
    if len(set(found)) != len(found):
        raise ValueError(f"an axis of {list(axes)} is named twice; name each once")
    return sorted(found)
