"""The scenarios that pyarrow, and with it Arrow's client in C++, has calls for: each asserts what the standard says.

python tests/conformance/pyarrow_client.py -host 127.0.0.1 -port 4711 -scenario ordered
"""

import argparse
import contextlib
import datetime

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.ipc as ipc

HEADER = "x-middleware"
REUSE_CONNECTION = b"arrow-flight-reuse-connection://?"
CANCELLED = 1


class BasicAuth(flight.ClientAuthHandler):
    """Sends Flight's BasicAuth message and shows the token that came back."""

    def __init__(self):
        super().__init__()
        self.token = b""

    def authenticate(self, outgoing, incoming):
        outgoing.write(flight.BasicAuth("arrow", "flight").serialize())
        self.token = incoming.read()

    def get_token(self):
        return self.token


class Echoed(flight.ClientMiddlewareFactory):
    """Sends a header and keeps what came back."""

    def __init__(self):
        super().__init__()
        self.received = None

    def start_call(self, info):
        return EchoedCall(self)


class EchoedCall(flight.ClientMiddleware):
    def __init__(self, factory):
        super().__init__()
        self.factory = factory

    def sending_headers(self):
        return {HEADER: "expected value"}

    def received_headers(self, headers):
        # Called for the headers and again for the trailers; a refusal may have either.
        self.factory.received = headers.get(HEADER, self.factory.received)


ECHOED = Echoed()


@contextlib.contextmanager
def refused(*kinds):
    """The calls within must fail, with an error of one of these kinds."""
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"the call was to fail with {kinds}")


def command(text: str) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(text.encode())


def read(client: flight.FlightClient, info: flight.FlightInfo) -> pa.Table:
    """The rows of all endpoints, in their order, from the server that named them."""
    assert all(endpoint.locations == [] for endpoint in info.endpoints), info
    return pa.concat_tables(client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints)


def acted(client: flight.FlightClient, name: str, body: bytes) -> bytes:
    (result,) = client.do_action(flight.Action(name, body))
    return result.body.to_pybytes()


def field(number: int, body: bytes) -> bytes:
    """A message as a field of another one, in protobuf's form."""
    length, size = b"", len(body)
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + body


def auth_basic_proto(client):
    with refused(flight.FlightUnauthenticatedError):
        list(client.do_action(flight.Action("", b"")))
    client.authenticate(BasicAuth())
    assert acted(client, "", b"") == b"arrow"


def middleware(client):
    with refused(pa.ArrowException):
        client.get_flight_info(command(""))
    assert ECHOED.received == ["expected value"], ECHOED.received
    ECHOED.received = None
    client.get_flight_info(command("success"))
    assert ECHOED.received == ["expected value"], ECHOED.received


def alignment(client):
    (endpoint,) = client.get_flight_info(command("alignment")).endpoints
    for name, bytes_each in [("DataTypeSpecific", (4, 8, 1)), ("At64Byte", (64, 64, 64))]:
        options = ipc.IpcReadOptions(ensure_alignment=getattr(ipc.Alignment, name))
        reader = client.do_get(endpoint.ticket, flight.FlightCallOptions(read_options=options))
        table = reader.read_all()
        expected = {"int32": [1, 2, 3], "int64": [1, 2, 3], "bool": [False, True, False]}
        assert table.to_pydict() == expected, table
        for column, alignment in zip(table.columns, bytes_each, strict=True):
            for chunk in column.chunks:
                values = chunk.buffers()[1]
                assert values.address % alignment == 0, f"{name}: {values.address}"


def ordered(client):
    info = client.get_flight_info(command("ordered"))
    assert info.ordered
    assert read(client, info)["number"].to_pylist() == [1, 2, 3, 10, 20, 30, 100, 200, 300]
    assert not client.get_flight_info(command("in any order")).ordered


def expiring(client) -> flight.FlightInfo:
    info = client.get_flight_info(command("expiration"))
    expires = [endpoint.expiration_time is not None for endpoint in info.endpoints]
    assert expires == [False, True, True], expires
    return info


def expiration_time_do_get(client):
    info = expiring(client)
    assert read(client, info)["number"].to_pylist() == [0, 1, 2]
    without, *within = info.endpoints
    with refused(pa.ArrowException):
        client.do_get(without.ticket).read_all()
    for endpoint in within:
        client.do_get(endpoint.ticket).read_all()


def expiration_time_list_actions(client):
    listed = [action.type for action in client.list_actions()]
    assert listed == ["CancelFlightInfo", "RenewFlightEndpoint"], listed


def expiration_time_cancel_flight_info(client):
    info = expiring(client)
    # CancelFlightInfoRequest.info = 1; CancelFlightInfoResult.status = 1.
    assert acted(client, "CancelFlightInfo", field(1, info.serialize())) == bytes([1 << 3, CANCELLED])
    for endpoint in info.endpoints:
        with refused(pa.ArrowException):
            client.do_get(endpoint.ticket).read_all()


def expiration_time_renew_flight_endpoint(client):
    for endpoint in expiring(client).endpoints[1:]:
        # RenewFlightEndpointRequest.endpoint = 1.
        renewed = acted(client, "RenewFlightEndpoint", field(1, endpoint.serialize()))
        renewed = flight.FlightEndpoint.deserialize(renewed)
        assert renewed.expiration_time.as_py() > endpoint.expiration_time.as_py()
        assert renewed.expiration_time.as_py() > datetime.datetime.now(datetime.UTC)
        client.do_get(renewed.ticket).read_all()


def location_reuse_connection(client):
    (endpoint,) = client.get_flight_info(command("reuse")).endpoints
    (location,) = endpoint.locations
    assert location.uri == REUSE_CONNECTION, location.uri


def app_metadata_flight_info_endpoint(client):
    info = client.get_flight_info(command("foobar"))
    (endpoint,) = info.endpoints
    assert (info.app_metadata, endpoint.app_metadata) == (b"foobar", b"foobar")


def do_exchange_echo(client):
    schema = pa.schema([pa.field("x", pa.int32(), nullable=False)])
    writer, reader = client.do_exchange(command("echo"))
    with writer:
        writer.begin(schema)
        for number in range(4):
            batch = pa.record_batch([pa.array(range(number, number + 10), pa.int32())], schema=schema)
            metadata = str(number).encode() if number % 2 == 0 else None
            if metadata is None:
                writer.write_batch(batch)
            else:
                writer.write_with_metadata(batch, metadata)
            chunk = reader.read_chunk()
            assert chunk.data.equals(batch), chunk.data
            received = chunk.app_metadata and chunk.app_metadata.to_pybytes()
            assert received == metadata, received
        writer.done_writing()
        with refused(StopIteration):
            reader.read_chunk()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ["-host", "-port", "-scenario"]:
        parser.add_argument(name, required=True)
    options = parser.parse_args()
    scenario = globals()[options.scenario.replace(":", "_")]
    with flight.connect(f"grpc://{options.host}:{options.port}", middleware=[ECHOED]) as client:
        scenario(client)


if __name__ == "__main__":
    main()
