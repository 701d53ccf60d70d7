"""The shapes of recurrent layers, of the layers around them, and of attention. Knows no layers; the rules are Keras'."""

from __future__ import annotations

from collections.abc import Sequence

from .shape import Shape, show
from .windows import convolution

__all__ = ["attended", "both_ways", "image_steps", "one_step", "recurrent", "with_steps"]


def recurrent(shape: Shape, own: Shape, states: int, return_sequences: bool, return_state: bool) -> list[Shape]:
    """The answer, of every step or the last, and the states, where a step answers the extents `own`.

    >>> recurrent((None, 5, 2), (3,), 2, True, True)
    [(None, 5, 3), (None, 3), (None, 3)]
    """
    steps = (shape[1],) if return_sequences else ()
    return [(shape[0], *steps, *own), *[(shape[0], *own)] * (states if return_state else 0)]


def one_step(shape: Shape, rank: int | None = None) -> Shape:
    """A sequence without its steps; of `rank` axes, where it is given."""
    if len(shape) < 3 or (rank is not None and len(shape) != rank):
        extents = "(steps, numbers)" if rank in (None, 3) else f"steps of {rank - 2} extents"
        raise ValueError(
            f"{show(shape)} is no sequence, {extents} per row; give the Input a shape, or put a Reshape before"
        )
    return (shape[0], *shape[2:])


def with_steps(shape: Shape, inner: Shape | None) -> Shape | None:
    """What a layer makes of every step of a sequence, where it makes `inner` of one."""
    return None if inner is None else (shape[0], shape[1], *inner[1:])


def image_steps(
    shape: Shape,
    axes: int,
    kernel: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
    data_format: str | None,
    dilation: int | Sequence[int],
    filters: int,
) -> Shape:
    """The extents that a convolution makes of one image of a sequence, without rows."""
    image = one_step(shape, axes + 3)
    return convolution(image, axes, kernel, strides, padding, data_format, dilation, filters)[1:]


def both_ways(forward: Sequence[Shape], backward: Sequence[Shape], merge_mode: str | None) -> list[Shape]:
    """The answers of two directions merged, or both; then the states of both."""
    (ahead, *states), (behind, *others) = forward, backward
    if merge_mode is None:
        return [ahead, behind, *states, *others]
    width = (ahead[-1] or 0) + (behind[-1] or 0) if merge_mode == "concat" else ahead[-1]
    return [(*ahead[:-1], width), *states, *others]


def attended(query: Shape, width: int | None) -> Shape:
    """Every step of the query with so many numbers."""
    one_step(query)
    return (*query[:-1], width)
