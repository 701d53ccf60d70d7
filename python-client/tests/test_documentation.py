"""Every example in the package's documentation runs and answers what it says; one file alone touches the wire."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import volary

MODULES = sorted({each.name for each in pkgutil.walk_packages(volary.__path__, "volary.")} | {"volary"})


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_only_the_transport_imports_flight():
    root = Path(volary.__file__).parent
    users = [path.name for path in root.rglob("*.py") if "import pyarrow.flight" in path.read_text()]
    assert users == ["_transport.py"]


def test_public_names_exist():
    for name in volary.__all__:
        assert getattr(volary, name).__doc__, name
