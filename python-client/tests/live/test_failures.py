"""Servers that die, drain, or run out of disk."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import volary
from cluster import Cluster, Server, binary
from volary import errors, layers


def endless_job(client, **more) -> volary.JobHandle:
    """A training that would take hours, past its first step."""
    random = np.random.default_rng(1)
    client.put("endless", pd.DataFrame({"a": random.normal(size=50_000), "y": random.normal(size=50_000)}))
    model = volary.Sequential([layers.Dense(64, activation="relu"), layers.Dense(1)])
    job = client.train(
        {
            "name": "endless", "source": {"table": "endless"}, "label": "y", "model": model.to_json(), "loss": "mse",
            "optimizer": {"name": "adam"}, "epochs": 100_000, "batchSize": 512, "seed": "1", **more,
        }
    )  # fmt: skip
    for state in job.watch():
        if state.step > 0 or state.done:
            break
    return job


def test_a_killed_server_ends_the_job_with_an_error_that_names_it(tmp_path):
    with Cluster(3, tmp_path / "store", tmp_path) as cluster, volary.connect(cluster.url) as client:
        job = endless_job(client)
        assert sorted(job.status().servers) == ["server-1", "server-2", "server-3"]
        coordinator = job.status().coordinator
        victim = next(server for server in cluster.servers[1:] if server.name != coordinator)
        began = time.monotonic()
        victim.kill()
        with pytest.raises(errors.UnavailableError, match=victim.name):
            job.wait()
        assert time.monotonic() - began < 15
        assert client.table("endless").rows == 50_000
        assert client.models() == []
        # The two that live train on.
        model = volary.Sequential([layers.Dense(1)], name="after")
        model.compile(loss="mse")
        deadline = time.monotonic() + 30
        while "READY" in [each.state for each in client.members() if each.name == victim.name]:
            assert time.monotonic() < deadline, client.members()
            time.sleep(0.1)
        model.fit(client.table("endless"), "y", epochs=1, batch_size=512, seed=1, verbose=0)
        assert len(model.history.job.status().servers) == 2


def test_a_drained_server_ends_the_job_it_drives_at_once_and_says_so(tmp_path):
    server = Server("driver", tmp_path / "store", tmp_path, options=["--drain-timeout", "30s"])
    with volary.connect(server.url) as client:
        job = endless_job(client)
        began = time.monotonic()
        server.terminate()
        assert server.stop() == 0
        assert time.monotonic() - began < 15
    with Cluster(1, tmp_path / "store", tmp_path) as again, volary.connect(again.url) as client:
        ended = client.job(job.id).status()
        assert (ended.state, ended.error_code) == ("FAILED", "UNAVAILABLE")
        assert ended.error == 'server "driver" is stopping; start the job again on another one'
        assert client.models() == []


def test_a_drained_worker_ends_the_job_at_once_and_is_named_once(tmp_path):
    with Cluster(2, tmp_path / "store", tmp_path) as cluster, volary.connect(cluster.url) as client:
        job = endless_job(client)
        coordinator = job.status().coordinator
        [worker] = [server for server in cluster.servers if server.name != coordinator]
        [other] = [server for server in cluster.servers if server.name == coordinator]
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 15
        with volary.connect(other.url) as left:
            with pytest.raises(errors.UnavailableError, match=worker.name) as caught:
                left.job(job.id).wait()
        assert str(caught.value).count("was lost during the job") == 1
        assert "is stopping" in str(caught.value)


def test_a_server_killed_and_started_again_ends_its_job_and_removes_its_rows(tmp_path):
    store = tmp_path / "store"
    server = Server("server-1", store, tmp_path)
    with volary.connect(server.url) as client:
        job = endless_job(client, validationSplit=0.1)
        server.kill()
    assert list((store / "jobs").rglob("*.parquet"))
    with Cluster(1, store, tmp_path) as again, volary.connect(again.url) as client:
        [ended] = client.jobs()
        assert (ended.id, ended.state, ended.error_code) == (job.id, "FAILED", "UNAVAILABLE")
        assert not list((store / "jobs").rglob("*.parquet"))
        assert client.table("endless").rows == 50_000


def test_a_server_that_joins_and_leaves_is_seen_within_five_seconds(tmp_path):
    with Cluster(1, tmp_path / "store", tmp_path) as cluster, volary.connect(cluster.url) as client:
        late = Server("late", tmp_path / "store", tmp_path, [cluster.servers[0].grpc])
        try:
            began = time.monotonic()
            while "late" not in [each.name for each in client.members() if each.state == "READY"]:
                assert time.monotonic() - began < 5, client.members()
                time.sleep(0.05)
        finally:
            assert late.stop() == 0
        began = time.monotonic()
        while "late" in [each.name for each in client.members() if each.state == "READY"]:
            assert time.monotonic() - began < 5, client.members()
            time.sleep(0.05)


def test_sigterm_finishes_running_streams_refuses_new_work_and_exits_0(tmp_path):
    server = Server("drained", tmp_path / "store", tmp_path)
    with volary.connect(server.url) as client:
        client.put("t", {"a": np.arange(3_000_000)})
        stream = client.table("t").to_reader()
        rows = stream.read_next_batch().num_rows
        server.terminate()
        deadline = time.monotonic() + 20
        while True:
            try:
                client.put("late", {"a": [1]}, mode="overwrite")
            except errors.UnavailableError:
                break
            assert time.monotonic() < deadline, "new work is still taken long after SIGTERM"
        rows += sum(batch.num_rows for batch in stream)
        assert rows == 3_000_000
    assert server.stop() == 0
    with Cluster(1, tmp_path / "store", tmp_path) as again, volary.connect(again.url) as client:
        assert client.table("t").rows == 3_000_000


def test_health_is_told_over_grpc_and_http(cluster):
    grpc = pytest.importorskip("grpc")
    health = pytest.importorskip("grpc_health.v1.health_pb2")
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    server = cluster.servers[0]
    with grpc.insecure_channel(server.grpc) as channel:
        stub = stubs.HealthStub(channel)
        for service in ("", "arrow.flight.protocol.FlightService"):
            answer = stub.Check(health.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health.HealthCheckResponse.SERVING
    for page in ("livez", "readyz", "metrics"):
        with urllib.request.urlopen(f"http://{server.http}/{page}", timeout=5) as response:
            assert response.status == 200
            body = response.read().decode()
    assert "# TYPE volary_" in body


def test_a_server_is_ready_fast_and_small_when_idle(tmp_path):
    starts = []
    # The machine may be busy with other tests: the quickest of a few starts is the program's own time.
    for number in range(5):
        server = Server(f"idle-{number}", tmp_path / "store", tmp_path)
        try:
            starts.append(server.start_seconds)
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            [resident] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
        finally:
            assert server.stop() == 0
        assert resident < 100 * 1024, f"{resident} KiB"
        if starts[-1] < 1.0:
            return
    raise AssertionError(f"no start took less than a second: {starts}")


def test_a_full_disk_refuses_the_upload_and_keeps_what_was_there(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        server = Server("small", small / "store", tmp_path)
        try:
            with volary.connect(server.url) as client:
                client.put("kept", {"a": [1, 2, 3]})
                random = np.random.default_rng(1)
                with pytest.raises(errors.ResourceExhaustedError, match=r"(?i)space|disk|full"):
                    client.put("big", pa.table({"x": random.normal(size=12_000_000)}))
                assert [each.name for each in client.datasets()] == ["kept"]
                assert client.table("kept").to_arrow().to_pydict() == {"a": [1, 2, 3]}
                # What the broken upload wrote is gone, so there is room again.
                client.put("small", pa.table({"x": random.normal(size=1_000_000)}))
        finally:
            server.stop()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_the_command_line_answers_about_a_running_cluster(cluster, client):
    for command in (["members"], ["datasets"], ["models"], ["jobs"], ["sql", "SELECT 1 AS one"]):
        asked = [str(binary()), *command, "--server", cluster.url]
        plain = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert plain.returncode == 0, (command, plain.stderr)
        answer = subprocess.run([*asked, "--json"], capture_output=True, text=True, check=False)
        assert [json.loads(line) for line in answer.stdout.splitlines()] or command[0] in ("models", "jobs", "datasets")
    drawn = subprocess.run(
        [str(binary()), "members", "--server", cluster.url], capture_output=True, text=True, check=True
    )
    heading, *members = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in drawn.stdout.splitlines()
        if line.startswith("|")
    ]
    assert heading == ["name", "address", "state", "version", "cores", "memory"]
    assert len(members) == 3
    for member in members:
        assert all(cell and cell not in ("0", "0 B") for cell in member), drawn.stdout
    assert subprocess.run([str(binary()), "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "volary"
    )
