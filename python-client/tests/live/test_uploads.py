"""Uploads in parts against two servers over one store: any server takes any call, and what dies doubles nothing."""

from __future__ import annotations

import base64
import json
import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest

import volary
from cluster import Cluster
from volary import errors


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def pair(place, tmp_path_factory):
    """Two servers, and a client of each."""
    with (
        Cluster(2, place, tmp_path_factory.mktemp("logs")) as servers,
        volary.connect(servers.servers[0].url) as one,
        volary.connect(servers.servers[1].url) as two,
    ):
        yield one, two


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


def wait_until(what, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_parts_go_to_different_servers_and_are_read_back_by_every_door(pair, place):
    deltalake = pytest.importorskip("deltalake")
    one, two = pair
    upload = one.begin_upload("parts")
    for part in (10, 9, 1, 0):
        client = pair[part % 2]
        client.upload(upload.id).put_part(part, numbers(part * 10, part * 10 + 1))
    with pytest.raises(errors.NotFoundError, match="parts"):
        two.table("parts").to_arrow()
    table = two.upload(upload.id).commit()
    expected = [0, 1, 10, 11, 90, 91, 100, 101]
    assert table.reference == "parts@0"
    assert one.table("parts").to_arrow()["n"].to_pylist() == expected
    info = one._transport._client.get_flight_info(
        fl.FlightDescriptor.for_command(json.dumps({"@type": "volary.v1.Read", "dataset": "parts"}))
    )
    assert len(info.endpoints) == 4
    read = [two._transport._client.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
    assert pa.concat_tables(read)["n"].to_pylist() == expected
    assert one.sql("SELECT sum(n) AS total, count(*) AS rows FROM parts").to_arrow().to_pylist() == [
        {"total": sum(expected), "rows": 8}
    ]
    from_delta = deltalake.DeltaTable(str(place / "datasets" / "parts")).to_pyarrow_table()
    assert sorted(from_delta["n"].to_pylist()) == expected
    # The same upload committed again, anywhere, is the same version.
    assert one.upload(upload.id).commit().version == 0
    assert two.table("parts").rows == 8


def test_tasks_run_twice_at_the_same_time_double_nothing(pair):
    one, two = pair
    upload = one.begin_upload("raced")
    tasks = [(client, part, attempt) for part in range(4) for attempt in range(2) for client in (one, two)]
    problems: list[BaseException] = []

    def run(client, part, attempt):
        try:
            client.upload(upload.id).put_part(part, numbers(*range(part * 1000, part * 1000 + 1000)), attempt)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(upload.status().parts) == 8
    versions = [client.upload(upload.id).commit().version for client in (two, one)]
    assert versions == [0, 0]
    assert one.table("raced").to_arrow()["n"].to_pylist() == list(range(4000))


def test_a_server_killed_in_the_middle_of_a_part_costs_that_part_alone(tmp_path):
    store = tmp_path / "store"
    with Cluster(2, store, tmp_path) as servers, volary.connect(servers.servers[1].url) as other:
        victim = servers.servers[0]
        with volary.connect(victim.url) as client:
            upload = client.begin_upload("survivor", lifetime_seconds=3600)
            upload.put_part(0, numbers(1, 2))
            killed = threading.Event()

            def rows():
                batch = pa.record_batch({"n": pa.array(range(70_000), pa.int64())})
                for _ in range(4):
                    yield batch
                wait_until(lambda: list((store / "datasets" / "survivor").glob("*.parquet#*")))
                victim.kill()
                killed.set()
                while True:
                    yield batch

            reader = pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), rows())
            with pytest.raises(errors.VolaryError):
                upload.put_part(1, reader)
            assert killed.is_set()
        again = other.upload(upload.id)
        assert [(each.part, each.rows) for each in again.status().parts] == [("0", 2)]
        again.put_part(1, numbers(3, 4), attempt=1)
        again.commit()
        assert other.table("survivor").to_arrow()["n"].to_pylist() == [1, 2, 3, 4]
        # Nothing is left of the part that the killed server was writing.
        assert len(list((store / "datasets" / "survivor").glob("*.parquet*"))) == 2


def test_an_upload_left_alone_expires_and_leaves_no_file(pair, place):
    one, two = pair
    upload = one.begin_upload("forgotten", lifetime_seconds=1)
    upload.put_part("a", numbers(1))
    folder = place / "datasets" / "forgotten"
    assert list(folder.glob("*.parquet"))
    # No call is made that would find it expired: the servers see to it.
    wait_until(lambda: not list(folder.glob("*.parquet")))
    with pytest.raises(errors.FailedPreconditionError, match=r"expired at .*nothing had come for it for 1 s"):
        two.upload(upload.id).put_part("b", numbers(2))
    with pytest.raises(errors.FailedPreconditionError, match="longer lifetime_seconds"):
        upload.commit()
    assert upload.status().state == "EXPIRED"
    assert upload.id not in [each.id for each in two.uploads()]


def test_a_failed_block_leaves_nothing(pair, place):
    one, two = pair
    with pytest.raises(ZeroDivisionError), one.begin_upload("failed") as upload:
        upload.put_part(0, numbers(1))
        1 / 0  # noqa: B018
    assert not list((place / "datasets" / "failed").glob("*.parquet"))
    with pytest.raises(errors.FailedPreconditionError, match="was aborted at"):
        two.upload(upload.id).commit()


