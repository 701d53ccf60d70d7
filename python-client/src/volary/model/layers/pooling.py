"""Pooling: windows, or all places of a row, to their greatest number or their mean.

The 1D layers read ``(steps, channels)`` per row, 2D ``(rows, columns, channels)``, 3D ``(depth, rows, columns,
channels)``; with ``data_format="channels_first"`` the channels come first. Sizes are one number for all axes, or one each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..shapes.windows import adaptive, over_all, pooled
from .base import Layer

__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
]


@dataclass(eq=True, repr=False)
class _MaxPooling(Layer):
    _axes: ClassVar[int]

    pool_size: int | Sequence[int] = 2
    strides: int | Sequence[int] | None = None
    padding: str = "valid"
    data_format: str = "channels_last"

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return pooled(shape, self._axes, self.pool_size, self.strides, self.padding, self.data_format)


@dataclass(eq=True, repr=False)
class _AveragePooling(Layer):
    _axes: ClassVar[int]

    pool_size: int | Sequence[int]
    strides: int | Sequence[int] | None = None
    padding: str = "valid"
    data_format: str = "channels_last"

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return pooled(shape, self._axes, self.pool_size, self.strides, self.padding, self.data_format)


@dataclass(eq=True, repr=False)
class _GlobalPooling(Layer):
    _axes: ClassVar[int]

    data_format: str = "channels_last"
    keepdims: bool = False

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return over_all(shape, self._axes, self.data_format, self.keepdims)


@dataclass(eq=True, repr=False)
class _AdaptivePooling(Layer):
    _axes: ClassVar[int]

    output_size: int | Sequence[int]
    data_format: str = "channels_last"

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return adaptive(shape, self._axes, self.output_size, self.data_format)


class MaxPooling1D(_MaxPooling):
    """The greatest number of each window of steps; windows are side by side unless ``strides`` says otherwise.

    >>> MaxPooling1D().get_config()["pool_size"]
    2
    """

    _axes = 1


class MaxPooling2D(_MaxPooling):
    """The greatest number of each window of an image; windows are side by side unless ``strides`` says otherwise."""

    _axes = 2


class MaxPooling3D(_MaxPooling):
    """The greatest number of each window of a volume; windows are side by side unless ``strides`` says otherwise."""

    _axes = 3


class AveragePooling1D(_AveragePooling):
    """The mean of each window of steps; windows are side by side unless ``strides`` says otherwise."""

    _axes = 1


class AveragePooling2D(_AveragePooling):
    """The mean of each window of an image; windows are side by side unless ``strides`` says otherwise."""

    _axes = 2


class AveragePooling3D(_AveragePooling):
    """The mean of each window of a volume; windows are side by side unless ``strides`` says otherwise."""

    _axes = 3


class GlobalMaxPooling1D(_GlobalPooling):
    """The greatest number of each channel over all steps."""

    _axes = 1


class GlobalMaxPooling2D(_GlobalPooling):
    """The greatest number of each channel over all of an image."""

    _axes = 2


class GlobalMaxPooling3D(_GlobalPooling):
    """The greatest number of each channel over all of a volume."""

    _axes = 3


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean of each channel over all steps that a mask keeps."""

    _axes = 1


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel over all of an image."""

    _axes = 2


class GlobalAveragePooling3D(_GlobalPooling):
    """The mean of each channel over all of a volume."""

    _axes = 3


class AdaptiveMaxPooling1D(_AdaptivePooling):
    """The greatest numbers of ``output_size`` windows, however many steps there are."""

    _axes = 1


class AdaptiveMaxPooling2D(_AdaptivePooling):
    """The greatest numbers of ``output_size`` windows, however large the image is."""

    _axes = 2


class AdaptiveMaxPooling3D(_AdaptivePooling):
    """The greatest numbers of ``output_size`` windows, however large the volume is."""

    _axes = 3


class AdaptiveAveragePooling1D(_AdaptivePooling):
    """The means of ``output_size`` windows, however many steps there are."""

    _axes = 1


class AdaptiveAveragePooling2D(_AdaptivePooling):
    """The means of ``output_size`` windows, however large the image is."""

    _axes = 2


class AdaptiveAveragePooling3D(_AdaptivePooling):
    """The means of ``output_size`` windows, however large the volume is."""

    _axes = 3
