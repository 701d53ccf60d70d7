"""Initializers and regularizers as objects: what is sent for them, and where they may stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import volary
from volary import Input, Model, initializers, layers, regularizers

SERVER = Path(__file__).resolve().parents[2] / "src/nn"
# The same as another: the Python client has one class for both.
OTHER_NAMES = {"uniform"}
# As Keras 3.15 has them, its seeds left out.
DEFAULTS = {
    "constant": {"value": 0.0},
    "random_uniform": {"minval": -0.05, "maxval": 0.05},
    "random_normal": {"mean": 0.0, "stddev": 0.05},
    "truncated_normal": {"mean": 0.0, "stddev": 0.05},
    "variance_scaling": {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal"},
    "orthogonal": {"gain": 1.0},
    "identity": {"gain": 1.0},
    "l1": {"l1": 0.01},
    "l2": {"l2": 0.01},
    "l1_l2": {"l1": 0.0, "l2": 0.0},
}


def kinds(module):
    given = [getattr(module, name) for name in module.__all__]
    return [kind for kind in given if hasattr(kind, "name")]


def sent(layer, shape=(4,)):
    return Model(outputs=layer(Input(shape=shape))).to_json()["layers"][1]["config"]


def test_there_is_a_class_for_every_name_that_the_servers_know_and_no_other():
    table = re.search(r"const NAMES[^=]*= &?\[(.*?)\];", (SERVER / "initialize.rs").read_text(), re.DOTALL)
    known = set(re.findall(r'"(\w+)"', table.group(1)))
    # `values` is what a Constant of an array is sent as.
    assert {kind.name for kind in kinds(initializers)} | OTHER_NAMES | {"values"} == known
    assert {kind.name for kind in kinds(regularizers)} == {"l1", "l2", "l1_l2"}


@pytest.mark.parametrize("kind", kinds(initializers) + kinds(regularizers), ids=lambda kind: kind.__name__)
def test_the_defaults_are_those_of_keras_and_survive_a_configuration(kind):
    made = kind()
    assert made.get_config() == DEFAULTS.get(kind.name, {})
    assert kind.from_config(made.get_config()) == made
    form = made.to_json()
    assert (form if isinstance(form, str) else form["name"]) == kind.name


def test_a_layer_takes_an_object_a_class_a_name_or_a_dict():
    for given in (initializers.HeNormal(), initializers.HeNormal, "he_normal"):
        assert sent(layers.Dense(2, kernel_initializer=given))["kernel_initializer"] == "he_normal"
    dense = layers.Dense(
        2,
        kernel_initializer=initializers.RandomNormal(stddev=np.float32(0.5)),
        bias_initializer={"name": "constant", "value": 1},
        kernel_regularizer=volary.regularizers.L2(1e-4),
        bias_regularizer=regularizers.l1,
        activity_regularizer=regularizers.L1L2(l2=0.5),
    )
    assert {name: value for name, value in sent(dense).items() if "izer" in name} == {
        "kernel_initializer": {"name": "random_normal", "stddev": 0.5},
        "bias_initializer": {"name": "constant", "value": 1},
        "kernel_regularizer": {"name": "l2", "l2": 1e-4},
        "bias_regularizer": "l1",
        "activity_regularizer": {"name": "l1_l2", "l1": 0.0, "l2": 0.5},
    }
    assert layers.Dense.from_config(dense.get_config()) == dense
    inner = layers.TimeDistributed(layers.Dense(2, kernel_initializer=initializers.Zeros()))
    assert sent(inner, (3, 4))["layer"]["config"]["kernel_initializer"] == "zeros"


def test_a_constant_of_an_array_is_a_pretrained_table():
    table = layers.Embedding(2, 3, embeddings_initializer=initializers.Constant(np.arange(6.0).reshape(2, 3)))
    assert table.embeddings_initializer == {"name": "values", "values": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]}


def test_a_parameter_of_ones_own_layer_takes_them_too():
    class Scale(layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(
                input_shape[-1:], initializers.Constant(2.0), regularizer=regularizers.L1, name="scale"
            )

        def call(self, x):
            return x * self.scale

    [parameter] = [node for node in sent(Scale())["program"]["nodes"] if node["op"] == "parameter"]
    assert (parameter["initializer"], parameter["regularizer"]) == ({"name": "constant", "value": 2.0}, "l1")


def test_what_is_neither_is_refused_with_the_argument():
    for given, words in (
        (regularizers.L2(), r"^kernel_initializer of Dense is of type L2; give one of volary.initializers, its class, its name"),
        (regularizers.L2, r"^kernel_initializer of Dense is L2; give one of volary.initializers"),
        (len, r"^kernel_initializer of Dense is of type builtin_function_or_method; give one of volary.initializers"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=words):
            layers.Dense(2, kernel_initializer=given)
    with pytest.raises(
        TypeError, match=r"^bias_regularizer of Conv2D is of type float; give one of volary.regularizers"
    ):
        layers.Conv2D(2, 3, bias_regularizer=0.01)
    with pytest.raises(TypeError, match=r"^initializer of a Parameter is of type int"):
        volary.Parameter((3,), 0)
    with pytest.raises(TypeError, match="seed"):
        initializers.HeNormal(seed=3)
    with pytest.raises(volary.errors.InvalidArgumentError, match=r"^l2 of L2 is nan; give a finite number$"):
        regularizers.L2(float("nan"))
