"""JSON documents on disk: whole or not there, and without NaN, which JSON does not have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.audits.cell_tasks import CostRecord
from an8flower.evaluate.results.files import clear, read_json, refuse_audit, without_nan, write_json


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


# --- folders that are somebody's own ----------------------------------------------------------------------------------

RESULTS = (
    "scores/flowernet-seed0-1a2b3c4d-gradcam-0123456789abcdef.parquet",
    "maps/flowernet-seed0-1a2b3c4d-gradcam-0123456789abcdef.h5",
    "failed/training-0123456789abcdef.json",
    "pictures/flowernet-0123456789abcdef.npz",
    "models/single-6c-flowernet-seed0.safetensors",
    "models/single-6c-flowernet-seed0-3epochs.safetensors",
    "models/single-6c-flowernet-seed0.vebi-1a2b3c4d.safetensors",
    "models/flowernet-permuted-seed0-1a2b3c4d.safetensors",
)
OWN = ("pictures/only-copy.jpg", "models/mine.safetensors", "models/resnet18.pth", "scores/2026.parquet", "notes/a.txt")
KINDS = ("scores", "maps", "failed", "pictures", "models")


def fill(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_cleared_of_its_results_alone(tmp_path: Path) -> None:
    fill(tmp_path, [*RESULTS, *OWN, "costs.json"])
    write_json(tmp_path / "plan.json", {"plan": {}, "versions": {"an8flower": "0.1.0"}})
    clear(tmp_path, KINDS)
    assert names_in(tmp_path) == {*OWN, "plan.json"}
    assert not (tmp_path / "maps").exists()


def test_a_folder_that_is_no_run_is_not_cleared(tmp_path: Path) -> None:
    fill(tmp_path, OWN)
    clear(tmp_path, KINDS)  # nothing there has the name of a result
    assert names_in(tmp_path) == {*OWN}
    fill(tmp_path, RESULTS[:1])
    for document in (None, {"plan": "of somebody else"}):
        if document:
            write_json(tmp_path / "plan.json", document)
        with pytest.raises(Refusal, match="--fresh would delete 1 files there"):
            clear(tmp_path, KINDS)
        assert names_in(tmp_path) >= {*OWN, RESULTS[0]}


def test_scores_do_not_replace_what_an_audit_found(tmp_path: Path) -> None:
    versions = {"an8flower": "0.1.0"}
    refuse_audit(tmp_path)
    write_json(tmp_path / "plan.json", {"data": {}, "versions": versions})  # that of an earlier `score`
    refuse_audit(tmp_path)
    write_json(tmp_path / "plan.json", {"plan": {}, "versions": versions})
    with pytest.raises(Refusal, match="an audit's results are there"):
        refuse_audit(tmp_path)


@pytest.mark.parametrize("text", ['{"a": null, "b": 2}', '{"a": "x", "b": 2}', '{"a": [[[]]], "b": 2}'])
def test_costs_that_are_no_numbers_are_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "costs.json").write_text(text)
    assert CostRecord(tmp_path / "costs.json").seconds == {"b": 2.0}


@pytest.mark.parametrize("text", ['{"a": NaN}', "[" * 100_000, "[]", "\xff", '{"a": 1' + "0" * 5000 + "}"])
def test_costs_that_are_no_document_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "costs.json").write_bytes(text.encode("latin-1"))
    assert CostRecord(tmp_path / "costs.json").seconds == {}
