"""A network as a graph of layers, and training it.

>>> from volary import Input, Model, layers
>>> numbers = Input(["age", "hours"])
>>> jobs = layers.Flatten()(layers.Embedding(16, 4)(Input(["job"], dtype="int32")))
>>> joined = layers.Concatenate()([layers.Dense(8, activation="relu")(numbers), jobs])
>>> model = Model(outputs=layers.Dense(1, activation="sigmoid")(joined), name="census")
>>> [layer["name"] for layer in model.to_json()["layers"]]
['input', 'dense', 'input_1', 'embedding', 'flatten', 'concatenate', 'dense_1']
"""

from __future__ import annotations

import contextlib
import operator
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._commands import plain
from ..errors import InvalidArgumentError
from ..features import Pipeline, Transform
from ..handles import Rows, ServedModel, Summary, _names
from .callbacks import EarlyStopping
from .layers import InputLayer, Lambda, Layer
from .losses import Loss, described
from .metrics import Metric
from .optimizers import Optimizer
from .shapes import Shape
from .symbolic import Parameter, Symbolic, trace

if TYPE_CHECKING:
    from ..client import Client
    from ..jobs import History

__all__ = ["Input", "Model", "Tensor"]

FORMAT_VERSION = 1
# The servers' own limits, checked here so that nothing is uploaded for a request that cannot be.
EPOCHS_MAX = 1_000_000
BATCH_SIZE_MAX = 1 << 24
LANES_MAX = 256
SEED_MAX = (1 << 64) - 1
_OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in Optimizer.__subclasses__()}


@dataclass(frozen=True, eq=False, repr=False)
class Tensor(Symbolic):
    """What a layer makes of its inputs; a place in the graph, without numbers.

    Operators and the functions of :mod:`volary.ops` on it are layers too.
    """

    layer: Layer
    inputs: tuple[Tensor, ...] = ()
    program: Mapping[str, Any] | None = None
    """What a layer of the user's own recorded over these inputs."""
    first: Tensor | None = None
    """The first output of the same call, where this is a further one."""
    number: int = 0
    known_shape: Shape | None = None

    @property
    def shape(self) -> Shape | None:
        """``None`` for the rows, and for extents that only the servers know."""
        return self.known_shape

    @property
    def dtype(self) -> str:
        """``float32``, or ``int32`` of an integer input."""
        return self.layer.dtype if isinstance(self.layer, InputLayer) else "float32"

    def __repr__(self) -> str:
        output = f", output {self.number}" if self.number else ""
        return f"<tensor {self.shape} of {self.layer}{output}>"


def Input(
    columns: Sequence[str] | None = None,
    dtype: str = "float32",
    name: str | None = None,
    *,
    shape: Sequence[int] | None = None,
) -> Tensor:
    """Feature columns, after the pipeline, as one matrix, or as rows of a shape.

    Args:
        columns: Their names, side by side in this order; ``None`` is every feature that fits the type.
        dtype: ``float32``, or ``int32`` for an embedding.
        name: Of the layer.
        shape: The extents of one row, such as ``(28, 28, 1)``; the columns' numbers fill it innermost first.
    """
    names = None if columns is None else _names("columns", columns)
    return connect(InputLayer(names, dtype, None if shape is None else list(shape), name=name), ())


def connect(layer: Layer, inputs: Tensor | Sequence[Tensor]) -> Any:
    """The tensor that `layer` makes of `inputs`; a tuple where a layer of the user's own makes several."""
    given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    for each in given:
        if not isinstance(each, Tensor):
            raise TypeError(
                f"a layer is called on tensors, as volary.Input() gives them, not on a {type(each).__name__}"
            )
    shapes = [each.shape for each in given]
    input_shape: Any = shapes[0] if len(shapes) == 1 else shapes
    call = getattr(layer, "call", None)
    if call is None:
        return Tensor(layer, given, known_shape=layer.compute_output_shape(input_shape))
    if isinstance(layer, Lambda) and layer.function is None:
        assert layer.program is not None
        count = len(layer.program.get("outputs", [None]))
        made = connect_program("", layer.program, given, [None] * count, layer)
        return made[0] if count == 1 else made
    layer.build(input_shape)

    def name_of(parameter: Parameter) -> str | None:
        return next((name for name, value in vars(layer).items() if value is parameter), None)

    what = f"the function of {layer}" if isinstance(layer, Lambda) else f"call of {type(layer).__name__}"
    function = layer.function if isinstance(layer, Lambda) and layer.function is not None else call
    program, outputs = trace(function, [(each.shape, each.dtype) for each in given], name_of, what=what)
    if isinstance(layer, Lambda):
        layer.program = program
    made = connect_program("", program, given, [output.shape for output in outputs], layer)
    return made[0] if len(made) == 1 else made


