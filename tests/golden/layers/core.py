"""Dense, Embedding, Flatten, Concatenate, Activation, Dropout (which answers unchanged)."""

import numpy as np
from cases import case, write

indices = np.array([[1, 0, 4], [3, 3, 0]])
write(
    "core",
    [
        case("dense", "Dense", {"units": 4, "activation": "tanh"}, (3, 5)),
        case("dense without bias", "Dense", {"units": 2, "use_bias": False}, (3, 5)),
        case(
            "dense over a sequence",
            "Dense",
            {"units": 4, "activation": "gelu"},
            (2, 3, 5),
        ),
        case(
            "dense keeps the mask",
            "Dense",
            {"units": 2},
            (2, 3, 5),
            masks=[np.array([[1, 1, 0], [1, 0, 0]], bool)],
        ),
        case(
            "embedding",
            "Embedding",
            {"input_dim": 5, "output_dim": 3},
            indices,
            integers=[0],
        ),
        case(
            "embedding masks zero",
            "Embedding",
            {"input_dim": 5, "output_dim": 3, "mask_zero": True},
            indices,
            integers=[0],
        ),
        case("flatten", "Flatten", {}, (2, 3, 4)),
        case("concatenate", "Concatenate", {}, (2, 3, 4), (2, 3, 1)),
        case("activation", "Activation", {"activation": "selu"}, (3, 5)),
        case("dropout", "Dropout", {"rate": 0.4}, (3, 5)),
    ],
)
