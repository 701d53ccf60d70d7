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
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    InputLayer,
)
from .custom import Lambda

__all__ = [
    "Activation",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "InputLayer",
    "Lambda",
    "Layer",
]
