"""Golden values of programs: each function as `volary.ops` records it, its numbers and gradients as `keras.ops` has them.

One and the same Python function is called with `volary.ops` on symbolic tensors, which gives the program, and with
`keras.ops` on numbers, which gives what it must answer. `src/nn/golden/layers.rs` runs the program as a Lambda layer. From the
repository root:

    PYTHONPATH=python-client/src python tests/golden/operations/make.py
"""

import json
import os
import types
import zlib
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import torch
from keras.src.layers.merging.dot import batch_dot
from safetensors.numpy import save_file

from volary import Input, Parameter, layers, ops

HERE = Path(__file__).parent
CASES = []


def l2_normalize(x, axis=-1, epsilon=1e-12):
    """As Analytics Zoo has it."""
    return x / torch.sqrt(torch.clamp((x * x).sum(dim=axis, keepdim=True), min=epsilon))


def truth(function):
    """Truth as 1 and 0."""
    return lambda *x: function(*x).to(torch.float32)


def take(x, indices, axis=None):
    return keras.ops.take(x, indices, axis=axis)


names = [name for name in ops.__all__ if hasattr(keras.ops, name)]
reference = types.SimpleNamespace(
    **{name: getattr(keras.ops, name) for name in names},
)
reference.batch_dot = batch_dot
reference.mish = keras.activations.mish
reference.l2_normalize = l2_normalize
reference.l2_normalize = l2_normalize
reference.cumsum = lambda x, axis=-1, reverse=False: (
    torch.flip(torch.cumsum(torch.flip(x, [axis]), axis), [axis])
    if reverse
    else keras.ops.cumsum(x, axis)
)
for name in [
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "equal",
    "not_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
]:
    setattr(reference, name, truth(getattr(keras.ops, name)))
reference.where = lambda condition, a, b: keras.ops.where(condition != 0, a, b)
reference.one_hot = lambda x, classes: keras.ops.one_hot(x.to(torch.int64), classes)


def case(
    name,
    function,
    *inputs,
    parameters=None,
    integers=(),
    expected=None,
    differences=True,
    positive=False,
    spread=1.0,
):
    """A function of (ops, *inputs, *parameters); inputs are shapes with the rows first, or arrays; `expected` is another form of it for Keras."""
    random = np.random.default_rng(zlib.crc32(name.encode()))

    def numbers(shape):
        drawn = (spread * random.standard_normal(shape)).astype("float32")
        return np.abs(drawn) + np.float32(0.3) if positive else drawn

    arrays = [
        each.astype("float32") if isinstance(each, np.ndarray) else numbers(each)
        for each in inputs
    ]
    shapes = parameters or {}
    held = {key: numbers(shape) for key, shape in shapes.items()}
    tensors = [
        Input(
            shape=array.shape[1:] or (1,),
            dtype="int32" if i in integers else "float32",
        )
        for i, array in enumerate(arrays)
    ]
    weights = [Parameter(shape, "zeros", name=key) for key, shape in shapes.items()]
    layer = layers.Lambda(lambda *x: function(ops, *x, *weights))
    recorded = layer(tensors)
    recorded = recorded if isinstance(recorded, tuple) else (recorded,)

    given = [
        torch.tensor(array.astype("int32"))
        if i in integers
        else torch.tensor(array, requires_grad=True)
        for i, array in enumerate(arrays)
    ]
    trained = {
        key: torch.tensor(value, requires_grad=True) for key, value in held.items()
    }
    answers = (expected or function)(reference, *given, *trained.values())
    outputs = list(answers) if isinstance(answers, (list, tuple)) else [answers]
    outputs = [each.to(torch.float32) for each in outputs]
    for made, output in zip(recorded, outputs, strict=True):
        assert made.shape == (None, *output.shape[1:]), (
            name,
            made.shape,
            tuple(output.shape),
        )
    mixed = [
        random.standard_normal(tuple(each.shape)).astype("float32") for each in outputs
    ]
    total = sum(
        (output * torch.tensor(each)).sum()
        for output, each in zip(outputs, mixed, strict=True)
    )
    if total.requires_grad:
        total.backward()
    stored = {}

    def keep(key, value):
        stored[f"{name}/{key}"] = np.ascontiguousarray(
            np.asarray(value, dtype="float32")
        )

    def slope(tensor):
        return (
            np.zeros(tuple(tensor.shape), "float32")
            if tensor.grad is None
            else tensor.grad.numpy()
        )

    for i, (array, tensor) in enumerate(zip(arrays, given, strict=True)):
        keep(f"input_{i}", array)
        if i not in integers:
            keep(f"input_{i}/gradient", slope(tensor))
    for key, value in held.items():
        keep(key, value)
        keep(f"{key}/gradient", slope(trained[key]))
    for i, (output, each) in enumerate(zip(outputs, mixed, strict=True)):
        keep(f"output_{i}", output.detach().numpy())
        keep(f"output_{i}/weights", each)
    described = {
        "name": name,
        "layer": "Lambda",
        "config": {"program": layer.program},
        "inputs": [
            {"shape": list(a.shape), "integer": i in integers}
            for i, a in enumerate(arrays)
        ],
        "masks": None,
        "arrays": list(held),
        "statistics": [],
        "outputs": len(outputs),
        "answer": list(outputs[0].shape),
        "mask": False,
        "training": False,
        "differences": differences,
    }
    CASES.append((described, stored))


