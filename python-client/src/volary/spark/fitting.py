"""One training of a DataFrame: its rows go to temporary datasets, a job trains on them, and the datasets go again.

Fits over the same DataFrame, as CrossValidator makes them, may share one upload. A job with checkpoints goes on when it
has lost a server. Nothing is left behind, whether a fit ends well or not. When the driver dies, the servers cancel its job
after a lease, and drop the datasets that were made for that job alone; those that several fits share, or that a job with
checkpoints may begin anew on, stay, and are named ``temporary-<stage>-<purpose>-<random>``.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .. import errors, jobs
from ..client import Client
from ..errors import InvalidArgumentError
from ..jobs import History, JobHandle, owned
from ..listing import Job
from .columns import columns_of, is_vector
from .names import chosen, heeds_case, meant, quoted
from .servers import Servers
from .writing import upload

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

__all__ = ["SharedRows", "train"]

#: Seconds without a sign of the driver, after which the servers cancel its job.
LEASE_SECONDS = jobs.LEASE_SECONDS
#: How often a job goes on from its newest checkpoint, as the older system's default had it.
RESUMES = 5
#: How long it is waited until the servers that are left know that one is lost, and how often it is asked.
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.5
#: How often a job may fall silent altogether.
SILENCES = 100

T = TypeVar("T")


@dataclass
class _Upload:
    dataset: str
    servers: Servers
    rows: int


@dataclass
class SharedRows:
    """What so many fits over the same rows have uploaded; it is dropped when the last one is over, or one has failed."""

    fits: int
    _uploads: dict[Any, _Upload] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _running: int = 0
    _failed: bool = False

    def __post_init__(self) -> None:
        #: Whether what is uploaded is for one job alone.
        self.alone = self.fits == 1

    @contextlib.contextmanager
    def fit(self) -> Iterator[None]:
        """The time of one fit."""
        with self._lock:
            self._running += 1
        try:
            yield
        except BaseException:
            self._failed = True
            raise
        finally:
            with self._lock:
                self._running -= 1
                self.fits -= 1
                if self._running == 0 and (self._failed or self.fits <= 0):
                    self.drop()

    def dataset(self, df: DataFrame, servers: Servers, purpose: str, prepared: Preparation) -> str:
        """The dataset of the DataFrame's columns, written when it is first asked for."""
        key = (id(df), servers, prepared.key())
        with self._lock:
            if key not in self._uploads:
                name = f"temporary-{purpose}-{secrets.token_hex(6)}"
                chosen = prepared.of(df)
                columns = columns_of(chosen.schema, sizes=prepared.sizes(chosen), whole=prepared.whole)
                uploaded = _Upload(name, servers, 0)
                try:
                    with servers.client() as client:
                        _, uploaded.rows = upload(client, chosen, name, servers, columns)
                except BaseException:
                    # A commit whose answer is lost is dropped too. The next fit uploads anew, and hears for itself what is wrong.
                    _drop(uploaded)
                    raise
                self._uploads[key] = uploaded
            if self._uploads[key].rows == 0:
                raise InvalidArgumentError("the DataFrame has no rows; give at least one")
            return self._uploads[key].dataset

    def drop(self) -> None:
        """Remove what was uploaded."""
        with self._lock:
            while self._uploads:
                _drop(self._uploads.popitem()[1])


def _drop(uploaded: _Upload) -> None:
    try:
        with uploaded.servers.client() as client:
            client.drop_dataset(uploaded.dataset)
    except errors.NotFoundError:
        pass  # the servers dropped it with its job, or it never came to be
    except errors.VolaryError as error:
        warnings.warn(f'the dataset "{uploaded.dataset}" could not be removed: {error}', stacklevel=3)


