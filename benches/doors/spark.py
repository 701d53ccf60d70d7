"""PySpark beside itself: a model's answers as new columns, and a DataFrame on its way out.

One session, whose JVM is warm before anything counts, runs both sides in turns. Spark's workers run on the peers' Python, so that
onnxruntime is where the rows are. Beside them run what Spark does without any model, and what each process spent.
"""

import datetime
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import census
import measure
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measure import ROOT, Result, pairs
from server import BINARY, Server

from doors import processor

CORES = 2
#: Files of each input; Spark makes a partition of each, or of several small ones.
FILES = 8
NUMBERS = tuple(f"x{column}" for column in range(28))
#: Spark 4.3 adds up the bytes of every column after each row that it writes, unless the limit is the largest there is. And its Arrow
#: UDFs take rows of Parquet files for columns of Arrow, which they are not, and convert them twice.
TUNED = {
    "spark.sql.execution.arrow.maxBytesPerBatch": str((1 << 31) - 1),
    "spark.sql.execution.arrow.pythonUDF.columnarInput.enabled": "false",
}
TUNED_WORDS = "two settings"
#: The model's transform by an operator in Spark's JVM, where its jar is built.
IN_JVM = "transform in the JVM"


def spark(options, work):
    """`transform` of rows in Parquet files, and the upload of a DataFrame."""
    if not shutil.which("java"):
        print("  passed over: there is no java; Spark needs Java 17 or later")
        return
    if not measure.has(sys.executable, "pyspark", "volary"):
        return
    if not measure.has(options.python, "onnx", "onnxruntime", "pandas", "safetensors"):
        return
    from volary.spark import VolaryModel, write_dataframe

    results, stations = [], []
    with session(options.python, work) as spark, Server(work / "store") as server:
        version = {f"pyspark {spark.version}", *worker_versions(spark)}
        location = f"grpc://{server.grpc}"
        for name, words, train, rows, numbers, training in (
            ("numbers", f"{len(NUMBERS)} columns of double", train_numbers, number_rows, NUMBERS, None),
            ("census", "14 columns of the census, 8 of them texts", census.train, census_parts, (), str(census.CENSUS)),
        ):
            train(server, name)
            frame = spark.read.parquet(rows(work, options.frame_rows))
            (weights,) = (work / f"store/models/{name}").glob("*/weights.safetensors")
            model = VolaryModel(name, server=location)
            theirs = scoring(str(weights), numbers, training)
            results += transforms(options, model, frame, theirs, words, version, server.process.pid, stations)
        results.append(upload(options, work, spark, write_dataframe, location, version))
    method = (
        f"Spark local[{CORES}], driver memory 4g, its other settings as they come; one session, both sides run once "
        f"before the rounds. The server has two threads and shares the two cores with Spark. `transform`: {options.frame_rows:,} rows "
        f"are read from {FILES} Parquet files in the page cache, every column is kept, the answers are added, and Spark's `noop` writer takes the "
        f"rows. \"{TUNED_WORDS}\" is {' and '.join(f'`{key}={value}`' for key, value in TUNED.items())}, for both sides. "
        "Upload: the DataFrame is cached in Spark's memory; the peer writes Parquet files with Spark's own writer."
    )
    measure.write_page("spark", "PySpark: answers as columns, and a DataFrame on its way out", results, BINARY, options.out, method, further=stations)


@contextmanager
def session(python, work):
    """A Spark session whose workers run this Python and find the client and the peers."""
    from pyspark.sql import SparkSession
    from volary.spark import jar, jvm

    os.environ["PYSPARK_PYTHON"], os.environ["PYSPARK_DRIVER_PYTHON"] = str(python), sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[1:], str(ROOT / "benches/peers")])
    builder = SparkSession.builder.master(f"local[{CORES}]").appName("benches")
    for key, value in {
        "spark.driver.memory": "4g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(work / "spark"),
        "spark.sql.warehouse.dir": str(work / "warehouse"),
        jvm.SETTING: "false",
        **({"spark.jars": jar()} if has_operator() else {}),
    }.items():
        builder = builder.config(key, value)
    running = builder.getOrCreate()
    running.sparkContext.setLogLevel("ERROR")
    try:
        yield running
    finally:
        running.stop()


