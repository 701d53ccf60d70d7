"""Feature transforms: what the servers fit on the training rows and apply wherever the model answers.

A transform is a description; the servers do the work. The fitted pipeline is saved with the model. The same facts as
tables are in ``docs/features.md``. "Unseen" is a value that the training rows did not have. Nulls, NaN and infinities
that are left after the last transform are refused with column and row.

>>> pipeline = Pipeline([Impute("age", "median"), Standardize("age"), OneHot(["job", "town"])])
>>> pipeline.to_json()[0]
{'transform': 'impute', 'columns': ['age'], 'strategy': 'median'}
>>> Pipeline.from_json(pipeline.to_json()) == pipeline
True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from ._commands import plain

__all__ = [
    "Bucketize",
    "Clip",
    "Cross",
    "Drop",
    "Expression",
    "Hash",
    "Impute",
    "Log1p",
    "MinMax",
    "OneHot",
    "Pipeline",
    "Standardize",
    "StringIndex",
    "Transform",
]

Columns = str | Sequence[str]


@dataclass(frozen=True)
class Transform:
    """Base of every transform."""

    transform: ClassVar[str]

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "columns":
                value = (value,) if isinstance(value, str) else tuple(value)
            value = plain(value, f"{each.name} of {type(self).__name__}")
            object.__setattr__(self, each.name, tuple(value) if isinstance(value, list) else value)

    def to_json(self) -> dict[str, Any]:
        """The JSON form; options left at ``None`` are left out."""
        form: dict[str, Any] = {"transform": self.transform}
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None:
                form[each.metadata.get("name", each.name)] = list(value) if isinstance(value, tuple) else value
        return form


@dataclass(frozen=True)
class Impute(Transform):
    """Nulls (and NaN) become the column's mean, median or most frequent value, or ``fill_value`` (strategy "constant").

    Learns that value from the values that are there (the median is exact). Unseen values pass. Makes float64 for mean and
    median, which take numbers; the column's own kind otherwise, from numbers, booleans or text.
    """

    transform = "impute"
    columns: Columns
    strategy: Literal["mean", "median", "most_frequent", "constant"] = "median"
    fill_value: float | int | str | bool | None = None


@dataclass(frozen=True)
class Standardize(Transform):
    """Subtract the mean, divide by the standard deviation (of the population, as scikit-learn does).

    Learns both; a column of one value is only moved. Nulls stay null, unseen values get the same arithmetic. Makes float64.
    """

    transform = "standardize"
    columns: Columns


@dataclass(frozen=True)
class MinMax(Transform):
    """Stretch the training rows' range onto 0 to 1.

    Learns least and largest value; a column of one value is only moved. Nulls stay null, unseen values get the same
    arithmetic and may leave 0 to 1. Makes float64.
    """

    transform = "min_max"
    columns: Columns


@dataclass(frozen=True)
class OneHot(Transform):
    """One 0/1 number per category met in training, in sorted order; nulls are a category of their own if any was met.

    Learns the categories of text, integers or booleans, 10,000 at most; that of null is the last. Unseen categories (null
    among them if training met none), and those that ``max_categories`` or ``min_frequency`` leave out, share one more
    number ("bucket") or are all zeros ("ignore"). Makes a list of float32 of fixed size.
    """

    transform = "one_hot"
    columns: Columns
    handle_unknown: Literal["bucket", "ignore"] = "bucket"
    max_categories: int | None = None
    min_frequency: int | None = None


@dataclass(frozen=True)
class StringIndex(Transform):
    """Categories become integers from 1, the most frequent first; nulls and unseen ones become 0. For an embedding.

    Learns the categories of text, integers or booleans, 2,000,000 at most; those that ``max_categories`` or
    ``min_frequency`` leave out count as unseen. Makes int32; an embedding of n categories needs ``input_dim`` n + 1.
    """

    transform = "string_index"
    columns: Columns
    max_categories: int | None = None
    min_frequency: int | None = None


@dataclass(frozen=True)
class Hash(Transform):
    """Text, numbers or booleans become integers from 0 to ``buckets`` - 1 by a fixed hash (murmur3).

    Learns nothing. A null is hashed as a value of its own; unseen values are hashed as any other. Makes int32.
    """

    transform = "hash"
    columns: Columns
    buckets: int


@dataclass(frozen=True)
class Bucketize(Transform):
    """Numbers become the index of their bucket: given ``boundaries``, or so many ``quantiles`` of the training rows.

    Learns the boundaries of ``quantiles`` (exact, equal ones once). A value equal to a boundary is in the bucket above it;
    values beyond the ends are in the first or the last bucket. Nulls stay null, and NaN becomes null. Makes int32.
    """

    transform = "bucketize"
    columns: Columns
    boundaries: Sequence[float] | None = None
    quantiles: int | None = None


@dataclass(frozen=True)
class Log1p(Transform):
    """log(1 + x).

    Learns nothing. Nulls stay null. Values of -1 and below have no finite answer and are refused. Makes float64.
    """

    transform = "log1p"
    columns: Columns


@dataclass(frozen=True)
class Clip(Transform):
    """Numbers outside the range become its nearer end; give ``minimum``, ``maximum`` or both.

    Learns nothing. Nulls stay null. Makes float64.
    """

    transform = "clip"
    columns: Columns
    minimum: float | None = field(default=None, metadata={"name": "min"})
    maximum: float | None = field(default=None, metadata={"name": "max"})


@dataclass(frozen=True)
class Cross(Transform):
    """A new integer column ``name``: the combination of the columns' values, hashed into ``buckets``.

    Learns nothing. A null is a value of its own; unseen combinations are hashed as any other. Makes int32; ``columns`` stay.
    """

    transform = "cross"
    columns: Columns
    name: str
    buckets: int


@dataclass(frozen=True)
class Expression(Transform):
    """A new column ``name`` by a SQL expression over the columns so far.

    Learns nothing. Nulls and unseen values become what SQL says; the type is the expression's.
    """

    transform = "expression"
    name: str
    sql: str


@dataclass(frozen=True)
class Drop(Transform):
    """Columns that the network shall not read; earlier transforms may."""

    transform = "drop"
    columns: Columns


_BY_NAME: dict[str, type[Transform]] = {
    kind.transform: kind
    for kind in (
        Impute,
        Standardize,
        MinMax,
        OneHot,
        StringIndex,
        Hash,
        Bucketize,
        Log1p,
        Clip,
        Cross,
        Expression,
        Drop,
    )
}


class Pipeline:
    """Transforms in the order in which they are applied."""

    def __init__(self, steps: Iterable[Transform] = ()) -> None:
        self.steps = tuple(steps)
        for step in self.steps:
            if not isinstance(step, Transform):
                raise TypeError(f"a pipeline holds transforms of volary.features, not {type(step).__name__}")

    def to_json(self) -> list[dict[str, Any]]:
        """The JSON form: one object per transform."""
        return [step.to_json() for step in self.steps]

    @classmethod
    def from_json(cls, steps: Iterable[Mapping[str, Any]]) -> Pipeline:
        """The pipeline of a JSON form."""
        made = []
        for step in steps:
            options = dict(step)
            name = options.pop("transform", None)
            if name not in _BY_NAME:
                raise ValueError(f'unknown transform "{name}"; there are {", ".join(sorted(_BY_NAME))}')
            kind = _BY_NAME[name]
            names = {each.metadata.get("name", each.name): each.name for each in fields(kind)}
            made.append(kind(**{names[key]: value for key, value in options.items()}))
        return cls(made)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(self.steps)

    def __repr__(self) -> str:
        return "Pipeline([\n" + "".join(f"    {step},\n" for step in self.steps) + "])"
