"""The main job through the package, on three servers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

import volary
from census_data import CATEGORIES, NUMBERS
from volary import Input, Model, features, layers, optimizers
from volary.callbacks import EarlyStopping


def test_a_frame_becomes_a_model_that_answers_through_every_door(client, census, census_model, census_pipeline):
    _, test = census
    model = census_model
    history = model.history
    assert {"loss", "auc", "accuracy", "val_loss", "val_auc"} <= set(history.history)
    assert len(history) == 2
    assert history.history["loss"][1] < history.history["loss"][0]

    scores = model.evaluate(client.table("census_test"))
    assert scores["auc"] > 0.89

    answers = client.model("census").predict(test.set_index(test.index + 100), keep=["age"])
    assert answers.index.equals(test.index + 100)
    assert list(answers.columns) == ["prediction", "probability", "age"]
    assert answers["age"].to_numpy().tolist() == test["age"].to_numpy().tolist()
    rich = (test["income"] == ">50K").to_numpy()
    assert roc_auc_score(rich, answers["probability"]) == pytest.approx(scores["auc"], abs=1e-4)
    assert accuracy_score(test["income"], answers["prediction"]) == pytest.approx(scores["accuracy"], abs=1e-9)

    scored = client.score("census", "census_test", into="census_scored", keep=["age"], mode="overwrite").to_pandas()
    person = ", ".join(f"'{name}', {name}" for name in NUMBERS + CATEGORIES)
    asked = client.sql(
        f"SELECT predict('census', named_struct({person})).probability AS p FROM census_test"
    ).to_pandas()
    assert scored["age"].tolist() == test["age"].tolist()
    # Every door answers the same bits; SQL promises no order.
    assert np.array_equal(scored["probability"], answers["probability"])
    assert np.array_equal(np.sort(asked["p"]), np.sort(answers["probability"]))

    info = client.model("census").describe()
    assert (info.label, info.classes, info.seed) == ("income", ("<=50K", ">50K"), 7)
    assert info.spec["layers"][1]["config"]["units"] == 64
    assert {step["transform"] for step in info.pipeline} >= {step.transform for step in census_pipeline}
    assert info.summary
    assert "census" in [each.name for each in client.models()]
    assert history.job.id in [job.id for job in client.jobs()]
    assert history.job.status().state == "SUCCEEDED"


def test_members_show_three_ready_servers(client):
    members = client.members()
    assert sorted(member.name for member in members) == ["server-1", "server-2", "server-3"]
    assert {member.state for member in members} == {"READY"}
    assert all(member.cores > 0 and member.memory_bytes > 0 and member.version for member in members)


def test_columns_come_in_any_order_and_extra_ones_are_passed_over(client, census, census_model):
    _, test = census
    few = test.head(100)
    expected = client.model("census").predict(few)
    assert client.model("census").predict(few[few.columns[::-1]]).equals(expected)
    assert client.model("census").predict(few.assign(extra=1.5, more="x")).equals(expected)
    in_polars = client.model("census").predict(pl.from_pandas(few))
    assert np.array_equal(in_polars["probability"].to_numpy(), expected["probability"])
    assert client.model("census").predict(pa.Table.from_pandas(few)).num_rows == 100
    one_by_one = pd.concat([client.model("census").predict(few.iloc[[row]]) for row in range(5)])
    assert one_by_one["prediction"].tolist() == expected["prediction"].head(5).tolist()
    assert client.model("census").predict(few.head(0)).empty


def test_columns_that_the_model_does_not_read_may_hold_anything(client, census, census_model):
    _, test = census
    few = test.head(100)
    expected = client.model("census").predict(few)
    odd = few.assign(mixed=[object()] * 100, again=1).rename(columns={"again": "mixed"})
    model = client.model("census@1")
    assert model.predict(odd).equals(expected)
    assert model.predict(odd.set_index("age", drop=False)).reset_index(drop=True).equals(expected)
    described = model.describe()
    assert (set(described.inputs), described.outputs) == (set(NUMBERS + CATEGORIES), ("prediction", "probability"))
    assert len(repr(described)) < 200
    assert "Dense" in model.summary()
    scored = client.score("census@1", "census_test", into="census_by_version", mode="overwrite")
    assert scored.rows == len(test)


def test_the_newest_version_that_reads_other_columns_answers_a_handle_that_met_the_one_before(client):
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 0.0, 1.0, 0.0], "y": ["no", "yes"] * 2})
    model, newest = volary.Sequential([layers.Dense(1, activation="sigmoid")], name="moving"), client.model("moving")
    model.compile(loss="binary_crossentropy")
    for columns in (["a"], ["a", "b"], ["b"]):
        model.fit(frame, "y", features=columns, epochs=1, seed=1, client=client, verbose=0)
        assert newest.predict(frame[columns]).equals(model.predict(frame))


def test_class_weights_of_every_kind_of_label_are_taken(client):
    frame = pd.DataFrame({"a": np.arange(100.0), "text": ["no", "yes"] * 50, "number": [0, 7] * 50})
    frame["truth"] = frame["number"] > 0
    model = volary.Sequential([layers.Dense(np.int64(1), activation="sigmoid")], name="weighted")
    model.compile(optimizer=optimizers.Adam(np.float32(1e-3)), loss="binary_crossentropy")
    for label in ("text", "number", "truth"):
        weights = dict(zip(np.unique(frame[label]), [1.0, 2.0], strict=True))
        for given in (weights, {float(key): each for key, each in weights.items()} if label == "number" else weights):
            history = model.fit(
                frame, label, features=["a"], epochs=1, seed=1, class_weight=given, client=client, verbose=0,
                validation_split=np.float32(0.3),
            )  # fmt: skip
            assert len(history) == 1


def test_a_parquet_path_that_the_servers_may_read_is_scored(client, census, census_model, data):
    _, test = census
    scored = client.score("census", path=str(data / "census_test.parquet"), into="from_path", mode="overwrite")
    assert scored.rows == len(test)
    by_query = client.score(
        "census", client.sql("SELECT * FROM census_test WHERE age > 60"), into="from_query", mode="overwrite"
    )
    assert by_query.rows == (test["age"] > 60).sum()


def test_a_functional_model_embeds_categories_beside_numbers(client, census, census_model):
    pipeline = volary.Pipeline(
        [
            features.Impute(NUMBERS, "mean"),
            features.Standardize(NUMBERS),
            features.StringIndex(["occupation"], max_categories=30),
            features.StringIndex(["education"], max_categories=30),
        ]
    )
    tensors = [layers.Dense(32, activation="relu")(Input(NUMBERS))]
    for name in ("occupation", "education"):
        tensors.append(layers.Flatten()(layers.Embedding(32, 4)(Input([name], dtype="int32"))))
    joined = layers.Dense(32, activation="relu")(layers.Concatenate()(tensors))
    model = Model(outputs=layers.Dense(1, activation="sigmoid")(joined), name="embedded")
    model.compile(optimizer=optimizers.AdamW(2e-3), loss="binary_crossentropy", metrics=["auc"])
    history = model.fit(
        client.table("census"), "income", features=[*NUMBERS, "occupation", "education"], pipeline=pipeline,
        epochs=2, batch_size=256, validation_data=client.table("census_test"), seed=1, verbose=0,
    )  # fmt: skip
    assert history.history["val_auc"][-1] > 0.85


def test_a_regression_and_a_many_class_model_answer_in_the_labels_type(client):
    random = np.random.default_rng(5)
    x = random.normal(size=(3_001, 3)).astype("float32")
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["y"] = x @ np.array([1.0, -2.0, 0.5]) + 3
    frame["kind"] = np.argmax(x, axis=1) * 10

    line = volary.Sequential([layers.Dense(1)], name="line")
    line.compile(optimizer=optimizers.SGD(0.05, momentum=0.9), loss="mse", metrics=["mae"])
    history = line.fit(frame, "y", features=["a", "b", "c"], epochs=5, batch_size=64, seed=3, client=client, verbose=0)
    assert history.history["mae"][-1] < 0.05
    answers = line.predict(frame)
    assert answers["prediction"].dtype == np.float32
    assert np.abs(answers["prediction"] - frame["y"]).max() < 0.2
    assert line.evaluate(frame)["mae"] < 0.05
    assert not [each.name for each in client.datasets() if each.name.startswith("temporary")]

    kinds = volary.Sequential(
        [layers.Dense(32, activation="relu"), layers.Dense(3, activation="softmax")], name="kinds"
    )
    kinds.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    kinds.fit(frame.drop(columns="y"), "kind", epochs=10, batch_size=64, seed=3, client=client, verbose=0)
    answers = kinds.predict(frame)
    assert answers["prediction"].dtype == frame["kind"].dtype
    assert (answers["prediction"] == frame["kind"]).mean() > 0.9
    assert all(abs(sum(row) - 1) < 1e-5 for row in answers["probabilities"].head(20))


def test_early_stopping_ends_a_training_that_makes_no_progress(client):
    random = np.random.default_rng(6)
    frame = pd.DataFrame({"a": random.normal(size=2_000), "y": random.normal(size=2_000)})
    model = volary.Sequential([layers.Dense(1)], name="noise")
    model.compile(optimizer=optimizers.Adam(0.05), loss="mse")
    history = model.fit(
        frame, "y", epochs=200, batch_size=64, validation_split=0.2, seed=1, client=client, verbose=0,
        callbacks=[EarlyStopping("val_loss", patience=3, restore_best_weights=True)],
    )  # fmt: skip
    assert len(history) < 200


def test_a_cancelled_job_says_so_and_leaves_no_model(client, census_model, census_pipeline):
    model = volary.Sequential([layers.Dense(8), layers.Dense(1, activation="sigmoid")])
    model.compile(loss="binary_crossentropy")
    request = {
        "name": "cancelled", "source": {"table": "census"}, "label": "income", "model": model.to_json(),
        "pipeline": census_pipeline.to_json(), "loss": "binary_crossentropy", "optimizer": {"name": "adam"},
        "epochs": 10_000, "batchSize": 64, "seed": "1",
    }  # fmt: skip
    job = client.train(request)
    for state in job.watch():
        if state.step > 0:
            break
    job.cancel()
    with pytest.raises(volary.errors.CancelledError):
        job.wait()
    assert "cancelled" not in [each.name for each in client.models()]


def test_weights_of_rows_and_classes_move_the_answers(client):
    frame = pd.DataFrame({"a": [0.0, 0.0] * 500, "y": ["no", "yes"] * 500, "w": [1.0, 3.0] * 500})
    for name, options in {"rows": {"sample_weight": "w"}, "classes": {"class_weight": {"yes": 3.0}}}.items():
        model = volary.Sequential([layers.Dense(1, activation="sigmoid")], name=f"weighted-{name}")
        model.compile(optimizer=optimizers.Adam(0.05), loss="binary_crossentropy")
        model.fit(frame, "y", features=["a"], epochs=20, batch_size=50, seed=1, client=client, verbose=0, **options)
        assert model.predict(frame)["probability"].iloc[0] == pytest.approx(0.75, abs=0.02)
