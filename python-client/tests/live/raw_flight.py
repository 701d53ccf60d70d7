"""Flight calls byte by byte, for what pyarrow cannot send: other schemas mid-stream, broken connections, PollFlightInfo.

FlightData (arrow, format/Flight.proto): flight_descriptor 1, data_header 2, app_metadata 3, data_body 1000;
FlightDescriptor: type 1 (2 is CMD), cmd 2. PollInfo: info 1, flight_descriptor 2, progress 3 (a double). FlightInfo:
schema 1, endpoint 3, app_metadata 7. FlightEndpoint: ticket 1; Ticket: ticket 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import pyarrow as pa

SERVICE = "/arrow.flight.protocol.FlightService/"


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def number(message: bytes, at: int) -> tuple[int, int]:
    """The varint at this place, and the place behind it."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def fields(message: bytes) -> dict[int, list[bytes]]:
    """The fields of a message by number, as they lie there."""
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(message):
        key, at = number(message, at)
        begin = at
        if key & 7 == 0:
            _, at = number(message, at)
        elif key & 7 == 2:
            size, begin = number(message, at)
            at = begin + size
        else:
            at += {1: 8, 5: 4}[key & 7]
        found.setdefault(key >> 3, []).append(message[begin:at])
    return found


def command_descriptor(command: bytes) -> bytes:
    """A FlightDescriptor of a command."""
    return b"\x08\x02" + field(2, command)


@dataclass
class Poll:
    """What PollFlightInfo answers."""

    next: bytes | None
    """The descriptor to poll next; none when the work is done."""
    progress: float
    app_metadata: bytes
    tickets: list[bytes]

    @classmethod
    def of(cls, message: bytes) -> Poll:
        poll = fields(message)
        info = fields(poll[1][0])
        # proto3 leaves out a ticket that is empty, but an `optional` progress is there even when it is 0.
        tickets = [fields(fields(endpoint)[1][0])[1][0] for endpoint in info.get(3, [])]
        [progress] = struct.unpack("<d", poll[3][0])
        return cls(poll[2][0] if 2 in poll else None, progress, info[7][0], tickets)


def flight_data(message: pa.Buffer | None = None, command: bytes | None = None, app_metadata: bytes = b"") -> bytes:
    """One FlightData of an encapsulated IPC message."""
    out = b""
    if command is not None:
        out += field(1, command_descriptor(command))
    if message is not None:
        parsed = pa.ipc.read_message(message)
        out += field(2, parsed.metadata.to_pybytes())
        if parsed.body is not None:
            out += field(1000, parsed.body.to_pybytes())
    if app_metadata:
        out += field(3, app_metadata)
    return out


class RawFlight:
    """A channel without any knowledge of messages."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])

    def stream(self, verb: str, messages: Iterable[bytes]) -> grpc.Call:
        """A call of DoPut or DoExchange."""
        return self.channel.stream_stream(SERVICE + verb)(iter(messages))

    def poll(self, descriptor: bytes) -> Poll:
        """A call of PollFlightInfo."""
        return Poll.of(self.channel.unary_unary(SERVICE + "PollFlightInfo")(descriptor, timeout=60))

    def __enter__(self) -> RawFlight:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