def connect_program(
    op: str,
    program: Mapping[str, Any],
    inputs: Sequence[Tensor],
    shapes: Sequence[Shape | None],
    layer: Layer | None = None,
) -> tuple[Tensor, ...]:
    """The tensors of a recorded program over `inputs`; a layer of its own, named after its function, where none is given."""
    if layer is None:
        layer = Lambda(program=program)
        layer.title = op
    first = Tensor(layer, tuple(inputs), program, known_shape=shapes[0])
    further = (
        Tensor(layer, tuple(inputs), program, first, number, shape) for number, shape in enumerate(shapes[1:], 1)
    )
    return (first, *further)


class Model:
    """A network from inputs to outputs.

    Args:
        inputs: The tensors of :func:`volary.Input`; may be left out, for the outputs know them.
        outputs: The last tensor.
        name: The model's name on the cluster when ``fit`` is given none.
    """

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor] | None = None,
        outputs: Tensor | Sequence[Tensor] | None = None,
        *,
        name: str = "model",
    ) -> None:
        if outputs is None:
            raise TypeError("a model needs outputs; give Model(inputs, outputs) or Model(outputs=...)")
        self.name = name
        self._outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        self._inputs = () if inputs is None else (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        known = _ordered(self._outputs)
        for tensor in self._inputs:
            if not any(each is tensor for each in known):
                raise ValueError(f"no output depends on the input {tensor.layer}")
        for tensor in known if self._inputs else ():
            if isinstance(tensor.layer, InputLayer) and not any(each is tensor for each in self._inputs):
                raise ValueError(
                    f"the outputs read the input {tensor.layer} too; name it among the inputs, or leave inputs out"
                )
        self._loss: str | dict[str, Any] | None = None
        self._optimizer: dict[str, Any] = {}
        self._metrics: list[str | dict[str, Any]] = []
        self._served: ServedModel | None = None
        self.history: History | None = None

    # -- description ------------------------------------------------------------------------------------------

    def _graph(self) -> tuple[Tensor, ...]:
        return self._outputs

    @property
    def layers(self) -> list[Layer]:
        """The layers, inputs before the layers that read them."""
        return [tensor.layer for tensor in _ordered(self._graph()) if tensor.first is None]

    def to_json(self) -> dict[str, Any]:
        """The description that the servers read."""
        everything = _ordered(self._graph())
        tensors = [tensor for tensor in everything if tensor.first is None]
        names = _named([tensor.layer for tensor in tensors])
        name_of = {id(tensor): name for tensor, name in zip(tensors, names, strict=True)}
        for tensor in everything:
            if tensor.first is not None:
                name_of[id(tensor)] = f"{name_of[id(tensor.first)]}:{tensor.number}"
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "layers": [
                {
                    "name": name_of[id(tensor)],
                    "layer": _kind(tensor.layer),
                    "config": _config(tensor),
                    "inputs": [name_of[id(each)] for each in tensor.inputs],
                }
                for tensor in tensors
            ],
            "outputs": [name_of[id(tensor)] for tensor in self._graph()],
        }

    def compile(
        self,
        optimizer: str | Optimizer | type[Optimizer] = "adam",
        loss: str | Mapping[str, Any] | Loss | type[Loss] | Callable[[Any, Any], Any] = "mean_squared_error",
        metrics: Iterable[str | Mapping[str, Any] | Metric | type[Metric] | Callable[[Any, Any], Any]] = (),
    ) -> None:
        """Say how to train: an optimiser, a loss, and metrics to report. A class stands for its defaults.

        Losses and metrics are objects of volary.losses and volary.metrics, their classes, their names, or dicts of a
        ``name`` and options; or functions of symbolic tensors ``(y_true, y_pred)`` (:mod:`volary.ops`), which are recorded and
        sent as data. A row's loss or metric is the mean of the numbers that the function answers for it; the mean over rows is
        taken by the servers. A metric has the function's name.

        >>> from volary import ops
        >>> def pinball(y_true, y_pred):
        ...     return ops.maximum(0.9 * (y_true - y_pred), 0.1 * (y_pred - y_true))

        >>> from volary import Sequential, layers
        >>> model = Sequential([layers.Dense(1)])
        >>> model.compile(optimizer="sgd", loss=pinball, metrics=["mae", pinball])
        """
        if isinstance(optimizer, str):
            if optimizer not in _OPTIMIZERS:
                raise ValueError(f'unknown optimizer "{optimizer}"; there are {", ".join(_OPTIMIZERS)}')
            optimizer = _OPTIMIZERS[optimizer]
        if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
            optimizer = optimizer()
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"optimizer is of type {type(optimizer).__name__}; give one of volary.optimizers, its class, or its name"
            )
        if isinstance(metrics, str):
            raise TypeError(f"metrics is a list; write [{metrics!r}]")
        self._optimizer = optimizer.to_json()
        shape = self._outputs[0].shape
        self._loss = described("loss", loss, Loss, shape)
        self._metrics = [described("a metric", metric, Metric, shape) for metric in metrics]

    def summary(self) -> str:
        """The network as text: the server's own table once trained, else the layers."""
        if self._served is not None:
            return self._served.summary()
        return Summary(repr(self))

    # -- training ---------------------------------------------------------------------------------------------

    def fit(
        self,
        rows: Any,
        label: str,
        *,
        features: Sequence[str] | None = None,
        pipeline: Pipeline | Iterable[Transform] | None = None,
        epochs: int = 1,
        batch_size: int = 32,
        validation_split: float | None = None,
        validation_data: Any = None,
        seed: int | None = None,
        sample_weight: str | None = None,
        class_weight: Mapping[Any, float] | None = None,
        callbacks: Sequence[EarlyStopping] = (),
        shuffle: bool = True,
        lanes: int = 0,
        name: str | None = None,
        verbose: int = 1,
        client: Client | None = None,
    ) -> History:
        """Train on the cluster and wait for it; the result is committed as the next version of the model `name`.

        Args:
            rows: A table or a query of the cluster, or a frame. A frame is uploaded for the time of the training as
                ``temporary-<model>-training-<random>``, the name that the model's lineage then shows; to train on data
                that stays, ``put`` it first.
            label: The column to predict: numbers for a regression, any type for classes.
            features: Columns that the model may read; every other column when left out.
            pipeline: Transforms, fitted on the training rows; saved and applied with the model wherever it answers.
            epochs: Passes over the rows, 1 to 1,000,000.
            batch_size: Rows of one step, over all servers together; 1 to 16,777,216.
            validation_split: This share of the rows is held out and measured after every epoch.
            validation_data: Instead, a table, query or frame to measure.
            seed: Decides the initial weights, the order and the dropout; 0 to 2**64 - 1. The same seed and data give the
                same bits on any number of servers. A random one is drawn when left out; ``describe().seed`` of the model
                tells.
            sample_weight: A column of row weights for the loss.
            class_weight: Weight of a class in the loss, as ``dict(zip(numpy.unique(y), weights))`` makes it; classes not
                named weigh 1.
            callbacks: At most one :class:`volary.callbacks.EarlyStopping`.
            shuffle: Meet the rows in a new order every epoch.
            lanes: Parts of a minibatch that are summed in a fixed order, a power of two up to 256; 0 leaves it to the server.
            name: The model on the cluster; this object's name when left out.
            verbose: 0 nothing, 1 a progress bar, 2 a line per epoch.
            client: The connection for a frame; the newest of :func:`volary.connect` when left out.

        Answers the history of losses and metrics. Ctrl-C cancels the job on the cluster.
        """
        if self._loss is None:
            raise RuntimeError("the model is not compiled; call compile(optimizer=, loss=, metrics=) first")
        if validation_split is not None and validation_data is not None:
            raise TypeError("give validation_split or validation_data, not both")
        stopping = [each.to_json() for each in callbacks if isinstance(each, EarlyStopping)]
        if len(stopping) != len(callbacks) or len(stopping) > 1:
            raise TypeError("callbacks takes one volary.callbacks.EarlyStopping at most")
        if features is not None and not _names("features", features):
            raise InvalidArgumentError(
                "features is empty; name at least one column, or leave it out for every column but the label"
            )
        epochs = _whole("epochs", epochs, 1, EPOCHS_MAX)
        batch_size = _whole("batch_size", batch_size, 1, BATCH_SIZE_MAX)
        lanes = _whole("lanes", lanes, 0, LANES_MAX)
        validation_split = plain(validation_split, "validation_split")
        if validation_split is not None and not 0 < validation_split < 1:
            raise InvalidArgumentError(
                f"validation_split is {validation_split}; give a number between 0 and 1, both excluded"
            )
        weights = {
            _class_text(key): float(plain(weight, f"class_weight of {key}"))
            for key, weight in (class_weight or {}).items()
        }
        seed = secrets.randbits(32) if seed is None else _whole("seed", seed, 0, SEED_MAX)
        connection = client or _client_of(rows, validation_data)
        steps = pipeline if isinstance(pipeline, Pipeline) else Pipeline(pipeline or ())
        with contextlib.ExitStack() as sources:
            request: dict[str, Any] = {
                "name": name or self.name,
                "source": sources.enter_context(connection.sourced(rows, f"{name or self.name}-training")),
                "label": label,
                "features": [] if features is None else _names("features", features),
                "pipeline": steps.to_json(),
                "model": {**self.to_json(), "name": name or self.name},
                "loss": self._loss,
                "optimizer": self._optimizer,
                "metrics": self._metrics,
                "epochs": epochs,
                "batchSize": batch_size,
                "seed": str(seed),
                "lanes": lanes,
                "shuffle": shuffle,
                "classWeight": weights,
            }
            if validation_split is not None:
                request["validationSplit"] = validation_split
            if validation_data is not None:
                purpose = f"{name or self.name}-validation"
                request["validationSource"] = sources.enter_context(connection.sourced(validation_data, purpose))
            if stopping:
                request["earlyStopping"] = stopping[0]
            if sample_weight is not None:
                request["sampleWeight"] = sample_weight
            job = connection.train(request)
            done = job.wait(verbose, "epoch")
        self._served = connection.model(name or self.name, done.version or None)
        self.history = job.history()
        return self.history

    # -- answers ----------------------------------------------------------------------------------------------

    @property
    def served(self) -> ServedModel:
        """The committed version that ``fit`` made."""
        if self._served is None:
            raise RuntimeError("the model is not trained; call fit first, or take one from client.model(name)")
        return self._served

    def predict(self, rows: Any, keep: Sequence[str] = ()) -> Any:
        """Answer columns for `rows` by the version that ``fit`` made; see :meth:`volary.ServedModel.predict`."""
        return self.served.predict(rows, keep)

    def evaluate(
        self,
        rows: Any,
        metrics: Iterable[str | Mapping[str, Any] | Metric | type[Metric]] = (),
        *,
        sample_weight: str | None = None,
    ) -> dict[str, float]:
        """Loss and metrics over labelled rows; see :meth:`volary.ServedModel.evaluate`."""
        return self.served.evaluate(rows, metrics, sample_weight=sample_weight)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})\n" + "\n".join(f"    {layer}" for layer in self.layers)


