"""`transform` inside Spark's JVM and the servers it asks: which of them, with what, and what becomes of a stream that ends."""

from __future__ import annotations

import re
import threading
import urllib.request
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import volary
from certificates import Authority, served
from cluster import Cluster
from fitting_processes import until
from volary import layers
from volary.spark import VolaryModel, jvm
from volary.spark.scoring import Answer, ServedNetwork
from volary.spark.servers import Servers


def trained(cluster: Cluster) -> str:
    """A model of the one column x, on this cluster."""
    with cluster.connect() as client:
        x = np.linspace(-1, 1, 200)
        client.put("lines", pa.table({"x": x, "label": x > 0}))
        network = volary.Sequential([layers.Dense(1, activation="sigmoid")])
        network.compile(loss="binary_crossentropy")
        network.fit(client.table("lines"), "label", epochs=1, seed=1, name="lines", verbose=0)
    return "lines"


@pytest.fixture(scope="module")
def lines(cluster):
    return trained(cluster)


def metric(server, name: str) -> int:
    """Of DoExchange, over all labels."""
    page = urllib.request.urlopen(f"http://{server.http}/metrics").read().decode()
    return sum(int(float(value)) for value in re.findall(rf'{name}{{[^}}]*verb="do_exchange"[^}}]*}} (\S+)', page))


def open_streams(server) -> int:
    return metric(server, "volary_requests_running")


def freed(session) -> bool:
    return session._jvm.org.apache.spark.sql.util.ArrowUtils.rootAllocator().getAllocatedMemory() == 0


def rows(session, count: int, partitions: int = 4):
    return session.range(0, count, 1, partitions).selectExpr("id", "id / 1000 AS x")


# -- which server -----------------------------------------------------------------------------------------------------


def test_partitions_go_to_the_servers_in_turn(spark_in_jvm, cluster, lines):
    def streams():
        return [metric(server, "volary_requests_total") for server in cluster.servers]

    before = streams()
    scored = VolaryModel(lines, server=[server.url for server in cluster.servers]).transform(rows(spark_in_jvm, 4_000))
    assert len(scored.collect()) == 4_000
    assert [now - was for now, was in zip(streams(), before, strict=True)] == [2, 1, 1], "of four partitions"


def test_a_server_that_is_gone_is_passed_over_and_one_that_goes_is_named(spark_in_jvm, tmp_path_factory):
    store, logs = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs")
    with Cluster(2, store, logs) as pair:
        trained(pair)
        urls = [server.url for server in pair.servers]
        scored = VolaryModel("lines", server=urls).transform(rows(spark_in_jvm, 3_000))
        expected = scored.collect()
        pair.servers[1].kill()
        assert scored.collect() == expected, "two of the partitions were the other's"
        pair.servers[0].kill()
        with pytest.raises(
            Exception, match=rf"volary\.errors\.UnavailableError: ({'|'.join(urls)}) cannot be reached: .*refused"
        ):
            scored.collect()
    assert freed(spark_in_jvm)


def test_a_server_that_is_killed_while_it_answers_ends_the_job_with_its_error(spark_in_jvm, tmp_path_factory):
    store, logs = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs")
    with Cluster(1, store, logs) as alone:
        trained(alone)
        server = alone.servers[0]
        scored = VolaryModel("lines", server=alone.url).transform(rows(spark_in_jvm, 10**10, 1))
        with Running(scored) as running:
            until(lambda: open_streams(server) > 0, lambda: "no stream was opened")
            server.kill()
            assert "volary.errors.UnavailableError" in str(running.error())
    assert freed(spark_in_jvm)


# -- the end of a task ------------------------------------------------------------------------------------------------


class Running:
    """A job in a thread of its own, which is ended when the block is left."""

    def __init__(self, df, interrupt: bool = False) -> None:
        self._context = df.sparkSession.sparkContext
        self._failed: list[Exception] = []
        self.group = f"group {id(self)}"

        def run() -> None:
            self._context.setJobGroup(self.group, "endless", interrupt)
            try:
                df.write.format("noop").mode("overwrite").save()
            except Exception as error:
                self._failed.append(error)

        from pyspark import InheritableThread

        self._thread = InheritableThread(target=run)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._context.cancelJobGroup(self.group)

    def error(self) -> Exception:
        self._thread.join(60)
        assert not self._thread.is_alive()
        (error,) = self._failed
        return error


@pytest.fixture(scope="module")
def many_files(spark_in_jvm, tmp_path_factory):
    """The paths of more rows than are answered in the time of a test."""
    path = str(tmp_path_factory.mktemp("files") / "rows")
    rows(spark_in_jvm, 1_000_000, 1).write.parquet(path)
    return [path] * 30


