"""The census data that the examples ship."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).resolve().parents[3] / "examples" / "data"
NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
CATEGORIES = [
    "workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country",
]  # fmt: skip
