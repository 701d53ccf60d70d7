"""The wire. The only file that imports pyarrow.flight.

Every error leaves here as a :class:`volary.errors.VolaryError`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from . import _commands, errors

__all__ = ["BatchStream", "Transport"]

# Bytes of one message on the way up: large enough that the per-message cost vanishes, far below the servers' 256 MiB.
MESSAGE_BYTES = 4 * 1024 * 1024
# Rows of one message when scoring: answers begin to flow early, and two cores are kept busy.
SCORING_ROWS = 16_384


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, flight.FlightError) as error:
        raise errors.from_arrow(error) from None


class BatchStream:
    """Record batches of one schema, met once; closing early tells the server to stop."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.schema = schema
        self._batches = batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._batches

    def close(self) -> None:
        """Stop; what is not read yet is dropped."""
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()

    def table(self) -> pa.Table:
        """All of it."""
        return pa.Table.from_batches(list(self._batches), self.schema)

    def reader(self) -> pa.RecordBatchReader:
        """As pyarrow's reader, for anything that takes one."""
        return pa.RecordBatchReader.from_batches(self.schema, self._batches)


def _pieces(batch: pa.RecordBatch, rows: int | None = None) -> Iterator[pa.RecordBatch]:
    """Slices of at most `MESSAGE_BYTES` (and `rows`) each; a batch of no rows is passed over."""
    if batch.num_rows == 0:
        return
    per_message = max(1, int(batch.num_rows * MESSAGE_BYTES / max(1, batch.nbytes)))
    if rows is not None:
        per_message = min(per_message, rows)
    for start in range(0, batch.num_rows, per_message):
        yield from _halves(batch.slice(start, per_message))


