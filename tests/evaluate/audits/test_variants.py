"""Printed numbers with and without, ours beside them, and a whole plan whose page shows both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.audits.summary.literature import names as names_of_tables
from an8flower.evaluate.audits.summary.printed_pairs import load, names, set_beside
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.registry import explainers, metrics
from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.metric_values import MetricKind
from an8flower.evaluate.results.statistics.scores import ScoreArrays
from an8flower.evaluate.results.summary_schema import summary_schema
from an8flower.evaluate.results.variants import PairedScores, pair_variants

HOLD = {  # in how many rows the trend shows in print, counted by hand
    "ca-stream": {"average_drop": 4, "average_gain": 6, "average_increase": 6, "insertion": 6, "deletion": 6},
    "interpretable-gradients": dict.fromkeys(
        ("average_drop", "average_gain", "average_increase", "insertion", "deletion"), 5
    ),
}
KINDS = {
    "average_drop": MetricKind(None, "faithfulness", False, (0, 1)),
    "insertion:steps=7": MetricKind(None, "faithfulness", True, (0, 1)),
}


@pytest.mark.parametrize("name", names())
def test_what_is_printed_names_what_is_there(name: str) -> None:
    publication = load(name)
    lines = [line for table in publication.tables for line in table.rows]
    assert {line.ours for line in lines} <= set(explainers.names())
    columns = {column for table in publication.tables for column in table.columns}
    assert columns == set(publication.metrics) == {trend.metric for trend in publication.trends}
    assert columns <= set(metrics.names())
    for trend in publication.trends:
        sign = 1 if trend.better == parse_metric(trend.metric).higher_is_better else -1
        hold = [sign * (inside - plain) > 0 for plain, inside in publication.columns_of(trend.metric)]
        assert sum(hold) == HOLD[name][trend.metric]
    assert not set(names()) & set(names_of_tables())


@pytest.mark.parametrize(
    ("name", "title", "method", "column", "pair"),
    [
        ("ca-stream", "ResNet-50", "Score-CAM", "average_drop", (8.83, 7.09)),
        ("ca-stream", "ConvNeXt-B", "Grad-CAM++", "deletion", (29.17, 53.42)),
        ("interpretable-gradients", "ResNet-18", "Ablation-CAM", "average_gain", (14.02, 15.03)),
    ],
)
def test_printed_pairs(name: str, title: str, method: str, column: str, pair: tuple[float, float]) -> None:
    (table,) = (table for table in load(name).tables if table.title == title)
    (line,) = (line for line in table.rows if line.method == method)
    place = table.columns.index(column)
    assert (line.without[place], line.inside[place]) == pair


def make_paired(gain: float, seeds: int = 3, variant: str = "net+ca-stream") -> PairedScores:
    """Average drop and insertion that differ by `gain` with the stream, for Grad-CAM twice as much as for edges."""
    random, entries = np.random.default_rng(0), []
    for seed in range(seeds):
        for row in range(40):
            base = random.uniform(0.3, 0.5)
            for arch, factor in (("net", 0), (variant, 1)):
                for method, part in (("gradcam", 2), ("edges", 1)):
                    value = base + factor * part * (gain + random.normal(0, 0.01))
                    about = {"explainer": method, "model": f"{arch}-seed{seed}-{arch[-1]}", "row": row}
                    about |= {"seconds": 0.0, "forwards": 1.0}
                    entries += [{**about, "metric": metric, "value": value} for metric in KINDS]
    scores = ScoreArrays(pa.Table.from_pylist(entries, SCHEMA), dict.fromkeys(KINDS))
    (pair,) = pair_variants(scores.models)
    return PairedScores(scores, pair, {"gradcam": "gradcam", "edges": "edges"}, frozenset(["edges"]), 0)


def by_metric(gain: float, **more: Any) -> dict[str, Any]:
    (document,) = set_beside(["vebi-iou", "ca-stream"], make_paired(gain, **more), KINDS)
    return {trend["metric"]: trend for trend in document["trends"]} | {"table": document["tables"][0]}


def test_a_trend_holds_if_the_interval_of_ours_says_so() -> None:
    """Larger is better for insertion, and worse for the drop: the stream is printed to be better by both."""
    told = by_metric(0.1)
    assert [told[name]["anew"] for name in ("insertion", "average_drop")] == ["yes", "no"]
    measured = told["insertion"]["measured"]
    assert measured["difference"] == pytest.approx(20, abs=0.5), "in percent"
    assert measured["anew"]["low"] < 20 < measured["anew"]["high"]
    assert told["insertion"]["beyond"]["difference"] == pytest.approx(10, abs=0.5)
    assert (told["insertion"]["ours"], told["insertion"]["methods"]) == ("insertion:steps=7", ["gradcam"])
    assert told["average_drop"]["printed"] == {"hold": 4, "of": 6}
    assert [by_metric(-0.1)[name]["these"] for name in ("insertion", "average_drop")] == ["no", "yes"]


def test_what_is_not_measured_or_too_small_cannot_be_told() -> None:
    told = by_metric(0.0)
    assert {told[name]["anew"] for name in ("insertion", "average_gain")} == {"cannot be told"}
    assert (told["average_gain"]["ours"], told["average_gain"]["measured"]) == (None, None)
    gradcam, pp, _ = told["table"]["rows"]
    assert gradcam["measured"]["insertion"]["without"] == pytest.approx(40, abs=2)
    assert gradcam["measured"]["average_gain"] is None
    assert pp["measured"]["insertion"] is None


def test_two_seeds_decide_for_these_models_alone() -> None:
    told = by_metric(0.1, seeds=2)["insertion"]
    assert (told["these"], told["anew"], told["measured"]["anew"]) == ("yes", "cannot be told", None)


def test_a_publication_stands_beside_the_variants_that_it_is_about() -> None:
    assert set_beside(["interpretable-gradients"], make_paired(0.1), KINDS) == []
    assert len(set_beside(["interpretable-gradients"], make_paired(0.1, variant="net+cosine"), KINDS)) == 1


@pytest.mark.slow
def test_a_plan_with_a_variant_sets_both_sides_beside_each_other(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    plain = {"arch": "flowernet", "epochs": 1, "seeds": [0, 1, 2]}
    values = {
        "name": "p",
        "data": [{"spec": "single-6c", "rows": 60, "size": 24}],
        "models": [plain, {**plain, "gradient_penalty": "cosine"}],
        "methods": ["gradcam", "center"],
        "metrics": ["iou_area", "average_gain"],
        "printed": ["interpretable-gradients"],
        "rows": 6,
        "certificate": {"rows": 6},
        "pictures": {"rows": 1},
    }
    folder = tmp_path / "runs" / "p"
    summary = audit(plans.from_mapping(values, "p"), folder, How(engine="inline")).summary
    assert list(jsonschema.Draft202012Validator(summary_schema()).iter_errors(summary)) == []
    (variant,) = summary["studies"][0]["variants"]
    assert (variant["variant"], variant["seeds"]) == ("flowernet+cosine", [0, 1, 2])
    assert summary["printed"] == []
    page = (folder / "report.html").read_text()
    for text in ("With and without", "flowernet+cosine beside flowernet", "VISAPP 2024", "AG, % gets better", "5 of 5"):
        assert text in page
