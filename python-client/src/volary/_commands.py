"""Commands in their proto3 JSON form, and tolerant reading of answers.

The messages are those of ``flight-protos/volary/v1``. proto3 JSON writes names in camelCase, 64-bit integers as text,
and leaves default values out; :func:`read` accepts every form that the mapping allows.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .errors import InvalidArgumentError

__all__ = ["command", "decode", "encode", "integer", "number", "plain", "read", "source", "timestamp"]

TYPE_PREFIX = "type.googleapis.com/volary.v1."


def command(message: str, **fields: Any) -> dict[str, Any]:
    """A command for a descriptor; fields that are ``None`` are left out.

    >>> command("Query", sql="SELECT 1")
    {'@type': 'type.googleapis.com/volary.v1.Query', 'sql': 'SELECT 1'}
    """
    return {"@type": TYPE_PREFIX + message, **{name: value for name, value in fields.items() if value is not None}}


def encode(message: Mapping[str, Any]) -> bytes:
    """JSON bytes; whatever holds a plain value (see :func:`plain`) is taken."""
    return json.dumps(plain(message), allow_nan=False, separators=(",", ":")).encode()


def plain(value: Any, name: str = "") -> Any:
    """A value of `name` as JSON has it: numbers, lists and texts of NumPy, pandas and others become Python's own.

    NaN and infinity, for which JSON has no form, are refused by name, and so is what is no value at all.

    >>> import numpy
    >>> plain({"units": numpy.int64(64), "boundaries": numpy.array([0.5, 1.5])})
    {'units': 64, 'boundaries': [0.5, 1.5]}
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        within = f" of {name}" if name else ""
        return {plain(key, name): plain(each, f"{key}{within}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, name) for each in value]
    if callable(listed := getattr(value, "tolist", None)) and type(own := listed()) is not type(value):
        return plain(own, name)
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name or 'a value'} is of type {type(value).__name__}; give a number, a text, or a list or dict of them"
        ) from None
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{name or 'a value'} is {number}; give a finite number")
    return number


def decode(body: bytes) -> dict[str, Any]:
    """The object of an answer's bytes; an empty answer is an empty object."""
    answer = json.loads(body) if body else {}
    if not isinstance(answer, dict):
        raise TypeError(f"an answer is not a JSON object: {body[:80]!r}")
    return answer


def read(answer: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """A field by its proto name, found as camelCase or as written.

    >>> read({"rowsPerSecond": 3.5}, "rows_per_second")
    3.5
    """
    head, *tail = name.split("_")
    value = answer.get(head + "".join(word.capitalize() for word in tail), answer.get(name))
    return default if value is None else value


def integer(answer: Mapping[str, Any], name: str) -> int:
    """An integer field: text or number, 0 when left out."""
    return int(read(answer, name, 0))


def number(answer: Mapping[str, Any], name: str) -> float:
    """A floating field: number, or ``"NaN"`` and ``"Infinity"`` as text; 0 when left out."""
    return float(read(answer, name, 0.0))


def timestamp(answer: Mapping[str, Any], name: str) -> datetime | None:
    """An RFC 3339 time, ``None`` when left out; more than six fractional digits are cut.

    >>> timestamp({"started": "2026-11-22T10:00:00.123456789Z"}, "started").isoformat()
    '2026-11-22T10:00:00.123456+00:00'
    """
    text = read(answer, name)
    if not text:
        return None
    moment, fraction = str(text).replace("Z", "+00:00"), ""
    if "." in moment:
        head, tail = moment.split(".", 1)
        digits = len(tail) - len(tail.lstrip("0123456789"))
        moment, fraction = head + tail[digits:], tail[:digits]
    return datetime.fromisoformat(moment).replace(microsecond=int(fraction[:6].ljust(6, "0") or 0)).astimezone(UTC)


def source(*, table: str | None = None, query: str | None = None, path: str | None = None) -> dict[str, str]:
    """A ``Source``: exactly one of its three forms."""
    given = {name: value for name, value in (("table", table), ("query", query), ("path", path)) if value is not None}
    if len(given) != 1:
        raise TypeError(f"give exactly one of table, query and path; got {', '.join(given) or 'none'}")
    return given
