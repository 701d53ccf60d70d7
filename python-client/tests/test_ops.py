"""Functions of symbolic tensors: what they record, the shapes they find, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import volary
from volary import Input, Model, Parameter, Sequential, layers, ops
from volary.model.shapes import operations as shapes

ROWS = 5  # stands for None where NumPy is asked; no other extent is 5


def programs(model: Model) -> list[dict]:
    return [layer["config"]["program"] for layer in model.to_json()["layers"] if layer["layer"] == "Lambda"]


def recorded(function, *given):
    """The shape that `function` answers over inputs of these shapes, inside of a Lambda."""
    return layers.Lambda(function)([Input(shape=shape[1:]) for shape in given]).shape


# -- shapes, against NumPy ----------------------------------------------------------------------------------------


def agrees(ours, theirs, *given):
    """`ours` over shapes with rows finds what NumPy finds over arrays with ROWS rows."""
    arrays = [np.zeros([ROWS if extent is None else extent for extent in shape]) for shape in given]
    expected = theirs(*arrays).shape
    found = ours(*given)
    assert tuple(ROWS if extent is None else extent for extent in found) == expected, (given, found)
    assert (found[0] is None) == any(shape[:1] == (None,) for shape in given)


@pytest.mark.parametrize("seed", range(200))
def test_shapes_are_those_of_numpy(seed):
    random = np.random.default_rng(seed)
    extents = [int(random.integers(1, 5)) for _ in range(int(random.integers(1, 5)))]
    shape = (None, *extents)
    rank = len(shape)
    axis = int(random.integers(1, rank))
    axis = axis - rank if random.random() < 0.5 else axis
    other = int(random.integers(1, rank))
    axes = sorted(random.choice(np.arange(1, rank), int(random.integers(1, rank)), replace=False).tolist())
    keep = bool(random.random() < 0.5)
    spread = (None, *(1 if random.random() < 0.5 else extent for extent in extents))
    flat = tuple(extents[int(random.integers(0, rank)) :])
    agrees(shapes.broadcast, np.add, shape, spread)
    agrees(shapes.broadcast, np.add, shape, flat)
    agrees(lambda s: shapes.reduced(s, axes, keep), lambda x: np.sum(x, axis=tuple(axes), keepdims=keep), shape)
    agrees(lambda s: shapes.swapaxes(s, axis, other), lambda x: np.swapaxes(x, axis, other), shape)
    order = [0, *(1 + random.permutation(rank - 1)).tolist()]
    agrees(lambda s: shapes.transpose(s, order), lambda x: np.transpose(x, order), shape)
    agrees(lambda s: shapes.repeat(s, 3, axis), lambda x: np.repeat(x, 3, axis), shape)
    counts = [1, *random.integers(1, 4, rank - 1).tolist()][int(random.integers(0, rank)) :]
    agrees(lambda s: shapes.tile(s, counts), lambda x: np.tile(x, counts), shape)
    widths = [[0, 0], *random.integers(0, 3, (rank - 1, 2)).tolist()]
    agrees(lambda s: shapes.pad(s, widths), lambda x: np.pad(x, widths), shape)
    agrees(lambda s: shapes.concatenate([s, s], axis), lambda x: np.concatenate([x, x], axis), shape)
    place = int(random.integers(1, rank + 1))
    agrees(lambda s: shapes.stack([s, s], place), lambda x: np.stack([x, x], place), shape)
    agrees(lambda s: shapes.expand_dims(s, [place, -1]), lambda x: np.expand_dims(x, (place, -1)), shape)
    agrees(lambda s: shapes.squeeze(s, None), lambda x: np.squeeze(x), spread)
    agrees(lambda s: shapes.broadcast_to(s, shape), lambda x: np.broadcast_to(x, (ROWS, *extents)), spread)
    agrees(lambda s: shapes.reshape(s, [None, -1]), lambda x: x.reshape(ROWS, -1), shape)
    indices = random.integers(0, extents[axis - 1 if axis > 0 else axis], (2, 3))
    agrees(
        lambda s: shapes.take(s, (2, 3), int(indices.max()), int(indices.min()), axis),
        lambda x: np.take(x, indices, axis),
        shape,
    )


@pytest.mark.parametrize("seed", range(200))
def test_keys_make_the_shapes_of_numpy(seed):
    random = np.random.default_rng(seed)
    extents = [int(random.integers(1, 5)) for _ in range(3)]
    key: list = [slice(None)]
    for extent in extents[: int(random.integers(0, 4))]:
        kind = random.integers(0, 4)
        if kind == 0:
            key.append(int(random.integers(-extent, extent)))
        elif kind == 1:
            key.append(
                slice(
                    *(None if random.random() < 0.4 else int(random.integers(-6, 7)) for _ in range(2)),
                    int(random.choice([-2, -1, 1, 2])),
                )
            )
        elif kind == 2:
            key.extend([None, slice(None)])
        else:
            key.append(slice(None, None, 2))
    if random.random() < 0.3:
        key.append(...)
    expected = np.zeros((ROWS, *extents))[tuple(key)].shape
    if 0 in expected:
        with pytest.raises(ValueError, match="empty"):
            recorded(lambda x: x[tuple(key)], (None, *extents))
    elif len(expected) <= 7:
        assert recorded(lambda x: x[tuple(key)], (None, *extents)) == (None, *expected[1:])


@pytest.mark.parametrize("seed", range(200))
def test_products_make_the_shapes_of_numpy(seed):
    random = np.random.default_rng(seed)
    m, k, n, p = (int(each) for each in random.integers(1, 5, 4))
    for a, b in [
        ((None, m, k), (None, k, n)),
        ((None, p, m, k), (None, p, k, n)),
        ((None, p, m, k), (None, 1, k, n)),
        ((None, 1, m, k), (p, k, n)) if p > 1 else ((None, m, k), (k, n)),
        ((None, m, k), (k, n)),
        ((None, k), (k, n)),
        ((None, m, k), (k,)),
        ((m, k), (None, k, n)),
        ((k,), (None, k, n)),
        ((m, k), (k, n)),
    ]:
        if (a[:1] == (None,)) or (b[:1] == (None,)):
            agrees(shapes.matmul, np.matmul, a, b)
        else:
            assert shapes.matmul(a, b) == (m, n)
    agrees(shapes.dot, np.dot, (None, m, k), (p, k, n))
    agrees(
        lambda a, b: shapes.einsum("bmk,bkn->bnm", a, b),
        lambda a, b: np.einsum("bmk,bkn->bnm", a, b),
        (None, m, k),
        (None, k, n),
    )


# -- what is recorded ---------------------------------------------------------------------------------------------


def test_a_lambda_records_what_its_function_does():
    distance = layers.Lambda(lambda a, b: ops.sum(ops.square(a - b), axis=-1, keepdims=True))
    model = Model(outputs=distance([Input(shape=(4,)), Input(shape=(4,))]))
    assert programs(model) == [
        {
            "inputs": 2,
            "nodes": [
                {"op": "subtract", "inputs": [0, 1]},
                {"op": "square", "inputs": [2]},
                {"op": "sum", "inputs": [3], "axis": [-1], "keepdims": True},
            ],
            "outputs": [4],
        }
    ]
    again = layers.Lambda.from_config(model.layers[-1].get_config())
    assert Model(outputs=again([Input(shape=(4,)), Input(shape=(4,))])).to_json() == model.to_json()


def test_a_function_of_one_argument_gets_several_tensors_as_a_list():
    both = layers.Lambda(lambda given: given[0] * given[1])
    assert both([Input(shape=(4,)), Input(shape=(4,))]).shape == (None, 4)


class Highway(layers.Layer):
    """A layer of a user's own."""

    def __init__(self, scale: float, **options):
        super().__init__(**options)
        self.scale = scale

    def build(self, input_shape):
        width = input_shape[-1]
        self.kernel = Parameter((width, width))
        self.gate = self.add_weight((width,), "zeros", name="carry")

    def call(self, x):
        carry = ops.sigmoid(x * self.gate)
        self.add_loss(ops.mean(carry, axis=-1))
        return carry * ops.tanh(x @ self.kernel) + (1 - carry) * x * self.scale + ops.sum(self.kernel)


