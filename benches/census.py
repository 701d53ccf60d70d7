"""The census model of the benches: its columns, its network, its pipeline, and as many rows as are wanted."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import ROOT

CENSUS = ROOT / "examples/data/census_train.parquet"
NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
CATEGORIES = ["workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country"]
#: Multiply-adds of the 108-128-64-1 network for one row, forward.
FORWARD = 108 * 128 + 128 * 64 + 64


def layers():
    """The census network as the server reads it."""
    return {
        "format_version": 1,
        "name": "census",
        "layers": [
            {"name": "input", "layer": "Input"},
            {"name": "dense_0", "layer": "Dense", "config": {"units": 128, "activation": "relu"}, "inputs": ["input"]},
            {"name": "dense_1", "layer": "Dense", "config": {"units": 64, "activation": "relu"}, "inputs": ["dense_0"]},
            {"name": "dense_2", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["dense_1"]},
        ],
        "outputs": ["dense_2"],
    }


#: The features of the demo, as the server reads them.
PIPELINE = [
    {"transform": "impute", "columns": NUMBERS, "strategy": "median"},
    {"transform": "log1p", "columns": ["capital_gain", "capital_loss"]},
    {"transform": "standardize", "columns": NUMBERS},
    {"transform": "impute", "columns": CATEGORIES, "strategy": "constant", "fill_value": "missing"},
    {"transform": "one_hot", "columns": CATEGORIES},
]


def train(server, name="census"):
    """Puts the training rows and trains the network on them for an epoch."""
    server.put("census", pq.read_table(CENSUS))
    server.run_job(
        "Train", name=name, source={"table": "census"}, label="income", pipeline=PIPELINE, model=layers(),
        loss="binary_crossentropy", optimizer={"name": "adam"}, metrics=[], epochs=1, batchSize=256, seed="7",
        features=NUMBERS + CATEGORIES,
    )  # fmt: skip


def census_rows(path, rows):
    """A Parquet file of so many people, drawn from the census with replacement (seed 3)."""
    people = pq.read_table(CENSUS, columns=NUMBERS + CATEGORIES)
    rng = np.random.default_rng(3)
    with pq.ParquetWriter(path, people.schema) as writer:
        for first in range(0, rows, 1 << 18):
            writer.write_table(people.take(pa.array(rng.integers(0, people.num_rows, min(1 << 18, rows - first)))))
