"""A DataFrame as one atomic upload in parts: each partition is a part, and the driver commits one attempt of each.

A task that fails and is tried again, that runs twice for speculation, or whose whole stage is run again sends its part under
another attempt. Spark answers the driver with the rows of one attempt for each partition, and exactly those are committed.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Unpack

import pyarrow as pa

from .. import errors
from .._tls import TlsOptions
from ..client import Client
from ..handles import Table
from ..uploads import Part
from .columns import Column, arrow_schema, columns_of, converted
from .names import plainly_named
from .servers import DEFAULT, Servers

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import DataFrame

__all__ = ["upload", "write_dataframe"]

Mode = Literal["error", "append", "overwrite"]
#: What a task answers the driver; none for a partition without rows.
REPORTED = "part bigint, attempt bigint, rows bigint"
REPORTED_SCHEMA = pa.schema([("part", pa.int64()), ("attempt", pa.int64()), ("rows", pa.int64())])
#: The part that the driver sends itself, without rows: its attempt 0 is committed where a DataFrame has none, so that the
#: schema is kept; further attempts only tell the cluster that the driver lives.
DRIVER_PART = "driver"
#: The cluster's own, where none is asked for.
LIFETIME_SECONDS = 3600
#: Signs of life in one lifetime, so that one that is lost does no harm.
SIGNS_PER_LIFETIME = 4


def write_dataframe(
    df: DataFrame,
    dataset: str,
    *,
    server: str | Sequence[str] = DEFAULT,
    mode: Mode = "error",
    lifetime_seconds: int | None = None,
    headers: Mapping[str, str] | None = None,
    **tls: Unpack[TlsOptions],
) -> Table:
    """Stream a DataFrame's partitions side by side into a dataset, as one version; answers that version.

    Args:
        df: The DataFrame. A column of a type that cannot travel is refused by its name before any row is sent.
        dataset: Its name on the cluster.
        server: One address, several with commas between, or a list; partitions go to them in turn.
        mode: What to do when the dataset exists: ``error`` refuses, ``append`` adds a version with these rows added,
            ``overwrite`` a version with these rows alone.
        lifetime_seconds: After so long without a sign of the driver the cluster gives the upload up; an hour when left out.
            The driver gives one every quarter of it, so the rows themselves may take as long as they like.
        headers: Sent with every call, such as ``{"authorization": "Bearer ..."}``.
        tls: Certificates, by the names that :func:`volary.connect` has for them: ``tls_root_certs``, ``cert_chain``,
            ``private_key`` (each a PEM file of the driver, or its bytes), ``disable_server_verification``,
            ``override_hostname``.

    When it returns, the version is committed. When it raises, there is no trace of it; when the driver dies, what was sent
    is removed once the upload's lifetime is over.
    """
    servers = Servers.of(server, headers, **tls)
    columns = columns_of(df.schema)
    return upload(servers.client(), df, dataset, servers, columns, mode, lifetime_seconds)[0]


def upload(
    client: Client,
    df: DataFrame,
    dataset: str,
    servers: Servers,
    columns: Sequence[Column],
    mode: Mode = "error",
    lifetime_seconds: int | None = None,
) -> tuple[Table, int]:
    """Write the DataFrame, whose columns travel as `columns` say; answers the version and its rows."""
    schema = arrow_schema(columns)
    with client.begin_upload(dataset, mode, schema, lifetime_seconds) as begun:
        alive = _signs_of_life(servers, begun.id, schema, lifetime_seconds or LIFETIME_SECONDS)
        with server_words(), alive, _uncounted_bytes(df, schema):
            answered = plainly_named(df).mapInArrow(PartSender(servers, begun.id, tuple(columns)), REPORTED).collect()
        parts = [Part(str(row.part), row.attempt, row.rows) for row in sorted(answered)]
        committed = parts or [begun.put_part(DRIVER_PART, schema.empty_table())]
        return begun.commit(committed), sum(part.rows for part in parts)


@dataclass(frozen=True)
class PartSender:
    """What a task does with a partition's batches: send them, and answer what was sent."""

    servers: Servers
    upload: str
    columns: tuple[Column, ...]

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row of `REPORTED`; none where the partition has no rows."""
        from pyspark import TaskContext

        task = TaskContext.get()
        assert task is not None
        # The attempt's number begins again at 0 when a whole stage is run again; the task's id is never given twice.
        attempt = task.taskAttemptId() & 0xFFFF_FFFF
        batches = (batch for batch in batches if batch.num_rows > 0)
        first = next(batches, None)
        if first is None:
            return
        schema = arrow_schema(self.columns)
        rows = (converted(batch, self.columns, schema) for batch in itertools.chain([first], batches))
        part = task.partitionId()
        with self.servers.client(part + task.attemptNumber()) as client:
            reader = pa.RecordBatchReader.from_batches(schema, rows)
            sent = client.upload(self.upload).put_part(part, reader, attempt).rows
        yield pa.RecordBatch.from_pydict({"part": [part], "attempt": [attempt], "rows": [sent]}, REPORTED_SCHEMA)


@contextlib.contextmanager
def _signs_of_life(servers: Servers, number: str, schema: pa.Schema, lifetime_seconds: int) -> Iterator[None]:
    """Tell the cluster that the driver lives, from a thread, for the time of the block.

    Parts are a sign too, but a shuffle before the first part, or a partition that takes long, has none.
    """
    over = threading.Event()

    def tell() -> None:
        attempt = 0
        while not over.wait(lifetime_seconds / SIGNS_PER_LIFETIME):
            attempt += 1
            # A server that cannot be reached now may be the next time; one that has given the upload up tells the tasks.
            with contextlib.suppress(errors.VolaryError), servers.client(attempt) as client:
                client.upload(number).put_part(DRIVER_PART, schema.empty_table(), attempt)

    teller = threading.Thread(target=tell, name=f"volary upload {number}", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


BYTES_PER_BATCH = "spark.sql.execution.arrow.maxBytesPerBatch"
RECORDS_PER_BATCH = "spark.sql.execution.arrow.maxRecordsPerBatch"
#: The limit under which Spark does not count.
UNCOUNTED_BYTES = (1 << 31) - 1


@contextlib.contextmanager
def _uncounted_bytes(df: DataFrame, schema: pa.Schema) -> Iterator[None]:
    """Spare Spark the counting of bytes in the jobs of this thread, for the time of the block, where no batch reaches its limit.

    Before each row Spark 4.3 adds up the bytes of all columns of the batch so far, which for many columns takes as long as
    writing them. The session stays as it is, and a limit that is set there holds.
    """
    context = _counting_in_vain(df, schema)
    if context is None:
        yield
        return
    before = context.getLocalProperty(BYTES_PER_BATCH)
    context.setLocalProperty(BYTES_PER_BATCH, str(UNCOUNTED_BYTES))
    try:
        yield
    finally:
        context.setLocalProperty(BYTES_PER_BATCH, before)  # type: ignore[arg-type]


def _counting_in_vain(df: DataFrame, schema: pa.Schema) -> SparkContext | None:
    """The context of a DataFrame whose batches have their full number of rows before they reach the limit of bytes."""
    from pyspark.errors import PySparkException

    session = df.sparkSession
    try:
        context = session.sparkContext
        records, limit = int(session.conf.get(RECORDS_PER_BATCH) or 0), session.conf.get(BYTES_PER_BATCH) or ""
    except PySparkException:  # Spark Connect has no local properties, an older Spark no such limit
        return None
    limit = limit.removesuffix("b")
    if records <= 0 or not limit.isdigit():
        return None
    width = _row_bytes(schema)
    if width is None and (df.storageLevel.useMemory or df.storageLevel.useDisk):
        width = _row_bytes(schema, _longest(df, schema))
    return context if width is not None and records * width <= int(limit) else None


def _longest(df: DataFrame, schema: pa.Schema) -> dict[str, int]:
    """The bytes of the longest value of each column of texts or bytes. That is a pass over those columns, which is quick where
    they lie in Spark's memory; nothing is asked where other columns may be of any length too."""
    from pyspark.sql import functions

    places = [place for place, field in enumerate(schema) if _is_bytes(field.type)]
    names = [schema.field(place).name for place in places]
    if not places or _row_bytes(schema, dict.fromkeys(names, 0)) is None:
        return {}
    numbered = df.toDF(*map(str, range(len(schema))))
    found = numbered.agg(
        *(functions.max(functions.octet_length(functions.col(str(place)))) for place in places)
    ).first()
    assert found is not None
    return {name: length or 0 for name, length in zip(names, found, strict=True)}


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_binary(kind)


