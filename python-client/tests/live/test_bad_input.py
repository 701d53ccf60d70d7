"""Bad input: each is refused in words that name the thing, and leaves the servers serving and the data as they were."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import refusals
import volary
from raw_flight import RawFlight, flight_data
from volary import errors, features, layers

GOOD = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 25, "b": ["x", "y"] * 50, "y": ["no", "yes"] * 50})


@pytest.fixture(scope="module")
def kept(client):
    """A table and a model that every story must leave alone."""
    client.put("kept", GOOD, mode="overwrite")
    model = network(layers.Dense(1, activation="sigmoid"))
    model.fit(client.table("kept"), "y", features=["a"], epochs=1, seed=1, name="kept", verbose=0)


@pytest.fixture(autouse=True)
def _unharmed(client, cluster, kept):
    def state():
        data = {each.name: (each.version, each.rows) for each in client.datasets()}
        return data, {each.name: each.version for each in client.models()}

    before = state()
    yield
    assert all(server.process.poll() is None for server in cluster.servers)
    assert {member.state for member in client.members()} == {"READY"}
    assert state() == before
    assert client.table("kept").to_pandas().equals(GOOD)
    assert len(client.model("kept").predict(GOOD)) == len(GOOD)


def network(*stack, loss="binary_crossentropy", optimizer="adam", metrics=()):
    model = volary.Sequential(list(stack))
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics)
    return model


def refused_fit(client, words, *, rows=None, model=None, label="y", pipeline=None, wanted=None, **options):
    """Training is refused, now or as the job's end, in these words, and not as a defect of the server."""
    model = model or network(layers.Dense(1, activation="sigmoid"))
    rows = client.table("kept") if rows is None else rows
    with pytest.raises(errors.VolaryError) as raised:
        model.fit(
            rows, label, features=wanted, pipeline=pipeline, seed=1, name="refused", client=client, verbose=0, **options
        )
    assert raised.value.code in ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"), raised.value
    for word in words:
        assert word in raised.value.message, raised.value.message


def test_unknown_names_are_refused_by_name(client):
    with pytest.raises(errors.NotFoundError, match="nothing"):
        client.table("nothing").to_arrow()
    with pytest.raises(errors.NotFoundError, match="nothing"):
        client.model("nothing").predict(GOOD)
    with pytest.raises(errors.NotFoundError, match="nothing"):
        client.model("nothing").describe()
    with pytest.raises(errors.NotFoundError):
        client.model("kept", 99).predict(GOOD)
    with pytest.raises(errors.NotFoundError):
        client.job("01920000-0000-7000-8000-000000000000").status()
    with pytest.raises(errors.NotFoundError, match="nothing"):
        client.drop_dataset("nothing")
    with pytest.raises(errors.InvalidArgumentError, match="nothing"):
        client.sql("SELECT nothing FROM kept").to_arrow()
    with pytest.raises(errors.VolaryError, match="nothing"):
        client.sql("SELECT * FROM nothing").to_arrow()
    with pytest.raises(errors.VolaryError, match="nothing"):
        client.sql("SELECT predict('nothing', a) FROM kept").to_arrow()
    with pytest.raises((errors.UnimplementedError, errors.InvalidArgumentError), match="Nothing"):
        client._transport.action("Nothing")


