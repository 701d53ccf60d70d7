"""Optimisers and learning-rate schedules, as data.

>>> Adam(1e-3).to_json()["learning_rate"]
0.001
>>> SGD(StepDecay(0.1, step_size=5, gamma=0.5), momentum=0.9).to_json()["learning_rate"]
{'name': 'step', 'learning_rate': 0.1, 'step_size': 5, 'gamma': 0.5}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from .._commands import plain

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "StepDecay"]


@dataclass(frozen=True)
class StepDecay:
    """The learning rate is multiplied by ``gamma`` after every ``step_size`` epochs (PyTorch's ``StepLR``)."""

    learning_rate: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _make_plain(self)

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": "step",
            "learning_rate": self.learning_rate,
            "step_size": self.step_size,
            "gamma": self.gamma,
        }


@dataclass(frozen=True)
class Optimizer:
    """Base of every optimiser."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        _make_plain(self)

    def get_config(self) -> dict[str, Any]:
        """Every option, defaults included."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The optimiser of a configuration."""
        return cls(**config)

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        config = self.get_config()
        rate = config["learning_rate"]
        return {"name": self.name, **config, "learning_rate": rate.to_json() if isinstance(rate, StepDecay) else rate}


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's form of it if asked."""

    name = "sgd"
    learning_rate: float | StepDecay = 0.01
    momentum: float = 0.0
    nesterov: bool = False


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015) with Keras' defaults."""

    name = "adam"
    learning_rate: float | StepDecay = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name = "adamw"
    learning_rate: float | StepDecay = 0.001
    weight_decay: float = 0.004
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7


def _make_plain(options: Any) -> None:
    """Options as Python's own numbers; a schedule stays what it is."""
    for each in fields(options):
        value = getattr(options, each.name)
        if not isinstance(value, StepDecay):
            object.__setattr__(options, each.name, plain(value, f"{each.name} of {type(options).__name__}"))
