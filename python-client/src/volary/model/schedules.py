"""Learning-rate schedules, as data: Keras' names and meaning, and PyTorch's ``StepLR`` and ``OneCycleLR``.

Steps are counted over the whole job. A schedule stands where an optimiser takes a learning rate, and where another schedule
is made of schedules. A rate that falls when a measure no longer gets better is not a schedule but
:class:`volary.callbacks.ReduceLROnPlateau`, which multiplies any of these.

>>> warm = WarmUp(500, CosineDecay(1e-3, decay_steps=10_000))
>>> warm.to_json()["then"]["name"]
'cosine_decay'
"""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from .._commands import plain

__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "OneCycle",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "Schedule",
    "Sequence",
    "StepDecay",
    "WarmUp",
]


@dataclass(frozen=True)
class Schedule:
    """Base of every schedule."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        make_plain(self)

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {"name": self.name, **{each.name: rate_json(getattr(self, each.name)) for each in fields(self)}}


@dataclass(frozen=True)
class StepDecay(Schedule):
    """The learning rate is multiplied by ``gamma`` after every ``step_size`` epochs (PyTorch's ``StepLR``)."""

    name = "step"
    learning_rate: float
    step_size: int
    gamma: float = 0.1


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``; the exponent is rounded down in a staircase."""

    name = "exponential_decay"
    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False


@dataclass(frozen=True)
class InverseTimeDecay(Schedule):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``; the quotient is rounded down in a staircase."""

    name = "inverse_time_decay"
    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """From the first rate to ``end_learning_rate`` on ``(1 - step / decay_steps) ** power``, again and again in cycles."""

    name = "polynomial_decay"
    initial_learning_rate: float
    decay_steps: int
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine down to ``alpha`` of the first rate (or, after a linear warm-up, of ``warmup_target``)."""

    name = "cosine_decay"
    initial_learning_rate: float
    decay_steps: int
    alpha: float = 0.0
    warmup_target: float | None = None
    warmup_steps: int = 0


@dataclass(frozen=True)
class CosineDecayRestarts(Schedule):
    """Half cosines one after the other, each ``t_mul`` times as long and ``m_mul`` times as high as the one before."""

    name = "cosine_decay_restarts"
    initial_learning_rate: float
    first_decay_steps: int
    t_mul: float = 2.0
    m_mul: float = 1.0
    alpha: float = 0.0


@dataclass(frozen=True)
class PiecewiseConstantDecay(Schedule):
    """``values[i]`` up to and with step ``boundaries[i]``, the last value after the last boundary.

    It is the multi-step schedule, PyTorch's ``MultiStepLR``, with boundaries in steps and not in epochs:

    >>> rates = [0.1 * 0.5**reductions for reductions in range(3)]
    >>> PiecewiseConstantDecay([3_000, 8_000], rates).values
    (0.1, 0.05, 0.025)
    """

    name = "piecewise_constant_decay"
    boundaries: Several[int]
    values: Several[float]

    def __post_init__(self) -> None:
        # Lists of any kind, kept as tuples: a schedule does not change.
        for each in ("boundaries", "values"):
            object.__setattr__(self, each, tuple(plain(list(getattr(self, each)), f"{each} of {type(self).__name__}")))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to ``max_learning_rate`` within the first share of the steps and down again (PyTorch's ``OneCycleLR``, cosines).

    It begins at ``max_learning_rate / start_divisor`` and ends at the ``end_divisor``-th part of that.
    """

    name = "one_cycle"
    max_learning_rate: float
    total_steps: int
    share_up: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 10_000.0


@dataclass(frozen=True)
class WarmUp(Schedule):
    """From ``start`` on a straight line to where ``then`` begins, which counts its steps from there."""

    name = "warm_up"
    steps: int
    then: float | Schedule
    start: float = 0.0


@dataclass(frozen=True)
class Sequence(Schedule):
    """Rates and schedules one after the other, each with its steps, which it counts from its own beginning.

    >>> Sequence([(0.1, 100), (ExponentialDecay(0.1, 50, 0.5), 900)]).to_json()["parts"][0]
    {'learning_rate': 0.1, 'steps': 100}

    The last one goes on after its steps.
    """

    name = "sequence"
    parts: Several[tuple[float | Schedule, int]]

    def __post_init__(self) -> None:
        parts = tuple((_plain_rate(rate, "a rate"), plain(steps, "steps")) for rate, steps in self.parts)
        object.__setattr__(self, "parts", parts)

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "parts": [{"learning_rate": rate_json(rate), "steps": steps} for rate, steps in self.parts],
        }


def rate_json(value: Any) -> Any:
    """An option in its JSON form: a schedule's own, or the value as it is."""
    if isinstance(value, Schedule):
        return value.to_json()
    return list(value) if isinstance(value, tuple) else value


def _plain_rate(value: Any, what: str) -> Any:
    return value if isinstance(value, Schedule) else plain(value, what)


def make_plain(options: Any) -> None:
    """The options of a frozen dataclass as Python's own numbers; a schedule stays what it is."""
    for each in fields(options):
        value = _plain_rate(getattr(options, each.name), f"{each.name} of {type(options).__name__}")
        object.__setattr__(options, each.name, value)
