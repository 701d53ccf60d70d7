# ruff: noqa: A001 -- the names are those of keras.ops
"""Functions of numbers, one or two or three at a time, and activations."""

from __future__ import annotations

from typing import Any

from .._commands import plain
from ..model.shapes import operations as shapes
from ..model.symbolic import Symbolic, node

# -- number by number ---------------------------------------------------------------------------------------------


def _each(op: str, x: Any, **arguments: Any) -> Symbolic:
    return node(op, [x], shapes.same, arguments, partial=True)


def _together(op: str, *inputs: Any) -> Symbolic:
    return node(op, inputs, shapes.broadcast, partial=True)


def add(x1: Any, x2: Any) -> Symbolic:
    """``x1 + x2``."""
    return _together("add", x1, x2)


def subtract(x1: Any, x2: Any) -> Symbolic:
    """``x1 - x2``."""
    return _together("subtract", x1, x2)


def multiply(x1: Any, x2: Any) -> Symbolic:
    """``x1 * x2``, number by number."""
    return _together("multiply", x1, x2)


def divide(x1: Any, x2: Any) -> Symbolic:
    """``x1 / x2``."""
    return _together("divide", x1, x2)


def power(x1: Any, x2: Any) -> Symbolic:
    """``x1 ** x2``: exact for a number ``x2``, also of negative bases when it is whole; ``exp(x2 * log(x1))`` for a tensor."""
    if (
        isinstance(x1, Symbolic)
        and not isinstance(x2, Symbolic)
        and isinstance(exponent := plain(x2, "x2"), int | float)
    ):
        return _each("power", x1, exponent=exponent)
    return _together("power", x1, x2)


def maximum(x1: Any, x2: Any) -> Symbolic:
    """The greater of two numbers."""
    return _together("maximum", x1, x2)


def minimum(x1: Any, x2: Any) -> Symbolic:
    """The smaller of two numbers."""
    return _together("minimum", x1, x2)


def negative(x: Any) -> Symbolic:
    """``-x``."""
    return _each("negative", x)


def abs(x: Any) -> Symbolic:
    """``|x|``."""
    return _each("abs", x)


absolute = abs


def sign(x: Any) -> Symbolic:
    """-1, 0 or 1."""
    return _each("sign", x)


def square(x: Any) -> Symbolic:
    """``x * x``."""
    return _each("square", x)


def sqrt(x: Any) -> Symbolic:
    """The square root."""
    return _each("sqrt", x)


def rsqrt(x: Any) -> Symbolic:
    """One by the square root."""
    return _each("rsqrt", x)


def reciprocal(x: Any) -> Symbolic:
    """``1 / x``."""
    return _each("reciprocal", x)


def exp(x: Any) -> Symbolic:
    """e to the power of x."""
    return _each("exp", x)


def expm1(x: Any) -> Symbolic:
    """``exp(x) - 1``, exact for small x."""
    return _each("expm1", x)


def log(x: Any) -> Symbolic:
    """The natural logarithm."""
    return _each("log", x)


def log1p(x: Any) -> Symbolic:
    """``log(1 + x)``, exact for small x."""
    return _each("log1p", x)


def erf(x: Any) -> Symbolic:
    """The error function."""
    return _each("erf", x)


def sin(x: Any) -> Symbolic:
    """The sine of radians."""
    return _each("sin", x)


def cos(x: Any) -> Symbolic:
    """The cosine of radians."""
    return _each("cos", x)


def floor(x: Any) -> Symbolic:
    """The next whole number below; it has no gradient."""
    return _each("floor", x)


def round(x: Any) -> Symbolic:
    """The nearest whole number, halves to the even one; it has no gradient."""
    return _each("round", x)


def clip(x: Any, x_min: float, x_max: float) -> Symbolic:
    """``min(max(x, x_min), x_max)``."""
    return _each("clip", x, min=plain(x_min, "x_min"), max=plain(x_max, "x_max"))


def cast(x: Any, dtype: str) -> Symbolic:
    """An integer input as float32, the only type that functions make."""
    if dtype != "float32":
        raise ValueError(f"ops.cast: the type {dtype!r} is not supported; functions make float32")
    return _each("cast", x)


def stop_gradient(variable: Any) -> Symbolic:
    """The same numbers, through which no gradient flows."""
    return _each("stop_gradient", variable)


# -- truth: 1 and 0 -----------------------------------------------------------------------------------------------


def greater(x1: Any, x2: Any) -> Symbolic:
    """1 where ``x1 > x2``."""
    return _together("greater", x1, x2)


def greater_equal(x1: Any, x2: Any) -> Symbolic:
    """1 where ``x1 >= x2``."""
    return _together("greater_equal", x1, x2)


def less(x1: Any, x2: Any) -> Symbolic:
    """1 where ``x1 < x2``."""
    return _together("less", x1, x2)


def less_equal(x1: Any, x2: Any) -> Symbolic:
    """1 where ``x1 <= x2``."""
    return _together("less_equal", x1, x2)


