"""Training and scoring jobs: their state, their history, waiting for them, cancelling them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _html, _interrupts, errors
from ._commands import plain
from ._transport import Transport
from .listing import NOT_METRICS, Job, job_facts
from .progress import Progress, metrics_in_order, metrics_text

if TYPE_CHECKING:
    import os

__all__ = ["History", "JobHandle", "owned"]

# Seconds without a sign of the client that owns a job, after which the servers cancel it. A stream that watches the job is such
# a sign, so this is what a client may be cut off for.
LEASE_SECONDS = 60
# Seconds that an interrupted client gives a server to hear of it, and a job to end.
CANCEL_SECONDS = 5.0
END_SECONDS = 10.0
# Epochs that are printed of a long history, from its beginning and from its end.
SHOWN_FIRST, SHOWN_LAST = 5, 15


class JobHandle:
    """A job under way or finished, on whichever server it runs."""

    def __init__(self, transport: Transport, id: str) -> None:  # noqa: A002  the job's own word for it
        self._transport = transport
        self.id = id
        # Whether it is known to have ended, or was given up here.
        self._over = False

    def status(self) -> Job:
        """The job's state now."""
        return Job.from_json(self._transport.action("JobStatus", {"id": self.id}))

    def watch(self, timeout: float | None = None) -> Iterator[Job]:
        """The job's states as they change, at least two a second, until it ends; for at most `timeout` seconds."""
        for answer in self._transport.actions("WatchJob", {"id": self.id}, timeout):
            job = Job.from_json(answer)
            yield job
            if job.done:
                return

    def wait(self, verbose: int = 0, title: str = "") -> Job:
        """Wait for the end. A failed job raises its error, a cancelled one :class:`volary.errors.CancelledError`.

        An interrupt (Ctrl-C) cancels the job and waits a little until it has stopped; a second one leaves at once.
        """
        job: Job | None = None
        with Progress(title or "job", verbose) as progress:
            try:
                for job in self.watch():
                    progress.show(job)
            except KeyboardInterrupt:
                progress.say(f"interrupted; job {self.id} is being cancelled, a second interrupt does not wait for it")
                for state in self._give_up():
                    progress.show(state)
                raise
        if job is None or not job.done:
            job = self.status()
        self._over = job.done
        if job.state == "FAILED":
            raise errors.from_code(job.error_code, job.error)
        if job.state == "CANCELLED":
            raise errors.CancelledError(job.error or f"job {self.id} was cancelled")
        return job

    def _give_up(self) -> Iterator[Job]:
        """Cancel it, whatever else is wrong, and show its states for a while until it has ended."""
        self._over = True
        with contextlib.suppress(errors.VolaryError):
            self._transport.action("CancelJob", {"id": self.id}, timeout=CANCEL_SECONDS)
            yield from self.watch(END_SECONDS)

    def history(self) -> History:
        """Metrics per epoch so far."""
        return History(self, self._transport.read(["jobs", self.id, "history"]).table())

    def cancel(self) -> None:
        """Ask the job to stop; it ends as ``CANCELLED``."""
        self._transport.action("CancelJob", {"id": self.id})

    def resume(
        self,
        *,
        epochs: int | None = None,
        epoch: int | None = None,
        learning_rate: float | None = None,
        lease_seconds: int | None = None,
    ) -> JobHandle:
        """Go on with a training job that has ended, from a checkpoint (:class:`volary.callbacks.Checkpoint`).

        A new job trains the epochs that are left, on the same rows in the same order; its history begins with this job's.

        Args:
            epochs: Epochs of the whole, those that are over included; as this job was asked for when left out. As many as
                the checkpoint has: its weights are committed as they are.
            epoch: The checkpoint; the newest when left out. :meth:`status` tells which there are.
            learning_rate: In place of the optimiser's, schedules included.
            lease_seconds: Cancel the job when nobody has watched it or asked about it for so long; ``None`` lets it run to its
                end.

        Answers the new job: ``wait`` for it, then ``client.model(name)`` is its model.
        """
        request: dict[str, Any] = {"id": self.id, "epoch": _count("epoch", epoch), "epochs": _count("epochs", epochs)}
        if learning_rate is not None:
            request["learningRate"] = float(plain(learning_rate, "learning_rate"))
        if lease_seconds is not None:
            request["leaseSeconds"] = _count("lease_seconds", lease_seconds)
        return JobHandle(self._transport, str(self._transport.action("Resume", request)["id"]))

    def drop_checkpoints(self) -> None:
        """Remove what is kept of a job that has ended; refused while a job that went on from it runs or has checkpoints."""
        self._transport.action("DropCheckpoints", {"id": self.id})

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    @_html.shown
    def _repr_html_(self) -> str:
        return _html.facts(f"Job {self.id}", job_facts(self.status()))


