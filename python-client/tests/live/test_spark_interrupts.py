"""What becomes of a Spark driver's job and rows when the driver is interrupted, or dies, in the middle of ``fit``."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

import volary
from cluster import Server
from fitting_processes import PATIENCE_SECONDS, fitting, job_of, kill, until

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
    """A Spark driver in the middle of a fit, with its Java."""
    return fitting(ENDLESS_FIT, server.url, name, str(folder))


def test_a_driver_that_is_killed_leaves_neither_a_job_nor_rows(server, watcher, tmp_path):
    process = driver(server, "orphaned", tmp_path)
    assert job_of(watcher, "orphaned").state == "RUNNING"
    assert len(watcher.datasets()) == 2, "rows to train on, and rows to validate on"
    kill(process)
    until(lambda: job_of(watcher, "orphaned").state != "RUNNING", lambda: job_of(watcher, "orphaned"))
    assert watcher.datasets() == []
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
