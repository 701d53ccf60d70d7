"""A program whose every call is refused, breaks or is given up: python refusals.py URL TABLE MODEL. It exits 0 at its end.

A mistake in how a stream is written and read ends the process inside gRPC, where no test can catch it; so it is run as a
child. TABLE exists and has a column "a" of numbers; MODEL reads "a".
"""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa

import volary

ROUNDS = 100
NUMBERS = pa.table({"a": np.zeros(100_000)})
NOT_FINITE = pa.table({"a": pa.array(np.where(np.arange(100_000) == 50_000, np.nan, 0.0), from_pandas=False)})


def broken() -> pa.RecordBatchReader:
    """A source that fails after a few batches."""

    def batches():
        yield from NUMBERS.to_batches(max_chunksize=10_000)[:4]
        raise RuntimeError("the disk went away")

    return pa.RecordBatchReader.from_batches(NUMBERS.schema, batches())


class GivenUp(Exception):
    """The caller wants no more answers."""


def give_up(answers: pa.RecordBatchReader) -> None:
    """Read the first answers and drop the rest."""
    answers.read_next_batch()
    raise GivenUp


def main(url: str, table: str, model: str) -> None:
    """Meet every refusal many times."""
    survived = 0
    with volary.connect(url) as client:
        calls = [
            (volary.VolaryError, lambda: client.model(model).predict({"a": ["text"]})),
            (volary.VolaryError, lambda: client.model(model).predict({"other": [1.0]})),
            (volary.VolaryError, lambda: client.model(model).predict(NOT_FINITE)),
            (volary.VolaryError, lambda: client.model("nothing").predict(NUMBERS)),
            (volary.VolaryError, lambda: client.put(table, NUMBERS)),
            (volary.VolaryError, lambda: client.put(table, {"a": ["text"]}, mode="append")),
            (GivenUp, lambda: give_up(client.model(model).predict(NUMBERS.to_reader(max_chunksize=10_000)))),
            (RuntimeError, lambda: client.model(model).predict(broken()).read_all()),
            (RuntimeError, lambda: client.put(f"{table}-broken", broken())),
        ]
        for _ in range(ROUNDS):
            for error, call in calls:
                try:
                    call()
                except error:
                    survived += 1
    print(f"survived {survived} of {ROUNDS * len(calls)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
