"""Convolution and pooling layers as descriptions, held to Keras' signatures by the golden files of the server's tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volary import Input, Model, layers

GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/layers"


@pytest.mark.parametrize("group", ["convolution", "pooling", "separable"])
def test_what_keras_was_asked_for_is_described_with_every_option(group):
    for case in json.loads((GOLDEN / f"{group}.json").read_text()):
        layer = getattr(layers, case["layer"])(**case["config"])
        described = layer.get_config()
        assert described | case["config"] == described, case["name"]
        assert type(layer).from_config(described) == layer, case["name"]


def test_options_stand_where_keras_has_them():
    assert layers.Conv2D(8, (3, 5), 2, "same").get_config() == {
        "filters": 8,
        "kernel_size": [3, 5],
        "strides": 2,
        "padding": "same",
        "data_format": "channels_last",
        "dilation_rate": 1,
        "groups": 1,
        "activation": None,
        "use_bias": True,
        "kernel_initializer": "glorot_uniform",
        "bias_initializer": "zeros",
        "kernel_regularizer": None,
        "bias_regularizer": None,
    }
    assert layers.DepthwiseConv2D(3, 1, "same", 2).depth_multiplier == 2
    assert layers.SeparableConv1D(4, 3, 2).strides == 2
    assert layers.MaxPooling2D(3, 2, "same").get_config() == {
        "pool_size": 3,
        "strides": 2,
        "padding": "same",
        "data_format": "channels_last",
    }
    with pytest.raises(TypeError, match="pool_size"):
        layers.AveragePooling2D()


def test_a_small_network_for_images_is_a_graph_of_keras_names():
    image = Input(["pixels"], shape=(8, 8, 1))
    found = layers.MaxPool2D()(layers.Convolution2D(4, 3, activation="relu")(image))
    answer = layers.Dense(10, activation="softmax")(layers.GlobalAvgPool2D()(found))
    form = Model(image, answer).to_json()
    assert [each["name"] for each in form["layers"][1:4]] == ["conv2d", "max_pooling2d", "global_average_pooling2d"]
    assert [each["layer"] for each in form["layers"]] == [
        "Input",
        "Conv2D",
        "MaxPooling2D",
        "GlobalAveragePooling2D",
        "Dense",
    ]


def test_a_layer_without_a_name_is_named_as_keras_names_it():
    image = Input(["pixels"], shape=(8, 1))
    form = Model(image, layers.Conv1DTranspose(4, 3)(layers.SeparableConv1D(4, 3)(image))).to_json()
    assert [each["name"] for each in form["layers"]] == ["input", "separable_conv1d", "conv1d_transpose"]
