"""The shape that each function of :mod:`volary.ops` makes: NumPy's rules, and rows that stay apart.

A shape is a tuple whose first entry is ``None`` where axis 0 is the rows. No function may let one row see another: a lane
of the training holds only its own part of a minibatch. Knows no tensors; the servers check all of it again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from .shape import ROWS_STAY, Shape, axes_of, axis_of, bounded, has_rows, show

# -- number by number ---------------------------------------------------------------------------------------------


def same(shape: Shape) -> Shape:
    """A function of one number."""
    return shape


def broadcast(*shapes: Shape) -> Shape:
    """The shape that several have together; an extent that is not known is taken for one that fits."""
    rank = max(len(shape) for shape in shapes)
    rows = any(has_rows(shape) for shape in shapes)
    for shape in shapes:
        if (has_rows(shape) and len(shape) != rank) or (
            rows and not has_rows(shape) and len(shape) == rank and shape[0] != 1
        ):
            raise ValueError(
                f"shapes {show(*shapes)} would set rows against another axis; give all inputs with rows as many axes, and "
                "others at most one less; expand_dims and reshape help"
            )
    whole: list[int | None] = []
    for axis in range(-rank, 0):
        extents = {shape[axis] for shape in shapes if len(shape) >= -axis}
        if axis == -rank and rows:
            whole.append(None)
            continue
        others = extents - {1, None}
        if len(others) > 1:
            raise ValueError(
                f"shapes {show(*shapes)} do not go together; extents must be equal or 1, counted from the last axis"
            )
        whole.append(others.pop() if others else None if None in extents else 1)
    return bounded(whole)


# -- along axes ---------------------------------------------------------------------------------------------------


def reduced(shape: Shape, axes: Sequence[int] | None, keepdims: bool) -> Shape:
    """Without axes, or with them at extent 1."""
    gone = axes_of(shape, axes)
    kept = [(1 if axis in gone else extent) for axis, extent in enumerate(shape) if keepdims or axis not in gone]
    return bounded(kept)


def along(shape: Shape, axis: int) -> Shape:
    """A function along an axis, which stays."""
    axis_of(shape, axis)
    return shape


# -- products -----------------------------------------------------------------------------------------------------


def contracted(a: Shape, left: Sequence, b: Shape, right: Sequence, out: Sequence) -> Shape:
    """Axes by label: those of `out` stay, the others are summed over."""
    extents: dict = {}
    rows = None
    for shape, labels in ((a, left), (b, right)):
        for position, (label, extent) in enumerate(zip(labels, shape, strict=True)):
            if label in labels[:position]:
                raise ValueError(
                    f"shapes {show(a, b)}: an axis is named twice in one operand; diagonals are not supported"
                )
            if extents.setdefault(label, extent) != extent:
                raise ValueError(
                    f"shapes {show(a, b)}: axes that go together have different extents; they must be equal, and rows go "
                    "with rows only"
                )
            if extent is None:
                if rows not in (None, label):
                    raise ValueError(
                        f"shapes {show(a, b)}: rows of one would meet all rows of the other; a lane sees only its own part "
                        "of a minibatch; use batch_dot, or einsum with one letter for both"
                    )
                rows = label
    if rows is not None and list(out[:1]) != [rows]:
        raise ValueError(
            f"shapes {show(a, b)}: rows would be summed over or moved; axis 0 is the rows: it must stay the first axis of the "
            "answer"
        )
    return bounded([extents[label] for label in out])


def matmul(a: Shape, b: Shape) -> Shape:
    """The product of matrices."""
    if not a or not b:
        raise ValueError(f"shapes {show(a, b)} hold a single number; use multiply")
    p, q = len(a), len(b)
    left: list = [*range(p - 2, 0, -1), *(["m"] if p > 1 else []), "k"]
    right: list = [*range(q - 2, 0, -1), "k", *(["n"] if q > 1 else [])]
    together = list(range(max(p, q) - 2, 0, -1))
    out = [*together, *(["m"] if p > 1 else []), *(["n"] if q > 1 else [])]
    for label in together:
        if label not in left or label not in right:
            continue
        i, j = left.index(label), right.index(label)
        if a[i] == 1 and b[j] != 1:
            a, left = a[:i] + a[i + 1 :], left[:i] + left[i + 1 :]
        elif b[j] == 1 and a[i] != 1:
            b, right = b[:j] + b[j + 1 :], right[:j] + right[j + 1 :]
    return contracted(a, left, b, right, out)


def dot(a: Shape, b: Shape) -> Shape:
    """NumPy's dot."""
    if not a or not b:
        return broadcast(a, b)
    left: list = [("a", axis) for axis in range(len(a))]
    right: list = [("b", axis) for axis in range(len(b))]
    left[-1] = right[max(len(b) - 2, 0)] = "k"
    return contracted(a, left, b, right, [label for label in [*left, *right] if label != "k"])


