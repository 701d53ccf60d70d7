"""The client of a cluster. One method, one verb."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from types import TracebackType
from typing import Any, Literal, Self, Unpack

import pyarrow as pa

from . import _html
from ._commands import integer
from ._commands import source as source_of
from ._tls import Pem, Tls, TlsOptions
from ._transport import Transport
from .handles import Query, Rows, ServedModel, Table, _names, put_frame, temporary
from .jobs import LEASE_SECONDS, JobHandle, owned
from .listing import Dataset, Job, Listing, Member, ModelVersion, UploadStatus
from .uploads import Upload, begin

__all__ = ["Client", "connect"]

_newest: Client | None = None


def connect(
    url: str = "grpc://127.0.0.1:50051",
    *,
    headers: Mapping[str, str] | None = None,
    tls_root_certs: Pem | None = None,
    cert_chain: Pem | None = None,
    private_key: Pem | None = None,
    disable_server_verification: bool = False,
    override_hostname: str | None = None,
) -> Client:
    """Connect to any server of a cluster; every server answers for all.

    Args:
        url: ``grpc://host:port``, or ``grpc+tls://host:port``.
        headers: Sent with every call, such as ``{"authorization": "Bearer ..."}``.
        tls_root_certs: Issuers whose servers are believed, in place of the system's: a PEM file, or its bytes.
        cert_chain: The certificate to show to a server that asks for one: a PEM file, or its bytes.
        private_key: The key of `cert_chain`: a PEM file, or its bytes.
        disable_server_verification: Believe any server: encrypted, and nobody knows for whom.
        override_hostname: The name that the server's certificate is for, where it is not the one in `url`.

    Where the first three are left out and `url` is one of TLS, the files are read that the environment variables
    ``VOLARY_TLS_ROOT_CERTS``, ``VOLARY_CERT_CHAIN`` and ``VOLARY_PRIVATE_KEY`` name, if they do.

    Example:
        >>> client = volary.connect("grpc://127.0.0.1:50051")  # doctest: +SKIP
        >>> client.put("census", df)  # doctest: +SKIP
        Table('census@0')

    The newest client is the one that ``model.fit(df, ...)`` uses for a DataFrame when no ``client`` is given.
    """
    global _newest
    _newest = Client(
        url, headers=headers, tls_root_certs=tls_root_certs, cert_chain=cert_chain, private_key=private_key,
        disable_server_verification=disable_server_verification, override_hostname=override_hostname,
    )  # fmt: skip
    return _newest


def newest_client() -> Client:
    """The client of the latest :func:`connect`."""
    if _newest is None:
        raise RuntimeError("there is no connection; call volary.connect(url) first, or pass client=")
    return _newest


def current_client() -> Client | None:
    """The client of the latest :func:`connect` that is not closed, if there is one."""
    return _newest


class Client:
    """A connection to a cluster. Use :func:`connect`; a ``with`` block closes it.

    A copy of a client is the client itself. A pickle of one holds the address, the certificates and the headers, secrets that
    are among them included, and connects anew where it is read.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, **tls: Unpack[TlsOptions]) -> None:
        self.url = url
        certificates = Tls.of(**tls)
        self._transport = Transport(url, headers=headers, tls=certificates)
        self._given = (url, dict(headers or {}), certificates)

    # -- rows ---------------------------------------------------------------------------------------------------

    def put(
        self,
        name: str,
        rows: Any,
        mode: Literal["error", "append", "overwrite"] = "error",
        acknowledged: Callable[[int], None] | None = None,
    ) -> Table:
        """Stream rows into a dataset as one version; answers that version.

        Args:
            name: The dataset.
            rows: A pandas or polars DataFrame, a pyarrow Table, RecordBatch or RecordBatchReader, a dict of columns, or
                the path of a Parquet file or directory. Readers and files are streamed and may exceed memory.
            mode: What to do when the dataset exists: ``error`` refuses, ``append`` adds a version with these rows added,
                ``overwrite`` a version with these rows alone.
            acknowledged: Called with the number of rows that the server has received so far.

        When it returns, the version is committed. When it raises, there is no trace of it.
        """
        _, version = put_frame(self._transport, name, rows, _mode(mode), acknowledged)
        return Table(self, name, version)

    def begin_upload(
        self,
        dataset: str,
        mode: Literal["error", "append", "overwrite"] = "error",
        schema: pa.Schema | None = None,
        lifetime_seconds: int | None = None,
    ) -> Upload:
        """Begin an upload in parts: many writers send them to any servers, and one commit makes them one version.

        Args:
            dataset: The dataset.
            mode: What to do when the dataset exists, as in :meth:`put`.
            schema: The columns of every part. Left out, those of the first part.
            lifetime_seconds: The time without any part after which the upload is given up: an hour when left out, at
                most a week.
        """
        return begin(self, dataset, _mode(mode), schema, lifetime_seconds)

    def upload(self, id: str) -> Upload:  # noqa: A002  the upload's own word for it
        """An upload in parts by its id, for a process that takes part in it."""
        return Upload(self, id)

    def table(self, name: str, version: int | None = None) -> Table:
        """A dataset by name: the newest version, or the one given (``table("census", 3)`` or ``table("census@3")``)."""
        return Table(self, name, version)

    def sql(self, query: str) -> Query:
        """A SQL query over the cluster's tables; it runs when its rows are asked for."""
        return Query(self, query)

    def execute(self, statement: str) -> int:
        """Run a SQL statement that changes something, and wait for it; answers the rows written (or trained on).

        ``CREATE [OR REPLACE] TABLE t AS SELECT ...``, ``CREATE TABLE t (a INT, ...)``, ``INSERT INTO t ...``,
        ``DROP TABLE t``, ``CREATE MODEL m OPTIONS (label = 'income', epochs = 5) AS SELECT ...`` and ``DROP MODEL m``;
        ``docs/sql.md`` has them all. Each is committed by itself, or leaves nothing. Queries are asked by :meth:`sql`.

        Example:
            >>> client.execute("CREATE TABLE adults AS SELECT * FROM census WHERE age >= 18")  # doctest: +SKIP
            32561
        """
        command = {"@type": "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementUpdate", "query": statement}
        return integer(self._transport.update(command), "record_count")

    def drop_dataset(self, name: str) -> None:
        """Remove a dataset, every version of it."""
        self._transport.action("DropDataset", {"name": name})

    # -- what there is --------------------------------------------------------------------------------------------

    def datasets(self) -> Listing[Dataset]:
        """Every dataset with its newest version."""
        return Listing(Dataset, [Dataset.from_json(each) for each in self._transport.actions("ListDatasets")])

    def uploads(self) -> Listing[UploadStatus]:
        """Every upload in parts that is open, without its parts."""
        return Listing(UploadStatus, [UploadStatus.from_json(each) for each in self._transport.actions("ListUploads")])

    def models(self) -> Listing[ModelVersion]:
        """Every model with its newest version."""
        return Listing(ModelVersion, [ModelVersion.from_json(each) for each in self._transport.actions("ListModels")])

    def jobs(self) -> Listing[Job]:
        """Every job, under way and finished."""
        return Listing(Job, [Job.from_json(each) for each in self._transport.actions("ListJobs")])

    def members(self) -> Listing[Member]:
        """Every server of the cluster."""
        return Listing(Member, [Member.from_json(each) for each in self._transport.actions("ListMembers")])

    # -- models and jobs ------------------------------------------------------------------------------------------

    def model(self, name: str, version: int | None = None) -> ServedModel:
        """A committed model by name: the newest version, or the one given (``model("census", 3)``, ``model("census@3")``)."""
        return ServedModel(self, name, version)

    def drop_model(self, name: str) -> None:
        """Remove a model, every version of it."""
        self._transport.action("DropModel", {"name": name})

    def job(self, id: str) -> JobHandle:  # noqa: A002  the job's own word for it
        """A job by its id."""
        return JobHandle(self._transport, id)

    def train(self, request: Mapping[str, Any]) -> JobHandle:
        """Start a training job from a ``Train`` message; :meth:`volary.Model.fit` writes one for you."""
        return JobHandle(self._transport, str(self._transport.action("Train", request)["id"]))

    def score(
        self,
        model: str | ServedModel,
        table: str | Rows | None = None,
        *,
        query: str | None = None,
        path: str | None = None,
        into: str,
        keep: Sequence[str] = (),
        version: int | None = None,
        mode: Literal["error", "append", "overwrite"] = "error",
        verbose: int = 0,
    ) -> Table:
        """Score rows where they are into a new dataset, and wait for it; answers the dataset. Ctrl-C cancels the job.

        Args:
            model: The model, by name (``census`` or ``census@3``) or as :meth:`model` gave it.
            table: A dataset by name (``census`` or ``census@3``), or a table or query of this client.
            query: Instead of a table, a SQL query.
            path: Instead of a table, a Parquet file or directory that the servers may read (their ``--allow-read``).
            into: The dataset to write: the answer columns, then `keep`.
            keep: Columns of the rows to repeat beside the answers.
            version: The model's version; the newest when left out.
            mode: What to do when `into` exists, as in :meth:`put`.
            verbose: 0 nothing, 1 a progress bar.
        """

        def start() -> JobHandle:
            return self.start_score(
                model, table, query=query, path=path, into=into, keep=keep, version=version, mode=mode,
                lease_seconds=LEASE_SECONDS,
            )  # fmt: skip

        with owned(start) as job:
            return Table(self, into, job.wait(verbose, f"scoring into {into}").version)

    def start_score(
        self,
        model: str | ServedModel,
        table: str | Rows | None = None,
        *,
        query: str | None = None,
        path: str | None = None,
        into: str,
        keep: Sequence[str] = (),
        version: int | None = None,
        mode: Literal["error", "append", "overwrite"] = "error",
        lease_seconds: int | None = None,
    ) -> JobHandle:
        """Like :meth:`score`, without waiting.

        `lease_seconds`: cancel the job when nobody has watched it or asked about it for so long; ``None`` lets it run to its end.
        """
        if isinstance(table, Rows):
            if query is not None or path is not None:
                raise TypeError("give exactly one of table, query and path")
            source = table.to_source()
        else:
            source = source_of(table=table, query=query, path=path)
        if not isinstance(model, ServedModel):
            model = self.model(model, version)
        elif version is not None:
            model = self.model(model.name, version)
        body = {
            "model": model.name,
            "version": model.version or 0,
            "source": source,
            "into": into,
            "mode": mode.upper(),
            "keep": _names("keep", keep),
        }
        if lease_seconds is not None:
            body["leaseSeconds"] = lease_seconds
        return JobHandle(self._transport, str(self._transport.action("Score", body)["id"]))

    # -- plumbing -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def sourced(self, rows: Any, purpose: str) -> Iterator[dict[str, str]]:
        """The ``Source`` of a table, a query, or a frame; a frame is a temporary dataset for the time of the block.

        Such a dataset is named ``temporary-<purpose>-<random>``. The lineage of a model keeps that name.
        """
        if isinstance(rows, Rows):
            yield rows.to_source()
        else:
            words = re.sub("[^A-Za-z0-9_.-]", "-", purpose)[:80]
            with temporary(self, rows, f"temporary-{words}-{secrets.token_hex(6)}") as source:
                yield source

    def close(self) -> None:
        """End the connection."""
        global _newest
        if _newest is self:
            _newest = None
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconnected, self._given

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    @_html.shown
    def _repr_html_(self) -> str:
        members = self.members()
        servers = "1 server" if len(members) == 1 else f"{len(members)} servers"
        return f"<p><b>{escape(self.url)}</b>, a cluster of {servers}</p>{members._repr_html_()}"


def _reconnected(url: str, headers: Mapping[str, str], tls: Tls) -> Client:
    """A client read from a pickle; it is not the newest of :func:`connect`."""
    return Client(url, headers=headers, **tls.options())


def _mode(mode: str) -> str:
    modes = {"error": "ERROR", "append": "APPEND", "overwrite": "OVERWRITE"}
    if mode not in modes:
        raise ValueError(f'unknown mode "{mode}"; there are error, append and overwrite')
    return modes[mode]
