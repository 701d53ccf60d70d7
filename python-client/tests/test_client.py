"""Client calls, beside a recording server."""

from __future__ import annotations

import threading
import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import volary
from volary import errors

ROWS = {"age": [39, 50, None], "job": ["clerk", None, "cook"]}


def test_put_takes_every_kind_of_frame(client, server, tmp_path):
    pq.write_table(pa.table(ROWS), tmp_path / "rows.parquet")
    kinds = {
        "pandas": pd.DataFrame({"age": pd.array(ROWS["age"], dtype="Int64"), "job": ROWS["job"]}),
        "polars": pl.DataFrame(ROWS),
        "table": pa.table(ROWS),
        "batch": pa.record_batch(ROWS),
        "reader": pa.table(ROWS).to_reader(),
        "dict": ROWS,
        "file": tmp_path / "rows.parquet",
        "directory": str(tmp_path),
    }
    for name, rows in kinds.items():
        table = client.put(name, rows)
        assert repr(table) == f"Table('{name}@0')"
        assert client.table(name).to_arrow().to_pydict() == ROWS, name
    assert server.asked("Put")[0] == {
        "@type": "type.googleapis.com/volary.v1.Put",
        "dataset": "pandas",
        "mode": "ERROR",
    }


def test_versions_are_numbered_and_read_back(client, server):
    client.put("t", {"a": [1]})
    assert client.put("t", {"a": [2]}, mode="append").version == 1
    assert client.table("t@0").to_arrow().to_pydict() == {"a": [1]}
    assert client.table("t", 1).to_arrow().to_pydict() == {"a": [2]}
    assert [body["mode"] for body in server.asked("Put")] == ["ERROR", "APPEND"]
    with pytest.raises(ValueError, match='unknown mode "replace"'):
        client.put("t", {"a": [1]}, mode="replace")


def test_a_big_batch_is_cut_into_small_messages(client, server):
    rows = pd.DataFrame({"x": np.arange(2_000_000.0), "y": np.arange(2_000_000)})
    seen = []
    client.put("big", rows, acknowledged=seen.append)
    assert max(server.messages) <= 4 * 1024 * 1024
    assert seen[-1] == 2_000_000
    assert seen == sorted(seen)
    assert client.table("big").to_pandas().equals(rows)


def test_rows_of_very_different_sizes_are_cut_too(client, server):
    text = ["a"] * 100_000 + ["b" * 1_000_000] * 60
    client.put("uneven", {"text": text})
    assert max(server.messages) <= 16 * 1024 * 1024
    assert client.table("uneven").to_arrow()["text"].to_pylist() == text


@pytest.mark.parametrize("name", [None, "id", "c"])
def test_a_category_column_arrives_and_the_index_is_no_column(client, server, name):
    rows = pd.DataFrame({"c": pd.Categorical(["x", "y", "x"])}, index=pd.Index([7, 8, 9], name=name))
    client.put("t", rows)
    assert client.table("t").to_arrow().to_pydict() == {"c": ["x", "y", "x"]}
    server.inputs = ["c"]
    server.scorer = lambda batch: pa.record_batch({"prediction": batch["c"].cast(pa.string())})
    answers = client.model("m").predict(rows)
    assert answers.index.equals(rows.index)
    assert answers["prediction"].tolist() == ["x", "y", "x"]
    if name == "id":
        client.put("reset", rows.reset_index())
        assert client.table("reset").to_pandas()["id"].tolist() == [7, 8, 9]


def hive(folder, years, town="a b"):
    """A directory of one file for each year, the columns of every second one in another order."""
    for year in years:
        columns = {"a": [year, 1], "b": ["x", "y"]}
        if year % 2:
            columns = dict(reversed(columns.items()))
        place = folder / f"year={year}" / f"town={town.replace(' ', '%20')}"
        place.mkdir(parents=True)
        pq.write_table(pa.table(columns), place / "rows.parquet")


def test_folders_of_a_parquet_directory_are_columns(client, tmp_path):
    hive(tmp_path, [2021, 2020])
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "_log").mkdir()
    (tmp_path / "_log" / "checkpoint.parquet").write_text("not for readers")
    client.put("t", tmp_path)
    assert client.table("t").to_arrow().to_pydict() == {
        "a": [2020, 1, 2021, 1],
        "b": ["x", "y", "x", "y"],
        "year": [2020, 2020, 2021, 2021],
        "town": ["a b"] * 4,
    }