def _halves(piece: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Rows of very different sizes: cut again where one slice came out much too large."""
    if piece.num_rows > 1 and piece.nbytes > 4 * MESSAGE_BYTES:
        middle = piece.num_rows // 2
        yield from _halves(piece.slice(0, middle))
        yield from _halves(piece.slice(middle))
    else:
        yield piece


class Transport:
    """One server's Flight service."""

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, tls_root_certs: bytes | None = None
    ) -> None:
        self.url = url
        options: dict[str, Any] = {}
        if tls_root_certs is not None:
            options["tls_root_certs"] = tls_root_certs
        self._tls = options
        self._headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        with _translated():
            self._client = flight.FlightClient(url, **options)
        self._elsewhere: dict[str, flight.FlightClient] = {}

    def close(self) -> None:
        """End the connections."""
        for client in (self._client, *self._elsewhere.values()):
            client.close()
        self._elsewhere.clear()

    def _options(self, timeout: float | None = None) -> flight.FlightCallOptions:
        return flight.FlightCallOptions(headers=self._headers, timeout=timeout)

    # -- actions ----------------------------------------------------------------------------------------------

    def actions(
        self, name: str, body: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """The answers of an action, as they come."""
        with _translated():
            action = flight.Action(name, _commands.encode(body or {}))
            for answer in self._client.do_action(action, options=self._options(timeout)):
                yield _commands.decode(answer.body.to_pybytes())

    def action(self, name: str, body: Mapping[str, Any] | None = None, timeout: float | None = None) -> dict[str, Any]:
        """The one answer of an action; an empty object where it answers nothing."""
        answers = list(self.actions(name, body, timeout))
        return answers[0] if answers else {}

    # -- reading ----------------------------------------------------------------------------------------------

    @staticmethod
    def _descriptor(what: Sequence[str] | Mapping[str, Any]) -> flight.FlightDescriptor:
        if isinstance(what, Mapping):
            return flight.FlightDescriptor.for_command(_commands.encode(what))
        return flight.FlightDescriptor.for_path(*what)

    def schema(self, what: Sequence[str] | Mapping[str, Any]) -> pa.Schema:
        """The schema that reading `what` (a path, or a command) would stream."""
        with _translated():
            return self._client.get_schema(self._descriptor(what), options=self._options()).schema

    def rows(self, what: Sequence[str] | Mapping[str, Any]) -> int | None:
        """The row count that the server states, if it does."""
        with _translated():
            stated = self._client.get_flight_info(self._descriptor(what), options=self._options()).total_records
        return None if stated < 0 else int(stated)

    def read(self, what: Sequence[str] | Mapping[str, Any]) -> BatchStream:
        """The rows of a path or a command, endpoint after endpoint."""
        with _translated():
            info = self._client.get_flight_info(self._descriptor(what), options=self._options())
        return BatchStream(info.schema, self._read_endpoints(info.endpoints))

    def _read_endpoints(self, endpoints: Sequence[flight.FlightEndpoint]) -> Iterator[pa.RecordBatch]:
        for endpoint in endpoints:
            with _translated():
                reader = self._reader_of(endpoint).do_get(endpoint.ticket, options=self._options())
            finished = False
            try:
                while True:
                    with _translated():
                        try:
                            batch = reader.read_chunk().data
                        except StopIteration:
                            finished = True
                            break
                    if batch is not None:
                        yield batch
            finally:
                if not finished:
                    reader.cancel()

    def _reader_of(self, endpoint: flight.FlightEndpoint) -> flight.FlightClient:
        """The client for an endpoint: this one when it says "here" or nothing."""
        locations = [location.uri.decode() for location in endpoint.locations]
        locations = [uri for uri in locations if not uri.startswith("arrow-flight-reuse-connection:")]
        if not locations or len(locations) != len(endpoint.locations) or self.url in locations:
            return self._client
        if locations[0] not in self._elsewhere:
            self._elsewhere[locations[0]] = flight.FlightClient(locations[0], **self._tls)
        return self._elsewhere[locations[0]]

    # -- writing ----------------------------------------------------------------------------------------------

    def put(
        self,
        command: Mapping[str, Any],
        rows: pa.RecordBatchReader,
        acknowledged: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Upload; answers the last PutResult. `acknowledged` hears the rows that the server has so far.

        When `rows` itself fails, or the caller interrupts, the server is told to forget the upload: without that
        word, Flight ends a half-written stream as if it were whole.
        """
        with _translated():
            writer, replies = self._client.do_put(self._descriptor(command), rows.schema, options=self._options())
        last: dict[str, Any] = {}
        unheard: list[BaseException] = []

        def listen() -> None:
            # When the call fails its reason reaches whoever asks first: this stream of replies, or the closing writer.
            try:
                while (reply := replies.read()) is not None:
                    last.update(_commands.decode(reply.to_pybytes()))
                    if acknowledged is not None and "rows" in last:
                        acknowledged(int(last["rows"]))
            except BaseException as error:
                unheard.append(error)

        listener = threading.Thread(target=listen, name="volary-put-replies", daemon=True)
        listener.start()
        broken: BaseException | None = None
        try:
            for batch in rows:
                for piece in _pieces(batch):
                    try:
                        writer.write_batch(piece)
                    except (pa.ArrowException, flight.FlightError) as error:
                        broken = error
                        break
                if broken is not None:
                    break
        except BaseException:
            with contextlib.suppress(pa.ArrowException, flight.FlightError):
                writer.write_metadata(pa.py_buffer(b'{"abort":true}'))
            with contextlib.suppress(pa.ArrowException, flight.FlightError):
                writer.close()
            listener.join()
            raise
        with _translated():
            with contextlib.suppress(pa.ArrowException, flight.FlightError):
                writer.done_writing()
            listener.join()
            writer.close()
            if broken is not None or unheard:
                raise broken or unheard[0]
        if "version" not in last:
            raise errors.InternalError(
                "the server ended the upload without a version; ask it whether the rows are there"
            )
        return last

    def exchange(self, command: Mapping[str, Any], rows: pa.RecordBatchReader) -> BatchStream:
        """Full duplex: a thread writes `rows` while the answers are read, in order."""
        with _translated():
            writer, reader = self._client.do_exchange(self._descriptor(command), options=self._options())
        failure: list[BaseException] = []

        def write() -> None:
            pieces = (piece for batch in rows for piece in _pieces(batch, SCORING_ROWS))
            over = (pa.ArrowException, flight.FlightError)  # the call ended early; the reader knows why
            with contextlib.suppress(*over):
                writer.begin(rows.schema)
                while True:
                    try:
                        piece = next(pieces, None)
                    except BaseException as error:
                        failure.append(error)
                        reader.cancel()
                        return
                    if piece is None:
                        break
                    writer.write_batch(piece)
                writer.done_writing()

        pen = threading.Thread(target=write, name="volary-exchange-writer", daemon=True)
        pen.start()

        def finish(cancel: bool) -> None:
            if cancel:
                reader.cancel()
            pen.join()
            with contextlib.suppress(pa.ArrowException, flight.FlightError):
                writer.close()

        try:
            with _translated():
                schema = reader.schema
        except BaseException:
            finish(cancel=True)
            if failure:
                raise failure[0] from None
            raise

        def batches() -> Iterator[pa.RecordBatch]:
            finished = False
            try:
                while True:
                    with _translated():
                        try:
                            batch = reader.read_chunk().data
                        except StopIteration:
                            finished = True
                            break
                    if batch is not None:
                        yield batch
            finally:
                finish(cancel=not finished)
                if failure:
                    raise failure[0]

        return BatchStream(schema, batches())


def batches_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
    """A reader over batches."""
    return pa.RecordBatchReader.from_batches(schema, batches)
