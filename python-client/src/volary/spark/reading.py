"""Datasets and queries as DataFrames: one partition for each endpoint, in the order of the rows.

The version of a dataset is settled once, when the DataFrame is made, so every partition and every action reads the same
rows. A query is planned anew by every action, over the datasets as they are then, unless it names their versions itself. A
ticket expires; a task that comes late asks for its endpoint anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceReader, InputPartition

from .._commands import command
from .._tls import TlsOptions
from .._transport import Transport
from ..errors import InvalidArgumentError, NotFoundError
from ..handles import reference
from .columns import arrow_schema, columns_of, spark_schema
from .servers import DEFAULT, Servers
from .writing import server_words

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

__all__ = ["VolaryDataSource", "read_dataframe", "register"]

_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(@\d+)?")


def register(spark: SparkSession) -> None:
    """Make ``spark.read.format("volary")`` known to a session. :func:`read_dataframe` does it by itself."""
    spark.dataSource.register(VolaryDataSource)


def read_dataframe(
    spark: SparkSession,
    dataset_or_sql: str,
    *,
    server: str | Sequence[str] = DEFAULT,
    columns: Sequence[str] | None = None,
    endpoints: int = 0,
    headers: Mapping[str, str] | None = None,
    **tls: Unpack[TlsOptions],
) -> DataFrame:
    """A dataset of the cluster, or what a SQL query answers there, as a DataFrame.

    Args:
        spark: The session.
        dataset_or_sql: ``census``, ``census@3`` for one version of it, or a SQL query. A query is answered as one partition,
            by every action anew; a dataset is read at the version that it has now.
        server: One address, several with commas between, or a list; partitions are read from them in turn.
        columns: Those to read, in this order; the others are not sent. Spark does not tell a source what a query of its own
            leaves out, so name them here.
        endpoints: At most this many partitions, of about as many rows each; 0: one for every data file.
        headers: Sent with every call.
        tls: Certificates, by the names that :func:`volary.connect` has for them: ``tls_root_certs``, ``cert_chain``,
            ``private_key`` (each a PEM file of the driver, or its bytes), ``disable_server_verification``,
            ``override_hostname``.
    """
    if isinstance(columns, str):
        raise TypeError(f"columns is a list of names, not one text; write [{columns!r}]")
    register(spark)
    options = Servers.of(server, headers, **tls).to_options()
    options["dataset" if _DATASET.fullmatch(dataset_or_sql.strip()) else "query"] = dataset_or_sql.strip()
    if columns is not None:
        options["columns"] = json.dumps(list(columns))
    with server_words():
        return spark.read.format("volary").options(**options, endpoints=endpoints).load()


class VolaryDataSource(DataSource):
    """``spark.read.format("volary")``: ``load("census@3")``, or the option ``query``.

    Options: ``server``; ``dataset`` (what ``load`` is given) or ``query``; ``columns``, names as a JSON list or with commas
    between; ``endpoints``; ``headers``, a JSON object; ``tlsRootCerts``,
    ``certChain`` and ``privateKey``, PEM or files of the driver; ``disableServerVerification``, ``overrideHostname``.
    """

    _pinned: Mapping[str, Any] | None = None
    _schema: pa.Schema | None = None

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "volary"

    def schema(self) -> StructType:
        """That of the rows, once a dataset's version is settled; the source keeps both for its reader."""
        self._pinned, self._schema = self._settled()
        return spark_schema(self._schema)

    def reader(self, schema: StructType) -> DataSourceReader:
        """The reader of the settled version, or of the query, for rows as `schema` has them."""
        if self._pinned is None:  # the user said which schema the rows have
            self._pinned, self._schema = self._settled()
        target = arrow_schema(columns_of(schema))
        return VolaryReader(Servers.from_options(self.options), self._pinned, target)

    def _settled(self) -> tuple[Mapping[str, Any], pa.Schema]:
        dataset, query = self.options.get("dataset") or self.options.get("path"), self.options.get("query")
        if (dataset is None) == (query is None):
            raise InvalidArgumentError(
                f'the format "volary" is given the dataset {dataset!r} and the query {query!r}; give one of them, as in '
                'spark.read.format("volary").load("census")'
            )
        columns = _names(self.options.get("columns"))
        with Servers.from_options(self.options).client() as client:
            transport = client._transport
            if query is not None:
                chosen = query
                if columns:
                    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
                    chosen = f"SELECT {quoted} FROM ({query.rstrip().rstrip(';')})"
                what = command("Query", sql=chosen)
            else:
                name, version = reference(dataset, None)
                if version is None:
                    version = transport.version(name)
                what = command("Read", dataset=f"{name}@{version}", endpoints=_count(self.options), columns=columns)
            return what, transport.schema(what)


def _names(text: str | None) -> list[str]:
    if text is None or not text.strip():
        return []
    return json.loads(text) if text.lstrip().startswith("[") else [name.strip() for name in text.split(",")]


def _count(options: Mapping[str, str]) -> int:
    text = options.get("endpoints") or "0"
    if not text.isdigit():
        raise InvalidArgumentError(
            f'the option endpoints is "{text}"; give a whole number, 0 for one of every data file'
        )
    return int(text)


@dataclass
class EndpointPartition(InputPartition):
    """One endpoint: the ticket, and which of how many it is, for when the ticket has expired."""

    endpoint: bytes
    number: int
    of: int

    def __post_init__(self) -> None:
        self.value = self.number


@dataclass
class VolaryReader(DataSourceReader):
    """Reads endpoints; on executors it knows Arrow alone."""

    servers: Servers
    what: Mapping[str, Any]
    schema: pa.Schema

    def partitions(self) -> Sequence[InputPartition]:
        """One for each endpoint, in their order."""
        with self.servers.client() as client:
            _, endpoints = client._transport.endpoints(self.what)
        return [EndpointPartition(endpoint, number, len(endpoints)) for number, endpoint in enumerate(endpoints)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of one endpoint."""
        if not isinstance(partition, EndpointPartition):  # what Spark makes of no partitions at all
            return
        with self.servers.client(partition.number) as client:
            for batch in self._batches(client._transport, partition):
                if batch.num_rows > 0:
                    yield self._as_spark_has_it(batch)

    def _batches(self, transport: Transport, partition: EndpointPartition) -> Iterator[pa.RecordBatch]:
        begun = False
        try:
            for batch in transport.read_endpoint(partition.endpoint):
                begun = True
                yield batch
            return
        except NotFoundError:
            if begun:
                raise
        _, endpoints = transport.endpoints(self.what)
        if len(endpoints) != partition.of:
            raise NotFoundError(
                f"the ticket of partition {partition.number} has expired, and what was {partition.of} endpoints is "
                f"{len(endpoints)} now; read the DataFrame anew"
            )
        yield from transport.read_endpoint(endpoints[partition.number])

    def _as_spark_has_it(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The types that Spark expects of this schema, named and nullable as it has them."""
        arrays = [_cast(batch.column(field.name), field) for field in self.schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _cast(values: pa.Array, field: pa.Field) -> pa.Array:
    if values.type.equals(field.type):
        return values
    try:
        # Times finer than Spark's microseconds are cut to them; everything else must fit.
        return values.cast(field.type, safe=not (pa.types.is_timestamp(field.type) or pa.types.is_duration(field.type)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidArgumentError(f'column "{field.name}" cannot be read as {field.type}: {error}') from None
