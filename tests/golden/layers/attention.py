"""MultiHeadAttention and Attention: shapes, causality, windows, masks of every kind, gates."""

import keras
import numpy as np
from cases import case, write

MASK = np.array([[1, 1, 0], [1, 0, 1]], bool)
VALUES = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
GIVEN = np.random.default_rng(1).integers(0, 2, (2, 3, 4))
GIVEN[:, :, 0] = 1
OURS = ("use_causal_mask", "attention_mask")


def heads(name, config, *inputs, **more):
    """A case of MultiHeadAttention; call arguments of Keras are options of ours."""
    ours = {"num_heads": 2, "key_dim": 3, **config}
    theirs = {key: value for key, value in ours.items() if key not in OURS}
    inner = keras.layers.MultiHeadAttention(**theirs)
    weights = ["query", "key", "value", "gate", "attention_output"]
    if not ours.get("use_gate"):
        weights.remove("gate")
    else:
        weights = ["query", "key", "gate", "value", "attention_output"]
    arrays = ["kernel", "bias"] if ours.get("use_bias", True) else ["kernel"]

    class Called:
        """Keras' layer with the arguments of its call."""

        @property
        def weights(self):
            return [each for each in inner.weights if "seed" not in each.path]

        def __call__(self, *tensors, **arguments):
            if ours.get("attention_mask"):
                *tensors, arguments["attention_mask"] = tensors
            if ours.get("use_causal_mask"):
                arguments["use_causal_mask"] = True
            return inner(*tensors, **arguments)

    return case(
        name,
        "MultiHeadAttention",
        ours,
        *inputs,
        layer=Called,
        together=False,
        names=[f"{weight}/{array}" for weight in weights for array in arrays],
        **more,
    )


def attention(name, config, *inputs, **more):
    theirs = {key: value for key, value in config.items() if key not in OURS}
    call = {"use_causal_mask": True} if config.get("use_causal_mask") else {}
    return case(
        name,
        "Attention",
        config,
        *inputs,
        layer=lambda: keras.layers.Attention(**theirs),
        call=call,
        **more,
    )


query, value, key = (2, 3, 5), (2, 4, 6), (2, 4, 7)
write(
    "attention",
    [
        heads("heads", {}, query, value),
        heads(
            "heads over a key of its own, other widths",
            {"value_dim": 4, "output_shape": 2},
            query,
            value,
            key,
        ),
        heads("heads without bias", {"use_bias": False}, query, value),
        heads("heads, causal", {"use_causal_mask": True}, (2, 4, 5), (2, 4, 6)),
        heads(
            "heads, causal, fewer queries", {"use_causal_mask": True}, query, value
        ),
        heads("heads in a window", {"sliding_window": 2}, query, value),
        heads(
            "heads in a causal window",
            {"sliding_window": 2, "use_causal_mask": True},
            (2, 5, 4),
            (2, 5, 4),
        ),
        heads("heads with a gate", {"use_gate": True, "value_dim": 2}, query, value),
        heads(
            "heads with a mask of the value",
            {},
            query,
            value,
            masks=[None, VALUES],
        ),
        heads(
            "heads with masks of query, value and key",
            {"use_causal_mask": True},
            query,
            value,
            key,
            masks=[MASK, VALUES, np.array([[1, 1, 1, 1], [1, 0, 1, 0]], bool)],
            counted=True,
            differences=False,
        ),
        heads(
            "heads with dropout and masks, answering",
            {"dropout": 0.5, "use_causal_mask": True},
            query,
            value,
            masks=[MASK, VALUES],
            differences=False,
        ),
        heads(
            "heads with a mask given",
            {"attention_mask": True},
            query,
            value,
            GIVEN,
            integers=[2],
        ),
        heads(
            "heads with a mask given and one of the value, causal",
            {"attention_mask": True, "use_causal_mask": True},
            query,
            value,
            key,
            GIVEN,
            integers=[3],
            masks=[None, VALUES, None, None],
        ),
        attention("attention", {}, query, (2, 4, 5)),
        attention("attention over a key", {"use_scale": True}, query, value, (2, 4, 5)),
        attention("attention, causal", {"use_causal_mask": True}, query, (2, 4, 5)),
        attention(
            "attention by concatenation",
            {"score_mode": "concat", "use_scale": True, "dropout": 0.3},
            query,
            (2, 4, 5),
        ),
        attention(
            "attention with masks",
            {"score_mode": "concat", "use_causal_mask": True},
            query,
            (2, 4, 5),
            masks=[MASK, VALUES],
        ),
    ],
)
