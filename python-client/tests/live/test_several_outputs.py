"""A network of two outputs on three servers: trained, predicted, evaluated, scored and asked in SQL."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import volary
from volary import Input, Model, layers

FEATURES = ["x", "y", "z"]


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(5)
    values = random.standard_normal((1200, 3))
    level = values[:, 0] * values[:, 1] + values[:, 2]
    kind = np.array(["high", "low", "middle"])[np.digitize(values[:, 2], [-0.4, 0.4])]
    frame = pd.DataFrame(values, columns=FEATURES)
    return frame.assign(level=level, kind=kind, weight=0.5 + random.random(len(frame)))


@pytest.fixture(scope="module")
def model(client, rows):
    numbers = Input(FEATURES)
    trunk = layers.Dense(24, activation="tanh")(numbers)
    level = layers.Dense(1, name="level")(trunk)
    kind = layers.Dense(3, activation="softmax", name="kind")(trunk)
    model = Model(numbers, [level, kind], name="two_outputs")
    model.compile(
        optimizer=volary.optimizers.Adam(0.02),
        loss={"level": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"level": 1.0, "kind": 0.3},
        metrics={"level": ["mae"], "kind": ["accuracy"]},
    )
    model.fit(
        rows,
        label={"level": "level", "kind": "kind"},
        features=FEATURES,
        sample_weight="weight",
        epochs=15,
        batch_size=64,
        seed=3,
        validation_split=0.2,
        callbacks=[volary.callbacks.EarlyStopping("val_kind_accuracy", patience=15)],
        verbose=0,
        client=client,
    )
    return model


def test_the_history_has_the_sum_and_every_output(model):
    history = model.history.history
    columns = ["level_loss", "level_mae", "kind_loss", "kind_accuracy"]
    assert {"loss", "val_loss", *columns, *(f"val_{column}" for column in columns)} <= set(history)
    total = np.array(history["val_level_loss"]) + 0.3 * np.array(history["val_kind_loss"])
    assert history["val_loss"] == pytest.approx(total.tolist(), rel=1e-9)
    assert history["val_level_loss"][-1] < 0.5 * history["val_level_loss"][0]
    assert history["val_kind_accuracy"][-1] > 0.85


def test_every_door_answers_both_outputs_alike(client, rows, model):
    answers = model.predict(rows, keep=["x"])
    assert list(answers.columns) == ["prediction_level", "prediction_kind", "probabilities_kind", "x"]
    assert np.mean(answers["prediction_kind"] == rows["kind"]) > 0.85
    assert np.mean(np.abs(answers["prediction_level"] - rows["level"])) < 0.5
    probabilities = np.stack(answers["probabilities_kind"])
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)

    client.put("two_outputs_rows", rows, mode="overwrite")
    scored = client.score("two_outputs", "two_outputs_rows", into="two_outputs_scored", keep=["x"], mode="overwrite")
    scored = scored.to_pandas()
    assert list(scored.columns) == list(answers.columns)
    assert np.array_equal(scored["prediction_level"], answers["prediction_level"])
    asked = client.sql(
        "SELECT p['prediction_level'] AS level, p['prediction_kind'] AS kind "
        "FROM (SELECT predict('two_outputs', x, y, z) AS p FROM two_outputs_rows)"
    ).to_pandas()
    assert np.array_equal(np.sort(asked["level"]), np.sort(answers["prediction_level"]))
    assert sorted(asked["kind"]) == sorted(answers["prediction_kind"])


def test_evaluation_measures_every_output_and_the_weighted_sum(rows, model):
    scores = model.evaluate(rows)
    assert set(scores) == {"loss", "level_loss", "level_mae", "kind_loss", "kind_accuracy"}
    assert scores["loss"] == pytest.approx(scores["level_loss"] + 0.3 * scores["kind_loss"], rel=1e-9)
    answers = model.predict(rows)
    off = (answers["prediction_level"] - rows["level"]).to_numpy()
    assert scores["level_loss"] == pytest.approx(np.mean(off**2), rel=1e-5)
    assert scores["level_mae"] == pytest.approx(np.mean(np.abs(off)), rel=1e-5)
    assert scores["kind_accuracy"] == pytest.approx(np.mean(answers["prediction_kind"] == rows["kind"]))
    assert set(model.evaluate(rows, ["top_k_categorical_accuracy"])) == {
        "loss",
        "level_loss",
        "kind_loss",
        "kind_top_k_categorical_accuracy",
    }


def test_the_version_tells_the_label_of_each_output(client, model):
    assert client.model("two_outputs").describe().labels == {"level": "level", "kind": "kind"}


def test_what_an_output_cannot_use_is_refused_by_its_name(client, rows, model):
    model.compile(loss={"level": "sparse_categorical_crossentropy", "kind": "mse"})
    with pytest.raises(volary.VolaryError, match='"level"'):
        model.fit(rows, label=["level", "kind"], features=FEATURES, verbose=0, client=client)
