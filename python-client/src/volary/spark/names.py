"""Which column of a DataFrame a name means, and DataFrames whose columns Spark's Python calls can name.

Spark resolves names without regard to case unless ``spark.sql.caseSensitive`` is set, and so do the stages here. Where
pyspark itself asks for columns by name, a dot is the way into a struct, a backtick a quote, and ``*`` all columns; a
DataFrame with such names goes there under others. It knows names alone: types are the matter of :mod:`columns`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidArgumentError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["CASE_SENSITIVE", "chosen", "heeds_case", "meant", "plainly_named", "quoted"]

CASE_SENSITIVE = "spark.sql.caseSensitive"
#: What pyspark does not take for the name of one column.
_NOT_A_NAME = re.compile(r"[.`]|^\*$")


def heeds_case(df: DataFrame) -> bool:
    """Whether names that differ in case are different ones in the DataFrame's session."""
    return str(df.sparkSession.conf.get(CASE_SENSITIVE, "false")).lower() == "true"


def meant(name: str, columns: Sequence[str], case: bool, where: str = "the DataFrame") -> str:
    """The column that Spark means by a name: the very one, or the one that differs in case; `name` itself where there is none.

    >>> meant("age", ["Age", "job"], case=False)
    'Age'
    >>> meant("age", ["Age", "age"], case=False)
    'age'
    >>> meant("age", ["Age", "job"], case=True)
    'age'
    """
    found = [column for column in columns if column == name]
    if len(found) > 1:
        raise InvalidArgumentError(f'{where} has more than one column "{name}"; rename one')
    if not found and not case:
        found = [column for column in columns if column.lower() == name.lower()]
    if len(found) > 1:
        several = " and ".join(f'"{column}"' for column in found)
        raise InvalidArgumentError(
            f'"{name}" may mean the columns {several} of {where}; write it as the one that is meant'
        )
    return found[0] if found else name


def plainly_named(df: DataFrame) -> DataFrame:
    """The DataFrame itself, or its columns under other names, at the same places, where pyspark cannot name one of them."""
    names = df.columns
    return df.toDF(*_numbers(names)) if any(map(_NOT_A_NAME.search, names)) else df


def chosen(df: DataFrame, wanted: Mapping[str, str]) -> DataFrame:
    """Columns of the DataFrame under names of one's own; `wanted` tells the DataFrame's name of each."""
    from pyspark.sql import functions

    names = df.columns
    lower = [name.lower() for name in names]
    if all(name == column and lower.count(column.lower()) == 1 for name, column in wanted.items()):
        return df.select([quoted(name) for name in wanted])
    numbers = _numbers(names)
    numbered = df.toDF(*numbers)
    return numbered.select([functions.col(numbers[names.index(column)]).alias(name) for name, column in wanted.items()])


def quoted(name: str) -> str:
    """A name as one column's, whatever is in it.

    >>> quoted("a.b`c")
    '`a.b``c`'
    """
    return f"`{name.replace('`', '``')}`"


def _numbers(names: Sequence[str]) -> list[str]:
    return [f"column_{number}" for number in range(len(names))]
