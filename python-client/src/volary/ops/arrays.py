# ruff: noqa: A001, A002 -- the names are those of keras.ops
"""Functions along axes, products, parts by index, shapes and random numbers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from .._commands import plain
from ..model.shapes import Shape, is_known
from ..model.shapes import operations as shapes
from ..model.symbolic import Constant, Symbolic, node
from .elementwise import _each

# -- along axes ---------------------------------------------------------------------------------------------------


def _along(op: str, x: Any, axis: int, **arguments: Any) -> Symbolic:
    axis = operator.index(axis)
    return node(op, [x], lambda shape: shapes.along(shape, axis), {"axis": axis, **arguments}, partial=True)


def softmax(x: Any, axis: int = -1) -> Symbolic:
    """Shares of the exponentials along an axis."""
    return _along("softmax", x, axis)


def log_softmax(x: Any, axis: int = -1) -> Symbolic:
    """The logarithm of the softmax."""
    return _along("log_softmax", x, axis)


def _list(axes: Any) -> list[int] | None:
    if axes is None:
        return None
    return [operator.index(axis) for axis in axes] if isinstance(axes, list | tuple) else [operator.index(axes)]


def _reduced(op: str, x: Any, axis: Any, keepdims: bool, **arguments: Any) -> Symbolic:
    axes = _list(axis)
    return node(
        op,
        [x],
        lambda shape: shapes.reduced(shape, axes, keepdims),
        {"axis": axes, "keepdims": bool(keepdims), **arguments},
        partial=True,
    )


def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """The sum over axes."""
    return _reduced("sum", x, axis, keepdims)


def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """The mean over axes."""
    return _reduced("mean", x, axis, keepdims)


def max(x: Any, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """The greatest number over axes."""
    return _reduced("max", x, axis, keepdims)


amax = max


def min(x: Any, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """The smallest number over axes."""
    return _reduced("min", x, axis, keepdims)


amin = min


def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """The product over axes."""
    return _reduced("prod", x, axis, keepdims)


def var(x: Any, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """The mean squared distance from the mean."""
    return _reduced("var", x, axis, keepdims)


def std(x: Any, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """The square root of the variance."""
    return _reduced("std", x, axis, keepdims)


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """``log(sum(exp(x)))`` without overflow."""
    return _reduced("logsumexp", x, axis, keepdims)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Symbolic:
    """The length of vectors: ``(sum |x|**ord) ** (1 / ord)``, 2 when left out; ``inf`` is the greatest size.

    Over several axes together their numbers count as one vector.
    """
    if ord in ("fro", "euclidean"):
        ord = 2
    return _reduced("norm", x, axis, keepdims, ord="inf" if ord == float("inf") else ord)


def normalize(x: Any, axis: int = -1, order: float = 2, epsilon: float | None = None) -> Symbolic:
    """``x / max(norm(x), epsilon)`` along an axis; epsilon is 1e-7 when left out, as in Keras."""
    given = 1e-7 if epsilon is None else epsilon
    return _along("normalize", x, axis, order="inf" if order == float("inf") else order, epsilon=given)


def l2_normalize(x: Any, axis: int = -1, epsilon: float = 1e-12) -> Symbolic:
    """``x / sqrt(max(sum(x**2), epsilon))`` along an axis."""
    return _along("l2_normalize", x, axis, epsilon=epsilon)


def cumsum(x: Any, axis: int = -1, *, reverse: bool = False) -> Symbolic:
    """Running sums along an axis, from its end with `reverse`."""
    return _along("cumsum", x, axis, reverse=bool(reverse))


# -- products -----------------------------------------------------------------------------------------------------


def matmul(x1: Any, x2: Any) -> Symbolic:
    """The product of matrices, those of leading axes side by side."""
    return node("matmul", [x1, x2], shapes.matmul)


def dot(x1: Any, x2: Any) -> Symbolic:
    """The sum over the last axis of `x1` and the last but one of `x2`."""
    return node("dot", [x1, x2], shapes.dot)


def batch_dot(x: Any, y: Any, axes: Any = None) -> Symbolic:
    """For each row the sum over one axis of each: by default the last of x and the last but one of y."""
    given = _list(axes)
    return node("batch_dot", [x, y], lambda a, b: shapes.batch_dot(a, b, given), {"axes": given})


def einsum(subscripts: str, *operands: Any) -> Symbolic:
    """Einstein's summation of one or two tensors: ``einsum("bij,bjk->bik", x, y)``."""
    if not 1 <= len(operands) <= 2:
        raise ValueError(f"ops.einsum: {len(operands)} tensors are given; give one or two, and chain calls for more")
    return node("einsum", operands, lambda *given: shapes.einsum(subscripts, *given), {"equation": subscripts})


