"""The wire. The only file that imports pyarrow.flight.

Every error leaves here as a :class:`volary.errors.VolaryError`.

A stream that is written and read is used by one thread alone. pyarrow lets two threads share it, but whichever of them
meets the end first finishes the call while the other may be inside gRPC, and gRPC then aborts the process. So writing and
reading take turns, and what is written ahead of the answers is bounded: neither side ever waits for the other's turn.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from . import _commands, errors
from ._tls import Tls

__all__ = ["BatchStream", "Transport"]

# Bytes of one message on the way up: large enough that the per-message cost vanishes, far below the servers' 256 MiB.
MESSAGE_BYTES = 4 * 1024 * 1024
# Rows of one message when scoring: answers begin to flow early and two cores are kept busy, while the turns of writing and
# reading stay few (with half as many rows, three million took a sixth longer on two busy cores).
SCORING_ROWS = 32_768
# What is written ahead of the answers when scoring. A server holds two batches, and two more lie ready for it. All of them
# fit the window of 16 MiB that a server grants a stream, so writing never waits for a server that waits until an earlier
# answer is read. A piece that would be too much travels when the others are answered.
AHEAD_PIECES = 4
AHEAD_BYTES = 8 * 1024 * 1024
# What is uploaded ahead of the acknowledgements. The messages keep a server busy, and a refusal is heard before more than
# this is sent in vain; so many acknowledgements, of some sixty bytes each, fit the 64 KiB that gRPC takes in unread.
UNACKNOWLEDGED_MESSAGES = 64
UNACKNOWLEDGED_BYTES = 32 * 1024 * 1024

# Where an endpoint says that it is read over the connection that named it (Flight.rst, "Connection Reuse").
REUSE_CONNECTION = "arrow-flight-reuse-connection:"
# A location may be an address of a network that this process is not in, where nothing answers at all. So long is waited
# for a connection, and so long after that it is not tried again.
CONNECT_MILLISECONDS = 3_000
UNREACHABLE_SECONDS = 60.0

# Of an address, as pyarrow has them; the second is the first by its longer name.
SCHEMES = ("grpc", "grpc+tcp", "grpc+tls", "grpc+unix")

_CALL_OVER = (pa.ArrowException, flight.FlightError)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _CALL_OVER as error:
        raise errors.from_arrow(error) from None


def _address(uri: str) -> str:
    """The address, written in one way: ``grpc`` and ``grpc+tcp`` are the same.

    >>> _address("grpc://host:1")
    'grpc+tcp://host:1'
    """
    return uri.rstrip("/").replace("grpc://", "grpc+tcp://")


def _unusable(url: str, error: pa.ArrowException) -> BaseException:
    """What to say of an address that pyarrow does not take; of anything else, such as a certificate, what it says itself.

    >>> error = pa.ArrowKeyError("No client transport implementation for http")
    >>> str(_unusable("http://a:1", error)).split(";")[0]
    'the server\\'s address "http://a:1" begins with "http://"'
    """
    scheme, colon, _ = url.partition("://")
    if not colon:
        why = "has no scheme"
    elif scheme not in SCHEMES:
        why = f'begins with "{scheme}://"'
    elif "URI" in str(error):
        why = f"cannot be read: {error.args[0]}"
    else:
        return error
    return errors.InvalidArgumentError(
        f'the server\'s address "{url}" {why}; give grpc://host:port, or grpc+tls://host:port where the server has TLS, as in '
        '"grpc://127.0.0.1:50051"'
    )


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


def _bytes(batch: pa.RecordBatch) -> int:
    """What a batch's message weighs, without dictionaries: they travel once, however the rows are cut."""
    columns = (column.indices if isinstance(column, pa.DictionaryArray) else column for column in batch.columns)
    return sum(column.nbytes for column in columns)


