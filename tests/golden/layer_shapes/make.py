"""The shapes that Keras' layers make, and how many numbers their arrays hold, for the Python client.

Every case is a Keras layer that is called on symbolic inputs. Options are listed where each matters, and drawn at random from
seed 1 where they act together; draws that Keras refuses are left out. `python-client/tests/test_shapes.py` reads the answers.
From the repository root:

    python tests/golden/layer_shapes/make.py
"""

import itertools
import json
import os
import random
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras

HERE = Path(__file__).parent
CASES = []
REFUSED = []
DRAW = random.Random(1)
INTEGERS = {"Embedding"}


def inner(value):
    """The Keras layer that a description inside a description stands for."""
    if isinstance(value, dict) and set(value) == {"layer", "config"}:
        return made(value["layer"], value["config"])
    return value


def made(kind, config):
    options = {
        name: tuple(value) if isinstance(value, list) else inner(value)
        for name, value in config.items()
    }
    return getattr(keras.layers, kind)(**options)


def case(kind, config, *inputs, together=None):
    """`inputs` are shapes of rows; `together` says that Keras takes them as one list."""
    if any(
        known["layer"] == kind
        and known["config"] == config
        and known["inputs"] == [[None, *each] for each in inputs]
        for known in CASES
    ):
        return
    tensors = [
        keras.Input(shape, dtype="int32" if kind in INTEGERS else "float32") for shape in inputs
    ]
    try:
        layer = made(kind, config)
        answer = (
            layer(tensors)
            if (len(tensors) > 1 if together is None else together)
            else layer(*tensors)
        )
        count = layer.count_params()
    except Exception as error:
        REFUSED.append((kind, config, inputs, str(error).splitlines()[0]))
        return
    outputs = answer if isinstance(answer, (list, tuple)) else [answer]
    CASES.append(
        {
            "layer": kind,
            "config": config,
            "inputs": [[None, *each] for each in inputs],
            "outputs": [list(each.shape) for each in outputs],
            "parameters": count,
        }
    )


def some(options):
    """One value of each option, or its default."""
    return {name: DRAW.choice(values) for name, values in options.items() if DRAW.random() < 0.7}


def size(axes, low, high):
    """One number, or one for each axis."""
    return DRAW.choice([DRAW.randint(low, high), [DRAW.randint(low, high) for _ in range(axes)]])


def image(axes, data_format, channels, low=6, high=11, unknown=0.0):
    places = [None if DRAW.random() < unknown else DRAW.randint(low, high) for _ in range(axes)]
    return (channels, *places) if data_format == "channels_first" else (*places, channels)


# -- convolution and pooling: drawn ------------------------------------------------------------------------------

for axes in (1, 2, 3):
    for number in range(24):
        order = DRAW.choice(["channels_last", "channels_first"])
        shape = image(axes, order, 4, unknown=0.1)
        bias = {"use_bias": DRAW.choice([True, False])}
        padding = {"padding": DRAW.choice(["valid", "same"])}
        apart = DRAW.choice(
            [{}, {"strides": size(axes, 1, 3)}, {"dilation_rate": size(axes, 1, 2)}]
        )
        kernel = {"filters": DRAW.choice([2, 4, 6]), "kernel_size": size(axes, 1, 4)}
        common = {**kernel, **padding, **apart, **bias, "data_format": order}
        groups = {"groups": DRAW.choice([1, 2])}
        case(f"Conv{axes}D", {**common, **groups}, shape)
        back = {"output_padding": 0} if DRAW.random() < 0.3 and apart.get("strides", 1) != 1 else {}
        case(f"Conv{axes}DTranspose", {**common, **back}, shape)
        if axes < 3:
            depth = {"depth_multiplier": DRAW.choice([1, 3])}
            case(f"SeparableConv{axes}D", {**common, **depth}, shape)
            own = {name: value for name, value in common.items() if name != "filters"}
            case(f"DepthwiseConv{axes}D", {**own, **depth}, shape)
        windows = {"pool_size": size(axes, 1, 3), **padding, "data_format": order}
        if DRAW.random() < 0.5:
            windows["strides"] = size(axes, 1, 3)
        case(f"MaxPooling{axes}D", windows, shape)
        case(f"AveragePooling{axes}D", windows, shape)
    for number in range(6):
        order = DRAW.choice(["channels_last", "channels_first"])
        shape = image(axes, order, 2)
        case(
            f"AdaptiveMaxPooling{axes}D",
            {"output_size": size(axes, 1, 4), "data_format": order},
            shape,
        )
        case(
            f"AdaptiveAveragePooling{axes}D",
            {"output_size": size(axes, 1, 4), "data_format": order},
            shape,
        )
    for order, keep in itertools.product(["channels_last", "channels_first"], [True, False]):
        for kind in ("GlobalMaxPooling", "GlobalAveragePooling"):
            case(f"{kind}{axes}D", {"data_format": order, "keepdims": keep}, image(axes, order, 3))
    case(f"MaxPooling{axes}D", {}, image(axes, None, 3))
