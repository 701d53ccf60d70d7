"""Networks as descriptions: Keras names, arguments and defaults. The servers do the arithmetic; none is done here."""

from . import callbacks, layers, losses, metrics, optimizers
from .functional import Input, Model, Tensor
from .sequential import Sequential
from .symbolic import Constant, Parameter

__all__ = [
    "Constant",
    "Input",
    "Model",
    "Parameter",
    "Sequential",
    "Tensor",
    "callbacks",
    "layers",
    "losses",
    "metrics",
    "optimizers",
]
