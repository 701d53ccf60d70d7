"""Layers that go along the steps of a sequence, and layers that apply another layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..shapes import sequences
from ..shapes.windows import channels_of, volume
from .base import Initializer, Layer, Regularizer

if TYPE_CHECKING:
    from ..graph import Tensor


class _Recurrent(Layer):
    """What the three cells have in common: the call, and the states as further outputs."""

    _states = 1

    def _output_shape(self, shape: Any, *states: Any) -> Any:
        sequences.one_step(shape, 3)
        return sequences.recurrent(shape, (self.units,), self._states, self.return_sequences, self.return_state)

    def output_count(self) -> int:
        """The answer, and the states with ``return_state``."""
        return 1 + self._states if self.return_state else 1

    def __call__(self, sequences: Tensor, initial_state: Tensor | Sequence[Tensor] | None = None) -> Any:
        """The last step's answer, or every step's with ``return_sequences``.

        With ``return_state`` a tuple: the answer, then the last states. ``initial_state`` is one tensor, for an LSTM two.

        >>> from volary import Input
        >>> answer, hidden, carried = LSTM(8, return_state=True)(Input(["a"], shape=(4, 2)))
        >>> hidden.number, carried.number
        (1, 2)
        """
        from ..graph import connect

        return connect(self, _with_states(sequences, initial_state))


def _with_states(sequences: Tensor, states: Tensor | Sequence[Tensor] | None) -> list[Any]:
    if states is None:
        return [sequences]
    return [sequences, *(states if isinstance(states, list | tuple) else [states])]


@dataclass(eq=True, repr=False)
class SimpleRNN(_Recurrent):
    """h' = activation(x @ kernel + h @ recurrent_kernel + bias) (Elman, 1990)."""

    units: int
    activation: str | None = "tanh"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    recurrent_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = False

    __hash__ = object.__hash__

    def _weights(self, shape: Any, *states: Any) -> Any:
        return self.units * (shape[-1] + self.units + self.use_bias)


@dataclass(eq=True, repr=False)
class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997). Its states are the output and the carried state."""

    units: int
    activation: str | None = "tanh"
    recurrent_activation: str | None = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"
    unit_forget_bias: bool = True
    kernel_regularizer: Regularizer | None = None
    recurrent_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = False

    __hash__ = object.__hash__
    _states = 2

    def _weights(self, shape: Any, *states: Any) -> Any:
        return 4 * self.units * (shape[-1] + self.units + self.use_bias)


@dataclass(eq=True, repr=False)
class GRU(_Recurrent):
    """Gated recurrent units (Cho et al., 2014); ``reset_after`` resets the recurrent product, else the state before it."""

    units: int
    activation: str | None = "tanh"
    recurrent_activation: str | None = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    recurrent_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    reset_after: bool = True
    zero_output_for_mask: bool = False

    __hash__ = object.__hash__

    def _weights(self, shape: Any, *states: Any) -> Any:
        biases = self.use_bias * (2 if self.reset_after else 1)
        return 3 * self.units * (shape[-1] + self.units + biases)


@dataclass(eq=True, repr=False)
class _ConvLSTM(_Recurrent):
    _axes: ClassVar[int]

    filters: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: str = "valid"
    data_format: str = "channels_last"
    dilation_rate: int | Sequence[int] = 1
    activation: str | None = "tanh"
    recurrent_activation: str | None = "sigmoid"
    use_bias: bool = True
    kernel_initializer: Initializer = "glorot_uniform"
    recurrent_initializer: Initializer = "orthogonal"
    bias_initializer: Initializer = "zeros"
    unit_forget_bias: bool = True
    kernel_regularizer: Regularizer | None = None
    recurrent_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    zero_output_for_mask: bool = False

    __hash__ = object.__hash__
    _states = 2

    def _output_shape(self, shape: Any, *states: Any) -> Any:
        geometry = (self.kernel_size, self.strides, self.padding, self.data_format, self.dilation_rate)
        image = sequences.image_steps(shape, self._axes, *geometry, self.filters)
        return sequences.recurrent(shape, image, 2, self.return_sequences, self.return_state)

    def _weights(self, shape: Any, *states: Any) -> Any:
        channels = channels_of(sequences.one_step(shape), self._axes, self.data_format)
        taps = volume(self.kernel_size, self._axes)
        return 4 * self.filters * (taps * (channels + self.filters) + self.use_bias)


class ConvLSTM1D(_ConvLSTM):
    """An LSTM whose products are convolutions (Shi et al., 2015), over ``(steps, places, channels)`` per row.

    >>> from volary import Input
    >>> ConvLSTM1D(8, 3)(Input(["signal"], shape=(10, 20, 1))).number
    0
    """

    _axes = 1


class ConvLSTM2D(_ConvLSTM):
    """An LSTM whose products are convolutions, over ``(steps, rows, columns, channels)`` per row.

    Its states are the output and the carried state, images both. ``padding`` is "valid" or "same".

    >>> ConvLSTM2D(8, 3, padding="same").get_config()["recurrent_initializer"]
    'orthogonal'
    """

    _axes = 2


class ConvLSTM3D(_ConvLSTM):
    """An LSTM whose products are convolutions, over ``(steps, depth, rows, columns, channels)`` per row.

    >>> ConvLSTM3D.from_config(ConvLSTM3D(8, [1, 3, 3]).get_config()).kernel_size
    [1, 3, 3]
    """

    _axes = 3


@dataclass(eq=True, repr=False)
class Bidirectional(Layer):
    """A recurrent layer from the beginning and one from the end; ``merge_mode`` concat, sum, mul, ave, or ``None`` for both.

    >>> Bidirectional(LSTM(8)).get_config()["layer"]["layer"]
    'LSTM'
    """

    layer: Layer
    merge_mode: str | None = "concat"
    backward_layer: Layer | None = None

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any, *states: Any) -> Any:
        forward, backward = (each._output_shape(shape) for each in (self.layer, self.backward_layer or self.layer))
        return sequences.both_ways(forward, backward, self.merge_mode)

    def _weights(self, shape: Any, *states: Any) -> Any:
        return self.layer._weights(shape) + (self.backward_layer or self.layer)._weights(shape)

    def __post_init__(self) -> None:
        super().__post_init__()
        for each in (self.layer, self.backward_layer):
            if each is not None and not isinstance(each, SimpleRNN | LSTM | GRU):
                raise TypeError(f"a Bidirectional holds a SimpleRNN, LSTM or GRU, not {each!r}")

    def output_count(self) -> int:
        """The answer, or one of each direction, and the states of both."""
        backward = self.backward_layer or self.layer
        states = sum(each.output_count() - 1 for each in (self.layer, backward))
        return (2 if self.merge_mode is None else 1) + states

    def __call__(self, sequences: Tensor, initial_state: Sequence[Tensor] | None = None) -> Any:
        """The answers of both; with states, those of the forward layer first, in and out."""
        from ..graph import connect

        return connect(self, _with_states(sequences, initial_state))


@dataclass(eq=True, repr=False)
class TimeDistributed(Layer):
    """The same layer over every step of a sequence.

    >>> TimeDistributed.from_config(TimeDistributed(LSTM(8)).get_config()).layer.units
    8
    """

    layer: Layer

    __hash__ = object.__hash__

    def _output_shape(self, shape: Any) -> Any:
        return sequences.with_steps(shape, self.layer.compute_output_shape(sequences.one_step(shape)))

    def _weights(self, shape: Any) -> Any:
        return self.layer._weights(sequences.one_step(shape))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.layer, Layer):
            raise TypeError(f"a TimeDistributed holds a layer, not {self.layer!r}")