for rate in (1, 2, 3):
    case(
        "Conv1D",
        {"filters": 3, "kernel_size": 3, "padding": "causal", "dilation_rate": rate},
        (9, 2),
    )
    case("Conv1D", {"filters": 3, "kernel_size": 2, "padding": "causal", "strides": rate}, (9, 2))
for extra in (0, 1, 2):
    for padding in ("valid", "same"):
        config = {
            "filters": 2,
            "kernel_size": [4, 5],
            "strides": 3,
            "padding": padding,
            "output_padding": extra,
        }
        case("Conv2DTranspose", config, (5, 6, 3))

# -- padding, cropping, repeating --------------------------------------------------------------------------------

for order in ("channels_last", "channels_first"):
    for width in (2, [1, 3]):
        case("ZeroPadding1D", {"padding": width, "data_format": order}, (7, 3))
    for axes in (2, 3):
        for width in (2, [1, 3, 2][:axes], [[1, 2], [0, 3], [2, 0]][:axes]):
            shape = image(axes, order, 2, low=8)
            case(f"ZeroPadding{axes}D", {"padding": width, "data_format": order}, shape)
            case(f"Cropping{axes}D", {"cropping": width, "data_format": order}, shape)
        for number in range(3):
            shape = image(axes, order, 2, unknown=0.2)
            case(f"UpSampling{axes}D", {"size": size(axes, 1, 3), "data_format": order}, shape)
for width in (2, [1, 3]):
    case("Cropping1D", {"cropping": width}, (7, 3))
for kind, shape in (("Cropping", 1), ("ZeroPadding", 1), ("UpSampling", 1)):
    for axes in (1, 2, 3):
        case(f"{kind}{axes}D", {}, image(axes, None, 2))
case("UpSampling1D", {"size": 3}, (5, 2))
case("UpSampling2D", {"size": 2, "interpolation": "bilinear"}, (5, 4, 2))

# -- shape and order ---------------------------------------------------------------------------------------------

for shape in ((4,), (3, 4), (2, 3, 4), (None, 3)):
    case("Flatten", {}, shape)
for target in ([12], [3, 4], [-1], [2, -1], [-1, 3], [1, 12, -1], [2, 3, 2, 1]):
    for shape in ((12,), (4, 3), (2, 3, 2)):
        case("Reshape", {"target_shape": target}, shape)
case("Reshape", {"target_shape": [-1, 3]}, (None, 6))
for order in itertools.permutations([1, 2, 3]):
    case("Permute", {"dims": list(order)}, (2, 3, 4))
case("Permute", {"dims": [2, 1]}, (None, 4))
for count in (1, 5):
    case("RepeatVector", {"n": count}, (3,))

# -- layers over the innermost extent, and layers that keep the shape ---------------------------------------------

