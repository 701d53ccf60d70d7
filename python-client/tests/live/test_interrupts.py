"""What becomes of a job whose client is interrupted, or dies, while it waits. The clients here are processes of their own."""

from __future__ import annotations

import json
import signal

import pytest

import volary
from cluster import Cluster, Server
from fitting_processes import ENDLESS_FIT, PATIENCE_SECONDS, fitting, job_of, kill, until


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server("interrupted", tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs"))
    yield server
    server.stop()


@pytest.fixture
def watcher(server):
    with volary.connect(server.url) as client:
        yield client


def test_ctrl_c_cancels_the_job_and_drops_the_rows_before_the_process_ends(server, watcher):
    process = fitting(ENDLESS_FIT, server.url, "interrupted")
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
    process = fitting(ENDLESS_FIT, server.url, "terminated")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGTERM
    assert job_of(watcher, "terminated").state == "CANCELLED"
    assert [each.name for each in watcher.datasets()] == []


def test_the_job_of_a_client_that_is_killed_is_cancelled_when_its_lease_ends(server, watcher):
    process = fitting(ENDLESS_FIT, server.url, "orphaned")
    kill(process)
    until(lambda: job_of(watcher, "orphaned").state != "RUNNING", lambda: job_of(watcher, "orphaned"))
    assert job_of(watcher, "orphaned").state == "CANCELLED"
    assert watcher.datasets() == [], "the rows go with the job that they were made for"


def test_a_list_of_jobs_asked_of_another_server_renews_no_lease(tmp_path):
    with Cluster(2, tmp_path / "store", tmp_path / "logs") as cluster:
        driver, other = cluster.servers
        process = fitting(ENDLESS_FIT, driver.url, "orphaned")
        with volary.connect(other.url) as client:
            assert job_of(client, "orphaned").coordinator == driver.name
            kill(process)
            until(lambda: job_of(client, "orphaned").state != "RUNNING", lambda: job_of(client, "orphaned"))
            assert job_of(client, "orphaned").state == "CANCELLED"


def status_in(store, name: str) -> dict:
    """What the journal says of the job that trains the model."""
    journals = [json.loads(path.read_text()) for path in store.glob("jobs/*/status.json")]
    [status] = [journal for journal in journals if journal["name"] == name]
    return status


def test_a_server_that_starts_again_drops_the_rows_of_the_job_that_it_was_killed_with(tmp_path):
    store, logs = tmp_path / "store", tmp_path / "logs"
    server = Server("killed", store, logs)
    process = fitting(ENDLESS_FIT, server.url, "orphaned")
    server.kill()
    kill(process)
    assert status_in(store, "orphaned")["state"] in ("queued", "running")
    server = Server("killed", store, logs)
    try:
        with volary.connect(server.url) as client:
            assert job_of(client, "orphaned").state == "FAILED"
            assert client.datasets() == []
    finally:
        server.stop()


def test_another_server_drops_the_rows_of_a_job_whose_server_was_killed_with_its_client(tmp_path):
    with Cluster(2, tmp_path / "store", tmp_path / "logs") as cluster:
        driver, other = cluster.servers
        process = fitting(ENDLESS_FIT, driver.url, "orphaned")
        driver.kill()
        kill(process)
        with volary.connect(other.url) as client:
            assert len(client.datasets()) == 1
            until(lambda: client.datasets() == [], client.datasets)
            # The rows go first: then the end is written.
            until(lambda: status_in(tmp_path / "store", "orphaned")["state"] == "failed", client.jobs)
            assert "was lost" in job_of(client, "orphaned").error
