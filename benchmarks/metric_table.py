"""Which metric deserves to lead? Every metric of maps that are right, and of maps that know no model, on `single-6c`.

Right are the truth (the evidence mask) and the effect map (what the model uses), as they are and after changes that
harm nobody. The controls see no model. Scores are calibrated: 0 is noise, 1 is what the metric's own truth scores. The
criterion is in `CRITERION`, and `choose` applies it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import RESULTS, write
from scipy.ndimage import gaussian_filter
from scipy.stats import kendalltau, rankdata
from torch import Tensor

from an8flower import spec as specs
from an8flower.evaluate.case import Case
from an8flower.evaluate.data.selection import select_rows
from an8flower.evaluate.data.world import World
from an8flower.evaluate.explaining.fitting import StoredExamples, prepare
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.metrics.interventions.effect_map import effects_of
from an8flower.evaluate.metrics.metric import Metric, score_all
from an8flower.evaluate.metrics.naming import parse_metrics
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.networks.guard import evaluating
from an8flower.evaluate.models.training import train
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring.judge import Judge
from an8flower.evaluate.scoring.references import evidence, evidence_at_grid, noise, other_rows
from an8flower.evaluate.seeds import generator, seed_of
from an8flower.generate import generate
from an8flower.store import FlowerStore

METHODS = (
    *("gradient", "gradient_x_input", "smoothgrad:samples=10", "integrated_gradients:steps=20", "guided_backprop"),
    *("gradcam", "gradcam_pp", "layercam", "eigencam", "lrp", "occlusion:window=8,stride=4", "vebi"),
)
GRIDS = (11, 6, 3)
CONTROLS = (
    *("noise", "smooth noise", "bump", "center", "mean training mask", "mask of another row", "edges"),
    "constant but a corner",
)
OTHERS = ("gradcam", "vebi")
METRICS = ("family:localisation", "family:effect", "counterfactual_deletion", "counterfactual_insertion")
QUESTIONS = {"localisation": "evidence", "effect": "use", "intervention": "use"}
LEAST, MARGIN, SAME, FLAT = 0.9, 0.1, 0.99, 0.05
CRITERION = {
    "sees the truth": f"the truth and the effect map have at least {LEAST} each",
    "beats the controls": f"both have at least {MARGIN} more than every control that sees no model",
    "order alone": "squares, square roots and ranks of the methods' maps leave the order of methods as it is: "
    f"Kendall's tau is at least {SAME}, and the effect map has the same score within {1 - SAME:.2f}",
    "flat maps": f"a map that is flat but for a corner has at most {FLAT}",
    "choice": "of the metrics that meet all of these, the one with the largest margin of the effect map leads, for "
    "each of two questions: does the map find the designed evidence (localisation), and does it order pixels as the "
    "model uses them (metrics that ask the model anew, and are not made from the effect map)?",
}
Change = Callable[[np.ndarray], np.ndarray]  # of one map (H, W) float64


def signed_power(power: float) -> Change:
    """A change that keeps order and sign."""
    return lambda values: np.sign(values) * np.abs(values) ** power


def clip(percent: float) -> Change:
    """Values beyond the percentiles become these."""
    return lambda values: values.clip(*np.percentile(values, (percent, 100 - percent)))


def rank(values: np.ndarray) -> np.ndarray:
    """Ranks in [0, 1]; tied pixels share theirs."""
    return (rankdata(values).reshape(values.shape) - 1) / (values.size - 1)


RESCALINGS: Mapping[str, Change] = {"square": signed_power(2), "square root": signed_power(0.5), "rank": rank}
CHANGES: Mapping[str, Change] = {
    **RESCALINGS,
    "blurred 1 px": lambda values: gaussian_filter(values, 1),
    "blurred 2 px": lambda values: gaussian_filter(values, 2),
    "clipped at 1 %": clip(1),
    "clipped at 5 %": clip(5),
}


def change_all(maps: Tensor, change: Change) -> Tensor:
    """Maps (B, H, W), each changed."""
    return torch.from_numpy(np.stack([change(values) for values in maps.double().numpy()])).float()


@dataclass(frozen=True)
class Setting:
    """Rows, a trained model, and everything that is scored on them."""

    judge: Judge
    case: Case

    @cached_property
    def references(self) -> dict[str, Tensor]:
        """The maps that are right, (B, H, W) float32 each."""
        truth, effects = self.case.truth, effects_of(self.case).maps.nan_to_num(0)
        grids = {f"truth at {side} x {side}": evidence_at_grid(truth, (side, side)) for side in GRIDS}
        changed = {f"effect map, {name}": change_all(effects, change) for name, change in CHANGES.items()}
        return {"truth": evidence(truth), **grids, "effect map": effects, **changed}

    @cached_property
    def controls(self) -> dict[str, Tensor]:
        """The maps that see no model, in the order of CONTROLS."""
        truth, (height, width) = self.case.truth, self.case.truth.masks.shape[1:]
        static, masks = noise(truth, 0), evidence(truth)
        rows = torch.arange(height)[:, None], torch.arange(width)
        middles = torch.rand(len(masks), 2, generator=generator(seed_of("bumps"))) * torch.tensor([height, width])
        bumps = [torch.exp(-((rows[0] - y) ** 2 + (rows[1] - x) ** 2) / (2 * (height / 5) ** 2)) for y, x in middles]
        corner = torch.ones_like(masks)
        corner[:, 0, 0] = 0
        maps = (
            *(static, change_all(static, lambda values: gaussian_filter(values, 4)), torch.stack(bumps)),
            *(self.explain("center"), self.explain("mean_mask"), masks[self.partners], self.explain("edges")),
            corner,
        )
        return dict(zip(CONTROLS, maps, strict=True))

    @cached_property
    def methods(self) -> dict[str, Tensor]:
        """The maps of methods, as they are."""
        return {text: self.explain(text) for text in METHODS}

    @cached_property
    def partners(self) -> Tensor:
        """For each place another row's."""
        return other_rows(self.case.truth.rows, self.judge.seed)

    def explain(self, text: str) -> Tensor:
        """The maps (B, H, W) of a method, fitted if it has to be."""
        method, classifier = parse_method(text), self.case.classifier
        assert classifier is not None
        examples = StoredExamples(self.judge.split.store, torch.device("cpu"))
        ready = method._replace(explainer=prepare(method.explainer, classifier, examples))
        return self.judge.explain(classifier, ready, self.case.query)

    def mean_scores(self, maps: Tensor) -> dict[str, float]:
        """The mean score over the rows by every metric that gives one."""
        classifier = self.case.classifier
        assert classifier is not None
        with classifier.holding(64), evaluating(classifier), torch.no_grad():
            scores = score_all(self.judge.metrics, maps, self.case)
        return {metric.name: mean_of(metric, scores[metric.name]) for metric in self.judge.metrics}

    def chance(self) -> dict[str, float]:
        """What noise scores: by formula where there is one, else measured on two maps a row."""
        truth = self.case.truth
        exact = {
            m.name: mean_of(m, m.chance(truth.counted if m.leaves_void_out else truth.masks))
            for m in self.judge.metrics
            if m.chance
        }
        repeats = [self.mean_scores(noise(self.case.truth, repeat)) for repeat in range(2)]
        return {name: float(np.mean([scores[name] for scores in repeats])) for name in repeats[0]} | exact

    def ideal(self, truth: Mapping[str, float]) -> dict[str, float]:
        """What the metrics' own truth scores: the mask, or the maps that a metric names."""
        best = dict(truth)
        for metric in self.judge.metrics:
            if metric.ideal:
                best[metric.name] = self.mean_scores(metric.ideal.ideal_maps(self.case))[metric.name]
        return best