def has_operator():
    """Whether the jar is there; without it its side is passed over."""
    from volary.errors import VolaryError
    from volary.spark import jar

    try:
        jar()
    except VolaryError as error:
        print(f"  {IN_JVM} passed over: {error}")
        return False
    return True


def in_jvm(model, frame):
    """The answers of a model by the operator."""
    from volary.spark import jvm

    frame.sparkSession.conf.set(jvm.SETTING, "true")
    try:
        return model.transform(frame)
    finally:
        frame.sparkSession.conf.set(jvm.SETTING, "false")


def worker_versions(spark):
    """What the workers import."""

    def ask(_):
        import onnxruntime
        import pandas
        import pyarrow

        modules = (onnxruntime, pandas, pyarrow)
        return [f"{module.__name__} {module.__version__} (Spark's workers)" for module in modules]

    return spark.sparkContext.parallelize([0], 1).flatMap(ask).collect()


# -- transform ------------------------------------------------------------------------------------------------------


def scoring(weights, numbers, training):
    """The peer's function; its module is imported by its name in the workers."""
    sys.path.append(str(ROOT / "benches/peers"))
    from spark_onnx import Scoring

    return Scoring(weights, numbers, training)


@dataclass(frozen=True)
class Run:
    """One pass over all rows: rows per second, and processor seconds per million rows."""

    rate: float
    spent: processor.Seconds


def transforms(options, model, frame, theirs, words, versions, server, stations):
    """The model's transform, and its function of columns, against both ways of running onnxruntime in the workers.

    Appends to `stations` the lines that say what each process spent.
    """
    from pyspark.sql.functions import arrow_udf
    from pyspark.sql.types import DoubleType, StructField, StructType
    from volary.spark import predict_udf

    schema = StructType([*frame.schema.fields, StructField("probability", DoubleType())])
    inputs = [frame[name] for name in model.describe().inputs]
    function = predict_udf(model.getModelName(), output="probability", server=model.getServer())
    zeros = arrow_udf(zeros_of_columns(), "double")
    frames = {
        **({IN_JVM: in_jvm(model, frame)} if has_operator() else {}),
        "transform": model.transform(frame),
        "predict_udf": frame.withColumn("probability", function(*inputs)),
        "mapInPandas + onnxruntime": frame.mapInPandas(theirs.of_pandas, schema),
        "mapInArrow + onnxruntime": frame.mapInArrow(theirs.of_arrow, schema),
        READ: frame,
        NOTHING: frame.mapInArrow(theirs.nothing, frame.schema),
        ZEROS: frame.withColumn("probability", zeros(*inputs)),
    }
    ways = [name for name in frames if name not in (READ, NOTHING, ZEROS)]
    difference = max(largest_difference(frames["transform"], frames[name]) for name in ways)
    sides = {name: (each, {}) for name, each in frames.items()}
    sides |= {f"{name}, {TUNED_WORDS}": (frames[name], TUNED) for name in frames if name not in (IN_JVM, READ, "mapInArrow + onnxruntime")}
    if options.bars_only:
        sides = {name: sides[name] for name in (IN_JVM, "mapInPandas + onnxruntime", READ) if name in sides}

    def run(name):
        before = processor.spent(server)
        seconds = drained(*sides[name])
        return Run(options.frame_rows / seconds, (processor.spent(server) - before) / (options.frame_rows / 1e6))

    for name in sides:
        run(name)
    print(f"  {words}", flush=True)
    runs = measure.take_turns(
        {name: lambda name=name: run(name) for name in sides}, options.rounds,
        lambda each: f"{measure.number(each.rate)} rows/s ({each.spent.all:.2f} s of processors)",
    )  # fmt: skip
    rates = {name: [each.rate for each in those] for name, those in runs.items()}
    stations += spent_lines(words, runs)
    tuned = f", {TUNED_WORDS}"
    operators = [(IN_JVM, "mapInPandas + onnxruntime", "2.0x"), (IN_JVM, f"mapInPandas + onnxruntime{tuned}", ""), (IN_JVM, "mapInArrow + onnxruntime", "")]
    for ours, peer, bar in (
        *(operators if IN_JVM in frames else []),
        ("transform", "mapInPandas + onnxruntime", "2.0x"),
        ("predict_udf", "mapInPandas + onnxruntime", ""),
        ("transform", "mapInArrow + onnxruntime", ""),
        (f"transform{tuned}", f"mapInPandas + onnxruntime{tuned}", ""),
        (f"predict_udf{tuned}", f"mapInPandas + onnxruntime{tuned}", ""),
    ):
        if not {ours, peer} <= sides.keys():
            continue
        result = Result(f"{ours}, {words}", "rows/s", peer, rates[ours], rates[peer], bar, versions=versions)
        floor = READ if ours == IN_JVM else NOTHING if ours.startswith("transform") else ZEROS
        if ours.endswith(tuned):
            floor += tuned
        bound = measure.ratio([each.spent.all for each in runs[peer]], [each.spent.all for each in runs[floor]])
        taken = (
            "what Spark takes for reading the files and making rows of them"
            if floor == READ
            else "what Spark takes for reading, for the way to a Python worker and back, and for the rows that it makes of the batches"
        )
        result.floor = (
            f"Floor: {floor} makes {measure.number(statistics.median(rates[floor]))} rows/s: {taken}. In processor seconds the peer takes "
            f"{bound:.2f} times that; with both cores busy, no model however fast is further ahead of it this way."
        )
        result.limit = f"The answers of all differ by at most {difference:.1e}."
        yield result


