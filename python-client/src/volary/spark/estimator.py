"""A network as a ``pyspark.ml`` Estimator: its Params become a training job, the job's model a Transformer."""

from __future__ import annotations

import secrets
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pyspark.ml import Estimator
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable, MLWriter

from .._tls import Pem
from ..errors import InvalidArgumentError
from ..jobs import JobHandle
from .fitting import Preparation, SharedRows, train, whole_labels
from .model import VolaryModel
from .params import TrainingParams
from .servers import Servers

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from ..model import Model

__all__ = ["VolaryEstimator"]


class VolaryEstimator(Estimator[VolaryModel], TrainingParams, DefaultParamsReadable, DefaultParamsWritable):
    """Trains a network of the cluster on a DataFrame.

    Args:
        network: A :class:`volary.Sequential` or :class:`volary.Model` of one output, or its JSON.
        loss: As :meth:`volary.Model.compile` takes it.
        params: Any Param by name, such as ``labelCol="income"``; each has a setter too.

    ``fit`` streams the partitions side by side into a temporary dataset, trains on all servers, and removes the dataset, also
    when something fails. Ctrl-C cancels the job; when the driver is killed, the servers cancel it after a minute. Classes
    count from 0; labels that are doubles must be whole numbers where the loss is one over classes.
    """

    #: A DataFrame to measure after every epoch; see :meth:`setValidation`.
    validation: DataFrame | None = None
    #: The job of the last fit on this very object, whether it ended well or not.
    job: JobHandle | None = None

    _answer: type[VolaryModel] = VolaryModel

    def __init__(
        self,
        network: Model | Mapping[str, Any] | str | None = None,
        loss: Any = None,
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
        self._given({"network": network, "loss": loss, **params})

    def setValidation(self, validation: float | DataFrame | None, metrics: Sequence[Any] | None = None) -> Self:
        """What to measure after every epoch: a share of the rows that is held out, or a DataFrame; ``None``: nothing.

        `metrics` are set too when they are given.
        """
        self.clear(self.validationFraction)
        self.validation = None
        if isinstance(validation, int | float):
            self._set(validationFraction=validation)
        elif validation is not None:
            if not hasattr(validation, "mapInArrow"):
                raise TypeError(
                    f"validation is of type {type(validation).__name__}; give a share of the rows, or a DataFrame"
                )
            self.validation = validation
        return self if metrics is None else self.setMetrics(metrics)

    # -- training ---------------------------------------------------------------------------------------------------

    def _fit(self, dataset: DataFrame) -> VolaryModel:
        return self._fit_on(dataset, SharedRows(1))

    def fitMultiple(self, dataset: DataFrame, paramMaps: Sequence[Any]) -> Iterator[tuple[int, VolaryModel]]:
        """A model for each of `paramMaps`, as they are asked for; they share what is uploaded of `dataset`."""
        maps = list(paramMaps)
        stages = [self.copy(params) for params in maps]
        shared = SharedRows(len(stages))

        def fit(index: int) -> VolaryModel:
            stage = stages[index]
            return stage._fit_on(dataset, shared if stage.getOrDefault(stage.cachingSample) else SharedRows(1))

        return _Fits(fit, len(stages), shared)

    def _fit_on(self, dataset: DataFrame, shared: SharedRows) -> VolaryModel:
        self._check()
        servers = self._servers()
        with shared.fit():
            prepared = self._preparation(dataset)
            request = self._request()
            made = [shared.dataset(dataset, servers, f"{self.uid}-training", prepared)]
            request["source"] = {"table": made[0]}
            if self.validation is not None:
                held = shared.dataset(
                    self.validation, servers, f"{self.uid}-validation", self._preparation(self.validation)
                )
                request["validationSource"] = {"table": held}
                made.append(held)
            verbose = self.getOrDefault(self.verbose)
            try:
                done, history = train(servers, request, verbose, self._heard, made if shared.alone else ())
            finally:
                if self.job is not None:  # the connection of the fit is closed; this one is made when it is asked for
                    url = self.job._transport.url
                    self.job = Servers((url,), servers.headers, servers.tls).client().job(self.job.id)
        model = self._answer(request["name"], int(done.version))
        model._resetUid(self.uid)
        self._copyValues(model)
        model.setConnection(headers=self.headers, **(self.tls or {}))
        model.history = history.history
        return model

    def _heard(self, job: JobHandle) -> None:
        self.job = job

    def _check(self) -> None:
        for name, setter in (("network", "setNetwork"), ("loss", "setLoss")):
            if self._value(name) is None:
                raise InvalidArgumentError(
                    f"{self.uid} has no {name}; call {setter}, or give it to {type(self).__name__}"
                )
        if self.validation is not None and self._value("validationFraction") is not None:
            raise InvalidArgumentError("validation is a DataFrame and validationFraction is set too; give one of them")

    def _preparation(self, df: DataFrame) -> Preparation:
        others = [self.getLabelCol(), *([weight] if (weight := self._value("weightCol")) else [])]
        if self.getLabelCol() in self._features():
            raise InvalidArgumentError(f'the label "{self.getLabelCol()}" is among the features; name other features')
        whole = whole_labels(df.schema, self.getLabelCol(), self._value("loss"))
        return Preparation(tuple(self._features()), tuple(others), frozenset(whole))

    def _request(self) -> dict[str, Any]:
        """The Train message, but for its sources."""
        name = self._value("modelName") or self.uid
        request: dict[str, Any] = {
            "name": name,
            "label": self.getLabelCol(),
            "features": self._features(),
            "pipeline": self._value("pipeline") or [],
            "model": {**self.getNetwork(), "name": name},
            "loss": self._value("loss"),
            "metrics": self._value("metrics"),
            "optimizer": self._optimizer_json(),
            "epochs": self.getMaxEpoch(),
            "batchSize": self.getBatchSize(),
        }
        seed = self._value("seed")
        request["seed"] = str(secrets.randbits(32) if seed is None else seed)
        if (fraction := self._value("validationFraction")) is not None:
            request["validationSplit"] = fraction
        if (stopping := self._value("earlyStopping")) is not None:
            request["earlyStopping"] = stopping
        if (every := self._value("checkpointEvery")) is not None:
            request["checkpoints"] = {"every": every, "keep": 1}
        if (weight := self._value("weightCol")) is not None:
            request["sampleWeight"] = weight
        return request

    # -- saving -----------------------------------------------------------------------------------------------------

    def write(self) -> MLWriter:
        """The writer of every Param; headers and certificates are not saved."""
        if self.validation is not None:
            raise InvalidArgumentError(
                f"{self.uid} has a DataFrame to validate on, which cannot be saved; call setValidation(None), or give a share "
                "of the rows"
            )
        return super().write()


class _Fits:
    """Models in the order in which they are asked for, from several threads if need be."""

    def __init__(self, fit: Any, count: int, shared: SharedRows) -> None:
        self._fit = fit
        self._numbers = iter(range(count))
        self._lock = threading.Lock()
        # A search that is broken off leaves fits that never begin; their rows go with this object.
        weakref.finalize(self, shared.drop)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, VolaryModel]:
        with self._lock:
            number = next(self._numbers)
        return number, self._fit(number)
