"""The Python of the documents runs as it stands there, from the first block of a page to the last, on a fresh server."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from cluster import Server

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    "README.md",
    "python-client/README.md",
    "docs/protocol.md",
    "docs/model-spec.md",
    "docs/clients/pyarrow.md",
    "docs/clients/dataframes.md",
    "docs/clients/adbc.md",
    "docs/clients/scikit-learn.md",
    "docs/clients/notebooks.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of(page, data, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    (tmp_path / "examples").symlink_to(data.parent)
    (tmp_path / "census_train.parquet").symlink_to(data / "census_train.parquet")
    monkeypatch.chdir(tmp_path)
    names = {"new_rows": pd.read_parquet(data / "census_test.parquet")}
    server = Server("documents", tmp_path / "store", tmp_path)
    try:
        for number, block in enumerate(blocks, start=1):
            code = compile(block.replace("127.0.0.1:50051", server.grpc), f"{page}, block {number}", "exec")
            exec(code, names)
    finally:
        assert server.stop() == 0
