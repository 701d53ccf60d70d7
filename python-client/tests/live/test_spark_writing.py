"""Spark DataFrames as one atomic upload in parts: failures, retries and two attempts at a time never double a row."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from volary.errors import AlreadyExistsError, InvalidArgumentError, VolaryError

ROWS = 4_000
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def servers(cluster):
    """Two of the servers; parts go to them in turn."""
    return [server.url for server in cluster.servers[:2]]


@pytest.fixture
def dataset(client):
    """A name that is free, and free again afterwards."""
    yield "spark_written"
    with contextlib.suppress(VolaryError):
        client.drop_dataset("spark_written")


def open_uploads(client):
    return [each.dataset for each in client.uploads()]


def numbers(client, dataset):
    return client.table(dataset).to_arrow()["id"].to_pylist()


def test_partitions_become_one_version_in_their_order(spark, servers, client, dataset):
    from volary.spark import write_dataframe

    df = spark.range(ROWS, numPartitions=5).selectExpr("id", "cast(id as string) AS word")
    written = write_dataframe(df, dataset, server=servers)
    assert (written.reference, written.rows) == (f"{dataset}@0", ROWS)
    assert numbers(client, dataset) == list(range(ROWS))
    assert open_uploads(client) == []


@pytest.mark.parametrize(
    ("column", "set_by_the_user", "in_the_tasks"),
    [
        ("id", None, str((1 << 31) - 1)),
        ("id", "1000b", "1000b"),
        ("cast(id AS string) AS word", None, None),
    ],
)
def test_spark_counts_the_bytes_of_rows_only_where_they_could_be_too_many(
    spark, servers, client, dataset, column, set_by_the_user, in_the_tasks
):
    from volary.spark import write_dataframe

    limit = "spark.sql.execution.arrow.maxBytesPerBatch"

    def told(batches):
        from pyspark import TaskContext

        got = TaskContext.get().getLocalProperty(limit)
        for batch in batches:
            seen = pa.array([-1 if got is None else int(got.rstrip("b"))] * batch.num_rows, pa.int64())
            yield pa.RecordBatch.from_arrays([*batch.columns, seen], [*batch.schema.names, "seen"])

    frame = spark.range(10).selectExpr(column)
    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in frame.schema.fields)
    df = frame.mapInArrow(told, f"{schema}, seen bigint")
    if set_by_the_user is not None:
        spark.conf.set(limit, set_by_the_user)
    try:
        written = write_dataframe(df, dataset, server=servers)
    finally:
        spark.conf.unset(limit)
    expected = -1 if in_the_tasks is None else int(in_the_tasks.rstrip("b"))
    assert set(client.table(written.reference).to_arrow()["seen"].to_pylist()) == {expected}
    assert spark.sparkContext.getLocalProperty(limit) is None, "nothing is left behind"


def test_the_longest_text_of_a_cached_dataframe_tells_whether_bytes_must_be_counted(spark, servers, client, dataset):
    from volary.spark import write_dataframe
    from volary.spark.writing import _counting_in_vain

    def in_vain(df):
        return _counting_in_vain(df, pa.schema([pa.field("n", pa.int64()), pa.field("text", pa.string())])) is not None

    short = spark.range(10).selectExpr("id AS `n.1`", "cast(id AS string) AS text")
    assert not in_vain(short), "nobody knows how long they are"
    with_long = short.union(spark.sql("SELECT 10, repeat('x', 10000)"))
    nothing = short.selectExpr("`n.1`", "cast(NULL AS string) AS text")
    for df, expected in ((short, True), (with_long, False), (nothing, True)):
        df.persist()
        try:
            assert in_vain(df) is expected
            rows = write_dataframe(df, dataset, server=servers, mode="overwrite").rows
            assert rows == client.table(dataset).rows == df.count()
        finally:
            df.unpersist()


def test_a_dataset_is_refused_appended_to_or_replaced(spark, servers, client, dataset):
    from volary.spark import write_dataframe

    df = spark.range(10, numPartitions=2)
    write_dataframe(df, dataset, server=servers)
    with pytest.raises(AlreadyExistsError, match=f'dataset "{dataset}"'):
        write_dataframe(df, dataset, server=servers)
    write_dataframe(df, dataset, server=servers, mode="append")
    assert numbers(client, dataset) == [*range(10), *range(10)]
    write_dataframe(spark.range(3), dataset, server=servers, mode="overwrite")
    assert numbers(client, dataset) == [0, 1, 2]
    with pytest.raises(ValueError, match='unknown mode "replace"; there are error, append and overwrite'):
        write_dataframe(df, dataset, server=servers, mode="replace")


def test_no_rows_and_no_partitions_keep_the_schema(spark, servers, client, dataset):
    from volary.spark import write_dataframe

    for none in (spark.range(10).where("id < 0"), spark.createDataFrame(spark.sparkContext.emptyRDD(), "id bigint")):
        assert write_dataframe(none, dataset, server=servers, mode="overwrite").rows == 0
        assert client.table(dataset).schema == pa.schema([("id", pa.int64())])
    few = spark.range(3, numPartitions=1).repartition(6)
    assert write_dataframe(few, dataset, server=servers, mode="overwrite").rows == 3


def test_what_spark_writes_it_reads_again(spark, servers, dataset):
    from pyspark.ml.linalg import Vectors

    from volary.spark import read_dataframe, write_dataframe

    rows = spark.sql(
        """SELECT true AS flag, 1Y AS tiny, 2S AS small, 3 AS whole, 4L AS large, 1.5F AS half, 2.5D AS number,
        1.25BD AS price, 'word' AS word, X'00FF' AS bytes, DATE'2024-02-29' AS day, TIMESTAMP'2024-07-01 12:00:00' AS moment,
        TIMESTAMP_NTZ'2024-07-01 12:00:00' AS wall, INTERVAL '1 02:03:04' DAY TO SECOND AS span,
        array(1, null) AS list, map('a', 1.5D) AS map, named_struct('a', array(named_struct('b', 'c'))) AS within"""
    )
    df = rows.union(rows.selectExpr([f"cast(null AS {kind}) AS {name}" for name, kind in rows.dtypes])).coalesce(1)
    write_dataframe(df, dataset, server=servers)
    back = read_dataframe(spark, dataset, server=servers)
    assert back.collect() == df.collect()
    assert [field.dataType for field in back.schema][:13] == [field.dataType for field in df.schema][:13]
    vectors = spark.createDataFrame([(Vectors.dense([1.0, 2.0]),), (Vectors.sparse(2, [1], [5.0]),)], ["v"])
    write_dataframe(vectors, dataset, server=servers, mode="overwrite")
    assert [row.v for row in read_dataframe(spark, dataset, server=servers).collect()] == [[1.0, 2.0], [0.0, 5.0]]


def test_a_type_that_cannot_travel_is_refused_before_any_row_is_sent(spark, servers, client, dataset):
    from volary.spark import write_dataframe

    for expression, told in (("make_interval(1)", "interval"), ("parse_json('1')", "variant")):
        with pytest.raises(InvalidArgumentError, match=f'column "bad" has the Spark type {told}, which cannot travel'):
            write_dataframe(spark.range(3).selectExpr("id", f"{expression} AS bad"), dataset, server=servers)
    with pytest.raises(InvalidArgumentError, match='"id" and "ID", which differ in case at most'):
        write_dataframe(spark.range(3).selectExpr("id", "id AS ID"), dataset, server=servers)
    assert dataset not in [each.name for each in client.datasets()]


def test_a_task_whose_python_dies_is_tried_again_without_doubled_rows(spark, servers, client, dataset):
    from volary.spark import write_dataframe

    def dying(batches):
        from pyspark import TaskContext

        task = TaskContext.get()
        for batch in batches:
            for at in range(0, batch.num_rows, 100):
                if at >= 500 and task.partitionId() == 1 and task.attemptNumber() == 0:
                    os._exit(9)
                yield batch.slice(at, 100)

    df = spark.range(ROWS, numPartitions=3).mapInArrow(dying, "id bigint")
    assert write_dataframe(df, dataset, server=servers).rows == ROWS
    assert numbers(client, dataset) == list(range(ROWS))


def test_a_stage_that_is_run_again_does_not_double_rows(spark, servers, client, dataset, tmp_path):
    from volary.spark import write_dataframe

    local = Path(spark.conf.get("spark.local.dir"))
    mark = tmp_path / "lost"

    def losing(batches):
        """The first task to end takes what the others would read with it, as an executor does that is lost."""
        yield from batches
        with contextlib.suppress(FileExistsError):
            mark.touch(exist_ok=False)
            for file in local.rglob("shuffle_*"):
                file.unlink()

    def counted(batches):
        from pyspark import TaskContext

        (tmp_path / f"run-{TaskContext.get().taskAttemptId()}").touch()
        yield from batches

    counted_rows = spark.range(ROWS, numPartitions=2).mapInArrow(counted, "id bigint")
    shuffled = counted_rows.repartition(6, "id").mapInArrow(losing, "id bigint")
    assert write_dataframe(shuffled, dataset, server=servers).rows == ROWS
    assert mark.exists()
    assert len(list(tmp_path.glob("run-*"))) > 2, "the first stage ran again"
    assert sorted(numbers(client, dataset)) == list(range(ROWS))


def test_of_two_attempts_at_a_time_the_one_that_spark_reports_is_committed(servers, client, dataset):
    """What speculation does; Spark itself never speculates on one machine, so the two attempts are made here."""
    from volary.spark.servers import Servers

    upload = client.begin_upload(dataset)
    schema = pa.schema([("id", pa.int64())])
    started = threading.Barrier(2)

    def batches(attempt):
        for number in range(20):
            if number == 10:
                started.wait()
            yield pa.RecordBatch.from_pydict({"id": [number * 10 + attempt]}, schema)

    def attempt(number):
        reader = pa.RecordBatchReader.from_batches(schema, batches(number))
        with Servers.of(servers).client(number) as other:
            assert other.upload(upload.id).put_part(0, reader, number).rows == 20

    attempts = [threading.Thread(target=attempt, args=[number]) for number in (1, 2)]
    for each in attempts:
        each.start()
    for each in attempts:
        each.join()
    upload.commit([(0, 2)])
    assert numbers(client, dataset) == [number * 10 + 2 for number in range(20)]


def test_a_task_that_fails_for_good_leaves_nothing(spark, servers, client, dataset):
    from volary.spark import write_dataframe

    def failing(batches):
        yield next(batches)
        raise ValueError("the third part is rotten")

    with pytest.raises(Exception, match="the third part is rotten"):
        write_dataframe(spark.range(ROWS, numPartitions=1).mapInArrow(failing, "id bigint"), dataset, server=servers)
    assert open_uploads(client) == []
    assert dataset not in [each.name for each in client.datasets()]


def test_rows_that_the_cluster_refuses_are_refused_in_its_words(spark, servers, client, dataset):
    from volary.spark import write_dataframe

    write_dataframe(spark.range(3), dataset, server=servers)
    with pytest.raises(InvalidArgumentError, match='"id"'):
        write_dataframe(spark.range(3).selectExpr("cast(id as string) AS id"), dataset, server=servers, mode="append")
    assert open_uploads(client) == []
    assert numbers(client, dataset) == [0, 1, 2]


def test_a_driver_that_takes_longer_than_its_lifetime_gives_signs_of_life(spark, servers, client, dataset, tmp_path):
    from volary.spark import write_dataframe

    heard = tmp_path / "heard"

    def waiting(batches):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not heard.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield from batches

    def when_it_would_have_expired():
        begun = expires = None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (expires is None or expires <= begun + 3.0) and time.monotonic() < deadline:
            for each in client.uploads():
                expires = each.expires.timestamp()
                begun = begun or expires
            time.sleep(0.05)
        heard.touch()

    watcher = threading.Thread(target=when_it_would_have_expired)
    watcher.start()
    df = spark.range(10, numPartitions=1).mapInArrow(waiting, "id bigint")
    assert write_dataframe(df, dataset, server=servers, lifetime_seconds=2).rows == 10
    watcher.join()
    assert numbers(client, dataset) == list(range(10)), "a part of the driver's own is not committed"


DRIVER = """
import os, sys, time
from pathlib import Path
from spark_session import session
from volary.spark import write_dataframe

folder, server = Path(sys.argv[1]), sys.argv[2]

def waiting(batches):
    from pyspark import TaskContext
    yield from batches
    if TaskContext.get().partitionId() == 1:
        (folder / "sending").touch()
        time.sleep(600)

df = session(folder).range(100, numPartitions=2).mapInArrow(waiting, "id bigint")
write_dataframe(df, "spark_orphan", server=server, lifetime_seconds=3)
"""


def test_a_driver_that_is_killed_leaves_an_upload_that_expires(spark, cluster, client, tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    driver = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), cluster.url], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: (tmp_path / "sending").exists() or driver.poll() is not None)
        assert driver.poll() is None
        [left] = [each for each in client.uploads() if each.dataset == "spark_orphan"]
    finally:
        driver.kill()
        driver.wait()
    until(lambda: client.upload(left.id).status().state == "EXPIRED")
    assert open_uploads(client) == []
    assert "spark_orphan" not in [each.name for each in client.datasets()]


def until(holds):
    """Wait for another process, which tells nobody; for a bounded time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
