"""JSON documents on disk: whole or not there, and without NaN, which JSON does not have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from an8flower.evaluate.results.files import read_json, without_nan, write_json


def test_a_document_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"names": ["ä"], "mean": None})
    assert read_json(tmp_path / "deep" / "a.json") == {"names": ["ä"], "mean": None}


def test_nothing_is_written_where_a_number_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"mean": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_nan_becomes_none_at_any_depth_and_numbers_become_plain() -> None:
    document: dict[str, Any] = {"mean": np.float32("nan"), "curve": [0.5, math.nan], "n": np.int64(3)}
    document["pair"] = ({"low": np.float64(1)},)
    plain = without_nan(document)
    assert plain == {"mean": None, "curve": [0.5, None], "n": 3, "pair": [{"low": 1.0}]}
    assert type(plain["n"]) is int
    assert type(plain["pair"][0]["low"]) is float