def test_a_column_that_a_folder_names_once_more_stands_once(client, tmp_path):
    (tmp_path / "year=2020").mkdir()
    pq.write_table(pa.table({"year": [2020]}), tmp_path / "year=2020" / "rows.parquet")
    client.put("t", tmp_path)
    assert client.table("t").to_arrow().to_pydict() == {"year": [2020]}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, r'there is no Parquet file under ".*rows"$'),
        ({"a.parquet": "a,b\n1,2\n"}, r'"[^"]*a.parquet" cannot be read as Parquet: .*; give a Parquet file$'),
        (
            {"a.parquet": {"x": [1]}, "b.parquet": {"x": ["t"]}},
            r'^column "x" is string in ".*b.parquet" and int64 in ".*a.parquet"; give files of the same columns and types$',
        ),
        (
            {"a.parquet": {"x": [1], "y": [1]}, "b.parquet": {"x": [1]}},
            r'^column "y" is missing in ".*b.parquet" and int64 in ".*a.parquet"; give',
        ),
        (
            {"a.parquet": {"x": [1]}, "k=1/b.parquet": {"x": [1]}},
            r'^the folders of ".*b.parquet" name "k" and those of ".*a.parquet" no column; give files whose',
        ),
    ],
    ids=["empty", "text", "type", "column", "folders"],
)
def test_parquet_paths_that_make_no_table_are_refused_by_name(client, server, tmp_path, files, words):
    rows = tmp_path / "rows"
    rows.mkdir()
    for name, content in files.items():
        (rows / name).parent.mkdir(exist_ok=True)
        if isinstance(content, str):
            (rows / name).write_text(content)
        else:
            pq.write_table(pa.table(content), rows / name)
    with pytest.raises(errors.InvalidArgumentError, match=words):
        client.put("t", rows)
    assert server.questions == []


def test_a_path_that_is_not_there_is_refused_with_the_path(client, server, tmp_path):
    words = rf'^there is no file or directory "{tmp_path}/nothing.parquet"; give the path of a Parquet file'
    with pytest.raises(errors.InvalidArgumentError, match=words):
        client.put("t", tmp_path / "nothing.parquet")
    assert server.questions == []


def test_a_file_that_is_damaged_in_its_middle_leaves_nothing(client, server, tmp_path):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"a": np.random.default_rng(1).normal(size=100_000)}), file)
    damaged = bytearray(file.read_bytes())
    damaged[1_000:200_000] = b"\xff" * 199_000
    file.write_bytes(damaged)
    with pytest.raises(errors.InvalidArgumentError, match=f'^"{file}" cannot be read: '):
        client.put("t", file)
    assert server.datasets == {}


def test_a_frame_that_is_none_is_refused_before_anything_is_sent(client, server):
    with pytest.raises(TypeError, match="cannot read rows from a int"):
        client.put("t", 3)
    with pytest.raises(errors.InvalidArgumentError, match="column mixed"):
        client.put("t", pd.DataFrame({"mixed": [1, "x", {}]}))
    assert server.questions == []


def test_a_source_that_breaks_half_way_leaves_nothing(client, server):
    def batches():
        yield pa.record_batch({"a": [1, 2]})
        raise RuntimeError("the disk went away")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches())
    with pytest.raises(RuntimeError, match="the disk went away"):
        client.put("half", reader)
    assert server.aborted.wait(10)
    assert "half" not in server.datasets


def test_a_refused_upload_raises_the_servers_words(client, server):
    server.put_error = pa.ArrowInvalid('column "a" has no type')
    with pytest.raises(errors.InvalidArgumentError) as raised:
        client.put("t", pd.DataFrame({"x": np.arange(2_000_000.0)}))
    assert raised.value.message == 'column "a" has no type'


def counted(pulled: list[int], batches: int, rows: int) -> pa.RecordBatchReader:
    """A source that notes each batch that is taken from it, and the thread that takes it."""

    def source():
        for number in range(batches):
            pulled.append(threading.get_ident())
            yield pa.record_batch({"x": np.full(rows, float(number))})

    return pa.RecordBatchReader.from_batches(pa.schema({"x": pa.float64()}), source())


