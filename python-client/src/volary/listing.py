"""What a cluster holds, as lists of plain records that print as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any, TypeVar

from . import _html
from ._commands import integer, number, read, timestamp

__all__ = ["NOT_METRICS", "Dataset", "Job", "Listing", "Member", "ModelVersion", "UploadStatus", "UploadedPart"]

# History columns that say where and how fast, not how well.
NOT_METRICS = frozenset({"epoch", "step", "steps", "rows", "rows_per_second", "seconds", "learning_rate", "lr"})


class _Record:
    """A record of few fields, each shown by its name."""

    def _repr_html_(self) -> str:
        pairs = [(each.name, _cell(each.name, getattr(self, each.name))[0]) for each in fields(self)]  # type: ignore[arg-type]
        return _html.facts(type(self).__name__, pairs)


@dataclass(frozen=True)
class Dataset(_Record):
    """A dataset and its newest version."""

    name: str
    version: int
    rows: int
    bytes: int
    files: int
    committed: datetime | None

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Dataset:
        """From the server's answer."""
        return cls(
            name=str(read(answer, "name", "")),
            version=integer(answer, "version"),
            rows=integer(answer, "rows"),
            bytes=integer(answer, "bytes"),
            files=integer(answer, "files"),
            committed=timestamp(answer, "committed"),
        )


