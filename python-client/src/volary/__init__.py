"""Volary: stream DataFrames to an Arrow Flight cluster, train networks there, get prediction columns back.

Example, against a server on this machine (``volary serve``)::

    import volary

    client = volary.connect("grpc://127.0.0.1:50051")
    client.put("census", df)
    pipeline = volary.Pipeline([
        volary.features.Impute(["age", "hours"], "median"),
        volary.features.Standardize(["age", "hours"]),
        volary.features.OneHot(["job"]),
    ])
    model = volary.Sequential([
        volary.layers.Dense(64, activation="relu"),
        volary.layers.Dense(1, activation="sigmoid"),
    ])
    model.compile(optimizer=volary.optimizers.Adam(1e-3), loss="binary_crossentropy", metrics=["auc"])
    history = model.fit(client.table("census"), label="income", pipeline=pipeline, epochs=10, name="census")
    answers = client.model("census").predict(new_rows)
"""

import sys as _sys

from . import errors, features, ops, plot
from .client import Client, connect
from .errors import VolaryError
from .features import Pipeline
from .handles import Query, ServedModel, Table
from .jobs import History, JobHandle
from .model import (
    Constant,
    Input,
    Model,
    Parameter,
    Sequential,
    callbacks,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
)
from .uploads import Upload

# `from volary.layers import Dense` works as well as `volary.layers.Dense`.
for _module in (callbacks, initializers, layers, losses, metrics, optimizers, regularizers):
    _sys.modules["volary." + _module.__name__.rpartition(".")[2]] = _module
_sys.modules["volary.optimizers.schedules"] = optimizers.schedules

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Constant",
    "History",
    "Input",
    "JobHandle",
    "Model",
    "Parameter",
    "Pipeline",
    "Query",
    "Sequential",
    "ServedModel",
    "Table",
    "Upload",
    "VolaryError",
    "callbacks",
    "connect",
    "errors",
    "features",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "ops",
    "optimizers",
    "plot",
    "regularizers",
]
