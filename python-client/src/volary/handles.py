"""Things on the cluster, held by name: a table, a query's rows, a model that answers. Nothing moves until asked."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _html, errors
from ._commands import command, integer, read
from ._commands import source as source_of
from ._transport import BatchStream, Transport
from .errors import InvalidArgumentError
from .frames import Frame, frame_of, to_polars
from .listing import ModelVersion

if TYPE_CHECKING:
    from .client import Client
    from .model.metrics import Metric

__all__ = ["Query", "Rows", "ServedModel", "Table"]

# Columns of a table that a notebook shows.
SHOWN_COLUMNS = 40
# Seconds for a server to drop what is left of an interrupted call.
DROP_SECONDS = 10.0


class Rows:
    """Rows on the cluster."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def _transport(self) -> Transport:
        return self.client._transport

    def _address(self) -> Sequence[str] | Mapping[str, Any]:
        """What a Flight descriptor says: a path or a command."""
        raise NotImplementedError

    def to_source(self) -> dict[str, str]:
        """The ``Source`` message of a command."""
        raise NotImplementedError

    @property
    def schema(self) -> pa.Schema:
        """Column names and types."""
        return self._transport.schema(self._address())

    def stream(self) -> BatchStream:
        """Record batches as they come: memory stays bounded."""
        return self._transport.read(self._address())

    def to_reader(self) -> pa.RecordBatchReader:
        """As a pyarrow RecordBatchReader, which DuckDB, polars and others read directly."""
        return self.stream().reader()

    def to_arrow(self) -> pa.Table:
        """All rows as a pyarrow Table."""
        return self.stream().table()

    def to_pandas(self) -> Any:
        """All rows as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """All rows as a polars DataFrame."""
        return to_polars(self.to_arrow())

    def head(self, rows: int = 5) -> pa.Table:
        """The first rows; the rest is not sent."""
        stream, wanted, parts = self.stream(), rows, []
        with contextlib.closing(stream):
            for batch in stream:
                parts.append(batch.slice(0, wanted))
                wanted -= parts[-1].num_rows
                if wanted <= 0:
                    break
        return pa.Table.from_batches(parts, stream.schema)

    def _title(self) -> str:
        raise NotImplementedError

    @_html.shown
    def _repr_html_(self) -> str:
        table = self.head(5)
        more = table.num_columns - SHOWN_COLUMNS
        table = table.select(range(min(table.num_columns, SHOWN_COLUMNS)))
        flush = [pa.types.is_integer(field.type) or pa.types.is_floating(field.type) for field in table.schema]
        columns = [column.to_pylist() for column in table.columns]  # by place, for two may have one name
        rows = [
            [(_value_text(column[at]), right) for column, right in zip(columns, flush, strict=True)]
            for at in range(table.num_rows)
        ]
        names = [f"{field.name}\n{field.type}" for field in table.schema]
        return _html.table(names, rows, self._title(), f"and {more:,} more columns" if more > 0 else "")


class Table(Rows):
    """A dataset: its newest version when asked, or one version of it."""

    def __init__(self, client: Client, name: str, version: int | None = None) -> None:
        super().__init__(client)
        self.name, self.version = reference(name, version)

    @property
    def reference(self) -> str:
        """``name`` or ``name@version``."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    def _address(self) -> Sequence[str]:
        return [self.reference]

    def to_source(self) -> dict[str, str]:
        """The ``Source`` message of a command."""
        return source_of(table=self.reference)

    @property
    def rows(self) -> int:
        """How many rows."""
        stated = self._transport.rows(self._address())
        return stated if stated is not None else sum(batch.num_rows for batch in self.stream())

    def __len__(self) -> int:
        return self.rows

    def _title(self) -> str:
        return f"{self.reference}, {self.rows:,} rows"

    def __repr__(self) -> str:
        return f"Table({self.reference!r})"