SHAPES = [(3,), (4, 3), (2, 4, 3)]
for shape in SHAPES:
    for bias in (True, False):
        case("Dense", {"units": 5, "use_bias": bias}, shape)
    for axis in (1, -1):
        for center, scale in itertools.product([True, False], repeat=2):
            config = {"axis": axis, "center": center, "scale": scale}
            case("BatchNormalization", config, shape)
            case("LayerNormalization", config, shape)
        case("GroupNormalization", {"axis": axis, "groups": -1}, shape)
        case("RMSNormalization", {"axis": axis}, shape)
        case("UnitNormalization", {"axis": axis}, shape)
        case("Softmax", {"axis": axis}, shape)
    case("PReLU", {}, shape)
    case("PReLU", {"shared_axes": [1]}, shape)
    for kind in ("ReLU", "LeakyReLU", "ELU"):
        case(kind, {}, shape)
    case("Activation", {"activation": "tanh"}, shape)
    for kind in ("Dropout", "AlphaDropout", "GaussianDropout"):
        case(kind, {"rate": 0.5}, shape)
    case("GaussianNoise", {"stddev": 0.5}, shape)
    case("Rescaling", {"scale": 0.5, "offset": -1.0}, shape)
    case("Embedding", {"input_dim": 7, "output_dim": 5}, shape)
case("LayerNormalization", {"axis": [1, 2]}, (4, 3))
case("LayerNormalization", {"axis": [-1, -2], "rms_scaling": True}, (4, 3))
case("RMSNormalization", {"axis": [1, 2]}, (4, 3))
case("BatchNormalization", {"axis": 2}, (4, 3, 2))
case("PReLU", {"shared_axes": [1, 2]}, (4, 3, 2))
case("Embedding", {"input_dim": 7, "output_dim": 5, "mask_zero": True}, (None,))
case("Masking", {"mask_value": 1.0}, (4, 3))
case("Masking", {}, (None, 3))
case("SpatialDropout1D", {"rate": 0.2}, (4, 3))
case("SpatialDropout2D", {"rate": 0.2}, (4, 3, 2))
case("SpatialDropout3D", {"rate": 0.2}, (4, 3, 2, 2))

# -- several inputs ----------------------------------------------------------------------------------------------

MERGING = ["Add", "Multiply", "Average", "Maximum", "Minimum"]
for kind in [*MERGING, "Subtract"]:
    for shapes in (
        [(3,), (3,)],
        [(4, 3), (1, 3)],
        [(4, 1), (1, 3)],
        [(2, 4, 3), (2, 1, 3)],
        [(3,), (4, 3)],
        [(4, 3), (3,)],
        [(None, 3), (None, 3)],
    ):
        case(kind, {}, *shapes)
for kind in MERGING:
    case(kind, {}, (4, 3), (4, 1), (1, 1))
for number in range(20):
    rank = DRAW.randint(1, 3)
    extents = [DRAW.randint(2, 5) for _ in range(rank)]
    spread = [
        tuple(DRAW.choice([1, extent]) for extent in extents) for _ in range(DRAW.randint(2, 4))
    ]
    case(DRAW.choice(MERGING), {}, *spread)
for number in range(24):
    rank = DRAW.randint(1, 3)
    axis = DRAW.randint(1, rank)
    extents = [DRAW.randint(1, 5) for _ in range(rank)]
    parts = [
        tuple(
            DRAW.randint(1, 5) if place == axis - 1 else extent
            for place, extent in enumerate(extents)
        )
        for _ in range(DRAW.randint(2, 4))
    ]
    config = {"axis": DRAW.choice([axis, axis - rank - 1])}
    case("Concatenate", config, *parts)
case("Concatenate", {"axis": 1}, (None, 3), (4, 3))
case("Concatenate", {}, (None, 3), (None, 4))
for axes, left, right in (
    (1, (3,), (3,)),
    (-1, (3,), (3,)),
    (1, (3, 4), (3, 5)),
    (2, (4, 3), (5, 3)),
    ([2, 1], (4, 3), (3, 5)),
    ([1, 2], (3, 4), (5, 3)),
    ([-1, -2], (4, 3), (3, 5)),
    ([2, 1], (4, 3), (3,)),
    ([1, 2], (3,), (5, 3)),
    (-1, (4, 3), (5, 3)),
):
    for unit in (True, False):
        case("Dot", {"axes": axes, "normalize": unit}, left, right)

