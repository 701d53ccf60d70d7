"""Random numbers while training, nothing when answering. The job's seed decides them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .base import SameShape


@dataclass(eq=True, repr=False)
class Dropout(SameShape):
    """While training, a share ``rate`` of the numbers is 0 and the rest is scaled up by 1 / (1 - rate).

    ``noise_shape`` has None for the rows, then 1 for an extent along which one draw holds.
    """

    rate: float
    noise_shape: Sequence[int | None] | None = None

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class AlphaDropout(SameShape):
    """Dropout that keeps mean 0 and variance 1, for networks of ``selu``."""

    rate: float
    noise_shape: Sequence[int | None] | None = None

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class GaussianNoise(SameShape):
    """While training, normal numbers of deviation ``stddev`` are added."""

    stddev: float

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class GaussianDropout(SameShape):
    """While training, each number times a normal one of mean 1 and deviation sqrt(rate / (1 - rate))."""

    rate: float

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class SpatialDropout1D(SameShape):
    """Dropout of whole channels of a sequence."""

    rate: float

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class SpatialDropout2D(SameShape):
    """Dropout of whole channels of an image."""

    rate: float
    data_format: str | None = None

    __hash__ = object.__hash__


@dataclass(eq=True, repr=False)
class SpatialDropout3D(SameShape):
    """Dropout of whole channels of a volume."""

    rate: float
    data_format: str | None = None

    __hash__ = object.__hash__