def test_an_upload_refused_at_once_is_not_sent_in_vain(client, server):
    server.put_error = pa.ArrowInvalid('column "x" has no type')
    pulled = []
    with pytest.raises(errors.InvalidArgumentError, match=r'^column "x" has no type$'):
        client.put("t", counted(pulled, batches=1_000, rows=500_000))  # 4 MB each
    assert len(pulled) <= 10


def test_an_upload_of_many_tiny_batches_does_not_lock(client, server):
    seen = []
    client.put("tiny", counted([], batches=5_000, rows=1), acknowledged=seen.append)
    assert (client.table("tiny").rows, seen) == (5_000, list(range(1, 5_001)))


def test_an_upload_whose_listener_fails_leaves_nothing(client, server):
    def listener(rows):
        raise RuntimeError("the window was closed")

    with pytest.raises(RuntimeError, match="the window was closed"):
        client.put("t", {"a": [1]}, acknowledged=listener)
    assert server.aborted.wait(10)
    assert "t" not in server.datasets


def test_rows_are_taken_by_the_thread_that_asks_and_no_further_ahead_than_a_few_batches(client):
    # A cursor of sqlite3, for one, refuses every other thread.
    pulled = []
    client.put("t", counted(pulled, batches=3, rows=10))
    answers = client.model("m").predict(counted(pulled, batches=50, rows=10))
    for read, _ in enumerate(answers, start=1):
        assert len(pulled) - 3 <= read + 4
    assert (len(pulled), set(pulled)) == (53, {threading.get_ident()})


def test_rows_of_very_different_sizes_are_scored_without_waiting_for_each_other(client, server):
    server.inputs = ["text"]
    server.scorer = lambda batch: pa.record_batch({"prediction": batch["text"]})
    text = ["a"] * 100_000 + ["b" * 3_000_000] * 30
    assert client.model("m").predict({"text": text})["prediction"] == text
    assert max(server.messages) <= 16 * 1024 * 1024


def test_many_categories_do_not_make_many_messages(client, server):
    names = pa.array([f"category number {number:>20}" for number in range(600_000)])
    codes = pa.array(np.arange(600_000, dtype="int32") % 1_000)
    client.put("t", pa.table({"c": pa.DictionaryArray.from_arrays(codes, names)}))
    assert len(server.messages) == 1


def test_a_source_that_changes_its_columns_while_scoring_is_refused(client):
    def batches():
        yield pa.record_batch({"x": [1.0]})
        yield pa.record_batch({"y": ["a"]})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"x": pa.float64()}), batches())
    with pytest.raises(errors.InvalidArgumentError, match="different schema"):
        client.model("m").predict(reader).read_all()


def test_tables_and_queries_are_read(client, server):
    client.put("t", {"a": list(range(10))})
    table = client.table("t")
    assert table.schema == pa.schema({"a": pa.int64()})
    assert (table.rows, len(table)) == (10, 10)
    assert table.head(3).to_pydict() == {"a": [0, 1, 2]}
    assert table.to_polars()["a"].to_list() == list(range(10))
    assert table.to_reader().read_all().num_rows == 10
    assert "10 rows" in table._repr_html_()
    server.queries["SELECT 1"] = pa.table({"one": [1]})
    assert client.sql("SELECT 1").to_pandas()["one"].tolist() == [1]
    assert client.sql("SELECT 1").schema.names == ["one"]
    with pytest.raises(errors.NotFoundError, match=r'^dataset "nope" does not exist; there are t$'):
        client.table("nope").to_arrow()


