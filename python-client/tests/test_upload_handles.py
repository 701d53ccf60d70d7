"""The handle of an upload in parts, beside a recording server."""

from __future__ import annotations

import base64

import pyarrow as pa
import pytest

import volary
from volary import errors
from volary.uploads import Part

ROWS = pa.table({"n": [1, 2, 3]})


@pytest.fixture
def begun(server):
    """A server that begins uploads "u" and commits them as version 4 of "t"."""
    server.answers["BeginUpload"] = [{"id": "u", "dataset": "t", "state": "OPEN"}]
    server.answers["CommitUpload"] = [{"name": "t", "version": "4", "rows": "3"}]
    server.answers["AbortUpload"] = [{}]
    return server


def test_parts_are_sent_and_committed_in_the_order_given(client, begun):
    upload = client.begin_upload("t", mode="append", schema=ROWS.schema, lifetime_seconds=60)
    assert repr(upload) == "Upload('u')"
    heard = []
    first = upload.put_part(0, ROWS, acknowledged=heard.append)
    second = upload.put_part("1", {"n": [4]}, attempt=2)
    assert (first, second) == (Part("0", 0, 3), Part("1", 2, 1))
    assert heard == [3]
    assert begun.parts["u", "0", 0] == ROWS
    assert upload.commit([second, ("0", 0)]).reference == "t@4"
    assert upload.commit().version == 4
    [question] = begun.asked("BeginUpload")
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(question.pop("schema"))))
    assert schema == ROWS.schema
    assert question == {"dataset": "t", "mode": "APPEND", "lifetimeSeconds": 60}
    named, all_of_them = begun.asked("CommitUpload")
    assert named == {"id": "u", "parts": [{"part": "1", "attempt": 2}, {"part": "0", "attempt": 0}]}
    assert all_of_them == {"id": "u", "parts": []}


def test_another_process_takes_part_with_the_id_alone(client, begun):
    with volary.connect(client.url) as other:
        other.upload("u").put_part(7, ROWS)
    assert ("u", "7", 0) in begun.parts


def test_a_block_that_fails_aborts_and_shows_its_own_error(client, begun):
    def refuse(body):
        raise pa.ArrowInvalid("no")

    with pytest.raises(ZeroDivisionError), client.begin_upload("t"):
        1 / 0  # noqa: B018
    begun.answers["AbortUpload"] = refuse
    with pytest.raises(ZeroDivisionError), client.begin_upload("t"):
        1 / 0  # noqa: B018
    assert begun.asked("AbortUpload") == [{"id": "u"}, {"id": "u"}]
    with client.begin_upload("t"):
        pass
    with pytest.raises(ZeroDivisionError), client.begin_upload("t") as upload:
        upload.commit()
        1 / 0  # noqa: B018
    assert len(begun.asked("AbortUpload")) == 2


def test_what_is_sent_wrongly_is_refused_before_it_is_sent(client, begun):
    upload = client.upload("u")
    with pytest.raises(TypeError):
        upload.put_part(1.5, ROWS)
    with pytest.raises(TypeError):
        upload.put_part(1, ROWS, attempt="0")
    with pytest.raises(ValueError, match="empty list of parts"):
        upload.commit([])
    with pytest.raises(ValueError, match='unknown mode "replace"'):
        client.begin_upload("t", mode="replace")
    begun.put_error = pa.ArrowKeyError('there is no upload "u"')
    with pytest.raises(errors.NotFoundError, match="no upload"):
        upload.put_part(1, ROWS)


def test_uploads_are_listed_as_a_table_and_described_with_their_parts(client, server):
    answer = {
        "id": "u", "dataset": "t", "mode": "APPEND", "state": "OPEN", "created": "2026-11-26T10:00:00Z",
        "expires": "2026-11-26T11:00:00Z", "version": 0,
        "parts": [{"part": "0", "attempt": 1, "rows": "3", "bytes": "100"}],
    }  # fmt: skip
    server.answers["ListUploads"] = [answer]
    server.answers["DescribeUpload"] = [answer]
    status = client.upload("u").status()
    assert (status.parts[0].attempt, status.parts[0].rows) == (1, 3)
    assert status.version is None
    assert client.uploads()[0] == status
    assert repr(client.uploads()).splitlines()[1] == (
        "u   t        APPEND  OPEN   2026-11-26 10:00:00  2026-11-26 11:00:00"
    )
    server.answers["DescribeUpload"] = [{**answer, "state": "COMMITTED"}]
    assert client.upload("u").status().version == 0


def test_an_upload_shows_its_parts_in_a_notebook(client, server):
    parts = [{"part": "0", "attempt": 1, "rows": "2000", "bytes": "2048"}]
    server.answers["DescribeUpload"] = [{"id": "u-1", "dataset": "t", "state": "OPEN", "parts": parts}]
    shown = client.upload("u-1")._repr_html_()
    assert "Upload u-1 into t: OPEN" in shown
    assert ">2,000<" in shown
    assert ">2 KiB<" in shown
