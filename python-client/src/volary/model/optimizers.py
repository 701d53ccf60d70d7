"""Optimisers, as data, with Keras' names, arguments and defaults.

>>> Adam(1e-3).to_json()["learning_rate"]
0.001
>>> SGD(StepDecay(0.1, step_size=5, gamma=0.5), momentum=0.9).to_json()["learning_rate"]
{'name': 'step', 'learning_rate': 0.1, 'step_size': 5, 'gamma': 0.5}

A learning rate is a number or one of `volary.optimizers.schedules`; :class:`volary.callbacks.ReduceLROnPlateau` multiplies
either. Every optimiser but `Ftrl` and `LARS` takes ``weight_decay`` (decoupled: the parameters shrink by
``learning_rate * weight_decay`` beside the update), and each takes the keywords of :class:`Optimizer`: clipping, gradients
gathered over steps, averaged weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, Self

from . import schedules
from .schedules import Schedule, StepDecay

__all__ = [
    "LARS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "StepDecay",
    "schedules",
]

#: Share of the old average where none is given, as in Keras.
EMA_MOMENTUM = 0.99


@dataclass(frozen=True, repr=False)
class Optimizer:
    """Base of every optimiser.

    Args:
        clipnorm: The gradient of each array of the model is scaled down to this norm where it is larger.
        clipvalue: Every number of the gradient is cut to plus or minus that. One of the three at most is given.
        global_clipnorm: The gradient of all arrays together is scaled down to this norm where it is larger.
        use_ema: Keep a moving average of the weights; it is what is validated after each epoch and what is committed.
        ema_momentum: Share of the old average in the new one, from 0 to 1.
        ema_overwrite_frequency: Let the weights become their average after so many updates, again and again.
        gradient_accumulation_steps: Update once in so many steps, from 2, with the mean of their gradients. A schedule
            counts steps, not updates; gradients of a last stretch that is shorter are not used.

    >>> Adam(global_clipnorm=1.0)
    Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-07, amsgrad=False, weight_decay=None, global_clipnorm=1.0)
    """

    name: ClassVar[str]

    _: KW_ONLY
    clipnorm: float | None = None
    clipvalue: float | None = None
    global_clipnorm: float | None = None
    use_ema: bool = False
    ema_momentum: float = EMA_MOMENTUM
    ema_overwrite_frequency: int | None = None
    gradient_accumulation_steps: int | None = None

    def __post_init__(self) -> None:
        schedules.make_plain(self)
        clipping = {name: getattr(self, name) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
        given = [f"{name}={limit}" for name, limit in clipping.items() if limit is not None]
        if len(given) > 1:
            raise ValueError(f"{type(self).__name__} is given {' and '.join(given)}; gradients are clipped in one way")
        averaging = [("ema_momentum", EMA_MOMENTUM), ("ema_overwrite_frequency", None)]
        for name, default in () if self.use_ema else averaging:
            if (value := getattr(self, name)) != default:
                raise ValueError(
                    f"{name} of {type(self).__name__} is {value}, but use_ema is not set; give use_ema=True too"
                )

    def __repr__(self) -> str:
        shared = {each.name: each.default for each in fields(Optimizer)}
        config = self.get_config()
        shown = [f"{name}={value!r}" for name, value in config.items() if name not in shared or value != shared[name]]
        return f"{type(self).__name__}({', '.join(shown)})"

    def get_config(self) -> dict[str, Any]:
        """Every option, defaults included."""
        shared = fields(Optimizer)
        own = [each for each in fields(self) if each.name not in {other.name for other in shared}]
        return {each.name: getattr(self, each.name) for each in (*own, *shared)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The optimiser of a configuration."""
        return cls(**config)

    def to_json(self) -> dict[str, Any]:
        """The JSON form; what is None, and what belongs to an average that is not kept, is left out."""
        config = {name: schedules.rate_json(value) for name, value in self.get_config().items() if value is not None}
        if not self.use_ema:
            del config["use_ema"], config["ema_momentum"]
        return {"name": self.name, **config}


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Gradient descent, with momentum and Nesterov's form of it if asked."""

    name = "sgd"
    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015)."""

    name = "adam"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name = "adamw"
    learning_rate: float | Schedule = 0.001
    weight_decay: float = 0.004
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False


@dataclass(frozen=True, repr=False)
class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma and Ba, 2015, section 7)."""

    name = "adamax"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
class Nadam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016)."""

    name = "nadam"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """A rate of its own for each number, by the sum of its squared gradients (Duchi, Hazan and Singer, 2011)."""

    name = "adagrad"
    learning_rate: float | Schedule = 0.001
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
class Adadelta(Optimizer):
    """Adagrad over a window, in the units of the parameters (Zeiler, 2012)."""

    name = "adadelta"
    learning_rate: float | Schedule = 0.001
    rho: float = 0.95
    epsilon: float = 1e-7
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """Gradients divided by their recent size (Tieleman and Hinton, 2012); centered: by their recent deviation."""

    name = "rmsprop"
    learning_rate: float | Schedule = 0.001
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
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


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """The sign of a blend of momentum and gradient (Chen et al., 2023)."""

    name = "lion"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.99
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
class Lamb(Optimizer):
    """Adam whose step for each array of the model is as long as the array (You et al., 2020), for large minibatches."""

    name = "lamb"
    learning_rate: float | Schedule = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float | None = None


@dataclass(frozen=True, repr=False)
class LARS(Optimizer):
    """Momentum with a rate of its own for each array of the model (You, Gitman and Ginsburg, 2017), for large minibatches.

    The rate is ``trust_coefficient * |w| / (|g| + weight_decay * |w| + epsilon)`` of the learning rate, all of it where either
    norm is 0. ``weight_decay`` is added to the gradient, as the paper has it. Keras has no LARS.
    """

    name = "lars"
    learning_rate: float | Schedule = 1.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    trust_coefficient: float = 0.001
    epsilon: float = 0.0
