"""How values look in a notebook: tables and lists of facts, in the notebook's own colours, light or dark.

Knows nothing of what it shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from .errors import VolaryError

__all__ = ["facts", "preformatted", "shown", "table"]

_LEFT = "text-align:left"
_RIGHT = "text-align:right"
_QUIET = "opacity:0.65"


def table(names: Sequence[str], rows: Iterable[Sequence[tuple[str, bool]]], title: str = "", note: str = "") -> str:
    """Rows of cells, each a text and whether it stands flush right.

    >>> table(["a"], [[("<1>", True)]]).partition("<tbody>")[2]
    '<tr><td style="text-align:right">&lt;1&gt;</td></tr></tbody></table>'
    """
    rows = list(rows)
    right = [flush for _, flush in rows[0]] if rows else [False] * len(names)
    head = "".join(
        f'<th style="{_RIGHT if flush else _LEFT}">{_lines(name)}</th>'
        for name, flush in zip(names, right, strict=True)
    )
    body = "".join("<tr>" + "".join(_cell(*cell) for cell in row) + "</tr>" for row in rows)
    drawn = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _titled(title) + drawn + (f'<div style="{_QUIET}">{escape(note)}</div>' if note else "")


def facts(title: str, pairs: Iterable[tuple[str, str]], more: str = "") -> str:
    """A title, what is known by name, empty facts left out, and further HTML."""
    rows = "".join(
        f'<tr><th style="{_LEFT}">{escape(name)}</th><td style="{_LEFT}">{_lines(value)}</td></tr>'
        for name, value in pairs
        if value
    )
    return _titled(title) + f"<table><tbody>{rows}</tbody></table>" + more


def preformatted(title: str, text: str) -> str:
    """A text whose columns stand under each other, folded away under its title where there is one."""
    drawn = f'<pre style="line-height:1.2">{escape(text)}</pre>'
    return f"<details><summary>{escape(title)}</summary>{drawn}</details>" if title else drawn


def shown(html_of: Callable[[Any], str]) -> Callable[[Any], str]:
    """A ``_repr_html_`` that asks a server: what the server says against it is shown in place of an answer."""

    @functools.wraps(html_of)
    def guarded(self: Any) -> str:
        try:
            return html_of(self)
        except VolaryError as error:
            return _titled(repr(self)) + f'<div style="{_QUIET}">{escape(str(error))}</div>'

    return guarded


def _titled(title: str) -> str:
    return f"<p><b>{escape(title)}</b></p>" if title else ""


def _cell(text: str, flush_right: bool) -> str:
    return f'<td style="{_RIGHT}">{_lines(text)}</td>' if flush_right else f"<td>{_lines(text)}</td>"


def _lines(text: str) -> str:
    """Escaped; what stands after a line break is small, as a column's type below its name."""
    first, broken, second = text.partition("\n")
    small = f'<br><small style="{_QUIET};font-weight:normal">{escape(second)}</small>'
    return escape(first) + (small if broken else "")
