"""What the README says of insertion, deletion and average drop is what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCUMENT = json.loads((ROOT / "benchmarks" / "results" / "metric_agreement.json").read_text(encoding="utf-8"))
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def rows_of(*names: str) -> list[dict[str, Any]]:
    """The rows of metrics by their names without options."""
    return [row for row in DOCUMENT["rows"] if row["metric"].partition(":")[0] in names]


def test_insertion_and_deletion_agree_and_average_drop_does_not() -> None:
    curves, drops = rows_of("insertion", "deletion"), rows_of("average_drop")
    assert len({row["truth"] for row in curves}) == 4
    assert all(row["low"] > 0 for row in curves)
    assert all(row["high"] < 0 for row in drops)
    for rows in (curves, drops):
        taus = [row["tau"] for row in rows]
        assert f"tau is {min(taus):.2f} to {max(taus):.2f}" in README


def test_the_baseline_decides_without_controls() -> None:
    by_metric = {row["metric"]: row for row in rows_of("insertion", "deletion") if row["truth"] == "iou_area"}
    alone = {name: row["without controls"] for name, row in by_metric.items()}
    for words, option, told in (("(tau {} and {})", "", False), ("({} and {})", "baseline=mean,", True)):
        names = [f"{metric}:{option}steps=14" for metric in ("insertion", "deletion")]
        assert words.format(*(f"{alone[name]:.2f}" for name in names)) in README
        assert all((by_metric[name]["without controls, low"] > 0) == told for name in names)


def test_the_quick_audit_says_the_same_of_signs() -> None:
    place = ROOT / "benchmarks" / "results" / "metric_agreement_quick.json"
    rows = json.loads(place.read_text(encoding="utf-8"))["rows"]
    by_name = {name: [row for row in rows if row["metric"].startswith(name)] for name in ("insertion", "deletion")}
    assert {row["architecture"] for row in by_name["insertion"]} == {"flowernet", "flowervit"}
    assert all(row["low"] > 0 for of_metric in by_name.values() for row in of_metric)
    assert all(row["low"] <= 0 for row in rows if row["metric"] == "average_drop")
