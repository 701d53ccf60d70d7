"""Datasets: every kind of frame, every type, versions, and other programs that read the directory."""

from __future__ import annotations

import datetime as dt
import decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from volary import errors

ROWS = {"a": [1, 2, None], "b": ["x", None, "z"]}


def test_every_kind_of_frame_comes_back_as_it_was(client, tmp_path):
    pq.write_table(pa.table(ROWS), tmp_path / "rows.parquet")
    kinds = {
        "kind-pandas": pd.DataFrame({"a": pd.array(ROWS["a"], dtype="Int64"), "b": ROWS["b"]}),
        "kind-polars": pl.DataFrame(ROWS),
        "kind-table": pa.table(ROWS),
        "kind-batch": pa.record_batch(ROWS),
        "kind-reader": pa.table(ROWS).to_reader(),
        "kind-dict": ROWS,
        "kind-parquet": tmp_path / "rows.parquet",
    }
    for name, rows in kinds.items():
        table = client.put(name, rows)
        assert table.version == 0
        assert client.table(name).to_arrow().to_pydict() == ROWS, name
        assert client.table(name).schema == client.table(name).to_arrow().schema
        assert client.table(name).to_polars().to_dict(as_series=False) == ROWS
        assert client.table(name).rows == 3


def test_modes_make_versions_and_versions_stay(client):
    assert client.put("versions", {"a": [1]}).version == 0
    with pytest.raises(errors.AlreadyExistsError, match="versions"):
        client.put("versions", {"a": [9]})
    assert client.put("versions", {"a": [2]}, mode="append").version == 1
    assert client.put("versions", {"a": [3]}, mode="overwrite").version == 2
    assert client.table("versions@0").to_arrow()["a"].to_pylist() == [1]
    assert client.table("versions", 1).to_arrow()["a"].to_pylist() == [1, 2]
    assert client.table("versions").to_arrow()["a"].to_pylist() == [3]
    with pytest.raises(errors.NotFoundError, match="7"):
        client.table("versions", 7).to_arrow()
    [listed] = [each for each in client.datasets() if each.name == "versions"]
    assert (listed.version, listed.rows) == (2, 1)
    client.drop_dataset("versions")
    with pytest.raises(errors.NotFoundError):
        client.table("versions").to_arrow()


def test_types_survive_nested_ones_included(client):
    moment = dt.datetime(2026, 11, 22, 10, 30, 0, 123456)
    table = pa.table(
        {
            "bool": pa.array([True, None]),
            "int8": pa.array([1, None], pa.int8()),
            "int64": pa.array([2**62, None]),
            "float32": pa.array([1.5, None], pa.float32()),
            "date": pa.array([moment.date(), None]),
            "time": pa.array([moment, None], pa.timestamp("us", tz="UTC")),
            "decimal": pa.array([decimal.Decimal("12.34"), None], pa.decimal128(10, 2)),
            "binary": pa.array([b"\x00\xff", None]),
            "list": pa.array([[1, None], None], pa.list_(pa.int64())),
            "struct": pa.array([{"x": 1, "y": ["a"]}, None]),
            "category": pa.array(["x", None]).dictionary_encode(),
        }
    )
    client.put("types", table)
    back = client.table("types").to_arrow()
    assert back.to_pylist() == table.to_pylist()
    assert back["category"].type in (pa.string(), pa.large_string())


def test_an_empty_table_is_a_version_too(client):
    client.put("empty", pa.schema({"a": pa.int64()}).empty_table())
    assert client.table("empty").to_arrow().num_rows == 0
    assert client.table("empty").schema.names == ["a"]


def test_two_million_rows_in_one_batch(client):
    rows = pd.DataFrame({"x": np.arange(2_000_000.0), "y": np.arange(2_000_000)})
    batch = pa.RecordBatch.from_pandas(rows)
    client.put("two-million", batch)
    assert client.table("two-million").to_pandas().equals(rows)
    assert client.table("two-million").head(7)["y"].to_pylist() == list(range(7))
    client.drop_dataset("two-million")


def test_other_programs_read_the_directory_as_it_is(client, store):
    client.put("shared", {"a": [1, 2], "b": ["x", "y"]})
    client.put("shared", {"a": [3], "b": ["z"]}, mode="append")
    path = str(store / "datasets" / "shared")
    expected = {"a": [1, 2, 3], "b": ["x", "y", "z"]}
    table = DeltaTable(path)
    assert table.version() == 1
    assert table.to_pandas().sort_values("a").to_dict("list") == expected
    assert DeltaTable(path, version=0).to_pandas()["a"].tolist() == [1, 2]
    assert pl.read_delta(path).sort("a").to_dict(as_series=False) == expected
    files = table.file_uris()
    assert pd.concat(pd.read_parquet(file) for file in files).sort_values("a").to_dict("list") == expected
    assert duckdb.sql(f"SELECT sum(a) FROM read_parquet({files!r})").fetchall() == [(6,)]
    assert sorted(duckdb.from_arrow(client.table("shared").to_reader()).fetchall()) == [(1, "x"), (2, "y"), (3, "z")]


def test_a_source_that_breaks_half_way_leaves_no_version(client):
    client.put("broken", {"a": [1]})

    def batches():
        yield pa.record_batch({"a": list(range(1000))})
        raise RuntimeError("the disk went away")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches())
    with pytest.raises(RuntimeError, match="the disk went away"):
        client.put("broken", reader, mode="append")
    assert client.table("broken").to_arrow().to_pydict() == {"a": [1]}
    assert [each.version for each in client.datasets() if each.name == "broken"] == [0]
