"""What Spark's tasks and drivers make of servers that fail them, without Spark's engine and without a server."""

from __future__ import annotations

import threading
from collections import deque

import pyarrow as pa
import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed")

from volary._transport import BatchStream
from volary.errors import InternalError, ResourceExhaustedError
from volary.spark import fitting, scoring, servers

SCHEMA = pa.schema({"prediction": pa.float32()})


def answers(*lengths: int) -> BatchStream:
    """A server's answers in pieces of so many rows."""
    batches = [pa.record_batch({"prediction": pa.array([0.5] * rows, pa.float32())}) for rows in lengths]
    return BatchStream(SCHEMA, iter(batches))


def test_answers_come_in_the_lengths_of_the_questions():
    got = [batch.num_rows for batch in scoring._of_lengths(answers(2, 3, 4), deque([5, 4]))]
    assert got == [5, 4]


@pytest.mark.parametrize(("pieces", "asked"), [((5,), [5, 4]), ((5, 3), [5, 4]), ((), [1]), ((6,), [5]), ((5, 1), [5])])
def test_answers_that_are_too_few_or_too_many_are_an_error(pieces, asked):
    with pytest.raises(InternalError, match="the server ended its answers with"):
        list(scoring._of_lengths(answers(*pieces), deque(asked)))


def test_a_task_begins_with_the_server_of_its_partition_and_goes_on_to_the_next(monkeypatch):
    from pyspark import TaskContext

    class Task:
        def __init__(self, partition, attempt):
            self.partitionId, self.attemptNumber = (lambda: partition), (lambda: attempt)

    turns = []
    for partition, attempt in [(0, 0), (1, 0), (2, 0), (2, 1)]:
        task = Task(partition, attempt)
        monkeypatch.setattr(TaskContext, "get", lambda task=task: task)
        turns.append(servers.task_turn())
    assert turns == [0, 1, 2, 3]
    monkeypatch.setattr(TaskContext, "get", lambda: None)
    assert len({servers.task_turn() % 3 for _ in range(200)}) == 3, "outside a task, any server's"


class Frame:
    """Enough of a DataFrame for a fit that never gets to its rows."""

    columns = ("x",)
    schema = type("Schema", (), {"fields": ()})()
    sparkSession = type("Session", (), {"conf": {}})()

    def select(self, names):
        return self


class Gone:
    """Servers that have no dataset."""

    def client(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def drop_dataset(self, name):
        raise fitting.errors.NotFoundError(f'there is no dataset "{name}"')


def test_fits_side_by_side_all_hear_why_their_rows_were_not_taken(monkeypatch):
    def full(*given):
        raise ResourceExhaustedError("disk full")

    monkeypatch.setattr(fitting, "upload", full)
    monkeypatch.setattr(fitting, "columns_of", lambda *given, **options: [])
    shared, frame, heard = fitting.SharedRows(2), Frame(), []
    both = threading.Barrier(2)

    def fit():
        try:
            with shared.fit():
                both.wait()
                shared.dataset(frame, Gone(), "purpose", fitting.Preparation(("x",), ()))
        except Exception as error:
            heard.append(str(error))

    fits = [threading.Thread(target=fit) for _ in range(2)]
    for each in fits:
        each.start()
    for each in fits:
        each.join()
    assert heard == ["disk full", "disk full"]
