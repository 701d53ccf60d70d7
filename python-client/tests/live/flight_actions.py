"""Bodies of Flight's own actions, for clients that have no call for them, as pyarrow has none.

Actions of the standard carry their message bare, without an Any around it. Field numbers are those of arrow's
format/Flight.proto: CancelFlightInfoRequest.info 1, CancelFlightInfoResult.status 1, RenewFlightEndpointRequest.endpoint 1,
SetSessionOptionsRequest.session_options 1, SetSessionOptionsResult.errors 1, GetSessionOptionsResult.session_options 1,
CloseSessionResult.status 1. A map is a repeated message of key 1 and value 2.
"""

from __future__ import annotations

import struct

import pyarrow.flight as flight

from raw_flight import field, fields, number, varint

CANCELLED, CANCELLING, NOT_CANCELLABLE = 1, 2, 3
INVALID_NAME, INVALID_VALUE = 1, 2
CLOSED, CLOSING = 1, 2

Value = str | bool | int | float | list[str] | None


def _answer(client: flight.FlightClient, action: str, body: bytes, options: flight.FlightCallOptions | None) -> bytes:
    [result] = client.do_action((action, body), options)
    return result.body.to_pybytes()


def _enum(message: bytes, field: int) -> int:
    """An enum of a message; proto3 leaves out what is 0."""
    return number(fields(message)[field][-1], 0)[0] if message else 0


def cancel(
    client: flight.FlightClient, info: flight.FlightInfo, options: flight.FlightCallOptions | None = None
) -> int:
    """CancelFlightInfo: gives CANCELLED, CANCELLING or NOT_CANCELLABLE."""
    return _enum(_answer(client, "CancelFlightInfo", field(1, info.serialize()), options), 1)


def renew(client: flight.FlightClient, endpoint: flight.FlightEndpoint) -> flight.FlightEndpoint:
    """RenewFlightEndpoint: the same endpoint, good for longer."""
    return flight.FlightEndpoint.deserialize(
        _answer(client, "RenewFlightEndpoint", field(1, endpoint.serialize()), None)
    )


def _value(value: Value) -> bytes:
    """A SessionOptionValue: string 1, bool 2, int64 3 (sfixed64), double 4, list of strings 5; none unsets the option."""
    match value:
        case None:
            return b""
        case bool():
            return varint(2 << 3) + varint(value)
        case int():
            return varint(3 << 3 | 1) + struct.pack("<q", value)
        case float():
            return varint(4 << 3 | 1) + struct.pack("<d", value)
        case str():
            return field(1, value.encode())
        case list():
            return field(5, b"".join(field(1, each.encode()) for each in value))


def _value_of(message: bytes) -> Value:
    for kind, [body] in fields(message).items():
        match kind:
            case 1:
                return body.decode()
            case 2:
                return bool(number(body, 0)[0])
            case 3:
                return struct.unpack("<q", body)[0]
            case 4:
                return struct.unpack("<d", body)[0]
            case 5:
                return [each.decode() for each in fields(body).get(1, [])]
    return None


def set_session_options(
    client: flight.FlightClient, options: dict[str, Value], call: flight.FlightCallOptions | None = None
) -> dict[str, int]:
    """SetSessionOptions: the options that were not taken, each with INVALID_NAME, INVALID_VALUE or another error."""
    body = b"".join(field(1, field(1, name.encode()) + field(2, _value(value))) for name, value in options.items())
    errors = fields(_answer(client, "SetSessionOptions", body, call)).get(1, [])
    return {fields(entry)[1][0].decode(): _enum(fields(entry)[2][0], 1) for entry in errors}


def get_session_options(client: flight.FlightClient, call: flight.FlightCallOptions | None = None) -> dict[str, Value]:
    """GetSessionOptions."""
    entries = fields(_answer(client, "GetSessionOptions", b"", call)).get(1, [])
    return {fields(entry)[1][0].decode(): _value_of(fields(entry)[2][0]) for entry in entries}


def close_session(client: flight.FlightClient, call: flight.FlightCallOptions | None = None) -> int:
    """CloseSession: gives CLOSED or CLOSING."""
    return _enum(_answer(client, "CloseSession", b"", call), 1)


class Cookies(flight.ClientMiddlewareFactory):
    """A jar that sends back the cookies that a server set, as the drivers of Flight SQL have one."""

    def __init__(self) -> None:
        self._jar: dict[str, str] = {}

    def start_call(self, info: flight.CallInfo) -> flight.ClientMiddleware:
        """A call with the cookies of the calls before it."""
        return _Call(self._jar)


class _Call(flight.ClientMiddleware):
    def __init__(self, jar: dict[str, str]) -> None:
        self._jar = jar

    def sending_headers(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{name}={value}" for name, value in self._jar.items())} if self._jar else {}

    def received_headers(self, headers: dict[str, list[str]]) -> None:
        for cookie in headers.get("set-cookie", []):
            pair, *attributes = cookie.split(";")
            name, _, value = pair.strip().partition("=")
            if any(each.strip().lower() == "max-age=0" for each in attributes):
                self._jar.pop(name, None)
            else:
                self._jar[name] = value
