"""Layers, as data. A layer called on a tensor gives a tensor (see :class:`volary.Model`).

>>> Dense(64, activation="relu").get_config()["units"]
64
>>> Dense.from_config(Dense(64).get_config()) == Dense(64)
True
"""

from .activation import (
    ELU,
    Activation,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
)
from .base import Layer
from .core import (
    BatchNormalization,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    InputLayer,
)
from .merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
)
from .shaping import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    Masking,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)

__all__ = [
    "ELU",
    "Activation",
    "Add",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Dense",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "InputLayer",
    "Layer",
    "LeakyReLU",
    "Masking",
    "Maximum",
    "Minimum",
    "Multiply",
    "PReLU",
    "Permute",
    "ReLU",
    "RepeatVector",
    "Reshape",
    "Softmax",
    "Subtract",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]
