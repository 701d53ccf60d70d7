"""Measures volary beside its peers and writes what it found to docs/benchmarks. See benches/README.md.

    python benches/run.py [training] [engine] [transfer] [exchange] [spark] [scoring] [start] [quality] [--rounds 7]
                          [--python PEERS_PYTHON] [--quick]

Without a name all are run. Needs the release build (`VOLARY_BIN`, or target/release/volary).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq

import measure
from census import CENSUS, FORWARD, census_rows, layers, train
from measure import ROOT, Result, pairs, peer
from server import BINARY, Server
from workloads import WORKLOADS

# -- (a) training ---------------------------------------------------------------------------------------------------


def engine_command():
    """Builds `benches/engine.rs` and finds its program; `ENGINE_BENCH` names one that is built already."""
    if "ENGINE_BENCH" in os.environ:
        return os.environ["ENGINE_BENCH"]
    build = ["cargo", "bench", "--bench", "engine", "--no-run", "--message-format", "short"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    line = next(line for line in reversed(done.stderr.splitlines()) if "engine" in line and "(" in line)
    program = Path(line.rsplit("(", 1)[1].rstrip(")"))
    return program if program.is_absolute() else ROOT / program


def training(options, work):
    """Rows per second of the census-size MLP: the engine's step alone, and a whole job on one server."""
    flops = measure.multiply_flops()
    # Forward, and backward for weights and for values; the first layer needs no gradient of its input.
    per_row = 2 * (3 * FORWARD - 108 * 128)
    floor = (
        f"Floor: {per_row / 1e3:.0f} kFLOP a row at {flops / 1e9:.0f} GFLOP/s (NumPy's float32 product on two threads in this run) "
        f"is {measure.number(flops / per_row)} rows/s."
    )
    with_torch = measure.has(options.python, "torch")
    engine = engine_command()
    rows = 1 << 19
    rng = np.random.default_rng(1)
    data = {f"f{column:03}": rng.standard_normal(rows, dtype=np.float32) for column in range(108)}
    data["label"] = (data["f000"] + data["f001"] * rng.standard_normal(rows, dtype=np.float32) > 0).astype(np.int64)
    results = []
    with Server(work / "training") as server:
        server.put("rows", pa.table(data))

        def job(batch):
            status = server.run_job(
                "Train", name="bench", source={"table": "rows"}, label="label", model=layers(), loss="binary_crossentropy",
                optimizer={"name": "adam", "learning_rate": 0.001}, metrics=[], epochs=options.epochs, batchSize=batch, seed="1",
            )  # fmt: skip
            return float(status["rows_per_second"])

        def step(batch):
            return engine_rate(engine, work, "census", batch, options.seconds, 2)

        for batch, bar in ((256, "2.0x eager"), (4096, "1.2x eager")):
            for name, ours in (("engine step", step), ("training job", job)):
                for mode, flags in (("eager", []), ("torch.compile", ["--compile"])):
                    result = Result(f"{name}, batch {batch:,}", "rows/s", f"PyTorch {mode}", floor=floor)
                    result.bar = bar if mode == "eager" else ""
                    result.limit = (
                        "A job shuffles, decodes and sums over lanes besides; PyTorch's loop slices a tensor in memory."
                        if ours is job
                        else "Small batches are limited by what lies between the products: activations, sums over lanes, the update."
                    )
                    theirs = peer(result, options.python, "torch_engine.py", "census", batch, options.seconds, *flags) if with_torch else None
                    results.append(pairs(result, lambda ours=ours, batch=batch: ours(batch), theirs, options.rounds))
    measure.write_page("training", "Training the census-size MLP on two cores", results, BINARY, options.out)


def engine_rate(program, work, name, batch, seconds, threads, mode="train", lanes=0):
    """Samples per second of `benches/engine.rs` on a workload."""
    file = work / f"{name}.json"
    file.write_text(json.dumps(WORKLOADS[name]()))
    command = [program, file, batch, seconds, threads, mode, lanes]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


