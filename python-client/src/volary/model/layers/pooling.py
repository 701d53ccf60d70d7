"""Pooling: windows, or all places of a row, to their greatest number or their mean.

The 1D layers read ``(steps, channels)`` per row, 2D ``(rows, columns, channels)``, 3D ``(depth, rows, columns,
channels)``; with ``data_format="channels_first"`` the channels come first. Sizes are one number for all axes, or one each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    pool_size: int | Sequence[int] = 2
    strides: int | Sequence[int] | None = None
    padding: str = "valid"
    data_format: str = "channels_last"

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class _AveragePooling(Layer):
    pool_size: int | Sequence[int]
    strides: int | Sequence[int] | None = None
    padding: str = "valid"
    data_format: str = "channels_last"

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class _GlobalPooling(Layer):
    data_format: str = "channels_last"
    keepdims: bool = False

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class _AdaptivePooling(Layer):
    output_size: int | Sequence[int]
    data_format: str = "channels_last"

    __hash__ = object.__hash__


class MaxPooling1D(_MaxPooling):
    """The greatest number of each window of steps; windows are side by side unless ``strides`` says otherwise.

    >>> MaxPooling1D().get_config()["pool_size"]
    2
    """


class MaxPooling2D(_MaxPooling):
    """The greatest number of each window of an image; windows are side by side unless ``strides`` says otherwise."""


class MaxPooling3D(_MaxPooling):
    """The greatest number of each window of a volume; windows are side by side unless ``strides`` says otherwise."""


class AveragePooling1D(_AveragePooling):
    """The mean of each window of steps; windows are side by side unless ``strides`` says otherwise."""


class AveragePooling2D(_AveragePooling):
    """The mean of each window of an image; windows are side by side unless ``strides`` says otherwise."""


class AveragePooling3D(_AveragePooling):
    """The mean of each window of a volume; windows are side by side unless ``strides`` says otherwise."""


class GlobalMaxPooling1D(_GlobalPooling):
    """The greatest number of each channel over all steps."""


class GlobalMaxPooling2D(_GlobalPooling):
    """The greatest number of each channel over all of an image."""


class GlobalMaxPooling3D(_GlobalPooling):
    """The greatest number of each channel over all of a volume."""


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean of each channel over all steps that a mask keeps."""


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel over all of an image."""


class GlobalAveragePooling3D(_GlobalPooling):
    """The mean of each channel over all of a volume."""


class AdaptiveMaxPooling1D(_AdaptivePooling):
    """The greatest numbers of ``output_size`` windows, however many steps there are."""


class AdaptiveMaxPooling2D(_AdaptivePooling):
    """The greatest numbers of ``output_size`` windows, however large the image is."""


class AdaptiveMaxPooling3D(_AdaptivePooling):
    """The greatest numbers of ``output_size`` windows, however large the volume is."""


class AdaptiveAveragePooling1D(_AdaptivePooling):
    """The means of ``output_size`` windows, however many steps there are."""


class AdaptiveAveragePooling2D(_AdaptivePooling):
    """The means of ``output_size`` windows, however large the image is."""


class AdaptiveAveragePooling3D(_AdaptivePooling):
    """The means of ``output_size`` windows, however large the volume is."""
