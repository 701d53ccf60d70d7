"""Real servers for the stories in this folder; everything is skipped, with the reason, where there is no program."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import volary
from census_data import CATEGORIES, DATA, NUMBERS
from cluster import Cluster, binary
from spark_session import spark, spark_in_jvm
from volary import features, layers

__all__ = ["spark", "spark_in_jvm"]


def pytest_collection_modifyitems(items):
    program = binary()
    if program is None or not program.exists():
        reason = "no volary program; build it with `cargo build --release`, or set VOLARY_BIN"
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def data():
    """The folder of the shipped data."""
    return DATA


@pytest.fixture(scope="session")
def census():
    """Training and test rows."""
    return pd.read_parquet(DATA / "census_train.parquet"), pd.read_parquet(DATA / "census_test.parquet")


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The directory that the cluster of the session shares."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def cluster(store, tmp_path_factory):
    """Three servers."""
    with Cluster(3, store, tmp_path_factory.mktemp("logs"), ["--allow-read", str(DATA)]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def client(cluster):
    with volary.connect(cluster.url) as client:
        yield client


@pytest.fixture(scope="session")
def census_pipeline():
    return volary.Pipeline(
        [
            features.Impute(NUMBERS, "median"),
            features.Log1p(["capital_gain", "capital_loss"]),
            features.Standardize(NUMBERS),
            features.Impute(CATEGORIES, "constant", fill_value="missing"),
            features.OneHot(CATEGORIES),
        ]
    )


@pytest.fixture(scope="session")
def census_model(client, census, census_pipeline):
    """A model "census" of two epochs, with its tables "census" and "census_test"."""
    train, test = census
    client.put("census", train, mode="overwrite")
    client.put("census_test", test, mode="overwrite")
    model = volary.Sequential(
        [layers.Dense(64, activation="relu"), layers.Dropout(0.1), layers.Dense(1, activation="sigmoid")]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["auc", "accuracy"])
    model.fit(
        client.table("census"), "income", pipeline=census_pipeline, epochs=2, batch_size=256,
        validation_split=0.1, seed=7, name="census", verbose=0,
    )  # fmt: skip
    return model