def test_a_layer_of_ones_own_is_sent_as_a_program_with_its_parameters_named():
    model = Sequential([Input(shape=(4,)), Highway(2.0, name="way", trainable=False), Highway(1.0)])
    described = model.to_json()["layers"]
    assert [(layer["name"], layer["layer"]) for layer in described[1:]] == [("way", "Lambda"), ("highway", "Lambda")]
    assert described[1]["config"]["trainable"] is False
    nodes = described[1]["config"]["program"]["nodes"]
    held = [node for node in nodes if node["op"] == "parameter"]
    assert [(node["name"], node["shape"]) for node in held] == [("carry", [4]), ("kernel", [4, 4])]
    assert len(described[1]["config"]["program"]["losses"]) == 1


def test_functions_and_operators_on_tensors_of_a_model_are_layers():
    x = Input(shape=(4,))
    hidden = layers.Dense(3)(x)
    answer = ops.concatenate([hidden * 2, -x], axis=-1)
    model = Model(outputs=answer)
    assert answer.shape == (None, 7)
    assert [layer["name"] for layer in model.to_json()["layers"]] == [
        "input",
        "dense",
        "multiply",
        "negative",
        "concatenate",
    ]


def test_several_outputs_are_tensors_each():
    low, high = layers.Lambda(lambda x: (x[:, :2], x[:, 2:]))(Input(shape=(5,)))
    model = Model(outputs=high)
    assert (low.shape, high.shape) == ((None, 2), (None, 3))
    assert model.to_json()["outputs"] == ["lambda:1"]
    joined = Model(outputs=layers.Concatenate()([high, low])).to_json()["layers"]
    assert [layer["name"] for layer in joined] == ["input", "lambda", "concatenate"]
    assert joined[-1]["inputs"] == ["lambda:1", "lambda"]