@dataclass(frozen=True)
class Preparation:
    """Which columns of a DataFrame a training reads, and how they travel."""

    features: tuple[str, ...]
    others: tuple[str, ...]
    whole: frozenset[str] = frozenset()

    def key(self) -> tuple[Any, ...]:
        """Two of the same key have the same rows on the cluster."""
        return (self.features, self.others, self.whole)

    def of(self, df: DataFrame) -> DataFrame:
        """The columns that are read, each once, named as the stage names them."""
        names = list(dict.fromkeys([*self.features, *self.others]))
        columns, case = df.columns, heeds_case(df)
        wanted = {name: meant(name, columns, case) for name in names}
        if lacking := [name for name, column in wanted.items() if column not in columns]:
            raise InvalidArgumentError(
                f'the DataFrame has no column "{lacking[0]}"; its columns are {", ".join(columns)}'
            )
        return chosen(df, wanted)

    def sizes(self, df: DataFrame) -> dict[str, int]:
        """The length of each column of Vectors or arrays: what its metadata say, else that of the first row.

        Networks read and answer rows of one length; a row of another one is refused by its column when it is sent.
        """
        from pyspark.sql import functions

        sizes, unknown = {}, []
        for each in df.schema.fields:
            stated = (each.metadata.get("ml_attr") or {}).get("num_attrs")
            if is_vector(each.dataType) and stated is not None:
                sizes[each.name] = int(stated)
            elif is_vector(each.dataType) or _is_numbers(each.dataType):
                unknown.append(each)
        for each in unknown:
            column = functions.col(quoted(each.name))
            if is_vector(each.dataType):
                from pyspark.ml.functions import vector_to_array

                column = vector_to_array(column)
            first = df.where(column.isNotNull()).select(functions.size(column)).first()
            if first is not None:
                sizes[each.name] = int(first[0])
        return sizes


def _is_numbers(kind: Any) -> bool:
    from pyspark.sql.types import ArrayType, NumericType

    return isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType)


#: Losses whose label is a class; Spark's classes are doubles, and go as the whole numbers that they are.
CLASS_LOSSES = frozenset(
    {
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_generalized_cross_entropy",
    }
)


def whole_labels(schema: StructType, label: str, loss: Any) -> Collection[str]:
    """The label, where it is a number and the loss is one over classes."""
    name = loss.get("name") if isinstance(loss, dict) else loss
    return frozenset([label] if name in CLASS_LOSSES else [])


def train(
    servers: Servers,
    request: dict[str, Any],
    verbose: int,
    heard: Callable[[JobHandle], None],
    made_for_it: Collection[str] = (),
) -> tuple[Job, History]:
    """Run the job to its end; answers the last state and the history. `heard` is told of every job that is started.

    Whatever leaves this before the end, Ctrl-C included, cancels the job; when the process dies, its lease does. The datasets
    `made_for_it` go when the job has ended.
    """
    request = {**request, "leaseSeconds": LEASE_SECONDS}
    if (
        "checkpoints" not in request
    ):  # one that has lost a server before its first checkpoint begins anew on the same rows
        request["dropDatasets"] = list(dict.fromkeys(made_for_it))
    started: list[str] = []
    with contextlib.ExitStack() as clients:
        client = clients.enter_context(servers.client())
        try:
            with contextlib.ExitStack() as running:
                job = running.enter_context(owned(lambda: client.train(request)))
                started.append(job.id)
                silences = 0
                while True:
                    heard(job)
                    try:
                        done = job.wait(verbose, "epoch")
                        return done, job.history()
                    except errors.UnavailableError:
                        silences += 1
                        if "checkpoints" not in request or len(started) > RESUMES or silences > SILENCES:
                            raise
                    client = clients.enter_context(_patiently(servers.client))
                    lost = job
                    start = functools.partial(_gone_on, client, lost.id, request)
                    job = _patiently(lambda: running.enter_context(owned(start)))  # noqa: B023  called at once
                    lost._over = True  # as far as this driver can tell; what it cancels from here on is the other
                    if job.id != started[-1]:
                        started.append(job.id)
        finally:
            if "checkpoints" in request:
                for each in reversed(started):
                    with contextlib.suppress(errors.VolaryError):
                        client.job(each).drop_checkpoints()


def _gone_on(client: Client, lost: str, request: dict[str, Any]) -> JobHandle:
    """The job itself where only the connection was lost, else one that goes on from its checkpoint, or begins anew."""
    job = client.job(lost)
    if (state := job.status()).state not in ("FAILED", "CANCELLED"):
        time.sleep(PAUSE_SECONDS)  # its server may be the one that is lost, which is not known yet
        return job
    if state.state == "CANCELLED":
        raise errors.CancelledError(state.error or f"job {lost} was cancelled")
    try:
        return job.resume(lease_seconds=request["leaseSeconds"])
    except errors.NotFoundError:
        return client.train(request)


def _patiently(act: Callable[[], T]) -> T:
    """Do it once the servers that are left will have it: they hear of the loss of another within seconds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return act()
        except (errors.UnavailableError, errors.FailedPreconditionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)
