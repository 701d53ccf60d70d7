"""The rows that `transfer` moves: one kind of column at a time, the same for every server. Knows no server.

Each kind is made of four parts of equal length, so that one, two or four streams can share it in whole parts.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PARTS = 4
#: Rows of a record batch on its way in, and of a row group in a file.
BATCH_ROWS = 1 << 16
WORDS = 10_000
#: The types that are kept uncompressed: random floats do not get smaller.
UNCOMPRESSED = (pa.float32(), pa.float64())


@dataclass(frozen=True)
class Kind:
    """A name, what it is on the page, and the parts."""

    name: str
    words: str
    parts: list[pa.Table]

    @property
    def rows(self):
        return sum(part.num_rows for part in self.parts)

    @property
    def bytes(self):
        """What the columns take in a client's memory."""
        return sum(part.nbytes for part in self.parts)

    def shares(self, streams):
        """The parts of each stream as one table."""
        each = PARTS // streams
        return [pa.concat_tables(self.parts[first : first + each]) for first in range(0, PARTS, each)]

    def write(self, directory):
        """A Parquet file for each part, as this server would write it: row groups of 65,536, LZ4 but for floats, texts by dictionary."""
        paths = []
        for number, part in enumerate(self.parts):
            compression = {
                field.name: "none" if field.type in UNCOMPRESSED else "lz4"
                for field in part.schema
                if not pa.types.is_list(field.type)
            }
            compression |= {f"{field.name}.list.element": "none" for field in part.schema if pa.types.is_list(field.type)}
            dictionary = [
                field.name for field in part.schema if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)
            ]
            paths.append(directory / f"{self.name}-{number}.parquet")
            pq.write_table(part, paths[-1], row_group_size=BATCH_ROWS, compression=compression, use_dictionary=dictionary)
        return paths


def _words(rng, low, high):
    """Distinct small texts of such lengths."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", dtype="S1")
    lengths = rng.integers(low, high, WORDS)
    return pa.array([f"{b''.join(rng.choice(letters, length)).decode()}-{number}" for number, length in enumerate(lengths)])


def fixed(bytes_wanted):
    rng, columns = np.random.default_rng(2), 16
    rows = bytes_wanted // 8 // columns // PARTS
    parts = [pa.table({f"c{column}": rng.standard_normal(rows) for column in range(columns)}) for _ in range(PARTS)]
    return Kind("fixed", f"{columns} columns of float64", parts)


def strings(bytes_wanted):
    """Half the columns of few words, half of texts that do not repeat."""
    rng, columns = np.random.default_rng(3), 8
    words = _words(rng, 4, 20)
    rows = bytes_wanted // 20 // columns // PARTS
    parts = []
    for _ in range(PARTS):
        part = {}
        for column in range(columns):
            if column % 2 == 0:
                part[f"c{column}"] = words.take(pa.array(rng.integers(0, WORDS, rows)))
            else:
                text = np.frombuffer(rng.bytes(rows * 8).hex().encode(), np.uint8)
                offsets = pa.py_buffer(np.arange(0, (rows + 1) * 16, 16, dtype=np.int32))
                part[f"c{column}"] = pa.StringArray.from_buffers(rows, offsets, pa.py_buffer(text))
        parts.append(pa.table(part))
    return Kind(
        "string", f"{columns} columns of texts, half of {WORDS:,} words of 4 to 24 letters, half of 16 random letters", parts
    )


def lists(bytes_wanted):
    rng, columns, longest = np.random.default_rng(4), 4, 32
    rows = bytes_wanted // (4 * longest // 2 + 4) // columns // PARTS
    parts = []
    for _ in range(PARTS):
        part = {}
        for column in range(columns):
            ends = np.concatenate(([0], np.cumsum(rng.integers(0, longest + 1, rows)))).astype(np.int32)
            values = rng.standard_normal(ends[-1], dtype=np.float32)
            part[f"c{column}"] = pa.ListArray.from_arrays(pa.array(ends), pa.array(values))
        parts.append(pa.table(part))
    return Kind("list", f"{columns} columns of lists of 0 to {longest} float32", parts)


def dictionaries(bytes_wanted):
    """As many rows as would take the bytes wanted were the words written out."""
    rng, columns = np.random.default_rng(5), 8
    words = _words(rng, 4, 20)
    rows = bytes_wanted // 20 // columns // PARTS
    parts = [
        pa.table({
            f"c{column}": pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, WORDS, rows).astype(np.int32)), words)
            for column in range(columns)
        })
        for _ in range(PARTS)
    ]  # fmt: skip
    return Kind("dictionary", f"{columns} columns of dictionary<int32, string> of {WORDS:,} words of 4 to 24 letters", parts)


KINDS = {"fixed": fixed, "string": strings, "list": lists, "dictionary": dictionaries}