class Query(Rows):
    """A SQL query; it runs whenever its rows are asked for."""

    def __init__(self, client: Client, sql: str) -> None:
        super().__init__(client)
        self.sql = sql

    def _address(self) -> Mapping[str, Any]:
        return command("Query", sql=self.sql)

    def to_source(self) -> dict[str, str]:
        """The ``Source`` message of a command."""
        return source_of(query=self.sql)

    def _title(self) -> str:
        return self.sql

    def __repr__(self) -> str:
        return f"Query({self.sql!r})"


class ServedModel:
    """A committed model: the newest version when asked, or one version of it."""

    def __init__(self, client: Client, name: str, version: int | None = None) -> None:
        self.client = client
        self.name, self.version = reference(name, version)
        if self.version is not None and self.version < 1:
            raise InvalidArgumentError(f'model "{self.name}" has no version {self.version}; versions count from 1')
        # What the model reads, once it was asked; of the version that was the newest then, if none is given.
        self._inputs: tuple[str, ...] | None = None

    def describe(self) -> ModelVersion:
        """Everything about the version: columns, label, classes, metrics, lineage, network, pipeline."""
        body = {"name": self.name, "version": self.version or 0}
        version = ModelVersion.from_json(self.client._transport.action("DescribeModel", body))
        signature = self.client._transport.signature(self.name, version.version or None)
        return version if signature is None else version.with_signature(*signature)

    def summary(self) -> str:
        """The network as the servers' own table; it prints as such in a terminal and in a notebook."""
        return Summary(self.describe().summary)

    def predict(self, rows: Any, keep: Sequence[str] = ()) -> Any:
        """Answer columns for `rows`, same rows in the same order, then the columns of `keep`.

        A pandas DataFrame is answered on the same index, a polars DataFrame by one, an Arrow Table by a Table, a
        RecordBatchReader by a reader whose answers come as they are made. A table or query of the cluster is read,
        scored and answered as a Table; to leave such rows on the cluster use :meth:`volary.Client.score`.

        Columns that neither the model nor `keep` names are passed over, whatever they hold.
        """
        frame = frame_of(rows.to_reader() if isinstance(rows, Rows) else rows)
        names = _names("keep", keep)
        remembered = self._inputs
        if remembered is None or (self.version is None and not set(remembered).issubset(frame.columns())):
            remembered = None
            self._ask_inputs()
        try:
            answers = self._exchange(frame, names)
        except InvalidArgumentError:
            # The newest version may read other columns than the one that was the newest before. A refusal of the
            # columns comes before the first row is taken, so the same rows can be sent again.
            if remembered is None or self.version is not None:
                raise
            self._ask_inputs()
            if self._inputs == remembered:
                raise
            answers = self._exchange(frame, names)
        if isinstance(rows, Rows):
            return answers.table()
        return frame.answer(answers.schema, answers)

    def _ask_inputs(self) -> None:
        signature = self.client._transport.signature(self.name, self.version)
        self._inputs = None if signature is None else signature[0]

    def _exchange(self, frame: Frame, keep: list[str]) -> BatchStream:
        body = command("Predict", model=self.name, version=self.version or 0, keep=keep)
        transport = self.client._transport
        if self._inputs is None:
            return transport.exchange(body, frame.reader())
        wanted = dict.fromkeys([*self._inputs, *keep])
        rows = frame.reader(wanted)
        lacking = [name for name in wanted if name not in frame.columns()]
        if lacking:
            # For the server to refuse, in words that name all the columns there are.
            transport.exchange(body, _schema_alone(rows.schema, frame.columns())).table()
            raise InvalidArgumentError(
                f"the rows lack the columns {lacking}; another version of the model was committed"
            )
        return transport.exchange(body, rows)

    def evaluate(
        self,
        rows: Any,
        metrics: Iterable[str | Mapping[str, Any] | Metric | type[Metric]] = (),
        *,
        sample_weight: str | None = None,
    ) -> dict[str, float]:
        """Loss and metrics over labelled rows: a table, a query, or a frame (uploaded and dropped again).

        The loss has in it what regularisers and ``add_loss`` add, as in Keras. Metrics are given as to ``compile``; none named
        are the model's own. `sample_weight` is a column of row weights for
        the loss.
        """
        from .model.losses import described
        from .model.metrics import Metric

        asked = [described("a metric", metric, Metric) for metric in _names("metrics", metrics)]
        with self.client.sourced(rows, f"{self.name}-evaluation") as source:
            body = {
                "model": self.name,
                "version": self.version or 0,
                "source": source,
                "metrics": asked,
            }
            if sample_weight is not None:
                body["sampleWeight"] = sample_weight
            answer = self.client._transport.action("Evaluate", body)
        return {name: float(value) for name, value in read(answer, "metrics", {}).items()}

    def __repr__(self) -> str:
        return (
            f"ServedModel({self.name!r})"
            if self.version is None
            else f"ServedModel({self.name!r}, version={self.version})"
        )

    @_html.shown
    def _repr_html_(self) -> str:
        return self.describe()._repr_html_()


