"""The shapes of layers that reorder a row, join several, or take products of two. Knows no layers; the rules are Keras'.

An extent that only the servers know is ``None`` and stays so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .shape import Shape, axis_of, show

__all__ = [
    "dot",
    "extents_at",
    "flat",
    "halved",
    "last",
    "merged",
    "product",
    "reordered",
    "reshaped",
    "side_by_side",
    "vectors",
]


def product(*extents: int | None) -> int | None:
    """``None`` where one is not known.

    >>> product(2, 3), product(2, None)
    (6, None)
    """
    return None if None in extents else math.prod(extent for extent in extents if extent is not None)


def last(shape: Shape, extent: int | None) -> Shape:
    """Another innermost extent.

    >>> last((None, 4, 3), 8)
    (None, 4, 8)
    """
    if len(shape) < 2:
        raise ValueError(f"{show(shape)} has nothing but rows; give at least one extent more, such as by a Reshape")
    return (*shape[:-1], extent)


def flat(shape: Shape) -> Shape:
    """All of a row in one extent."""
    return (shape[0], product(*shape[1:]))


def reshaped(shape: Shape, target: Sequence[int]) -> Shape:
    """Rows of other extents, of which one may be -1: what is left over."""
    numbers = product(*shape[1:])
    if numbers is None:
        return (shape[0], *(None if extent == -1 else extent for extent in target))
    known = math.prod(extent for extent in target if extent != -1)
    fits = known == numbers if -1 not in target else known > 0 and numbers % known == 0
    if not fits or list(target).count(-1) > 1:
        raise ValueError(
            f"rows of {show(shape)} have {numbers} numbers and do not fill {tuple(target)}; the count of numbers must stay "
            "the same, and at most one extent may be -1"
        )
    return (shape[0], *(numbers // known if extent == -1 else extent for extent in target))


def reordered(shape: Shape, dims: Sequence[int]) -> Shape:
    """The extents of a row in another order, counted from 1."""
    if sorted(dims) != list(range(1, len(shape))):
        raise ValueError(
            f"{tuple(dims)} is no order of the extents of {show(shape)}; name each of 1 to {len(shape) - 1} once"
        )
    return (shape[0], *(shape[axis] for axis in dims))


def vectors(shape: Shape, count: int) -> Shape:
    """A row of one extent so many times."""
    if len(shape) != 2:
        raise ValueError(f"{show(shape)} is not rows of one extent; put a Flatten before")
    return (shape[0], count, shape[1])


def halved(shape: Shape, axis: int) -> Shape:
    """One extent half as large."""
    place = axis_of(shape, axis)
    extent = shape[place]
    if extent is not None and extent % 2:
        raise ValueError(f"axis {axis} of {show(shape)} is odd; its halves gate each other: give an even extent")
    return (*shape[:place], None if extent is None else extent // 2, *shape[place + 1 :])


def merged(*shapes: Shape) -> Shape:
    """Number by number: extents of a row are equal or 1, counted from the innermost; shorter rows are spread."""
    rank = max(len(shape) for shape in shapes) - 1
    spread = [(*[1] * (rank - len(shape[1:])), *shape[1:]) for shape in shapes]
    whole: list[int | None] = []
    for extents in zip(*spread, strict=True):
        others = {extent for extent in extents if extent not in (1, None)}
        if len(others) > 1:
            raise ValueError(
                f"{show(*shapes)} do not go together; the extents of rows must be equal or 1, counted from the innermost"
            )
        whole.append(None if None in extents else max(extents))
    return (shapes[0][0], *whole)


def side_by_side(*shapes: Shape, axis: int) -> Shape:
    """Joined along an axis; all other extents are equal."""
    place = axis_of(shapes[0], axis)
    together: list[int | None] = list(shapes[0])
    for shape in shapes[1:]:
        equal = (a == b or None in (a, b) for i, (a, b) in enumerate(zip(shapes[0], shape, strict=False)) if i != place)
        if len(shape) != len(shapes[0]) or not all(equal):
            raise ValueError(
                f"{show(*shapes)} do not go side by side along axis {axis}; all other extents must be equal: put a Reshape "
                "or a Flatten before"
            )
        one, other = together[place], shape[place]
        together[place] = None if one is None or other is None else one + other
    return tuple(together)


def dot(left: Shape, right: Shape, axes: int | Sequence[int]) -> Shape:
    """Sums of products along one axis of each."""
    one, other = [axes, axes] if isinstance(axes, int) else axes
    i, j = axis_of(left, one), axis_of(right, other)
    if left[i] != right[j] and None not in (left[i], right[j]):
        raise ValueError(
            f"{show(left, right)} have {left[i]} and {right[j]} numbers along axes {one} and {other}; choose axes of equal "
            "extent"
        )
    rest = [*left[1:i], *left[i + 1 :], *right[1:j], *right[j + 1 :]]
    return (left[0], *(rest or [1]))


def extents_at(shape: Shape, axes: int | Sequence[int]) -> Any:
    """The product of the extents of axes; ``None`` where one is not known.

    >>> extents_at((None, 4, 3), [1, -1])
    12
    """
    return product(*(shape[axis] for axis in ([axes] if isinstance(axes, int) else axes)))