def test_unknown_columns_layers_and_options_are_refused_by_name(client):
    refused_fit(client, ["nothing"], wanted=["a", "nothing"])
    refused_fit(client, ["nothing"], label="nothing", wanted=["a"])
    refused_fit(client, ["nothing"], rows=client.table("nothing"), wanted=["a"])
    refused_fit(client, ["nothing"], pipeline=[features.Standardize(["nothing"])], wanted=["a"])
    refused_fit(client, ["rely"], model=network(layers.Dense(1, activation="rely")), wanted=["a"])
    refused_fit(client, ["nothing"], model=network(layers.Dense(1), loss="nothing"), wanted=["a"])
    metric = network(layers.Dense(1, activation="sigmoid"), metrics=["nothing"])
    refused_fit(client, ["nothing"], model=metric, wanted=["a"])
    refused_fit(client, ["nothing"], wanted=["a"], sample_weight="nothing")
    good = network(layers.Dense(1, activation="sigmoid"))
    request = {
        "name": "refused", "source": {"table": "kept"}, "label": "y", "features": ["a"], "model": good.to_json(),
        "loss": "binary_crossentropy", "optimizer": {"name": "adam"}, "epochs": 1, "batchSize": 32,
    }  # fmt: skip
    wrong = [
        {"optimizer": {"name": "adm"}},
        {"optimizer": {"name": "adam", "adm": 1}},
        {"adm": 1},
        {"pipeline": [{"transform": "adm", "columns": ["a"]}]},
        {"pipeline": [{"transform": "standardize", "columns": ["a"], "adm": 1}]},
        {
            "model": {
                **good.to_json(),
                "layers": [{"name": "x", "layer": "adm", "config": {}, "inputs": []}],
                "outputs": ["x"],
            }
        },
    ]
    for change in wrong:
        with pytest.raises(errors.VolaryError, match="adm"):
            client.train({**request, **change}).wait()
    for change in ({"epochs": 0}, {"batchSize": 0}, {"validationSplit": 1.5}, {"lanes": 3}, {"source": {}}):
        with pytest.raises(errors.InvalidArgumentError):
            client.train({**request, **change}).wait()


def test_validation_rows_without_a_column_of_the_training_are_refused_with_its_name(client):
    rows = GOOD.assign(w=1.0)
    words = ['"w"', "validation"]
    refused_fit(client, words, rows=rows, wanted=["a", "w"], validation_data=rows.drop(columns="w"))


def test_wrong_types_are_refused_with_the_column(client):
    refused_fit(client, ["b"], wanted=["a", "b"])
    refused_fit(client, ["b"], pipeline=[features.Standardize(["b"])], wanted=["b"])
    with pytest.raises(errors.InvalidArgumentError, match='"a"'):
        client.model("kept").predict(pd.DataFrame({"a": ["text"]}))
    with pytest.raises(errors.InvalidArgumentError, match='"a"'):
        client.model("kept").predict(pd.DataFrame({"other": [1.0]}))
    with pytest.raises(errors.InvalidArgumentError, match="nothing"):
        client.model("kept").predict(GOOD, keep=["nothing"])
    with pytest.raises(errors.InvalidArgumentError):
        client.put("kept", {"a": ["not a number"], "b": ["x"], "y": ["no"]}, mode="append")


def test_a_missing_column_is_refused_with_the_columns_there_are_whatever_they_hold(client):
    rows = pd.DataFrame({"A": [1.0], "mixed": [object()]})
    words = r'^there is no column "a", which the model reads \(but "A".*\); columns are "A", "mixed"$'
    with pytest.raises(errors.InvalidArgumentError, match=words):
        client.model("kept").predict(rows)
    words = r'^keep column "nothing" is not among the incoming columns; they are "a", "mixed"$'
    with pytest.raises(errors.InvalidArgumentError, match=words):
        client.model("kept@1").predict(rows.rename(columns={"A": "a"}), keep=["nothing"])


