"""pyspark.ml's Vectors as Arrow columns, all rows at once.

Spark hands a Vector over as ``struct<type, size, indices, values>``: type 1 is dense and has its numbers in ``values``,
type 0 is sparse and has ``size`` numbers, those at ``indices`` being ``values``, the others 0. Wherever there are Vectors
there is NumPy, because pyspark.ml needs it.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["lists_of", "vectors_of"]

SPARSE, DENSE = 0, 1


def lists_of(vectors: pa.StructArray) -> pa.Array:
    """Vectors as lists of float64; null stays null."""
    import numpy

    kind, size, indices, values = vectors.flatten()
    sparse = _numbers(pc.equal(kind, SPARSE), False)
    if not sparse.any():
        return values
    counts = _numbers(pc.list_value_length(values), 0)
    lengths = numpy.where(sparse, _numbers(size, 0), counts)
    ends = numpy.cumsum(lengths)
    row = numpy.repeat(numpy.arange(len(vectors)), counts)
    within = numpy.arange(len(row)) - numpy.repeat(numpy.cumsum(counts) - counts, counts)
    # Dense rows have null for their indices, so what is there is of the sparse rows alone, in their order.
    within[sparse[row]] = indices.flatten().to_numpy(zero_copy_only=False)
    numbers = numpy.zeros(int(ends[-1]))
    numbers[(ends - lengths)[row] + within] = values.flatten().to_numpy(zero_copy_only=False)
    offsets = pa.array(numpy.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(numbers), mask=vectors.is_null())


def _numbers(column: pa.Array, default: Any) -> Any:
    return column.fill_null(default).to_numpy(zero_copy_only=False)


def vectors_of(lists: pa.Array) -> pa.StructArray:
    """Lists of one float64 length as dense Vectors; null stays null."""
    rows = len(lists)
    values = lists.cast(pa.list_(pa.float64()))
    parts = [
        pa.repeat(pa.scalar(DENSE, pa.int8()), rows),
        pa.nulls(rows, pa.int32()),
        pa.nulls(rows, pa.list_(pa.int32())),
        values,
    ]
    return pa.StructArray.from_arrays(parts, ["type", "size", "indices", "values"], mask=values.is_null())
