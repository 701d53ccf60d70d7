"""Layers, as data. A layer called on a tensor gives a tensor (see :class:`volary.Model`).

>>> Dense(64, activation="relu").get_config()["units"]
64
>>> Dense.from_config(Dense(64).get_config()) == Dense(64)
True
"""

from .attention import Attention, MultiHeadAttention
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
from .recurrent import GRU, LSTM, Bidirectional, SimpleRNN, TimeDistributed

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "Attention",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "InputLayer",
    "Layer",
    "MultiHeadAttention",
    "SimpleRNN",
    "TimeDistributed",
]