def test_where_no_shape_is_known_the_servers_find_it():
    tensor = layers.Lambda(lambda x: ops.mean(x[:, 1:] ** 2, axis=-1, keepdims=True))(Input())
    assert tensor.shape is None
    assert programs(Model(outputs=tensor))[0]["nodes"][0] == {
        "op": "getitem",
        "inputs": [0],
        "key": [[None] * 3, [1, None, None]],
    }


def test_arrays_and_constants_are_part_of_the_program():
    table = np.arange(6, dtype="float32").reshape(2, 3)
    shared = volary.Constant(table)
    tensor = layers.Lambda(lambda x: table + x * shared + shared)(Input(shape=(2, 3)))
    nodes = programs(Model(outputs=tensor))[0]["nodes"]
    assert [node["op"] for node in nodes].count("constant") == 2
    assert nodes[0]["values"] in (table.tolist(), [[0, 1, 2], [3, 4, 5]])


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x + np.ones((2, 3, 4)), "ops.add: shapes .None, 3, 4. and .2, 3, 4. would set rows"),
        (lambda x: x + np.ones(3), "ops.add: shapes .None, 3, 4. and .3,. do not go together"),
        (lambda x: ops.mean(x), "ops.mean: without an axis it would join the rows"),
        (lambda x: ops.mean(x, axis=0), "ops.mean: axis 0 of .None, 3, 4. cannot be used; axis 0 is the rows"),
        (lambda x: ops.softmax(x, axis=3), "ops.softmax: .None, 3, 4. has no axis 3; axes are -3 to 2"),
        (lambda x: ops.reshape(x, (-1, 5)), "ops.reshape: .None, 3, 4. has 12 numbers per row"),
        (lambda x: ops.transpose(x), "ops.transpose: axis 0 of .None, 3, 4. cannot move"),
        (lambda x: x[0], "ops.getitem: axis 0 of .None, 3, 4. cannot be indexed"),
        (lambda x: x[:, 7], "ops.getitem: index 7 is outside axis 1"),
        (
            lambda x: ops.matmul(x, Parameter((5, 2))),
            "ops.matmul: shapes .None, 3, 4. and .5, 2.: axes that go together",
        ),
        (lambda x: ops.einsum("abc,dbc->ad", x, x), "ops.einsum: .*rows of one would meet all rows of the other"),
        (lambda x: ops.split(x, 5, axis=1), "ops.split: axis 1 of .None, 3, 4. does not divide into 5"),
        (lambda x: ops.cast(x, "int32"), "ops.cast: the type 'int32' is not supported"),
        (lambda x: ops.random_normal((4,)), "ops.random_normal: the shape is .4,."),
        (lambda x: ops.random_normal(None), "ops.random_normal: the shape is unknown here; give the Input a shape"),
        (lambda x: ops.pad(x, ((0, 0), (-1, 0), (0, 0))), "is below 0; slice to cut"),
        (lambda x: ops.take(x, [0, 9], axis=1), "ops.take: indices from 0 to 9 are outside axis 1"),
    ],
)
def test_a_mistake_is_told_where_it_is_made_with_function_and_shapes(function, message):
    with pytest.raises(ValueError, match=message):
        recorded(function, (None, 3, 4))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: 1 if x > 0 else 2, "neither true nor false; write volary.ops.where"),
        (lambda x: [each for each in x], "cannot be iterated over"),
        (lambda x: np.exp(x), "numpy.exp takes numbers"),
        (lambda x: np.asarray(x), "no numbers for NumPy"),
        (lambda x: float(x), "has no numbers"),
        (lambda x: len(x), "has no length; its extents are in .shape"),
        (lambda x: x[x > 0], "a tensor cannot be an index; use ops.take"),
        (lambda x: None, "answers NoneType; return a symbolic tensor"),
        (lambda x: x + "a", "a constant holds numbers, not 'a'"),
    ],
)
def test_what_a_tensor_without_numbers_cannot_do_is_told(function, message):
    with pytest.raises(TypeError, match=message):
        recorded(function, (None, 4))