# -- sequences ---------------------------------------------------------------------------------------------------

for kind in ("SimpleRNN", "LSTM", "GRU"):
    for every, state, bias in itertools.product([True, False], repeat=3):
        config = {"units": 4, "return_sequences": every, "return_state": state, "use_bias": bias}
        case(kind, config, (5, 3))
        cell = {"layer": kind, "config": config}
        for mode in ("concat", "sum", "mul", "ave", None):
            if bias:
                case("Bidirectional", {"layer": cell, "merge_mode": mode}, (5, 3))
    case(kind, {"units": 4, "return_sequences": True}, (None, 3))
    # With other units backward, the shape that Keras says is not the one that its layer makes.
    backward = {"layer": kind, "config": {"units": 4, "go_backwards": True}}
    case(
        "Bidirectional",
        {"layer": {"layer": kind, "config": {"units": 4}}, "backward_layer": backward},
        (5, 3),
    )
case("GRU", {"units": 4, "reset_after": False}, (5, 3))
for kind, shape, config in (
    ("Dense", (5, 3), {"units": 4}),
    ("Dense", (5, 2, 3), {"units": 4}),
    ("Conv2D", (5, 8, 8, 3), {"filters": 4, "kernel_size": 3, "strides": 2}),
    ("Flatten", (5, 2, 3), {}),
    ("MaxPooling1D", (5, 9, 3), {"pool_size": 2}),
    ("GlobalAveragePooling2D", (5, 4, 4, 3), {}),
    ("LSTM", (5, 4, 3), {"units": 2}),
    ("LSTM", (5, 4, 3), {"units": 2, "return_sequences": True}),
    ("Reshape", (5, 6), {"target_shape": [2, -1]}),
    ("Dropout", (5, 6), {"rate": 0.5}),
):
    case("TimeDistributed", {"layer": {"layer": kind, "config": config}}, shape)
for axes in (1, 2, 3):
    for number in range(10):
        order = DRAW.choice(["channels_last", "channels_first"])
        config = {
            "filters": 3,
            "kernel_size": size(axes, 1, 3),
            "padding": DRAW.choice(["valid", "same"]),
            "data_format": order,
            **DRAW.choice([{}, {"strides": size(axes, 1, 2)}]),
            **some(
                {name: [True, False] for name in ("return_sequences", "return_state", "use_bias")}
            ),
        }
        case(f"ConvLSTM{axes}D", config, (4, *image(axes, order, 2, low=4, high=6)))

# -- attention ---------------------------------------------------------------------------------------------------

for number in range(20):
    config = {
        "num_heads": DRAW.randint(1, 3),
        "key_dim": DRAW.randint(2, 5),
        **some(
            {
                "value_dim": [3, 7],
                "use_bias": [True, False],
                "output_shape": [5, 9],
                "use_gate": [True, False],
            }
        ),
    }
    steps = DRAW.randint(2, 6)
    inputs = [(4, 6), (steps, 5), (steps, 3)][: DRAW.randint(2, 3)]
    case("MultiHeadAttention", config, *inputs, together=False)
for scaled, mode in itertools.product([True, False], ["dot", "concat"]):
    config = {"use_scale": scaled, "score_mode": mode}
    case("Attention", config, (4, 6), (5, 6))
    case("Attention", config, (4, 6), (5, 3), (5, 6))

HERE.joinpath("shapes.json").write_text(
    "[\n" + ",\n".join(json.dumps(each) for each in CASES) + "\n]\n"
)
kinds = {each["layer"] for each in CASES}
print(
    f"{len(CASES)} cases of {len(kinds)} layers with Keras {keras.__version__}; {len(REFUSED)} refused"
)
for each in REFUSED:
    print(*each)