# -- by index -----------------------------------------------------------------------------------------------------


def getitem(x: Any, key: Any) -> Symbolic:
    """``x[key]``."""
    items = []
    for item in key if isinstance(key, tuple) else (key,):
        if item is None or item is Ellipsis:
            items.append("..." if item is Ellipsis else None)
        elif isinstance(item, slice):
            bounds = (item.start, item.stop, item.step)
            items.append([None if each is None else operator.index(each) for each in bounds])
        elif isinstance(item, Symbolic):
            raise TypeError("a tensor cannot be an index; use ops.take, ops.where or ops.one_hot")
        else:
            try:
                items.append(operator.index(item))
            except TypeError:
                raise TypeError(
                    f"{item!r} cannot be an index; give a whole number, a slice, None or ..., or use ops.take"
                ) from None
    if items.count("...") > 1:
        raise IndexError("an index has at most one ...")
    return node("getitem", [x], lambda shape: shapes.getitem(shape, items), {"key": items})


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Symbolic]:
    """Parts along an axis: so many equal ones, or those between indices."""
    axis = operator.index(axis)
    given = plain(indices_or_sections, "indices_or_sections")
    sections, indices = (given, None) if isinstance(given, int) else (None, [operator.index(each) for each in given])
    count = len(indices) + 1 if indices is not None else sections
    assert count is not None
    return [
        node(
            "split",
            [x],
            lambda shape, part=part: shapes.split(shape, sections, indices, axis)[part],
            {"sections": sections, "indices": indices, "axis": axis, "part": part},
        )
        for part in range(count)
    ]


def take(x: Any, indices: Any, axis: int | None = None) -> Symbolic:
    """Constant indices along an axis, or rows of a table by an int32 input (``axis=0``)."""
    if isinstance(indices, Symbolic) and not isinstance(indices, Constant):
        return node("take", [x, indices], shapes.rows_of_table, {"axis": 0 if axis is None else operator.index(axis)})
    if axis is None:
        raise ValueError("ops.take: name the axis; the whole is not flattened, since that would join rows")
    axis = operator.index(axis)
    constant = indices if isinstance(indices, Constant) else Constant(indices)
    flat = _flat(constant.values)
    if any(type(index) is not int for index in flat):
        raise TypeError("ops.take: indices are whole numbers")
    ordered = sorted(flat)
    largest, smallest = ordered[-1], ordered[0]
    return node(
        "take",
        [x],
        lambda shape: shapes.take(shape, constant.shape, largest, smallest, axis),
        {"indices": constant.values, "axis": axis},
    )


def _flat(values: Any) -> list[Any]:
    return [each for value in values for each in _flat(value)] if isinstance(values, list) else [values]


def one_hot(x: Any, num_classes: int) -> Symbolic:
    """1 at each number's index in a new last axis; an index outside is 0 everywhere."""
    count = operator.index(num_classes)
    return node("one_hot", [x], lambda shape: shapes.one_hot(shape, count), {"num_classes": count})


# -- shape and order ----------------------------------------------------------------------------------------------


def shape(x: Any) -> Shape | None:
    """The shape: ``None`` for the rows."""
    return x.shape if isinstance(x, Symbolic) else Constant(x).shape


def concatenate(xs: Sequence[Any], axis: int = 0) -> Symbolic:
    """Tensors side by side along an axis that they have."""
    axis = operator.index(axis)
    return node("concatenate", list(xs), lambda *given: shapes.concatenate(given, axis), {"axis": axis})


def stack(x: Sequence[Any], axis: int = 0) -> Symbolic:
    """Tensors of one shape along a new axis."""
    axis = operator.index(axis)
    return node("stack", list(x), lambda *given: shapes.stack(given, axis), {"axis": axis})


def _extents(name: str, given: Any) -> list[int | None]:
    if given is None:
        raise ValueError(f"ops.{name}: the shape is unknown here; give the Input a shape, or write the extents")
    listed = given if isinstance(given, list | tuple) else [given]
    return [None if extent is None else operator.index(extent) for extent in listed]


def reshape(x: Any, newshape: Sequence[int | None]) -> Symbolic:
    """The same numbers in another shape; it begins with ``None`` or -1 for the rows, and one -1 is what is left over."""
    extents = _extents("reshape", newshape)
    return node("reshape", [x], lambda shape: shapes.reshape(shape, extents), {"shape": extents})


