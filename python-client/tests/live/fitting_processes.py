"""Clients that are processes of their own, in the middle of a fit that would last for hours: to be interrupted or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import volary

SOURCES = Path(volary.__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
PATIENCE_SECONDS = 120

#: Trains on rows of its own; says by its lines when it has begun. Arguments: the server's address, the model's name.
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


def fitting(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process in the middle of a fit: its first epoch is over. It and what it starts are a group of their own."""
    path = os.pathsep.join([str(SOURCES), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
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


def kill(process: subprocess.Popen[str]) -> None:
    """As when the machine is out of memory: it and what it started are gone without a word."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_SECONDS)


def job_of(client: volary.Client, name: str) -> volary.listing.Job:
    """The job that trains the model, by the list of jobs: to ask about the job alone would be to care for it."""
    [job] = [each for each in client.jobs() if each.name == name]
    return job


def until(reached: Callable[[], bool], seen: Callable[[], object]) -> None:
    """Wait for it; what is seen instead is told when it does not come."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, seen()
        time.sleep(0.1)