def batch_dot(a: Shape, b: Shape, axes: Sequence[int] | None) -> Shape:
    """One axis of each, for each row."""
    if not (has_rows(a) and has_rows(b) and len(a) > 1 and len(b) > 1):
        raise ValueError(f"shapes {show(a, b)} are not both rows of one axis or more; use matmul where one has no rows")
    if axes is None:
        axes = [len(a) - 1, 1 if len(b) == 2 else len(b) - 2]
    if len(axes) > 2:
        raise ValueError("axes has more than two numbers; give one or two")
    i, j = axis_of(a, axes[0]), axis_of(b, axes[-1])
    left: list = ["rows", *(("a", axis) for axis in range(1, len(a)))]
    right: list = ["rows", *(("b", axis) for axis in range(1, len(b)))]
    left[i] = right[j] = "k"
    out = ["rows", *(label for label in [*left[1:], *right[1:]] if label != "k")]
    shape = contracted(a, left, b, right, out)
    return shape if len(shape) > 1 else (*shape, 1)


def einsum(equation: str, *shapes: Shape) -> Shape:
    """Einstein's summation of one or two."""
    text = equation.replace(" ", "")
    given, arrow, out = text.partition("->")
    operands = given.split(",")
    letters = "".join(operands)
    if not arrow:
        out = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    if (
        not (letters + out).isalpha()
        or not (letters + out).isascii()
        or len(set(out)) != len(out)
        or set(out) - set(letters)
    ):
        raise ValueError(
            f'the equation {equation!r} is no list of letters, such as "bij,bjk->bik"; dots are not supported'
        )
    if len(operands) != len(shapes) or [len(each) for each in operands] != [len(shape) for shape in shapes]:
        raise ValueError(
            f"the equation {equation!r} does not fit {show(*shapes)}; give a letter for each axis of each input"
        )
    a, left = shapes[0], operands[0]
    b, right = (shapes[1], operands[1]) if len(shapes) > 1 else ((), "")
    return contracted(a, left, b, right, out)


# -- by index -----------------------------------------------------------------------------------------------------


def getitem(shape: Shape, key: Sequence) -> Shape:
    """`key` as the program has it: numbers, [start, stop, step], None and "..."."""
    taken = sum(1 for item in key if item is not None and item != "...")
    rest = len(shape) - taken
    if rest < 0:
        raise ValueError(f"{taken} indices are more than {show(shape)} has axes; leave some out")
    whole = [None, None, None]
    items: list = []
    for item in key if "..." in key else [*key, "..."]:
        items.extend([whole] * rest if item == "..." else [item])
    found: list[int | None] = []
    axis = 0
    for item in items:
        is_rows = axis == 0 and has_rows(shape)
        plain = isinstance(item, list) and item[0] is None and item[1] is None and item[2] in (None, 1)
        if is_rows and not plain:
            raise ValueError(f"axis 0 of {show(shape)} cannot be indexed; {ROWS_STAY}")
        if item is None:
            found.append(1)
            continue
        extent = shape[axis]
        axis += 1
        if extent is None:
            found.append(None)
        elif isinstance(item, list):
            count = len(range(*slice(*item).indices(extent)))
            if count == 0:
                raise ValueError(f"a slice of axis {axis - 1} of {show(shape)} is empty; slice at least one index")
            found.append(count)
        elif not -extent <= item < extent:
            raise ValueError(
                f"index {item} is outside axis {axis - 1} of {show(shape)}; indices are {-extent} to {extent - 1}"
            )
    return bounded(found)


