"""`transform` inside Spark's JVM: rows go from Spark to the servers, and no Python worker is in between.

The operator is a jar (``python-client/jvm``) that a session has in ``spark.jars``. This file finds it, tells whether a
session can use it, and hands it what it is to do; what a model answers is :mod:`scoring`'s matter.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from .._commands import command, encode
from ..errors import FailedPreconditionError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from .scoring import Answer, ServedNetwork, Threshold

__all__ = ["added", "jar", "usable"]

#: A setting of the session: "false" leaves `transform` to Python workers, though the jar is there.
SETTING = "spark.volary.transform.inJvm"


def jar() -> str:
    """The path of the jar with which a model's ``transform`` runs inside Spark's JVM, for the pyspark that is installed.

    It goes where Spark's jars do: ``SparkSession.builder.config("spark.jars", volary.spark.jar())``.
    """
    import pyspark

    path = Path(__file__).parent / "jars" / f"volary-spark-{pyspark.__version__}.jar"
    if not path.exists():
        raise FailedPreconditionError(
            f"there is no {path}; `make spark-jar` in the repository builds it for the pyspark that is installed there, with "
            "Maven and a JDK (17 or later)"
        )
    return str(path)


def usable(df: DataFrame, network: ServedNetwork, answers: Sequence[Answer]) -> bool:
    """Whether `df` lives in a JVM that has the operator, and this is something that the operator does."""
    if not hasattr(df, "_jdf"):  # Spark Connect: the JVM is elsewhere
        return False
    session = df.sparkSession
    return (
        session.conf.get(SETTING, "true").lower() != "false"
        and all(url.startswith(("grpc://", "grpc+tcp://", "grpc+tls://")) for url in network.servers.urls)
        and all(_known(answer) for answer in answers)
        and _fits(session)
    )


def _known(answer: Answer) -> bool:
    if answer.kind == "as_is":
        return answer.type in (pa.string(), pa.large_string(), pa.bool_())
    listed = pa.types.is_list(answer.type) or pa.types.is_fixed_size_list(answer.type)
    value = answer.type.value_type if listed else answer.type
    return value in (pa.float32(), pa.float64()) or pa.types.is_integer(value)


def _fits(session: SparkSession) -> bool:
    """Whether the jar is there, and is for this Spark, whose plans are another's in every minor version."""
    from py4j.java_gateway import JavaClass

    entrance = _entrance(session)
    if not isinstance(entrance, JavaClass):
        return False
    built, running = str(entrance.sparkVersion()), session.version
    if built.split(".")[:2] != running.split(".")[:2]:
        warnings.warn(
            f"the jar volary-spark is for Spark {built} and this is {running}, so transform goes by Python workers; put the "
            "jar for this version into spark.jars",
            stacklevel=2,
        )
        return False
    return True


def _entrance(session: SparkSession) -> Any:
    return session._jvm.org.apache.spark.sql.volary.Transform


def added(
    df: DataFrame,
    network: ServedNetwork,
    places: Mapping[str, int],
    answers: Sequence[Answer],
    threshold: Threshold | None,
) -> DataFrame:
    """Every column of `df`, then the answers. `places` tells where in `df` each column is that the model reads."""
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

    servers = network.servers
    tls = {name: each.decode() if isinstance(each, bytes) else each for name, each in servers.tls.options().items()}
    work = {
        "name": f"{network.model}@{network.version}",
        "command": encode(command("Predict", model=network.model, version=network.version)).decode(),
        "servers": list(servers.urls),
        "headers": [list(header) for header in servers.headers],
        "tls": tls,
        "inputs": [{"name": name, "place": place} for name, place in places.items()],
        "answers": [{"source": answer.source, "kind": answer.kind} for answer in answers],
        "schema": StructType([answer.field() for answer in answers]).json(),
        "threshold": None if threshold is None else _border(threshold, network, answers),
    }
    session = df.sparkSession
    return DataFrame(_entrance(session).transform(df._jdf, json.dumps(work)), session)


def _border(threshold: Threshold, network: ServedNetwork, answers: Sequence[Answer]) -> dict[str, Any]:
    """The border and the classes, as the prediction's column has them."""
    (prediction,) = (answer for answer in answers if answer.source == "prediction")
    first, second = prediction.convert(threshold.ends(network.answers.field("prediction").type)).to_pylist()
    return {"value": threshold.value, "first": first, "second": second}