def test_listings_read_both_name_forms_and_print_as_tables(client, server):
    server.answers["ListMembers"] = [
        {"name": "a", "address": "127.0.0.1:1", "state": "READY", "version": "0.1", "cores": 2, "memoryBytes": "1024"},
        {"name": "b", "address": "127.0.0.1:2", "state": "READY", "version": "0.1", "cores": 2, "memory_bytes": 2048},
    ]
    server.answers["ListDatasets"] = [
        {"name": "t", "version": "3", "rows": "10", "bytes": "99", "files": 1, "committed": "2026-11-22T10:00:00.5Z"}
    ]
    server.answers["ListModels"] = [
        {"name": "m", "version": "2", "classes": ["<=50K", ">50K"], "metrics": {"auc": 0.9}}
    ]
    server.answers["ListJobs"] = []
    assert [member.memory_bytes for member in client.members()] == [1024, 2048]
    [dataset] = client.datasets()
    assert (dataset.version, dataset.rows, dataset.committed.microsecond) == (3, 10, 500_000)
    assert repr(client.datasets()).splitlines()[1].split()[:3] == ["t", "3", "10"]
    assert client.models()[0].classes == ("<=50K", ">50K")
    assert "auc=0.9" in repr(client.models())
    assert client.jobs().to_pandas().empty
    assert client.datasets().to_pandas()["rows"].tolist() == [10]
    assert "<td>t</td>" in client.datasets()._repr_html_()


def test_predict_answers_in_kind_in_order_and_on_the_same_index(client, server):
    server.scorer = lambda batch: pa.record_batch({"prediction": batch["x"], "probability": batch["x"]})
    rows = pd.DataFrame({"x": np.arange(100_000.0)}, index=pd.Index(range(5, 100_005), name="id"))
    answers = client.model("m").predict(rows, keep=["x"])
    assert answers.index.equals(rows.index)
    assert answers["prediction"].equals(rows["x"])
    assert server.asked("Predict") == [
        {"@type": "type.googleapis.com/volary.v1.Predict", "model": "m", "version": 0, "keep": ["x"]}
    ]
    assert client.model("m", 2).predict(pl.DataFrame({"x": [1.0]}))["prediction"].to_list() == [1.0]
    assert client.model("m").predict(pa.table({"x": [1.0]})).column_names == ["prediction", "probability"]
    assert client.model("m").predict({"x": [1.0]}) == {"prediction": [1.0], "probability": [1.0]}
    stream = client.model("m").predict(pa.table({"x": [1.0, 2.0]}).to_reader())
    assert stream.read_all()["prediction"].to_pylist() == [1.0, 2.0]
    client.put("t", {"x": [3.0, 4.0]})
    assert client.model("m").predict(client.table("t"))["prediction"].to_pylist() == [3.0, 4.0]
    assert client.model("m").predict(rows.head(0)).empty


class Mixed:
    """What no Arrow column holds."""


def test_columns_that_nobody_reads_are_not_sent_whatever_they_hold(client, server, tmp_path):
    seen = []

    def scorer(batch):
        seen.append(batch.schema.names)
        return pa.record_batch({"prediction": batch["x"]})

    server.scorer = scorer
    pandas = pd.DataFrame([[1.0, "t", Mixed(), 1, 2]], columns=["x", "k", "mixed", "twice", "twice"])
    arrow = pa.table([[1.0], ["t"], [1], [2]], names=["x", "k", "twice", "twice"])
    pq.write_table(pa.table({"x": [1.0], "k": ["t"], "more": [1]}), tmp_path / "rows.parquet")
    model = client.model("m")
    for rows in (
        pandas,
        arrow,
        arrow.to_batches()[0],
        arrow.to_reader(),
        pl.DataFrame({"more": [1], "x": [1.0], "k": ["t"]}),
        {"k": ["t"], "x": [1.0], "mixed": [Mixed()]},
        tmp_path / "rows.parquet",
    ):
        answers = model.predict(rows, keep=["k"])
        answers = answers.read_all() if isinstance(answers, pa.RecordBatchReader) else answers
        assert next(iter(answers["prediction"])) in (1.0, pa.scalar(1.0)), type(rows)
    assert {tuple(sorted(names)) for names in seen} == {("k", "x")}
    # The model was asked once for what it reads.
    assert server.asked("path") == [{"path": ["models", "m"]}]
    server.inputs = ["twice"]
    with pytest.raises(errors.InvalidArgumentError, match=r"(?i)duplicate column names found"):
        client.model("m").predict(pandas)


def test_a_missing_column_is_refused_by_the_server_with_all_the_columns_there_are(client, server):
    server.inputs = ["x", "y"]
    rows = pd.DataFrame({"x": [1.0], "Y": [2.0], "mixed": [Mixed()]})
    with pytest.raises(errors.InvalidArgumentError, match=r"^there is no column \{'y'\}; columns are x, Y, mixed$"):
        client.model("m", 2).predict(rows)
    assert server.asked("path") == [{"path": ["models", "m", "2"]}]


