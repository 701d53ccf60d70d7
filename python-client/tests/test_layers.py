"""The package's layers are those of the servers: every golden case (`tests/golden/layers`) can be written in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volary import Input, Model, layers

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/layers"
CASES = [case for path in sorted(GOLDEN.glob("*.json")) for case in json.loads(path.read_text())]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_layer_of_the_golden_files_is_described_as_the_server_reads_it(case):
    layer = getattr(layers, case["layer"])(**case["config"])
    config = layer.get_config()
    assert {name: config[name] for name in case["config"]} == case["config"]
    assert type(layer).from_config(config) == layer


def test_a_merging_layer_takes_a_list_of_tensors():
    left, right = Input(["a"]), Input(["b"])
    both = layers.Multiply()([layers.Dense(3)(left), layers.Dense(3)(right)])
    form = Model(outputs=layers.Dense(1)(both)).to_json()
    assert [each["inputs"] for each in form["layers"] if each["layer"] == "Multiply"] == [["dense", "dense_1"]]