def split(shape: Shape, sections: int | None, indices: Sequence[int] | None, axis: int) -> list[Shape]:
    """The shape of each part."""
    place = axis_of(shape, axis)
    extent = shape[place]
    assert extent is not None
    if indices is None:
        assert sections is not None
        if sections < 1 or extent % sections:
            raise ValueError(
                f"axis {axis} of {show(shape)} does not divide into {sections}; give a count that does, or indices"
            )
        indices = [extent // sections * part for part in range(1, sections)]
    ends = [0, *(min(max(index + extent if index < 0 else index, 0), extent) for index in indices), extent]
    if any(low >= high for low, high in itertools.pairwise(ends)):
        raise ValueError(f"a part of axis {axis} of {show(shape)} is empty; give rising indices inside the axis")
    return [(*shape[:place], high - low, *shape[place + 1 :]) for low, high in itertools.pairwise(ends)]


def take(shape: Shape, indices: Shape, largest: int, smallest: int, axis: int) -> Shape:
    """Constant indices along an axis."""
    place = axis_of(shape, axis)
    extent = shape[place]
    assert extent is not None
    if not -extent <= smallest <= largest < extent:
        raise ValueError(
            f"indices from {smallest} to {largest} are outside axis {axis} of {show(shape)}; give indices of the axis"
        )
    return bounded([*shape[:place], *indices, *shape[place + 1 :]])


def rows_of_table(table: Shape, indices: Shape) -> Shape:
    """Rows of a parameter by integers."""
    if has_rows(table) or not table:
        raise ValueError(f"it takes from {show(table)}; take rows of a parameter, which has none of the minibatch")
    return bounded([*indices, *table[1:]])


def one_hot(shape: Shape, classes: int) -> Shape:
    """A new last axis of classes."""
    return bounded([*shape, classes])


# -- shape and order ----------------------------------------------------------------------------------------------


def concatenate(shapes: Sequence[Shape], axis: int) -> Shape:
    """Side by side along an axis."""
    place = axis_of(shapes[0], axis)
    rest = {(len(shape), *shape[:place], 0, *shape[place + 1 :]) for shape in shapes}
    if len(rest) > 1:
        raise ValueError(
            f"shapes {show(*shapes[:8])} do not go together; all extents but the one joined along must be equal, and all have "
            "rows or none; broadcast_to gives rows"
        )
    return bounded([*shapes[0][:place], sum(shape[place] or 0 for shape in shapes), *shapes[0][place + 1 :]])


def new_axis(shape: Shape, axis: int, count: int = 1) -> int:
    """The place of a new axis by its number in the result."""
    rank = len(shape) + count
    if not -rank <= axis < rank:
        raise ValueError(f"{show(shape)} cannot get an axis {axis}; give {-rank} to {rank - 1}")
    if axis % rank == 0 and has_rows(shape):
        raise ValueError(f"{show(shape)} cannot get an axis {axis}; {ROWS_STAY}")
    return axis % rank


def stack(shapes: Sequence[Shape], axis: int) -> Shape:
    """Along a new axis."""
    if len(set(shapes)) > 1:
        raise ValueError(f"shapes {show(*shapes[:8])} do not go together; stack tensors of one shape")
    place = new_axis(shapes[0], axis)
    return bounded([*shapes[0][:place], len(shapes), *shapes[0][place:]])


def reshape(shape: Shape, new: Sequence[int | None]) -> Shape:
    """The same numbers in another shape."""
    wanted = list(new)
    if has_rows(shape):
        if not wanted or wanted[0] not in (None, -1):
            raise ValueError(f"axis 0 of {show(shape)} cannot be reshaped: begin with None (or -1); {ROWS_STAY}")
        wanted[0] = None
    own = wanted[1:] if has_rows(shape) else wanted
    numbers = math.prod(extent for extent in shape if extent is not None)
    if None in own or own.count(-1) > 1:
        raise ValueError(f"the shape {tuple(new)} leaves more than one extent open; give all but one")
    product = math.prod(extent for extent in own if extent not in (None, -1))
    if -1 in own and product > 0 and numbers % product == 0:
        own = [numbers // product if extent == -1 else extent for extent in own]
    if math.prod(own) != numbers or any(extent < 1 for extent in own):
        raise ValueError(
            f"{show(shape)} has {numbers} numbers per row and does not fill {tuple(new)}; the count of numbers must stay the same"
        )
    return bounded([*([None] if has_rows(shape) else []), *own])


def broadcast_to(shape: Shape, new: Shape) -> Shape:
    """Spread over a shape."""
    missing = len(new) - len(shape)
    fits = missing >= 0 and (not has_rows(shape) or (has_rows(new) and missing == 0))
    if fits and has_rows(new) and not has_rows(shape) and missing == 0:
        fits = shape[0] == 1
    if not fits or any(
        extent not in (1, new[missing + axis]) for axis, extent in enumerate(shape) if extent is not None
    ):
        raise ValueError(
            f"{show(shape)} does not spread over {show(new)}; extents must be equal or 1, counted from the last axis, and rows "
            "stay rows"
        )
    return bounded(new)


def transpose(shape: Shape, axes: Sequence[int] | None) -> Shape:
    """Axes in another order."""
    order = list(range(len(shape)))[::-1] if axes is None else [axis_of(shape, axis, rows_too=True) for axis in axes]
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"axes {axes} do not name each axis of {show(shape)} once; name all in their new order")
    if has_rows(shape) and order[0] != 0:
        raise ValueError(f"axis 0 of {show(shape)} cannot move; {ROWS_STAY}")
    return tuple(shape[axis] for axis in order)


def swapaxes(shape: Shape, one: int, other: int) -> Shape:
    """Two axes in each other's place."""
    a, b = axis_of(shape, one), axis_of(shape, other)
    order = list(shape)
    order[a], order[b] = order[b], order[a]
    return tuple(order)


def squeeze(shape: Shape, axes: Sequence[int] | None) -> Shape:
    """Without axes of extent 1."""
    gone = [axis for axis, extent in enumerate(shape) if extent == 1] if axes is None else axes_of(shape, axes)
    for axis in gone:
        if shape[axis] != 1:
            raise ValueError(f"axis {axis} of {show(shape)} is not 1; squeeze axes of extent 1, or reshape")
    return tuple(extent for axis, extent in enumerate(shape) if axis not in gone)


def expand_dims(shape: Shape, axes: Sequence[int]) -> Shape:
    """With axes of extent 1."""
    places = sorted(new_axis(shape, axis, len(axes)) for axis in axes)
    if len(set(places)) != len(places):
        raise ValueError(f"axes {list(axes)} name one twice; name distinct axes")
    found = list(shape)
    for place in places:
        found.insert(place, 1)
    return bounded(found)


def repeat(shape: Shape, repeats: int, axis: int) -> Shape:
    """Each index several times."""
    place = axis_of(shape, axis)
    extent = shape[place]
    assert extent is not None
    return bounded([*shape[:place], extent * repeats, *shape[place + 1 :]])


def tile(shape: Shape, repeats: Sequence[int]) -> Shape:
    """The whole several times."""
    if any(each < 1 for each in repeats):
        raise ValueError(f"repeats are {list(repeats)}; give a count from 1 for each axis")
    missing = len(repeats) - len(shape)
    if has_rows(shape) and (missing > 0 or (missing == 0 and repeats[0] != 1)):
        raise ValueError(f"axis 0 of {show(shape)} cannot be repeated; {ROWS_STAY}")
    whole: list[int | None] = [*[1] * max(missing, 0), *shape]
    for offset, count in enumerate(reversed(repeats), 1):
        extent = whole[-offset]
        whole[-offset] = None if extent is None else extent * count
    return bounded(whole)


def pad(shape: Shape, widths: Sequence[Sequence[int]]) -> Shape:
    """More before and after."""
    if len(widths) != len(shape):
        raise ValueError(f"{len(widths)} pairs of widths are given for {show(shape)}; give one pair for each axis")
    if any(each < 0 for pair in widths for each in pair):
        raise ValueError(f"a width of {widths} is below 0; slice to cut")
    if has_rows(shape) and list(widths[0]) != [0, 0]:
        raise ValueError(f"axis 0 of {show(shape)} cannot be padded; {ROWS_STAY}")
    return bounded(
        [
            None if extent is None else extent + before + after
            for extent, (before, after) in zip(shape, widths, strict=True)
        ]
    )


def flip(shape: Shape, axes: Sequence[int] | None) -> Shape:
    """Axes from their end."""
    axes_of(shape, axes)
    return shape
