"""Analytics Zoo's names for the same stages, with its argument order and its defaults for epochs and optimizer.

What differs on purpose: classes count from 0; the minibatch is 32 rows unless told otherwise (1 there); a threshold holds.
``docs/clients/pyspark.md`` has the table of every old setter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .estimator import VolaryEstimator
from .model import VolaryModel

if TYPE_CHECKING:
    from ..model import Model

__all__ = ["NNClassifier", "NNClassifierModel", "NNEstimator", "NNModel"]


class NNModel(VolaryModel):
    """A :class:`VolaryModel` under the older system's name."""


class NNClassifierModel(NNModel):
    """An :class:`NNModel` that tells classes apart; its threshold is :meth:`setThreshold`."""


class NNEstimator(VolaryEstimator):
    """A :class:`VolaryEstimator` with the older system's name and defaults: 50 epochs of SGD at a rate of 0.001.

    Args:
        model: A :class:`volary.Sequential` or :class:`volary.Model`, or its JSON.
        criterion: The loss.
        feature_preprocessing: Feature transforms, as a :class:`volary.Pipeline`.
        params: Any Param by name.
    """

    _answer: type[VolaryModel] = NNModel

    def __init__(
        self,
        model: Model | Mapping[str, Any] | str | None = None,
        criterion: Any = None,
        feature_preprocessing: Any = None,
        **params: Any,
    ) -> None:
        super().__init__(model, criterion, pipeline=feature_preprocessing, **params)
        self._setDefault(maxEpoch=50, learningRate=1e-3, optimMethod={"name": "sgd"})


class NNClassifier(NNEstimator):
    """An :class:`NNEstimator` for classes, which count from 0; its loss is told by the network's last layer when left out."""

    _answer: type[VolaryModel] = NNClassifierModel

    def _check(self) -> None:
        if self._value("loss") is None and self._value("network") is not None:
            self.setLoss(_loss_of(self.getNetwork()))
        super()._check()


def _loss_of(network: Mapping[str, Any]) -> str:
    """Two classes of one unit, or as many as there are units.

    >>> from volary import Sequential, layers
    >>> [_loss_of(Sequential([layers.Dense(units)]).to_json()) for units in (1, 3)]
    ['binary_crossentropy', 'sparse_categorical_crossentropy']
    """
    output = network["outputs"][0].partition(":")[0]
    seen = {layer["name"]: layer for layer in network["layers"]}
    while (layer := seen[output])["layer"] != "Dense" and layer.get("inputs"):
        output = layer["inputs"][0].partition(":")[0]
    return "binary_crossentropy" if layer.get("config", {}).get("units") == 1 else "sparse_categorical_crossentropy"
