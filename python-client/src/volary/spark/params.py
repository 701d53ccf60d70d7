"""The settings of estimators and models as ``pyspark.ml`` Params: what each may be, and its setter and getter.

A value is checked where it is set and kept as JSON has it, so that every stage can be copied, searched over and saved.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, Unpack

from pyspark.ml.param import Param, Params

from .._tls import TlsOptions
from ..callbacks import EarlyStopping
from ..features import Pipeline, Transform
from ..losses import Loss
from ..metrics import Metric
from ..model import Model
from ..model.losses import described
from ..optimizers import Optimizer, schedules
from .servers import DEFAULT, Servers

__all__ = ["AnswerParams", "ServerParams", "TrainingParams"]


def _whole(name: str, low: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None or isinstance(value, bool) or number < low:
            raise TypeError(f"{name} is {value!r}; give a whole number from {low} on")
        return number

    return check


def _number(name: str, holds: Callable[[float], bool], words: str) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and holds(number)) or isinstance(value, bool | str):
            raise TypeError(f"{name} is {value!r}; give {words}")
        return number

    return check


def _text(name: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{name} is of type {type(value).__name__}; give a text")
        return str(value)

    return check


def _columns(value: Any) -> str | list[str]:
    if isinstance(value, str):
        return value
    if (
        not isinstance(value, Iterable)
        or not (names := list(value))
        or not all(isinstance(name, str) for name in names)
    ):
        raise TypeError(f"featuresCol is {value!r}; give a column's name, or a list of names")
    return [str(name) for name in names]


def _servers(value: Any) -> str:
    return ",".join(Servers.of(value).urls)


def _network(value: Any) -> dict[str, Any]:
    if isinstance(value, Model):
        value = value.to_json()
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Mapping) or "layers" not in value:
        raise TypeError("network is no network; give a volary.Sequential or volary.Model, or the JSON of its to_json()")
    if len(value.get("outputs", ())) > 1:
        raise TypeError(
            f"network has {len(value['outputs'])} outputs; an estimator trains one, on one label: write_dataframe and "
            "volary.Model.fit train several, and VolaryModel answers them"
        )
    return json.loads(json.dumps(value))  # type: ignore[no-any-return]


def _pipeline(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, Pipeline):
        return value.to_json()
    return [each.to_json() if isinstance(each, Transform) else dict(each) for each in value]


def _optimizer(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    kinds: dict[str, type[Optimizer]] = {kind.name: kind for kind in Optimizer.__subclasses__()}
    if isinstance(value, str):
        if value.lower() not in kinds:
            raise TypeError(f'unknown optimizer "{value}"; there are {", ".join(kinds)}')
        # A rate of its own is left to setLearningRate, or to the default.
        return {"name": value.lower()}
    if isinstance(value, type) and issubclass(value, Optimizer):
        return {"name": value.name}
    if not isinstance(value, Optimizer):
        raise TypeError(f"optimMethod is of type {type(value).__name__}; give one of volary.optimizers, or its name")
    return value.to_json()


def _early_stopping(value: Any) -> dict[str, Any]:
    if isinstance(value, EarlyStopping):
        return value.to_json()
    if not isinstance(value, Mapping):
        raise TypeError(f"earlyStopping is of type {type(value).__name__}; give a volary.callbacks.EarlyStopping")
    return dict(value)


def _param(name: str, doc: str, check: Callable[[Any], Any]) -> Any:
    return Param(Params._dummy(), name, doc, typeConverter=check)


class ServerParams(Params):
    """Where the cluster is. Headers and certificates are no Params, because what is saved should hold no secrets."""

    server: Param[str] = _param("server", "the cluster: one address, or several with commas between", _servers)

    #: Sent with every call; not saved.
    headers: Mapping[str, str] | None = None
    #: Certificates, by the names that :func:`volary.connect` has for them; not saved.
    tls: TlsOptions | None = None

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(server=DEFAULT)

    def setServer(self, value: str | Sequence[str]) -> Self:
        """The cluster: one address, several with commas between, or a list."""
        return self._set(server=value)  # type: ignore[return-value]

    def getServer(self) -> str:
        """The addresses, with commas between."""
        return self.getOrDefault(self.server)

    def setConnection(self, *, headers: Mapping[str, str] | None = None, **tls: Unpack[TlsOptions]) -> Self:
        """Headers to send with every call, and certificates (``tls_root_certs``, ``cert_chain``, ``private_key``,
        ``disable_server_verification``, ``override_hostname``); set them again on a stage that was loaded."""
        self.headers, self.tls = headers, tls
        return self

    def _servers(self) -> Servers:
        return Servers.of(self.getServer(), self.headers, **(self.tls or {}))

    def _given(self, given: Mapping[str, Any]) -> None:
        """Set what a constructor was given by name."""
        for name, value in given.items():
            if not self.hasParam(name):
                known = ", ".join(sorted(param.name for param in self.params))
                raise TypeError(f"{type(self).__name__} has no parameter {name!r}; there are {known}")
            if value is not None:
                self._set(**{name: value})


class AnswerParams(ServerParams):
    """The columns that a model reads and those that it adds."""

    featuresCol: Param[Any] = _param("featuresCol", "the column or columns that the network reads", _columns)
    predictionCol: Param[str] = _param("predictionCol", "the column of predictions", _text("predictionCol"))
    probabilityCol: Param[str] = _param(
        "probabilityCol", "the column of the classes' probabilities; empty: none", _text("probabilityCol")
    )
    threshold: Param[float] = _param(
        "threshold",
        "of two classes the second is predicted where its probability is above",
        _number("threshold", lambda each: 0 <= each <= 1, "a number from 0 to 1"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(featuresCol="features", predictionCol="prediction", probabilityCol="probability")

    def setFeaturesCol(self, value: str | Sequence[str]) -> Self:
        """The column that the network reads, or a list of them: numbers, booleans, arrays, Vectors; any with a pipeline."""
        return self._set(featuresCol=value)  # type: ignore[return-value]

    def getFeaturesCol(self) -> str | list[str]:
        """The column or columns, as they were given."""
        return self.getOrDefault(self.featuresCol)  # type: ignore[no-any-return]

    def setPredictionCol(self, value: str) -> Self:
        """The column of predictions: a double, an array of doubles where there are several, or a class that is text."""
        return self._set(predictionCol=value)  # type: ignore[return-value]

    def getPredictionCol(self) -> str:
        """The column of predictions."""
        return self.getOrDefault(self.predictionCol)

    def setProbabilityCol(self, value: str) -> Self:
        """The column of the classes' probabilities, a Vector; an empty text leaves it out."""
        return self._set(probabilityCol=value)  # type: ignore[return-value]

    def getProbabilityCol(self) -> str:
        """The column of probabilities."""
        return self.getOrDefault(self.probabilityCol)

    def setThreshold(self, value: float) -> Self:
        """Of two classes the second is predicted where its probability is above; one half when not set."""
        return self._set(threshold=value)  # type: ignore[return-value]

    def getThreshold(self) -> float:
        """The threshold; one half when not set."""
        return self.getOrDefault(self.threshold) if self.isSet(self.threshold) else 0.5

    def _features(self) -> list[str]:
        given = self.getFeaturesCol()
        return [given] if isinstance(given, str) else given


