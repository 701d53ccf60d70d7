"""A Flight server that keeps what it was asked and answers what it was told: the protocol of docs/protocol.md, in memory.

It trains nothing. `answers` maps an action's name to its answers, or to a function of the body that makes them;
`scorer` makes the answer columns of a batch. Datasets are kept, so that reading gives back what was written.
"""

from __future__ import annotations

import json
import threading

import pyarrow as pa
import pyarrow.flight as flight

import volary
from volary import layers


class RecordingServer(flight.FlightServerBase):
    """Listens on a free port of the loopback."""

    def __init__(self) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.questions: list[tuple[str, dict]] = []
        self.answers: dict[str, object] = {}
        self.parts: dict[tuple[str, str, int], pa.Table] = {}
        self.datasets: dict[str, list[pa.Table]] = {}
        self.paths: dict[tuple[str, ...], pa.Table] = {}
        self.queries: dict[str, pa.Table] = {}
        self.messages: list[int] = []
        self.aborted = threading.Event()
        self.inputs: list[str] | None = ["x"]  # what every model reads; None does not tell
        self.scorer = lambda batch: pa.record_batch({"prediction": pa.array([0.5] * batch.num_rows, pa.float32())})
        self.put_error: Exception | None = None
        self.committed = lambda: None  # called when an upload is committed, before the client hears of it

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def asked(self, name: str) -> list[dict]:
        """Every body that came with this action or command."""
        return [body for each, body in self.questions if each == name]

    # -- verbs ------------------------------------------------------------------------------------------------

    def do_action(self, context, action):
        body = json.loads(action.body.to_pybytes() or b"{}")
        self.questions.append((action.type, body))
        if action.type == "DropDataset" and action.type not in self.answers:
            if self.datasets.pop(body["name"], None) is None:
                raise pa.ArrowKeyError(f'dataset "{body["name"]}" does not exist')
            return iter([b"{}"])
        answers = self.answers[action.type]
        answers = answers(body) if callable(answers) else answers
        return (answer if isinstance(answer, bytes) else json.dumps(answer).encode() for answer in answers)

    def _rows(self, descriptor) -> pa.Table:
        if descriptor.path:
            path = tuple(part.decode() for part in descriptor.path)
            self.questions.append(("path", {"path": list(path)}))
            if path in self.paths:
                return self.paths[path]
            name, _, version = path[0].partition("@")
            if name not in self.datasets:
                raise pa.ArrowKeyError(
                    f'dataset "{name}" does not exist; there are {", ".join(self.datasets) or "none"}'
                )
            return self.datasets[name][int(version) if version else -1]
        body = json.loads(descriptor.command)
        self.questions.append((body["@type"].rpartition(".")[2], body))
        return self.queries[body["sql"]]

    def get_schema(self, context, descriptor):
        return flight.SchemaResult(self._rows(descriptor).schema)

    def _model(self, descriptor) -> flight.FlightInfo:
        """A model as the function that it is."""
        self.questions.append(("path", {"path": [part.decode() for part in descriptor.path]}))
        fields = [pa.field(name, pa.float64()) for name in self.inputs or []]
        schema = pa.schema([*fields, pa.field("prediction", pa.float32())])
        told = b"" if self.inputs is None else json.dumps({"inputs": len(self.inputs), "version": 1}).encode()
        return flight.FlightInfo(schema, descriptor, [], -1, -1, False, told)

    def get_flight_info(self, context, descriptor):
        if descriptor.path and descriptor.path[0] == b"models":
            return self._model(descriptor)
        table = self._rows(descriptor)
        middle = table.num_rows // 2
        # Two endpoints, one that names no place and one that says "here" in Flight's own words.
        places = [(0, middle, []), (middle, table.num_rows, ["arrow-flight-reuse-connection://?"])]
        endpoints = []
        for start, stop, locations in places:
            self.tickets = getattr(self, "tickets", [])
            self.tickets.append(table.slice(start, stop - start))
            endpoints.append(flight.FlightEndpoint(str(len(self.tickets) - 1), locations))
        return flight.FlightInfo(table.schema, descriptor, endpoints, table.num_rows, -1)

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.tickets[int(ticket.ticket)].combine_chunks())

    def do_put(self, context, descriptor, reader, writer):
        body = json.loads(descriptor.command)
        kind = body["@type"].rpartition(".")[2]
        self.questions.append((kind, body))
        batches, rows = [], 0
        if self.put_error is not None:
            raise self.put_error
        for chunk in reader:
            if chunk.data is None:
                if chunk.app_metadata is not None and b"abort" in chunk.app_metadata.to_pybytes():
                    self.aborted.set()
                    raise flight.FlightCancelledError("the upload was given up")
                continue
            batches.append(chunk.data)
            self.messages.append(chunk.data.nbytes)
            rows += chunk.data.num_rows
            writer.write(json.dumps({"rows": str(rows)}).encode())
        if kind == "PutPart":
            self.parts[body["upload"], body["part"], body["attempt"]] = pa.Table.from_batches(batches, reader.schema)
            last = {"rows": str(rows), "part": body["part"], "attempt": body["attempt"]}
            writer.write(json.dumps(last).encode())
            return
        versions = self.datasets.setdefault(body["dataset"], [])
        versions.append(pa.Table.from_batches(batches, reader.schema))
        self.committed()
        writer.write(json.dumps({"rows": str(rows), "version": str(len(versions) - 1)}).encode())

    def do_exchange(self, context, descriptor, reader, writer):
        body = json.loads(descriptor.command)
        self.questions.append(("Predict", body))
        if missing := set(self.inputs or []) - set(reader.schema.names):
            raise pa.ArrowInvalid(f"there is no column {missing}; columns are {', '.join(reader.schema.names)}")
        empty = pa.RecordBatch.from_pylist([], schema=reader.schema)
        writer.begin(self.scorer(empty).schema)
        for chunk in reader:
            self.messages.append(chunk.data.nbytes)
            writer.write_batch(self.scorer(chunk.data))


def job(state: str, **fields: object) -> dict:
    """A Job message."""
    return {"id": "0190-job", "kind": "TRAIN", "state": state, "name": "census", **fields}


#: The history of the job of every fit.
HISTORY = pa.table(
    {
        "epoch": pa.array([1, 2], pa.uint32()),
        "loss": [0.5, 0.4],
        "auc": [0.8, 0.85],
        "val_loss": [0.45, 0.41],
        "val_auc": [0.81, 0.84],
        "rows_per_second": [1e5, 1.1e5],
    }
)


def census_model() -> volary.Sequential:
    """A model that can be fitted."""
    model = volary.Sequential(
        [layers.Dense(64, activation="relu"), layers.Dropout(0.1), layers.Dense(1, activation="sigmoid")]
    )
    model.compile(optimizer=volary.optimizers.Adam(1e-3), loss="binary_crossentropy", metrics=["auc", "accuracy"])
    return model
