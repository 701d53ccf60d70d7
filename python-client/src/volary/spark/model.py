"""A model of the cluster as a ``pyspark.ml`` Transformer. The network stays on the servers; this holds its name and version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyspark.ml import Model
from pyspark.ml.param import Param
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable

from .._tls import Pem
from ..errors import InvalidArgumentError
from ..listing import ModelVersion
from .params import AnswerParams, _param, _text, _whole
from .scoring import Answer, ServedNetwork, Threshold, plain_answer, scored

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["VolaryModel"]


class VolaryModel(Model, AnswerParams, DefaultParamsReadable, DefaultParamsWritable):
    """Adds the predictions of one version of a model to a DataFrame.

    What :class:`VolaryEstimator` fits, or any model of the cluster: ``VolaryModel("census", server=...)``, whose newest
    version is settled at each ``transform``.

    Args:
        modelName: Its name, or ``census@3``.
        modelVersion: The version; the newest when left out.
        params: Any Param by name, such as ``predictionCol="income"``; each has a setter too.

    ``transform`` keeps every column and the order of the rows, and adds

    - ``predictionCol``: a double; an array of doubles where the network answers several numbers; the class itself where
      classes are text or booleans;
    - ``probabilityCol``, of classifiers: a Vector of one probability for each class, in the classes' sorted order.

    A network of several outputs answers these for each, as in ``prediction_level``.
    """

    modelName: Param[str] = _param("modelName", "the model's name on the cluster", _text("modelName"))
    modelVersion: Param[int] = _param("modelVersion", "its version", _whole("modelVersion", 1))

    #: Metric to its value after each epoch of the training, where ``fit`` made this model; not saved.
    history: Mapping[str, list[float]] | None = None

    def __init__(
        self,
        modelName: str | None = None,
        modelVersion: int | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        tls_root_certs: Pem | None = None,
        cert_chain: Pem | None = None,
        private_key: Pem | None = None,
        disable_server_verification: bool = False,
        override_hostname: str | None = None,
        **params: Any,
    ) -> None:
        super().__init__()
        self.setConnection(
            headers=headers, tls_root_certs=tls_root_certs, cert_chain=cert_chain, private_key=private_key,
            disable_server_verification=disable_server_verification, override_hostname=override_hostname,
        )  # fmt: skip
        self._given({"modelName": modelName, "modelVersion": modelVersion, **params})

    def getModelName(self) -> str:
        """The model's name on the cluster."""
        return self.getOrDefault(self.modelName)

    def getModelVersion(self) -> int | None:
        """Its version; ``None``: the newest."""
        return self.getOrDefault(self.modelVersion) if self.isSet(self.modelVersion) else None

    def describe(self) -> ModelVersion:
        """Everything about the version: columns, label, classes, metrics, lineage, network, pipeline."""
        with self._servers().client() as client:
            return client.model(self.getModelName(), self.getModelVersion()).describe()

    def _transform(self, dataset: DataFrame) -> DataFrame:
        servers = self._servers()
        with servers.client() as client:
            network = ServedNetwork.of(servers, client, self.getModelName(), self.getModelVersion())
        return scored(dataset, network, self._renamed(network), self._answers(network), self._cut(network))

    def _renamed(self, network: ServedNetwork) -> dict[str, str]:
        """The one input that the DataFrame calls otherwise."""
        features = self._features()
        if self.isSet(self.featuresCol) and len(features) == 1 and len(network.inputs) == 1:
            return {network.inputs[0]: features[0]}
        return {}

    def _answers(self, network: ServedNetwork) -> list[Answer]:
        answers = []
        for answered in network.answers:
            what, _, output = answered.name.partition("_")
            behind = f"_{output}" if output else ""
            if what == "prediction":
                answers.append(plain_answer(answered, self.getPredictionCol() + behind))
            elif self.getProbabilityCol():
                answers.append(Answer(answered.name, self.getProbabilityCol() + behind, "vector", answered.type))
        return answers

    def _cut(self, network: ServedNetwork) -> Threshold | None:
        if not self.isSet(self.threshold):
            return None
        if len(network.classes) != 2 or "probability" not in network.answers.names:
            raise InvalidArgumentError(
                f'model "{network.model}" does not tell two classes apart, so it has no threshold; clear it'
            )
        return Threshold(self.getThreshold(), (network.classes[0], network.classes[1]))

    def __repr__(self) -> str:
        version = self.getModelVersion()
        return f"{type(self).__name__}({self.getModelName()!r}{'' if version is None else f', modelVersion={version}'})"
