"""Flight calls byte by byte, for what a well-behaved client cannot send: other schemas mid-stream, broken connections.

FlightData (arrow, format/Flight.proto): flight_descriptor 1, data_header 2, app_metadata 3, data_body 1000;
FlightDescriptor: type 1 (2 is CMD), cmd 2.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
import pyarrow as pa

SERVICE = "/arrow.flight.protocol.FlightService/"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, body: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def flight_data(message: pa.Buffer | None = None, command: bytes | None = None, app_metadata: bytes = b"") -> bytes:
    """One FlightData of an encapsulated IPC message."""
    out = b""
    if command is not None:
        out += _field(1, b"\x08\x02" + _field(2, command))
    if message is not None:
        parsed = pa.ipc.read_message(message)
        out += _field(2, parsed.metadata.to_pybytes())
        if parsed.body is not None:
            out += _field(1000, parsed.body.to_pybytes())
    if app_metadata:
        out += _field(3, app_metadata)
    return out


class RawFlight:
    """A channel without any knowledge of messages."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])

    def stream(self, verb: str, messages: Iterable[bytes]) -> grpc.Call:
        """A call of DoPut or DoExchange."""
        return self.channel.stream_stream(SERVICE + verb)(iter(messages))

    def __enter__(self) -> RawFlight:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
