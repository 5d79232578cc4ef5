"""Why two lines of the ruler's table do not hold: what a blur does to maps, and what counterfactual deletion asks.

`python benchmarks/ruler_orders.py` prints the figures that stand in the manual under "How good is the ruler?".
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from metric_table import Setting, change_all, open_setting
from ruler_setting import CONTROLS, DELETION, LEADING, METHODS, RulerSetting
from scipy.ndimage import gaussian_filter
from scipy.stats import kendalltau
from torch import Tensor

from an8flower.evaluate.metrics.naming import parse_metric

COARSE = {"gradcam", "xgradcam", "layercam", "eigencam", "rollout", "tibav"}  # made on a grid, then scaled up
OF_TRANSFORMERS = {"rollout", "tibav"}
RADII = (0, 1, 2, 4)
ASKED = (LEADING, DELETION, "average_precision", "effect_share")


def print_blurs(setting: RulerSetting) -> None:
    """What a blur does to each method's leading score, and between which methods the order changes."""
    table = open_setting(setting.store, setting.classifier(), setting.rows)
    names = [name for name in METHODS if name not in OF_TRANSFORMERS]
    maps = {name: table.explain(name) for name in names}
    scores = {radius: {name: _score(table, LEADING, _blur(maps[name], radius)) for name in names} for radius in RADII}
    print(f"{LEADING}, flowernet seed 0, {setting.rows} rows, blurred by {RADII} px")
    for name in names:
        print(f"  {name:24s}", *(f"{scores[radius][name]:.2f}" for radius in RADII))
    pairs = list(itertools.combinations(names, 2))
    for radius in RADII[1:]:
        turned = [pair for pair in pairs if _leads(scores[0], pair) != _leads(scores[radius], pair)]
        mixed = sum((first in COARSE) != (second in COARSE) for first, second in turned)
        print(f"  {radius} px: tau {_tau(scores[0], scores[radius], names):.2f}; {len(turned)} of {len(pairs)} pairs")
        print(f"    turn, {mixed} of them between a coarse and a fine method")
        for words, kept in (("coarse", True), ("fine", False)):
            part = [name for name in names if (name in COARSE) == kept]
            gain = np.mean([scores[radius][name] - scores[0][name] for name in part])
            print(f"    {words} alone: tau {_tau(scores[0], scores[radius], part):.2f}, mean gain {gain:+.3f}")


def _blur(maps: Tensor, radius: float) -> Tensor:
    return change_all(maps, lambda values: gaussian_filter(values, radius)) if radius else maps


def _score(table: Setting, metric: str, maps: Tensor) -> float:
    """The mean score of maps (n, H, W) over the rows that have one; larger is better."""
    known = parse_metric(metric)
    with torch.no_grad():
        score = float(known.score(maps, table.case).nanmean())
    return score if known.higher_is_better else -score


def _tau(first: dict[str, float], second: dict[str, float], names: Sequence[str]) -> float:
    return float(kendalltau([first[name] for name in names], [second[name] for name in names]).statistic)


def _leads(scores: dict[str, float], pair: tuple[str, str]) -> bool:
    return scores[pair[0]] > scores[pair[1]]


def print_orders(setting: RulerSetting) -> None:
    """How the orders of methods by mask and by deletion agree, among all pairs and among those that are told apart."""
    for arch, board in setting.boards():
        names = [entry["text"] for entry in board["methods"] if entry["text"] not in CONTROLS]
        by = {metric: _column(board, metric, names) for metric in (LEADING, DELETION)}
        print(f"{arch}: {LEADING} and {DELETION}: tau {_tau(by[LEADING], by[DELETION], names):.2f}")
        pairs = list(itertools.combinations(names, 2))
        apart = [_apart(setting.document, metric, arch) for metric in by]
        both = [pair for pair in pairs if all(frozenset(pair) in told for told in apart)]
        same = sum(_leads(by[LEADING], pair) == _leads(by[DELETION], pair) for pair in both)
        print(f"  {len(both)} of {len(pairs)} pairs told apart by both, {same} of them in the same order")
        for name in sorted(names, key=lambda name: -by[LEADING][name]):
            print(f"  {name:24s} {by[LEADING][name]:.3f} {-by[DELETION][name]:.3f}")


def print_questions(setting: RulerSetting) -> None:
    """Which metrics order methods as deletion does, and what is left if maps forget their order within the mask."""
    table = open_setting(setting.store, setting.classifier(), setting.rows)
    names = [name for name in METHODS if name not in OF_TRANSFORMERS]
    maps = {name: table.explain(name) for name in names}
    masks = table.case.truth.masks > 0
    level = {name: _forget_order(m, masks) for name, m in maps.items()}
    for words, some in (("maps as they are", maps), ("order within the mask forgotten", level)):
        scores = {metric: {name: _score(table, metric, some[name]) for name in names} for metric in ASKED}
        taus = {
            metric: round(_tau(scores[metric], scores[DELETION], names), 2) for metric in ASKED if metric != DELETION
        }
        print(f"flowernet seed 0, {words}: tau of {DELETION} with {taus}")


def _forget_order(maps: Tensor, masks: Tensor) -> Tensor:
    """Maps (n, H, W) with their mean over the mask (n, H, W) bool in each of its pixels."""
    means = (maps * masks).sum((1, 2), keepdim=True) / masks.sum((1, 2), keepdim=True)
    return torch.where(masks, means, maps)


def _column(board: dict[str, Any], metric: str, names: Sequence[str]) -> dict[str, float]:
    """What methods score on a board; larger is better."""
    sign = 1 if parse_metric(metric).higher_is_better else -1
    return {name: sign * board["metrics"][metric]["results"][name]["mean"] for name in names}


def _apart(document: dict[str, Any], metric: str, arch: str) -> set[frozenset[str]]:
    """The pairs of methods that are told apart on the models of an architecture."""
    board = next(b for b in document["boards"] if list(b["architectures"]) == [arch])
    pairs = board["metrics"][metric].get("comparisons", document["comparisons"][metric])["pairs"]
    return {frozenset((pair["a"], pair["b"])) for pair in pairs if pair["apart"]}


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps data, models and scores; a temporary one unless given")
    options.add_argument("--rows", type=int, default=30)
    options.add_argument("--size", type=int, default=42)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        setting = RulerSetting(chosen.folder or Path(temporary), chosen.rows, chosen.size)
        print_blurs(setting)
        print_orders(setting)
        print_questions(setting)


if __name__ == "__main__":
    main()
