"""The shapes that convolution, pooling, padding, cropping and up-sampling make, along the spatial axes of a row.

A shape is ``(rows, spatial.., channels)``, with ``channels_first`` ``(rows, channels, spatial..)``; an extent that only the
servers know is ``None`` and stays so. Sizes are one number for all axes, or one each. Knows no layers; the rules are Keras'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .shape import Shape, show

__all__ = [
    "adaptive",
    "channels_of",
    "convolution",
    "cropped",
    "depthwise",
    "locally_connected_weights",
    "over_all",
    "padded",
    "per_axis",
    "pooled",
    "repeated",
    "transposed",
    "volume",
]

Extent = int | None
PLACES = {1: "steps", 2: "rows, columns", 3: "depth, rows, columns"}


def per_axis(sizes: int | Sequence[int], axes: int) -> list[int]:
    """One number for each axis.

    >>> per_axis(3, 2), per_axis([3, 5], 2)
    ([3, 3], [3, 5])
    """
    given = [sizes] * axes if isinstance(sizes, int) else list(sizes)
    if len(given) != axes or any(not isinstance(size, int) for size in given):
        raise ValueError(f"{sizes} is no size; give one whole number, or {axes} of them")
    return given


def volume(sizes: int | Sequence[int], axes: int) -> int:
    """The numbers of a window."""
    return math.prod(per_axis(sizes, axes))


def split(shape: Shape, axes: int, data_format: str | None) -> tuple[list[Extent], Extent]:
    """The spatial extents and the channels."""
    first = data_format == "channels_first"
    if len(shape) != axes + 2:
        order = f"(channels, {PLACES[axes]})" if first else f"({PLACES[axes]}, channels)"
        raise ValueError(
            f"{show(shape)} is not rows of {axes + 1} extents, {order}; give the Input a shape, or put a Reshape before"
        )
    return (list(shape[2:]), shape[1]) if first else (list(shape[1:-1]), shape[-1])


def joined(shape: Shape, spatial: Sequence[Extent], channels: Extent, data_format: str | None) -> Shape:
    """The rows of `shape` with other extents."""
    return (shape[0], channels, *spatial) if data_format == "channels_first" else (shape[0], *spatial, channels)


def channels_of(shape: Shape, axes: int, data_format: str | None) -> Any:
    """How many channels come in; ``None`` where that is not known."""
    return split(shape, axes, data_format)[1]


def count(extent: Extent, size: int, stride: int, padding: str, dilation: int = 1) -> Extent:
    """How many windows of `size` taps, `dilation` apart, an axis has.

    >>> count(10, 3, 2, "valid"), count(10, 3, 2, "same"), count(None, 3, 1, "valid")
    (4, 5, None)
    """
    if extent is None:
        return None
    if min(size, stride, dilation) < 1:
        raise ValueError(f"a size, stride or dilation is {min(size, stride, dilation)}; give whole numbers from 1")
    reach = (size - 1) * dilation + 1
    if padding != "valid":
        return -(-extent // stride)
    if reach > extent:
        raise ValueError(
            f'a window reaches over {reach} numbers and its axis has {extent}; take a smaller one, or padding="same"'
        )
    return (extent - reach) // stride + 1


def depthwise(
    shape: Shape,
    axes: int,
    kernel: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
    data_format: str | None,
    dilation: int | Sequence[int],
    multiplier: int,
) -> Shape:
    """A convolution with `multiplier` filters for each channel."""
    channels = channels_of(shape, axes, data_format)
    filters = None if channels is None else channels * multiplier
    return convolution(shape, axes, kernel, strides, padding, data_format, dilation, filters)


def convolution(
    shape: Shape,
    axes: int,
    kernel: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
    data_format: str | None,
    dilation: int | Sequence[int],
    filters: Extent,
) -> Shape:
    """A window at every stride; the filters are the channels."""
    spatial, _ = split(shape, axes, data_format)
    options = (per_axis(each, axes) for each in (kernel, strides, dilation))
    made = [
        count(extent, size, stride, padding, apart)
        for extent, size, stride, apart in zip(spatial, *options, strict=True)
    ]
    return joined(shape, made, filters, data_format)


def pooled(
    shape: Shape,
    axes: int,
    pool: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: str,
    data_format: str | None,
) -> Shape:
    """A window at every stride, channel by channel; side by side where `strides` is ``None``."""
    steps = pool if strides is None else strides
    return convolution(shape, axes, pool, steps, padding, data_format, 1, channels_of(shape, axes, data_format))


def transposed(
    shape: Shape,
    axes: int,
    kernel: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str,
    output_padding: int | Sequence[int] | None,
    data_format: str | None,
    dilation: int | Sequence[int],
    filters: int,
) -> Shape:
    """The convolution the other way: from as many windows to the axis that they were of."""
    spatial, _ = split(shape, axes, data_format)
    options = [per_axis(each, axes) for each in (kernel, strides, dilation)]
    extra = [None] * axes if output_padding is None else per_axis(output_padding, axes)
    made = [
        None if extent is None else unwound(extent, size, stride, padding, apart, over)
        for extent, size, stride, apart, over in zip(spatial, *options, extra, strict=True)
    ]
    return joined(shape, made, filters, data_format)


def unwound(extent: int, size: int, stride: int, padding: str, dilation: int, extra: int | None) -> int:
    """The extent that so many windows were of, or the one that Keras takes of several that they may have been of."""
    reach = (size - 1) * dilation + 1
    if padding == "same":
        last = stride if extra is None else reach % 2 + extra
    else:
        last = max(reach, stride) if extra is None else reach + extra
    return (extent - 1) * stride + last


def over_all(shape: Shape, axes: int, data_format: str | None, keepdims: bool) -> Shape:
    """One number for each channel."""
    _, channels = split(shape, axes, data_format)
    return joined(shape, [1] * axes, channels, data_format) if keepdims else (shape[0], channels)


def adaptive(shape: Shape, axes: int, sizes: int | Sequence[int], data_format: str | None) -> Shape:
    """As many windows as `sizes` says."""
    _, channels = split(shape, axes, data_format)
    return joined(shape, per_axis(sizes, axes), channels, data_format)


def repeated(shape: Shape, axes: int, sizes: int | Sequence[int], data_format: str | None) -> Shape:
    """Every place so many times."""
    return _resized(shape, axes, data_format, per_axis(sizes, axes), lambda extent, size: extent * size)


def padded(shape: Shape, axes: int, widths: int | Sequence[Any], data_format: str | None) -> Shape:
    """More places before and after."""
    return _resized(shape, axes, data_format, _margins(widths, axes), lambda extent, pair: extent + sum(pair))


def cropped(shape: Shape, axes: int, widths: int | Sequence[Any], data_format: str | None) -> Shape:
    """Fewer places before and after."""
    return _resized(shape, axes, data_format, _margins(widths, axes), lambda extent, pair: extent - sum(pair))


def _resized(
    shape: Shape, axes: int, data_format: str | None, options: Sequence[Any], change: Callable[[int, Any], int]
) -> Shape:
    spatial, channels = split(shape, axes, data_format)
    made = [None if extent is None else change(extent, option) for extent, option in zip(spatial, options, strict=True)]
    return joined(shape, made, channels, data_format)


def _margins(widths: int | Sequence[Any], axes: int) -> list[list[int]]:
    """The numbers before and after, for each axis: of one number, one or a pair for each axis, or, of one axis, a pair."""
    entries = [widths] * axes if isinstance(widths, int) else [widths] if axes == 1 else list(widths)
    pairs = [[each, each] if isinstance(each, int) else list(each) for each in entries]
    if len(pairs) != axes or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{widths} is no width; give one whole number, or a pair of before and after for each axis")
    return pairs


def locally_connected_weights(
    shape: Shape,
    axes: int,
    kernel: int | Sequence[int],
    strides: int | Sequence[int],
    data_format: str | None,
    filters: int,
    use_bias: bool,
) -> Any:
    """A kernel and a bias for each place of the answer; ``None`` where the places or channels are not known."""
    made = convolution(shape, axes, kernel, strides, "valid", data_format, 1, filters)
    places, _ = split(made, axes, data_format)
    channels = channels_of(shape, axes, data_format)
    if channels is None or None in places:
        return None
    numbers = math.prod(extent for extent in places if extent is not None)
    return numbers * filters * (volume(kernel, axes) * channels + use_bias)
