"""Trainings that are broken off and go on: killed servers, a loss that runs away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volary
from cluster import Cluster
from volary import callbacks, errors, layers


def rows(count: int = 20_000) -> pd.DataFrame:
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.normal(size=(count, 4)), columns=list("abcd"))
    return frame.assign(y=np.sin(frame.a) + 0.5 * frame.b * frame.c)


def network(name: str = "waves") -> volary.Sequential:
    model = volary.Sequential([layers.Dense(32, activation="relu"), layers.Dense(1)], name=name)
    model.compile(optimizer=volary.optimizers.Adam(1e-2), loss="mse")
    return model


def broken_off(client, break_off) -> volary.JobHandle:
    """A long job that ended badly when two of its checkpoints were there."""
    model = network()
    request = {
        "name": "waves", "source": {"table": "rows"}, "label": "y", "model": model.to_json(), "loss": "mse",
        "optimizer": {"name": "adam", "learning_rate": 0.01}, "epochs": 100_000, "batchSize": 256, "seed": "5",
        "checkpoints": {"every": 1, "keep": 2},
    }  # fmt: skip
    job = client.train(request)
    for state in job.watch():
        if len(state.checkpoints) == 2 or state.done:
            break
    break_off()
    return job


def newest_weights(store: Path) -> bytes:
    """Of the only model."""
    return max(store.glob("models/waves/*/weights.safetensors")).read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Epochs to weights of jobs that nothing happened to, on one server."""
    folder = tmp_path_factory.mktemp("unbroken")
    with Cluster(1, folder / "store", folder) as cluster, volary.connect(cluster.url) as client:
        client.put("rows", rows())

        def train(epochs: int) -> tuple[bytes, list[float]]:
            history = network().fit(client.table("rows"), "y", epochs=epochs, batch_size=256, seed=5, verbose=0)
            return newest_weights(folder / "store"), history.history["loss"]

        yield train


@pytest.mark.parametrize("victim", ["a worker", "the coordinator"])
def test_a_job_whose_server_is_killed_goes_on_with_the_others_to_the_same_bytes(tmp_path, unbroken, victim):
    with Cluster(3, tmp_path / "store", tmp_path) as cluster:
        with volary.connect(cluster.servers[0].url) as client:
            client.put("rows", rows())
            killed = cluster.servers[1 if victim == "a worker" else 0]
            job = broken_off(client, killed.kill)
        with volary.connect(cluster.servers[2].url) as client:
            job = client.job(job.id)
            with pytest.raises(errors.UnavailableError):
                job.wait()
            newest = job.status().checkpoints[-1]
            epochs = newest + 3
            resumed = job.resume(epochs=epochs)
            done = resumed.wait()
            assert killed.name not in done.servers
            assert len(done.servers) == 2
            expected, losses = unbroken(epochs)
            history = resumed.history()
            assert history.epoch == list(range(1, epochs + 1))
            assert history.history["loss"] == losses
            assert newest_weights(tmp_path / "store") == expected
            with pytest.raises(errors.FailedPreconditionError, match=f"job {resumed.id} goes on from it"):
                job.drop_checkpoints()
            resumed.drop_checkpoints()
            job.drop_checkpoints()
            assert job.status().checkpoints == ()
            with pytest.raises(errors.NotFoundError, match="has no checkpoint"):
                job.resume()


def test_a_loss_that_runs_away_names_layer_step_and_checkpoint_and_a_lower_rate_goes_on(client):
    client.put("steep", rows(2_000), mode="overwrite")
    model = volary.Sequential([layers.Dense(8, activation="exponential"), layers.Dense(1)], name="steep")
    rate = volary.optimizers.schedules.PiecewiseConstantDecay([2 * 8], [1e-3, 1e4])
    model.compile(optimizer=volary.optimizers.SGD(rate), loss="mse")
    with pytest.raises(
        errors.VolaryError, match=r"epoch 3, step .* the checkpoint of epoch 2 is kept: resume job "
    ) as raised:
        model.fit(
            client.table("steep"), "y", epochs=4, batch_size=256, seed=1, verbose=0,
            callbacks=[callbacks.Checkpoint()],
        )  # fmt: skip
    assert "is the first that is not finite" in str(raised.value)
    job = model.job
    assert job.id in str(raised.value)
    assert job.resume(learning_rate=1e-3).wait().epoch == 4
    with pytest.raises(ValueError, match="epochs is 0; give a whole number from 1 on"):
        job.resume(epochs=0)