@pytest.mark.parametrize("interrupt", [False, True])
@pytest.mark.parametrize("columnar", [False, True])
def test_a_job_that_is_ended_leaves_the_server_idle_and_no_memory(
    spark_in_jvm, cluster, lines, many_files, interrupt, columnar
):
    endless = spark_in_jvm.read.parquet(*many_files) if columnar else rows(spark_in_jvm, 10**10, 2)
    server = cluster.servers[0]
    with Running(VolaryModel(lines, server=cluster.url).transform(endless), interrupt) as running:
        until(lambda: open_streams(server) > 0, lambda: "no stream was opened")
        running.end()
        assert "cancelled" in str(running.error())
    until(lambda: open_streams(server) == 0, lambda: f"{open_streams(server)} streams are open")
    until(lambda: freed(spark_in_jvm), lambda: "memory is held")


# -- what a server answers --------------------------------------------------------------------------------------------


class Scripted(flight.FlightServerBase):
    """Answers each batch by `scorer`, and keeps the headers and commands that came."""

    def __init__(self, scorer) -> None:
        self.headers: list[dict] = []
        self.commands: list[bytes] = []
        self.scorer = scorer
        self.asked = threading.Event()
        super().__init__("grpc://127.0.0.1:0", middleware={"headers": Headers(self.headers)})

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def do_exchange(self, context, descriptor, reader, writer):
        self.commands.append(descriptor.command)
        begun = False
        for chunk in reader:
            self.asked.set()
            answer = self.scorer(chunk.data, context)
            if answer is None:
                return
            if not begun:
                writer.begin(answer.schema)
                begun = True
            writer.write_batch(answer)


class Headers(flight.ServerMiddlewareFactory):
    def __init__(self, kept: list[dict]) -> None:
        self._kept = kept

    def start_call(self, info, headers):
        self._kept.append({name: values[0] for name, values in headers.items()})


def scored(session, server: Scripted, answers: pa.Schema, made: list[Answer], df=None, **connection):
    """The DataFrame that asks this server, which tells nothing about itself."""
    network = ServedNetwork(Servers.of(server.url, **connection), "m", 3, ("x",), answers)
    return jvm.added(rows(session, 1_000, 2) if df is None else df, network, {"x": 1}, made, None)


def plain(session, scorer, **connection):
    """What a server that answers by `scorer` is asked for, with one answer column."""
    kind = pa.float64()
    answers = pa.schema({"prediction": kind})
    return scored(
        session, Scripted(scorer), answers, [Answer("prediction", "prediction", "number", kind)], **connection
    )


def halves(batch, context):
    return pa.record_batch({"prediction": pa.array(batch["x"].to_numpy() / 2)})


def test_headers_and_the_version_go_with_every_call(spark_in_jvm):
    server = Scripted(halves)
    answers = [Answer("prediction", "prediction", "number", pa.float64())]
    schema = pa.schema({"prediction": pa.float64()})
    got = scored(spark_in_jvm, server, schema, answers, headers={"authorization": "Bearer secret"})
    assert [row.prediction for row in got.collect()] == [row.x / 2 for row in rows(spark_in_jvm, 1_000, 2).collect()]
    assert [each["authorization"] for each in server.headers] == ["Bearer secret"] * 2, "one stream for each partition"
    assert set(server.commands) == {b'{"@type":"type.googleapis.com/volary.v1.Predict","model":"m","version":3}'}
    shown = got._jdf.queryExecution().toString()
    assert "m@3" in shown
    assert "secret" not in shown, "a plan shows no header"


def test_answers_of_every_type_and_null_are_kept(spark_in_jvm):
    def answered(batch, context):
        count = batch.num_rows
        numbers = np.arange(count)
        empty = numbers % 3 == 0
        lists = pa.array([None if at % 3 == 0 else [float(at), float(at + 1)] for at in range(count)])
        return pa.record_batch(
            {
                "float": pa.array(numbers / 4, pa.float32(), mask=empty),
                "unsigned": pa.array(np.uint64(1 << 63) + numbers.astype(np.uint64)),
                "small": pa.array((numbers % 100 - 50).astype(np.int8)),
                "fixed": pa.array(lists.to_pylist(), pa.list_(pa.float32(), 2)),
                "list": lists,
                "chance": pa.array(numbers / 1000, pa.float32(), mask=empty),
                "text": pa.array([f"t{at}" for at in range(count)], pa.large_string(), mask=empty),
                "flag": pa.array(numbers % 2 == 0, mask=empty),
            }
        )

    kinds = {
        "float": "number", "unsigned": "number", "small": "number", "fixed": "numbers", "list": "numbers",
        "chance": "vector", "text": "as_is", "flag": "as_is",
    }  # fmt: skip
    schema = answered(pa.record_batch({"x": pa.array([0.0])}), None).schema
    made = [Answer(name, name, kind, schema.field(name).type) for name, kind in kinds.items()]
    made.append(Answer("fixed", "vector", "vector", schema.field("fixed").type))
    server = Scripted(answered)
    got = scored(spark_in_jvm, server, schema, made, rows(spark_in_jvm, 300, 1)).collect()
    for at, row in enumerate(got):
        there = at % 3 > 0
        assert row.float == (at / 4 if there else None)
        assert (row.unsigned, row.small) == (float((1 << 63) + at), at % 100 - 50)
        assert row.fixed == row.list == ([at, at + 1] if there else None)
        assert (list(row.vector) if there else row.vector) == row.list
        chance = float(np.float32(at / 1000))
        assert (list(row.chance) if there else row.chance) == ([1 - chance, chance] if there else None)
        assert (row.text, row.flag) == ((f"t{at}", at % 2 == 0) if there else (None, None))
    assert freed(spark_in_jvm)


