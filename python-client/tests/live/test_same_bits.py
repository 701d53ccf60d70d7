"""Promise 1: the same job, seed and data give the same weights, byte for byte, on one, two and three servers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volary
from cluster import Cluster
from volary import features, layers, optimizers

# Rows and batch share no divisor with each other, with the lanes, or with the servers; the last minibatch is ragged.
ROWS, BATCH, LANES = 4_999, 257, 8


def train(
    store: Path, logs: Path, servers: int, rows: pd.DataFrame, seed: int, optimizer: optimizers.Optimizer
) -> bytes:
    """The weights file of a job on a fresh cluster of so many servers."""
    with Cluster(servers, store, logs) as cluster, volary.connect(cluster.url) as client:
        model = volary.Sequential(
            [
                layers.Dense(131, activation="gelu"),
                layers.BatchNormalization(),
                layers.Dropout(0.3),
                layers.Dense(17, activation="tanh", kernel_initializer="he_normal"),
                layers.Dense(1, activation="sigmoid"),
            ],
            name="bits",
        )
        model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["auc"])
        history = model.fit(
            rows, "y", epochs=2, batch_size=BATCH, lanes=LANES, seed=seed, validation_split=0.1, client=client, verbose=0,
            pipeline=[features.Impute(["a"], "mean"), features.Standardize(["a", "b"]), features.OneHot(["c"])],
        )  # fmt: skip
        assert len(history.job.status().servers) == servers
        [weights] = (store / "models" / "bits").rglob("*.safetensors")
        return weights.read_bytes()


def drawn(seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {"a": random.normal(size=ROWS), "b": random.normal(size=ROWS), "c": random.choice(list("xyz"), ROWS)}
    )
    rows["y"] = np.where(rows["a"] + rows["b"] > 0, "yes", "no")
    rows.loc[::50, "a"] = None
    return rows


@pytest.mark.parametrize("seed", [20261122])
def test_weights_are_the_same_bytes_on_any_number_of_servers(tmp_path, seed):
    rows, adam = drawn(seed), optimizers.Adam(3e-3)
    one, two, three = (train(tmp_path / str(count), tmp_path / "logs", count, rows, seed, adam) for count in (1, 2, 3))
    assert len(one) > 1_000
    assert two == one, f"seed {seed}: two servers made other weights than one"
    assert three == one, f"seed {seed}: three servers made other weights than one"
    again = train(tmp_path / "again", tmp_path / "logs", 3, rows, seed, adam)
    assert again == one
    other = train(tmp_path / "other", tmp_path / "logs", 1, rows, seed + 1, adam)
    assert other != one


def test_norms_over_the_wire_give_the_same_bytes_too(tmp_path):
    # Two exchanges of norms in every second step, none in the others, and averages handed round at the ends of epochs.
    lamb = optimizers.Lamb(0.01, global_clipnorm=0.05, gradient_accumulation_steps=2, use_ema=True, ema_momentum=0.9)
    rows = drawn(7)
    one, three = (train(tmp_path / str(count), tmp_path / "logs", count, rows, 7, lamb) for count in (1, 3))
    assert three == one
