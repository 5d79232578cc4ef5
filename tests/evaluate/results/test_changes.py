"""What has changed since an earlier audit, against a slow second way to decide it."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from an8flower.evaluate.results.baseline import Baseline, ScoredStudy
from an8flower.evaluate.results.changes import BETTER, EQUAL, GONE, NEW, UNTOLD, WORSE, compare_runs
from an8flower.evaluate.results.folder import SCHEMA, RunFolder
from an8flower.evaluate.results.metric_values import MetricKind

KINDS = {"flowers": {"up": MetricKind(), "down": MetricKind(higher_is_better=False)}}
Scores = dict[tuple[int, str, str], Any]  # the values (rows,) of each seed, method and metric


def study(scores: Scores, rows: Any = None, boards: list[dict[str, Any]] | None = None) -> ScoredStudy:
    """A data set with these scores, whose rows are 0, 1, ... or as given."""
    seeds = sorted({seed for seed, _, _ in scores})
    methods = sorted({method for _, method, _ in scores})
    metrics = {metric: {} for _, _, metric in scores}
    document = {
        "dataset": {"name": "flowers", "digest": "d" * 64, "split": "test", "rows": 9},
        "scores": {
            "models": [{"arch": "net", "seed": seed, "digest": "d" * 64} for seed in seeds],
            "results": [{"text": method, "metrics": metrics} for method in methods],
            "boards": boards or [],
        },
    }
    lines = [
        {"row": int(row), "model": f"net-seed{seed}-dddddddd", "explainer": f"{method}()", "metric": metric, "value": v}
        for (seed, method, metric), values in scores.items()
        for row, v in zip(range(len(values)) if rows is None else rows, values, strict=True)
    ]
    lines = [{**line, "value": None if np.isnan(line["value"]) else float(line["value"])} for line in lines]
    table = pa.Table.from_pylist(lines, SCHEMA)
    return ScoredStudy(document, table, {method: f"{method}()" for method in methods})


class MadeUp(Baseline):
    """An earlier run that lies in memory."""

    def studies(self) -> list[ScoredStudy]:
        """The studies that its summary holds as they are."""
        return list(self.summary["made"])


def compare(now: ScoredStudy, before: ScoredStudy | None) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The changes by seed, method and metric."""
    baseline = MadeUp(Path("old"), {"made": [before] if before else []}, "digest", ())
    document = json.loads(json.dumps(compare_runs([now], baseline, KINDS, 0), allow_nan=False))
    assert sum(document["counts"].values()) == len(document["changes"])
    return {(change["seed"], change["method"], change["metric"]): change for change in document["changes"]}


def sign_flips(differences: np.ndarray) -> float:
    """The exact two-sided p of the sign-flip test, by all choices of signs, one after the other."""
    known = differences[~np.isnan(differences)]
    observed = abs(known.sum())
    sums = np.abs(np.array(list(product((1, -1), repeat=len(known)))) @ known)
    return float(np.mean(sums >= observed - 1e-6 * np.abs(known).sum()))


def correct(p: dict[Any, float]) -> dict[Any, float]:
    """Holm's correction as a textbook says it: step down from the smallest p."""
    adjusted, largest = {}, 0.0
    for place, key in enumerate(sorted(p, key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - place) * p[key]))
        adjusted[key] = largest
    return adjusted


values = arrays(np.float32, (3, 8), elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, float("nan")]))


@settings(max_examples=25)
@given(values, values)
def test_rows_are_paired_as_a_slow_second_version_does(before: np.ndarray, now: np.ndarray) -> None:
    keys = [(0, "a", "up"), (0, "b", "up"), (1, "a", "up")]
    changes = compare(*(study(dict(zip(keys, scores, strict=True))) for scores in (now, before)))
    slow = {key: (n - b).astype(float) for key, n, b in zip(keys, now, before, strict=True)}
    p = {key: sign_flips(apart) for key, apart in slow.items() if np.nan_to_num(apart).any()}
    adjusted = correct(p)
    for key, apart in slow.items():
        change, known = changes[key], ~np.isnan(apart)
        assert change["n"] == known.sum()
        if not known.any():
            assert (change["outcome"], change["reason"]) == (UNTOLD, "no row has a value then and now")
            continue
        assert change["difference"] == pytest.approx(apart[known].mean(), abs=1e-6)
        assert change["now"] - change["before"] == pytest.approx(change["difference"], abs=1e-6)
        assert change["low"] <= change["difference"] <= change["high"]
        assert (change["p"], change["p_holm"]) == pytest.approx((p.get(key), adjusted.get(key)), abs=1e-9)
        expected = EQUAL if key not in p else UNTOLD
        if key in p and adjusted[key] < 0.05:
            expected = BETTER if apart[known].mean() > 0 else WORSE
        assert change["outcome"] == expected


def test_better_and_worse_follow_the_direction_of_the_metric() -> None:
    random = np.random.default_rng(0)
    low, high = 0.2 + 0.1 * random.random(20), 0.6 + 0.1 * random.random(20)
    then = study({(0, "a", "up"): low, (0, "a", "down"): low, (0, "b", "up"): high})
    now = study({(0, "a", "up"): high, (0, "a", "down"): high, (0, "b", "up"): low})
    assert {key[1:]: change["outcome"] for key, change in compare(now, then).items()} == {
        ("a", "up"): BETTER,
        ("a", "down"): WORSE,
        ("b", "up"): WORSE,
    }
    back = compare(then, now)
    for key, change in compare(now, then).items():
        assert back[key]["difference"] == pytest.approx(-change["difference"])


