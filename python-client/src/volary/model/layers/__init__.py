"""Layers, as data. A layer called on a tensor gives a tensor (see :class:`volary.Model`).

>>> Dense(64, activation="relu").get_config()["units"]
64
>>> Dense.from_config(Dense(64).get_config()) == Dense(64)
True
"""

from .base import Layer
from .core import (
    Activation,
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

__all__ = [
    "Activation",
    "Add",
    "Average",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "InputLayer",
    "Layer",
    "Maximum",
    "Minimum",
    "Multiply",
    "Subtract",
]