class TrainingParams(AnswerParams):
    """How a network is trained."""

    network: Param[Any] = _param("network", "the network: a volary.Model, or its JSON", _network)
    pipeline: Param[Any] = _param("pipeline", "feature transforms: a volary.Pipeline, or its JSON", _pipeline)
    loss: Param[Any] = _param(
        "loss", "the loss, as volary.Model.compile takes it", lambda each: described("loss", each, Loss)
    )
    metrics: Param[Any] = _param(
        "metrics",
        "metrics to report, as volary.Model.compile takes them",
        lambda each: [described("a metric", metric, Metric) for metric in ([each] if isinstance(each, str) else each)],
    )
    labelCol: Param[str] = _param("labelCol", "the column to predict; classes count from 0", _text("labelCol"))
    weightCol: Param[str] = _param("weightCol", "a column of non-negative row weights for the loss", _text("weightCol"))
    batchSize: Param[int] = _param("batchSize", "rows of one step, over all servers together", _whole("batchSize", 1))
    maxEpoch: Param[int] = _param("maxEpoch", "passes over the rows", _whole("maxEpoch", 1))
    learningRate: Param[float] = _param(
        "learningRate",
        "in place of the optimizer's",
        _number("learningRate", lambda each: each > 0, "a number above 0"),
    )
    learningRateDecay: Param[float] = _param(
        "learningRateDecay",
        "the rate at step n is learningRate / (1 + n * learningRateDecay)",
        _number("learningRateDecay", lambda each: each >= 0, "a number from 0 on"),
    )
    optimMethod: Param[Any] = _param("optimMethod", "the optimizer: one of volary.optimizers, or its name", _optimizer)
    constantGradientClipping: Param[float] = _param(
        "constantGradientClipping",
        "every number of the gradient is cut to plus or minus this",
        _number("constantGradientClipping", lambda each: each > 0, "a number above 0"),
    )
    gradientClippingByL2Norm: Param[float] = _param(
        "gradientClippingByL2Norm",
        "the gradient is scaled down to this norm where it is larger",
        _number("gradientClippingByL2Norm", lambda each: each > 0, "a number above 0"),
    )
    validationFraction: Param[float] = _param(
        "validationFraction",
        "this share of the rows is held out and measured after every epoch",
        _number("validationFraction", lambda each: 0 < each < 1, "a number between 0 and 1, both excluded"),
    )
    earlyStopping: Param[Any] = _param("earlyStopping", "a volary.callbacks.EarlyStopping", _early_stopping)
    checkpointEvery: Param[int] = _param(
        "checkpointEvery",
        "epochs between checkpoints, from which fit goes on when a server is lost",
        _whole("checkpointEvery", 1),
    )
    cachingSample: Param[bool] = _param(
        "cachingSample", "whether the fits of one fitMultiple share the rows that are uploaded", bool
    )
    seed: Param[int] = _param("seed", "decides initial weights, order and dropout", _whole("seed", 0))
    modelName: Param[str] = _param("modelName", "the model's name on the cluster", _text("modelName"))
    verbose: Param[int] = _param("verbose", "0 nothing, 1 a progress bar, 2 a line per epoch", _whole("verbose", 0))

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(labelCol="label", batchSize=32, maxEpoch=10, metrics=[], cachingSample=True, verbose=0)
        self._setDefault(optimMethod={"name": "adam"})

    # Setters, in the order above; each answers the stage.

    def setNetwork(self, value: Model | Mapping[str, Any] | str) -> Self:
        """The network; of one output."""
        return self._set(network=value)  # type: ignore[return-value]

    def getNetwork(self) -> dict[str, Any]:
        """The network as JSON has it."""
        return self.getOrDefault(self.network)  # type: ignore[no-any-return]

    def setPipeline(self, value: Pipeline | Iterable[Transform | Mapping[str, Any]]) -> Self:
        """Feature transforms that the cluster fits on the training rows and applies wherever the model answers."""
        return self._set(pipeline=value)  # type: ignore[return-value]

    def setLoss(self, value: Any) -> Self:
        """The loss (the older system's criterion): a name, or one of volary.losses."""
        return self._set(loss=value)  # type: ignore[return-value]

    def setMetrics(self, value: Iterable[Any]) -> Self:
        """Metrics to report: names, or objects of volary.metrics."""
        return self._set(metrics=value)  # type: ignore[return-value]

    def setLabelCol(self, value: str) -> Self:
        """The column to predict. Classes are text, booleans or whole numbers, which count from 0."""
        return self._set(labelCol=value)  # type: ignore[return-value]

    def getLabelCol(self) -> str:
        """The column to predict."""
        return self.getOrDefault(self.labelCol)

    def setWeightCol(self, value: str) -> Self:
        """A column of non-negative row weights for the loss."""
        return self._set(weightCol=value)  # type: ignore[return-value]

    def setBatchSize(self, value: int) -> Self:
        """Rows of one step, over all servers together; any number will do."""
        return self._set(batchSize=value)  # type: ignore[return-value]

    def getBatchSize(self) -> int:
        """Rows of one step."""
        return self.getOrDefault(self.batchSize)

    def setMaxEpoch(self, value: int) -> Self:
        """Passes over the rows."""
        return self._set(maxEpoch=value)  # type: ignore[return-value]

    def getMaxEpoch(self) -> int:
        """Passes over the rows."""
        return self.getOrDefault(self.maxEpoch)

    def setLearningRate(self, value: float) -> Self:
        """The learning rate, in place of the optimizer's."""
        return self._set(learningRate=value)  # type: ignore[return-value]

    def setLearningRateDecay(self, value: float) -> Self:
        """The rate at step n is learningRate / (1 + n * decay)."""
        return self._set(learningRateDecay=value)  # type: ignore[return-value]

    def setOptimMethod(self, value: Any) -> Self:
        """The optimizer: one of volary.optimizers, or its name."""
        return self._set(optimMethod=value)  # type: ignore[return-value]

    def setConstantGradientClipping(self, lowest: float, highest: float | None = None) -> Self:
        """Cut every number of the gradient to this range, which is the same on both sides of 0: (-c, c), or c alone."""
        limit = lowest if highest is None else highest
        if highest is not None and lowest != -highest:
            raise ValueError(
                f"gradients are cut to {lowest} and {highest}; give a range that is the same on both sides of 0"
            )
        self.clear(self.gradientClippingByL2Norm)
        return self._set(constantGradientClipping=limit)  # type: ignore[return-value]

    def setGradientClippingByL2Norm(self, value: float) -> Self:
        """Scale the gradient of the whole network down to this norm where it is larger."""
        self.clear(self.constantGradientClipping)
        return self._set(gradientClippingByL2Norm=value)  # type: ignore[return-value]

    def clearGradientClipping(self) -> Self:
        """Leave gradients as they are."""
        self.clear(self.constantGradientClipping)
        self.clear(self.gradientClippingByL2Norm)
        return self

    def setEarlyStopping(self, value: EarlyStopping) -> Self:
        """End when a column of the history has not become better for some epochs."""
        return self._set(earlyStopping=value)  # type: ignore[return-value]

    def setCheckpoint(self, every: int = 1) -> Self:
        """Keep a checkpoint in the cluster's store every so many epochs.

        When a server is lost, ``fit`` goes on from the newest one on those that are left, to the same weights as if
        nothing had happened. Checkpoints are dropped when ``fit`` ends.
        """
        return self._set(checkpointEvery=every)  # type: ignore[return-value]

    def setCachingSample(self, value: bool) -> Self:
        """Whether the fits over one DataFrame in CrossValidator and TrainValidationSplit share one upload of its rows."""
        return self._set(cachingSample=value)  # type: ignore[return-value]

    def setSeed(self, value: int) -> Self:
        """Decides initial weights, the order of rows and dropout; a random one is drawn for every fit when not set."""
        return self._set(seed=value)  # type: ignore[return-value]

    def setModelName(self, value: str) -> Self:
        """The model's name on the cluster, of which every fit commits a version; the stage's uid when not set."""
        return self._set(modelName=value)  # type: ignore[return-value]

    def setVerbose(self, value: int) -> Self:
        """0 nothing, 1 a progress bar, 2 a line per epoch."""
        return self._set(verbose=value)  # type: ignore[return-value]

    # -- what is made of them ---------------------------------------------------------------------------------------

    def _value(self, name: str) -> Any:
        """A parameter's value, ``None`` when it has none."""
        param = self.getParam(name)
        return self.getOrDefault(param) if self.isDefined(param) else None

    def _optimizer_json(self) -> dict[str, Any]:
        """The optimizer of a Train request."""
        given = dict(self.getOrDefault(self.optimMethod))
        if (rate := self._value("learningRate")) is not None:
            given["learning_rate"] = rate
        if decay := self._value("learningRateDecay"):
            rate = given.get("learning_rate", _default_rate(given["name"]))
            if not isinstance(rate, float | int):
                raise ValueError("learningRateDecay is set beside an optimizer with a schedule; give one of them")
            schedule = schedules.InverseTimeDecay(rate, decay_steps=1, decay_rate=decay)
            given["learning_rate"] = schedules.rate_json(schedule)
        for name, option in (
            ("constantGradientClipping", "clipvalue"),
            ("gradientClippingByL2Norm", "global_clipnorm"),
        ):
            if (limit := self._value(name)) is not None:
                given[option] = limit
        return given


def _default_rate(name: str) -> Any:
    kind = next(kind for kind in Optimizer.__subclasses__() if kind.name == name)
    return kind().get_config()["learning_rate"]
