from __future__ import annotations

import pytest

import volary
from recording import HISTORY, RecordingServer, job


@pytest.fixture
def server():
    with RecordingServer() as server:
        yield server


@pytest.fixture
def client(server):
    with volary.connect(server.url) as client:
        yield client


@pytest.fixture
def trained(server):
    """The server as if training went well."""
    server.answers["Train"] = [job("QUEUED")]
    server.answers["WatchJob"] = [
        job("QUEUED"),
        job("RUNNING", epochs=2, progress=0.2, rowsPerSecond=51234.5, metrics={"loss": 0.6}, notes=["lanes are few"]),
        job("RUNNING", epoch=1, epochs=2, progress=0.5, rowsPerSecond=51234.5, metrics={"loss": 0.5, "val_auc": 0.81}),
        job("SUCCEEDED", epoch=2, epochs=2, progress=1.0, metrics={"loss": 0.4}, version="3", notes=["lanes are few"]),
    ]
    server.paths["jobs", "0190-job", "history"] = HISTORY
    return server
