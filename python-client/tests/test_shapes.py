"""The shapes that layers make: Keras' own (`tests/golden/layer_shapes`), what depends on them, and mistakes that they show."""

from __future__ import annotations

import json
import math
import random
import struct
from itertools import chain

import numpy as np
import pytest

import volary
from test_layers import CALL_ARGUMENTS, CASES, GOLDEN, made
from volary import Input, Model, Sequential, layers, ops

KERAS = json.loads((GOLDEN.parent / "layer_shapes/shapes.json").read_text())
# A type, the base, and what no rule is for.
NO_LAYERS = {"Function", "Layer", "InputLayer", "Lambda"}


def layer_of(case):
    config = {name: value for name, value in case["config"].items() if name not in CALL_ARGUMENTS}
    return getattr(layers, case["layer"])(**{name: made(value) for name, value in config.items()})


def found(layer, inputs):
    """The shapes of its outputs, and the count of its parameters."""
    given = [tuple(shape) for shape in inputs]
    given = given[0] if len(given) == 1 else given
    answer = layer.compute_output_shape(given)
    return [list(shape) for shape in (answer if isinstance(answer, list) else [answer])], layer.count_params(given)


# -- against Keras ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", KERAS, ids=lambda case: f"{case['layer']}-{case['inputs']}")
def test_a_layer_makes_the_shapes_that_keras_makes(case):
    assert found(layer_of(case), case["inputs"]) == (case["outputs"], case["parameters"])


def stored_shapes(name):
    """The shapes of a group's arrays: the header of its safetensors file."""
    with (GOLDEN / f"{name}.safetensors").open("rb") as file:
        [length] = struct.unpack("<Q", file.read(8))
        return {key: each["shape"] for key, each in json.loads(file.read(length)).items() if key != "__metadata__"}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_told_of_inputs_that_are_partly_unknown_is_true_whatever_they_turn_out_to_be(seed):
    choice = random.Random(seed)
    for case in KERAS:
        inputs = [
            [each if axis == 0 or choice.random() < 0.7 else None for axis, each in enumerate(shape)]
            for shape in case["inputs"]
        ]
        outputs, count = found(layer_of(case), inputs)
        assert count in (None, case["parameters"]), case
        assert [len(shape) for shape in outputs] == [len(shape) for shape in case["outputs"]], case
        for ours, theirs in zip(*map(chain.from_iterable, (outputs, case["outputs"])), strict=True):
            assert ours in (None, theirs), (case, inputs, outputs)


@pytest.mark.parametrize("group", sorted(path.stem for path in GOLDEN.glob("*.json")))
def test_the_answers_of_the_servers_golden_files_have_the_shapes_that_are_said_before(group):
    stored = stored_shapes(group)
    for case in json.loads((GOLDEN / f"{group}.json").read_text()):
        answers = [stored[f"{case['name']}/output_{number}"] for number in range(case["outputs"])]
        arrays = [stored[f"{case['name']}/{name}"] for name in case["arrays"] + case["statistics"]]
        # A mask is the last input, and no array depends on it.
        read = case["inputs"][:-1] if case["config"].get("attention_mask") else case["inputs"]
        shapes, count = found(layer_of(case), [each["shape"] for each in read])
        assert (shapes, count) == (answers, sum(map(math.prod, arrays))), case["name"]


def test_every_layer_is_held_to_an_answer_of_keras_or_of_the_golden_files():
    held = {case["layer"] for case in KERAS + CASES}
    known = {getattr(layers, name) for name in layers.__all__ if name not in NO_LAYERS}
    assert {kind.__name__ for kind in known} - held == set()


# -- tensors ------------------------------------------------------------------------------------------------------


