"""What becomes of a Spark driver's job and rows when the driver is interrupted, or dies, in the middle of ``fit``."""

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
HERE = Path(__file__).resolve().parent
PATIENCE_SECONDS = 120

# Would train for hours; says by its lines when it has begun.
ENDLESS_FIT = """
import sys
from pathlib import Path
import volary
from spark_session import session
from volary import layers
from volary.spark import VolaryEstimator, fitting

fitting.LEASE_SECONDS = 2
spark = session(Path(sys.argv[3]))
df = spark.range(2000).selectExpr("rand(1) AS x", "rand(2) AS y", "cast(id % 2 AS double) AS label")
network = volary.Sequential([layers.Dense(16, activation="relu"), layers.Dense(1, activation="sigmoid")])
stage = VolaryEstimator(network, "binary_crossentropy", server=sys.argv[1], featuresCol=["x", "y"], modelName=sys.argv[2])
stage.setMaxEpoch(1_000_000).setBatchSize(100).setSeed(1).setValidation(df.where("x < 0.5"))._set(verbose=2)
try:
    stage.fit(df)
except KeyboardInterrupt:
    print("interrupted; the job is", stage.job.status().state, flush=True)
    raise
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server("driven", tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs"))
    yield server
    server.stop()


@pytest.fixture
def watcher(server):
    with volary.connect(server.url) as client:
        yield client


def driver(server: Server, name: str, folder: Path) -> subprocess.Popen[str]:
    """A Spark driver in the middle of a fit: its first epoch is over. It and its Java are a group of their own."""
    path = os.pathsep.join([str(SOURCES), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_FIT, server.url, name, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    patience = threading.Timer(PATIENCE_SECONDS, process.kill)
    patience.start()
    heard = []
    try:
        for line in process.stderr:
            heard.append(line)
            if line.startswith("epoch "):
                return process
    finally:
        patience.cancel()
    raise AssertionError(f"no epoch came to its end: {''.join(heard)}{process.communicate()}")


def job_of(client: volary.Client, name: str) -> volary.listing.Job:
    """The job that trains the model."""
    [job] = [each for each in client.jobs() if each.name == name]
    return job


def test_a_driver_that_is_killed_leaves_neither_a_job_nor_rows(server, watcher, tmp_path):
    process = driver(server, "orphaned", tmp_path)
    assert job_of(watcher, "orphaned").state == "RUNNING"
    assert len(watcher.datasets()) == 2, "rows to train on, and rows to validate on"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    # By the list of jobs: to ask about this one would be to care for it.
    while job_of(watcher, "orphaned").state == "RUNNING" or watcher.datasets():
        assert time.monotonic() < deadline, (job_of(watcher, "orphaned"), watcher.datasets())
        time.sleep(0.1)
    assert job_of(watcher, "orphaned").state == "CANCELLED"
    assert watcher.uploads() == []


def test_ctrl_c_cancels_the_job_and_drops_the_rows_before_the_driver_ends(server, watcher, tmp_path):
    process = driver(server, "interrupted", tmp_path)
    process.send_signal(signal.SIGINT)
    told, complaint = process.communicate(timeout=PATIENCE_SECONDS)
    assert "interrupted; the job is CANCELLED" in told, complaint
    assert "is being cancelled, a second interrupt does not wait for it" in complaint
    assert complaint.rstrip().endswith("KeyboardInterrupt")
    assert job_of(watcher, "interrupted").state == "CANCELLED"
    assert [each.name for each in watcher.datasets()] == []
    assert [each.name for each in watcher.models()] == []
