"""Layers of a user's own: a function, or a class with ``call``. Both are recorded as a program and sent as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from .base import Layer


class Lambda(Layer):
    """A function of symbolic tensors (:mod:`volary.ops`) as a layer.

    A function of one argument that is called on several tensors gets them as a list; a tuple that it answers is several
    tensors.

    >>> from volary import Input, layers, ops
    >>> layers.Lambda(lambda x: ops.mean(x[:, 1:], axis=-1))(Input(shape=(4,))).shape
    (None,)
    """

    title: str | None = None
    """What it is named after; its kind when ``None``."""

    def __init__(
        self, function: Callable[..., Any] | None = None, *, program: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if (function is None) == (program is None):
            raise TypeError("a Lambda is given a function, or else the program that one recorded")
        if function is not None and not callable(function):
            raise TypeError(
                f"the function of a Lambda is a {type(function).__name__}; give a function of symbolic tensors"
            )
        self.function = function
        self.program = None if program is None else dict(program)

    def name_base(self) -> str:
        """The function that it is, where it is one of :mod:`volary.ops`."""
        return self.title or "Lambda"

    def call(self, *inputs: Any) -> Any:
        """What the function answers."""
        assert self.function is not None
        return self.function(*inputs)

    def get_config(self) -> dict[str, Any]:
        """Its options; the program once it is given, or called on a tensor."""
        config = super().get_config()
        return config if self.program is None else {**config, "program": self.program}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The layer of a recorded program."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"Lambda({getattr(self.function, '__name__', 'program')})"
