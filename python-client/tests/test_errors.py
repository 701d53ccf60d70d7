"""Every gRPC code comes out as its own exception with the server's words alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import volary
from volary import errors
from volary.errors import InvalidArgumentError

grpc = pytest.importorskip("grpc", reason="grpcio answers with each code in turn")

WORDS = 'model "churn" has no version 7; versions 1 to 5 exist. Detail: Failed runs are not versions'
CODES = {code.name: code for code in grpc.StatusCode if code.name != "OK"}


class Refuser(grpc.GenericRpcHandler):
    """Answers every call with one code."""

    def __init__(self, code):
        self.code = code

    def service(self, details):
        def refuse(request, context):
            context.abort(self.code, WORDS)

        if details.method.endswith("/GetFlightInfo"):
            return grpc.unary_unary_rpc_method_handler(refuse)
        if details.method.endswith(("/DoPut", "/DoExchange")):
            return grpc.stream_stream_rpc_method_handler(refuse)
        return grpc.unary_stream_rpc_method_handler(refuse)


@pytest.fixture(params=sorted(CODES))
def refusing(request):
    server = grpc.server(ThreadPoolExecutor(2), handlers=(Refuser(CODES[request.param]),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with volary.connect(f"grpc://127.0.0.1:{port}") as client:
        yield client, request.param
    server.stop(None).wait()


def test_each_code_has_its_exception_through_every_verb(refusing):
    client, code = refusing
    rows = pa.table({"a": [1]})
    calls = {
        "DoAction": client.datasets,
        "GetFlightInfo": lambda: client.table("t").to_arrow(),
        "DoPut": lambda: client.put("t", rows),
        "DoExchange": lambda: client.model("m").predict(rows),
    }
    for verb, call in calls.items():
        with pytest.raises(errors.VolaryError) as raised:
            call()
        assert (verb, raised.value.code) == (verb, code)
        assert (verb, str(raised.value)) == (verb, WORDS)
        assert type(raised.value) is type(errors.from_code(code, ""))


def test_python_kinds_of_errors_catch_them_too():
    assert issubclass(errors.InvalidArgumentError, ValueError)
    assert issubclass(errors.NotFoundError, LookupError)
    assert issubclass(errors.UnavailableError, ConnectionError)


def test_arrows_own_additions_are_cut():
    noisy = flight.FlightUnavailableError(
        "Could not write record batch to stream: Flight returned unavailable error, with message: the server is stopping. "
        "gRPC client debug context: UNKNOWN:Error received from peer. Client context: OK. Detail: Unavailable"
    )
    assert errors.from_arrow(noisy).message == "the server is stopping"
    assert isinstance(errors.from_arrow(noisy), errors.UnavailableError)


def test_an_unknown_code_is_still_an_error_of_ours():
    assert isinstance(errors.from_code("TEAPOT", "short and stout"), errors.UnknownError)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://cluster:50051", 'begins with "http://"'),
        ("cluster:50051", "has no scheme"),
        ("", "has no scheme"),
        ("grpc://cluster:99999", "cannot be read: Invalid port number"),
        ("grpc://a:1,grpc://b:1", "cannot be read: Cannot parse URI"),
    ],
)
def test_an_address_of_no_known_scheme_is_refused_with_those_that_there_are(address, why):
    from volary.sklearn import VolaryClassifier

    calls = [lambda: volary.connect(address)]
    if address:  # none is a server on this machine
        calls.append(lambda: VolaryClassifier(address).fit([[0.0], [1.0]], [0, 1]))
    for call in calls:
        with pytest.raises(InvalidArgumentError) as raised:
            call()
        words = str(raised.value)
        assert f'the server\'s address "{address}" {why}' in words
        assert "grpc://host:port, or grpc+tls://host:port" in words
        assert '"grpc://127.0.0.1:50051"' in words
