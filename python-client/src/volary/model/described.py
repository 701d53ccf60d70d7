"""What has a name and options and is sent as data: losses, metrics, initializers, regularizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from .._commands import plain

__all__ = ["Described", "option"]


@dataclass(frozen=True)
class Described:
    """What has a name and options: the base of losses, metrics, initializers and regularizers."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for each in fields(self):
            value = plain(getattr(self, each.name), f"{each.name} of {type(self).__name__}")
            object.__setattr__(self, each.name, value)

    def get_config(self) -> dict[str, Any]:
        """Every option, defaults included."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The object of a configuration."""
        return cls(**config)

    def to_json(self) -> str | dict[str, Any]:
        """The name alone where every option has its default, else an object of the name and the others."""
        changed = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }
        return {"name": self.name, **changed} if changed else self.name


def option(what: str, given: Any, kind: type[Described]) -> Any:
    """The JSON form of the option `what`, given by name, as a dict, as an object of `kind`, or as its class; or ``None``.

    >>> from volary import initializers
    >>> given = ("ones", {"name": "constant", "value": 2}, initializers.HeNormal, initializers.RandomNormal(stddev=0.1))
    >>> [option("kernel_initializer", each, initializers.Initializer) for each in given]
    ['ones', {'name': 'constant', 'value': 2}, 'he_normal', {'name': 'random_normal', 'stddev': 0.1}]
    """
    if given is None or isinstance(given, str | Mapping):
        return plain(given, what)
    if isinstance(given, type) and issubclass(given, kind):
        given = given()
    if isinstance(given, kind):
        return given.to_json()
    module = f"volary.{kind.__module__.rpartition('.')[2]}"
    name = given.__name__ if isinstance(given, type) else f"of type {type(given).__name__}"
    raise TypeError(f"{what} is {name}; give one of {module}, its class, its name, or a dict of a name and options")