# -- (b) the engine alone ---------------------------------------------------------------------------------------------

#: Workload, batch, bar against eager (and aim), FLOPs of matrix products of a training step per sample, and what limits it, as
#: a profile of one core says.
ENGINE = [
    ("mlp", 128, "1.3x (1.7x)", 6 * (784 * 512 + 512 * 256 + 256 * 10) - 2 * 784 * 512,
     "Products: five sixths of the time. Then Adam, which reads and writes four vectors as long as the weights."),
    ("small_mlp", 32, "2x (5x)", 6 * (64 * 128 + 128 * 64 + 64 * 10) - 2 * 64 * 128,
     "Products, and for so few rows Adam and what a step costs whatever its size."),
    ("small_mlp", 256, "2x (5x)", 6 * (64 * 128 + 128 * 64 + 64 * 10) - 2 * 64 * 128,
     "Products: three quarters of the time. Five times eager PyTorch would be more than the core can multiply."),
    ("cnn", 64, "1.0x (1.3x)", 4 * 26 * 26 * 9 * 32 + 6 * (24 * 24 * 9 * 32 * 64 + 9216 * 128 + 1280),
     "The convolutions: three quarters of the time in tiles of registers, the second one's by Winograd, which multiplies less than "
     "the FLOPs that are counted here."),
    ("resnet20", 64, "0.8x (1.0x)", 6 * 40_600_000 - 2 * 32 * 32 * 27 * 16,
     "The convolutions: two thirds of the time, of few channels, so that every number loaded is used few times. Then batch "
     "normalisation and sums, which are passes over memory."),
    ("lstm", 64, "1.3x (2x)", 6 * 50 * 4 * 64 * (32 + 64) - 2 * 50 * 4 * 64 * 32,
     "Products: four fifths of the time. The gates take a sixth, without fused multiply-add so that all processors give the same "
     "bits. Twice eager PyTorch would leave the gates no time."),
    ("gru", 64, "", 6 * 50 * 3 * 64 * (32 + 64) - 2 * 50 * 3 * 64 * 32,
     "Products: three quarters of the time; the gates, as in the LSTM, a fifth."),
    ("transformer", 32, "1.0x (1.5x)", 6 * 64 * (4 * 128 * 128 + 2 * 128 * 512 + 2 * 64 * 128) - 2 * 64 * 3 * 128 * 128,
     "Products: four fifths of the time. The rest are passes over memory: ReLU's gradient, sums for biases, softmax, normalisation."),
    ("embedding_bag", 1024, "3x (10x)", 0,
     "Memory: 26 rows of 32 numbers a sample, anywhere in a table of 128 MB, are read, and read and written with two moments. "
     "Eager PyTorch's gradient here is dense, as Keras' is."),
]  # fmt: skip


