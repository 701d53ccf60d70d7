from __future__ import annotations

import pytest

import volary
from recording import RecordingServer


@pytest.fixture
def server():
    with RecordingServer() as server:
        yield server


@pytest.fixture
def client(server):
    with volary.connect(server.url) as client:
        yield client
