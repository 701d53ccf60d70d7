"""Bidirectional and TimeDistributed: every merge, states, masks, other layers inside."""

import keras
import numpy as np
from cases import case, write

MASK = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 0]], bool)
NESTED = np.array([[[1, 1, 0], [1, 0, 0]], [[1, 1, 1], [1, 1, 0]]], bool)
X = (3, 4, 5)
STATE = (3, 2)


def layer_of(described):
    config = dict(described["config"])
    if "layer" in config:
        config["layer"] = layer_of(config["layer"])
    return getattr(keras.layers, described["layer"])(**config)


def wrapped(name, kind, inside, config, *inputs, backward=None, **more):
    """A case; inputs after the first are first states."""
    ours = {"layer": inside, **config}
    theirs = {"layer": layer_of(inside), **config}
    if backward is not None:
        ours["backward_layer"] = backward
        theirs["backward_layer"] = layer_of(backward)
    inner = getattr(keras.layers, kind)(**theirs)
    directions = ["forward", "backward"] if kind == "Bidirectional" else []

    class Called:
        """Keras' layer with its first states and its mask as arguments."""

        @property
        def weights(self):
            return [each for each in inner.weights if "seed" not in each.path]

        def __call__(self, *tensors, **arguments):
            if len(tensors) > 1:
                arguments["initial_state"] = list(tensors[1:])
                # With first states Keras takes no mask off the sequence by itself.
                arguments["mask"] = keras.src.backend.get_keras_mask(tensors[0])
            return inner(tensors[0], **arguments)

    arrays = ["kernel", "recurrent_kernel", "bias"]
    names = [f"{each}/{array}" for each in directions for array in arrays] or None
    return case(
        name, kind, ours, *inputs, layer=Called, together=False, names=names, **more
    )


def both(name, kind, options, config, *inputs, **more):
    inside = {"layer": kind, "config": {"units": 2, **options}}
    return wrapped(name, "Bidirectional", inside, config, *inputs, **more)


def steps(name, kind, options, *inputs, **more):
    inside = {"layer": kind, "config": options}
    return wrapped(name, "TimeDistributed", inside, {}, *inputs, **more)


sequences = {"return_sequences": True}
states = {**sequences, "return_state": True}
write(
    "wrappers",
    [
        both("both ways", "LSTM", {}, {}, X),
        both("both ways in sequence", "GRU", sequences, {}, X),
        both("both ways summed", "SimpleRNN", sequences, {"merge_mode": "sum"}, X),
        both("both ways multiplied", "GRU", {}, {"merge_mode": "mul"}, X),
        both("both ways averaged", "LSTM", sequences, {"merge_mode": "ave"}, X),
        both("both ways apart", "LSTM", states, {"merge_mode": None}, X),
        both("both ways with states", "LSTM", states, {}, X, *[STATE] * 4),
        both("both ways with states, GRU", "GRU", states, {}, X, *[STATE] * 2),
        both("both ways masked", "LSTM", {}, {}, X, masks=[MASK]),
        both("both ways masked in sequence", "LSTM", sequences, {}, X, masks=[MASK]),
        both(
            "both ways apart and masked",
            "GRU",
            sequences,
            {"merge_mode": None},
            X,
            masks=[MASK],
        ),
        both(
            "backwards first",
            "GRU",
            {**sequences, "go_backwards": True},
            {"merge_mode": "sum"},
            X,
            backward={
                "layer": "GRU",
                "config": {"units": 2, "return_sequences": True},
            },
        ),
        both(
            "another layer backwards",
            "LSTM",
            sequences,
            {},
            X,
            backward={
                "layer": "GRU",
                "config": {"units": 3, "return_sequences": True, "go_backwards": True},
            },
        ),
        steps("dense at every step", "Dense", {"units": 3, "activation": "tanh"}, X),
        steps("flatten at every step", "Flatten", {}, (2, 3, 2, 2)),
        steps("a sequence at every step", "LSTM", {"units": 2}, (2, 3, 4, 5)),
        steps(
            "a masked sequence at every step",
            "GRU",
            {"units": 2, "return_sequences": True},
            (2, 2, 3, 4),
            masks=[NESTED],
        ),
        steps("dense masked", "Dense", {"units": 3}, X, masks=[MASK]),
        steps(
            "steps of steps",
            "TimeDistributed",
            {"layer": {"layer": "Dense", "config": {"units": 2}}},
            (2, 3, 2, 4),
        ),
    ],
)