@contextlib.contextmanager
def owned(start: Callable[[], JobHandle]) -> Iterator[JobHandle]:
    """A job that is begun for the time of the block: whatever leaves the block before it has ended cancels it.

    Ctrl-C and SIGTERM while the servers are asked for the job wait until they have said its name, for a job without a name here
    could not be cancelled.
    """
    with _interrupts.tidied(), _interrupts.held() as release:
        job = start()
        try:
            release()
            yield job
        except BaseException:
            if not job._over:
                for _ in job._give_up():
                    pass
            raise


def _count(name: str, given: int | None) -> int:
    """A number of epochs as the message has it, where 0 is none given."""
    if given is None:
        return 0
    given = plain(given, name)
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given < 1 << 32:
        raise errors.InvalidArgumentError(f"{name} is {given!r}; give a whole number from 1 on")
    return given


class History:
    """Metrics per epoch of a training job.

    ``history`` is a dict of lists, as Keras has it; ``epoch`` the epochs' numbers.
    """

    def __init__(self, job: JobHandle, table: pa.Table) -> None:
        self.job = job
        self._table = table

    @property
    def history(self) -> dict[str, list[float]]:
        """Metric name to its value after each epoch."""
        return {name: self._table[name].to_pylist() for name in self._table.column_names if name != "epoch"}

    @property
    def epoch(self) -> list[int]:
        """Numbers of the epochs."""
        if "epoch" in self._table.column_names:
            return [int(each) for each in self._table["epoch"].to_pylist()]
        return list(range(1, self._table.num_rows + 1))

    def to_arrow(self) -> pa.Table:
        """The history table as the server keeps it."""
        return self._table

    def to_pandas(self) -> Any:
        """As a pandas DataFrame."""
        return self._table.to_pandas()

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Loss on the left, the other metrics on the right; saved to `path` when given. Answers the matplotlib figure."""
        from .plot import plot_history

        return plot_history(self, path)

    def metrics(self) -> list[str]:
        """Names of the history's columns that measure the model."""
        return [name for name in self.history if name not in NOT_METRICS]

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def _shown_rows(self) -> list[int | None]:
        """The places of the epochs that are printed, ``None`` for those left out between."""
        if len(self) <= SHOWN_FIRST + SHOWN_LAST + 1:
            return list(range(len(self)))
        return [*range(SHOWN_FIRST), None, *range(len(self) - SHOWN_LAST, len(self))]

    def __repr__(self) -> str:
        lines = [f"History of {len(self)} epochs, job {self.job.id}"]
        columns, epochs = self.history, self.epoch
        for at in self._shown_rows():
            if at is None:
                lines.append("  ...")
                continue
            values = {name: columns[name][at] for name in self.metrics() if columns[name][at] is not None}
            lines.append(f"{epochs[at]:>5}  {metrics_text(values)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        columns, epochs, names = self.history, self.epoch, metrics_in_order(self.history)
        rows = [
            [("…", True)] * (len(names) + 1)
            if at is None
            else [(str(epochs[at]), True), *((_measure_text(columns[name][at]), True) for name in names)]
            for at in self._shown_rows()
        ]
        return _html.table(
            ["epoch", *names], rows, f"History of {len(self)} epochs", f"job {self.job.id}; .plot() draws it"
        )


def _measure_text(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
