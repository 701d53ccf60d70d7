"""Whole networks of sequences in Keras: answer, loss and all gradients, with the description that our side builds.

    python tests/golden/networks/make.py
"""

import json
import os
import zlib
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import torch
from keras import layers
from safetensors.numpy import save_file

HERE = Path(__file__).parent
keras.utils.set_random_seed(1)
CELL = ["kernel", "recurrent_kernel", "bias"]
HEADS = ["query", "key", "value", "attention_output"]


def layer(name, kind, config, *inputs, shares=None):
    described = {"name": name, "layer": kind, "config": config, "inputs": list(inputs)}
    return described if shares is None else {**described, "shares": shares}


def encoder_and_decoder():
    """A masked encoder whose states start a decoder, which attends to what the encoder said of each word."""
    words = keras.Input((4,), dtype="int32")
    given = keras.Input((3, 2))
    embedded = layers.Embedding(6, 3, mask_zero=True, name="embedding")(words)
    both = layers.Bidirectional(layers.GRU(2, return_sequences=True), name="both")
    encoded = both(embedded)
    _, hidden, carried = layers.LSTM(3, return_state=True, name="states")(encoded)
    decoded = layers.LSTM(3, return_sequences=True, name="decoder")(
        given, initial_state=[hidden, carried]
    )
    attended = layers.MultiHeadAttention(2, 2, name="heads")(decoded, encoded)
    flat = layers.Flatten(name="flat")(attended)
    out = layers.Dense(1, name="out")(flat)
    described = [
        layer("words", "Input", {"columns": ["words"], "dtype": "int32", "shape": [4]}),
        layer("given", "Input", {"columns": ["given"], "shape": [3, 2]}),
        layer(
            "embedding",
            "Embedding",
            {"input_dim": 6, "output_dim": 3, "mask_zero": True},
            "words",
        ),
        layer(
            "both",
            "Bidirectional",
            {
                "layer": {
                    "layer": "GRU",
                    "config": {"units": 2, "return_sequences": True},
                }
            },
            "embedding",
        ),
        layer("states", "LSTM", {"units": 3, "return_state": True}, "both"),
        layer(
            "decoder",
            "LSTM",
            {"units": 3, "return_sequences": True},
            "given",
            "states:1",
            "states:2",
        ),
        layer(
            "heads",
            "MultiHeadAttention",
            {"num_heads": 2, "key_dim": 2},
            "decoder",
            "both",
        ),
        layer("flat", "Flatten", {}, "heads"),
        layer("out", "Dense", {"units": 1}, "flat"),
    ]
    names = {
        "embedding": ["embeddings"],
        "both": [f"{way}/{each}" for way in ("forward", "backward") for each in CELL],
        "states": CELL,
        "decoder": CELL,
        "heads": [f"{each}/{array}" for each in HEADS for array in ("kernel", "bias")],
        "out": ["kernel", "bias"],
    }
    rows = np.array([[1, 2, 3, 0], [5, 0, 0, 0], [4, 4, 1, 2], [2, 0, 3, 0]])
    return keras.Model([words, given], out), described, names, {"words": rows}


def twins():
    """One network over two sequences, its layers shared."""
    left, right = keras.Input((3, 2)), keras.Input((3, 2))
    steps = layers.TimeDistributed(layers.Dense(3, activation="tanh"), name="steps")
    along = layers.GRU(2, name="along")
    joined = layers.Concatenate(name="joined")(
        [along(steps(left)), along(steps(right))]
    )
    out = layers.Dense(1, name="out")(joined)
    inside = {"layer": "Dense", "config": {"units": 3, "activation": "tanh"}}
    described = [
        layer("left", "Input", {"columns": ["left"], "shape": [3, 2]}),
        layer("steps", "TimeDistributed", {"layer": inside}, "left"),
        layer("along", "GRU", {"units": 2}, "steps"),
        layer("right", "Input", {"columns": ["right"], "shape": [3, 2]}),
        layer("steps_1", "TimeDistributed", {"layer": inside}, "right", shares="steps"),
        layer("along_1", "GRU", {"units": 2}, "steps_1", shares="along"),
        layer("joined", "Concatenate", {}, "along", "along_1"),
        layer("out", "Dense", {"units": 1}, "joined"),
    ]
    names = {"steps": ["kernel", "bias"], "along": CELL, "out": ["kernel", "bias"]}
    return keras.Model([left, right], out), described, names, {}


arrays, networks = {}, []
for build in (encoder_and_decoder, twins):
    name = build.__name__
    random = np.random.default_rng(zlib.crc32(name.encode()))
    model, described, names, rows = build()
    inputs = [each for each in described if each["layer"] == "Input"]
    for each in inputs:
        column, shape = each["config"]["columns"][0], each["config"]["shape"]
        rows.setdefault(column, random.standard_normal((4, *shape)).astype("float32"))
    target = random.standard_normal((4, 1)).astype("float32")
    for weight in model.weights:
        if "seed" not in weight.path:
            moved = weight.numpy() + 0.3 * random.standard_normal(weight.shape)
            weight.assign(moved)
    given = [torch.tensor(rows[each["config"]["columns"][0]]) for each in inputs]
    answer = model(given)
    loss = ((answer - torch.tensor(target)) ** 2).mean()
    loss.backward()
    for column, values in rows.items():
        arrays[f"{name}/{column}"] = values.astype("float32")
    arrays[f"{name}/target"] = target
    arrays[f"{name}/answer"] = answer.detach().numpy()
    arrays[f"{name}/loss"] = np.array([loss.item()], "float32")
    for kind, expected in names.items():
        held = [
            each for each in model.get_layer(kind).weights if "seed" not in each.path
        ]
        for ours, weight in zip(expected, held, strict=True):
            arrays[f"{name}/{kind}/{ours}"] = weight.numpy()
            gradient = weight.value.grad.detach().numpy()
            arrays[f"{name}/{kind}/{ours}/gradient"] = np.ascontiguousarray(gradient)
    description = {"format_version": 1, "name": name, "layers": described}
    networks.append({**description, "outputs": ["out"]})

save_file(arrays, HERE / "networks.safetensors")
(HERE / "networks.safetensors").chmod(0o644)
lines = ",\n".join(json.dumps(each) for each in networks)
(HERE / "networks.json").write_text(f"[\n{lines}\n]\n")
print(f"keras {keras.__version__}, torch {torch.__version__}: {len(networks)} networks")
