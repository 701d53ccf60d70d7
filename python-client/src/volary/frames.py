"""What a user holds, as Arrow batches and back: pandas, polars, pyarrow, dicts of columns, Parquet files.

One class per kind, in the order in which they are asked. Optional packages are never imported here: a DataFrame can only
be given by somebody who imported its package. What reads Parquet is imported when a file is given: where pandas is
installed it takes half of the time that ``import volary`` would need, and every Spark executor imports that.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from .errors import InvalidArgumentError

if TYPE_CHECKING:
    import pyarrow.dataset as dataset

__all__ = ["Frame", "frame_of", "to_polars"]


class Frame(Protocol):
    """Rows of one kind: to Arrow, and answers for them back to the same kind."""

    def columns(self) -> list[str]:
        """The names of the columns, in their order."""

    def reader(self, wanted: Collection[str] | None = None) -> pa.RecordBatchReader:
        """The rows as batches; of the columns `wanted` alone, in their order here, where it is given."""

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """Answer columns for these rows, in the kind that the rows came in."""


class PandasFrame:
    """A pandas DataFrame. The index is no column (``reset_index()`` makes it one); answers get the same index."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    @staticmethod
    def takes(rows: Any) -> bool:
        """Whether `rows` is of this kind."""
        pandas = sys.modules.get("pandas")
        return pandas is not None and isinstance(rows, pandas.DataFrame)

    def columns(self) -> list[str]:
        """The names of the columns."""
        return [str(label) for label in self._rows.columns]

    def reader(self, wanted: Collection[str] | None = None) -> pa.RecordBatchReader:
        """The rows as batches; columns that are not wanted are not looked at."""
        rows = self._rows
        if wanted is not None:
            rows = rows.loc[:, [name in wanted for name in self.columns()]]
        try:
            table = pa.Table.from_pandas(rows, preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidArgumentError("; ".join(str(word) for word in error.args)) from error
        except OverflowError as error:
            raise _too_large(
                dict(zip(self.columns(), (column for _, column in self._rows.items()), strict=True))
            ) from error
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

    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._rows.columns)

    def reader(self, wanted: Collection[str] | None = None) -> pa.RecordBatchReader:
        """The rows as batches."""
        rows = self._rows
        if wanted is not None:
            rows = rows.select([name for name in self.columns() if name in wanted])
        for name, kind in rows.schema.items():
            # polars gives these to Arrow as the addresses at which they are in this process.
            if (within := _objects(kind)) is not None:
                raise InvalidArgumentError(
                    f'column "{name}" of type {kind} holds Python objects{within}, which have no Arrow type; make values of '
                    "another type of them (map_elements with a return_dtype), or leave it out"
                )
        oldest = _oldest(sys.modules["polars"])
        try:
            return _table_reader(rows.to_arrow(compat_level=oldest))
        except pa.ArrowException as error:
            # It says neither which column nor which type; one that has no rows tells it soon.
            for column in rows.clear().iter_columns():
                try:
                    column.to_arrow(compat_level=oldest)
                except pa.ArrowException:
                    raise InvalidArgumentError(
                        f'column "{column.name}" of type {column.dtype} has no Arrow type that pyarrow knows; cast it first'
                    ) from error
            raise InvalidArgumentError(str(error)) from error

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """A polars DataFrame."""
        return to_polars(pa.Table.from_batches(list(batches), schema))


