"""Attention: each step of a query takes a weighted mean of the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..shapes.sequences import attended
from .base import Initializer, Layer, Regularizer

if TYPE_CHECKING:
    from ..graph import Tensor


@dataclass(eq=True, repr=False)
class MultiHeadAttention(Layer):
    """Several attentions side by side, each over its own projection of the inputs (Vaswani et al., 2017).

    >>> from volary import Input, Model
    >>> steps = Input(["a"], shape=(8, 16))
    >>> answer = MultiHeadAttention(num_heads=2, key_dim=8)(steps, steps, use_causal_mask=True)
    >>> Model(outputs=answer).to_json()["layers"][1]["inputs"]
    ['input', 'input']
    """

    num_heads: int
    key_dim: int
    value_dim: int | None = None
    dropout: float = 0.0
    use_bias: bool = True
    output_shape: int | None = None
    sliding_window: int | None = None
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer | None = None
    bias_regularizer: Regularizer | None = None
    use_gate: bool = False

    __hash__ = object.__hash__

    def _output_shape(self, query: Any, *others: Any) -> Any:
        return attended(query, query[-1] if self.output_shape is None else self.output_shape)

    def _weights(self, query: Any, value: Any, key: Any = None, *others: Any) -> Any:
        wide, bias = self.value_dim or self.key_dim, int(self.use_bias)
        answer = query[-1] if self.output_shape is None else self.output_shape
        keys = self.num_heads * self.key_dim * (query[-1] + (key or value)[-1] + 2 * bias)
        values = self.num_heads * wide * (value[-1] + bias) + answer * (self.num_heads * wide + bias)
        return keys + values + (self.num_heads * wide * (query[-1] + bias) if self.use_gate else 0)

    def __call__(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        attention_mask: Tensor | None = None,
        use_causal_mask: bool = False,
    ) -> Tensor:
        """The query's steps over the value's; the key is the value where it is left out.

        Args:
            query: A sequence, (steps, columns) per row.
            value: Another, or the same.
            key: As many steps as the value.
            attention_mask: (query steps, value steps) per row; 0 where a step does not see another.
            use_causal_mask: A step sees none behind it.
        """
        from ..graph import connect

        inputs = [query, value] + [each for each in (key, attention_mask) if each is not None]
        options = {"use_causal_mask": use_causal_mask, "attention_mask": attention_mask is not None}
        return connect(self, inputs, options)


@dataclass(eq=True, repr=False)
class Attention(Layer):
    """softmax(query @ key) @ value, called on ``[query, value]`` or ``[query, value, key]``.

    ``score_mode`` is ``dot`` or ``concat``.
    """

    use_scale: bool = False
    score_mode: str = "dot"
    dropout: float = 0.0

    __hash__ = object.__hash__

    def _output_shape(self, query: Any, value: Any, *key: Any) -> Any:
        return attended(query, value[-1])

    def _weights(self, *inputs: Any) -> Any:
        return self.use_scale + (self.score_mode == "concat")

    def __call__(self, inputs: Sequence[Tensor], use_causal_mask: bool = False) -> Tensor:
        """The query's steps over the value's; with ``use_causal_mask`` a step sees none behind it."""
        from ..graph import connect

        return connect(self, inputs, {"use_causal_mask": use_causal_mask})
