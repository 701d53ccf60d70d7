"""The package's layers are those of the servers: every golden case (`tests/golden/layers`) can be written in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volary import Input, Model, layers

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/layers"
CASES = [case for path in sorted(GOLDEN.glob("*.json")) for case in json.loads(path.read_text())]
# Options of the description that are arguments of the call in Python, as in Keras.
CALL_ARGUMENTS = ("attention_mask", "use_causal_mask")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_layer_of_the_golden_files_is_described_as_the_server_reads_it(case):
    config = {name: value for name, value in case["config"].items() if name not in CALL_ARGUMENTS}
    layer = getattr(layers, case["layer"])(**{name: made(value) for name, value in config.items()})
    described = layer.get_config()
    for name, value in config.items():
        assert agrees(described[name], value), name
    assert type(layer).from_config({name: made(value) for name, value in described.items()}) == layer


def made(value):
    """The layer that a description inside a description stands for; anything else as it is."""
    if isinstance(value, dict) and set(value) == {"layer", "config"}:
        return getattr(layers, value["layer"])(**{name: made(each) for name, each in value["config"].items()})
    return value


def agrees(found, given):
    """Whether a described option is the given one; inside an inner layer, options that were not given may stand too."""
    if isinstance(given, dict) and set(given) == {"layer", "config"}:
        same = [agrees(found["config"][name], value) for name, value in given["config"].items()]
        return found["layer"] == given["layer"] and all(same)
    return found == given


def test_a_merging_layer_takes_a_list_of_tensors():
    left, right = Input(["a"]), Input(["b"])
    both = layers.Multiply()([layers.Dense(3)(left), layers.Dense(3)(right)])
    form = Model(outputs=layers.Dense(1)(both)).to_json()
    assert [each["inputs"] for each in form["layers"] if each["layer"] == "Multiply"] == [["dense", "dense_1"]]


def test_rescaling_is_sent_as_a_program_of_one_product_and_one_sum():
    image = Input(["dots"], shape=(2, 2, 3))
    described = Model(outputs=layers.Rescaling(1 / 127.5, offset=[-1, 0, 1])(image)).to_json()["layers"][1]
    assert (described["name"], described["layer"]) == ("rescaling", "Lambda")
    nodes = described["config"]["program"]["nodes"]
    assert [node["op"] for node in nodes] == ["constant", "multiply", "constant", "add"]
    assert [node["values"] for node in nodes if node["op"] == "constant"] == [1 / 127.5, [-1, 0, 1]]


def test_rescaling_without_an_offset_adds_nothing():
    described = Model(outputs=layers.Rescaling(0.5)(Input(["dots"], shape=(4,)))).to_json()["layers"][1]
    assert [node["op"] for node in described["config"]["program"]["nodes"]] == ["constant", "multiply"]
