"""How arrays start, with Keras' names, arguments and defaults. ``"he_normal"`` and ``HeNormal()`` are the same.

>>> from volary import layers
>>> layers.Dense(8, kernel_initializer=HeNormal(), bias_initializer=Constant(0.1)).bias_initializer
{'name': 'constant', 'value': 0.1}

They take no ``seed``: that of :meth:`volary.Model.fit` decides all first weights, so that the same seed gives the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .described import Described

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
]


@dataclass(frozen=True)
class Initializer(Described):
    """Base of every initializer."""


class Zeros(Initializer):
    """0 everywhere."""

    name = "zeros"


class Ones(Initializer):
    """1 everywhere."""

    name = "ones"


@dataclass(frozen=True)
class Constant(Initializer):
    """One number everywhere; or an array's own numbers, such as a pretrained table of an ``Embedding``.

    >>> Constant([[1, 2], [3, 4]]).to_json()
    {'name': 'values', 'values': [[1, 2], [3, 4]]}
    """

    name = "constant"

    value: Any = 0.0

    def to_json(self) -> str | dict[str, Any]:
        """An array is the servers' initializer ``values``."""
        return {"name": "values", "values": self.value} if isinstance(self.value, list) else super().to_json()


@dataclass(frozen=True)
class RandomUniform(Initializer):
    """Uniform numbers from ``minval`` to ``maxval``."""

    name = "random_uniform"

    minval: float = -0.05
    maxval: float = 0.05


@dataclass(frozen=True)
class RandomNormal(Initializer):
    """Normal numbers."""

    name = "random_normal"

    mean: float = 0.0
    stddev: float = 0.05


@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal numbers, drawn again beyond two deviations from the mean."""

    name = "truncated_normal"

    mean: float = 0.0
    stddev: float = 0.05


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Numbers of variance ``scale`` / n, where n counts an array's inputs, outputs, or the mean of both.

    Args:
        scale: Above 0.
        mode: ``fan_in``, ``fan_out`` or ``fan_avg``.
        distribution: ``truncated_normal``, ``untruncated_normal`` or ``uniform``.
    """

    name = "variance_scaling"

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"


class GlorotUniform(Initializer):
    """Uniform, of variance 1 over the mean of inputs and outputs (Glorot and Bengio, 2010); the default of kernels."""

    name = "glorot_uniform"


class GlorotNormal(Initializer):
    """Truncated normal, of variance 1 over the mean of inputs and outputs."""

    name = "glorot_normal"


class HeUniform(Initializer):
    """Uniform, of variance 2 over the inputs (He et al., 2015); for layers of ``relu``."""

    name = "he_uniform"


class HeNormal(Initializer):
    """Truncated normal, of variance 2 over the inputs; for layers of ``relu``."""

    name = "he_normal"


class LecunUniform(Initializer):
    """Uniform, of variance 1 over the inputs."""

    name = "lecun_uniform"


class LecunNormal(Initializer):
    """Truncated normal, of variance 1 over the inputs; for layers of ``selu``."""

    name = "lecun_normal"


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """Orthonormal rows or columns, times ``gain`` (Saxe et al., 2014); for arrays of two extents or more."""

    name = "orthogonal"

    gain: float = 1.0


@dataclass(frozen=True)
class Identity(Initializer):
    """``gain`` on the diagonal of a matrix and 0 elsewhere."""

    name = "identity"

    gain: float = 1.0
