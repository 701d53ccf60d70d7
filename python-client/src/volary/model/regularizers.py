"""Penalties on the size of arrays, added to the loss; Keras' names, arguments and defaults. ``"l2"`` and ``L2()`` are the same.

>>> from volary import layers
>>> layers.Dense(8, kernel_regularizer=L2(1e-4)).kernel_regularizer
{'name': 'l2', 'l2': 0.0001}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .described import Described

__all__ = ["L1", "L1L2", "L2", "Regularizer"]


@dataclass(frozen=True)
class Regularizer(Described):
    """Base of every regularizer."""


@dataclass(frozen=True)
class L1(Regularizer):
    """``l1`` times the sum of absolute numbers."""

    name = "l1"

    l1: float = 0.01


@dataclass(frozen=True)
class L2(Regularizer):
    """``l2`` times the sum of squares."""

    name = "l2"

    l2: float = 0.01


@dataclass(frozen=True)
class L1L2(Regularizer):
    """Both together."""

    name = "l1_l2"

    l1: float = 0.0
    l2: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Both factors always: what the servers' name alone stands for has others."""
        return {"name": self.name, **self.get_config()}


# Other names that Keras has for them.
l1 = L1
l2 = L2
l1_l2 = L1L2
