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
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import _html, _interrupts
from .._commands import plain
from ..errors import InvalidArgumentError
from ..features import Pipeline, Transform
from ..handles import Rows, ServedModel, Summary, _names
from ..jobs import LEASE_SECONDS, owned
from .callbacks import Checkpoint, EarlyStopping, ReduceLROnPlateau
from .graph import Tensor, again, named, ordered, tensors_of
from .layers import InputLayer, Layer
from .metrics import Metric
from .optimizers import Optimizer
from .outputs import LossOfOutput, OutputTraining, compiled, request_of
from .summary import parameter_count, table

if TYPE_CHECKING:
    from ..client import Client
    from ..jobs import History, JobHandle

__all__ = ["Model"]

FORMAT_VERSION = 1
# The servers' own limits, checked here so that nothing is uploaded for a request that cannot be.
EPOCHS_MAX = 1_000_000
BATCH_SIZE_MAX = 1 << 24
LANES_MAX = 256
SEED_MAX = (1 << 64) - 1
LEASE_SECONDS_MAX = (1 << 32) - 1
_OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in Optimizer.__subclasses__()}

#: Field of the request that each callback is.
_CALLBACKS: dict[type, str] = {
    EarlyStopping: "earlyStopping",
    Checkpoint: "checkpoints",
    ReduceLROnPlateau: "reduceOnPlateau",
}