SMOOTH = (
    "negative square exp expm1 erf sin cos sigmoid log_sigmoid silu tanh tanh_shrink softplus softsign squareplus mish "
    "selu elu celu gelu softmax log_softmax"
).split()
KINKED = "abs sign relu relu6 leaky_relu hard_sigmoid sparse_sigmoid hard_silu hard_tanh hard_shrink soft_shrink sparse_plus".split()
for name in SMOOTH:
    case(name, lambda ops, x, name=name: getattr(ops, name)(x), (3, 5))
for name in KINKED:
    case(
        name,
        lambda ops, x, name=name: getattr(ops, name)(x),
        (3, 5),
        differences=False,
        spread=2,
    )
for name in "sqrt rsqrt reciprocal log log1p".split():
    case(name, lambda ops, x, name=name: getattr(ops, name)(x), (3, 5), positive=True)
for name in "floor round".split():
    case(
        name,
        lambda ops, x, name=name: getattr(ops, name)(x),
        (3, 5),
        differences=False,
        spread=3,
    )
halves = np.array([[0.5, 1.5, -0.5, -2.5, 2.5]], "float32")
case(
    "round goes to the even one", lambda ops, x: ops.round(x), halves, differences=False
)
small = np.array([[1e-6, -1e-6, 1e-4, 0.3, -0.3]], "float32")
case("log1p of small numbers", lambda ops, x: ops.log1p(x), small)
case("expm1 of small numbers", lambda ops, x: ops.expm1(x), small)
case("sin of large numbers", lambda ops, x: ops.sin(x * 1e4), (3, 5), differences=False)
case(
    "gelu without approximation", lambda ops, x: ops.gelu(x, approximate=False), (3, 5)
)
case(
    "leaky relu of another slope",
    lambda ops, x: ops.leaky_relu(x, 0.1),
    (3, 5),
    differences=False,
)
case(
    "elu of another alpha",
    lambda ops, x: ops.elu(x, alpha=0.5),
    (3, 5),
    differences=False,
)
case(
    "celu of another alpha",
    lambda ops, x: ops.celu(x, alpha=0.5),
    (3, 5),
    differences=False,
)
case(
    "hard shrink of another threshold",
    lambda ops, x: ops.hard_shrink(x, 0.2),
    (3, 5),
    differences=False,
)
case(
    "soft shrink of another threshold",
    lambda ops, x: ops.soft_shrink(x, 0.2),
    (3, 5),
    differences=False,
)
case("squareplus of another b", lambda ops, x: ops.squareplus(x, b=1), (3, 5))
case(
    "cast of an integer input",
    lambda ops, x: ops.cast(x, "float32"),
    np.array([[1, 2], [3, 4]]),
    integers=[0],
    differences=False,
)
case(
    "an integer input as a number",
    lambda ops, x, y: x * y,
    np.array([[1, 2], [3, 4]]),
    (2, 2),
    integers=[0],
)

for name in "add subtract multiply maximum minimum".split():
    case(
        name,
        lambda ops, a, b, name=name: getattr(ops, name)(a, b),
        (3, 2, 4),
        (3, 1, 4),
    )
