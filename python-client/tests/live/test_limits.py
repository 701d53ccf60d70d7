"""What a server refuses when it has enough to do."""

from __future__ import annotations

import json
import threading

import grpc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import volary
from cluster import Server
from raw_flight import RawFlight, flight_data
from volary import errors


def test_a_stream_too_many_is_refused_and_taken_when_another_has_ended(tmp_path):
    server = Server("narrow", tmp_path / "store", tmp_path, options=["--max-incoming-streams", "2"])
    batch = pa.record_batch({"a": np.arange(10.0)})
    enough = threading.Event()

    def upload(name):
        command = json.dumps({"@type": "type.googleapis.com/volary.v1.Put", "dataset": name}).encode()
        yield flight_data(batch.schema.serialize(), command)
        yield flight_data(batch.serialize())
        enough.wait(60)

    try:
        with volary.connect(server.url) as client, RawFlight(server.grpc) as raw:
            open_streams = [raw.stream("DoPut", upload(name)) for name in ("first", "second")]
            for stream in open_streams:
                assert json.loads(next(stream)[2:]) == {"rows": 10}
            with pytest.raises(errors.ResourceExhaustedError, match="--max-incoming-streams"):
                client.put("third", pd.DataFrame({"a": [1.0]}))
            # What is no incoming stream goes on.
            assert client.sql("SELECT 1 AS one").to_arrow().to_pydict() == {"one": [1]}
            enough.set()
            for stream in open_streams:
                *_, last = stream
                assert b'"version"' in last
            assert client.put("third", pd.DataFrame({"a": [1.0]})).version == 0
            assert [each.name for each in client.datasets()] == ["first", "second", "third"]
    except grpc.RpcError as error:
        raise AssertionError(f"{error.code()}: {error.details()}") from error
    finally:
        enough.set()
        server.stop()
