"""Networks as descriptions: Keras names, arguments and defaults. The servers do the arithmetic; none is done here."""

from . import callbacks, layers, losses, metrics, optimizers
from .functional import Input, Model, Tensor
from .sequential import Sequential

__all__ = ["Input", "Model", "Sequential", "Tensor", "callbacks", "layers", "losses", "metrics", "optimizers"]