def _ordered(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Every tensor that the outputs depend on, each once, what is read before what reads it."""
    order: list[Tensor] = []
    seen: set[int] = set()
    waiting = [(tensor, False) for tensor in reversed(outputs)]
    while waiting:
        tensor, ready = waiting.pop()
        if ready:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            waiting.append((tensor, True))
            needed = tensor.inputs if tensor.first is None else (tensor.first,)
            waiting.extend((each, False) for each in reversed(needed))
    return order


def _kind(layer: Layer) -> str:
    if isinstance(layer, InputLayer):
        return "Input"
    return "Lambda" if hasattr(layer, "call") else type(layer).__name__


def _config(tensor: Tensor) -> dict[str, Any]:
    config = tensor.layer.get_config()
    return config if tensor.program is None else {**config, "program": tensor.program}


def _title(layer: Layer) -> str:
    """What a layer without a name is called after: its kind, its own class, or the function that it is."""
    own = type(layer).__name__ if hasattr(layer, "call") else _kind(layer)
    return getattr(layer, "title", None) or own


def _named(layers: Sequence[Layer]) -> list[str]:
    """Names given, else the kind in snake case, numbered from the second on."""
    if len({id(layer) for layer in layers}) != len(layers):
        raise ValueError("a layer is used twice; shared layers are not supported, make two layers")
    taken = {layer.name for layer in layers if layer.name is not None}
    names = []
    for layer in layers:
        if layer.name is not None:
            names.append(layer.name)
            continue
        base = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", _title(layer)).lower()
        name, number = base, 0
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        names.append(name)
    return names


def _whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in range; NumPy's integers are whole numbers too."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise InvalidArgumentError(f"{name} is {value!r}; give a whole number from {low} to {high}")
    return number


def _class_text(key: Any) -> str:
    """A class as the servers write it: true, false, an integer, or its text; NumPy's kinds of these included.

    >>> import numpy
    >>> [_class_text(key) for key in (True, numpy.False_, 1, numpy.int64(2), 3.0, "a", numpy.str_("b"))]
    ['true', 'false', '1', '2', '3', 'a', 'b']
    """
    key = plain(key, "a class of class_weight")
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    return str(key).lower() if isinstance(key, bool) else str(key)


def _client_of(*rows: Any) -> Client:
    from ..client import newest_client

    for each in rows:
        if isinstance(each, Rows):
            return each.client
    return newest_client()