def test_nulls_in_a_label_are_refused(client):
    refused_fit(client, ["y", "null"], rows=GOOD.assign(y=["no", None] * 50), wanted=["a"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_refused_with_column_and_first_row(client, value):
    rows = GOOD.copy()
    rows.loc[17, "a"] = value
    # pandas cannot tell NaN from null: the NaN goes as Arrow so that it arrives as one.
    table = pa.table({"a": pa.array(rows["a"].to_numpy(), from_pandas=False), "y": rows["y"].tolist()})
    refused_fit(client, ['"a"', "17"], rows=table, wanted=["a"])
    with pytest.raises(errors.InvalidArgumentError, match=r'"a".*17'):
        client.model("kept").predict(table)


def test_nulls_in_features_without_impute_are_refused_with_column_and_row(client):
    rows = pa.table({"a": [1.0, None, 2.0], "y": ["no", "yes", "no"]})
    refused_fit(client, ['"a"'], rows=rows, wanted=["a"])


def test_too_few_classes_are_refused(client):
    refused_fit(client, ["class"], rows=GOOD.assign(y="same"), wanted=["a"])


def test_shapes_that_do_not_fit_are_refused_with_both_layers(client):
    # Widths that come from the data: shapes that the client knows, it refuses by itself.
    left, right = volary.Input(["a", "c"], name="left"), volary.Input(["a", "c", "d"], name="right")
    joined = layers.Dense(1, activation="sigmoid")(layers.Add(name="joined")([left, right]))
    model = volary.Model(outputs=joined)
    model.compile(loss="binary_crossentropy")
    rows = GOOD.assign(c=np.arange(100) % 4, d=0.5)
    refused_fit(client, ["joined", "[2]", "[3]"], model=model, rows=rows, wanted=["a", "c", "d"])
    refused_fit(client, ["2"], model=network(layers.Dense(3, activation="softmax")), wanted=["a"])


def test_what_would_not_mean_what_it_says_is_refused(client):
    refused_fit(
        client, ['"answer"', 'activation="sigmoid"'], model=network(layers.Dense(1, name="answer")), wanted=["a"]
    )
    linear = network(layers.Dense(2, activation="tanh"), loss="sparse_categorical_crossentropy")
    refused_fit(client, ['activation="softmax"'], model=linear, wanted=["a"])
    for metric in ("auc", "accuracy"):
        model = network(layers.Dense(1), loss="mse", metrics=[metric])
        refused_fit(client, [metric, "label of classes"], model=model, label="a", wanted=["y"])
    refused_fit(client, ["class_weight"], wanted=["a"], class_weight={"no": 1e308})
    refused_fit(client, ["class_weight", "every class"], wanted=["a"], class_weight={"no": 0.0, "yes": 0.0})


def test_a_schema_that_changes_mid_stream_is_refused(client, cluster):
    first, second = pa.record_batch({"a": [1.0]}), pa.record_batch({"a": ["x"], "b": [1]})
    command = json.dumps({"@type": "type.googleapis.com/volary.v1.Put", "dataset": "changing"}).encode()
    import grpc

    for messages in (
        [
            flight_data(first.schema.serialize(), command),
            flight_data(first.serialize()),
            flight_data(second.serialize()),
        ],
        [
            flight_data(first.schema.serialize(), command),
            flight_data(first.serialize()),
            flight_data(second.schema.serialize()),
            flight_data(second.serialize()),
        ],
        [flight_data(first.serialize(), command)],
        [flight_data(None, command), flight_data(pa.py_buffer(first.serialize().to_pybytes()[:-8] + b"\xff" * 8))],
    ):
        with RawFlight(cluster.servers[0].grpc) as raw, pytest.raises(grpc.RpcError) as raised:
            list(raw.stream("DoPut", messages))
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT, raised.value


def test_a_client_that_disconnects_mid_upload_leaves_nothing(client, cluster):
    batch = pa.record_batch({"a": np.arange(100_000.0)})
    command = json.dumps({"@type": "type.googleapis.com/volary.v1.Put", "dataset": "cut"}).encode()
    held = threading.Event()

    def messages():
        yield flight_data(batch.schema.serialize(), command)
        for _ in range(20):
            yield flight_data(batch.serialize())
        held.wait(30)

    with RawFlight(cluster.servers[0].grpc) as raw:
        call = raw.stream("DoPut", messages())
        for reply in call:
            if b'"2000000"' in reply or b": 2000000" in reply or b":2000000" in reply:
                break
        call.cancel()
        held.set()


def test_a_table_without_rows_is_refused_where_rows_are_needed(client):
    nothing = pa.schema({"a": pa.float64(), "b": pa.string(), "y": pa.string()}).empty_table()
    empty = client.put("without-rows", nothing)
    try:
        refused_fit(client, ["no rows", "without-rows"], rows=empty, wanted=["a"])
        with pytest.raises(errors.VolaryError, match="no rows") as raised:
            client.model("kept").evaluate(empty)
        assert raised.value.code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION"), raised.value
        # No rows have no answers, which is no mistake: the dataset has the answer's columns.
        scored = client.score("kept", empty, into="scored-without-rows", keep=["b"]).to_arrow()
        assert (scored.num_rows, scored.column_names) == (0, ["prediction", "probability", "b"])
        client.drop_dataset("scored-without-rows")
    finally:
        client.drop_dataset("without-rows")


def test_a_frame_without_rows_is_refused_in_the_users_words(client):
    rows = GOOD.head(0)
    refused_fit(client, ["the DataFrame has no rows; give at least one"], rows=rows, wanted=["a"])
    with pytest.raises(errors.InvalidArgumentError, match="the DataFrame has no rows"):
        client.model("kept").evaluate(rows)


def test_a_cancelled_scoring_says_so_and_leaves_no_dataset(client):
    # A hundred rows joined three times: a hundred million, far more than are scored before the cancel comes.
    endless = client.sql(
        "SELECT one.a AS a FROM kept AS one CROSS JOIN kept AS two CROSS JOIN kept AS three CROSS JOIN kept AS four"
    )
    job = client.start_score("kept", endless, into="never")
    for state in job.watch():
        if state.state == "RUNNING" or state.done:
            break
    assert state.state == "RUNNING", state
    job.cancel()
    with pytest.raises(errors.CancelledError):
        job.wait()
    assert job.status().state == "CANCELLED"
    assert "never" not in [each.name for each in client.datasets()]


def test_a_connection_that_breaks_mid_exchange_harms_nobody(client, cluster):
    server = cluster.servers[0]
    batch = pa.record_batch({"a": np.arange(10_000.0)})
    command = json.dumps({"@type": "type.googleapis.com/volary.v1.Predict", "model": "kept"}).encode()
    import grpc

    for abrupt in (False, True):
        held = threading.Event()

        def messages(held=held):
            yield flight_data(batch.schema.serialize(), command)
            yield flight_data(batch.serialize())
            held.wait(60)

        with RawFlight(server.grpc) as raw:
            call = raw.stream("DoExchange", messages())
            # The schema, then the answers of the first batch: the server now waits for the second.
            assert len([next(call), next(call)]) == 2
            if abrupt:
                raw.channel.close()
            else:
                call.cancel()
            with pytest.raises(grpc.RpcError) as raised:
                next(call)
            held.set()
        assert raised.value.code() == grpc.StatusCode.CANCELLED, raised.value
    # The server has noticed: no exchange is open any more.
    deadline = time.monotonic() + 30
    while exchanges_running(server) > 0:
        assert time.monotonic() < deadline, "a broken exchange is still open"
        time.sleep(0.05)


def exchanges_running(server):
    """How many DoExchange streams the server counts as open."""
    with urllib.request.urlopen(f"http://{server.http}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("volary_requests_running{") and "do_exchange" in line]
    assert counts, "the gauge is there once there was an exchange"
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def test_a_client_that_disconnects_mid_score_harms_nobody(client):
    stream = client.model("kept").predict(pa.table({"a": np.zeros(3_000_000)}).to_reader())
    stream.read_next_batch()
    del stream


def test_refusals_by_the_hundred_leave_the_users_process_alive(client):
    child = [sys.executable, refusals.__file__, client.url, "kept", "kept"]
    ended = subprocess.run(child, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "survived 900 of 900"), ended.stderr[-2000:]


def test_a_message_of_300_mib_is_refused_with_the_options_name(cluster):
    batch = pa.record_batch({"x": np.zeros(300 * 1024 * 1024 // 8)})
    descriptor = flight.FlightDescriptor.for_command(
        json.dumps({"@type": "type.googleapis.com/volary.v1.Put", "dataset": "huge"}).encode()
    )
    with flight.connect(cluster.url) as bare:
        # One thread writes and nobody reads, so nothing can end the call under a write; closing twice says the same twice.
        writer, _ = bare.do_put(descriptor, batch.schema)
        with pytest.raises(pa.ArrowException) as raised:
            writer.write_batch(batch)
            writer.close()
        with pytest.raises(pa.ArrowException) as closed:
            writer.close()
    refusal = errors.from_arrow(closed.value)
    assert isinstance(refusal, errors.ResourceExhaustedError), (refusal, raised.value)
    assert "max-message-size" in refusal.message


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", ".", "a\0b", "", "x" * 10_000, "a b", "../models/kept", "kept@1", "\u00fc", "a\\b", "-a"],
    ids=lambda name: repr(name[:12]),
)
def test_names_that_are_no_folder_names_are_refused(client, name):
    with pytest.raises((errors.InvalidArgumentError, errors.NotFoundError)):
        client.put(name, GOOD)
    with pytest.raises((errors.InvalidArgumentError, errors.NotFoundError)):
        client.drop_dataset(name)
    with pytest.raises((errors.InvalidArgumentError, errors.NotFoundError)):
        client.drop_model(name)
    if name != "kept@1":
        with pytest.raises((errors.InvalidArgumentError, errors.NotFoundError)):
            client._transport.read([name])
    with pytest.raises(errors.InvalidArgumentError):
        client.score("kept", "kept", into=name)
    model = network(layers.Dense(1, activation="sigmoid"))
    with pytest.raises(errors.InvalidArgumentError):
        model.fit(client.table("kept"), "y", features=["a"], name=name or " ", verbose=0)


def test_garbage_tickets_and_commands_are_refused(cluster):
    garbage = [
        b"",
        b"\x00",
        b"{",
        b"[]",
        b'"text"',
        b"\xff" * 100,
        b'{"@type":"x"}',
        b"{" * 100_000,
        b"\x0a\xff\xff\xff\xff\x0f",
    ]
    with flight.connect(cluster.url) as bare:
        for bytes_ in garbage:
            with pytest.raises((pa.ArrowException, flight.FlightError)) as raised:
                bare.do_get(flight.Ticket(bytes_)).read_all()
            codes = {errors.from_arrow(raised.value).code}
            with pytest.raises((pa.ArrowException, flight.FlightError)) as raised:
                bare.get_flight_info(flight.FlightDescriptor.for_command(bytes_))
            codes.add(errors.from_arrow(raised.value).code)
            with pytest.raises((pa.ArrowException, flight.FlightError)) as raised:
                writer, _ = bare.do_put(flight.FlightDescriptor.for_command(bytes_), pa.schema({"a": pa.int64()}))
                writer.close()
            codes.add(errors.from_arrow(raised.value).code)
            if bytes_:
                with pytest.raises((pa.ArrowException, flight.FlightError)) as raised:
                    list(bare.do_action(("Train", bytes_)))
                codes.add(errors.from_arrow(raised.value).code)
            assert codes <= {"INVALID_ARGUMENT", "NOT_FOUND"}, (bytes_[:20], codes)


@pytest.mark.parametrize(
    "statement",
    [
        "COPY kept TO '/tmp/volary-copied.parquet'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE TABLE t AS SELECT * FROM kept",
        "CREATE VIEW t AS SELECT * FROM kept",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        'SELECT * FROM "/etc/passwd"',
        "SELECT * FROM 'http://127.0.0.1/x.parquet'",
        "INSERT INTO kept VALUES (1.0, 'x', 'no')",
        "DELETE FROM kept",
        "UPDATE kept SET a = 0",
        "DROP TABLE kept",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
        "not sql",
        "",
    ],
)
def test_sql_that_does_more_than_ask_is_refused(client, statement):
    with pytest.raises(errors.VolaryError) as raised:
        client.sql(statement).to_arrow()
    assert raised.value.code in ("INVALID_ARGUMENT", "NOT_FOUND"), raised.value


def test_paths_outside_the_allowed_ones_are_refused(client, data, tmp_path):
    for path in (
        "/etc/passwd",
        str(data / ".." / "census.py"),
        str(tmp_path),
        "relative.parquet",
        "http://127.0.0.1/x",
    ):
        with pytest.raises(errors.VolaryError) as raised:
            client.score("kept", path=path, into="from-path")
        assert raised.value.code in ("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED"), raised.value