def mean_of(metric: Metric, values: Tensor) -> float:
    """The mean of the rows' values; a curve metric chooses them first."""
    table = values.double().numpy()
    return (
        float(np.nanmean(metric.select(table) if metric.select else table)) if not np.isnan(table).all() else math.nan
    )


def measure(setting: Setting) -> list[dict[str, Any]]:
    """A row of the table for each metric."""
    rescaled = {
        name: {text: change_all(maps, change) for text, maps in setting.methods.items()}
        for name, change in RESCALINGS.items()
    }
    others = {f"{text}, other rows": setting.methods[text][setting.partners] for text in OTHERS}
    sets = {**setting.references, **setting.controls, **others, **setting.methods}
    scores = {name: setting.mean_scores(maps) for name, maps in sets.items()}
    changed = {name: {text: setting.mean_scores(m) for text, m in maps.items()} for name, maps in rescaled.items()}
    chance, ideal = setting.chance(), setting.ideal(scores["truth"])
    rows = []
    for metric in setting.judge.metrics:
        floor, top = chance[metric.name], ideal[metric.name]
        calibrated = {
            name: (found[metric.name] - floor) / (top - floor) if abs(top - floor) > 1e-6 else math.nan
            for name, found in scores.items()
        }
        plain = [scores[text][metric.name] for text in METHODS]
        taus = [order_kept(plain, [of_all[text][metric.name] for text in METHODS]) for of_all in changed.values()]
        rows.append(judge_row({"metric": metric.name, "family": metric.family, **calibrated, "tau": min(taus)}))
    return rows