class ArrowFrame:
    """A pyarrow Table, RecordBatch, RecordBatchReader, or anything that speaks the Arrow C stream interface."""

    def __init__(self, rows: Any) -> None:
        self._streamed = isinstance(rows, pa.RecordBatchReader)
        known = isinstance(rows, pa.Table | pa.RecordBatch | pa.RecordBatchReader)
        try:
            self._rows = rows if known else pa.RecordBatchReader.from_stream(rows)
        except pa.ArrowInvalid as error:  # a stream of one column, as a Series is
            raise InvalidArgumentError(
                f"a {type(rows).__name__} gives no rows of named columns ({error}); make a table of it, as series.to_frame() does"
            ) from error

    @staticmethod
    def takes(rows: Any) -> bool:
        """Whether `rows` is of this kind."""
        return isinstance(rows, pa.Table | pa.RecordBatch | pa.RecordBatchReader) or hasattr(rows, "__arrow_c_stream__")

    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._rows.schema.names)

    def reader(self, wanted: Collection[str] | None = None) -> pa.RecordBatchReader:
        """The rows as batches."""
        rows = self._rows
        if isinstance(rows, pa.RecordBatch):
            rows = pa.Table.from_batches([rows])
        # By place, for two columns may have one name.
        places = [at for at, name in enumerate(self.columns()) if wanted is None or name in wanted]
        if isinstance(rows, pa.Table):
            return _table_reader(rows.select(places))
        if len(places) == len(self.columns()):
            return rows
        schema = pa.schema([rows.schema.field(at) for at in places])
        return pa.RecordBatchReader.from_batches(schema, (batch.select(places) for batch in rows))

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """A reader for a reader, that is, answers as they come; a Table for the rest."""
        if self._streamed:
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

    def columns(self) -> list[str]:
        """The names of the columns."""
        return [str(name) for name in self._rows]

    def reader(self, wanted: Collection[str] | None = None) -> pa.RecordBatchReader:
        """The rows as batches."""
        columns = {str(name): column for name, column in self._rows.items() if wanted is None or str(name) in wanted}
        try:
            return _table_reader(pa.table(columns))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidArgumentError(f"the columns do not make a table: {error}") from error
        except OverflowError as error:
            raise _too_large(columns) from error

    def answer(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Any:
        """A dict of lists."""
        return pa.Table.from_batches(list(batches), schema).to_pydict()


class ParquetFrame:
    """A Parquet file, or a directory of them in the order of their names, read a little ahead of whoever takes the rows.

    The files of a directory have the same columns, in any order. Folders named as Hive does (``year=2020``) are columns
    too; names that begin with ``_`` or ``.`` are passed over.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._opened: dataset.Dataset | None = None

    @staticmethod
    def takes(rows: Any) -> bool:
        """Whether `rows` is of this kind."""
        return isinstance(rows, str | os.PathLike)

    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._dataset().schema.names)

    def reader(self, wanted: Collection[str] | None = None) -> pa.RecordBatchReader:
        """The rows as batches; columns that are not wanted are not read."""
        columns = [name for name in self.columns() if wanted is None or name in wanted]
        with self._readable():
            # The defaults read sixteen batches of four files ahead, which is too much to call bounded.
            scanner = self._dataset().scanner(columns=columns, batch_readahead=2, fragment_readahead=1)
            batches = scanner.to_reader()

        def read() -> Iterator[pa.RecordBatch]:
            with self._readable():
                yield from batches

        return pa.RecordBatchReader.from_batches(batches.schema, read())

    def _dataset(self) -> dataset.Dataset:
        if self._opened is None:
            self._opened = self._open(self._files())
        return self._opened

    def _files(self) -> list[Path]:
        if self._path.is_file():
            return [self._path]
        if not self._path.is_dir():
            raise InvalidArgumentError(
                f'there is no file or directory "{self._path}"; give the path of a Parquet file or of a directory of them'
            )
        files = [
            file
            for file in sorted(self._path.rglob("*.parquet"))
            if file.is_file() and not any(part.startswith(("_", ".")) for part in file.relative_to(self._path).parts)
        ]
        if not files:
            raise InvalidArgumentError(f'there is no Parquet file under "{self._path}"')
        return files

    def _open(self, files: list[Path]) -> dataset.Dataset:
        import pyarrow.dataset as dataset
        import pyarrow.fs as filesystem

        schema = self._one_schema(files)
        options = dataset.FileSystemFactoryOptions(partition_base_dir=str(self._base()))
        options.partitioning_factory = dataset.HivePartitioning.discover()
        with self._readable():
            factory = dataset.FileSystemDatasetFactory(
                filesystem.LocalFileSystem(), [str(file) for file in files], dataset.ParquetFileFormat(), options
            )
            folders = [name for name in self._folders(files[0]) if name not in schema.names]
            # Where a file has a column of a folder's name, the column says what the folder says, in its own type.
            inferred = factory.inspect() if folders else schema
            return factory.finish(pa.schema([*schema, *(inferred.field(name) for name in folders)]))

    def _base(self) -> Path:
        """Where the names of folders begin to say something."""
        return self._path if self._path.is_dir() else self._path.parent

    def _folders(self, file: Path) -> list[str]:
        """The columns that the folders of a file name."""
        return [part.partition("=")[0] for part in file.relative_to(self._base()).parts[:-1] if "=" in part]

    def _one_schema(self, files: list[Path]) -> pa.Schema:
        """The columns that all files have, in the order of the first."""
        first, folders = self._schema_of(files[0]), self._folders(files[0])
        for file in files[1:]:
            schema = self._schema_of(file)
            if (found := self._folders(file)) != folders:
                raise InvalidArgumentError(
                    f'the folders of "{file}" name {_list_of(found)} and those of "{files[0]}" {_list_of(folders)}; '
                    "give files whose folders name the same columns"
                )
            for name in dict.fromkeys([*first.names, *schema.names]):
                here, there = (_type_of(each, name) for each in (schema, first))
                if here != there:
                    raise InvalidArgumentError(
                        f'column "{name}" is {here} in "{file}" and {there} in "{files[0]}"; '
                        "give files of the same columns and types"
                    )
        return first

    def _schema_of(self, file: Path) -> pa.Schema:
        import pyarrow.parquet as parquet

        try:
            return parquet.read_schema(file).remove_metadata()
        except (pa.ArrowException, OSError) as error:
            raise InvalidArgumentError(
                f'"{file}" cannot be read as Parquet: {_first_words(error)}; give a Parquet file'
            ) from error

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        """Damage that shows later than in the footer."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise InvalidArgumentError(f'"{self._path}" cannot be read: {_first_words(error)}') from error

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


def _objects(kind: Any) -> str | None:
    """Where a polars type has Python objects: itself, or within, in words; none where it has none.

    An extension type is asked for what it is stored as.
    """
    if str(kind) == "Object":
        return ""
    within = [getattr(kind, name, None) for name in ("inner", "key", "value")]
    within += [field.dtype for field in getattr(kind, "fields", [])]
    if callable(storage := getattr(kind, "ext_storage", None)):
        within.append(storage())
    return " within" if any(_objects(each) is not None for each in within if each is not None) else None


def _too_large(columns: Mapping[str, Any]) -> InvalidArgumentError:
    """What to say of whole numbers that pyarrow cannot hold, of which it does not tell in which column they are."""
    for name, column in columns.items():
        try:
            pa.array(column)
        except OverflowError:
            return InvalidArgumentError(
                f'column "{name}" has a whole number that does not fit 64 bits; make decimals, floats or text of the column'
            )
        except (pa.ArrowException, TypeError, ValueError):
            continue
    return InvalidArgumentError("a whole number does not fit 64 bits; make decimals, floats or text of its column")


def _list_of(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "no column"


def _type_of(schema: pa.Schema, name: str) -> str:
    """The type of a column, or that there is none."""
    types = {str(field.type) for field in schema if field.name == name}
    return " and ".join(sorted(types)) or "missing"


def _first_words(error: BaseException) -> str:
    """What pyarrow says of a file, without its hints and the file's name."""
    return re.split(r"[.:] |[.:]$", str(error.args[-1] if error.args else error))[0]


def _table_reader(table: pa.Table) -> pa.RecordBatchReader:
    """Batches of a table, without pandas' own notes in the schema, its dictionaries made one per column."""
    table = table.replace_schema_metadata(None).unify_dictionaries()
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches())


def _oldest(polars: Any) -> Any:
    """polars' plainest Arrow types: no views."""
    oldest: Callable[[], Any] = polars.CompatLevel.oldest
    return oldest()
