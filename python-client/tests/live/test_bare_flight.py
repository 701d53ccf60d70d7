"""The main job with pyarrow.flight alone: no package of ours, JSON commands only."""

from __future__ import annotations

import json

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from raw_flight import RawFlight, command_descriptor

LAYERS = [
    {"name": "features", "layer": "Input", "config": {"columns": None, "dtype": "float32"}, "inputs": []},
    {"name": "dense", "layer": "Dense", "config": {"units": 32, "activation": "relu"}, "inputs": ["features"]},
    {"name": "answer", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["dense"]},
]
NUMBERS = ["age", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
CATEGORIES = ["workclass", "marital_status", "occupation", "relationship", "sex"]


def command(message: str, **fields: object) -> bytes:
    return json.dumps({"@type": f"type.googleapis.com/volary.v1.{message}", **fields}).encode()


def ask(client: flight.FlightClient, action: str, **fields: object) -> list[dict]:
    return [json.loads(answer.body.to_pybytes()) for answer in client.do_action((action, json.dumps(fields).encode()))]


def put(client: flight.FlightClient, name: str, table: pa.Table, mode: str) -> dict:
    descriptor = flight.FlightDescriptor.for_command(command("Put", dataset=name, mode=mode))
    writer, replies = client.do_put(descriptor, table.schema)
    writer.write_table(table, max_chunksize=8192)
    writer.done_writing()
    last = None
    while (reply := replies.read()) is not None:
        last = json.loads(reply.to_pybytes())
    writer.close()
    return last


def read(client: flight.FlightClient, descriptor: flight.FlightDescriptor) -> pa.Table:
    info = client.get_flight_info(descriptor)
    tables = [client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
    assert all(table.schema.equals(info.schema) for table in tables), "the advertised schema is the streamed one"
    return pa.concat_tables(tables)


def predict(client: flight.FlightClient, descriptor: flight.FlightDescriptor, table: pa.Table) -> pa.Table:
    """Answers for a table: written one batch ahead of the answers and all in one thread, as pyarrow needs it."""
    writer, reader = client.do_exchange(descriptor)
    writer.begin(table.schema)
    answers = []
    for number, batch in enumerate(table.to_batches(max_chunksize=1024)):
        writer.write_batch(batch)
        if number > 0:
            answers.append(reader.read_chunk().data)
    writer.done_writing()
    answers += reader.read_all().to_batches()
    writer.close()
    return pa.Table.from_batches(answers)


@pytest.fixture
def bare(cluster):
    with flight.connect(cluster.url) as client:
        yield client


def test_the_whole_job_needs_nothing_but_pyarrow(bare, data):
    train, test = (pq.read_table(data / f"census_{part}.parquet") for part in ("train", "test"))
    for name, table in {"bare": train, "bare_test": test}.items():
        last = put(bare, name, table, "OVERWRITE")
        assert int(last["rows"]) == table.num_rows
        assert "version" in last
    assert {"bare", "bare_test"} <= {each["name"] for each in ask(bare, "ListDatasets")}
    listed = [info.descriptor.path for info in bare.list_flights()]
    assert [b"bare"] in listed

    assert read(bare, flight.FlightDescriptor.for_path("bare")).num_rows == train.num_rows
    sql = "SELECT income, count(*) AS people FROM bare GROUP BY income ORDER BY income"
    counted = read(bare, flight.FlightDescriptor.for_command(command("Query", sql=sql)))
    assert counted.to_pydict()["people"] == [24_720, 7_841]

    [job] = ask(
        bare, "Train", name="bare", source={"table": "bare"}, label="income", features=NUMBERS + CATEGORIES,
        pipeline=[
            {"transform": "impute", "columns": NUMBERS, "strategy": "median"},
            {"transform": "standardize", "columns": NUMBERS},
            {"transform": "impute", "columns": CATEGORIES, "strategy": "constant", "fill_value": "missing"},
            {"transform": "one_hot", "columns": CATEGORIES},
        ],
        model={"format_version": 1, "name": "bare", "layers": LAYERS, "outputs": ["answer"]},
        loss="binary_crossentropy", optimizer={"name": "adam", "learning_rate": 0.002}, metrics=["auc"],
        epochs=2, batchSize=256, seed=7, validationSplit=0.1,
    )  # fmt: skip
    states = ask(bare, "WatchJob", id=job["id"])
    assert states[-1]["state"] == "SUCCEEDED", states[-1]
    history = read(bare, flight.FlightDescriptor.for_path("jobs", job["id"], "history"))
    assert history.num_rows == 2
    assert history["val_auc"][-1].as_py() > 0.85

    [evaluation] = ask(bare, "Evaluate", model="bare", source={"table": "bare_test"})
    assert float(evaluation["metrics"]["auc"]) > 0.85

    answers = predict(bare, flight.FlightDescriptor.for_command(command("Predict", model="bare", keep=["age"])), test)
    assert answers.column_names == ["prediction", "probability", "age"]
    assert answers["age"].to_pylist() == test["age"].to_pylist()
    by_path = predict(bare, flight.FlightDescriptor.for_path("models", "bare"), test.slice(0, 3))
    assert by_path["probability"].to_pylist() == answers["probability"].to_pylist()[:3]

    [job] = ask(bare, "Score", model="bare", source={"table": "bare_test"}, into="bare_scored", mode="OVERWRITE")
    assert ask(bare, "WatchJob", id=job["id"])[-1]["state"] == "SUCCEEDED"
    scored = read(bare, flight.FlightDescriptor.for_path("bare_scored"))
    assert scored["probability"].to_pylist() == answers["probability"].to_pylist()

    for action, name in (("DropDataset", "bare_scored"), ("DropModel", "bare")):
        ask(bare, action, name=name)
    assert "bare" not in {each["name"] for each in ask(bare, "ListModels")}


def test_a_refused_upload_ends_the_reading_and_is_raised_by_close(bare):
    table = pa.table({"a": [1, 2, 3]})
    put(bare, "refused", table, "OVERWRITE")
    descriptor = flight.FlightDescriptor.for_command(command("Put", dataset="refused"))
    writer, replies = bare.do_put(descriptor, table.schema)
    writer.write_table(table)
    writer.done_writing()
    assert replies.read() is None
    with pytest.raises(pa.ArrowException, match='dataset "refused" exists'):
        writer.close()
    ask(bare, "DropDataset", name="refused")


def test_jobs_are_polled_as_long_running_flights(bare, cluster, census_model):
    numbers = ["age", "education_num", "hours_per_week"]
    train = command(
        "Train", name="polled", source={"table": "census"}, label="income", features=numbers,
        pipeline=[{"transform": "standardize", "columns": numbers}],
        model={"format_version": 1, "name": "polled", "layers": LAYERS, "outputs": ["answer"]},
        loss="binary_crossentropy", optimizer={"name": "adam"}, epochs=2, batch_size=256, seed=7,
    )  # fmt: skip
    score = command("Score", model="polled", source={"table": "census_test"}, into="polled_scored", mode="OVERWRITE")
    with RawFlight(cluster.servers[0].grpc) as raw:
        for asked, kind in ((train, "TRAIN"), (score, "SCORE")):
            answer = raw.poll(command_descriptor(asked))
            identity = json.loads(answer.app_metadata)["id"]
            progress = [answer.progress]
            while answer.next is not None:
                answer = raw.poll(answer.next)
                progress.append(answer.progress)
            job = json.loads(answer.app_metadata)
            assert (job["id"], job["kind"], job["state"]) == (identity, kind, "SUCCEEDED")
            assert progress == sorted(progress)
            assert progress[-1] == 1.0
            assert all(0.0 <= share <= 1.0 for share in progress)
            [ticket] = answer.tickets
            history = bare.do_get(flight.Ticket(ticket)).read_all()
            assert history.num_rows == (2 if kind == "TRAIN" else 0)
        scored = read(bare, flight.FlightDescriptor.for_path("polled_scored"))
        assert scored.num_rows == read(bare, flight.FlightDescriptor.for_path("census_test")).num_rows

        # A refusal ends the poll at once, in the words of the action.
        with pytest.raises(grpc.RpcError) as raised:
            raw.poll(command_descriptor(command("Score", model="nothing", source={"table": "census"}, into="x")))
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND, raised.value
        assert "nothing" in raised.value.details()
        with pytest.raises(grpc.RpcError) as raised:
            raw.poll(command_descriptor(command("JobHandle", id="no-job")))
        assert raised.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), raised.value
    ask(bare, "DropDataset", name="polled_scored")
    ask(bare, "DropModel", name="polled")


def test_a_number_that_a_field_cannot_hold_is_refused_with_the_fields_name(bare):
    for fields, words in (
        ({"epochs": -1}, '"epochs" is -1'),
        ({"batch_size": 2**32}, '"batch_size" is 4294967296'),
        ({"seed": -7}, '"seed" is -7'),
    ):
        with pytest.raises(pa.ArrowException, match="give a whole number from 0 to") as raised:
            ask(bare, "Train", name="refused", **fields)
        assert words in str(raised.value)


def test_one_batch_in_one_batch_out_for_clients_that_wait_for_each_answer(bare, data, census_model):
    test = pq.read_table(data / "census_test.parquet").slice(0, 100)
    writer, reader = bare.do_exchange(flight.FlightDescriptor.for_command(command("Predict", model="census")))
    writer.begin(test.schema)
    for number, batch in enumerate(test.to_batches(max_chunksize=10)):
        writer.write_with_metadata(batch, str(number).encode())
        answer = reader.read_chunk()
        assert (answer.data.num_rows, answer.app_metadata.to_pybytes()) == (10, str(number).encode())
    writer.done_writing()
    writer.close()


def test_every_action_is_listed_with_its_meaning(bare):
    listed = {action.type: action.description for action in bare.list_actions()}
    expected = {"ListDatasets", "DropDataset", "ListModels", "DescribeModel", "DropModel", "Train", "Score", "Evaluate"}
    assert expected | {"ListJobs", "JobStatus", "WatchJob", "CancelJob", "ListMembers"} <= set(listed)
    assert all(listed.values())


def test_a_models_schema_is_its_inputs_then_its_answers(bare, census_model):
    names = bare.get_flight_info(flight.FlightDescriptor.for_path("models", "census")).schema.names
    assert names[-2:] == ["prediction", "probability"]
    assert "age" in names
