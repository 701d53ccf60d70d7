"""Uploads in parts: many writers, any servers, one commit."""

from __future__ import annotations

import base64
import contextlib
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from . import _html
from ._commands import command, integer, read
from .errors import VolaryError
from .frames import frame_of
from .handles import Table
from .listing import UploadStatus, size_text

if TYPE_CHECKING:
    from .client import Client

__all__ = ["Part", "Upload"]


@dataclass(frozen=True)
class Part:
    """A finished attempt of a part: durable, and seen once a commit takes it."""

    part: str
    attempt: int
    rows: int


class Upload:
    """An upload in parts. Its id is all that another process needs to take part: ``connect(url).upload(id)``.

    Example:
        >>> with client.begin_upload("census") as upload:  # doctest: +SKIP
        ...     for number, frame in enumerate(frames):
        ...         upload.put_part(number, frame)
        ...     upload.commit()
        Table('census@0')

    A ``with`` block that ends with an exception aborts the upload. One that is neither committed nor aborted expires.
    """

    def __init__(self, client: Client, id: str) -> None:  # noqa: A002  the upload's own word for it
        self.client = client
        self.id = id
        self._committed = False

    def put_part(
        self, part: str | int, rows: Any, attempt: int = 0, acknowledged: Callable[[int], None] | None = None
    ) -> Part:
        """Stream rows as one part; when it returns, they are durable.

        Args:
            part: The part's name, 1 to 128 printable ASCII characters, or a number. A commit that is not told otherwise
                puts parts in the order of their names, numbers as numbers.
            rows: As :meth:`volary.Client.put` takes them; the columns are those of the other parts.
            attempt: Which attempt of the part this is. The same one sent again is answered and changes nothing; of
                several that finish one is committed.
            acknowledged: Called with the number of rows that the server has received so far.
        """
        body = command("PutPart", upload=self.id, part=_part(part), attempt=operator.index(attempt))
        last = self.client._transport.put(body, frame_of(rows).reader(), acknowledged)
        return Part(str(read(last, "part", "")), integer(last, "attempt"), integer(last, "rows"))

    def commit(self, parts: Iterable[Part | tuple[str | int, int]] | None = None) -> Table:
        """Make parts visible at once, as one version; answers that version. Sent again it answers the same.

        Args:
            parts: The attempts that count, in the order of their rows, as :meth:`put_part` gave them or as pairs of part
                and attempt. Left out: of every part its lowest finished attempt, in the order of the parts' names.
        """
        if parts is None:
            named: list[dict[str, Any]] = []
        elif not (named := [_attempt(each) for each in parts]):
            raise ValueError("an empty list of parts commits nothing; leave it out to commit every part")
        answer = self.client._transport.action("CommitUpload", {"id": self.id, "parts": named})
        self._committed = True
        return Table(self.client, str(read(answer, "name", "")), integer(answer, "version"))

    def abort(self) -> None:
        """Give the upload up; its rows are deleted."""
        self.client._transport.action("AbortUpload", {"id": self.id})

    def status(self) -> UploadStatus:
        """The upload as it stands, with every finished attempt of every part."""
        return UploadStatus.from_json(self.client._transport.action("DescribeUpload", {"id": self.id}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._committed:
            # The first error is the one to see; an upload that cannot be aborted expires.
            with contextlib.suppress(VolaryError):
                self.abort()

    def __repr__(self) -> str:
        return f"Upload({self.id!r})"

    @_html.shown
    def _repr_html_(self) -> str:
        status = self.status()
        rows = [
            [(each.part, False), (f"{each.attempt}", True), (f"{each.rows:,}", True), (size_text(each.bytes), True)]
            for each in status.parts
        ]
        title = f"Upload {self.id} into {status.dataset}: {status.state}"
        return _html.table(["part", "attempt", "rows", "bytes"], rows, title, "" if rows else "no part yet")


def begin(client: Client, dataset: str, mode: str, schema: pa.Schema | None, lifetime_seconds: int | None) -> Upload:
    """Ask for a new upload."""
    body: dict[str, Any] = {"dataset": dataset, "mode": mode}
    if schema is not None:
        body["schema"] = base64.b64encode(schema.serialize()).decode()
    if lifetime_seconds is not None:
        body["lifetimeSeconds"] = operator.index(lifetime_seconds)
    return Upload(client, str(read(client._transport.action("BeginUpload", body), "id", "")))


def _part(part: str | int) -> str:
    return part if isinstance(part, str) else str(operator.index(part))


def _attempt(each: Part | tuple[str | int, int]) -> dict[str, Any]:
    part, attempt = (each.part, each.attempt) if isinstance(each, Part) else each
    return {"part": _part(part), "attempt": operator.index(attempt)}
