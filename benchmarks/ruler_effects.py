"""The lines of the ruler's table on the effect map: whether it is a truth, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from metric_table import Setting, open_setting
from ruler_lines import RulerLine
from ruler_setting import CONTROLS, DELETION, LEADING, RulerSetting

from an8flower.evaluate.metrics.interventions.effect_map import BUDGET, measure_effects
from an8flower.evaluate.metrics.interventions.region_effects import agreement, measure_region_effects
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric, parse_metrics
from an8flower.evaluate.results.statistics.intervals import calibrate
from an8flower.evaluate.results.statistics.scores import CHANCE, ORACLE

SWAPPED = 8  # rows of which regions are swapped


def truths(setting: RulerSetting) -> Iterator[RulerLine]:
    """The effect map on the counterfactual areas, and the controls by skill."""
    table = open_setting(setting.store, setting.classifier(), setting.rows)
    names = (DELETION, "counterfactual_insertion")
    values = [_calibrated_effect(table, name) for name in names]
    yield RulerLine(
        "the truth of the model",
        "calibrated counterfactual areas of the effect map, by deletion and by insertion",
        "there was none; the mask had 1, and what the model uses more",
        "; ".join(f"{value:.2f}" for value in values),
        all(abs(value - 1) < 1e-3 for value in values),
        "it is their truth, since it orders pixels as the model uses them",
    )
    skills = {
        f"{arch}, `{metric}`": max(
            (board["metrics"][metric]["results"][name]["skill"], name) for name in CONTROLS if name in _names(board)
        )
        for arch, board in setting.boards()
        for metric in (LEADING, DELETION)
    }
    yield RulerLine(
        "the truth of the model",
        "the best control that sees no model, by skill",
        "there was none",
        ", ".join(f"{where}: {name} {skill:.2f}" for where, (skill, name) in skills.items()),
        all(skill <= 0 for skill, _ in skills.values()),
        "0 by what skill is: the best of them is its zero, wherever it is the best on all models of a board",
    )


def _calibrated_effect(table: Setting, name: str) -> float:
    """The score of the effect map on the scale of what `score` files as chance and truth."""
    case, judge = table.case, table.judge
    assert case.classifier is not None
    filed = judge.score_model_references(case.classifier, case.truth.rows.numpy(), case.query.targets.numpy(), {})
    means = filed.to_pandas().groupby(["explainer", "metric"])["value"].mean()
    with torch.no_grad():
        score = float(parse_metric(name).score(table.references["effect map"], case).mean())
    return calibrate(score, float(means[CHANCE, name]), float(means[ORACLE, name]))


def _names(board: dict[str, object]) -> set[str]:
    methods = board["methods"]
    assert isinstance(methods, list)
    return {entry["text"] for entry in methods}


def derivations(setting: RulerSetting) -> Iterator[RulerLine]:
    """Whether the gradient and the swaps of regions agree inside the evidence, and what a map costs."""
    table = open_setting(setting.store, setting.classifier(), SWAPPED)
    case, classifier = table.case, table.case.classifier
    assert classifier is not None
    with classifier.counting() as cost:
        effects = measure_effects(case)
    with torch.no_grad():
        ranks = agreement(effects.maps, *measure_region_effects(case), case.truth.masks).double().numpy()
    yield RulerLine(
        "the truth of the model",
        f"rank correlation of gradient and swapped regions inside the evidence, mean and lowest of {SWAPPED} rows",
        "there was none",
        f"{np.nanmean(ranks):.2f}, {np.nanmin(ranks):.2f}",
        float(np.nanmean(ranks)) >= 0.8,
        "two derivations, one without a gradient",
    )
    passes = (cost.forwards + cost.backwards) / 2 / len(case.truth.rows)
    seconds = _time_scoring(open_setting(setting.store, classifier, setting.rows))
    yield RulerLine(
        "the truth of the model",
        f"passes forwards and backwards for an effect map; time to score each of {setting.rows} maps, three metrics",
        "there was none",
        f"{passes:.1f} passes a row; {1000 * seconds:.2f} ms a map",
        passes <= BUDGET and seconds <= 1e-3,
        "measured once for all methods, and kept beside the run",
    )


def _time_scoring(table: Setting) -> float:
    """Seconds a map for all effect metrics once the effect maps are there, the least of five turns."""
    metrics = parse_metrics(["family:effect"])
    maps = table.controls["noise"]
    score_all(metrics, maps, table.case)
    turns = []
    for _ in range(5):
        began = time.perf_counter()
        score_all(metrics, maps, table.case)
        turns.append((time.perf_counter() - began) / len(maps))
    return min(turns)


EFFECT_LINES = (truths, derivations)
