"""What a server that is killed in the middle of a write leaves in the store, and what becomes of it."""

from __future__ import annotations

import os
import time

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import volary
from cluster import START_SECONDS, Server


def test_the_file_of_an_upload_that_was_killed_with_its_server_goes_when_it_is_old(tmp_path):
    store, logs = tmp_path / "store", tmp_path / "logs"
    server = Server("killed", store, logs)
    rows = pa.table({"id": pa.array(range(1_000_000))})
    with flight.connect(server.url) as connection:
        writer, _ = connection.do_put(flight.FlightDescriptor.for_path("numbers"), rows.schema)
        deadline = time.monotonic() + START_SECONDS
        while not (found := list(store.glob("datasets/numbers/*.parquet#*"))):
            assert time.monotonic() < deadline
            writer.write_table(rows)
        server.kill()
        with pytest.raises((flight.FlightError, pa.ArrowException)):
            writer.close()
    [half_written] = found
    young = half_written.with_name("part-of-another-server.parquet#1")
    young.write_bytes(b"")
    hours_ago = time.time() - 2 * 3600
    os.utime(half_written, (hours_ago, hours_ago))
    server = Server("killed", store, logs)
    try:
        while half_written.exists():
            assert time.monotonic() < deadline + START_SECONDS
            time.sleep(0.05)
        assert young.exists(), "its writer may live"
        with volary.connect(server.url) as client:
            assert client.datasets() == []
    finally:
        server.stop()
