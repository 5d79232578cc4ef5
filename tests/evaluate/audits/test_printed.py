"""Printed tables: typed as printed, and ours beside them decided by what our rows can tell."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from scipy.stats import kendalltau

from an8flower.errors import WrongUsage
from an8flower.evaluate.audits.summary.literature import SECONDS, Literature, PrintedTable, Trend, load, names
from an8flower.evaluate.audits.summary.printed import Measured, beside_printed, tau_limits
from an8flower.evaluate.audits.summary.trends import Difference, Ours, decide
from an8flower.evaluate.metrics.naming import parse_metric, parse_metrics
from an8flower.evaluate.registry import archs, explainers, metrics
from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.summary import MetricKind, contrasts, summarise

NAN = float("nan")

# The tables


def test_what_is_shipped() -> None:
    assert names() == ["opticam-classification", "opticam-localisation", "transformers", "vebi-iou"]
    with pytest.raises(WrongUsage, match="vebi-iou"):
        load("vebi-ious")


@pytest.mark.parametrize("name", names())
def test_methods_and_metrics_are_ours(name: str) -> None:
    literature = load(name)
    for table in literature.tables:
        assert {line.ours for line in table.rows} <= set(explainers.names())
        assert len({line.ours for line in table.rows}) == len({line.method for line in table.rows}) == len(table.rows)
        assert set(table.columns) <= set(literature.metrics) <= {*metrics.names(), SECONDS}
        assert set(table.archs) <= set(archs.names())
    for trend in literature.trends:
        assert set(trend.only) <= {table.title for table in literature.tables}
        assert set(trend.metrics) <= set(literature.metrics)


@pytest.mark.parametrize(
    ("name", "title", "method", "column", "value"),
    [
        ("vebi-iou", "an8Flower-double-12c", "VEBI", "iou", 23.2),
        ("opticam-classification", "ResNet-50", "Score-CAM", "seconds", 15.22),
        ("opticam-classification", "VGG16", "Layer-CAM", "average_drop", 48.9),
        ("opticam-localisation", "ResNet-50", "Fake-CAM", "pointing", 99.8),
        ("opticam-localisation", "VGG16", "ExPerturbation", "sm", 1.74),
        ("transformers", "ViT-B", "TIBAV", "insertion", 66.1),
    ],
)
def test_some_printed_numbers(name: str, title: str, method: str, column: str, value: float) -> None:
    (table,) = (table for table in load(name).tables if table.title == title)
    (line,) = (line for line in table.rows if line.method == method)
    assert line.values[table.columns.index(column)] == value


def slow_holds(literature: Literature, table: PrintedTable, trend: Trend) -> bool:
    """Whether a trend holds in the printed numbers themselves, taken as exact."""

    def number(method: str, column: str) -> float:
        (line,) = (line for line in table.rows if line.ours == method)
        return line.values[table.columns.index(column)]

    if trend.widest:
        spreads = {line.ours: line.spread for line in table.rows}
        return all(spreads[trend.widest] > spread for method, spread in spreads.items() if method != trend.widest)
    for column in trend.metrics:
        sign = 1 if column != SECONDS and parse_metric(column).higher_is_better else -1
        if trend.between:
            low, high = trend.between
            gaps = [number(first, column) - number(second, column) for first, second in trend.pairs]
            if not all(low - 1e-9 <= gap <= high + 1e-9 for gap in gaps):
                return False
        groups = trend.groups(table)
        for place, group in enumerate(groups):
            for better, worse in product(group, [each for later in groups[place + 1 :] for each in later]):
                if not sign * (number(better, column) - number(worse, column)) > 0:
                    return False
    return True


@pytest.mark.parametrize("name", names())
def test_every_trend_holds_in_the_printed_numbers(name: str) -> None:
    """Which a wrong digit, a wrong direction or a wrong method would most likely undo."""
    literature = load(name)
    for table in literature.tables:
        for trend in literature.trends:
            if not trend.only or table.title in trend.only:
                assert slow_holds(literature, table, trend), (table.title, trend.statement)


def test_a_wrong_table_is_refused() -> None:
    line = {"method": "A", "ours": "gradcam", "values": (1.0, 2.0)}
    with pytest.raises(ValidationError, match="another number of values"):
        PrintedTable(title="t", columns=("iou",), rows=(line,))
    with pytest.raises(ValidationError, match="one of order, pairs with between, and widest"):
        Trend(statement="s", metrics=("iou",), order=(("a",),), widest="a")


# Trends


TABLE = PrintedTable(
    title="t",
    columns=("iou", "le"),
    rows=tuple({"method": name.upper(), "ours": name, "values": (0.0, 0.0)} for name in "abcd"),
)


def ours(differences: dict[tuple[str, str], Difference], by_model: dict[str, list[float]] | None = None) -> Ours:
    """Differences in IoU, and the same in LE, where smaller is better, turned."""
    every = {}
    for (first, second), found in differences.items():
        every |= {("iou", first, second): found, ("iou", second, first): found.reverse()}
        every |= {("le", first, second): found.reverse(), ("le", second, first): found}
    means = dict.fromkeys("abcd", 1.0)
    models = {name: np.array(values) for name, values in (by_model or {}).items()}
    return Ours({"iou": 1, "le": -1}, {"iou": means, "le": means}, {"iou": models}, every)


def gap(mean: float, reach: float) -> Difference:
    return Difference(mean, mean - reach, mean + reach, abs(mean) > reach)


CLEAR, UNCLEAR, REVERSED = gap(3, 1), gap(3, 4), gap(-3, 1)


@pytest.mark.parametrize("metric", ["iou", "le"])
@pytest.mark.parametrize(
    ("found", "holds"),
    [
        ([CLEAR, CLEAR, CLEAR], "yes"),
        ([CLEAR, UNCLEAR, CLEAR], "cannot be told"),
        ([CLEAR, UNCLEAR, REVERSED], "no"),
        ([CLEAR, CLEAR], "cannot be told"),  # d is not there
    ],
)
def test_an_order_is_decided_by_the_pairs_that_it_needs(metric: str, found: list[Difference], holds: str) -> None:
    pairs = dict(zip([("a", "b"), ("a", "c"), ("a", "d")], found, strict=False))
    trend = Trend(statement="a is best", metrics=(metric,), order=(("a",), ("others",)))
    told = decide(trend, TABLE, ours(pairs))
    assert told["statement"] == "a is best"
    assert told["holds"] == holds
    assert f"{metric}: a 1, " in told["why"] or "without a number" in told["why"]


def test_who_stands_aside_is_not_asked() -> None:
    pairs = {("a", "b"): CLEAR, ("a", "c"): CLEAR, ("a", "d"): REVERSED}
    trend = Trend(statement="a", metrics=("iou",), order=(("a",), ("others",)), aside=("d",))
    assert decide(trend, TABLE, ours(pairs))["holds"] == "yes"
    assert decide(trend.model_copy(update={"aside": ()}), TABLE, ours(pairs))["holds"] == "no"


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (gap(3, 0.4), "yes"),
        (gap(3, 1.5), "cannot be told"),
        (gap(6, 0.5), "no"),
        (gap(-3, 0.4), "no"),
        (gap(0, 9), "cannot be told"),
    ],
)
def test_a_difference_is_decided_by_its_interval(found: Difference, holds: str) -> None:
    trend = Trend(statement="2 to 4", metrics=("iou",), pairs=(("b", "a"),), between=(2.0, 4.0))
    told = decide(trend, TABLE, ours({("b", "a"): found}))
    assert told["holds"] == holds
    assert f"difference {found.mean:.2g}" in told["why"]


@pytest.mark.parametrize(
    ("spreads", "holds"),
    [((9.0, 1.0, 1.1, 0.9), "yes"), ((1.0, 1.1, 0.9, 1.2), "cannot be told"), ((1.0, 9.0, 1.0, 1.0), "no")],
)
def test_a_spread_is_decided_by_models(spreads: tuple[float, ...], holds: str) -> None:
    shape = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    models = {name: (20 + spread * shape).tolist() for name, spread in zip("abcd", spreads, strict=True)}
    trend = Trend(statement="a varies", metrics=("iou",), widest="a")
    assert decide(trend, TABLE, ours({}, models))["holds"] == holds
    one_model = {name: values[:1] for name, values in models.items()}
    told = decide(trend, TABLE, ours({}, one_model))
    assert told["holds"] == "cannot be told"
    assert "a spread takes two" in told["why"]


# Ours beside theirs


METHODS = ("upsam_act", "guided_backprop", "gradcam", "guided_gradcam", "gradcam_pp", "guided_gradcam_pp", "vebi")
PRINTED = (16.8, 21.3, 17.5, 19.9, 15.6, 19.6, 22.5)


def study(
    means: dict[str, float], *, name: str = "single-6c", models: tuple[str, ...] = ("net-seed0-d",), noise: float = 0.01
) -> Measured:
    """Methods with these means of iou over 60 rows, whose noise they share but for a hundredth."""
    source = np.random.default_rng(0)
    shared = 0.02 * source.normal(size=60)
    shared -= shared.mean()
    entries: list[dict[str, Any]] = []
    for model, (method, mean) in product(models, means.items()):
        own = noise * source.normal(size=60)
        values = mean + shared + own - own.mean()
        about = {"metric": "iou", "explainer": f"{method}()", "model": model, "seconds": mean, "forwards": 1.0}
        entries += [{**about, "row": row, "value": value} for row, value in enumerate(values)]
    table = pa.Table.from_pylist(entries, SCHEMA)
    kinds, called = {"iou": MetricKind(None, "localisation", True, (0, 1))}, {f"{method}()": method for method in means}
    results = [
        {"method": called[each["explainer"]], "text": called[each.pop("explainer")], **each}
        for each in summarise(table, kinds, 0)
    ]
    about = [{"arch": model.split("-")[0], "seed": int(model.split("-")[1][4:])} for model in models]
    document = {"dataset": {"name": name}, "models": about, "results": results, **contrasts(table, kinds, called, 0)}
    return Measured(document, table, called, tuple(parse_metrics(["iou"])), 0)


def test_the_printed_numbers_themselves_agree_in_all_but_what_one_model_cannot_tell() -> None:
    (told,) = beside_printed("vebi-iou", [study(dict(zip(METHODS, np.array(PRINTED) / 100, strict=True)))])
    assert told["table"] == "IoU on an8Flower: an8Flower-single-6c, beside single-6c"
    assert told["metrics"] == ["iou"]
    for row, value in zip(told["rows"], PRINTED, strict=True):
        assert row["printed"] == {"iou": value}
        assert row["ours"]["iou"] == pytest.approx(value, abs=1e-4)
        assert row["ours_spread"] == {"iou": None}
    assert told["rows"][0]["printed_spread"] == {"iou": 2.63}
    assert told["correlation"]["iou"]["tau"] == pytest.approx(1)
    assert told["correlation"]["iou"]["n"] == 7
    holds = {trend["statement"]: trend["holds"] for trend in told["trends"]}
    assert list(holds.values()) == ["yes", "yes", "yes", "cannot be told", "cannot be told", "cannot be told"]


def test_the_other_way_round() -> None:
    means = dict(zip(METHODS, 0.5 - np.array(PRINTED) / 100, strict=True))
    (told,) = beside_printed("vebi-iou", [study(means)])
    assert told["correlation"]["iou"]["tau"] == pytest.approx(-1)
    holds = [trend["holds"] for trend in told["trends"]]
    assert holds == ["no", "no", "no", "no", "cannot be told", "cannot be told"]


def test_methods_that_are_not_there_are_not_made_up() -> None:
    (told,) = beside_printed("vebi-iou", [study({"gradcam": 0.2, "guided_gradcam": 0.25})])
    rows = {row["method"]: row["ours"]["iou"] for row in told["rows"]}
    assert rows["VEBI"] is None
    assert rows["Grad-CAM"] == pytest.approx(20)
    assert told["correlation"]["iou"] == {"tau": None, "low": None, "high": None, "n": 2}
    assert {trend["holds"] for trend in told["trends"]} == {"cannot be told"}
    assert "vebi" in told["trends"][0]["why"]


def test_spreads_are_over_models() -> None:
    seeds = tuple(f"net-seed{seed}-d" for seed in range(4))
    measured = study({"gradcam": 0.2, "vebi": 0.3}, models=seeds)
    frame = measured.table.to_pandas()
    frame.loc[frame.model == seeds[0], "value"] += 0.05
    table = pa.Table.from_pandas(frame, SCHEMA)
    (told,) = beside_printed("vebi-iou", [Measured(measured.document, table, measured.methods, measured.metrics, 0)])
    row = next(row for row in told["rows"] if row["method"] == "VEBI")
    assert row["ours_spread"]["iou"] == pytest.approx(100 * np.std([0.35, 0.3, 0.3, 0.3], ddof=1), abs=1e-3)
    assert told["models"] == [f"net seed {seed}" for seed in range(4)]


def test_a_table_of_one_data_set_stands_beside_that_one() -> None:
    means = {"gradcam": 0.2, "vebi": 0.3}
    assert beside_printed("vebi-iou", [study(means, name="mine")]) == []
    both = beside_printed("vebi-iou", [study(means, name="double-12c"), study(means)])
    assert [told["dataset"] for told in both] == ["single-6c", "double-12c"]
    assert [told["rows"][-1]["printed"]["iou"] for told in both] == [22.5, 23.2]


def test_models_stand_beside_their_own_kind() -> None:
    """Residual networks beside the residual network, and others beside both, if there is no better one."""
    means = {"gradcam": 0.2, "gradcam_pp": 0.3, "opticam": 0.4}
    mixed = study(means, models=("resnet18-seed0-a", "vgg16-seed0-b", "flowernet-seed0-c"))
    told = beside_printed("opticam-classification", [mixed])
    assert [each["models"] for each in told] == [["resnet18 seed 0"], ["vgg16 seed 0"]]
    told = beside_printed("opticam-classification", [study(means, models=("resnet18-seed0-a",))])
    assert [each["models"] for each in told] == [["resnet18 seed 0"]]
    told = beside_printed("opticam-classification", [study(means, models=("flowernet-seed0-a", "flowernet-seed1-b"))])
    assert [len(each["models"]) for each in told] == [2, 2]


def test_only_the_chosen_models_count() -> None:
    """Beside ResNet-50, the seconds and the comparisons of the VGG are left out."""
    measured = study({"gradcam": 0.2, "gradcam_pp": 0.3, "opticam": 0.4}, models=("resnet18-seed0-a", "vgg16-seed0-b"))
    frame = measured.table.to_pandas()
    frame.loc[frame.model == "vgg16-seed0-b", "seconds"] = 100.0
    table = pa.Table.from_pandas(frame, SCHEMA)
    one, other = beside_printed(
        "opticam-classification", [Measured(measured.document, table, measured.methods, measured.metrics, 0)]
    )
    assert one["rows"][1]["ours"]["seconds"] == pytest.approx(8 * 0.2)
    assert other["rows"][1]["ours"]["seconds"] == pytest.approx(800)
    fast = next(trend for trend in one["trends"] if "fastest" in trend["statement"])
    assert fast["holds"] == "cannot be told"  # opticam takes 4/3 of gradcam_pp's time, and others are not there


def slow_tau(theirs: np.ndarray, means: np.ndarray) -> float:
    """By its definition, pair by pair, with the correction for ties."""
    signs = [np.sign((a - b) * (c - d)) for (a, c), (b, d) in product(zip(theirs, means, strict=True), repeat=2)]
    pairs = [np.count_nonzero(np.subtract.outer(values, values)) for values in (theirs, means)]
    return float(np.sum(signs) / np.sqrt(np.prod(pairs)))


def test_the_limits_of_tau_are_those_of_redrawn_rows() -> None:
    source = np.random.default_rng(3)
    theirs = np.array([1.0, 2.0, 2.0, 3.0, 5.0])
    rows = theirs[:, None] + 4 * source.normal(size=(5, 30))
    low, high = tau_limits(theirs, rows, 0)
    draws = [slow_tau(theirs, rows[:, source.integers(0, 30, 30)].mean(1)) for _ in range(3000)]
    expected = np.quantile(draws, (0.025, 0.975), method="nearest")
    assert (low, high) == pytest.approx(expected, abs=0.12)  # one step of the few values that there are
    assert low <= kendalltau(theirs, rows.mean(1)).statistic <= high
    same = tau_limits(theirs, np.ones((5, 30)), 0)
    assert np.isnan(same).all()