def test_answers_that_lack_rows_are_no_answers(spark_in_jvm):
    with pytest.raises(Exception, match=r"InternalError: the server answered \d+ rows for \d+; ask again"):
        plain(spark_in_jvm, lambda batch, context: halves(batch.slice(1), context)).collect()
    with pytest.raises(Exception, match=r"InternalError: the server ended its answers before \d+ rows that are left"):
        plain(spark_in_jvm, lambda batch, context: None).collect()

    def refuse(batch, context):
        raise flight.FlightUnauthenticatedError("who are you?")

    with pytest.raises(Exception, match=r"volary\.errors\.UnauthenticatedError: who are you\?"):
        plain(spark_in_jvm, refuse).collect()
    assert freed(spark_in_jvm)


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_job_that_waits_for_a_server_that_says_nothing_can_be_ended(spark_in_jvm, interrupt):
    over = threading.Event()

    def silent(batch, context):
        over.wait(60)

    server = Scripted(silent)
    made = [Answer("prediction", "prediction", "number", pa.float64())]
    with Running(scored(spark_in_jvm, server, pa.schema({"prediction": pa.float64()}), made), interrupt) as running:
        assert server.asked.wait(60)
        running.end()
        assert "cancelled" in str(running.error())
    until(lambda: freed(spark_in_jvm), lambda: "memory is held")
    over.set()


# -- certificates -----------------------------------------------------------------------------------------------------


def keys_in_every_form(identity) -> list[bytes]:
    """The same key as tools write it: by its own standard, and by the one for all kinds."""
    from cryptography.hazmat.primitives import serialization as forms

    key = forms.load_pem_private_key(identity.private_key.read_bytes(), None)
    written = [
        key.private_bytes(forms.Encoding.PEM, form, forms.NoEncryption())
        for form in (forms.PrivateFormat.TraditionalOpenSSL, forms.PrivateFormat.PKCS8)
    ]
    assert [each.split(b"\n")[0] for each in written] == [
        b"-----BEGIN EC PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----",
    ]
    return written


def test_certificates_go_along_and_wrong_ones_are_refused(spark_in_jvm, tmp_path_factory):
    authority, stranger = (Authority(tmp_path_factory.mktemp(name)) for name in ("authority", "stranger"))
    identity = authority.issue("client", "a.client")
    mine = {"tls_root_certs": authority.root, "cert_chain": identity.cert_chain, "private_key": identity.private_key}
    options = served(authority.issue("server"), client_ca=authority.root)
    with Cluster(1, tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs"), options, mine) as guarded:
        trained(guarded)
        df = rows(spark_in_jvm, 1_000, 2)
        scored = VolaryModel("lines", server=guarded.url, **mine).transform(df)
        expected = [row.prediction for row in scored.collect()]
        assert len(expected) == 1_000
        shown = scored._jdf.queryExecution().toString()
        assert "lines@1" in shown
        assert "PRIVATE" not in shown, "a plan shows no key"

        def answered(**connection) -> list:
            network = ServedNetwork(Servers.of(guarded.url, **connection), "lines", 1, ("x",), schema)
            return [row.prediction for row in jvm.added(df, network, {"x": 1}, made, None).collect()]

        schema = pa.schema({"prediction": pa.bool_()})
        made = [Answer("prediction", "prediction", "as_is", pa.bool_())]
        for key in keys_in_every_form(identity):
            assert answered(**{**mine, "private_key": key}) == expected
        anybody = {name: value for name, value in mine.items() if name != "tls_root_certs"}
        assert answered(**anybody, disable_server_verification=True) == expected
        assert answered(**mine, override_hostname="localhost") == expected
        for wrong, why in (
            ({"tls_root_certs": stranger.root}, "certification path"),
            ({"override_hostname": "elsewhere"}, "elsewhere"),
        ):
            words = rf"UnavailableError: {re.escape(guarded.url)} cannot be reached: .*{why}"
            with pytest.raises(Exception, match=words):
                answered(**{**mine, **wrong})
    assert freed(spark_in_jvm)
