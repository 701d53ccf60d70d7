"""Dropout and noise answer unchanged and keep the mask; what they draw in training is tested by moments beside them."""

import numpy as np
from cases import case, write

mask = np.array([[1, 1, 0], [1, 0, 0]], bool)


def unchanged(kind, config, *inputs):
    return case(f"{kind} {config}", kind, config, *inputs, masks=[mask])


write(
    "noise",
    [
        unchanged("Dropout", {"rate": 0.4, "noise_shape": [None, 1, 4]}, (2, 3, 4)),
        unchanged("AlphaDropout", {"rate": 0.4, "noise_shape": [None, 1, 4]}, (2, 3, 4)),
        unchanged("GaussianNoise", {"stddev": 0.4}, (2, 3, 4)),
        unchanged("GaussianDropout", {"rate": 0.4}, (2, 3, 4)),
        unchanged("SpatialDropout1D", {"rate": 0.4}, (2, 3, 4)),
        unchanged("SpatialDropout2D", {"rate": 0.4, "data_format": "channels_first"}, (2, 3, 4, 2)),
        unchanged("SpatialDropout3D", {"rate": 0.4}, (2, 3, 4, 2, 2)),
    ],
)
