"""How Spark's columns travel: the Arrow type of each, decided on the driver before any row moves, and batches brought to it.

A Spark type that cannot travel is refused by column and type. Fields go as nullable and without Spark's own metadata, as
Spark itself writes files, so that a later DataFrame can be appended. pyspark is asked for types alone; :func:`converted`,
which runs on executors, knows Arrow only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..errors import InvalidArgumentError

if TYPE_CHECKING:
    from pyspark.sql.types import DataType, StructType

__all__ = ["Column", "arrow_schema", "columns_of", "converted", "is_vector", "spark_schema", "spark_type"]

VECTOR_HINT = "pyspark.ml.functions.vector_to_array makes an array of it"


@dataclass(frozen=True)
class Column:
    """One column under way. ``vector`` marks pyspark.ml's Vector, which Spark hands over as a struct of four."""

    name: str
    type: pa.DataType
    vector: bool = False

    def convert(self, values: pa.Array) -> pa.Array:
        """The values as this column's type; what does not fit is refused by the column's name."""
        if self.vector:
            from .vectors import lists_of

            values = lists_of(values)
        if values.type.equals(self.type):
            return values
        try:
            return values.cast(self.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InvalidArgumentError(
                f'column "{self.name}" has a value that is no {_words(self.type)}: {error}'
            ) from None


def _words(kind: pa.DataType) -> str:
    return f"list of {kind.list_size} numbers" if pa.types.is_fixed_size_list(kind) else str(kind)


def is_vector(kind: DataType) -> bool:
    """Whether it is pyspark.ml's (or pyspark.mllib's) Vector."""
    return type(kind).__name__ == "VectorUDT" and type(kind).__module__.startswith("pyspark.ml")


def columns_of(
    schema: StructType, *, sizes: Mapping[str, int] | None = None, whole: Collection[str] = ()
) -> list[Column]:
    """The columns of a DataFrame under way; a type that cannot travel is refused.

    Args:
        schema: The DataFrame's.
        sizes: Columns of vectors or arrays that are all of one length, which they then have as their type.
        whole: Columns of numbers that are classes: 0.0 and 1.0 become the integers that they are.
    """
    _distinct([field.name for field in schema.fields], "the DataFrame")
    columns = []
    for field in schema.fields:
        size = (sizes or {}).get(field.name)
        if is_vector(field.dataType):
            size = (field.metadata.get("ml_attr") or {}).get("num_attrs") if size is None else size
            columns.append(Column(field.name, pa.list_(pa.float64(), -1 if size is None else size), vector=True))
            continue
        kind = _arrow_type(field.dataType, field.name)
        if size is not None:
            kind = pa.list_(kind.value_type, size)
        if field.name in whole and (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            kind = pa.int64()
        columns.append(Column(field.name, kind))
    return columns


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """Their schema."""
    return pa.schema([pa.field(column.name, column.type) for column in columns])


def converted(batch: pa.RecordBatch, columns: Sequence[Column], schema: pa.Schema) -> pa.RecordBatch:
    """A batch as Spark hands it over, with these columns in this order."""
    arrays = [column.convert(values) for column, values in zip(columns, batch.columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _distinct(names: Sequence[str], what: str) -> None:
    met: dict[str, str] = {}
    for name in names:
        if (other := met.setdefault(name.lower(), name)) != name or names.count(name) > 1:
            raise InvalidArgumentError(
                f'{what} has the columns "{other}" and "{name}", which differ in case at most; rename one'
            )


def _refusal(column: str, kind: DataType, hint: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f'column "{column}" has the Spark type {kind.simpleString()}, which cannot travel; {hint}'
    )


def _arrow_type(kind: DataType, column: str) -> pa.DataType:
    """The Arrow type of a Spark type. `column` is the column's name, or the path to a value within it."""
    from pyspark.sql import types

    plain: dict[str, pa.DataType] = {
        "BooleanType": pa.bool_(),
        "ByteType": pa.int8(),
        "ShortType": pa.int16(),
        "IntegerType": pa.int32(),
        "LongType": pa.int64(),
        "FloatType": pa.float32(),
        "DoubleType": pa.float64(),
        "StringType": pa.string(),
        "CharType": pa.string(),
        "VarcharType": pa.string(),
        "BinaryType": pa.binary(),
        "DateType": pa.date32(),
        "TimestampType": pa.timestamp("us", "UTC"),
        "TimestampNTZType": pa.timestamp("us"),
        "TimeType": pa.time64("ns"),
        "DayTimeIntervalType": pa.duration("us"),
        "NullType": pa.null(),
    }
    name = type(kind).__name__
    if name in plain:
        return plain[name]
    if isinstance(kind, types.DecimalType):
        return pa.decimal128(kind.precision, kind.scale)
    if isinstance(kind, types.ArrayType):
        return pa.list_(_arrow_type(kind.elementType, f"{column}.element"))
    if isinstance(kind, types.MapType):
        return pa.map_(_arrow_type(kind.keyType, f"{column}.key"), _arrow_type(kind.valueType, f"{column}.value"))
    if isinstance(kind, types.StructType):
        if not kind.fields:
            raise _refusal(column, kind, "a struct needs at least one field")
        _distinct(kind.names, f'column "{column}"')
        return pa.struct([(field.name, _arrow_type(field.dataType, f"{column}.{field.name}")) for field in kind.fields])
    if is_vector(kind):
        raise _refusal(column, kind, f"a Vector is a column of its own; {VECTOR_HINT}")
    if isinstance(kind, types.UserDefinedType):
        raise _refusal(column, kind, "of user-defined types only pyspark.ml's Vector is known; take its parts apart")
    hints = {
        "CalendarIntervalType": "make a number or a day-time interval of it",
        "YearMonthIntervalType": "cast it to a number of months: cast(x as int)",
        "VariantType": "make text of it with to_json(x), or a type with variant_get",
        "GeometryType": "make binary of it with st_asbinary(x)",
        "GeographyType": "make binary of it with st_asbinary(x)",
    }
    raise _refusal(column, kind, hints.get(name, "cast it to a type that Arrow has, or leave the column out"))


def spark_schema(schema: pa.Schema) -> StructType:
    """The schema of a DataFrame for rows that a cluster answers; a type that Spark does not have is refused by column."""
    from pyspark.sql.types import StructField, StructType

    _distinct(schema.names, "the dataset")
    return StructType([StructField(field.name, spark_type(field.type, field.name)) for field in schema])


def spark_type(kind: pa.DataType, column: str) -> DataType:
    """The Spark type that holds an Arrow type's values; `column` is the path to it."""
    from pyspark.sql import types

    is_ = pa.types
    plain: list[tuple[Any, Any]] = [
        (is_.is_null, types.NullType),
        (is_.is_boolean, types.BooleanType),
        (is_.is_int8, types.ByteType),
        (lambda each: is_.is_int16(each) or is_.is_uint8(each), types.ShortType),
        (lambda each: is_.is_int32(each) or is_.is_uint16(each), types.IntegerType),
        (lambda each: is_.is_int64(each) or is_.is_uint32(each), types.LongType),
        (lambda each: is_.is_float16(each) or is_.is_float32(each), types.FloatType),
        (is_.is_float64, types.DoubleType),
        (lambda each: is_.is_string(each) or is_.is_large_string(each), types.StringType),
        (lambda each: is_.is_binary(each) or is_.is_large_binary(each), types.BinaryType),
        (is_.is_fixed_size_binary, types.BinaryType),
        (is_.is_date, types.DateType),
        (is_.is_duration, types.DayTimeIntervalType),
    ]
    for holds, answer in plain:
        if holds(kind):
            return answer()  # type: ignore[no-any-return]
    if is_.is_uint64(kind):
        return types.DecimalType(20, 0)
    if is_.is_decimal(kind) and 0 <= kind.scale <= kind.precision <= 38:
        return types.DecimalType(kind.precision, kind.scale)
    if is_.is_timestamp(kind):
        return types.TimestampNTZType() if kind.tz is None else types.TimestampType()
    if is_.is_time(kind) and hasattr(types, "TimeType"):
        return types.TimeType()
    if is_.is_list(kind) or is_.is_large_list(kind) or is_.is_fixed_size_list(kind):
        return types.ArrayType(spark_type(kind.value_type, f"{column}.element"))
    if is_.is_map(kind):
        key, value = spark_type(kind.key_type, f"{column}.key"), spark_type(kind.item_type, f"{column}.value")
        return types.MapType(key, value)
    if is_.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        return types.StructType(
            [types.StructField(field.name, spark_type(field.type, f"{column}.{field.name}")) for field in fields]
        )
    raise InvalidArgumentError(
        f'column "{column}" has the type {kind}, which Spark does not have; leave it out by columns='
    )