case("divide", lambda ops, a, b: ops.divide(a, b), (3, 4), (3, 4), positive=True)
case("divide a number", lambda ops, a: 2.0 / a, (3, 4), positive=True)
case("operators", lambda ops, a, b: -a + 2 * b - (1 - a) * b / 3, (3, 4), (3, 4))
case("add a parameter", lambda ops, x, p: x + p, (3, 2, 4), parameters={"bias": (2, 1)})
case(
    "multiply by an array",
    lambda ops, x: x * np.array([[1.0, 2.0], [3.0, 4.0]], "float32"),
    (3, 2, 2),
    expected=lambda ops, x: x * torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
)
case(
    "an array before an operator",
    lambda ops, x: np.array([1.0, 2.0], "float32") - x,
    (3, 2),
    expected=lambda ops, x: torch.tensor([1.0, 2.0]) - x,
)
for exponent in (0, 1, 2, 3, -1, -2, 7, 64):
    case(
        f"power {exponent} of any number",
        lambda ops, x, exponent=exponent: ops.power(x, exponent),
        (3, 5),
        differences=exponent in (0, 1, 2, 3),
    )
for exponent in (0.5, 1.5, -0.5, -1.5, 0.3, 2.7):
    case(
        f"power {exponent}",
        lambda ops, x, exponent=exponent: x**exponent,
        (3, 5),
        positive=True,
    )
case(
    "power 65 of any number",
    lambda ops, x: ops.power(x, 65),
    (3, 5),
    spread=0.4,
    differences=False,
)
case(
    "power 66 of any number",
    lambda ops, x: ops.power(x, 66),
    (3, 5),
    spread=0.4,
    differences=False,
)
zeros = np.array([[0.0, 1.0, 2.0]], "float32")
case("power of zero", lambda ops, x: ops.power(x, 1.5), zeros, differences=False)
case(
    "power of two tensors",
    lambda ops, a, b: ops.power(a, b),
    (3, 4),
    (3, 4),
    positive=True,
)
case("power of a number", lambda ops, x: 2.0**x, (3, 4))
case("clip", lambda ops, x: ops.clip(x, -0.5, 0.7), (3, 5), differences=False)

whole = np.array([[1.0, 2.0, 3.0, 0.0], [0.0, 2.0, 1.0, 3.0]], "float32")
other = np.array([[2.0, 2.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]], "float32")
for name in "greater greater_equal less less_equal equal not_equal logical_and logical_or logical_xor".split():
    case(
        name,
        lambda ops, a, b, name=name: getattr(ops, name)(a, b),
        whole,
        other,
        differences=False,
    )
case("logical_not", lambda ops, a: ops.logical_not(a), whole, differences=False)
case(
    "comparison operators",
    lambda ops, a, b: (a > b) * 1.0 + (a <= 1) * 2.0 + (b >= 2) * 4.0 + (a < b) * 8.0,
    whole,
    other,
    differences=False,
    expected=lambda ops, a, b: (
        (a > b).float()
        + (a <= 1).float() * 2
        + (b >= 2).float() * 4
        + (a < b).float() * 8
    ),
)
case(
    "where",
    lambda ops, c, a, b: ops.where(c, a, b),
    whole,
    (2, 4),
    (2, 4),
    differences=False,
)
case(
    "where with a number",
    lambda ops, c, a: ops.where(c, a, 0.5),
    whole,
    (2, 4),
    differences=False,
)
case(
    "where keeps a NaN out",
    lambda ops, x: ops.where(ops.greater(x, 0), ops.log(ops.maximum(x, 1e-3)), -1.0),
    (3, 4),
    differences=False,
)

for name in "sum mean max min prod var std logsumexp".split():
    smooth = name not in ("max", "min")
    f = lambda ops, x, name=name, **k: getattr(ops, name)(x, **k)
    case(
        f"{name} over the last axis",
        lambda ops, x, f=f: f(ops, x, axis=-1),
        (2, 3, 4),
        differences=smooth,
    )
    case(
        f"{name} over the middle, kept",
        lambda ops, x, f=f: f(ops, x, axis=1, keepdims=True),
        (2, 3, 4),
        differences=smooth,
    )
    case(
        f"{name} over two axes",
        lambda ops, x, f=f: f(ops, x, axis=(1, 3)),
        (2, 3, 2, 3),
        differences=smooth,
        expected=(lambda ops, x: torch.prod(torch.prod(x, 3), 1))
        if name == "prod"
        else None,
    )
    case(
        f"{name} over all of a parameter",
        lambda ops, x, p, f=f: x * f(ops, p),
        (2, 3),
        parameters={"p": (3, 4)},
        differences=smooth,
    )
