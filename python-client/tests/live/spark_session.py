"""One Spark for the stories of a run: two task threads, four attempts of a task, speculation asked for.

Local mode never speculates by itself; what two attempts at a time do is shown where uploads are.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import volary
from volary.errors import FailedPreconditionError
from volary.spark import jar, jvm


def java_missing() -> str | None:
    """Why there can be no Spark; nothing when there can be one."""
    home = os.environ.get("JAVA_HOME")
    if (home and (Path(home) / "bin" / "java").exists()) or shutil.which("java"):
        return None
    return "no java; PySpark needs a JDK, 17 or later (JAVA_HOME, or java on the path)"


def operator_missing() -> str | None:
    """Why no model answers inside Spark's JVM; nothing when it can."""
    try:
        jar()
    except FailedPreconditionError as error:
        return error.message
    return None


def session(folder: Path):
    """A session whose Python workers find the package that is tested."""
    from pyspark.sql import SparkSession

    package = str(Path(volary.__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.session.timeZone": "Europe/Berlin",
        "spark.speculation": "true",
        "spark.log.level": "OFF",
        "spark.ui.showConsoleProgress": "false",
        # The stories that are of the operator in the JVM ask for it.
        jvm.SETTING: "false",
    }
    if operator_missing() is None:
        settings["spark.jars"] = jar()
    builder = SparkSession.builder.master("local[2,4]").appName("volary-tests")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """PySpark, where there is a JDK for it."""
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if (reason := java_missing()) is not None:
        pytest.skip(reason)
    started = session(tmp_path_factory.mktemp("spark"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def spark_in_jvm(spark):
    """Another session of the same Spark, whose models answer inside the JVM."""
    if (reason := operator_missing()) is not None:
        pytest.skip(reason)
    session = spark.newSession()
    session.conf.set(jvm.SETTING, "true")
    return session