def _row_bytes(fields: Iterable[pa.Field], longest: Mapping[str, int] | None = None) -> int | None:
    """The bytes that a row takes at most in Arrow; none where a value may be of any length that `longest` does not tell.

    >>> _row_bytes(pa.schema({"a": pa.float64(), "b": pa.bool_(), "c": pa.struct({"d": pa.int16()})}))
    15
    >>> _row_bytes(pa.schema({"a": pa.float64(), "b": pa.string()}))
    >>> _row_bytes(pa.schema({"a": pa.float64(), "b": pa.string()}), {"b": 7})
    21
    """
    total = 0
    for field in fields:
        if longest and _is_bytes(field.type):
            within = longest[field.name] + 4 if field.name in longest else None  # and where it ends
        elif pa.types.is_struct(field.type):
            within = _row_bytes(field.type.field(at) for at in range(field.type.num_fields))
        else:
            fixed = pa.types.is_primitive(field.type) or pa.types.is_decimal(field.type)
            within = (field.type.bit_width + 7) // 8 if fixed else None
        if within is None:
            return None
        total += within + 1  # whether it is null
    return total


_RAISED = re.compile(r"^volary\.errors\.(?P<kind>\w+Error): (?P<message>.*)$", re.MULTILINE)


@contextlib.contextmanager
def server_words() -> Iterator[None]:
    """An error that a task raised in the server's words leaves here as itself, with Spark's own error behind it."""
    try:
        yield
    except Exception as error:
        found = _RAISED.search(str(error)) if type(error).__module__.startswith("pyspark.") else None
        kind = getattr(errors, found["kind"], None) if found else None
        if kind is None:
            raise
        assert found is not None
        raise kind(found["message"].strip()) from error
