"""Optimisers, as data, with Keras' names, arguments and defaults.

>>> Adam(1e-3).to_json()["learning_rate"]
0.001
>>> SGD(StepDecay(0.1, step_size=5, gamma=0.5), momentum=0.9).to_json()["learning_rate"]
{'name': 'step', 'learning_rate': 0.1, 'step_size': 5, 'gamma': 0.5}

A learning rate is a number or one of `volary.optimizers.schedules`. Every optimiser but `Ftrl` takes ``weight_decay``
(decoupled: the parameters shrink by ``learning_rate * weight_decay`` beside the update), and each takes ``clipvalue``, which cuts
every number of the gradient to plus or minus that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from . import schedules
from .schedules import Schedule, StepDecay

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "StepDecay",
    "schedules",
]


@dataclass(frozen=True)
class Optimizer:
    """Base of every optimiser."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        schedules.make_plain(self)

    def get_config(self) -> dict[str, Any]:
        """Every option, defaults included."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The optimiser of a configuration."""
        return cls(**config)

    def to_json(self) -> dict[str, Any]:
        """The JSON form; what is None is left out."""
        config = {name: schedules.rate_json(value) for name, value in self.get_config().items() if value is not None}
        return {"name": self.name, **config}


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's form of it if asked."""

    name = "sgd"
    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float | None = None
    clipvalue: float | None = None


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015)."""

    name = "adam"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False
    weight_decay: float | None = None
    clipvalue: float | None = None


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name = "adamw"
    learning_rate: float | Schedule = 0.001
    weight_decay: float = 0.004
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False
    clipvalue: float | None = None


@dataclass(frozen=True)
class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma and Ba, 2015, section 7)."""

    name = "adamax"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float | None = None
    clipvalue: float | None = None


@dataclass(frozen=True)
class Nadam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016)."""

    name = "nadam"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float | None = None
    clipvalue: float | None = None


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """A rate of its own for each number, by the sum of its squared gradients (Duchi, Hazan and Singer, 2011)."""

    name = "adagrad"
    learning_rate: float | Schedule = 0.001
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7
    weight_decay: float | None = None
    clipvalue: float | None = None


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adagrad over a window, in the units of the parameters (Zeiler, 2012)."""

    name = "adadelta"
    learning_rate: float | Schedule = 0.001
    rho: float = 0.95
    epsilon: float = 1e-7
    weight_decay: float | None = None
    clipvalue: float | None = None


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients divided by their recent size (Tieleman and Hinton, 2012); centered: by their recent deviation."""

    name = "rmsprop"
    learning_rate: float | Schedule = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False
    weight_decay: float | None = None
    clipvalue: float | None = None


@dataclass(frozen=True)
class Ftrl(Optimizer):
    """Follow the regularised leader (McMahan et al., 2013), for sparse linear models."""

    name = "ftrl"
    learning_rate: float | Schedule = 0.001
    learning_rate_power: float = -0.5
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    l2_shrinkage_regularization_strength: float = 0.0
    beta: float = 0.0
    clipvalue: float | None = None


@dataclass(frozen=True)
class Lion(Optimizer):
    """The sign of a blend of momentum and gradient (Chen et al., 2023)."""

    name = "lion"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float | None = None
    clipvalue: float | None = None