def _pieces(batch: pa.RecordBatch, rows: int | None = None) -> Iterator[pa.RecordBatch]:
    """Slices of at most `MESSAGE_BYTES` (and `rows`) each; a batch of no rows is passed over."""
    if batch.num_rows == 0:
        return
    per_message = max(1, int(batch.num_rows * MESSAGE_BYTES / max(1, _bytes(batch))))
    if rows is not None:
        per_message = min(per_message, rows)
    for start in range(0, batch.num_rows, per_message):
        yield from _halves(batch.slice(start, per_message))


def _halves(piece: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Rows of very different sizes: cut again where one slice came out much too large."""
    if piece.num_rows > 1 and _bytes(piece) > 4 * MESSAGE_BYTES:
        middle = piece.num_rows // 2
        yield from _halves(piece.slice(0, middle))
        yield from _halves(piece.slice(middle))
    else:
        yield piece


class Transport:
    """One server's Flight service."""

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, tls: Tls | None = None) -> None:
        self.url = url
        self._tls = (tls or Tls()).completed(url).options()
        self._headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        with _translated():
            try:
                self._client = flight.FlightClient(url, **self._tls)
            except (pa.ArrowKeyError, pa.ArrowInvalid) as error:
                raise _unusable(url, error) from None
        self._elsewhere: dict[str, flight.FlightClient] = {}
        # Locations that could not be reached, and until when they are passed over.
        self._unreachable: dict[str, float] = {}

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

    def signature(self, model: str, version: int | None) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The columns that a model reads and those that it answers; ``None`` where the server or pyarrow cannot tell."""
        path = ["models", model] if version is None else ["models", model, str(version)]
        with _translated():
            info = self._client.get_flight_info(self._descriptor(path), options=self._options())
        told = _commands.decode(getattr(info, "app_metadata", b""))  # pyarrow 17 does not have it
        if "inputs" not in told:
            return None
        names, inputs = info.schema.names, _commands.integer(told, "inputs")
        return tuple(names[:inputs]), tuple(names[inputs:])

    def rows(self, what: Sequence[str] | Mapping[str, Any]) -> int | None:
        """The row count that the server states, if it does."""
        with _translated():
            stated = self._client.get_flight_info(self._descriptor(what), options=self._options()).total_records
        return None if stated < 0 else int(stated)

    def version(self, dataset: str) -> int:
        """The newest version of a dataset."""
        with _translated():
            info = self._client.get_flight_info(self._descriptor([dataset]), options=self._options())
        return _commands.integer(_commands.decode(info.app_metadata), "version")

    def read(self, what: Sequence[str] | Mapping[str, Any]) -> BatchStream:
        """The rows of a path or a command, endpoint after endpoint."""
        with _translated():
            info = self._client.get_flight_info(self._descriptor(what), options=self._options())
        return BatchStream(info.schema, self._read_endpoints(info.endpoints))

    def endpoints(self, what: Sequence[str] | Mapping[str, Any]) -> tuple[pa.Schema, list[bytes]]:
        """The schema of a path or a command and its endpoints in their order, as bytes that other processes read from."""
        with _translated():
            info = self._client.get_flight_info(self._descriptor(what), options=self._options())
            return info.schema, [endpoint.serialize() for endpoint in info.endpoints]

    def read_endpoint(self, endpoint: bytes) -> Iterator[pa.RecordBatch]:
        """The rows of one of :meth:`endpoints`, also those that another process was answered."""
        return self._read_endpoints([flight.FlightEndpoint.deserialize(endpoint)])

    def _read_endpoints(self, endpoints: Sequence[flight.FlightEndpoint]) -> Iterator[pa.RecordBatch]:
        for endpoint in endpoints:
            reader = self._reader_of(endpoint)
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

    def _reader_of(self, endpoint: flight.FlightEndpoint) -> flight.FlightStreamReader:
        """The endpoint's stream, from the first of its locations that can be reached; none at all means this connection."""
        uris = [location.uri.decode() for location in endpoint.locations] or [REUSE_CONNECTION]
        # Those that did not answer a while ago come last, so that an endpoint that is nowhere else is still tried.
        now = time.monotonic()
        uris.sort(key=lambda uri: self._unreachable.get(uri, now) > now)
        unheard: errors.VolaryError | None = None
        for uri in uris:
            try:
                with _translated():
                    return self._client_at(uri).do_get(endpoint.ticket, options=self._options())
            except (errors.UnavailableError, errors.UnimplementedError) as error:  # nobody, or no Flight server
                self._unreachable[uri] = time.monotonic() + UNREACHABLE_SECONDS
                unheard = error
        assert unheard is not None
        raise unheard

    def _client_at(self, uri: str) -> flight.FlightClient:
        """The client for a location: this one's own when it is where this one is connected."""
        if uri.startswith(REUSE_CONNECTION) or _address(uri) == _address(self.url):
            return self._client
        if uri not in self._elsewhere:
            try:
                self._elsewhere[uri] = flight.FlightClient(
                    uri, generic_options=[("grpc.min_reconnect_backoff_ms", CONNECT_MILLISECONDS)], **self._tls
                )
            except _CALL_OVER as error:  # such as a scheme that gRPC does not speak
                raise errors.UnavailableError(f"the location {uri} cannot be read from: {error}") from None
        return self._elsewhere[uri]

    # -- writing ----------------------------------------------------------------------------------------------

    def put(
        self,
        command: Mapping[str, Any],
        rows: pa.RecordBatchReader,
        acknowledged: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Upload; answers the last PutResult. `acknowledged` hears the rows that the server has so far.

        When `rows` or `acknowledged` itself fails, or the caller interrupts, the server is told to forget the upload:
        without that word, Flight ends a half-written stream as if it were whole.
        """
        with _translated():
            writer, replies = self._client.do_put(self._descriptor(command), rows.schema, options=self._options())
        upload = _Upload(writer, replies, acknowledged)
        try:
            for batch in rows:
                for piece in _pieces(batch):
                    upload.write(piece)
            upload.hear_all()
        except BaseException:
            upload.give_up()
            raise
        return upload.commit()

    def update(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Send a command that changes something by itself, without rows; answers the one PutResult."""
        with _translated():
            writer, replies = self._client.do_put(self._descriptor(command), pa.schema([]), options=self._options())
            try:
                writer.done_writing()
                reply = replies.read()
            finally:
                # Tells why, where the server refused.
                writer.close()
        return {} if reply is None else _commands.decode(reply.to_pybytes())

    def exchange(self, command: Mapping[str, Any], rows: pa.RecordBatchReader) -> BatchStream:
        """Score: `rows` are written a little ahead of the answers, which come in their order."""
        with _translated():
            writer, reader = self._client.do_exchange(self._descriptor(command), options=self._options())

        def end(cancel: bool) -> None:
            if cancel:
                reader.cancel()
            with contextlib.suppress(*_CALL_OVER):
                writer.close()

        try:
            # A server that refuses ends the call under the hands of whoever writes; reading on tells why.
            with contextlib.suppress(*_CALL_OVER):
                writer.begin(rows.schema)
            with _translated():
                schema = reader.schema
        except BaseException:
            end(cancel=True)
            raise

        def answers() -> Iterator[pa.RecordBatch]:
            finished = False
            try:
                yield from _answers(writer, reader, (piece for batch in rows for piece in _pieces(batch, SCORING_ROWS)))
                finished = True
            finally:
                end(cancel=not finished)

        return BatchStream(schema, answers())


class _Upload:
    """An upload under way, written a bounded way ahead of the server's acknowledgements."""

    def __init__(
        self,
        writer: flight.FlightStreamWriter,
        replies: flight.FlightMetadataReader,
        acknowledged: Callable[[int], None] | None,
    ) -> None:
        self._writer = writer
        self._replies = replies
        self._acknowledged = acknowledged
        self._rows = 0
        # For each message without its acknowledgement: the rows up to its end, and its bytes.
        self._unheard: deque[tuple[int, int]] = deque()
        self._unheard_bytes = 0

    def write(self, piece: pa.RecordBatch) -> None:
        """Send one message, once the server has taken enough of the earlier ones."""
        weight = _bytes(piece)
        while self._unheard and (
            len(self._unheard) >= UNACKNOWLEDGED_MESSAGES or self._unheard_bytes + weight > UNACKNOWLEDGED_BYTES
        ):
            self._hear()
        with _translated():
            self._writer.write_batch(piece)
        self._rows += piece.num_rows
        self._unheard.append((self._rows, weight))
        self._unheard_bytes += weight

    def hear_all(self) -> None:
        """Wait until the server has taken every row."""
        while self._unheard:
            self._hear()

    def _hear(self) -> None:
        reply = self._reply()
        if reply is None:
            raise self._ended()
        rows = _commands.integer(reply, "rows")
        while self._unheard and self._unheard[0][0] <= rows:
            self._unheard_bytes -= self._unheard.popleft()[1]
        if self._acknowledged is not None:
            self._acknowledged(rows)

    def _reply(self) -> dict[str, Any] | None:
        with _translated():
            reply = self._replies.read()
        return None if reply is None else _commands.decode(reply.to_pybytes())

    def _ended(self) -> errors.VolaryError:
        """Why the server ended the call: it tells when the call is closed."""
        try:
            self._writer.close()
        except _CALL_OVER as error:
            return errors.from_arrow(error)
        return errors.InternalError("the server ended the upload without a version; ask it whether the rows are there")

    def give_up(self) -> None:
        """Tell the server to keep nothing."""
        with contextlib.suppress(*_CALL_OVER):
            self._writer.write_metadata(pa.py_buffer(b'{"abort":true}'))
        with contextlib.suppress(*_CALL_OVER):
            self._writer.close()

    def commit(self) -> dict[str, Any]:
        """Say that this was all; answers the last PutResult, which has the version, or the part."""
        with _translated():
            self._writer.done_writing()
        last: dict[str, Any] = {}
        while (reply := self._reply()) is not None:
            last = reply
        if not last.keys() & {"version", "part"}:
            raise self._ended()
        with _translated():
            self._writer.close()
        return last


def _answers(
    writer: flight.FlightStreamWriter, reader: flight.FlightStreamReader, pieces: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """One answer for each piece, in turns with writing it."""
    piece = next(pieces, None)
    unanswered: deque[int] = deque()
    refused: errors.VolaryError | None = None
    written = read = 0
    done = False
    while True:
        while piece is not None and _may_write(unanswered, weight := _bytes(piece)):
            try:
                writer.write_batch(piece)
            except _CALL_OVER as error:  # reading on tells why, unless the fault is ours
                refused, piece = errors.from_arrow(error), None
                break
            unanswered.append(weight)
            written += 1
            piece = next(pieces, None)
        if piece is None and not done:
            done = True
            with contextlib.suppress(*_CALL_OVER):
                writer.done_writing()
        with _translated():
            try:
                answer = reader.read_chunk().data
            except StopIteration:
                break
        if answer is not None:
            read += 1
            if unanswered:
                unanswered.popleft()
            yield answer
    if refused is not None:
        raise refused
    if read != written or piece is not None:
        more = " and more to come" if piece is not None else ""
        raise errors.InternalError(f"the server answered {read} of {written} batches{more}; ask again")


def _may_write(unanswered: deque[int], weight: int) -> bool:
    """Whether a piece of so many bytes may follow those whose answers are not read yet."""
    return not unanswered or (len(unanswered) < AHEAD_PIECES and sum(unanswered) + weight <= AHEAD_BYTES)


def batches_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
    """A reader over batches."""
    return pa.RecordBatchReader.from_batches(schema, batches)
