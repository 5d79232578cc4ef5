"""The pages of benchmarks say what the results beside the benchmarks say, and whether that is fast enough."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = ("pages", "goals", "report")
COLUMN = "ours is faster, times"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name)


def test_the_pages_are_those_of_the_results(scripts: dict[str, ModuleType]) -> None:
    pages = scripts["pages"]
    for page in pages.PAGES:
        assert (pages.DOCS / f"{page.name}.md").read_text() == pages.text(page), f"run benchmarks/pages.py: {page.name}"


@pytest.mark.parametrize(("times", "reached"), [(1.39, "no"), (1.4, "yes"), (2.0, "yes")])
def test_the_slowest_of_our_ratios_decides(
    times: float, reached: str, scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts["report"], "RESULTS", tmp_path)
    peers = {"pytorch-grad-cam ScoreCAM": times, "TorchCAM ScoreCAM": 3.0, "TorchCAM GradCAM": 0.5}
    peers["the folded network alone, behind a convolution"] = 0.97
    results = [{"who": "an8flower scorecam", COLUMN: None}, *({"who": who, COLUMN: peers[who]} for who in peers)]
    (tmp_path / "explainers-resnet18.json").write_text(json.dumps({"rows": results}))
    rows = {row["work"].partition(",")[0]: row for row in scripts["goals"].rows()}
    assert (rows["Score-CAM"]["measured"], rows["Score-CAM"]["reached"]) == (times, reached)
    assert ("0.97 times" in (rows["Score-CAM"]["what bounds it"] or "")) == (reached == "no")
    assert {row["reached"] for row in rows.values() if row["measured"] is None} == {"not measured"}


def test_a_further_method_is_held_against_the_first(scripts: dict[str, ModuleType]) -> None:
    rendered = [{"scenes rendered": scenes} for scenes in (200, 10, 4)]
    assert scripts["goals"].further_methods(rendered) == 0.05