def test_the_newest_version_of_a_model_may_read_other_columns_than_the_one_before(client, server):
    model = client.model("m")
    rows = {"x": [1.0], "y": [2.0]}
    model.predict(rows)
    server.inputs = ["x", "y"]
    assert model.predict(rows) == {"prediction": [0.5]}
    assert model.predict(pa.table(rows).to_reader()).read_all().num_rows == 1
    server.inputs = ["y"]
    assert model.predict({"y": [2.0]}) == {"prediction": [0.5]}
    assert len(server.asked("path")) == 3


def test_a_server_that_does_not_tell_what_a_model_reads_is_sent_every_column(client, server):
    server.inputs = None
    assert client.model("m").predict({"x": [1.0], "y": [2.0]}) == {"prediction": [0.5]}


def test_a_version_is_given_apart_or_in_the_name(client, server):
    assert repr(client.table("a@3")) == repr(client.table("a", 3)) == "Table('a@3')"
    assert repr(client.model("m@3")) == repr(client.model("m", np.int64(3))) == "ServedModel('m', version=3)"
    assert repr(client.table("a@3", 3)) == "Table('a@3')"
    for take in (client.table, client.model):
        with pytest.raises(
            errors.InvalidArgumentError, match=r'^"a@x" has the version "x"; give a whole number after the @'
        ):
            take("a@x")
        with pytest.raises(
            errors.InvalidArgumentError, match=r'^"a@3" and version=4 are two versions; give one of them$'
        ):
            take("a@3", 4)
    for none in (lambda: client.model("m", 0), lambda: client.model("m@0")):
        with pytest.raises(errors.InvalidArgumentError, match=r'^model "m" has no version 0; versions count from 1$'):
            none()
    client.model("m@2").predict({"x": [1.0]})
    assert server.asked("Predict")[0]["model"] == "m"
    assert server.asked("Predict")[0]["version"] == 2


def test_a_model_shows_itself_in_one_line_and_its_network_as_a_table(client, server):
    server.inputs = ["age", "hours", "job", "town", "x"]
    server.answers["DescribeModel"] = [
        {
            "name": "m", "version": "3", "label": "income", "metrics": {"auc": 0.91234}, "spec": {"layers": ["many"] * 9},
            "pipeline": [{"transform": "impute", "column": "age"}] * 9, "summary": "Input\n  Dense 64\n",
        }
    ]  # fmt: skip
    described = client.model("m").describe()
    assert repr(described) == "ModelVersion(m@3: age, hours, job, town, ... -> prediction; label income; auc=0.9123)"
    assert described.inputs == ("age", "hours", "job", "town", "x")
    assert (described.outputs, len(described.pipeline)) == (("prediction",), 9)
    summary = client.model("m").summary()
    assert summary == "Input\n  Dense 64\n"
    assert repr(summary) == str(summary)
    server.answers["ListModels"] = server.answers["DescribeModel"]
    assert repr(client.models()[0]) == "ModelVersion(m@3: label income; auc=0.9123)"
    server.answers["JobStatus"] = [
        {"id": "j", "kind": "TRAIN", "state": "RUNNING", "name": "m", "progress": 0.5, "epoch": 1, "epochs": 2}
    ]
    assert repr(client.job("j").status()) == "Job(j: TRAIN m; RUNNING 50%; epoch 1/2)"


def test_a_server_that_writes_far_more_than_it_reads_does_not_lock(client, server):
    wide = pa.array(["x" * 1000])
    server.scorer = lambda batch: pa.record_batch({"prediction": wide.take(pa.array([0] * batch.num_rows, pa.int64()))})
    rows = pa.table({"x": np.zeros(300_000)})
    start = time.monotonic()
    assert client.model("m").predict(rows).num_rows == 300_000
    assert time.monotonic() - start < 60


def test_a_refused_batch_raises_the_servers_words_while_rows_are_still_written(client, server):
    def scorer(batch):
        if batch.num_rows:
            raise pa.ArrowInvalid('column "age" is missing')
        return batch

    server.scorer = scorer
    with pytest.raises(errors.InvalidArgumentError, match=r'^column "age" is missing$'):
        client.model("m").predict(pa.table({"x": np.zeros(3_000_000)}))


