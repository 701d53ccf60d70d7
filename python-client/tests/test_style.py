"""The style of pyproject.toml holds for the package, its tests and the examples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ruff", reason="ruff checks the style")
HERE = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
@pytest.mark.parametrize("folder", [".", "../examples"])
def test_ruff_has_nothing_to_say(command, folder):
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(HERE / "pyproject.toml"), folder]
    told = subprocess.run(ruff, cwd=HERE, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