case(
    "prod with zeros",
    lambda ops, x: ops.prod(x, axis=-1),
    np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 4.0], [1.0, 5.0, 2.0]], "float32"),
    differences=False,
)
for order in (None, 1, 2, 3, float("inf")):
    case(
        f"norm {order}",
        lambda ops, x, order=order: ops.norm(x, ord=order, axis=-1),
        (3, 5),
        differences=order in (None, 2),
    )
case(
    "norm over the middle, kept",
    lambda ops, x: ops.norm(x, axis=1, keepdims=True),
    (2, 3, 4),
)
for order in (1, 2, 3):
    case(
        f"normalize {order}",
        lambda ops, x, order=order: ops.normalize(x, axis=1, order=order),
        (3, 5),
        differences=order == 2,
    )
case(
    "normalize with epsilon",
    lambda ops, x: ops.normalize(x, epsilon=10.0),
    (3, 5),
    differences=False,
)
case("l2_normalize", lambda ops, x: ops.l2_normalize(x, axis=1), (2, 3, 4))
case(
    "l2_normalize with epsilon",
    lambda ops, x: ops.l2_normalize(x, epsilon=100.0),
    (2, 3),
)
case("softmax over the middle", lambda ops, x: ops.softmax(x, axis=1), (2, 3, 4))
case(
    "log_softmax over the middle", lambda ops, x: ops.log_softmax(x, axis=1), (2, 3, 4)
)
case("cumsum", lambda ops, x: ops.cumsum(x, axis=1), (2, 3, 4))
case(
    "cumsum from the end",
    lambda ops, x: ops.cumsum(x, axis=-1, reverse=True),
    (2, 3, 4),
)

case(
    "matmul with a parameter", lambda ops, x, w: x @ w, (3, 4), parameters={"w": (4, 2)}
)
case(
    "matmul of a sequence with a parameter",
    lambda ops, x, w: ops.matmul(x, w),
    (2, 3, 4),
    parameters={"w": (4, 2)},
)
case(
    "matmul with a vector",
    lambda ops, x, w: ops.matmul(x, w),
    (2, 3, 4),
    parameters={"w": (4,)},
)
case("matmul side by side", lambda ops, a, b: ops.matmul(a, b), (2, 3, 4), (2, 4, 5))
case(
    "matmul of four axes",
    lambda ops, a, b: ops.matmul(a, b),
    (2, 3, 2, 4),
    (2, 3, 4, 2),
)
case(
    "matmul with a leading one",
    lambda ops, a, b: ops.matmul(a, b),
    (2, 1, 2, 4),
    (2, 3, 4, 2),
)
case(
    "matmul with matrices of a parameter",
    lambda ops, x, w: ops.matmul(x, w),
    (2, 3, 2, 4),
    parameters={"w": (3, 4, 2)},
)
case(
    "matmul from the left by a parameter",
    lambda ops, x, w: ops.matmul(w, x),
    (2, 4, 3),
    parameters={"w": (5, 4)},
)
case(
    "matmul from the left by a vector",
    lambda ops, x, w: ops.matmul(w, x),
    (2, 4, 3),
    parameters={"w": (4,)},
)
case("dot", lambda ops, x, w: ops.dot(x, w), (2, 3, 4), parameters={"w": (4, 2)})
case(
    "dot with a cube",
    lambda ops, x, w: ops.dot(x, w),
    (2, 3, 4),
    parameters={"w": (5, 4, 2)},
    expected=lambda ops, x, w: torch.einsum("abk,ckd->abcd", x, w),
)
case(
    "dot with a vector",
    lambda ops, x, w: ops.dot(x, w),
    (2, 3, 4),
    parameters={"w": (4,)},
)
case(
    "batch_dot of vectors",
    lambda ops, a, b: ops.batch_dot(a, b, axes=1),
    (3, 4),
    (3, 4),
)
case(
    "batch_dot by default", lambda ops, a, b: ops.batch_dot(a, b), (3, 2, 4), (3, 4, 5)
)
case(
    "batch_dot over named axes",
    lambda ops, a, b: ops.batch_dot(a, b, axes=(2, 2)),
    (3, 2, 4),
    (3, 5, 4),
)
case(
    "batch_dot of a matrix and a vector",
    lambda ops, a, b: ops.batch_dot(a, b, axes=(1, 1)),
    (3, 4, 2),
    (3, 4),
)
for equation, a, b in [
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)),
    ("bi,bi->b", (3, 4), (3, 4)),
    ("bi,bj->bij", (3, 4), (3, 2)),
    ("bi,bi->bi", (3, 4), (3, 4)),
    ("bthd,bshd->bhts", (2, 3, 2, 4), (2, 5, 2, 4)),
    ("bhts,bshd->bthd", (2, 2, 3, 5), (2, 5, 2, 4)),
    ("bijk,bj->bik", (2, 3, 4, 2), (2, 4)),
    ("bik,bjl->bij", (2, 3, 2), (2, 3, 4)),
]:
    case(
        f"einsum {equation}",
        lambda ops, a, b, equation=equation: ops.einsum(equation, a, b),
        a,
        b,
    )
