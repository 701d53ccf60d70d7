"""The same numbers in other places, cropped, padded or repeated; and which steps count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..shapes.rows import reordered, reshaped, vectors
from ..shapes.windows import cropped, padded, repeated
from .base import Layer, SameShape


@dataclass(eq=True, repr=False)
class Reshape(Layer):
    """Each row under another shape, without the rows; one extent may be -1."""

    target_shape: Sequence[int]

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return reshaped(shape, self.target_shape)


@dataclass(eq=True, repr=False)
class Permute(Layer):
    """The extents of a row in another order, counted from 1."""

    dims: Sequence[int]

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return reordered(shape, self.dims)


@dataclass(eq=True, repr=False)
class RepeatVector(Layer):
    """Each row ``n`` times: (width) to (n, width)."""

    n: int

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return vectors(shape, self.n)


@dataclass(eq=True, repr=False)
class Masking(SameShape):
    """Steps whose numbers all equal ``mask_value`` do not count in the layers behind."""

    mask_value: float = 0.0

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class Cropping1D(Layer):
    """Steps cut off before and after."""

    cropping: int | Sequence[int] = (1, 1)

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return cropped(shape, 1, self.cropping, None)


@dataclass(eq=True, repr=False)
class Cropping2D(Layer):
    """Rows and columns of an image cut off: a number, one per extent, or pairs of before and after."""

    cropping: int | Sequence[int] | Sequence[Sequence[int]] = ((0, 0), (0, 0))
    data_format: str | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return cropped(shape, 2, self.cropping, self.data_format)


@dataclass(eq=True, repr=False)
class Cropping3D(Layer):
    """As :class:`Cropping2D`, over three extents."""

    cropping: int | Sequence[int] | Sequence[Sequence[int]] = ((1, 1), (1, 1), (1, 1))
    data_format: str | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return cropped(shape, 3, self.cropping, self.data_format)


@dataclass(eq=True, repr=False)
class ZeroPadding1D(Layer):
    """Steps of zeros before and after."""

    padding: int | Sequence[int] = 1
    data_format: str | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return padded(shape, 1, self.padding, self.data_format)


@dataclass(eq=True, repr=False)
class ZeroPadding2D(Layer):
    """Zeros around an image: a number, one per extent, or pairs of before and after."""

    padding: int | Sequence[int] | Sequence[Sequence[int]] = (1, 1)
    data_format: str | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return padded(shape, 2, self.padding, self.data_format)


@dataclass(eq=True, repr=False)
class ZeroPadding3D(Layer):
    """As :class:`ZeroPadding2D`, over three extents."""

    padding: int | Sequence[int] | Sequence[Sequence[int]] = ((1, 1), (1, 1), (1, 1))
    data_format: str | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return padded(shape, 3, self.padding, self.data_format)


@dataclass(eq=True, repr=False)
class UpSampling1D(Layer):
    """Each step ``size`` times."""

    size: int = 2

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return repeated(shape, 1, self.size, None)


@dataclass(eq=True, repr=False)
class UpSampling2D(Layer):
    """An image ``size`` times as high and wide, by repetition (``nearest``) or ``bilinear``."""

    size: int | Sequence[int] = (2, 2)
    data_format: str | None = None
    interpolation: str = "nearest"

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return repeated(shape, 2, self.size, self.data_format)


@dataclass(eq=True, repr=False)
class UpSampling3D(Layer):
    """A volume ``size`` times as large, by repetition."""

    size: int | Sequence[int] = (2, 2, 2)
    data_format: str | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return repeated(shape, 3, self.size, self.data_format)