def test_a_source_that_breaks_off_leaves_no_part(pair, place):
    one, _ = pair

    def rows():
        yield pa.record_batch({"n": pa.array([1], pa.int64())})
        raise OSError("the disk is gone")

    upload = one.begin_upload("broken")
    with pytest.raises(OSError, match="disk is gone"):
        upload.put_part(0, pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), rows()))
    wait_until(lambda: not list((place / "datasets" / "broken").glob("*.parquet*")))
    assert upload.status().parts == ()
    upload.abort()


def test_words_for_what_cannot_be(pair):
    one, two = pair
    one.put("there", {"n": [1]})
    with pytest.raises(errors.AlreadyExistsError, match="there"):
        two.begin_upload("there")
    with pytest.raises(errors.InvalidArgumentError, match='column "n" is missing'):
        two.begin_upload("there", mode="append", schema=pa.schema([("m", pa.int64())]))
    union = pa.schema([("u", pa.sparse_union([pa.field("a", pa.int64())]))])
    with pytest.raises(errors.InvalidArgumentError, match=r'column "u" of type .* cannot be stored'):
        one.begin_upload("union", schema=union)
    with pytest.raises(errors.InvalidArgumentError, match="lifetime of 604801 s cannot be"):
        one.begin_upload("long", lifetime_seconds=604_801)
    with pytest.raises(errors.InvalidArgumentError, match='upload id "u" is not a UUID'):
        one.upload("u").commit()
    with pytest.raises(errors.NotFoundError, match="there is no upload"):
        one.upload("00000000-0000-7000-8000-000000000000").put_part(0, numbers(1))
    upload = one.begin_upload("words")
    with pytest.raises(errors.FailedPreconditionError, match="no parts and no schema"):
        upload.commit()
    with pytest.raises(errors.InvalidArgumentError, match=r"part .* cannot be used: it is empty"):
        upload.put_part("", numbers(1))
    upload.put_part(0, numbers(1))
    with pytest.raises(
        errors.FailedPreconditionError, match='no finished attempt 1 of part "0", attempt 0 of part "7"'
    ):
        two.upload(upload.id).commit([(0, 1), (7, 0)])
    with pytest.raises(
        errors.InvalidArgumentError, match=r'part "1" does not fit .* column "n" is Int64 in the upload'
    ):
        two.upload(upload.id).put_part(1, {"n": ["text"]})
    upload.abort()
    empty = one.begin_upload("empty", schema=pa.schema([("n", pa.int64())]))
    assert empty.commit().to_arrow().num_rows == 0


def test_bare_pyarrow_uploads_in_parts_with_commands_as_json(pair):
    one, two = (fl.connect(client.url) for client in pair)

    def act(client, kind, **fields):
        return [json.loads(r.body.to_pybytes()) for r in client.do_action(fl.Action(kind, json.dumps(fields).encode()))]

    schema = numbers().schema
    encoded = base64.b64encode(schema.serialize()).decode()
    [upload] = act(one, "BeginUpload", dataset="bare", mode="OVERWRITE", schema=encoded)
    assert upload["@type"].endswith("volary.v1.Upload")
    assert (upload["state"], upload["mode"], upload["parts"]) == ("OPEN", "OVERWRITE", [])
    for client, part in ((one, "b"), (two, "a")):
        command = {"@type": "volary.v1.PutPart", "upload": upload["id"], "part": part, "attempt": 3}
        writer, acknowledgements = client.do_put(fl.FlightDescriptor.for_command(json.dumps(command)), schema)
        writer.write_table(numbers(ord(part), ord(part) + 10))
        writer.done_writing()
        heard = []
        while (message := acknowledgements.read()) is not None:
            heard.append(json.loads(message.to_pybytes()))
        writer.close()
        assert heard == [{"rows": 2}, {"rows": 2, "part": part, "attempt": 3}]
    [described] = act(two, "DescribeUpload", id=upload["id"])
    assert [(part["part"], part["attempt"], part["rows"]) for part in described["parts"]] == [("a", 3, 2), ("b", 3, 2)]
    assert upload["id"] in [each["id"] for each in act(one, "ListUploads")]
    order = [{"part": "b", "attempt": 3}, {"part": "a", "attempt": 3}]
    [dataset] = act(two, "CommitUpload", id=upload["id"], parts=order)
    assert (dataset["name"], dataset["version"], dataset["rows"], dataset["files"]) == ("bare", 0, 4, 2)
    assert act(one, "CommitUpload", id=upload["id"], parts=order) == [dataset]
    with pytest.raises(pa.ArrowInvalid, match=r"committed at .* with other parts"):
        act(one, "CommitUpload", id=upload["id"], parts=order[::-1])
    ticket = one.get_flight_info(fl.FlightDescriptor.for_path("bare")).endpoints[0].ticket
    assert one.do_get(ticket).read_all()["n"].to_pylist() == [98, 108, 97, 107]
    [done] = act(one, "AbortUpload", id=act(two, "BeginUpload", dataset="other")[0]["id"])
    assert done["@type"].endswith("volary.v1.Done")