for equation, a, w in [
    ("bij,jk->bik", (2, 3, 4), (4, 5)),
    ("bi,jik->bjk", (3, 4), (2, 4, 3)),
    ("abc,cde->abde", (2, 3, 4), (4, 2, 3)),
]:
    case(
        f"einsum {equation} with a parameter",
        lambda ops, a, w, equation=equation: ops.einsum(equation, a, w),
        a,
        parameters={"w": w},
    )
case("einsum of one", lambda ops, x: ops.einsum("bijk->bkj", x), (2, 3, 4, 2))

case("getitem", lambda ops, x: x[:, 1], (2, 3, 4))
case("getitem from the end", lambda ops, x: x[..., -1], (2, 3, 4))
case("getitem of a slice", lambda ops, x: x[:, 1:3, ::2], (2, 4, 5))
case(
    "getitem backwards",
    lambda ops, x: x[:, ::-2, 3:0:-1],
    (2, 5, 4),
    expected=lambda ops, x: torch.flip(x, [1, 2])[:, ::2, 0:3],
)
case("getitem with new axes", lambda ops, x: x[:, None, ..., None], (2, 3, 4))
case(
    "getitem of a parameter",
    lambda ops, x, p: x * p[1, 1:],
    (2, 3),
    parameters={"p": (3, 4)},
)
case("split", lambda ops, x: ops.split(x, 3, axis=-1), (2, 6))
case("split at indices", lambda ops, x: ops.split(x, [1, 3], axis=1), (2, 5, 2))
case("take", lambda ops, x: ops.take(x, [2, 0, 2], axis=-1), (2, 3, 4))
case(
    "take in two axes",
    lambda ops, x: ops.take(x, [[0, 1], [2, 2]], axis=1),
    (2, 3, 4),
    expected=lambda ops, x: x[:, torch.tensor([[0, 1], [2, 2]])],
)
case(
    "take negative indices",
    lambda ops, x: ops.take(x, [-1, 0], axis=1),
    (2, 3),
    expected=lambda ops, x: x[:, [-1, 0]],
)
indices = np.array([[1, 0, 4], [3, 3, 0]])
case(
    "take rows of a parameter",
    lambda ops, i, table: ops.take(table, i, axis=0),
    indices,
    parameters={"table": (5, 3)},
    integers=[0],
)
case(
    "take matrices of a parameter",
    lambda ops, i, table: ops.take(table, i, axis=0),
    indices,
    parameters={"table": (5, 2, 3)},
    integers=[0],
)
case(
    "one_hot",
    lambda ops, i: ops.one_hot(i, 5),
    indices,
    integers=[0],
    differences=False,
)
case("one_hot of numbers", lambda ops, x: ops.one_hot(x, 5), indices, differences=False)

