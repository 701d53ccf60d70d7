"""Connections of the ADBC driver for Flight SQL, and what a server says about its work to whoever waits for its end."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import adbc_driver_flightsql.dbapi as adbc
from adbc_driver_manager.dbapi import Connection, Cursor

PATIENCE_SECONDS = 30.0


@contextmanager
def connection(url: str, **options: str) -> Iterator[Connection]:
    """A connection with these options of the driver."""
    with adbc.connect(url, db_kwargs=options, autocommit=True) as opened:
        yield opened


@contextmanager
def cursor(url: str, **options: str) -> Iterator[Cursor]:
    """A cursor on a connection of its own."""
    with connection(url, **options) as opened, opened.cursor() as asking:
        yield asking


def running(http: str, verb: str) -> int:
    """Calls of this verb whose streams the server has open."""
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=10) as page:
        found = re.search(rf'volary_requests_running{{verb="{verb}"}} (\d+)', page.read().decode())
    return int(found[1]) if found else 0


def wait_until_idle(http: str, verb: str) -> None:
    """Until the server has ended every call of this verb."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while open_calls := running(http, verb):
        assert time.monotonic() < deadline, f"{open_calls} calls of {verb} are still open"
