"""Real training runs reach the quality that the same networks reach in Keras: those of `benches/quality` on shipped data.

One seed each. What Keras reaches there is on the newest page `docs/benchmarks/*-quality.md`, three seeds of each library.
"""

from __future__ import annotations

import numpy as np
import pytest

import volary
from cluster import Cluster
from quality import tasks
from quality.ours import learn, table

SEED = 7
# Nats for an image, means of three seeds in Keras.
KERAS_NEGATIVE_ELBO = 120.46
KERAS_RECONSTRUCTION = 104.07


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """One server: the bits are those of any number of them, and sooner there where all share one machine."""
    with Cluster(1, tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs")) as cluster:
        with volary.connect(cluster.url) as client:
            yield client


def test_a_convolutional_network_learns_to_read_digits(client):
    numbers = learn(client, tasks.lenet(), SEED)
    assert numbers["accuracy"] >= 0.975


def test_a_recurrent_network_foresees_taxi_rides_better_than_the_same_time_a_week_before(client):
    task = tasks.taxi()
    (score,) = task.scores
    numbers = learn(client, task, SEED)
    assert numbers["mae"] * score.factor < 0.8 * score.naive

    windows, wanted = task.test
    answers = client.model("taxi").predict(table(windows, wanted))["prediction"].to_numpy()
    assert np.abs(answers - wanted).mean() * score.factor < 0.8 * score.naive


def test_a_variational_autoencoder_of_a_layer_and_a_loss_of_ones_own_learns_to_draw_digits(client):
    task = tasks.autoencoder()
    numbers = learn(client, task, SEED)
    assert numbers[tasks.TRAINING_LOSS] < KERAS_NEGATIVE_ELBO * 1.02
    assert numbers["summed_crossentropy"] < KERAS_RECONSTRUCTION * 1.02

    images, wanted = task.test
    answers = client.model("autoencoder").predict(table(images, wanted))["prediction"].combine_chunks()
    logits = answers.flatten().to_numpy().reshape(wanted.shape).astype(np.float64)
    crossentropy = (np.logaddexp(0, logits) - wanted * logits).sum(axis=1).mean()
    assert np.isclose(numbers["summed_crossentropy"], crossentropy, rtol=1e-5)
