"""What one answer of a model costs in time: DoExchange of one row, and what of it is not the model."""

import statistics
import time
from contextlib import ExitStack, contextmanager

import grpc
import measure
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
from measure import Result
from server import BINARY, Server

from .encrypted import Certificate
from .rivals import PEERS, Process, free_port
from .streams import processor_seconds

COLUMNS = [f"x{column}" for column in range(8)]
HIDDEN = 16
WARM = 200


class ScoringServer(Process):
    """`peers/flight_scoring_server.py`."""

    def __init__(self, python, place, weights):
        port = free_port()
        super().__init__([python, PEERS / "flight_scoring_server.py", weights, port], place)
        self.location = f"grpc://127.0.0.1:{port}"
        self._wait_for(port)


@contextmanager
def stream(client, descriptor, schema):
    """An open DoExchange: writer and reader."""
    writer, reader = client.do_exchange(descriptor)
    with writer:
        writer.begin(schema)
        yield writer, reader
        writer.done_writing()


def row_on_a_stream(client, descriptor, row):
    """One row and its answer at a time on a stream that stays open."""
    with stream(client, descriptor, row.schema) as (writer, reader):

        def ask():
            writer.write_with_metadata(row, b"1")
            return reader.read_chunk()

        yield ask


def message_on_a_stream(client, descriptor, row):
    """A message without a batch, which comes back as it is: stream, framing and both ends, without rows and without the model."""
    with stream(client, descriptor, row.schema) as (writer, reader):

        def ask():
            writer.write_metadata(b"1")
            return reader.read_chunk()

        yield ask


def row_in_a_call(client, descriptor, row):
    """A call for each row: open, ask, close."""

    def ask():
        with stream(client, descriptor, row.schema) as (writer, reader):
            writer.write_with_metadata(row, b"1")
            return reader.read_chunk()

    yield ask


#: What is asked, by which function, and the bar.
SHAPES = [
    ("one row, open stream", row_on_a_stream, "1.0x"),
    ("one row, a call each", row_in_a_call, ""),
    ("empty message, open stream", message_on_a_stream, ""),
]


def round_trips(asks, count, process):
    """Seconds of each of so many round trips, after a few that warm up, and the server's processor seconds for one."""
    with contextmanager(asks)() as ask:
        for _ in range(min(WARM, count)):
            ask()
        taken = np.empty(count)
        before = processor_seconds(process)
        for place in range(count):
            start = time.perf_counter()
            ask()
            taken[place] = time.perf_counter() - start
        return taken, (processor_seconds(process) - before) / count


def health_check(address):
    """The health check of the port: one gRPC call of empty messages, answered by tonic without a word of ours."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        yield lambda: call(b"")


def exchange(options, work):
    """Median and 99th percentile of one row's way through a small model and back."""
    if not measure.has(options.python, "pyarrow", "safetensors"):
        return
    rng = np.random.default_rng(6)
    rows = 4_096
    table = pa.table({name: rng.standard_normal(rows) for name in COLUMNS} | {"y": rng.standard_normal(rows)})
    layers = [
        {"name": "input", "layer": "Input"},
        {"name": "dense_0", "layer": "Dense", "config": {"units": HIDDEN, "activation": "relu"}, "inputs": ["input"]},
        {"name": "dense_1", "layer": "Dense", "config": {"units": 1}, "inputs": ["dense_0"]},
    ]
    model = {"format_version": 1, "name": "small", "layers": layers, "outputs": ["dense_1"]}
    results = []
    certificate = Certificate.make(work)
    with Server(work / "store") as server, ExitStack() as running:
        server.put("rows", table)
        server.run_job(
            "Train", name="small", source={"table": "rows"}, label="y", model=model, loss="mse", optimizer={"name": "adam"},
            metrics=[], epochs=1, batchSize=256, seed="1", features=COLUMNS,
        )  # fmt: skip
        (weights,) = (work / "store/models/small").glob("*/weights.safetensors")
        with ScoringServer(options.python, work, weights) as peer, flight.connect(peer.location) as client:
            descriptor = flight.FlightDescriptor.for_path("models", "small")
            sides = {"volary": (server.client, server.process.pid), "pyarrow.flight": (client, peer.process)}
            if certificate:  # another server over the same store
                encrypted = running.enter_context(Server(work / "store", *certificate.served, trust=certificate.trust))
                sides["volary, TLS"] = (encrypted.client, encrypted.process.pid)
            check_answers([client for client, _ in sides.values()], descriptor, table.select(COLUMNS))
            row = table.select(COLUMNS).slice(0, 1).to_batches()[0]
            for what, asks, bar in SHAPES:
                print(f"  {what}", flush=True)
                taken = measure.take_turns(
                    {
                        name: lambda asks=asks, client=client, process=process: round_trips(
                            lambda: asks(client, descriptor, row), options.requests, process
                        )
                        for name, (client, process) in sides.items()
                        if name != "volary, TLS" or asks is row_on_a_stream
                    },
                    options.rounds,
                    said,
                )
                results += compared(what, taken["volary"], taken["pyarrow.flight"], bar)
                if "volary, TLS" in taken:
                    results += compared(f"{what}, ours with TLS", taken["volary, TLS"], taken["pyarrow.flight"], "")
        print("  health check", flush=True)
        ping = measure.take_turns(
            {"volary": lambda: round_trips(lambda: health_check(server.grpc), options.requests, server.process.pid)},
            options.rounds,
            said,
        )
        results += compared("gRPC health check (grpcio client)", ping["volary"], [], "")
    floor = statistics.median(np.median(taken) for taken, _ in ping["volary"])
    for result in results[:2]:
        result.floor = (
            f"The ping: tonic's health check answers a grpcio client in {floor * 1e6:.0f} us; the empty message takes the same way as a row, "
            "by the same client, without rows and model."
        )
    method = (
        f"One client, one request at a time, {options.requests:,} of them in a round after {WARM} that are not counted; median and 99th "
        f"percentile of each round, and their medians over the rounds. The model has {len(COLUMNS)} inputs, {HIDDEN} hidden units and one "
        "answer; the peer computes the same weights in NumPy, and the answers are compared. Client and server share the two cores."
    )
    measure.write_page("exchange", "One row's way through a model by DoExchange", results, BINARY, options.out, method)


def said(answer):
    taken, processor = answer
    return f"p50 {np.median(taken) * 1e6:.0f} us, p99 {np.percentile(taken, 99) * 1e6:.0f} us, server {processor * 1e6:.0f} us"


def compared(what, ours, theirs, bar):
    """A comparison each of median, 99th percentile and the server's processor."""
    for words, of in (
        ("p50", lambda answer: np.median(answer[0])),
        ("p99", lambda answer: np.percentile(answer[0], 99)),
        ("server's processor", lambda answer: answer[1]),
    ):
        result = Result(f"{what}, {words}", "us", "pyarrow.flight" if theirs else "none", less_is_better=True)
        result.bar = bar if words.startswith("p") else ""
        result.ours = [float(of(answer)) * 1e6 for answer in ours]
        result.theirs = [float(of(answer)) * 1e6 for answer in theirs]
        yield result


def check_answers(clients, descriptor, table):
    """Both servers compute the same."""
    answers = []
    for client in clients:
        with stream(client, descriptor, table.schema) as (writer, reader):
            writer.write_with_metadata(table.combine_chunks().to_batches()[0], b"1")
            answers.append(reader.read_chunk().data["prediction"].to_numpy(zero_copy_only=False))
    difference = float(np.abs(answers[0] - answers[1]).max())
    assert difference < 1e-4, f"the answers differ by {difference}: the two sides do not do the same work"