def engine(options, work):
    """Training and prediction of one model after another, on one core and on two, against PyTorch."""
    if not measure.has(options.python, "torch"):
        return
    program = engine_command()
    results = []
    for threads in (1, 2):
        for name, batch, bar, per_sample, limit in ENGINE:
            flops = measure.multiply_flops(threads)
            modes = [("eager", []), ("torch.compile", ["--compile"])]
            if name == "embedding_bag":
                modes.append(("eager, sparse gradients", ["--sparse"]))
            for mode, flags in modes:
                what = f"{name}, batch {batch}, {threads} core{'s' if threads > 1 else ''}"
                result = Result(what, "samples/s", f"PyTorch {mode}", bar=bar if mode == "eager" else "")
                theirs = peer(result, options.python, "torch_engine.py", name, batch, options.seconds, "--threads", threads, *flags)
                pairs(
                    result,
                    lambda name=name, batch=batch, threads=threads: engine_rate(
                        program, work, name, batch, options.seconds, threads, lanes=threads
                    ),
                    theirs,
                    options.rounds,
                )
                result.limit = limit
                if per_sample:
                    ours = statistics.median(result.ours)
                    result.floor = (
                        f"{per_sample / 1e6:.2f} MFLOP a sample at {flops / 1e9:.0f} GFLOP/s is {measure.number(flops / per_sample)} "
                        f"samples/s; {ours * per_sample / flops:.0%} of it is reached."
                    )
                results.append(result)
            predicted = Result(f"{name}, batch {batch}, prediction, {threads} core", "samples/s", "PyTorch eager")
            theirs = peer(
                predicted, options.python, "torch_engine.py", name, batch, options.seconds, "--threads", threads, "--predict"
            )
            pairs(
                predicted,
                lambda name=name, batch=batch, threads=threads: engine_rate(
                    program, work, name, batch, options.seconds, threads, "predict"
                ),
                theirs,
                options.rounds,
            )
            results.append(predicted)
    method = (
        "Samples per second of one model in memory: forward, backward and Adam, the same minibatch again and again, wall clock, after a "
        "warm-up; a process of its own for each number. We run as many lanes as cores, PyTorch as many threads. `prediction` is forward "
        "alone. The floor of a comparison is the FLOPs of its matrix products at the rate that NumPy's 1024x1024 product reached on as "
        "many cores just before. Bars are against eager PyTorch, aims stand in brackets."
    )
    measure.write_page("engine", "The training engine against PyTorch", results, program, options.out, method, "engine.md")


# -- (c) the doors: rows in and out, one answer, Spark -----------------------------------------------------------------


def transfer(options, work):
    """Bytes per second in and out, beside other servers: benches/doors."""
    from doors.transfer import transfer as subject

    subject(options, work)


def exchange(options, work):
    """The time of one answer of a model: benches/doors."""
    from doors.exchange import exchange as subject

    subject(options, work)


def spark(options, work):
    """PySpark, rows to the server and answers back: benches/doors."""
    from doors.spark import spark as subject

    subject(options, work)


# -- (d) scoring ----------------------------------------------------------------------------------------------------


def largest_difference(server, answers):
    """Between the probabilities of dataset "scored" and those of the peer's file, row by row."""
    info = server.client.get_flight_info(flight.FlightDescriptor.for_path("scored"))  # by path: in the rows' order
    ours = np.concatenate([server.client.do_get(point.ticket).read_all()["probability"].to_numpy() for point in info.endpoints])
    theirs = pq.read_table(answers, columns=["probability"])["probability"].to_numpy()
    difference = float(np.abs(ours - theirs).max())
    assert difference < 1e-3, f"the answers differ by {difference}: the two sides do not do the same work"
    return difference


def scoring(options, work):
    """Rows per second from a Parquet file through the census model into new Parquet files."""
    source = work / "people/rows.parquet"
    source.parent.mkdir()
    census_rows(source, options.rows)
    flops = measure.multiply_flops()
    forward = FORWARD + 8 * 128  # a place for unseen categories in each of eight columns: 116 floats a row
    result = Result(f"scoring {options.rows:,} rows", "rows/s", "pyarrow + onnxruntime", bar="1.0x")
    result.floor = (
        f"Floor: {2 * forward / 1e3:.0f} kFLOP a row at {flops / 1e9:.0f} GFLOP/s (NumPy's float32 product on two threads in this run) "
        f"is {measure.number(flops / 2 / forward)} rows/s; the input is {source.stat().st_size / options.rows:.1f} bytes a row, "
        "which memory gives hundreds of times as fast."
    )
    result.limit = "Beside the products: Parquet decoding, looking categories up, writing 116 floats a row for the first product."
    with Server(work / "scoring", "--allow-read", str(source.parent)) as server:
        train(server)

        def ours():
            start = time.perf_counter()
            status = server.run_job("Score", model="census", source={"path": str(source)}, into="scored", mode="OVERWRITE")
            assert int(status["rows"]) == options.rows, status
            return options.rows / (time.perf_counter() - start)

        theirs, answers = None, work / "answers.parquet"
        if measure.has(options.python, "onnx", "onnxruntime", "safetensors"):
            (weights,) = (work / "scoring/models/census").glob("*/weights.safetensors")
            theirs = peer(result, options.python, "onnx_scoring.py", CENSUS, source, answers, "--weights", weights)
        pairs(result, ours, theirs, options.rounds)
        if theirs:
            result.limit += f" The answers of both sides differ by at most {largest_difference(server, answers):.1e}."
    measure.write_page("scoring", "Scoring a Parquet file through the census model on two cores", [result], BINARY, options.out)


