"""A column of every Arrow type, for tests that carry them through clients of every kind. Each has a value, then a null."""

from __future__ import annotations

import datetime as dt
import decimal

import pyarrow as pa

MOMENT = dt.datetime(2026, 11, 22, 10, 30, 0)
ZONES = (None, "UTC", "Europe/Berlin")
UNITS = ("s", "ms", "us", "ns")


def _columns() -> dict[str, pa.Array]:
    columns = {"null": pa.nulls(2), "bool": pa.array([True, None])}
    for integer in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        columns[str(integer)] = pa.array([100, None], integer)
    for real in (pa.float16(), pa.float32(), pa.float64()):
        columns[str(real)] = pa.array([1.5, None], real)
    columns |= {
        "string": pa.array(["ä", None]),
        "large_string": pa.array(["ä", None], pa.large_string()),
        "binary": pa.array([b"\x00\xff", None]),
        "large_binary": pa.array([b"\x00\xff", None], pa.large_binary()),
        "fixed_size_binary": pa.array([b"abc", None], pa.binary(3)),
        "date32": pa.array([MOMENT.date(), None], pa.date32()),
        "date64": pa.array([MOMENT.date(), None], pa.date64()),
        "interval": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    }
    for unit in UNITS:
        columns[f"time_{unit}"] = pa.array(
            [MOMENT.time(), None], (pa.time32 if unit in ("s", "ms") else pa.time64)(unit)
        )
        columns[f"duration_{unit}"] = pa.array([5, None], pa.duration(unit))
        for zone in ZONES:
            columns[f"timestamp_{unit}_{zone}"] = pa.array([MOMENT, None], pa.timestamp(unit, zone))
    price = decimal.Decimal("1.25")
    for number in (pa.decimal32(5, 2), pa.decimal64(12, 2), pa.decimal128(20, 2), pa.decimal256(50, 2)):
        columns[f"decimal{number.bit_width}"] = pa.array([price, None], number)
    return columns | {
        "list": pa.array([[1, None], None]),
        "large_list": pa.array([[1], None], pa.large_list(pa.int64())),
        "fixed_size_list": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        "struct": pa.array([{"x": 1, "y": ["a"]}, None]),
        "list_of_structs": pa.array([[{"day": MOMENT.date()}, None], None]),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
    }


EVERY_TYPE = pa.table(_columns())
"""Types that come back as they were sent."""

REPLACED = {
    "string_view": (pa.array(["x", None], pa.string_view()), pa.string()),
    "binary_view": (pa.array([b"x", None], pa.binary_view()), pa.binary()),
    "list_view": (pa.array([[1], None], pa.list_view(pa.int64())), pa.list_(pa.int64())),
    "dictionary": (pa.array(["x", None]).dictionary_encode(), pa.string()),
    "dictionary_of_integers": (pa.array([5, None]).dictionary_encode(), pa.int64()),
    "run_ends": (pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["x", None])), pa.string()),
}
"""Ways of writing values shorter: a column, and the type of its values, which is how it comes back."""