def reference(name: str, version: int | None) -> tuple[str, int | None]:
    """A name and the version wanted of it, given apart or as ``name@version``.

    >>> reference("census@3", None), reference("census", 3), reference("census", None)
    (('census', 3), ('census', 3), ('census', None))
    """
    head, at, text = name.rpartition("@")
    if not at:
        return name, None if version is None else operator.index(version)
    if not (text.isascii() and text.isdigit()):
        raise InvalidArgumentError(
            f'"{name}" has the version "{text}"; give a whole number after the @, as in "{head}@3"'
        )
    if version is not None and version != int(text):
        raise InvalidArgumentError(f'"{name}" and version={version} are two versions; give one of them')
    return head, int(text)


class Summary(str):
    """A text of several lines that shows itself as they are, also where a notebook shows a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _schema_alone(known: pa.Schema, names: list[str]) -> pa.RecordBatchReader:
    """Columns without rows: those `known`, and the others of `names` as columns of nulls."""
    fields = [known.field(name) if name in known.names else pa.field(name, pa.null()) for name in dict.fromkeys(names)]
    return pa.RecordBatchReader.from_batches(pa.schema(fields), [])


def _names(what: str, names: Iterable[Any]) -> list[Any]:
    if isinstance(names, str):
        raise TypeError(f"{what} is a list of names, not one text; write [{names!r}]")
    return list(names)


@contextlib.contextmanager
def temporary(client: Client, rows: Any, name: str) -> Iterator[dict[str, str]]:
    """A frame as a dataset for the time of the block; one without rows is refused before anything is sent.

    However the block is left, the dataset is dropped; what goes wrong with that does not hide why the block was left.
    """
    try:
        client.put(name, _some_rows(rows))
    except errors.VolaryError:
        raise  # refused: there is nothing to drop
    except BaseException:
        _drop(client, name)  # an interrupt may come when the rows are committed already
        raise
    try:
        yield source_of(table=name)
    except BaseException:
        _drop(client, name)
        raise
    with contextlib.suppress(errors.NotFoundError):  # the server may have dropped it at the end of the job
        client.drop_dataset(name)


def _drop(client: Client, name: str) -> None:
    """Drop a dataset that may not be there, on a server that may not be there, without waiting for long."""
    with contextlib.suppress(errors.VolaryError):
        client._transport.action("DropDataset", {"name": name}, timeout=DROP_SECONDS)


def _value_text(value: Any) -> str:
    """A cell for people: numbers without the digits that nobody reads, long things cut."""
    text = f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _some_rows(rows: Any) -> pa.RecordBatchReader:
    """The batches of a frame that has at least one row."""
    reader = frame_of(rows).reader()
    first = next((batch for batch in reader if batch.num_rows > 0), None)
    if first is None:
        kind = "Parquet file" if isinstance(rows, str | os.PathLike) else type(rows).__name__
        raise InvalidArgumentError(f"the {kind} has no rows; give at least one")
    return pa.RecordBatchReader.from_batches(reader.schema, itertools.chain([first], reader))


def put_frame(
    transport: Transport, name: str, rows: Any, mode: str, acknowledged: Callable[[int], None] | None
) -> tuple[int, int]:
    """Upload; answers the rows and the version."""
    last = transport.put(command("Put", dataset=name, mode=mode), frame_of(rows).reader(), acknowledged)
    return integer(last, "rows"), integer(last, "version")