# -- (e) the server itself ------------------------------------------------------------------------------------------


def start(options, work):
    """Seconds from start to ready, and resident memory of a server that has nothing to do."""
    ready = Result("start to ready, empty store", "s", bar="under 1 s")
    again = Result("start to ready, store in use", "s", bar="under 1 s")
    idle = Result("resident memory, idle", "bytes", bar="under 100 MiB (1.05e8)")
    ready.limit = "Process start, opening the store, binding the ports, first gossip. `/readyz` is asked every 2 ms."
    for turn in range(options.rounds):
        for result in (ready, again):
            with Server(work / f"start-{turn}") as server:
                result.ours.append(server.seconds_to_ready)
                time.sleep(2)  # allocators and first timers have settled
                if result is ready:
                    idle.ours.append(server.resident_bytes())
                    server.put("census", pq.read_table(CENSUS))
    measure.write_page("start", "Starting a server, and leaving it idle", [ready, again, idle], BINARY, options.out)


# -- (f) quality ------------------------------------------------------------------------------------------------------


def quality(options, work):
    """Real training runs beside the same networks in Keras: benches/quality."""
    from quality.subject import quality as subject  # it needs the Python client, which the other subjects do without

    subject(options, work)


BENCHES = {
    "training": training, "engine": engine, "transfer": transfer, "exchange": exchange, "spark": spark, "scoring": scoring,
    "start": start, "quality": quality,
}  # fmt: skip

#: Sizes of `--quick`; what is given beside it counts.
QUICK = {
    "rounds": 2, "rows": 100_000, "bytes": 1 << 26, "requests": 100, "frame_rows": 50_000, "seconds": 0.5, "epochs": 1, "seeds": 1,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"any of {', '.join(BENCHES)}; all when none is named")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of each comparison (default 7)")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows to score (default 10 million)")
    parser.add_argument("--bytes", type=int, default=1 << 29, help="bytes to move in `transfer` (default 512 MiB)")
    parser.add_argument("--kinds", nargs="+", choices=["fixed", "string", "list", "dictionary"], help="columns to move (default all)")
    parser.add_argument("--streams", nargs="+", type=int, choices=[1, 2, 4], default=[1, 2, 4], help="streams to move them with (default all)")
    parser.add_argument("--requests", type=int, default=3_000, help="round trips of one measurement of `exchange` (default 3,000)")
    parser.add_argument("--frame-rows", type=int, default=5_000_000, help="rows of the DataFrames of `spark` (default 5 million)")
    parser.add_argument("--bars-only", action="store_true", help="of `spark`, only what has a bar: a quarter of the time")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one training measurement (default 3)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of one measured training job (default 2)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each training run of `quality` (default 3)")
    parser.add_argument("--reviews", type=Path, help="the movie reviews for `quality`, which passes them over without")
    parser.add_argument("--python", default=os.environ.get("VOLARY_PEERS_PYTHON", sys.executable), help="the peers' Python")
    parser.add_argument("--work", type=Path, help="where stores and inputs are put while measuring (default: a new temporary one)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks", help="where pages are written")
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds, to see that everything runs")
    if (options := parser.parse_args()).quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args()
    if unknown := set(options.benches) - set(BENCHES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    if not BINARY.exists():
        parser.error(f"no program at {BINARY}; build it with `cargo build --release`, or set VOLARY_BIN")
    for name in options.benches or BENCHES:
        print(f"== {name}", flush=True)
        work = Path(tempfile.mkdtemp(prefix=f"volary-bench-{name}-", dir=options.work))
        try:
            BENCHES[name](options, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