def test_a_tensor_of_another_program_is_refused():
    kept = []
    recorded(lambda x: kept.append(x) or x, (None, 4))
    with pytest.raises(ValueError, match="pass it as an input"):
        recorded(lambda x: x + kept[0], (None, 4))
    outer = Input(shape=(4,))
    with pytest.raises(TypeError, match="pass it as an input"):
        recorded(lambda x: x + outer, (None, 4))


def test_a_parameter_is_part_of_one_layer():
    scale = Parameter((4,))
    x = Input(shape=(4,)) * scale
    with pytest.raises(ValueError, match="used twice outside of a layer"):
        x * scale
    with pytest.raises(TypeError, match="parameters and constants alone"):
        ops.exp(scale)
    with pytest.raises(ValueError, match="give extents from 1, and give the Input a shape"):
        Parameter((None, 3))


# -- losses and metrics -------------------------------------------------------------------------------------------


def pinball(y_true, y_pred):
    error = y_true - y_pred
    return ops.mean(ops.maximum(0.9 * error, -0.1 * error), axis=-1)


def test_a_loss_or_metric_of_ones_own_is_sent_as_a_program():
    model = Sequential([Input(shape=(4,)), layers.Dense(3)])
    model.compile(loss=pinball, metrics=["mae", pinball, lambda y_true, y_pred: ops.abs(y_true - y_pred)])
    [training] = model._training
    described = training.loss
    assert (described["name"], described["title"]) == ("custom", "pinball")
    assert described["program"]["inputs"] == 2
    assert described["program"]["nodes"][-1] == {"op": "mean", "inputs": [7], "axis": [-1], "keepdims": False}
    assert training.metrics[0] == "mae"
    assert training.metrics[1] == described
    assert training.metrics[2]["title"] == "custom"


def test_a_loss_that_joins_rows_or_forgets_them_is_refused():
    model = Sequential([Input(shape=(4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"ops.mean: without an axis it would join the rows of .None, 3."):
        model.compile(loss=lambda y_true, y_pred: ops.mean(ops.square(y_true - y_pred)))
    with pytest.raises(TypeError, match="loss lambda answers float; return a symbolic tensor"):
        model.compile(loss=lambda y_true, y_pred: 1.0)
    with pytest.raises(TypeError, match=r"or a function of .y_true, y_pred."):
        model.compile(loss=3)


def test_random_numbers_have_rows_and_known_extents():
    assert recorded(lambda x: x + ops.random_normal((None, 4), mean=1.0, stddev=0.5), (None, 4)) == (None, 4)
    for shape in ((4,), (None, None), ()):
        with pytest.raises(ValueError, match=r"^ops.random_normal: the shape is .*; begin with None for the rows"):
            recorded(lambda x, shape=shape: ops.random_normal(shape), (None, 4))