def order_kept(before: Sequence[float], after: Sequence[float]) -> float:
    """Kendall's tau of two lists of scores, rounded so that ties stay ties; NaN where a value is missing."""
    if np.isnan([*before, *after]).any():
        return math.nan
    return float(kendalltau(np.round(before, 5), np.round(after, 5)).statistic)


def judge_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the verdicts of the criterion."""
    row = {key: math.nan if value is None else value for key, value in row.items()}
    best = max((name for name in CONTROLS if not math.isnan(row[name])), key=lambda name: row[name], default="")
    highest = row.get(best, math.nan)
    right = min(row["truth"], row["effect map"])
    moved = max(abs(row[f"effect map, {name}"] - row["effect map"]) for name in RESCALINGS)
    verdicts = {
        "sees the truth": right >= LEAST,
        "beats the controls": right - highest >= MARGIN,
        "order alone": row["tau"] >= SAME and moved <= 1 - SAME,
        "flat maps": row["constant but a corner"] <= FLAT,
    }
    failed = [name for name, passed in verdicts.items() if not passed]  # NaN passes nothing
    return {**row, "best control": best, "margin": row["effect map"] - highest, "fails": ", ".join(failed)}


def choose(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The leading metric for each question, by the criterion."""
    chosen = {}
    for question in dict.fromkeys(QUESTIONS.values()):
        able = [
            row
            for row in rows
            if QUESTIONS.get(row["family"]) == question and row["family"] != "effect" and not row["fails"]
        ]
        chosen[question] = str(max(able, key=lambda row: float(row["margin"]))["metric"]) if able else ""
    return chosen


def main() -> None:
    """Generate, train, score; what is in the folder already is taken from there."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps data and model; a temporary one unless given")
    options.add_argument("--rows", type=int, default=60)
    options.add_argument("--size", type=int, default=42)
    options.add_argument("--judge", action="store_true", help="measure nothing, judge anew what was measured before")
    given = options.parse_args()
    torch.set_num_threads(1)
    if given.judge:
        before = json.loads((RESULTS / "metric_table.json").read_text(encoding="utf-8"))
        publish([judge_row(row) for row in before["rows"]], before["about"])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        data, model = folder / f"single-6c-{given.size}.h5", folder / f"flowernet-{given.size}.safetensors"
        if not data.exists():
            generate(specs.load("single-6c").with_changes(rows=2400, size=given.size), data)
        store = FlowerStore(data)
        if not model.exists():
            train(store, "flowernet").classifier.save(model)
        setting = open_setting(store, load(model), given.rows)
        rows = measure(setting)
    publish(rows, {"rows": given.rows, "size": f"{given.size} px", "model": "flowernet, seed 0"})


def publish(rows: list[dict[str, Any]], about: Mapping[str, Any]) -> None:
    """Write the table with the criterion and the choice."""
    known = {key: value for key, value in about.items() if key in ("rows", "size", "model")}
    leads = {f"leads ({question})": name for question, name in choose(rows).items()}
    write(
        "metric_table", [{k: undefined_to_none(v) for k, v in row.items()} for row in rows], known | CRITERION | leads
    )


def undefined_to_none(value: Any) -> Any:
    """None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value


def open_setting(store: FlowerStore, classifier: Any, rows: int) -> Setting:
    """The setting of some rows of the test split for a model."""
    split, resources = store["test"], Resources(torch.device("cpu"), 64)
    metrics = parse_metrics(
        ["family:localisation", "family:effect", "counterfactual_deletion", "counterfactual_insertion"]
    )
    known = tuple(metric for metric in metrics if "threshold" not in metric.needs)
    judge = Judge(split, "label", 0, known, resources, World.of(split, resources.device))
    chosen = select_rows(split.labels, rows, seed_of("rows", 0))
    return Setting(judge, judge.case(classifier, chosen, judge.predict(classifier, chosen)))


if __name__ == "__main__":
    main()
