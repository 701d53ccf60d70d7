"""What becomes of a job whose client is interrupted, or dies, while it waits. The clients here are processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import volary
from cluster import Server

SOURCES = Path(volary.__file__).resolve().parents[1]
PATIENCE_SECONDS = 60

# Would train for hours; says by its lines when it has begun.
ENDLESS_FIT = """
import sys
import numpy as np
import volary
from volary import layers

volary.connect(sys.argv[1])
random = np.random.default_rng(0)
rows = {"a": random.normal(size=2000), "b": random.normal(size=2000), "y": random.normal(size=2000)}
model = volary.Sequential([layers.Dense(16, activation="relu"), layers.Dense(1)], name=sys.argv[2])
model.compile(loss="mse")
try:
    model.fit(rows, "y", epochs=1_000_000, batch_size=100, seed=1, verbose=2, lease_seconds=2)
except KeyboardInterrupt:
    print("interrupted; the job is", model.job.status().state, flush=True)
    raise
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server("interrupted", tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs"))
    yield server
    server.stop()


@pytest.fixture
def watcher(server):
    with volary.connect(server.url) as client:
        yield client


def fitting(server: Server, name: str) -> subprocess.Popen[str]:
    """A process in the middle of a fit: its first epoch is over."""
    path = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_FIT, server.url, name],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = threading.Timer(PATIENCE_SECONDS, process.kill)
    patience.start()
    try:
        for line in process.stderr:
            if line.startswith("epoch "):
                return process
    finally:
        patience.cancel()
    raise AssertionError(f"no epoch came to its end: {process.communicate()}")


def job_of(client: volary.Client, name: str) -> volary.listing.Job:
    """The job that trains the model."""
    [job] = [each for each in client.jobs() if each.name == name]
    return job


def test_ctrl_c_cancels_the_job_and_drops_the_rows_before_the_process_ends(server, watcher):
    process = fitting(server, "interrupted")
    assert job_of(watcher, "interrupted").state == "RUNNING"
    process.send_signal(signal.SIGINT)
    told, complaint = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGINT
    assert "interrupted; the job is CANCELLED" in told
    assert "is being cancelled, a second interrupt does not wait for it" in complaint
    assert complaint.rstrip().endswith("KeyboardInterrupt")
    assert job_of(watcher, "interrupted").state == "CANCELLED"
    assert [each.name for each in watcher.datasets()] == []
    assert [each.name for each in watcher.models()] == []


def test_sigterm_cancels_the_job_and_drops_the_rows_before_it_ends_the_process(server, watcher):
    process = fitting(server, "terminated")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGTERM
    assert job_of(watcher, "terminated").state == "CANCELLED"
    assert [each.name for each in watcher.datasets()] == []


def test_the_job_of_a_client_that_is_killed_is_cancelled_when_its_lease_ends(server, watcher):
    process = fitting(server, "orphaned")
    process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    # By the list of jobs: to ask about this one would be to care for it.
    while job_of(watcher, "orphaned").state == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert job_of(watcher, "orphaned").state == "CANCELLED"
    while watcher.datasets():
        assert time.monotonic() < deadline, "the rows go with the job that they were made for"
        time.sleep(0.1)
