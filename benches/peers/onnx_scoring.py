"""Scores a census Parquet file with pyarrow and onnxruntime: the peer of a scoring job.

    python benches/peers/onnx_scoring.py TRAIN.parquet ROWS.parquet OUT.parquet [--weights weights.safetensors] [--threads 2]

A careful script, as an engineer would write it for two cores: categories are read as dictionaries and one-hot encoded by
index, Parquet is decoded ahead by Arrow's threads, the network runs on onnxruntime's, and answers are written as they come.
The features are those of the demo: medians for missing numbers, log1p of the capital columns, standardised numbers,
"missing" for missing text, a place for unseen categories. Weights are those of the model, so that answers can be compared,
or random, which does not change the time. Prints one line of JSON.
"""

import argparse
import json
import time

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
CATEGORIES = ["workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country"]
LOGARITHMIC = {"capital_gain", "capital_loss"}
MISSING = "missing"
BATCH_ROWS = 65_536  # faster than 8,192 and 16,384 on the machine this was written on


class Features:
    """What the training rows teach, and the matrix of new rows."""

    def __init__(self, train):
        self.medians, self.means, self.deviations = {}, {}, {}
        for name in NUMBERS:
            values = train[name].to_numpy(zero_copy_only=False).astype(np.float64)
            self.medians[name] = np.nanmedian(values)
            values = np.where(np.isnan(values), self.medians[name], values)
            values = np.log1p(values) if name in LOGARITHMIC else values
            self.means[name], self.deviations[name] = values.mean(), values.std()
        self.categories = {name: sorted(train[name].fill_null(MISSING).unique().to_pylist()) for name in CATEGORIES}
        # Per column: its categories ("missing" among them where training had nulls), then a place for unseen ones.
        self.width = len(NUMBERS) + sum(len(known) + 1 for known in self.categories.values())

    def matrix(self, batch):
        matrix = np.zeros((batch.num_rows, self.width), np.float32)
        for column, name in enumerate(NUMBERS):
            values = batch[name]
            if values.null_count:
                values = pc.fill_null(values, pa.scalar(self.medians[name]).cast(values.type))
            values = values.to_numpy(zero_copy_only=False).astype(np.float32)
            values = np.log1p(values) if name in LOGARITHMIC else values
            matrix[:, column] = (values - self.means[name]) / self.deviations[name]
        offset, rows = len(NUMBERS), np.arange(batch.num_rows)
        for name in CATEGORIES:
            known = self.categories[name]
            encoded = batch[name]
            if not pa.types.is_dictionary(encoded.type):
                encoded = encoded.dictionary_encode()
            places = pc.fill_null(pc.index_in(encoded.dictionary, pa.array(known)), len(known)).to_numpy()
            indices = encoded.indices
            if indices.null_count:
                places = np.append(places, known.index(MISSING) if MISSING in known else len(known))
                indices = pc.fill_null(indices, len(places) - 1)
            matrix[rows, offset + places[indices.to_numpy()]] = 1.0
            offset += len(known) + 1
        return matrix


def network(width, threads, weights):
    """width-128-64-1 with ReLU and a sigmoid; random weights where none are given."""
    rng = np.random.default_rng(7)
    sizes, nodes, arrays, value = [width, 128, 64, 1], [], [], "rows"
    for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        kernel = weights.get(f"dense_{layer}/kernel", (rng.standard_normal((inputs, outputs)) * inputs**-0.5).astype(np.float32))
        bias = weights.get(f"dense_{layer}/bias", np.zeros(outputs, np.float32))
        if kernel.shape != (inputs, outputs):
            raise ValueError(f"layer {layer} has weights of shape {kernel.shape} where the features need {(inputs, outputs)}")
        arrays += [numpy_helper.from_array(kernel, f"w{layer}"), numpy_helper.from_array(bias, f"b{layer}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        nodes.append(helper.make_node("Relu" if layer < 2 else "Sigmoid", [f"z{layer}"], [f"a{layer}"]))
        value = f"a{layer}"
    graph = helper.make_graph(
        nodes,
        "census",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [None, 1])],
        arrays,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("train")
    parser.add_argument("rows")
    parser.add_argument("out")
    parser.add_argument("--weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-rows", type=int, default=BATCH_ROWS)
    options = parser.parse_args()
    pa.set_cpu_count(options.threads)
    features = Features(pq.read_table(options.train, columns=NUMBERS + CATEGORIES))
    session = network(features.width, options.threads, load_file(options.weights) if options.weights else {})
    classes = pa.array(["<=50K", ">50K"])
    schema = pa.schema([("prediction", pa.string()), ("probability", pa.float32())])

    start = time.perf_counter()
    rows = 0
    source = pq.ParquetFile(options.rows, read_dictionary=CATEGORIES, pre_buffer=True)
    with pq.ParquetWriter(options.out, schema) as writer:
        for batch in source.iter_batches(options.batch_rows, columns=NUMBERS + CATEGORIES, use_threads=True):
            probability = session.run(None, {"rows": features.matrix(batch)})[0][:, 0]
            prediction = classes.take(pa.array((probability > 0.5).astype(np.int8)))
            writer.write_batch(pa.record_batch([prediction, pa.array(probability)], schema=schema))
            rows += batch.num_rows
    elapsed = time.perf_counter() - start
    versions = f"pyarrow {pa.__version__}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}"
    print(json.dumps({"value": rows / elapsed, "rows": rows, "width": features.width, "version": versions}))


if __name__ == "__main__":
    main()
