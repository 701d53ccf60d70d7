"""Networks as descriptions: Keras names, arguments and defaults. The servers do the arithmetic; none is done here."""

from . import callbacks, initializers, layers, losses, metrics, optimizers, regularizers
from .functional import Model
from .graph import Input, Tensor
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
    "initializers",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "regularizers",
]
