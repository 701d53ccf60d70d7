"""Where the operator for Spark's JVM is found, and when it is left alone. No Spark runs here."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pyarrow as pa
import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed")

from volary.errors import FailedPreconditionError
from volary.spark import jar, jvm
from volary.spark.scoring import Answer, ServedNetwork
from volary.spark.servers import Servers


def test_a_jar_that_is_not_built_is_an_error_that_says_how(monkeypatch):
    import pyspark

    monkeypatch.setattr(pyspark, "__version__", "0.0.1")
    with pytest.raises(FailedPreconditionError, match=r"there is no .*volary-spark-0\.0\.1\.jar; `make spark-jar`"):
        jar()


def frame(monkeypatch, built: str | None = "4.3.0", running: str = "4.3.1", setting: str | None = None):
    """A DataFrame of a session whose JVM has the operator for a version of Spark, or none."""
    from py4j.java_gateway import JavaClass

    entrance = Mock() if built is None else Mock(spec=JavaClass, sparkVersion=lambda: built)
    monkeypatch.setattr(jvm, "_entrance", lambda session: entrance)
    conf = SimpleNamespace(get=lambda name, default: default if setting is None else setting)
    return SimpleNamespace(_jdf=object(), sparkSession=SimpleNamespace(conf=conf, version=running))


def usable(df, url: str = "grpc://a:1", answer: Answer | None = None) -> bool:
    answer = answer or Answer("prediction", "prediction", "number", pa.float32())
    network = ServedNetwork(Servers.of(url), "m", 1, ("x",), pa.schema({"prediction": answer.type}))
    return jvm.usable(df, network, [answer])


def test_the_operator_is_used_where_the_session_has_it_for_its_spark(monkeypatch):
    assert usable(frame(monkeypatch)), "a patch of Spark's changes no plan"
    assert usable(frame(monkeypatch), "grpc+tls://a:1,grpc+tls://b:1")
    assert not usable(frame(monkeypatch, built=None)), "no jar"
    assert not usable(frame(monkeypatch, setting="false"))
    assert not usable(SimpleNamespace(sparkSession=None)), "Spark Connect"
    with pytest.warns(UserWarning, match=r"for Spark 4\.3\.0 and this is 4\.4\.0, so transform goes by Python workers"):
        assert not usable(frame(monkeypatch, running="4.4.0"))


def test_what_the_operator_does_not_do_is_left_to_python_workers(monkeypatch):
    df = frame(monkeypatch)
    assert not usable(df, "grpc+unix:///socket")
    assert not usable(df, answer=Answer("prediction", "prediction", "number", pa.float16()))
    assert not usable(df, answer=Answer("prediction", "prediction", "as_is", pa.date32()))
    assert usable(df, answer=Answer("prediction", "prediction", "as_is", pa.string()))
    assert usable(df, answer=Answer("probabilities", "probability", "vector", pa.list_(pa.float32(), 3)))
