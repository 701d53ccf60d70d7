"""The shapes that functions and layers make of shapes. Pure functions; the servers check all of it again.

``operations`` are the functions of :mod:`volary.ops`; ``windows``, ``rows`` and ``sequences`` are rules of layers.
"""

from .shape import Shape, is_known, show

__all__ = ["Shape", "is_known", "show"]
