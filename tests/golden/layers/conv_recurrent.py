"""ConvLSTM1D, ConvLSTM2D and ConvLSTM3D: windows, masks, states in and out, backwards."""

import numpy as np
from cases import case, keras, write

MASK = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
X = (3, 3, 4, 5, 2)
FIRST = {"data_format": "channels_first"}


def recurrent(name, kind, config, *inputs, **more):
    """A case of two filters; inputs after the first are first states."""
    config = {"filters": 2, "kernel_size": 3, **config}
    inner = getattr(keras.layers, kind)(**config)

    class Called:
        """Keras' layer with its first states as an argument."""

        @property
        def weights(self):
            return [each for each in inner.weights if "seed" not in each.path]

        def __call__(self, *tensors, **arguments):
            if len(tensors) > 1:
                arguments["initial_state"] = list(tensors[1:])
                # With first states Keras takes no mask off the sequence by itself.
                arguments["mask"] = keras.src.backend.get_keras_mask(tensors[0])
            return inner(tensors[0], **arguments)

    return case(name, kind, config, *inputs, layer=Called, together=False, **more)


sequences = {"return_sequences": True, "return_state": True}
functions = {"activation": "softsign", "recurrent_activation": "hard_silu"}
two = "ConvLSTM2D"
write(
    "conv_recurrent",
    [
        recurrent("ConvLSTM2D", two, {}, X),
        recurrent("ConvLSTM2D without bias", two, {"use_bias": False}, X),
        recurrent(
            "ConvLSTM2D in sequence with states, kept in size",
            two,
            {**sequences, "padding": "same"},
            X,
            *[(3, 4, 5, 2)] * 2,
        ),
        recurrent(
            "ConvLSTM2D of uneven windows that step, backwards from a state",
            two,
            {**sequences, "kernel_size": [2, 3], "strides": [1, 2], "go_backwards": True},
            X,
            *[(3, 3, 2, 2)] * 2,
        ),
        recurrent(
            "ConvLSTM2D dilated, with other functions",
            two,
            {**functions, "dilation_rate": [1, 2], "unit_forget_bias": False},
            X,
        ),
        recurrent("ConvLSTM2D without functions", two, {"activation": None}, X),
        recurrent("ConvLSTM2D masked", two, {}, X, masks=[MASK]),
        recurrent(
            "ConvLSTM2D masked, in sequence from a state",
            two,
            {**sequences, "kernel_size": 1},
            X,
            *[(3, 4, 5, 2)] * 2,
            masks=[MASK, None, None],
        ),
        recurrent(
            "ConvLSTM2D masked, backwards, its outputs zero where masked",
            two,
            {**sequences, "go_backwards": True, "zero_output_for_mask": True},
            X,
            masks=[MASK],
        ),
        recurrent(
            "ConvLSTM2D with channels first, in sequence with states",
            two,
            {**FIRST, **sequences, "padding": "same"},
            (3, 3, 2, 4, 5),
            *[(3, 2, 4, 5)] * 2,
        ),
        recurrent(
            "ConvLSTM2D with channels first and a function along the columns",
            two,
            {**FIRST, "activation": "softmax"},
            (3, 3, 2, 4, 5),
        ),
        recurrent(
            "ConvLSTM2D of one step that drops nothing when it answers",
            two,
            {"dropout": 0.4, "recurrent_dropout": 0.3},
            (3, 1, 4, 5, 2),
            *[(3, 2, 3, 2)] * 2,
        ),
        recurrent("ConvLSTM1D", "ConvLSTM1D", sequences, (3, 3, 5, 2)),
        recurrent(
            "ConvLSTM1D with channels first, stepping",
            "ConvLSTM1D",
            {**FIRST, "strides": 2, "padding": "same"},
            (3, 3, 2, 5),
        ),
        recurrent(
            "ConvLSTM3D", "ConvLSTM3D", {"kernel_size": [1, 2, 3]}, (2, 2, 2, 3, 4, 2)
        ),
    ],
)
