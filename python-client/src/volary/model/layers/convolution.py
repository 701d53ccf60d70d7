"""Convolutions: kernels that slide over the spatial axes of their input.

Conv1D reads ``(steps, channels)`` per row, Conv2D ``(rows, columns, channels)``, Conv3D ``(depth, rows, columns,
channels)``; with ``data_format="channels_first"`` the channels come first. Sizes are one number for all axes, or one each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..shapes import windows
from .base import Initializer, Layer, Regularizer

__all__ = [
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "LocallyConnected1D",
    "LocallyConnected2D",
    "SeparableConv1D",
    "SeparableConv2D",
]


@dataclass(eq=True, repr=False)
class _Convolution(Layer):
    _axes: ClassVar[int]

    filters: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    data_format: str = "channels_last"
    dilation_rate: int | Sequence[int] = 1
    groups: int = 1
    activation: str | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        geometry = (self.kernel_size, self.strides, self.padding, self.data_format, self.dilation_rate)
        return windows.convolution(shape, self._axes, *geometry, self.filters)

    def _weights(self, shape: Any) -> Any:
        channels = windows.channels_of(shape, self._axes, self.data_format)
        return self.filters * (windows.volume(self.kernel_size, self._axes) * channels // self.groups + self.use_bias)


class Conv1D(_Convolution):
    """``filters`` kernels over steps; ``padding`` is "valid", "same" or "causal".

    >>> Conv1D(32, 3, padding="causal", dilation_rate=2).get_config()["kernel_size"]
    3
    """

    _axes = 1


class Conv2D(_Convolution):
    """``filters`` kernels over rows and columns; ``padding`` is "valid" or "same".

    With ``groups``, each filter sees the channels of its group alone. ``strides`` and ``dilation_rate`` above 1 do not go
    together.
    """

    _axes = 2


class Conv3D(_Convolution):
    """``filters`` kernels over depth, rows and columns; ``padding`` is "valid" or "same"."""

    _axes = 3


@dataclass(eq=True, repr=False)
class _Depthwise(Layer):
    _axes: ClassVar[int]

    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    depth_multiplier: int = 1
    data_format: str = "channels_last"
    dilation_rate: int | Sequence[int] = 1
    activation: str | None = None
    use_bias: bool = True
    depthwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        geometry = (self.kernel_size, self.strides, self.padding, self.data_format, self.dilation_rate)
        return windows.depthwise(shape, self._axes, *geometry, self.depth_multiplier)

    def _weights(self, shape: Any) -> Any:
        columns = windows.channels_of(shape, self._axes, self.data_format) * self.depth_multiplier
        return columns * (windows.volume(self.kernel_size, self._axes) + self.use_bias)


class DepthwiseConv1D(_Depthwise):
    """Each channel of a sequence with ``depth_multiplier`` kernels of its own."""

    _axes = 1


class DepthwiseConv2D(_Depthwise):
    """Each channel of an image with ``depth_multiplier`` kernels of its own."""

    _axes = 2


@dataclass(eq=True, repr=False)
class _Separable(Layer):
    _axes: ClassVar[int]

    filters: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    data_format: str = "channels_last"
    dilation_rate: int | Sequence[int] = 1
    depth_multiplier: int = 1
    activation: str | None = None
    use_bias: bool = True
    depthwise_initializer: Initializer = "glorot_uniform"
    pointwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer | None = None
    pointwise_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        geometry = (self.kernel_size, self.strides, self.padding, self.data_format, self.dilation_rate)
        return windows.convolution(shape, self._axes, *geometry, self.filters)

    def _weights(self, shape: Any) -> Any:
        columns = windows.channels_of(shape, self._axes, self.data_format) * self.depth_multiplier
        return columns * windows.volume(self.kernel_size, self._axes) + self.filters * (columns + self.use_bias)


class SeparableConv1D(_Separable):
    """A depthwise convolution over steps, then ``filters`` mixtures of its channels at each step."""

    _axes = 1


class SeparableConv2D(_Separable):
    """A depthwise convolution over rows and columns, then ``filters`` mixtures of its channels at each place."""

    _axes = 2


@dataclass(eq=True, repr=False)
class _Transposed(Layer):
    _axes: ClassVar[int]

    filters: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    output_padding: int | Sequence[int] | None = None
    data_format: str = "channels_last"
    dilation_rate: int | Sequence[int] = 1
    activation: str | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        geometry = (self.kernel_size, self.strides, self.padding, self.output_padding, self.data_format)
        return windows.transposed(shape, self._axes, *geometry, self.dilation_rate, self.filters)

    def _weights(self, shape: Any) -> Any:
        channels = windows.channels_of(shape, self._axes, self.data_format)
        return self.filters * (windows.volume(self.kernel_size, self._axes) * channels + self.use_bias)


class Conv1DTranspose(_Transposed):
    """A convolution the other way: with strides, more steps come out than went in.

    With ``padding="same"`` there are ``strides`` times as many, unless ``output_padding`` says otherwise.
    """

    _axes = 1


class Conv2DTranspose(_Transposed):
    """A convolution the other way: with strides, a larger image comes out than went in.

    With ``padding="same"`` it is ``strides`` times as large, unless ``output_padding`` says otherwise.
    """

    _axes = 2


class Conv3DTranspose(_Transposed):
    """A convolution the other way, over depth, rows and columns."""

    _axes = 3


@dataclass(eq=True, repr=False)
class _LocallyConnected(Layer):
    _axes: ClassVar[int]

    filters: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    data_format: str = "channels_last"
    activation: str | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        geometry = (self.kernel_size, self.strides, self.padding, self.data_format)
        return windows.convolution(shape, self._axes, *geometry, 1, self.filters)

    def _weights(self, shape: Any) -> Any:
        geometry = (self.kernel_size, self.strides, self.data_format)
        return windows.locally_connected_weights(shape, self._axes, *geometry, self.filters, self.use_bias)


class LocallyConnected1D(_LocallyConnected):
    """A convolution over steps whose kernel is another one at every step; ``padding`` is "valid"."""

    _axes = 1


class LocallyConnected2D(_LocallyConnected):
    """A convolution over rows and columns whose kernel is another one at every place; ``padding`` is "valid"."""

    _axes = 2