class Model:
    """A network from inputs to outputs. Called on tensors it is a layer of another network: see :meth:`__call__`.

    Args:
        inputs: The tensors of :func:`volary.Input`; may be left out, for the outputs know them.
        outputs: The last tensor, or several: each is trained on a label of its own and answered in columns of its own.
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
        known = ordered(self._outputs)
        for tensor in self._inputs:
            if not any(each is tensor for each in known):
                raise ValueError(f"no output depends on the input {tensor.layer}")
        for tensor in known if self._inputs else ():
            if isinstance(tensor.layer, InputLayer) and not any(each is tensor for each in self._inputs):
                raise ValueError(
                    f"the outputs read the input {tensor.layer} too; name it among the inputs, or leave inputs out"
                )
        self._training: list[OutputTraining] | None = None
        self._optimizer: dict[str, Any] = {}
        self._served: ServedModel | None = None
        self.history: History | None = None
        #: The job of the last ``fit``, whether it ended well or not.
        self.job: JobHandle | None = None

    # -- description ------------------------------------------------------------------------------------------

    def _graph(self) -> tuple[Tensor, ...]:
        return self._outputs

    @property
    def output_names(self) -> list[str]:
        """What the outputs are called where ``compile`` and ``fit`` are told of each: the names of their layers."""
        return self.to_json()["outputs"]

    @property
    def layers(self) -> list[Layer]:
        """The layers, inputs before the layers that read them, each once."""
        return list({id(tensor.layer): tensor.layer for tensor in ordered(self._graph())}.values())

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name, as :meth:`to_json` and :meth:`summary` tell it, or at a place of :attr:`layers`.

        >>> from volary import Sequential, layers
        >>> model = Sequential([layers.Dense(8), layers.Dense(1)])
        >>> model.get_layer("dense_1"), model.get_layer(index=0)
        (Dense(units=1), Dense(units=8))
        """
        if (name is None) == (index is None):
            raise ValueError(f"get_layer is given name={name!r} and index={index!r}; give one of them")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ValueError(f"{self.name!r} has {len(self.layers)} layers and none at index {index}")
            return self.layers[index]
        calls = ordered(self._graph())
        known = dict(zip(named(calls), calls, strict=True))
        if name not in known:
            raise ValueError(f"{self.name!r} has no layer {name!r}; there are {', '.join(known)}")
        return known[name].layer

    @property
    def input_shape(self) -> Any:
        """The shape that it reads, a list of them where it reads several; ``None`` stands for what only the servers know."""
        shapes = [tensor.shape for tensor in self.input_tensors()]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        """The shape that it answers, a list of them where it answers several; ``None`` stands for what only the servers know."""
        shapes = [tensor.shape for tensor in self._graph()]
        return shapes[0] if len(shapes) == 1 else shapes

    def count_params(self) -> int | None:
        """How many numbers all its arrays hold; ``None`` where that depends on the data."""
        first = {id(tensor.layer): tensor for tensor in reversed(ordered(self._graph()))}
        counts = [parameter_count(tensor) for tensor in first.values()]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def trainable(self) -> bool:
        """Whether any layer learns; set it to ``False`` to keep the arrays of all of them as they start."""
        return any(layer.trainable for layer in self.layers if not isinstance(layer, InputLayer))

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            if not isinstance(layer, InputLayer):
                layer.trainable = bool(value)

    def __call__(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        """What this network makes of other tensors than its own inputs; called twice, its layers are shared.

        Its layers become the other network's, named after this one. A tuple where it has several outputs.

        >>> from volary import Input, Model, layers
        >>> words = Input(["a"], shape=(4, 2))
        >>> encoder = Model(words, layers.LSTM(3)(words), name="encoder")
        >>> other = Input(["b"], shape=(4, 2))
        >>> both = layers.Concatenate()([encoder(Input(["c"], shape=(4, 2))), encoder(other)])
        >>> [(layer["name"], layer.get("shares")) for layer in Model(outputs=both).to_json()["layers"] if "lstm" in layer["name"]]
        [('encoder.lstm', None), ('encoder.lstm_1', 'encoder.lstm')]
        """
        given = tensors_of(inputs, "a model")
        own = self.input_tensors()
        if len(given) != len(own):
            raise TypeError(f"the model {self.name!r} has {len(own)} inputs and is called on {len(given)}")
        calls = ordered(self._graph())
        made: dict[int, tuple[Tensor, ...]] = {id(tensor): (each,) for tensor, each in zip(own, given, strict=True)}
        for tensor, name in zip(calls, named(calls), strict=True):
            if id(tensor) not in made:
                read = [made[id(each.origin)][each.number] for each in tensor.inputs]
                made[id(tensor)] = again(tensor, tuple(read), f"{self.name}.{name}")
        outputs = tuple(made[id(each.origin)][each.number] for each in self._graph())
        return outputs[0] if len(outputs) == 1 else outputs

    def input_tensors(self) -> tuple[Tensor, ...]:
        """The tensors that it reads: those it was given, else all that its outputs depend on."""
        known = ordered(self._graph())
        return self._inputs or tuple(each for each in known if isinstance(each.layer, InputLayer))

    def to_json(self) -> dict[str, Any]:
        """The description that the servers read."""
        tensors = ordered(self._graph())
        names = dict(zip((id(tensor) for tensor in tensors), named(tensors), strict=True))
        first_of: dict[int, str] = {}

        def reference(tensor: Tensor) -> str:
            name = names[id(tensor.origin)]
            return f"{name}:{tensor.number}" if tensor.number else name

        described = []
        for tensor in tensors:
            name = names[id(tensor)]
            layer = {
                "name": name,
                "layer": tensor.layer.kind(),
                "config": {**tensor.layer.get_config(), **(tensor.options or {})},
                "inputs": [reference(each) for each in tensor.inputs],
            }
            if (shared := first_of.setdefault(id(tensor.layer), name)) != name:
                layer["shares"] = shared
            described.append(layer)
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "layers": described,
            "outputs": [reference(tensor) for tensor in self._graph()],
        }

    def compile(
        self,
        optimizer: str | Optimizer | type[Optimizer] = "adam",
        loss: LossOfOutput | Mapping[str, Any] | Sequence[LossOfOutput] = "mean_squared_error",
        metrics: Iterable[Any] | Mapping[str, Any] = (),
        loss_weights: Mapping[str, float] | Sequence[float] | None = None,
    ) -> None:
        """Say how to train: an optimiser, a loss, and metrics to report. A class stands for its defaults.

        Losses and metrics are objects of volary.losses and volary.metrics, their classes, their names, or dicts of a
        ``name`` and options; or functions of symbolic tensors ``(y_true, y_pred)`` (:mod:`volary.ops`), which are recorded and
        sent as data. A row's loss or metric is the mean of the numbers that the function answers for it; the mean over rows is
        taken by the servers. A metric has the function's name.

        Of several outputs each has its loss (one alone holds for all), its metrics and what its loss is multiplied by in the
        sum: dicts by :attr:`output_names`, or lists in their order. The history then has columns such as ``level_loss`` and
        ``val_kind_accuracy`` beside the sum ``loss``.

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
        shapes = [output.shape for output in self._graph()]
        training = compiled(self.output_names, loss, loss_weights, metrics, shapes)
        self._optimizer = optimizer.to_json()
        self._training = training

    def summary(self) -> str:
        """Layers, shapes and counts of parameters: the server's table once trained, else what is known before.

        >>> from volary import Input, Sequential, layers
        >>> image = Input(["pixels"], shape=(28, 28, 1))
        >>> Sequential([image, layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(10)], name="digits").summary()
        Model "digits"
        Layer (type)       Output shape       Parameters  Connected to
        --------------------------------------------------------------
        input (Input)      (rows, 28, 28, 1)           0
        conv2d (Conv2D)    (rows, 26, 26, 8)          80  input
        flatten (Flatten)  (rows, 5408)                0  conv2d
        dense (Dense)      (rows, 10)              54090  flatten
        Parameters: 54170
        <BLANKLINE>
        """
        if self._served is not None:
            return self._served.summary()
        calls = ordered(self._graph())
        names = dict(zip((id(tensor) for tensor in calls), named(calls), strict=True))
        return Summary(table(self.name, calls, names))

    # -- training ---------------------------------------------------------------------------------------------

    def fit(
        self,
        rows: Any,
        label: str | Mapping[str, str] | Sequence[str],
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
        callbacks: Sequence[EarlyStopping | Checkpoint | ReduceLROnPlateau] = (),
        shuffle: bool = True,
        lanes: int = 0,
        name: str | None = None,
        verbose: int = 1,
        client: Client | None = None,
        lease_seconds: int | None = LEASE_SECONDS,
    ) -> History:
        """Train on the cluster and wait for it; the result is committed as the next version of the model `name`.

        Args:
            rows: A table or a query of the cluster, or a frame. A frame is uploaded for the time of the training as
                ``temporary-<model>-training-<random>``, the name that the model's lineage then shows; to train on data
                that stays, ``put`` it first.
            label: The column to predict: numbers for a regression, any type for classes. Of several outputs one each, as a
                dict by :attr:`output_names` or a list in their order.
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
                named weigh 1. For a model of one output.
            callbacks: At most one each of :class:`volary.callbacks.EarlyStopping`,
                :class:`volary.callbacks.Checkpoint` and :class:`volary.callbacks.ReduceLROnPlateau`.
            shuffle: Meet the rows in a new order every epoch.
            lanes: Parts of a minibatch that are summed in a fixed order, a power of two up to 256; 0 leaves it to the server.
            name: The model on the cluster; this object's name when left out.
            verbose: 0 nothing, 1 a progress bar, 2 a line per epoch.
            client: The connection for a frame; the newest of :func:`volary.connect` when left out.
            lease_seconds: The servers cancel the job when this process is gone for so long without having cancelled it, as when
                it was killed. ``None``: it trains to its end whoever waits for it.

        Answers the history of losses and metrics. Ctrl-C cancels the job on the cluster; a second one does not wait for that.
        """
        if self._training is None:
            raise RuntimeError("the model is not compiled; call compile(optimizer=, loss=, metrics=) first")
        if validation_split is not None and validation_data is not None:
            raise TypeError("give validation_split or validation_data, not both")
        watching = {type(each): each.to_json() for each in callbacks if type(each) in _CALLBACKS}
        if len(watching) != len(callbacks):
            raise TypeError(
                "callbacks takes at most one each of volary.callbacks."
                + ", volary.callbacks.".join(kind.__name__ for kind in _CALLBACKS)
            )
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
        if weights and len(self._training) > 1:
            raise InvalidArgumentError(
                f"class_weight is given and the model has {len(self._training)} outputs; it holds for the classes of one "
                "output alone, so weigh rows by a sample_weight column instead"
            )
        passing = [what for what, given in (("rows", rows), ("validation_data", validation_data)) if _is_frame(given)]
        if passing and Checkpoint in watching:
            raise InvalidArgumentError(
                f"{passing[0]} is a frame, which the cluster has only while fit runs, and a job with a Checkpoint is to go on "
                "later; put it, and give client.table(name)"
            )
        if lease_seconds is not None:
            lease_seconds = _whole("lease_seconds", lease_seconds, 1, LEASE_SECONDS_MAX)
        trained = request_of(self._training, label)
        seed = secrets.randbits(32) if seed is None else _whole("seed", seed, 0, SEED_MAX)
        connection = client or _client_of(rows, validation_data)
        steps = pipeline if isinstance(pipeline, Pipeline) else Pipeline(pipeline or ())
        with _interrupts.tidied(), contextlib.ExitStack() as sources:
            request: dict[str, Any] = {
                "name": name or self.name,
                "source": sources.enter_context(connection.sourced(rows, f"{name or self.name}-training")),
                **trained,
                "features": [] if features is None else _names("features", features),
                "pipeline": steps.to_json(),
                "model": {**self.to_json(), "name": name or self.name},
                "optimizer": self._optimizer,
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
            request.update((_CALLBACKS[kind], form) for kind, form in watching.items())
            if sample_weight is not None:
                request["sampleWeight"] = sample_weight
            if lease_seconds is not None:
                request["leaseSeconds"] = lease_seconds
            made = ((rows, request["source"]), (validation_data, request.get("validationSource")))
            made_for_it = [
                source["table"] for given, source in made if source is not None and not isinstance(given, Rows)
            ]
            if made_for_it:
                request["dropDatasets"] = made_for_it
            with owned(lambda: connection.train(request)) as self.job:
                done = self.job.wait(verbose, "epoch")
        self._served = connection.model(name or self.name, done.version or None)
        self.history = self.job.history()
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

    @_html.shown
    def _repr_html_(self) -> str:
        return _html.preformatted("", self.summary())


def _is_frame(rows: Any) -> bool:
    """Whether they are the client's own, uploaded for the time of a training."""
    return rows is not None and not isinstance(rows, Rows)


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