def test_nothing_is_better_by_chance_more_often_than_promised() -> None:
    """Of 20 audits of 20 cells without a difference, a share of 5 % calls anything better or worse: at most 4 here."""
    random, wrong = np.random.default_rng(1), 0
    for _ in range(20):
        keys = [(seed, f"m{method}", "up") for seed in range(2) for method in range(10)]
        then, now = ({key: random.random(30) for key in keys} for _ in range(2))
        outcomes = {change["outcome"] for change in compare(study(now), study(then)).values()}
        wrong += bool(outcomes & {BETTER, WORSE})
    assert wrong <= 4  # P(more than 4 of 20 at 5 %) is below 0.3 %


def test_cells_of_one_run_alone_are_new_or_gone() -> None:
    scores = np.linspace(0, 1, 6)
    changes = compare(
        study({(0, "a", "up"): scores, (0, "b", "up"): scores, (1, "a", "up"): scores}),
        study({(0, "a", "up"): scores, (0, "c", "up"): scores, (2, "a", "up"): scores}),
    )
    outcomes = {key[:2]: change["outcome"] for key, change in changes.items()}
    assert outcomes == {(0, "a"): EQUAL, (0, "b"): NEW, (1, "a"): NEW, (0, "c"): GONE, (2, "a"): GONE}
    alone = compare(study({(0, "a", "up"): scores}), None)
    assert [change["outcome"] for change in alone.values()] == [NEW]


def test_only_rows_that_both_scored_are_paired() -> None:
    now, then = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0.2, 0.3, 0.8])
    (change,) = compare(
        study({(0, "a", "up"): now}, rows=[1, 3, 5, 9]), study({(0, "a", "up"): then}, rows=[3, 5, 7])
    ).values()
    assert (change["by"], change["n"], change["outcome"]) == ("rows", 2, EQUAL)


def board(mean: float, low: float, high: float) -> list[dict[str, Any]]:
    result = {"mean": mean, "low": low, "high": high}
    return [
        {
            "architectures": {"net": 1},
            "methods": [{"text": "a", "equal": ["same"]}],
            "metrics": {"up": {"results": {"a": result}}},
        }
    ]


@pytest.mark.parametrize(
    ("then", "now", "outcome"),
    [
        ((0.50, 0.45, 0.55), (0.60, 0.55, 0.65), BETTER),  # 0.1 +- hypot(0.05, 0.05) = 0.07
        ((0.60, 0.55, 0.65), (0.50, 0.45, 0.55), WORSE),
        ((0.50, 0.45, 0.55), (0.56, 0.51, 0.61), UNTOLD),
        ((0.50, 0.45, 0.55), (0.50, 0.45, 0.55), EQUAL),
        ((0.50, 0.45, 0.55), (0.50, 0.44, 0.56), UNTOLD),
    ],
)
def test_means_are_compared_where_rows_are_not_at_hand(
    then: tuple[float, ...], now: tuple[float, ...], outcome: str
) -> None:
    scores = {(0, method, "up"): np.zeros(3) for method in ("a", "same")}
    earlier = study(scores, boards=board(*then))._replace(table=None)
    changes = compare(study(scores, boards=board(*now)), earlier)
    assert set(changes) == {(None, "a", "up"), (None, "same", "up")}
    for change in changes.values():
        assert (change["by"], change["seed"]) == ("means", None)
        reach = math.hypot(then[0] - then[1], now[0] - now[1])
        difference = now[0] - then[0]
        assert (change["low"], change["high"]) == pytest.approx((difference - reach, difference + reach))
        # Two cells are corrected together, so the interval of one has to stay away from zero by more.
        assert (change["outcome"] == outcome) or (outcome, change["outcome"]) == (BETTER, UNTOLD)
        assert (change["p"] is None) == (difference == 0)
        if change["p"] is not None:
            assert (change["p"] < 0.05) == (abs(difference) > reach)


def test_means_of_other_seeds_are_not_compared() -> None:
    earlier = study({(1, "a", "up"): np.zeros(3)}, boards=board(0.1, 0, 0.2))._replace(table=None)
    changes = compare(study({(0, "a", "up"): np.zeros(3)}, boards=board(0.9, 0.8, 1)), earlier)
    assert {change["reason"] for change in changes.values()} == {"the means are of other seeds"}


def test_two_networks_without_a_seed_are_told_apart_by_their_digests(tmp_path: Path) -> None:
    before = study({(0, "a", "up"): np.array([0.1, 0.2])})
    twin = {"arch": "net", "seed": 0, "digest": "e" * 64}
    document = {**before.document, "scores": {**before.scores, "models": [*before.scores["models"], twin]}}
    lines = [{**line, "model": "net-seed0-eeeeeeee", "value": 0.7} for line in before.table.to_pylist()]
    both = ScoredStudy(
        document, pa.concat_tables([before.table, pa.Table.from_pylist(lines, SCHEMA)]), before.explainers
    )
    document = compare_runs([both], MadeUp(Path("old"), {"made": [both]}, "", ()), KINDS, 0)
    assert [change["architecture"] for change in document["changes"]] == ["net (dddddddd)", "net (eeeeeeee)"]
    assert [change["now"] for change in document["changes"]] == pytest.approx([0.15, 0.7])


def test_rows_are_read_from_the_folder_of_the_run(tmp_path: Path) -> None:
    before = study({(0, "a", "up"): np.array([0.1, 0.2])})
    RunFolder(tmp_path).write_part("part", before.table)
    filed = {**before.document, "long_rows": {"parts": ["part"], "explainers": before.explainers}}
    (read,) = Baseline(tmp_path, {"studies": [filed]}, "", ()).studies()
    assert read.table.equals(before.table)
    (tmp_path / "scores" / "part.parquet").unlink()
    (read,) = Baseline(tmp_path, {"studies": [filed]}, "", ()).studies()
    assert read.table is None
