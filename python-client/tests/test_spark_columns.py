"""How Spark's types travel, and which are refused; without a running Spark."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from volary.errors import InvalidArgumentError

types = pytest.importorskip("pyspark.sql.types", reason="pyspark is not installed")

from volary.spark import columns  # noqa: E402


def travelling(kind, **options):
    """The column of one Spark type under way."""
    return columns.columns_of(types.StructType([types.StructField("c", kind, False)]), **options)[0]


@pytest.mark.parametrize(
    ("kind", "arrow"),
    [
        (types.BooleanType(), pa.bool_()),
        (types.ByteType(), pa.int8()),
        (types.DoubleType(), pa.float64()),
        (types.StringType(), pa.string()),
        (types.BinaryType(), pa.binary()),
        (types.DateType(), pa.date32()),
        (types.TimestampType(), pa.timestamp("us", "UTC")),
        (types.TimestampNTZType(), pa.timestamp("us")),
        (types.DayTimeIntervalType(), pa.duration("us")),
        (types.DecimalType(20, 4), pa.decimal128(20, 4)),
        (types.ArrayType(types.FloatType(), False), pa.list_(pa.float32())),
        (types.MapType(types.StringType(), types.LongType()), pa.map_(pa.string(), pa.int64())),
        (types.StructType().add("a", "integer").add("b", "string"), pa.struct([("a", pa.int32()), ("b", pa.string())])),
    ],
    ids=lambda each: str(each)[:24],
)
def test_a_type_travels_as_its_arrow_type_and_comes_back_as_itself(kind, arrow):
    column = travelling(kind)
    assert column.type == arrow
    assert columns.arrow_schema([column]).field(0).nullable, "an appended DataFrame may have nulls"
    back = columns.spark_type(arrow, "c")
    assert back == kind or isinstance(kind, types.ArrayType)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (types.CalendarIntervalType(), 'column "c" has the Spark type interval, which cannot travel; make a number'),
        (types.YearMonthIntervalType(), "interval year to month, which cannot travel; cast it to a number of months"),
        (types.VariantType(), "variant, which cannot travel; make text of it"),
        (types.StructType(), "a struct needs at least one field"),
        (types.ArrayType(types.VariantType()), r'column "c.element" has the Spark type variant'),
        (
            types.MapType(types.StringType(), types.CalendarIntervalType()),
            r'column "c.value" has the Spark type interval',
        ),
        (types.StructType().add("a", types.YearMonthIntervalType()), r'column "c.a" has the Spark type interval year'),
        (types.StructType().add("a", "integer").add("A", "integer"), 'column "c" has the columns "a" and "A"'),
    ],
    ids=str,
)
def test_a_type_that_cannot_travel_is_refused_by_column_and_type(kind, told):
    with pytest.raises(InvalidArgumentError, match=told):
        travelling(kind)


def test_vectors_travel_alone_and_other_user_types_not_at_all():
    linalg = pytest.importorskip("pyspark.ml.linalg")
    assert travelling(linalg.VectorUDT()).type == pa.list_(pa.float64())
    assert travelling(linalg.VectorUDT(), sizes={"c": 3}).type == pa.list_(pa.float64(), 3)
    with pytest.raises(InvalidArgumentError, match="vector_to_array makes an array of it"):
        travelling(types.ArrayType(linalg.VectorUDT()))
    with pytest.raises(InvalidArgumentError, match="of user-defined types only"):
        travelling(linalg.MatrixUDT())


def test_two_columns_that_differ_in_case_are_refused():
    schema = types.StructType().add("a", "integer").add("A", "integer")
    with pytest.raises(InvalidArgumentError, match='"a" and "A", which differ in case at most'):
        columns.columns_of(schema)


def test_the_length_of_vectors_is_read_from_what_spark_says_of_them():
    linalg = pytest.importorskip("pyspark.ml.linalg")
    field = types.StructField("c", linalg.VectorUDT(), True, {"ml_attr": {"num_attrs": 5}})
    assert columns.columns_of(types.StructType([field]))[0].type == pa.list_(pa.float64(), 5)


def vectors(*rows):
    """Vectors as Spark hands them over: a list is dense, a tuple is (size, indices, values), None is null."""

    def parts(row):
        if row is None:
            return None
        if isinstance(row, tuple):
            return {"type": 0, "size": row[0], "indices": row[1], "values": row[2]}
        return {"type": 1, "size": None, "indices": None, "values": row}

    numbers, places = pa.list_(pa.float64()), pa.list_(pa.int32())
    kind = pa.struct([("type", pa.int8()), ("size", pa.int32()), ("indices", places), ("values", numbers)])
    return pa.array([parts(row) for row in rows], kind)


@pytest.mark.parametrize(
    "rows",
    [([1.0, 2.0], [3.0, 4.0]), ([1.0, 2.0], None, (2, [1], [4.0])), (None, (2, [], []), (2, [0, 1], [5.0, 6.0])), ()],
)
def test_dense_and_sparse_vectors_become_lists_wherever_they_are_cut(rows):
    from volary.spark.vectors import lists_of

    def plain(row):
        if isinstance(row, tuple):
            return [dict(zip(row[1], row[2], strict=True)).get(place, 0.0) for place in range(row[0])]
        return row

    told = vectors([9.0], *rows, (1, [0], [8.0]))
    assert lists_of(told).to_pylist() == [[9.0], *map(plain, rows), [8.0]]
    assert lists_of(told.slice(1, len(rows))).to_pylist() == [plain(row) for row in rows]


def test_a_vector_of_another_length_is_refused_by_its_column():
    linalg = pytest.importorskip("pyspark.ml.linalg")
    column = travelling(linalg.VectorUDT(), sizes={"c": 2})
    assert column.convert(vectors([1.0, 2.0], None)).to_pylist() == [[1.0, 2.0], None]
    with pytest.raises(InvalidArgumentError, match='column "c" has a value that is no list of 2 numbers'):
        column.convert(vectors([1.0, 2.0], [1.0, 2.0, 3.0]))


def test_labels_that_are_doubles_travel_as_the_whole_numbers_that_they_are():
    column = travelling(types.DoubleType(), whole={"c"})
    assert column.convert(pa.array([0.0, 1.0, None])).to_pylist() == [0, 1, None]
    with pytest.raises(InvalidArgumentError, match='column "c" has a value that is no int64'):
        column.convert(pa.array([0.5]))


def test_what_spark_does_not_have_is_refused_by_column():
    with pytest.raises(InvalidArgumentError, match='column "c" has the type month_day_nano_interval'):
        columns.spark_schema(pa.schema([("c", pa.month_day_nano_interval())]))


def test_neither_volary_nor_its_executors_import_pyspark_ml():
    program = (
        "import sys, volary{}; sys.exit(sorted(name for name in sys.modules if name.startswith('pyspark{}')) != [])"
    )
    for imported, unwanted in (("", ""), (", volary.spark", ""), (", volary.spark.writing, volary.spark.scoring", "")):
        subprocess.run([sys.executable, "-c", program.format(imported, unwanted)], check=True)
