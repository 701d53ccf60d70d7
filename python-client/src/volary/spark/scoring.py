"""A model's answers beside a DataFrame's columns, batch by batch over one DoExchange stream for each partition.

The driver asks once what the model reads and answers; tasks send those columns alone and hand every column on as it came.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack

import pyarrow as pa
import pyarrow.compute as pc

from .._commands import command
from .._tls import TlsOptions
from .._transport import BatchStream
from ..client import Client
from ..errors import InternalError, InvalidArgumentError
from ..handles import reference
from . import jvm
from .columns import Column, arrow_schema, columns_of, converted
from .names import CASE_SENSITIVE, heeds_case, meant, plainly_named
from .servers import DEFAULT, Servers, task_turn

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType, StructField

__all__ = ["Answer", "ServedNetwork", "Threshold", "predict_udf", "scored"]

Kind = Literal["number", "numbers", "vector", "as_is"]


@dataclass(frozen=True)
class Answer:
    """A column that the model answers, and the one that is made of it.

    ``number`` makes a double of it, ``numbers`` an array of doubles, ``vector`` a Vector of the classes' probabilities;
    ``as_is`` leaves the classes that are texts or booleans.
    """

    source: str
    name: str
    kind: Kind
    type: pa.DataType

    def field(self) -> StructField:
        """The column in Spark's words."""
        from pyspark.sql.types import StructField

        return StructField(self.name, self._spark_type())

    def _spark_type(self) -> DataType:
        from pyspark.sql import types

        from .columns import spark_type

        if self.kind == "vector":
            from pyspark.ml.linalg import VectorUDT

            return VectorUDT()
        if self.kind == "number":
            return types.DoubleType()
        return types.ArrayType(types.DoubleType()) if self.kind == "numbers" else spark_type(self.type, self.name)

    def convert(self, values: pa.Array) -> pa.Array:
        """The values as this column has them."""
        if self.kind == "number":
            return values.cast(pa.float64())
        if self.kind == "numbers":
            return values.cast(pa.list_(pa.float64()))
        if self.kind == "vector":
            from .vectors import vectors_of

            return vectors_of(_probabilities(values))
        return values.cast(self.type)


def _probabilities(values: pa.Array) -> pa.Array:
    """One number per class; of two classes a model answers that of the second alone."""
    if not pa.types.is_floating(values.type):
        return values
    import numpy  # wherever there are Vectors

    second = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return pa.FixedSizeListArray.from_arrays(pa.array(numpy.column_stack((1.0 - second, second)).ravel()), 2)


@dataclass(frozen=True)
class Threshold:
    """Where the second of two classes begins, when it is not at one half."""

    value: float
    classes: tuple[str, str]

    def predict(self, probability: pa.Array, kind: pa.DataType) -> pa.Array:
        """The class of each row."""
        first, second = self.ends(kind)
        return pc.if_else(pc.greater(probability, self.value), second, first)

    def ends(self, kind: pa.DataType) -> pa.Array:
        """The two classes."""
        return pa.array(self.classes).cast(kind)


@dataclass(frozen=True)
class ServedNetwork:
    """One version of a model on the cluster: what it reads, what it answers."""

    servers: Servers
    model: str
    version: int
    inputs: tuple[str, ...]
    answers: pa.Schema
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, servers: Servers, client: Client, model: str, version: int | None) -> ServedNetwork:
        """As the cluster describes it; the newest version is settled here, for all tasks alike."""
        name, version = reference(model, version)
        described = client.model(name, version).describe()
        fields = client._transport.schema(["models", name, str(described.version)])
        answers = pa.schema([fields.field(at) for at in range(len(described.inputs), len(fields))])
        return cls(servers, name, described.version, described.inputs, answers, described.classes)

    def stream(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], turn: int) -> Iterator[pa.RecordBatch]:
        """The answers for each batch, of as many rows."""
        with self.servers.client(turn) as client:
            lengths: deque[int] = deque()

            def counted() -> Iterator[pa.RecordBatch]:
                for batch in batches:
                    lengths.append(batch.num_rows)
                    yield batch

            body = command("Predict", model=self.model, version=self.version)
            stream = client._transport.exchange(body, pa.RecordBatchReader.from_batches(schema, counted()))
            with contextlib.closing(stream):
                yield from _of_lengths(stream, lengths)