READ, NOTHING, ZEROS = "reading alone", "a mapInArrow that hands every batch on", "an Arrow UDF that answers zeros"


def zeros_of_columns():
    """A function of the same columns that computes nothing; made here, so that it travels to the workers by value."""

    def zeros(columns: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        import numpy
        import pyarrow

        for each in columns:
            yield pyarrow.array(numpy.zeros(len(each[0])))

    return zeros


def spent_lines(words, runs):
    """A table of what each process spent."""
    header = ["processor seconds per million rows", "JVM", "workers", "server", "all", "mapInPandas' is"]
    all_of = {name: [each.spent.all for each in those] for name, those in runs.items()}
    rows = []
    for name, those in runs.items():
        medians = [statistics.median(getattr(each.spent, process) for each in those) for process in ("jvm", "workers", "server", "all")]
        peer = "mapInPandas + onnxruntime" + (f", {TUNED_WORDS}" if name.endswith(TUNED_WORDS) else "")
        times = measure.ratio(all_of[name], all_of[peer], less_is_better=True)
        rows.append([name, *(f"{value:.2f}" for value in medians), f"{times:.2f}x"])
    return [f"## Where the time goes: {words}", "", measure.table(rows, header), ""]


def drained(frame, settings):
    """Seconds until Spark has computed every row and column, under these settings of its session."""
    for key, value in settings.items():
        frame.sparkSession.conf.set(key, value)
    try:
        start = time.perf_counter()
        frame.write.format("noop").mode("overwrite").save()
        return time.perf_counter() - start
    finally:
        for key in settings:
            frame.sparkSession.conf.unset(key)


def largest_difference(ours, theirs, rows=1_000):
    """Between the probabilities of the first rows: both sides keep the order."""
    first, second = (np.array([_number(row["probability"]) for row in frame.limit(rows).collect()]) for frame in (ours, theirs))
    difference = float(np.abs(first - second).max())
    assert difference < 1e-3, f"the answers differ by {difference}: the two sides do not do the same work"
    return difference


def _number(probability):
    """That of the second class, where there is one for each."""
    return float(probability if isinstance(probability, float) else probability[1])


def train_numbers(server, name):
    """A classifier of 28 numbers, as wide as the census network."""
    rng = np.random.default_rng(8)
    rows = {column: rng.standard_normal(4_096) for column in NUMBERS}
    server.put("numbers", pa.table(rows | {"y": (rows["x0"] > 0).astype(np.int64)}))
    model = census.layers() | {"name": name}
    server.run_job(
        "Train", name=name, source={"table": "numbers"}, label="y", model=model, loss="binary_crossentropy",
        optimizer={"name": "adam"}, metrics=[], epochs=1, batchSize=256, seed="1", features=list(NUMBERS),
    )  # fmt: skip


def number_rows(work, rows):
    """A folder of Parquet files of standard normal numbers."""
    rng = np.random.default_rng(9)
    return in_files(work / "numbers", rows, lambda count: pa.table({name: rng.standard_normal(count) for name in NUMBERS}))


def census_parts(work, rows):
    """A folder of Parquet files of people."""
    people = pq.read_table(census.CENSUS, columns=census.NUMBERS + census.CATEGORIES)
    rng = np.random.default_rng(3)
    return in_files(work / "people", rows, lambda count: people.take(pa.array(rng.integers(0, people.num_rows, count))))


def in_files(folder, rows, table):
    """So many rows in a few files of about equal length, a partition each."""
    folder.mkdir()
    borders = [rows * number // FILES for number in range(FILES + 1)]
    for number, (first, last) in enumerate(zip(borders, borders[1:], strict=False)):
        pq.write_table(table(last - first), folder / f"{number}.parquet")
    return str(folder)


# -- upload ---------------------------------------------------------------------------------------------------------


def wide_rows(rng, count):
    """35 columns of the types that a table of customers has."""
    words = pa.array([f"word-{number:04}" for number in range(2_000)])
    start = np.datetime64(datetime.datetime(2026, 1, 1), "us")
    columns = {f"double_{number}": rng.standard_normal(count) for number in range(10)}
    columns |= {f"float_{number}": rng.standard_normal(count, dtype=np.float32) for number in range(5)}
    columns |= {f"long_{number}": rng.integers(0, 1 << 40, count) for number in range(5)}
    columns |= {f"int_{number}": rng.integers(0, 1_000, count, dtype=np.int32) for number in range(4)}
    columns |= {f"flag_{number}": rng.random(count) < 0.3 for number in range(2)}
    columns |= {f"day_{number}": pa.array(rng.integers(0, 20_000, count, dtype=np.int32)).cast(pa.date32()) for number in range(1)}
    columns |= {f"time_{number}": start + rng.integers(0, 10**13, count).astype("timedelta64[us]") for number in range(2)}
    columns |= {f"word_{number}": words.take(pa.array(rng.integers(0, len(words), count))) for number in range(4)}
    columns |= {f"id_{number}": pa.array(rng.integers(0, 1 << 60, count)).cast(pa.string()) for number in range(2)}
    return pa.table(columns)


def upload(options, work, spark, write_dataframe, location, versions):
    """A cached DataFrame to a dataset of the server, against Spark's own Parquet files."""
    rng = np.random.default_rng(10)
    frame = spark.read.parquet(in_files(work / "wide", options.frame_rows, lambda count: wide_rows(rng, count))).persist()
    assert len(frame.columns) == 35
    assert frame.count() == options.frame_rows
    files = work / "parquet"

    def ours():
        start = time.perf_counter()
        written = write_dataframe(frame, "wide", server=location, mode="overwrite")
        taken = time.perf_counter() - start
        assert written.rows == options.frame_rows, written
        return options.frame_rows / taken

    def theirs():
        start = time.perf_counter()
        frame.write.mode("overwrite").parquet(str(files))
        return options.frame_rows / (time.perf_counter() - start)

    result = Result("upload, 35 columns", "rows/s", "df.write.parquet", bar="1.0x", versions=versions)
    ours(), theirs()
    pairs(result, ours, theirs, options.rounds)
    written = sum(file.stat().st_size for file in files.glob("*.parquet"))
    disk = measure.disk_bytes(work)
    result.limit = (
        f"Spark's files have {written / options.frame_rows:.0f} bytes a row, which a durable file takes at "
        f"{measure.number(disk * options.frame_rows / written)} rows/s here. Ours: Spark's rows become Arrow batches in its JVM, pass through a "
        "Python worker for each partition, and the server encodes and commits them durably; Spark's own writer encodes in the JVM, and syncs nothing."
    )
    frame.unpersist()
    shutil.rmtree(files)
    return result