class Scale(layers.Layer):
    def build(self, input_shape):
        self.seen = input_shape
        self.scale = volary.Parameter((input_shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.scale


def test_a_layer_of_ones_own_is_built_with_the_shape_behind_a_convolution():
    scale = Scale()
    image = Input(shape=(28, 28, 1))
    kept = layers.MaxPooling2D()(layers.Conv2D(8, 3)(image))
    assert (kept.shape, scale(kept).shape, scale.seen) == ((None, 13, 13, 8), (None, 13, 13, 8), (None, 13, 13, 8))


def test_each_output_of_a_layer_has_its_shape():
    answer, hidden, carried = layers.LSTM(4, return_sequences=True, return_state=True)(Input(shape=(5, 2)))
    assert [each.shape for each in (answer, hidden, carried)] == [(None, 5, 4), (None, 4), (None, 4)]
    again = layers.LSTM(4)(answer, initial_state=[hidden, carried])
    assert again.shape == (None, 4)
    steps = Input(shape=(3, 6))
    assert layers.MultiHeadAttention(2, 4)(steps, answer).shape == (None, 3, 6)
    assert layers.Attention()([answer, answer, answer]).shape == (None, 5, 4)


def test_what_an_input_of_unknown_width_goes_through_has_unknown_extents():
    columns = Input(["a", "b"])
    assert layers.Dense(3)(columns).shape == (None, 3)
    assert layers.Concatenate()([columns, layers.Dense(3)(columns)]).shape == (None, None)
    assert layers.Flatten()(layers.Embedding(4, 3)(Input(["c"], dtype="int32"))).shape == (None, None)
    unknown = layers.Lambda(lambda x: ops.flip(x, axis=-1))(columns)
    assert unknown.shape is None
    for layer in (layers.Dense(2), layers.Conv2D(2, 3), layers.Flatten(), layers.LSTM(2), layers.Reshape([2, 2])):
        assert layer(unknown).shape is None
    assert [each.shape for each in layers.LSTM(2, return_state=True)(unknown)] == [None] * 3
    assert layers.Add()([unknown, columns]).shape is None


def test_functions_number_by_number_and_over_axes_keep_what_is_known():
    columns = Input(["a", "b"])
    steps = layers.Embedding(4, 3)(Input(["c"], dtype="int32"))
    assert (2 * ops.relu(columns) + columns).shape == (None, None)
    assert (steps + np.ones((5, 3))).shape == (None, 5, 3)
    assert (steps * np.ones((1, 1))).shape == (None, None, 3)
    assert ops.mean(ops.softmax(steps, axis=-1), axis=1).shape == (None, 3)
    assert ops.max(columns, axis=-1, keepdims=True).shape == (None, 1)
    with pytest.raises(ValueError, match="do not go together"):
        steps + np.ones((5, 4))
    with pytest.raises(ValueError, match="has no axis 2"):
        ops.sum(columns, axis=2)


def test_a_model_used_as_a_layer_tells_shapes_of_its_new_inputs():
    steps = Input(shape=(4, 2))
    answer, hidden = layers.GRU(3, return_sequences=True, return_state=True)(Scale()(steps))
    encoder = Model(steps, [answer, hidden])
    assert [each.shape for each in encoder(Input(shape=(4, 2)))] == [(None, 4, 3), (None, 3)]
    # What the program of Scale makes of other shapes is not known here, nor what follows it.
    assert [each.shape for each in encoder(Input(shape=(9, 2)))] == [None, None]
    image = Input(shape=(8, 8, 1))
    stem = Sequential([image, layers.Conv2D(4, 3, strides=2)])
    assert stem(Input(shape=(16, 20, 1))).shape == (None, 7, 9, 4)


def test_a_layer_of_ones_own_may_say_the_shape_that_its_call_does_not_show():
    class Total(layers.Layer):
        def call(self, x):
            return ops.sum(ops.flip(x, axis=-1), axis=-1)

        def compute_output_shape(self, input_shape):
            return input_shape[:-1]

    assert Total()(Input(["a", "b"])).shape == (None,)


# -- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "inputs", "words"),
    [
        (layers.Conv2D(4, 3), [(8, 1)], r"^Conv2D\(filters=4, kernel_size=3\): \(None, 8, 1\) is not rows of 3 extents, "),
        (layers.Conv2D(4, 3), [()], "give the Input a shape, or put a Reshape before$"),
        (layers.Conv1D(4, 9), [(8, 1)], 'a window reaches over 9 numbers and its axis has 8; take a smaller one'),
        (layers.Conv2D(4, [3, 3, 3]), [(8, 8, 1)], r"\[3, 3, 3\] is no size; give one whole number, or 2 of them"),
        (layers.Conv1D(4, 3, strides=0), [(8, 1)], "a size, stride or dilation is 0; give whole numbers from 1"),
        (layers.Conv1D(-4, 3), [(8, 1)], r": it would make \(None, 6, -4\) of \(None, 8, 1\); extents must be at least 1$"),
        (layers.Dense(0), [(8,)], r"^Dense\(units=0\): it would make \(None, 0\)"),
        (layers.Cropping1D(4), [(8, 1)], r"would make \(None, 0, 1\)"),
        (layers.ZeroPadding2D([1, 2, 3]), [(8, 8, 1)], r"\[1, 2, 3\] is no width; give one whole number, or a pair"),
        (layers.LSTM(4), [(8,)], r"\(None, 8\) is no sequence, \(steps, numbers\) per row; give the Input a shape"),
        (layers.Reshape([5, -1]), [(8,)], r"rows of \(None, 8\) have 8 numbers and do not fill \(5, -1\)"),
        (layers.Permute([1, 3]), [(8, 2)], r"\(1, 3\) is no order of the extents of \(None, 8, 2\); name each of 1 to 2 once"),
        (layers.RepeatVector(2), [(8, 2)], "is not rows of one extent; put a Flatten before"),
        (layers.Activation("glu"), [(5,)], r"axis -1 of \(None, 5\) is odd; its halves gate each other: give an even extent"),
        (layers.Add(), [(4, 3), (4, 2)], r"\(None, 4, 3\) and \(None, 4, 2\) do not go together; the extents of rows must be"),
        (layers.Concatenate(), [(4, 3), (3,)], "do not go side by side along axis -1; all other extents must be equal"),
        (layers.Concatenate(axis=0), [(4,), (4,)], "axis 0 of .* cannot be used; axis 0 is the rows"),
        (layers.Dot(1), [(4, 3), (5, 3)], "have 4 and 5 numbers along axes 1 and 1; choose axes of equal extent"),
        (layers.TimeDistributed(layers.Dense(0)), [(4, 3)], r"^TimeDistributed\(.*\): Dense\(units=0\): it"),
    ],
    ids=lambda value: repr(value) if isinstance(value, layers.Layer) else None,
)  # fmt: skip
def test_a_mistake_is_named_where_it_is_made(layer, inputs, words):
    with pytest.raises(ValueError, match=words):
        tensors = [Input(["x"]) if shape == () else Input(shape=shape) for shape in inputs]
        layer(tensors if len(tensors) > 1 else tensors[0])


def test_options_of_a_wrong_type_are_left_to_the_servers():
    for layer in (layers.Dense("many"), layers.Reshape(4), layers.RepeatVector("a")):
        assert layer(Input(shape=(4,))).shape is None


def test_glu_halves_the_axis_that_it_is_given():
    assert layers.Activation("glu")(Input(shape=(4, 6))).shape == (None, 4, 3)
    assert layers.Activation({"name": "glu", "axis": 1})(Input(shape=(4, 6))).shape == (None, 2, 6)


# -- models -------------------------------------------------------------------------------------------------------


def test_a_model_finds_its_layers_and_tells_its_shapes():
    left, right = Input(shape=(4,)), Input(shape=(6,), name="right")
    shared = layers.Dense(8)
    inner = Sequential([Input(shape=(8,)), layers.Dense(3, name="deep")], name="inner")
    both = layers.Add(name="both")([shared(left), shared(layers.Dense(4)(right))])
    model = Model([left, right], [inner(both), both])
    assert (model.input_shape, model.output_shape) == ([(None, 4), (None, 6)], [(None, 3), (None, 8)])
    assert Sequential([layers.Dense(2)]).output_shape == (None, 2)
    assert model.get_layer("both") is both.layer
    assert model.get_layer("dense_2") is model.get_layer(name="dense") is shared
    assert model.get_layer("inner.deep").units == 3
    assert model.get_layer(index=0) is left.layer
    with pytest.raises(ValueError, match=r"^'model' has no layer 'deep'; there are input, dense, right, dense_1, "):
        model.get_layer("deep")
    with pytest.raises(ValueError, match="has 6 layers and none at index 6"):
        model.get_layer(index=6)
    for options in ({}, {"name": "both", "index": 0}):
        with pytest.raises(ValueError, match="give one of them"):
            model.get_layer(**options)


def test_a_summary_before_training_says_what_is_known():
    columns = Input(["a", "b"])
    steps = Input(shape=(4, 6))
    dense = layers.Dense(3)
    seen = layers.MultiHeadAttention(1, 2)(steps, steps, attention_mask=Input(shape=(4, 4), name="mask"))
    read = layers.LSTM(6)(Scale()(seen))
    joined = layers.Concatenate()([dense(layers.Dense(6)(columns)), dense(read)])
    model = Model(outputs=layers.BatchNormalization(name="last")(joined), name="both")
    assert (
        model.summary()
        == """\
Model "both"
Layer (type)                               Output shape  Parameters  Connected to
-----------------------------------------------------------------------------------------
input (Input)                              (rows, ?)              0
dense (Dense)                              (rows, 6)              ?  input
dense_1 (Dense)                            (rows, 3)             21  dense
input_1 (Input)                            (rows, 4, 6)           0
mask (Input)                               (rows, 4, 4)           0
multi_head_attention (MultiHeadAttention)  (rows, 4, 6)          60  input_1, mask
scale (Scale)                              (rows, 4, 6)           6  multi_head_attention
lstm (LSTM)                                (rows, 6)            312  scale
dense_2 (Dense)                            (rows, 3)              0  lstm
concatenate (Concatenate)                  (rows, 6)              0  dense_1, dense_2
last (BatchNormalization)                  (rows, 6)             24  concatenate
Parameters: 423 and those that depend on the data
"""
    )
    assert model.count_params() is None
    assert layers.ReLU().count_params(None) == 0
    assert layers.Dense(2).count_params(None) is None
    assert Sequential([Input(shape=(2,)), layers.Dense(6), dense]).count_params() == 39
