"""PySpark: DataFrames to and from a cluster, and its networks as ``pyspark.ml`` Estimators and Transformers.

Example, with a server on this machine::

    from volary import Sequential, layers
    from volary.spark import VolaryEstimator, read_dataframe, write_dataframe

    write_dataframe(df, "census", server="grpc://127.0.0.1:50051")
    people = read_dataframe(spark, "census")

    network = Sequential([layers.Dense(16, activation="relu"), layers.Dense(1, activation="sigmoid")])
    estimator = VolaryEstimator(network, loss="binary_crossentropy", labelCol="label", maxEpoch=5)
    model = estimator.fit(df)
    model.transform(df).select("label", "prediction", "probability").show()

Executors need ``volary`` and ``pyarrow``; this package is imported by name there, so names are found when they are asked
for, and pyspark.ml is not imported where only rows are moved. The page for users is ``docs/clients/pyspark.md``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classic import NNClassifier, NNClassifierModel, NNEstimator, NNModel
    from .estimator import VolaryEstimator
    from .jvm import jar
    from .model import VolaryModel
    from .reading import VolaryDataSource, read_dataframe, register
    from .scoring import predict_udf
    from .writing import write_dataframe

__all__ = [
    "NNClassifier",
    "NNClassifierModel",
    "NNEstimator",
    "NNModel",
    "VolaryDataSource",
    "VolaryEstimator",
    "VolaryModel",
    "jar",
    "predict_udf",
    "read_dataframe",
    "register",
    "write_dataframe",
]

_HOMES = {
    "NNClassifier": "classic",
    "NNClassifierModel": "classic",
    "NNEstimator": "classic",
    "NNModel": "classic",
    "VolaryDataSource": "reading",
    "VolaryEstimator": "estimator",
    "VolaryModel": "model",
    "jar": "jvm",
    "predict_udf": "scoring",
    "read_dataframe": "reading",
    "register": "reading",
    "write_dataframe": "writing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