def broadcast_to(x: Any, shape: Sequence[int | None]) -> Symbolic:
    """Repeated to fill a shape, by NumPy's rule; ``None`` at first gives a parameter or constant rows."""
    extents = tuple(_extents("broadcast_to", shape))
    return node("broadcast_to", [x], lambda own: shapes.broadcast_to(own, extents), {"shape": list(extents)})


def full_like(x: Any, fill_value: float) -> Symbolic:
    """A number in the shape of x."""
    return _each("full_like", x, value=plain(fill_value, "fill_value"))


def zeros_like(x: Any) -> Symbolic:
    """Zeros in the shape of x."""
    return full_like(x, 0.0)


def ones_like(x: Any) -> Symbolic:
    """Ones in the shape of x."""
    return full_like(x, 1.0)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Symbolic:
    """Axes in another order; the rows stay first."""
    order = _list(axes)
    return node("transpose", [x], lambda shape: shapes.transpose(shape, order), {"axes": order})


def swapaxes(x: Any, axis1: int, axis2: int) -> Symbolic:
    """Two axes in each other's place."""
    one, other = operator.index(axis1), operator.index(axis2)
    return node("swapaxes", [x], lambda shape: shapes.swapaxes(shape, one, other), {"axis1": one, "axis2": other})


def squeeze(x: Any, axis: Any = None) -> Symbolic:
    """Without axes of extent 1."""
    axes = _list(axis)
    return node("squeeze", [x], lambda shape: shapes.squeeze(shape, axes), {"axis": axes})


def expand_dims(x: Any, axis: Any) -> Symbolic:
    """With new axes of extent 1 at these places of the result."""
    axes = _list(axis)
    assert axes is not None
    return node("expand_dims", [x], lambda shape: shapes.expand_dims(shape, axes), {"axis": axes})


def repeat(x: Any, repeats: int, axis: int | None = None) -> Symbolic:
    """Each index of an axis several times."""
    if axis is None:
        raise ValueError("ops.repeat: name the axis; the whole is not flattened, since that would join rows")
    count, axis = operator.index(repeats), operator.index(axis)
    return node("repeat", [x], lambda shape: shapes.repeat(shape, count, axis), {"repeats": count, "axis": axis})


def tile(x: Any, repeats: Any) -> Symbolic:
    """The whole several times along each axis, counted from the last."""
    counts = _list(repeats)
    assert counts is not None
    return node("tile", [x], lambda shape: shapes.tile(shape, counts), {"repeats": counts})


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float | None = None) -> Symbolic:
    """A constant before and after the numbers of each axis: ``pad_width`` is (before, after) for each, or one for all."""
    if mode != "constant":
        raise ValueError(f"ops.pad: the mode {mode!r} is not supported; pad with a constant, or concatenate slices")
    widths = plain(pad_width, "pad_width")
    if isinstance(widths, int):
        widths = [widths, widths]
    if widths and isinstance(widths[0], int):
        if not isinstance(x, Symbolic) or x.shape is None:
            raise ValueError("ops.pad: the count of axes is unknown here; give a pair for each axis")
        widths = [list(widths)] * len(x.shape)
    value = None if constant_values is None else plain(constant_values, "constant_values")
    return node("pad", [x], lambda shape: shapes.pad(shape, widths), {"pad_width": widths, "constant_values": value})


def flip(x: Any, axis: Any = None) -> Symbolic:
    """Axes from their end."""
    axes = _list(axis)
    return node("flip", [x], lambda shape: shapes.flip(shape, axes), {"axis": axes})


# -- random numbers -----------------------------------------------------------------------------------------------


def random_normal(shape: Sequence[int | None], mean: float = 0.0, stddev: float = 1.0) -> Symbolic:
    """Normal numbers, fresh for every row and step of the training; begin the shape with ``None`` for the rows.

    When the model answers it is the mean, so that the answer to a row depends on nothing but the row. Inside of a layer's
    ``call`` or a Lambda.
    """
    extents = tuple(_extents("random_normal", shape))
    if not extents or extents[0] is not None or not is_known(extents):
        raise ValueError(f"ops.random_normal: the shape is {extents}; begin with None for the rows and know the others")
    draw = node("random_normal", [], lambda: extents, {"shape": list(extents)})
    return draw if (mean, stddev) == (0.0, 1.0) else draw * stddev + mean