def _of_lengths(stream: BatchStream, lengths: deque[int]) -> Iterator[pa.RecordBatch]:
    """The stream's rows in batches of these lengths: a large batch is answered in pieces.

    What is left without an answer when the stream ends is an error: rows would be missing without a word.
    """
    pieces: list[pa.RecordBatch] = []
    rows = 0
    for piece in stream:
        pieces.append(piece)
        rows += piece.num_rows
        if lengths and rows == lengths[0]:
            yield pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
            lengths.popleft()
            pieces, rows = [], 0
    if lengths or rows:
        raise InternalError(
            f"the server ended its answers with {rows} rows of the {sum(lengths)} that are left; ask again"
        )


# -- transform ------------------------------------------------------------------------------------------------------


def scored(
    df: DataFrame,
    network: ServedNetwork,
    renamed: Mapping[str, str],
    answers: Sequence[Answer],
    threshold: Threshold | None = None,
) -> DataFrame:
    """Every column of `df`, then the answers; the same rows in the same order. In Spark's JVM where the session can.

    `renamed` tells the DataFrame's column of an input that has another name there.
    """
    from pyspark.sql.types import StructType

    columns, case = df.columns, heeds_case(df)
    for answer in answers:
        if _taken(answer.name, columns, case):
            raise InvalidArgumentError(
                f'the DataFrame has a column "{answer.name}" already; name the predictions otherwise (setPredictionCol, '
                "setProbabilityCol), or drop it"
            )
    inputs = _inputs(df, network, renamed)
    if jvm.usable(df, network, answers):
        return jvm.added(df, network, {column.name: place for place, column in inputs}, answers, threshold)
    _kept(df)
    task = Scoring(network, inputs, tuple(answers), threshold)
    return plainly_named(df).mapInArrow(task, StructType([*df.schema.fields, *(answer.field() for answer in answers)]))


def _taken(name: str, columns: Sequence[str], case: bool) -> int:
    """How many of the columns Spark calls by this name."""
    return sum(column == name or (not case and column.lower() == name.lower()) for column in columns)


def _kept(df: DataFrame) -> None:
    """Refuse what mapInArrow cannot hand on."""
    columns, case = df.columns, heeds_case(df)
    for field in df.schema.fields:
        if _taken(field.name, columns, case) > 1:
            raise InvalidArgumentError(f'the DataFrame has more than one column "{field.name}"; rename one')
        if (kind := _unkept(field.dataType)) is not None:
            raise InvalidArgumentError(
                f'column "{field.name}" has the Spark type {kind.simpleString()}, which mapInArrow cannot hand on; drop it '
                "before, or use volary.spark.predict_udf, which leaves it where it is"
            )


def _unkept(kind: DataType) -> DataType | None:
    """The type that Spark itself does not exchange through Arrow, at any depth."""
    from pyspark.sql import types

    if type(kind).__name__ in ("CalendarIntervalType", "YearMonthIntervalType"):
        return kind
    within: list[DataType] = []
    if isinstance(kind, types.ArrayType):
        within = [kind.elementType]
    elif isinstance(kind, types.MapType):
        within = [kind.keyType, kind.valueType]
    elif isinstance(kind, types.StructType):
        if len(set(kind.names)) < len(kind.names):
            return kind
        within = [field.dataType for field in kind.fields]
    return next((found for found in map(_unkept, within) if found is not None), None)


def _inputs(df: DataFrame, network: ServedNetwork, renamed: Mapping[str, str]) -> tuple[tuple[int, Column], ...]:
    """Place and way of travelling of each column that the model reads."""
    from pyspark.sql.types import StructType

    places = {name: at for at, name in enumerate(df.columns)}
    columns, case = df.columns, heeds_case(df)
    wanted = {name: meant(renamed.get(name, name), columns, case) for name in network.inputs}
    if lacking := [column for column in wanted.values() if column not in places]:
        raise InvalidArgumentError(
            f'model "{network.model}" reads the column "{lacking[0]}", which the DataFrame does not have; its columns are '
            f"{', '.join(df.columns)}"
        )
    fields = StructType([df.schema.fields[places[column]] for column in wanted.values()])
    ways = columns_of(fields)
    return tuple(
        (places[column], Column(name, _unsized(way), way.vector))
        for (name, column), way in zip(wanted.items(), ways, strict=True)
    )