case(
    "concatenate",
    lambda ops, a, b: ops.concatenate([a, b, a], axis=-1),
    (2, 3, 4),
    (2, 3, 1),
)
case(
    "concatenate along the middle",
    lambda ops, a, b: ops.concatenate([a, b], axis=1),
    (2, 3, 4),
    (2, 2, 4),
)
case(
    "concatenate a token",
    lambda ops, x, t: ops.concatenate([ops.broadcast_to(t, (None, 1, 4)), x], axis=1),
    (2, 3, 4),
    parameters={"token": (1, 1, 4)},
    expected=lambda ops, x, t: torch.cat([t.expand(2, 1, 4), x], 1),
)
case("stack", lambda ops, a, b: ops.stack([a, b], axis=1), (2, 3), (2, 3))
case("stack at the end", lambda ops, a, b: ops.stack([a, b], axis=-1), (2, 3), (2, 3))
case("reshape", lambda ops, x: ops.reshape(x, (-1, 2, 6)), (2, 3, 4))
case(
    "reshape with what is left over",
    lambda ops, x: ops.reshape(x, (None, -1, 2)),
    (2, 3, 4),
    expected=lambda ops, x: x.reshape(2, 6, 2),
)
case(
    "broadcast_to",
    lambda ops, x: ops.broadcast_to(x, (None, 3, 4)),
    (2, 1, 4),
    expected=lambda ops, x: x.expand(2, 3, 4),
)
case(
    "full_like",
    lambda ops, x: x * ops.full_like(x, 2.5) + ops.ones_like(x) + ops.zeros_like(x),
    (2, 3),
)
case("transpose", lambda ops, x: ops.transpose(x, (0, 3, 1, 2)), (2, 3, 4, 5))
case(
    "transpose a parameter",
    lambda ops, x, w: x @ ops.transpose(w),
    (2, 3),
    parameters={"w": (4, 3)},
)
case("swapaxes", lambda ops, x: ops.swapaxes(x, 1, -1), (2, 3, 4, 5))
case("squeeze", lambda ops, x: ops.squeeze(x, axis=1), (2, 1, 4, 1))
case("squeeze all", lambda ops, x: ops.squeeze(x), (2, 1, 4, 1))
case("expand_dims", lambda ops, x: ops.expand_dims(x, 1), (2, 3))
case("expand_dims at two places", lambda ops, x: ops.expand_dims(x, (1, -1)), (2, 3))
case("repeat", lambda ops, x: ops.repeat(x, 3, axis=1), (2, 3, 4))
case("tile", lambda ops, x: ops.tile(x, (1, 2, 3)), (2, 3, 4))
case(
    "tile the last axis",
    lambda ops, x: ops.tile(x, (2,)),
    (2, 3),
    expected=lambda ops, x: x.tile(2),
)
case("pad", lambda ops, x: ops.pad(x, ((0, 0), (1, 2), (0, 1))), (2, 3, 4))
case(
    "pad with a number",
    lambda ops, x: ops.pad(x, ((0, 0), (1, 1)), constant_values=2.5),
    (2, 3),
)
case("flip", lambda ops, x: ops.flip(x, axis=1), (2, 3, 4))
case("flip two axes", lambda ops, x: ops.flip(x, axis=(1, 2)), (2, 3, 4))
case(
    "stop_gradient", lambda ops, x: x * ops.stop_gradient(x), (2, 3), differences=False
)
case("several outputs", lambda ops, x: (ops.exp(x), ops.sum(x, axis=-1)), (2, 3))
case(
    "scaled attention",
    lambda ops, q, k, v: ops.matmul(
        ops.softmax(ops.matmul(q, ops.swapaxes(k, 1, 2)) / 2.0), v
    ),
    (2, 3, 4),
    (2, 5, 4),
    (2, 5, 4),
    expected=lambda ops, q, k, v: ops.matmul(
        ops.softmax(ops.matmul(q, k.swapaxes(1, 2)) / 2.0), v
    ),
)

save = {}
for _, stored in CASES:
    save.update(stored)
assert len({described["name"] for described, _ in CASES}) == len(CASES), "names differ"
recorded = {
    node["op"]
    for described, _ in CASES
    for node in described["config"]["program"]["nodes"]
}
save_file(save, HERE / "operations.safetensors")
(HERE / "operations.safetensors").chmod(0o644)
lines = ",\n".join(json.dumps(described) for described, _ in CASES)
(HERE / "operations.json").write_text(f"[\n{lines}\n]\n")
print(
    f"keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}: {len(CASES)} cases, {len(recorded)} functions"
)
print("not covered:", sorted(set(ops.__all__) - recorded))
