"""Networks as descriptions, and fit, beside a recording server."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import volary
from recording import census_model, job
from volary import Input, Model, Sequential, errors, features, layers, losses, metrics, optimizers
from volary.callbacks import Checkpoint, EarlyStopping, ReduceLROnPlateau

ROOT = Path(__file__).resolve().parents[2]


def test_a_sequential_model_is_described_with_every_option():
    assert census_model().to_json() == {
        "format_version": 1,
        "name": "model",
        "layers": [
            {
                "name": "input",
                "layer": "Input",
                "config": {"columns": None, "dtype": "float32", "shape": None},
                "inputs": [],
            },
            {
                "name": "dense",
                "layer": "Dense",
                "config": {
                    "units": 64,
                    "activation": "relu",
                    "use_bias": True,
                    "kernel_initializer": "glorot_uniform",
                    "bias_initializer": "zeros",
                    "kernel_regularizer": None,
                    "bias_regularizer": None,
                },
                "inputs": ["input"],
            },
            {"name": "dropout", "layer": "Dropout", "config": {"rate": 0.1, "noise_shape": None}, "inputs": ["dense"]},
            {
                "name": "dense_1",
                "layer": "Dense",
                "config": {
                    "units": 1,
                    "activation": "sigmoid",
                    "use_bias": True,
                    "kernel_initializer": "glorot_uniform",
                    "bias_initializer": "zeros",
                    "kernel_regularizer": None,
                    "bias_regularizer": None,
                },
                "inputs": ["dropout"],
            },
        ],
        "outputs": ["dense_1"],
    }
    assert census_model().to_json() == census_model().to_json()


def test_a_model_of_several_inputs_is_a_graph():
    numbers, town = Input(["age", "hours"], name="numbers"), Input(["town"], dtype="int32")
    towns = layers.Flatten()(layers.Embedding(32, 4)(town))
    out = layers.Dense(1)(layers.BatchNormalization()(layers.Concatenate()([numbers, towns])))
    form = Model([numbers, town], out, name="wide").to_json()
    inputs = {each["name"]: each["inputs"] for each in form["layers"]}
    assert inputs["concatenate"] == ["numbers", "flatten"]
    assert inputs["embedding"] == ["input"]
    assert form["outputs"] == ["dense"]
    assert json.loads(json.dumps(form)) == form
    with pytest.raises(ValueError, match="no output depends on the input"):
        Model([numbers, Input(["other"])], out)
    with pytest.raises(
        ValueError, match=r"the outputs read the input InputLayer\(columns=\['town'\], dtype='int32'\) too"
    ):
        Model([numbers], out)


def test_wrong_descriptions_are_refused_where_they_are_written():
    dense = layers.Dense(1)
    with pytest.raises(TypeError, match="a Sequential holds layers"):
        Sequential(["relu"])
    with pytest.raises(TypeError, match="called on tensors"):
        dense(3)
    with pytest.raises(ValueError, match='unknown optimizer "adm"; there are sgd, adam, adamw, adamax, nadam'):
        Sequential([dense]).compile(optimizer="adm")
    with pytest.raises(TypeError, match="a pipeline holds transforms"):
        volary.Pipeline(["impute"])


def test_numbers_of_numpy_and_pandas_are_numbers():
    codes = pd.Series([0, 4, 2])
    pipeline = volary.Pipeline(
        [
            features.Hash(pd.Index(["a", "b"]), np.int64(10)),
            features.Impute(np.array(["c"]), "constant", fill_value=np.int64(3)),
            features.Bucketize("d", boundaries=np.array([0.5, 1.5])),
            features.Clip("e", minimum=np.float32(0.5)),
            features.OneHot("f", max_categories=codes.nunique()),
        ]
    )
    model = Model(
        outputs=layers.Dense(np.int64(64), use_bias=np.True_)(
            layers.Flatten()(layers.Embedding(codes.max() + 1, np.int32(8))(Input(pd.Index(["g"]), dtype="int32")))
        ),
        name=np.str_("named"),
    )
    optimizer = optimizers.Adam(np.float32(0.5), epsilon=np.float64(1e-7))
    described = json.dumps([pipeline.to_json(), optimizer.to_json(), EarlyStopping(patience=np.int8(3)).to_json()])
    [hashed, imputed, bucketized, clipped, encoded], adam, stopping = json.loads(described)
    assert (hashed["columns"], hashed["buckets"], imputed["fill_value"]) == (["a", "b"], 10, 3)
    assert (bucketized["boundaries"], clipped["min"], encoded["max_categories"]) == ([0.5, 1.5], 0.5, 3)
    assert (adam["learning_rate"], adam["epsilon"], stopping["patience"]) == (0.5, 1e-7, 3)
    [read, embedding, _, dense] = [each["config"] for each in json.loads(json.dumps(model.to_json()))["layers"]]
    assert (read["columns"], embedding["input_dim"], embedding["output_dim"]) == (["g"], 5, 8)
    assert (dense["units"], dense["use_bias"]) == (64, True)
    assert volary.Pipeline.from_json(pipeline.to_json()) == pipeline


def test_numbers_of_numpy_are_taken_by_fit_as_well(client, trained):
    census_model().fit(
        client.table("t"), "y", features=np.array(["a"]), epochs=np.int64(2), batch_size=np.int32(8), seed=np.uint64(1),
        validation_split=np.float32(0.25), shuffle=np.False_, verbose=0,
    )  # fmt: skip
    [request] = trained.asked("Train")
    assert (request["features"], request["epochs"], request["batchSize"], request["seed"]) == (["a"], 2, 8, "1")
    assert (request["validationSplit"], request["shuffle"]) == (0.25, False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: features.Clip("a", maximum=math.inf), "maximum of Clip is inf"),
        (lambda: features.Impute("a", "constant", fill_value=math.nan), "fill_value of Impute is nan"),
        (lambda: features.Bucketize("a", boundaries=[0, np.inf]), "boundaries of Bucketize is inf"),
        (lambda: optimizers.Adam(math.nan), "learning_rate of Adam is nan"),
        (lambda: optimizers.StepDecay(0.1, 3, gamma=-math.inf), "gamma of StepDecay is -inf"),
        (lambda: layers.Dropout(np.float32("nan")), "rate of Dropout is nan"),
        (
            lambda: layers.Dense(1, kernel_initializer={"name": "random_normal", "stddev": math.nan}),
            "stddev of kernel_initializer of Dense is nan",
        ),
        (lambda: EarlyStopping(min_delta=math.nan), "min_delta of EarlyStopping is nan"),
        (lambda: ReduceLROnPlateau(factor=math.nan), "factor of ReduceLROnPlateau is nan"),
        (lambda: optimizers.Adam(clipnorm=math.inf), "clipnorm of Adam is inf"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_an_option_that_is_no_finite_number_is_refused_where_it_is_given(make, words):
    with pytest.raises(errors.InvalidArgumentError, match=f"^{words}; give a finite number$"):
        make()


def test_an_option_that_is_no_value_is_refused_with_its_name():
    with pytest.raises(TypeError, match=r"^units of Dense is of type object; give a number, a text, or a list or dict"):
        layers.Dense(object())


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (np.array([False, True]), ["false", "true"]),
        (np.array([0, 1]), ["0", "1"]),
        (np.array([0.0, 1.0]), ["0", "1"]),
        (np.array([0, 1], dtype="float32"), ["0", "1"]),
        (np.array(["no", "yes"]), ["no", "yes"]),
        (pd.Series(["no", "yes"], dtype="category"), ["no", "yes"]),
        (pd.array([1, 2], dtype="Int8"), ["1", "2"]),
    ],
    ids=lambda each: str(getattr(each, "dtype", "")),
)
def test_class_weights_take_the_labels_as_numpy_has_them(client, trained, labels, keys):
    weights = dict(zip(np.unique(labels), np.array([1.5, 2.5], dtype="float32"), strict=True))
    census_model().fit(client.table("t"), "y", class_weight=weights, verbose=0)
    assert trained.asked("Train")[-1]["classWeight"] == dict(zip(keys, [1.5, 2.5], strict=True))


def test_an_optimizer_is_given_by_name_by_class_or_with_options(client, trained):
    for optimizer in ("adam", optimizers.Adam, optimizers.Adam()):
        model = Sequential([layers.Dense(1)])
        model.compile(optimizer=optimizer, loss=volary.losses.MeanSquaredError, metrics=[volary.metrics.AUC])
        model.fit(client.table("t"), "y", verbose=0)
    asked = [(each["optimizer"], each["loss"], each["metrics"]) for each in trained.asked("Train")]
    assert asked == [(optimizers.Adam().to_json(), "mean_squared_error", ["auc"])] * 3
    with pytest.raises(
        TypeError, match=r"^optimizer is of type int; give one of volary.optimizers, its class, or its name$"
    ):
        model.compile(optimizer=3)


def test_a_loss_or_metric_is_given_by_name_by_class_with_options_or_as_a_dict(client, trained):
    huber, focal = losses.Huber(delta=np.float32(2)), {"name": "binary_focal_crossentropy", "gamma": np.int64(3)}
    for loss, form in (
        (huber, {"name": "huber", "delta": 2.0}),
        (losses.Huber, "huber"),
        (losses.Huber(), "huber"),
        (focal, {"name": "binary_focal_crossentropy", "gamma": 3}),
        (losses.BinaryCrossentropy(from_logits=True), {"name": "binary_crossentropy", "from_logits": True}),
    ):
        model = Sequential([layers.Dense(1)])
        asked = ["mae", metrics.Precision(0.3), metrics.F1Score, {"name": "precision", "thresholds": 0.7}]
        model.compile(loss=loss, metrics=asked)
        model.fit(client.table("t"), "y", verbose=0)
        assert trained.asked("Train")[-1]["loss"] == form
    precision = {"name": "precision", "thresholds": 0.3}
    assert trained.asked("Train")[-1]["metrics"] == ["mae", precision, "f1_score", {**precision, "thresholds": 0.7}]
    with pytest.raises(TypeError, match=r"^loss is of type Precision; give one of volary.losses, its class, its name"):
        model.compile(loss=metrics.Precision())
    with pytest.raises(TypeError, match=r"^a metric is of type int; give one of volary.metrics"):
        model.compile(metrics=[3])
    with pytest.raises(errors.InvalidArgumentError, match=r"^delta of Huber is nan; give a finite number$"):
        losses.Huber(math.nan)


@pytest.mark.parametrize(("family", "key"), [("losses", "loss"), ("metrics", "metric")])
def test_losses_and_metrics_are_named_and_described_as_the_golden_files_have_them(family, key):
    # What the server reads there is what Keras was asked for; the same must come out of our classes.
    module = {"losses": losses, "metrics": metrics}[family]
    kinds = {kind.name: kind for kind in (getattr(module, name) for name in module.__all__) if hasattr(kind, "name")}
    cases = json.loads((ROOT / f"tests/golden/{family}/{family}.json").read_text())
    met = set()
    for case in cases:
        description = case[key] if isinstance(case[key], dict) else {"name": case[key]}
        options = {name: value for name, value in description.items() if name != "name"}
        kind = kinds[description["name"]]
        form = kind(**options).to_json()
        written = form if isinstance(form, dict) else {"name": form}
        assert {**kind().get_config(), **written} == {**kind().get_config(), **description}
        assert kind.from_config(kind(**options).get_config()) == kind(**options)
        met.add(description["name"])
    assert met == set(kinds)


def test_layers_and_optimizers_survive_their_configurations():
    for layer in (layers.Dense(3), layers.Embedding(3, 4), layers.BatchNormalization(momentum=0.9), layers.Flatten()):
        assert type(layer).from_config(layer.get_config()) == layer
    for kind in optimizers.Optimizer.__subclasses__():
        optimizer = kind(optimizers.StepDecay(0.1, 3), clipvalue=0.5)
        assert kind.from_config(optimizer.get_config()) == optimizer
        averaged = kind(gradient_accumulation_steps=4, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=100)
        assert kind.from_config(averaged.get_config()) == averaged


def test_clipping_gathering_and_averaging_are_described_when_they_are_asked_for():
    plain = optimizers.SGD().to_json()
    assert plain == {"name": "sgd", "learning_rate": 0.01, "momentum": 0.0, "nesterov": False}
    asked = optimizers.SGD(global_clipnorm=np.float32(0.5), gradient_accumulation_steps=np.int64(4), use_ema=True)
    assert asked.to_json() == plain | {
        "global_clipnorm": 0.5,
        "gradient_accumulation_steps": 4,
        "use_ema": True,
        "ema_momentum": 0.99,
    }
    assert (
        repr(optimizers.Lamb(0.1))
        == "Lamb(learning_rate=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-07, weight_decay=None)"
    )
    assert "clipnorm=1.0" in repr(optimizers.Lamb(clipnorm=1.0))
    with pytest.raises(ValueError, match=r"^Adam is given clipnorm=1.0 and global_clipnorm=2.0; gradients are clipped"):
        optimizers.Adam(clipnorm=1.0, global_clipnorm=2.0)
    for option, value in (("ema_momentum", 0.5), ("ema_overwrite_frequency", 3)):
        with pytest.raises(
            ValueError, match=rf"^{option} of Adam is {value}, but use_ema is not set; give use_ema=True too$"
        ):
            optimizers.Adam(**{option: value})


def test_optimizers_and_schedules_are_named_and_described_as_the_golden_file_has_them():
    # What the server reads there is what Keras was asked for; the same must come out of our classes.
    golden = json.loads((ROOT / "tests/golden/optimizers/optimizers.json").read_text())
    kinds = {kind.name: kind for kind in optimizers.Optimizer.__subclasses__()}
    schedules = {kind.name: kind for kind in optimizers.schedules.Schedule.__subclasses__()}
    for description in golden["optimizers"]:
        options = {name: value for name, value in description.items() if name != "name"}
        if isinstance(rate := options.get("learning_rate"), dict):
            options["learning_rate"] = schedules[rate["name"]](**{key: rate[key] for key in rate if key != "name"})
            description = description | {"learning_rate": options["learning_rate"].to_json()}
        form = kinds[description["name"]](**options).to_json()
        assert form | description == form
    for description in golden["schedules"]:
        options = {name: value for name, value in description.items() if name != "name"}
        form = schedules[description["name"]](**options).to_json()
        assert form | description == form
        assert optimizers.SGD(schedules[description["name"]](**options)).to_json()["learning_rate"] == form


def test_every_transform_has_its_json_form_and_comes_back_from_it():
    pipeline = volary.Pipeline(
        [
            features.Impute(["a", "b"], "constant", fill_value=0),
            features.Standardize("a"),
            features.MinMax("b"),
            features.OneHot(["c"], handle_unknown="ignore", max_categories=10),
            features.StringIndex("d", min_frequency=5),
            features.Hash("e", buckets=64),
            features.Bucketize("f", boundaries=[1.0, 2.5]),
            features.Bucketize("g", quantiles=4),
            features.Log1p("h"),
            features.Clip("i", minimum=0.0),
            features.Cross(["c", "d"], name="cd", buckets=100),
            features.Expression("j", "a / b"),
            features.Drop("k"),
        ]
    )
    form = pipeline.to_json()
    assert form[0] == {"transform": "impute", "columns": ["a", "b"], "strategy": "constant", "fill_value": 0}
    assert form[6] == {"transform": "bucketize", "columns": ["f"], "boundaries": [1.0, 2.5]}
    assert form[9] == {"transform": "clip", "columns": ["i"], "min": 0.0}
    assert volary.Pipeline.from_json(json.loads(json.dumps(form))) == pipeline
    with pytest.raises(ValueError, match='unknown transform "imput"'):
        volary.Pipeline.from_json([{"transform": "imput"}])


def test_fit_asks_for_what_it_was_given(client, trained):
    model = census_model()
    history = model.fit(
        client.table("census@3"),
        "income",
        features=["age", "job"],
        pipeline=[features.Impute("age")],
        epochs=2,
        batch_size=256,
        validation_split=0.1,
        seed=2**63,
        sample_weight="fnlwgt",
        class_weight={">50K": 2, True: 3.5},
        callbacks=[
            ReduceLROnPlateau("val_auc", patience=2, cooldown=1, min_lr=np.float32(0.5)),
            EarlyStopping("val_auc", patience=3, restore_best_weights=True, mode="max"),
            Checkpoint(every=2, keep=np.int64(3)),
        ],
        name="census",
        verbose=0,
    )
    [request] = trained.asked("Train")
    assert request.pop("model") == {**model.to_json(), "name": "census"}
    assert request == {
        "name": "census",
        "source": {"table": "census@3"},
        "leaseSeconds": 60,
        "label": "income",
        "features": ["age", "job"],
        "pipeline": [{"transform": "impute", "columns": ["age"], "strategy": "median"}],
        "loss": "binary_crossentropy",
        "optimizer": {
            "name": "adam",
            "learning_rate": 0.001,
            "beta_1": 0.9,
            "beta_2": 0.999,
            "epsilon": 1e-7,
            "amsgrad": False,
        },
        "metrics": ["auc", "accuracy"],
        "epochs": 2,
        "batchSize": 256,
        "seed": str(2**63),
        "lanes": 0,
        "shuffle": True,
        "classWeight": {">50K": 2.0, "true": 3.5},
        "validationSplit": 0.1,
        "earlyStopping": {
            "monitor": "val_auc",
            "patience": 3,
            "minDelta": 0.0,
            "restoreBestWeights": True,
            "maximize": True,
        },
        "reduceOnPlateau": {
            "monitor": "val_auc",
            "factor": 0.1,
            "patience": 2,
            "minDelta": 1e-4,
            "cooldown": 1,
            "minLearningRate": 0.5,
        },
        "checkpoints": {"every": 2, "keep": 3},
        "sampleWeight": "fnlwgt",
    }
    assert history.history["val_auc"] == [0.81, 0.84]
    assert history.epoch == [1, 2]
    assert history.to_pandas()["loss"].tolist() == [0.5, 0.4]
    assert "val_auc 0.8400" in repr(history)
    assert repr(model.served) == "ServedModel('census', version=3)"


def test_fit_takes_queries_and_frames(client, trained):
    model = census_model()
    model.fit(client.sql("SELECT * FROM t"), "y", verbose=0, validation_data=client.table("v"))
    request = trained.asked("Train")[-1]
    assert request["source"] == {"query": "SELECT * FROM t"}
    assert request["validationSource"] == {"table": "v"}
    model.fit(pd.DataFrame({"x": [1.0], "y": [1]}), "y", verbose=0)
    assert trained.asked("Train")[-1]["source"]["table"].startswith("temporary-model-training-")
    assert trained.datasets == {}
    assert model.predict(pd.DataFrame({"x": [1.0]}))["prediction"].tolist() == [0.5]
    assert trained.asked("Predict")[-1]["version"] == 3


def test_a_frame_without_rows_is_refused_before_anything_is_sent(client, trained):
    for rows, kind in (
        (pd.DataFrame({"x": [], "y": []}), "DataFrame"),
        (pa.table({"x": pa.array([], pa.int64())}), "Table"),
        (pa.table({"x": pa.array([], pa.int64())}).to_reader(), "RecordBatchReader"),
    ):
        with pytest.raises(errors.InvalidArgumentError) as raised:
            census_model().fit(rows, "y", verbose=0)
        assert raised.value.message == f"the {kind} has no rows; give at least one"
    assert trained.questions == []


@pytest.mark.parametrize(
    "option",
    [
        {"epochs": 0},
        {"epochs": -1},
        {"epochs": 1_000_001},
        {"epochs": 1.5},
        {"batch_size": -1},
        {"batch_size": 2**32},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": "seven"},
        {"lanes": -2},
    ],
    ids=str,
)
def test_numbers_out_of_range_are_refused_with_their_name_and_range(client, trained, option):
    [(name, value)] = option.items()
    with pytest.raises(errors.InvalidArgumentError, match=f"^{name} is {value!r}; give a whole number from [01] to "):
        census_model().fit(pd.DataFrame({"x": [1.0], "y": [1]}), "y", verbose=0, **option)
    assert trained.questions == []


def test_a_failed_job_raises_its_error_and_drops_the_upload(client, trained):
    trained.answers["WatchJob"] = [
        job("RUNNING"),
        job("FAILED", error={"code": "UNAVAILABLE", "message": 'server "b" was lost during epoch 2'}),
    ]
    with pytest.raises(errors.UnavailableError, match='server "b" was lost'):
        census_model().fit(pd.DataFrame({"x": [1.0], "y": [1]}), "y", verbose=0)
    assert trained.datasets == {}
    trained.answers["WatchJob"] = [job("CANCELLED")]
    with pytest.raises(errors.CancelledError, match="was cancelled"):
        census_model().fit(client.table("t"), "y", verbose=0)


def test_wrong_calls_of_fit_are_refused_before_anything_is_sent(client, trained):
    with pytest.raises(RuntimeError, match="not compiled"):
        Sequential([layers.Dense(1)]).fit(client.table("t"), "y")
    with pytest.raises(TypeError, match="not both"):
        census_model().fit(client.table("t"), "y", validation_split=0.1, validation_data=client.table("v"))
    with pytest.raises(TypeError, match=r"callbacks takes at most one each of volary.callbacks.EarlyStopping"):
        census_model().fit(client.table("t"), "y", callbacks=[print])
    with pytest.raises(TypeError, match=r", volary.callbacks.ReduceLROnPlateau$"):
        census_model().fit(client.table("t"), "y", callbacks=[ReduceLROnPlateau(), ReduceLROnPlateau("loss")])
    with pytest.raises(
        ValueError, match=r"^rows is a frame, which the cluster has only while fit runs.* client.table.name.$"
    ):
        census_model().fit(pd.DataFrame({"y": [1]}), "y", callbacks=[Checkpoint()])
    with pytest.raises(ValueError, match=r"^keep of Checkpoint is 0; give a whole number from 1 on$"):
        Checkpoint(keep=0)
    with pytest.raises(ValueError, match=r'^unknown mode "up"; there are auto, min and max$'):
        census_model().fit(client.table("t"), "y", callbacks=[ReduceLROnPlateau(mode="up")])
    with pytest.raises(TypeError, match=r"features is a list"):
        census_model().fit(client.table("t"), "y", features="age")
    with pytest.raises(ValueError, match=r"^validation_split is nan; give a finite number$"):
        census_model().fit(client.table("t"), "y", validation_split=math.nan)
    with pytest.raises(ValueError, match=r"^validation_split is 1.5; give a number between 0 and 1, both excluded$"):
        census_model().fit(client.table("t"), "y", validation_split=1.5)
    with pytest.raises(ValueError, match=r"^class_weight of yes is inf; give a finite number$"):
        census_model().fit(client.table("t"), "y", class_weight={"yes": math.inf})
    with pytest.raises(errors.InvalidArgumentError, match=r"^features is empty; name at least one column"):
        census_model().fit(client.table("t"), "y", features=[])
    with pytest.raises(RuntimeError, match="not trained"):
        census_model().predict({"x": [1]})
    assert trained.questions == []