def _unsized(way: Column) -> pa.DataType:
    """A Vector's length is for the server to check, in its own words."""
    return pa.list_(pa.float64()) if way.vector else way.type


@dataclass(frozen=True)
class Scoring:
    """What a task does with a partition's batches."""

    network: ServedNetwork
    inputs: tuple[tuple[int, Column], ...]
    answers: tuple[Answer, ...]
    threshold: Threshold | None = None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Each batch again, with the answers behind its columns."""
        batches = (batch for batch in batches if batch.num_rows > 0)
        first = next(batches, None)
        if first is None:
            return
        columns = [column for _, column in self.inputs]
        schema = arrow_schema(columns)
        # At most the few batches that are sent ahead of their answers.
        unanswered: deque[pa.RecordBatch] = deque()

        def sent() -> Iterator[pa.RecordBatch]:
            for batch in itertools.chain([first], batches):
                unanswered.append(batch)
                yield converted(batch.select([place for place, _ in self.inputs]), columns, schema)

        for answered in self.network.stream(schema, sent(), task_turn()):
            batch = unanswered.popleft()
            arrays = [*batch.columns, *answer_arrays(answered, self.answers, self.threshold)]
            yield pa.RecordBatch.from_arrays(arrays, [*batch.schema.names, *(answer.name for answer in self.answers)])


def answer_arrays(
    answered: pa.RecordBatch, answers: Sequence[Answer], threshold: Threshold | None = None
) -> list[pa.Array]:
    """The columns that are made of a batch of answers."""
    arrays = []
    for answer in answers:
        values = answered.column(answer.source)
        if threshold is not None and answer.source == "prediction":
            values = threshold.predict(answered.column("probability"), values.type)
        arrays.append(answer.convert(values))
    return arrays


# -- a function of columns ------------------------------------------------------------------------------------------


def predict_udf(
    model: str,
    *,
    output: str = "prediction",
    version: int | None = None,
    server: str | Sequence[str] = DEFAULT,
    headers: Mapping[str, str] | None = None,
    **tls: Unpack[TlsOptions],
) -> Any:
    """An Arrow UDF that answers a model's output for the columns it is called on; the DataFrame's other columns stay in Spark.

    Call it on the columns that the model reads, in the order of ``client.model(name).describe().inputs``, or on one struct
    that has them by name: ``predict_udf("census")(struct("age", "job"))``, ``struct("*")`` included.

    Args:
        model: Its name, or ``census@3`` for one version. The newest version is settled now, for every row alike.
        output: The answer column: ``prediction`` (numbers as double), ``probability`` of the second of two classes,
            ``probabilities`` (an array of doubles), or ``*`` for a struct of all there are.
        version: The version, where the name does not say it.
        server: One address, several with commas between, or a list.
        headers: Sent with every call.
        tls: Certificates, by the names that :func:`volary.connect` has for them: ``tls_root_certs``, ``cert_chain``,
            ``private_key`` (each a PEM file of the driver, or its bytes), ``disable_server_verification``,
            ``override_hostname``.
    """
    from pyspark.sql.functions import arrow_udf
    from pyspark.sql.types import StructType

    servers = Servers.of(server, headers, **tls)
    with servers.client() as client:
        network = ServedNetwork.of(servers, client, model, version)
    names = network.answers.names
    if output != "*" and output not in names:
        raise InvalidArgumentError(
            f'model "{network.model}" does not answer "{output}"; it answers {", ".join(names)} (* is all of them)'
        )
    answers = tuple(plain_answer(network.answers.field(name)) for name in names if output in ("*", name))
    fields = [answer.field() for answer in answers]
    task = UdfScoring(network, answers, struct=output == "*")

    def predict(columns: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        return task(columns)

    predict.__name__ = "".join(each if each.isalnum() else "_" for each in f"predict_{network.model}")
    predict.__annotations__ = {"columns": Iterator[tuple[pa.Array, ...]], "return": Iterator[pa.Array]}
    return arrow_udf(predict, StructType(fields) if output == "*" else fields[0].dataType)


def plain_answer(field: pa.Field, name: str | None = None) -> Answer:
    """An answer column as doubles or arrays of doubles where it is of numbers, and as it is else."""
    kind: Kind = "as_is"
    if pa.types.is_floating(field.type) or pa.types.is_integer(field.type):
        kind = "number"
    elif pa.types.is_fixed_size_list(field.type) or pa.types.is_list(field.type):
        kind = "numbers"
    return Answer(field.name, name or field.name, kind, field.type)


@dataclass(frozen=True)
class UdfScoring:
    """What a task does with the batches of a UDF's arguments."""

    network: ServedNetwork
    answers: tuple[Answer, ...]
    struct: bool

    def __call__(self, columns: Iterator[tuple[pa.Array, ...] | pa.Array]) -> Iterator[pa.Array]:
        """One array for each batch of columns, of as many values."""
        first = next(columns, None)
        if first is None:
            return
        opened = self._batch(first)
        # Batches without rows are answered here: the server is not asked about them, and order is all that ties the rest.
        lengths: deque[int] = deque()

        def sent() -> Iterator[pa.RecordBatch]:
            for batch in itertools.chain([opened], map(self._batch, columns)):
                lengths.append(batch.num_rows)
                if batch.num_rows > 0:
                    yield batch

        for answered in self.network.stream(opened.schema, sent(), task_turn()):
            while lengths and lengths[0] == 0:
                lengths.popleft()
                yield self._array(answered.slice(0, 0))
            lengths.popleft()
            yield self._array(answered)
        for _ in lengths:
            yield self._array(pa.RecordBatch.from_pylist([], self.network.answers))

    def _array(self, answered: pa.RecordBatch) -> pa.Array:
        arrays = answer_arrays(answered, self.answers)
        return pa.StructArray.from_arrays(arrays, [each.name for each in self.answers]) if self.struct else arrays[0]

    def _batch(self, columns: tuple[pa.Array, ...] | pa.Array) -> pa.RecordBatch:
        inputs = self.network.inputs
        if isinstance(columns, pa.Array):  # a single argument comes without its tuple
            columns = (columns,)
        if len(columns) == 1 and pa.types.is_struct(columns[0].type) and not _is_vector_struct(columns[0].type):
            given, case = dict(zip(columns[0].type.names, columns[0].flatten(), strict=True)), _task_heeds_case()
            wanted = {name: meant(name, columns[0].type.names, case, "the struct") for name in inputs}
            if lacking := [name for name, field in wanted.items() if field not in given]:
                raise InvalidArgumentError(
                    f'model "{self.network.model}" reads the column "{lacking[0]}", which the struct does not have; it has '
                    f"{', '.join(given)}"
                )
            columns = tuple(given[field] for field in wanted.values())
        if len(columns) != len(inputs):
            raise InvalidArgumentError(
                f'model "{self.network.model}" reads {len(inputs)} columns and is called on {len(columns)}; give '
                f"{', '.join(inputs)} in this order, or one struct"
            )
        return pa.RecordBatch.from_arrays([_listed(column) for column in columns], list(inputs))


def _task_heeds_case() -> bool:
    """As :func:`heeds_case`, in a task, which has what is set in the session."""
    from pyspark import TaskContext

    task = TaskContext.get()
    return task is not None and str(task.getLocalProperty(CASE_SENSITIVE)).lower() == "true"


def _is_vector_struct(kind: pa.DataType) -> bool:
    return kind.names == ["type", "size", "indices", "values"]


def _listed(column: pa.Array) -> pa.Array:
    if pa.types.is_struct(column.type) and _is_vector_struct(column.type):
        from .vectors import lists_of

        return lists_of(column)
    return column
