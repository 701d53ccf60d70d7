"""What a model adds to the loss of its answers: regularisers, and add_loss in a layer of one's own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import volary
from volary import layers, ops, regularizers


class Spread(layers.Layer):
    """Hands on what it reads; the squares of it are added to the loss."""

    def call(self, x):
        self.add_loss(0.1 * ops.sum(ops.square(x), axis=-1))
        return x


def test_history_and_evaluate_tell_the_loss_with_what_the_model_adds_to_it(client):
    random = np.random.default_rng(9)
    frame = pd.DataFrame(random.normal(size=(700, 3)).astype("float32"), columns=list("abc"))
    frame["y"] = frame.a - frame.b
    client.put("penalized", frame, mode="overwrite")
    hidden = layers.Dense(8, activation="tanh", kernel_regularizer=regularizers.L2(0.01))
    model = volary.Sequential([hidden, Spread(), layers.Dense(1)], name="penalized")
    model.compile(optimizer="adam", loss="mse", metrics=["mse"])
    rows = client.table("penalized")
    history = model.fit(rows, "y", epochs=2, batch_size=100, validation_data=rows, seed=1, verbose=0).history
    told = model.evaluate(rows)
    assert told["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)
    assert told["mse"] == pytest.approx(history["val_mse"][-1], rel=1e-6)
    assert told["loss"] > told["mse"] + 0.01