def equal(x1: Any, x2: Any) -> Symbolic:
    """1 where ``x1 == x2``."""
    return _together("equal", x1, x2)


def not_equal(x1: Any, x2: Any) -> Symbolic:
    """1 where ``x1 != x2``."""
    return _together("not_equal", x1, x2)


def logical_and(x1: Any, x2: Any) -> Symbolic:
    """1 where neither is 0."""
    return _together("logical_and", x1, x2)


def logical_or(x1: Any, x2: Any) -> Symbolic:
    """1 where not both are 0."""
    return _together("logical_or", x1, x2)


def logical_xor(x1: Any, x2: Any) -> Symbolic:
    """1 where exactly one is 0."""
    return _together("logical_xor", x1, x2)


def logical_not(x: Any) -> Symbolic:
    """1 where x is 0."""
    return _each("logical_not", x)


def where(condition: Any, x1: Any, x2: Any) -> Symbolic:
    """``x1`` where the condition is not 0, else ``x2``; a NaN on the side not taken does no harm."""
    return _together("where", condition, x1, x2)


# -- activations --------------------------------------------------------------------------------------------------


def relu(x: Any) -> Symbolic:
    """``max(x, 0)``."""
    return _each("relu", x)


def relu6(x: Any) -> Symbolic:
    """``min(max(x, 0), 6)``."""
    return _each("relu6", x)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Symbolic:
    """x above 0, ``negative_slope * x`` below."""
    if negative_slope == 0.2:
        return _each("leaky_relu", x)
    return relu(x) + negative_slope * minimum(x, 0.0)


def elu(x: Any, alpha: float = 1.0) -> Symbolic:
    """x above 0, ``alpha * (exp(x) - 1)`` below."""
    return _each("elu", x) if alpha == 1.0 else relu(x) + alpha * expm1(minimum(x, 0.0))


def celu(x: Any, alpha: float = 1.0) -> Symbolic:
    """x above 0, ``alpha * (exp(x / alpha) - 1)`` below."""
    return _each("celu", x) if alpha == 1.0 else relu(x) + alpha * expm1(minimum(x, 0.0) / alpha)


def selu(x: Any) -> Symbolic:
    """The self-normalising ELU."""
    return _each("selu", x)


def gelu(x: Any, approximate: bool = True) -> Symbolic:
    """x times the normal distribution's probability below x; `approximate` by the hyperbolic tangent."""
    return _each("gelu", x, approximate=bool(approximate))


def sigmoid(x: Any) -> Symbolic:
    """``1 / (1 + exp(-x))``."""
    return _each("sigmoid", x)


def hard_sigmoid(x: Any) -> Symbolic:
    """``relu6(x + 3) / 6``."""
    return _each("hard_sigmoid", x)


def log_sigmoid(x: Any) -> Symbolic:
    """The logarithm of the sigmoid."""
    return _each("log_sigmoid", x)


def sparse_sigmoid(x: Any) -> Symbolic:
    """0 below -1, 1 above 1, a straight line between."""
    return _each("sparse_sigmoid", x)


def silu(x: Any) -> Symbolic:
    """``x * sigmoid(x)``."""
    return _each("silu", x)


swish = silu


def hard_silu(x: Any) -> Symbolic:
    """``x * hard_sigmoid(x)``."""
    return _each("hard_silu", x)


hard_swish = hard_silu


def tanh(x: Any) -> Symbolic:
    """The hyperbolic tangent."""
    return _each("tanh", x)


def hard_tanh(x: Any) -> Symbolic:
    """``clip(x, -1, 1)``."""
    return _each("hard_tanh", x)


def tanh_shrink(x: Any) -> Symbolic:
    """``x - tanh(x)``."""
    return _each("tanh_shrink", x)


def hard_shrink(x: Any, threshold: float = 0.5) -> Symbolic:
    """x where it is farther from 0 than the threshold, else 0."""
    return _each("hard_shrink", x) if threshold == 0.5 else where(greater(abs(x), threshold), x, 0.0)


def soft_shrink(x: Any, threshold: float = 0.5) -> Symbolic:
    """x nearer to 0 by the threshold, or 0."""
    return _each("soft_shrink", x) if threshold == 0.5 else sign(x) * relu(abs(x) - threshold)


def softplus(x: Any) -> Symbolic:
    """``log(1 + exp(x))``."""
    return _each("softplus", x)


def softsign(x: Any) -> Symbolic:
    """``x / (1 + |x|)``."""
    return _each("softsign", x)


def squareplus(x: Any, b: float = 4) -> Symbolic:
    """``(x + sqrt(x**2 + b)) / 2``."""
    return _each("squareplus", x) if b == 4 else (x + sqrt(square(x) + b)) * 0.5


def sparse_plus(x: Any) -> Symbolic:
    """0 below -1, x above 1, a parabola between."""
    return _each("sparse_plus", x)


def mish(x: Any) -> Symbolic:
    """``x * tanh(softplus(x))``."""
    return _each("mish", x)
