"""Scoring a Parquet table through the census model, beside a pyarrow + onnxruntime script on the same cores.

    python benches/peers/score_rows.py [--rows 10000000] [--pairs 7]

Both read the same Parquet file and write their answers as Parquet; the peer applies the same features with pyarrow and
NumPy, and the same weights with onnxruntime. The answers are compared before anything is measured.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "python-client" / "src")]

from measure import arguments, compare, machine  # noqa: E402

import volary  # noqa: E402  from this repository, not from site-packages
from cluster import Server  # noqa: E402
from volary import features, layers  # noqa: E402

NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
CATEGORIES = ["workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country"]
LOGGED = ("capital_gain", "capital_loss")
BATCH_ROWS = 65_536


class Peer:
    """The features of the training table and the weights of the model, as somebody without Volary would serve them."""

    def __init__(self, train: pa.Table, weights: dict[str, np.ndarray]) -> None:
        self.numbers = {}
        for name in NUMBERS:
            median = float(np.median(train[name].drop_null().to_numpy()))
            values = self.number(train[name], name, median)
            self.numbers[name] = (median, values.mean(), values.std())
        self.categories = {
            name: pa.array(sorted(pc.unique(pc.fill_null(train[name], "missing")).to_pylist()), train[name].type)
            for name in CATEGORIES
        }
        # One more place per column for the unseen, as the one_hot transform has it.
        self.width = len(NUMBERS) + sum(len(each) + 1 for each in self.categories.values())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count()
        self.session = onnxruntime.InferenceSession(network(weights, self.width), options)

    @staticmethod
    def number(column, name: str, median: float) -> np.ndarray:
        values = pc.fill_null(column.cast(pa.float64()), median).to_numpy(zero_copy_only=False)
        return np.log1p(values) if name in LOGGED else values

    def matrix(self, batch: pa.RecordBatch) -> np.ndarray:
        out = np.zeros((batch.num_rows, self.width), np.float32)
        for at, name in enumerate(NUMBERS):
            median, mean, deviation = self.numbers[name]
            out[:, at] = (self.number(batch[name], name, median) - mean) / deviation
        at, rows = len(NUMBERS), np.arange(batch.num_rows)
        for name, categories in self.categories.items():
            places = pc.index_in(pc.fill_null(batch[name], "missing"), categories)
            out[rows, at + pc.fill_null(places, len(categories)).to_numpy()] = 1
            at += len(categories) + 1
        return out

    def score(self, batch: pa.RecordBatch) -> np.ndarray:
        return self.session.run(None, {"x": self.matrix(batch)})[0][:, 0]

    def score_file(self, source: Path, target: Path) -> None:
        schema = pa.schema({"prediction": pa.string(), "probability": pa.float32()})
        classes = pa.array(["<=50K", ">50K"])
        with pq.ParquetWriter(target, schema) as writer, pq.ParquetFile(source) as rows:
            for batch in rows.iter_batches(BATCH_ROWS, columns=NUMBERS + CATEGORIES):
                probability = self.score(batch)
                prediction = classes.take(pa.array((probability >= 0.5).astype(np.int8)))
                writer.write_batch(pa.record_batch([prediction, pa.array(probability)], schema=schema))


def network(weights: dict[str, np.ndarray], width: int) -> bytes:
    """The three dense layers as an ONNX graph."""
    names, nodes, constants, x = ["dense", "dense_1", "dense_2"], [], [], "x"
    for name in names:
        for part in ("kernel", "bias"):
            constants.append(numpy_helper.from_array(weights[f"{name}/{part}"], f"{name}/{part}"))
        nodes.append(helper.make_node("Gemm", [x, f"{name}/kernel", f"{name}/bias"], [f"{name}/sum"]))
        x = f"{name}/out"
        nodes.append(helper.make_node("Sigmoid" if name == names[-1] else "Relu", [f"{name}/sum"], [x]))
    graph = helper.make_graph(
        nodes, "census",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [None, 1])],
        constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def fit(client: volary.Client, train: pa.Table) -> None:
    """The census model; how well it answers does not matter here, so one epoch."""
    client.put("census", train)
    pipeline = volary.Pipeline(
        [
            features.Impute(NUMBERS, "median"),
            features.Log1p(LOGGED),
            features.Standardize(NUMBERS),
            features.Impute(CATEGORIES, "constant", fill_value="missing"),
            features.OneHot(CATEGORIES),
        ]
    )
    stack = [layers.Dense(128, "relu"), layers.Dense(64, "relu"), layers.Dense(1, "sigmoid")]
    model = volary.Sequential(stack, name="census")
    model.compile(loss="binary_crossentropy")
    names = NUMBERS + CATEGORIES
    model.fit(client.table("census"), "income", features=names, pipeline=pipeline, batch_size=256, seed=1, verbose=0)


def main() -> None:
    options = arguments(__doc__.splitlines()[0], rows=10_000_000, pairs=7)
    machine("pyarrow", "onnxruntime", "numpy")
    folder = Path(tempfile.mkdtemp(prefix="volary-bench-"))
    train, test = (pq.read_table(ROOT / "examples" / "data" / f"census_{part}.parquet") for part in ("train", "test"))
    with pq.ParquetWriter(folder / "rows.parquet", test.schema) as writer:
        written = 0
        while written < options.rows:
            piece = test.slice(0, options.rows - written)
            writer.write_table(piece)
            written += piece.num_rows
    server = Server("bench", folder / "store", folder, options=["--allow-read", str(folder)])
    try:
        with volary.connect(server.url) as client:
            fit(client, train)
            [weights] = (folder / "store" / "models" / "census").rglob("*.safetensors")
            peer = Peer(train, load_file(weights))
            ours = client.model("census").predict(test)["probability"].to_numpy()
            theirs = np.concatenate([peer.score(batch) for batch in test.to_batches()])
            print(f"largest difference of the answers: {np.abs(ours - theirs).max():.1e}")
            assert np.abs(ours - theirs).max() < 1e-5, "the peer does not compute the same model"
            path = str(folder / "rows.parquet")
            compare(
                f"Scoring {options.rows:,} rows of Parquet into Parquet", options.rows / 1e6, "M rows/s", options.pairs,
                lambda: client.score("census", path=path, into="scored", mode="overwrite"),
                lambda: peer.score_file(folder / "rows.parquet", folder / "peer.parquet"),
            )  # fmt: skip
    finally:
        server.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
