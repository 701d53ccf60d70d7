"""The server finds the shapes and counts of parameters that the client says before: `volary explain` of every golden case."""

from __future__ import annotations

import json
import re
import subprocess

import cluster as servers
from test_shapes import KERAS, layer_of
from volary import Input, Model, layers

ROW = re.compile(r"^case_(\d+) \(\w+\) +\(rows, ([\d, ]+)\) +(\d+) ", re.MULTILINE)


def called(number, case):
    """The first output of the case's layer, as a branch of one network."""
    kind = "int32" if case["layer"] == "Embedding" else "float32"
    given = [Input([f"{number}_{i}"], kind, shape=shape[1:]) for i, shape in enumerate(case["inputs"])]
    layer = layer_of(case)
    layer.name = f"case_{number}"
    answer = layer(*given) if case["layer"] == "MultiHeadAttention" else layer(given if len(given) > 1 else given[0])
    return answer[0] if isinstance(answer, tuple) else answer


def test_the_server_finds_the_shapes_that_the_client_said(tmp_path):
    cases = [case for case in KERAS if not any(None in shape[1:] for shape in case["inputs"])]
    answers = [called(number, case) for number, case in enumerate(cases)]
    model = Model(outputs=layers.Concatenate()([layers.Flatten()(answer) for answer in answers]))
    description = tmp_path / "model.json"
    description.write_text(json.dumps(model.to_json()))
    told = subprocess.run(
        [servers.binary(), "explain", "--batch", "1", description], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    rows = {
        int(number): ((None, *map(int, shape.split(", "))), int(count))
        for number, shape, count in ROW.findall(told.stdout)
    }
    assert rows == {
        number: (answer.shape, case["parameters"])
        for number, (answer, case) in enumerate(zip(answers, cases, strict=True))
    }
