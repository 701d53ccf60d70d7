"""What a user holds, as Arrow batches and back: pandas, polars, pyarrow, dicts of columns, Parquet files.

One class per kind, in the order in which they are asked. Optional packages are never imported here: a DataFrame can only
be given by somebody who imported its package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as parquet

from .errors import InvalidArgumentError

__all__ = ["Frame", "frame_of", "to_polars"]


class Frame(Protocol):
    """Rows of one kind: to Arrow, and answers for them back to the same kind."""

    def reader(self) -> pa.RecordBatchReader:
        """The rows as batches."""

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """Answer columns for these rows, in the kind that the rows came in."""


class PandasFrame:
    """A pandas DataFrame. Named index levels become columns, an unnamed index does not; answers get the same index."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    @staticmethod
    def takes(rows: Any) -> bool:
        """Whether `rows` is of this kind."""
        pandas = sys.modules.get("pandas")
        return pandas is not None and isinstance(rows, pandas.DataFrame)

    def reader(self) -> pa.RecordBatchReader:
        """The rows as batches."""
        named = any(name is not None for name in self._rows.index.names)
        try:
            table = pa.Table.from_pandas(self._rows, preserve_index=named)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidArgumentError("; ".join(str(word) for word in error.args)) from error
        return _table_reader(table)

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """A DataFrame on the same index."""
        answers = pa.Table.from_batches(list(batches), schema).to_pandas()
        answers.index = self._rows.index
        return answers


class PolarsFrame:
    """A polars DataFrame."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    @staticmethod
    def takes(rows: Any) -> bool:
        """Whether `rows` is of this kind."""
        polars = sys.modules.get("polars")
        return polars is not None and isinstance(rows, polars.DataFrame)

    def reader(self) -> pa.RecordBatchReader:
        """The rows as batches."""
        return _table_reader(self._rows.to_arrow(compat_level=_oldest(sys.modules["polars"])))

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """A polars DataFrame."""
        return to_polars(pa.Table.from_batches(list(batches), schema))


class ArrowFrame:
    """A pyarrow Table, RecordBatch, RecordBatchReader, or anything that speaks the Arrow C stream interface."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    @staticmethod
    def takes(rows: Any) -> bool:
        """Whether `rows` is of this kind."""
        return isinstance(rows, pa.Table | pa.RecordBatch | pa.RecordBatchReader) or hasattr(rows, "__arrow_c_stream__")

    def reader(self) -> pa.RecordBatchReader:
        """The rows as batches."""
        if isinstance(self._rows, pa.RecordBatchReader):
            return self._rows
        if isinstance(self._rows, pa.RecordBatch):
            return pa.RecordBatchReader.from_batches(self._rows.schema, [self._rows])
        if isinstance(self._rows, pa.Table):
            return _table_reader(self._rows)
        return pa.RecordBatchReader.from_stream(self._rows)

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """A reader for a reader, that is, answers as they come; a Table for the rest."""
        if isinstance(self._rows, pa.RecordBatchReader):
            return pa.RecordBatchReader.from_batches(schema, batches)
        return pa.Table.from_batches(list(batches), schema)


class ColumnsFrame:
    """A dict of columns: lists, NumPy arrays or Arrow arrays by name."""

    def __init__(self, rows: Mapping[str, Any]) -> None:
        self._rows = rows

    @staticmethod
    def takes(rows: Any) -> bool:
        """Whether `rows` is of this kind."""
        return isinstance(rows, Mapping)

    def reader(self) -> pa.RecordBatchReader:
        """The rows as batches."""
        try:
            return _table_reader(pa.table(dict(self._rows)))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidArgumentError(f"the columns do not make a table: {error}") from error

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """A dict of lists."""
        return pa.Table.from_batches(list(batches), schema).to_pydict()


class ParquetFrame:
    """A Parquet file, read row group by row group, or a directory of them in the order of their names."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    @staticmethod
    def takes(rows: Any) -> bool:
        """Whether `rows` is of this kind."""
        return isinstance(rows, str | os.PathLike)

    def reader(self) -> pa.RecordBatchReader:
        """The rows as batches."""
        files = sorted(self._path.rglob("*.parquet")) if self._path.is_dir() else [self._path]
        if not files:
            raise InvalidArgumentError(f'there is no Parquet file under "{self._path}"')
        schema = parquet.read_schema(files[0]).remove_metadata()

        def batches() -> Iterable[pa.RecordBatch]:
            for file in files:
                with parquet.ParquetFile(file) as opened:
                    for batch in opened.iter_batches():
                        yield batch.replace_schema_metadata(None)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """A Table."""
        return pa.Table.from_batches(list(batches), schema)


_KINDS: tuple[type[Any], ...] = (PandasFrame, PolarsFrame, ArrowFrame, ColumnsFrame, ParquetFrame)


def frame_of(rows: Any) -> Frame:
    """The adapter for `rows`.

    >>> frame_of({"a": [1, 2]}).reader().read_all().num_rows
    2
    """
    for kind in _KINDS:
        if kind.takes(rows):
            adapter: Frame = kind(rows)
            return adapter
    raise TypeError(
        f"cannot read rows from a {type(rows).__name__}; give a pandas or polars DataFrame, a pyarrow Table, RecordBatch or "
        "RecordBatchReader, a dict of columns, or the path of a Parquet file"
    )


def to_polars(table: pa.Table) -> Any:
    """A polars DataFrame of an Arrow table."""
    import polars

    return polars.from_arrow(table)


def _table_reader(table: pa.Table) -> pa.RecordBatchReader:
    """Batches of a table, without pandas' own notes in the schema, its dictionaries made one per column."""
    table = table.replace_schema_metadata(None).unify_dictionaries()
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches())


def _oldest(polars: Any) -> Any:
    """polars' plainest Arrow types: no views."""
    oldest: Callable[[], Any] = polars.CompatLevel.oldest
    return oldest()
