"""Arithmetic on inputs that belongs to the model, so that whoever asks it sends rows as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._commands import plain
from .base import Layer


class Rescaling(Layer):
    """``inputs * scale + offset``; each a number, or one for each channel. Sent as a program, as a Lambda is.

    >>> from volary import Input, layers
    >>> layers.Rescaling(1 / 127.5, offset=-1)(Input(shape=(28, 28, 1))).shape
    (None, 28, 28, 1)
    """

    def __init__(self, scale: float | Sequence[float], offset: float | Sequence[float] = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.scale = plain(scale, "scale of Rescaling")
        self.offset = plain(offset, "offset of Rescaling")

    def call(self, x: Any) -> Any:
        """The program."""
        scaled = x * self.scale
        return scaled if self.offset == 0 else scaled + self.offset

    def count_params(self, input_shape: Any) -> int:
        """It has no arrays."""
        return 0

    def _output_shape(self, shape: Any) -> Any:
        return shape