@dataclass(frozen=True, repr=False)
class ModelVersion:
    """A model and one of its versions.

    ``label`` and ``classes`` are the first output's, where there are several; ``labels`` has the column of each by name.
    ``spec``, ``pipeline``, ``summary`` and the columns of ``inputs`` and ``outputs`` are filled by ``describe`` alone.
    """

    name: str
    version: int
    label: str
    classes: tuple[str, ...]
    parameters: int
    metrics: dict[str, float]
    committed: datetime | None
    job: str
    dataset: str
    seed: int
    spec: dict[str, Any] | None = None
    pipeline: tuple[dict[str, Any], ...] = ()
    summary: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)

    def with_signature(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> ModelVersion:
        """The same with the columns that it reads and those that it answers."""
        return replace(self, inputs=inputs, outputs=outputs)

    def __repr__(self) -> str:
        columns = [f"{_some(self.inputs)} -> {_some(self.outputs)}"] if self.inputs else []
        words = [*columns, f"label {self.label}", _cell("metrics", self.metrics)[0]]
        return f"ModelVersion({self.name}@{self.version}: {'; '.join(word for word in words if word)})"

    def _repr_html_(self) -> str:
        pairs = [
            ("reads", _some(self.inputs, 12)),
            ("answers", _some(self.outputs, 12)),
            ("label", self.label if len(self.labels) < 2 else ", ".join(self.labels.values())),
            ("classes", _some(self.classes, 12)),
            ("parameters", f"{self.parameters:,}"),
            ("metrics", _cell("metrics", self.metrics)[0]),
            ("trained on", self.dataset),
            ("job", self.job),
            ("seed", str(self.seed)),
            ("committed", _cell("committed", self.committed)[0]),
        ]
        layers = _html.preformatted("layers", self.summary) if self.summary else ""
        return _html.facts(f"Model {self.name}@{self.version}", pairs, layers)

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> ModelVersion:
        """From the server's answer."""
        return cls(
            name=str(read(answer, "name", "")),
            version=integer(answer, "version"),
            label=str(read(answer, "label", "")),
            classes=tuple(read(answer, "classes", ())),
            parameters=integer(answer, "parameters"),
            metrics={name: float(value) for name, value in read(answer, "metrics", {}).items()},
            committed=timestamp(answer, "committed"),
            job=str(read(answer, "job", "")),
            dataset=str(read(answer, "dataset", "")),
            seed=integer(answer, "seed"),
            labels={str(read(each, "name", "")): str(read(each, "label", "")) for each in read(answer, "outputs", ())},
            spec=read(answer, "spec"),
            pipeline=tuple(read(answer, "pipeline", ())),
            summary=str(read(answer, "summary", "")),
        )


@dataclass(frozen=True, repr=False)
class Job:
    """The state of a training or scoring job at one moment."""

    id: str
    kind: str
    state: str
    name: str
    progress: float
    coordinator: str
    created: datetime | None
    started: datetime | None
    finished: datetime | None
    epoch: int
    epochs: int
    step: int
    rows: int
    rows_per_second: float
    metrics: dict[str, float]
    version: int
    error_code: str
    error: str
    servers: tuple[str, ...]
    notes: tuple[str, ...]
    checkpoints: tuple[int, ...] = ()

    @property
    def done(self) -> bool:
        """Whether the job has come to its end, good or bad."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")

    def __repr__(self) -> str:
        epoch = f"epoch {self.epoch}/{self.epochs}" if self.epochs else ""
        words = [f"{self.state} {self.progress:.0%}", epoch, _cell("metrics", self.metrics)[0], self.error]
        return f"Job({self.id}: {self.kind} {self.name}; {'; '.join(word for word in words if word)})"

    def _repr_html_(self) -> str:
        return _html.facts(f"Job {self.id}", job_facts(self))

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Job:
        """From the server's answer."""
        error = read(answer, "error", {})
        return cls(
            id=str(read(answer, "id", "")),
            kind=str(read(answer, "kind", "")),
            state=str(read(answer, "state", "")),
            name=str(read(answer, "name", "")),
            progress=number(answer, "progress"),
            coordinator=str(read(answer, "coordinator", "")),
            created=timestamp(answer, "created"),
            started=timestamp(answer, "started"),
            finished=timestamp(answer, "finished"),
            epoch=integer(answer, "epoch"),
            epochs=integer(answer, "epochs"),
            step=integer(answer, "step"),
            rows=integer(answer, "rows"),
            rows_per_second=number(answer, "rows_per_second"),
            metrics={name: float(value) for name, value in read(answer, "metrics", {}).items()},
            version=integer(answer, "version"),
            error_code=str(read(error, "code", "")),
            error=str(read(error, "message", "")),
            servers=tuple(read(answer, "servers", ())),
            notes=tuple(read(answer, "notes", ())),
            checkpoints=tuple(int(epoch) for epoch in read(answer, "checkpoints", ())),
        )


@dataclass(frozen=True)
class UploadedPart(_Record):
    """A finished attempt of a part of an upload."""

    part: str
    attempt: int
    rows: int
    bytes: int

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> UploadedPart:
        """From the server's answer."""
        return cls(
            part=str(read(answer, "part", "")),
            attempt=integer(answer, "attempt"),
            rows=integer(answer, "rows"),
            bytes=integer(answer, "bytes"),
        )


@dataclass(frozen=True)
class UploadStatus(_Record):
    """An upload in parts at one moment. ``version`` is that of the dataset, once the upload is in."""

    id: str
    dataset: str
    mode: str
    state: str
    created: datetime | None
    expires: datetime | None
    version: int | None
    parts: tuple[UploadedPart, ...] = ()

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> UploadStatus:
        """From the server's answer."""
        state = str(read(answer, "state", ""))
        return cls(
            id=str(read(answer, "id", "")),
            dataset=str(read(answer, "dataset", "")),
            mode=str(read(answer, "mode", "ERROR")),
            state=state,
            created=timestamp(answer, "created"),
            expires=timestamp(answer, "expires"),
            version=integer(answer, "version") if state == "COMMITTED" else None,
            parts=tuple(UploadedPart.from_json(each) for each in read(answer, "parts", ())),
        )


@dataclass(frozen=True)
class Member(_Record):
    """A server of the cluster."""

    name: str
    address: str
    state: str
    version: str
    cores: int
    memory_bytes: int

    @classmethod
    def from_json(cls, answer: Mapping[str, Any]) -> Member:
        """From the server's answer."""
        return cls(
            name=str(read(answer, "name", "")),
            address=str(read(answer, "address", "")),
            state=str(read(answer, "state", "")),
            version=str(read(answer, "version", "")),
            cores=integer(answer, "cores"),
            memory_bytes=integer(answer, "memory_bytes"),
        )


# Columns of a printed listing, where not every field would fit a line.
_SHOWN: dict[type, tuple[str, ...]] = {
    UploadStatus: ("id", "dataset", "mode", "state", "created", "expires"),
    ModelVersion: ("name", "version", "label", "classes", "parameters", "metrics", "dataset", "committed"),
    Job: ("id", "kind", "state", "name", "progress", "epoch", "epochs", "rows_per_second", "version", "error"),
}

T = TypeVar("T")


class Listing(list[T]):
    """A list of records of one kind that prints as a table, in a terminal and in a notebook.

    >>> Listing(Member, [Member("a", "127.0.0.1:50051", "READY", "0.1.0", 2, 1 << 30)])
    name  address          state  version  cores  memory_bytes
    a     127.0.0.1:50051  READY  0.1.0        2         1 GiB
    """

    def __init__(self, kind: type[T], records: list[T]) -> None:
        super().__init__(records)
        self._kind = kind

    def _cells(self) -> tuple[list[str], list[list[tuple[str, bool]]]]:
        names = [each.name for each in fields(self._kind)]  # type: ignore[arg-type]
        names = list(_SHOWN.get(self._kind, names))
        return names, [[_cell(name, getattr(record, name)) for name in names] for record in self]

    def __repr__(self) -> str:
        names, rows = self._cells()
        widths = [max(len(name), *(len(row[at][0]) for row in rows), 0) for at, name in enumerate(names)]
        right = [bool(rows) and rows[0][at][1] for at in range(len(names))]

        def line(cells: list[str]) -> str:
            padded = (
                cell.rjust(width) if flush else cell.ljust(width)
                for cell, width, flush in zip(cells, widths, right, strict=True)
            )
            return "  ".join(padded).rstrip()

        return "\n".join([line(names), *(line([text for text, _ in row]) for row in rows)])

    def _repr_html_(self) -> str:
        names, rows = self._cells()
        return _html.table(names, rows, note="" if rows else "none")

    def to_pandas(self) -> Any:
        """As a pandas DataFrame with every field."""
        import pandas

        names = [each.name for each in fields(self._kind)]  # type: ignore[arg-type]
        return pandas.DataFrame([asdict(record) for record in self], columns=names)  # type: ignore[call-overload]


def _cell(name: str, value: Any) -> tuple[str, bool]:
    """A value as text, and whether it stands flush right."""
    if value is None:
        return "", False
    if name in ("bytes", "memory_bytes"):
        return size_text(value), True
    if name == "progress":
        return f"{value:.0%}", True
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S"), False
    if isinstance(value, dict):
        return " ".join(f"{key}={number_text(each)}" for key, each in value.items()), False
    if isinstance(value, tuple):
        return _some(value), False
    if isinstance(value, float):
        return number_text(value), True
    return (f"{value:,}", True) if isinstance(value, int) else (str(value), False)


def job_facts(job: Job) -> list[tuple[str, str]]:
    """What a job's state tells, by name."""
    took = ""
    if job.started is not None and job.finished is not None:
        took = f"{(job.finished - job.started).total_seconds():,.1f} s"
    return [
        ("kind", job.kind.lower()),
        ("name", job.name),
        ("state", f"{job.state} {job.progress:.0%}"),
        ("epoch", f"{job.epoch} of {job.epochs}" if job.epochs else ""),
        ("metrics", _cell("metrics", {name: job.metrics[name] for name in job.metrics if name not in NOT_METRICS})[0]),
        ("speed", f"{number_text(job.rows_per_second)} rows/s" if job.rows_per_second else ""),
        ("version", str(job.version) if job.version else ""),
        ("error", f"{job.error_code}: {job.error}" if job.error else ""),
        ("driven by", job.coordinator),
        ("servers", _some(job.servers, 12)),
        ("began", _cell("started", job.started)[0]),
        ("took", took),
        ("notes", "; ".join(job.notes)),
    ]


def _some(names: tuple[Any, ...], most: int = 4) -> str:
    """The first names, and that there are more.

    >>> _some(("a", "b", "c", "d", "e"))
    'a, b, c, d, ...'
    """
    return ", ".join(str(each) for each in names[:most]) + (", ..." if len(names) > most else "")


def number_text(value: float) -> str:
    """Four significant digits, whole numbers with separators.

    >>> number_text(0.123456), number_text(51234.0)
    ('0.1235', '51,234')
    """
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def size_text(value: int) -> str:
    """Bytes for people.

    >>> size_text(1536)
    '1.5 KiB'
    """
    size, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.3g} {units[0]}"
