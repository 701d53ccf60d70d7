"""What interrupts and faults do to a job that fit waits for, beside a recording server."""

from __future__ import annotations

import os
import signal
import threading
import time

import pandas as pd
import pytest

from recording import census_model, job
from volary import errors


def test_an_interrupt_cancels_the_job(client, trained):
    def watch(body):
        yield job("RUNNING")
        os.kill(os.getpid(), signal.SIGINT)
        while not trained.asked("CancelJob"):
            time.sleep(0.05)  # the server's half-second beat
            yield job("RUNNING")
        yield job("CANCELLED")

    trained.answers["CancelJob"] = [{}]
    trained.answers["WatchJob"] = watch
    with pytest.raises(KeyboardInterrupt):
        census_model().fit(client.table("t"), "y", verbose=0)
    assert trained.asked("CancelJob") == [{"id": "0190-job"}]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_second_interrupt_does_not_wait_for_the_job_to_end(client, trained):
    left = threading.Event()

    def watch(body):
        # Once while fit waits, once more while it waits for a job that takes no notice of being cancelled.
        yield job("RUNNING")
        interrupt()
        while not left.wait(0.05):
            yield job("RUNNING")

    trained.answers["CancelJob"] = [{}]
    trained.answers["WatchJob"] = watch
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        census_model().fit(pd.DataFrame({"x": [1.0], "y": [1]}), "y", verbose=0)
    left.set()
    assert len(trained.asked("CancelJob")) == 1
    assert len(trained.asked("WatchJob")) == 2
    assert time.monotonic() - began < 5  # of the ten seconds that a job is given to end
    assert trained.datasets == {}


def test_an_interrupt_while_the_job_is_asked_for_cancels_it_too(client, trained):
    def train(body):
        interrupt()
        return [job("QUEUED")]

    trained.answers["Train"] = train
    trained.answers["CancelJob"] = [{}]
    trained.answers["WatchJob"] = [job("CANCELLED")]
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        census_model().fit(client.table("t"), "y", verbose=0)
    assert trained.asked("CancelJob") == [{"id": "0190-job"}]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_while_the_rows_are_committed_leaves_no_rows(client, trained):
    trained.committed = interrupt
    with pytest.raises(KeyboardInterrupt):
        census_model().fit(pd.DataFrame({"x": [1.0], "y": [1]}), "y", verbose=0)
    assert trained.datasets == {}
    assert trained.asked("Train") == []


def test_a_fit_that_breaks_while_it_waits_does_not_leave_its_job_running(client, trained, monkeypatch):
    def broken(self, job):
        raise RuntimeError("the terminal is gone")

    monkeypatch.setattr("volary.progress.Progress.show", broken)
    trained.answers["CancelJob"] = [{}]
    with pytest.raises(RuntimeError, match="terminal"):
        census_model().fit(client.table("t"), "y", verbose=0)
    assert trained.asked("CancelJob") == [{"id": "0190-job"}]


def test_a_job_that_has_ended_is_not_cancelled(client, trained):
    trained.answers["WatchJob"] = [job("FAILED", error={"code": "INTERNAL", "message": "a defect"})]
    with pytest.raises(errors.InternalError):
        census_model().fit(client.table("t"), "y", verbose=0)
    assert trained.asked("CancelJob") == []


def test_a_fit_asks_for_a_lease_so_that_a_killed_client_leaves_no_job(client, trained):
    census_model().fit(client.table("t"), "y", verbose=0)
    census_model().fit(client.table("t"), "y", verbose=0, lease_seconds=5)
    census_model().fit(client.table("t"), "y", verbose=0, lease_seconds=None)
    assert [asked.get("leaseSeconds") for asked in trained.asked("Train")] == [60, 5, None]
    with pytest.raises(ValueError, match=r"^lease_seconds is 0; give a whole number from 1 to "):
        census_model().fit(client.table("t"), "y", verbose=0, lease_seconds=0)
