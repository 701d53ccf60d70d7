"""SimpleRNN, LSTM and GRU: equations, masks, states in and out, backwards."""

import keras
import numpy as np
from cases import case, write

MASK = np.array([[1, 1, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
X = (3, 4, 5)
STATE = (3, 2)


def recurrent(name, kind, config, *inputs, **more):
    """A case of two units; inputs after the first are first states."""
    config = {"units": 2, **config}
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

    return case(
        name, kind, config, *inputs, layer=Called, together=False, **more
    )


cases = []
for kind, states in [("SimpleRNN", 1), ("LSTM", 2), ("GRU", 1)]:
    first = [STATE] * states
    masks = [MASK] + [None] * states
    sequences = {"return_sequences": True, "return_state": True}
    cases += [
        recurrent(f"{kind}", kind, {}, X),
        recurrent(f"{kind} without bias", kind, {"use_bias": False}, X),
        recurrent(f"{kind} in sequence with states", kind, sequences, X, *first),
        recurrent(
            f"{kind} backwards from a state",
            kind,
            {**sequences, "go_backwards": True},
            X,
            *first,
        ),
        recurrent(f"{kind} masked", kind, {}, X, masks=[MASK]),
        recurrent(
            f"{kind} masked, in sequence from a state",
            kind,
            sequences,
            X,
            *first,
            masks=masks,
        ),
        recurrent(
            f"{kind} masked, backwards, its outputs zero where masked",
            kind,
            {**sequences, "go_backwards": True, "zero_output_for_mask": True},
            X,
            *first,
            masks=masks,
        ),
        recurrent(
            f"{kind} of one step that drops nothing when it answers",
            kind,
            {"dropout": 0.4, "recurrent_dropout": 0.3},
            (3, 1, 5),
            *first,
        ),
    ]
activations = {"activation": "softsign", "recurrent_activation": "hard_silu"}
cases += [
    recurrent(
        "SimpleRNN with another function", "SimpleRNN", {"activation": "gelu"}, X
    ),
    recurrent(
        "LSTM with other functions",
        "LSTM",
        {**activations, "unit_forget_bias": False},
        X,
        *[STATE] * 2,
    ),
    recurrent("LSTM without functions", "LSTM", {"activation": None}, X),
    recurrent("GRU with other functions", "GRU", activations, X, STATE),
    recurrent("GRU reset before", "GRU", {"reset_after": False}, X, STATE),
    recurrent(
        "GRU reset before, without bias, masked",
        "GRU",
        {"reset_after": False, "use_bias": False, "return_sequences": True},
        X,
        masks=[MASK],
    ),
]
write("recurrent", cases)