def test_rows_that_break_while_scoring_raise_their_own_error(client, server):
    def batches():
        yield pa.record_batch({"x": [1.0]})
        raise RuntimeError("the disk went away")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"x": pa.float64()}), batches())
    with pytest.raises(RuntimeError, match="the disk went away"):
        client.model("m").predict(reader).read_all()


def test_answers_that_nobody_reads_to_the_end_stop_the_stream(client, server):
    stream = client.model("m").predict(pa.table({"x": np.zeros(1_000_000)}).to_reader())
    stream.read_next_batch()
    del stream  # joins the writer; the test would hang if the call went on waiting


def test_describe_evaluate_and_drop_send_what_they_mean(client, server):
    server.answers["DescribeModel"] = [{"name": "m", "version": "3", "summary": "Dense 64", "seed": "7"}]
    server.answers["Evaluate"] = [{"metrics": {"auc": 0.9, "loss": "NaN"}, "rows": "3"}]
    server.answers["DropModel"] = [{}]
    assert client.model("m", 3).describe().summary == "Dense 64"
    assert client.model("m").evaluate(client.table("t@2"), metrics=["auc"])["auc"] == 0.9
    asked = [volary.metrics.AUC(curve="PR"), volary.metrics.R2Score, {"name": "precision", "thresholds": 0.7}]
    client.model("m").evaluate(client.table("t@2"), metrics=asked, sample_weight="w")
    assert server.asked("Evaluate")[-1]["sampleWeight"] == "w"
    forms = [{"name": "auc", "curve": "PR"}, "r2_score", {"name": "precision", "thresholds": 0.7}]
    assert server.asked("Evaluate")[-1]["metrics"] == forms
    client.drop_model("m")
    assert server.asked("DescribeModel") == [{"name": "m", "version": 3}]
    assert server.asked("Evaluate")[:1] == [
        {"model": "m", "version": 0, "source": {"table": "t@2"}, "metrics": ["auc"]}
    ]
    assert server.asked("DropModel") == [{"name": "m"}]
    with pytest.raises(TypeError, match="metrics is a list"):
        client.model("m").evaluate(client.table("t"), metrics="auc")


def test_evaluating_a_frame_leaves_no_dataset_behind(client, server):
    server.answers["Evaluate"] = [{"metrics": {}}]
    client.model("m").evaluate(pd.DataFrame({"x": [1.0]}))
    assert server.asked("Evaluate")[0]["source"]["table"].startswith("temporary-m-evaluation-")
    assert server.datasets == {}


def test_score_waits_and_answers_the_dataset(client, server):
    server.answers["Score"] = [{"id": "j", "state": "QUEUED"}]
    server.answers["WatchJob"] = [{"id": "j", "state": "RUNNING"}, {"id": "j", "state": "SUCCEEDED", "version": "4"}]
    assert repr(client.score("m", "t@3", into="out", keep=["age"])) == "Table('out@4')"
    client.score(client.model("m", 2), client.sql("SELECT 1"), into="out", mode="overwrite")
    client.score("m", path="/data/x.parquet", into="out")
    bodies = server.asked("Score")
    assert bodies[0] == {
        "model": "m", "version": 0, "source": {"table": "t@3"}, "into": "out", "mode": "ERROR", "keep": ["age"],
        "leaseSeconds": 60,
    }  # fmt: skip
    assert (bodies[1]["version"], bodies[1]["source"], bodies[1]["mode"]) == (2, {"query": "SELECT 1"}, "OVERWRITE")
    assert bodies[2]["source"] == {"path": "/data/x.parquet"}
    client.score("m@2", "t", into="out")
    client.score("m", "t", into="out", version=2)
    client.score(client.model("m", 1), "t", into="out", version=2)
    assert [(each["model"], each["version"]) for each in server.asked("Score")[3:]] == [("m", 2)] * 3
    with pytest.raises(TypeError, match="exactly one of table, query and path; got none"):
        client.score("m", into="out")


def test_a_server_that_is_not_there_is_unavailable():
    with (
        volary.connect("grpc://127.0.0.1:1") as client,
        pytest.raises(errors.UnavailableError, match=r"127\.0\.0\.1:1"),
    ):
        client.datasets()
