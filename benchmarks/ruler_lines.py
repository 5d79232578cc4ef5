"""The lines of the ruler's table: each measures anew what was found wrong, and says what became of it."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import metric_table
import numpy as np
import torch
from metric_table import Setting, change_all, clip, mean_of, open_setting, order_kept, rank
from ruler_setting import CONTROLS, CPU, DELETION, LEADING, RulerSetting
from scipy.ndimage import gaussian_filter
from scipy.stats import kendalltau

from an8flower.evaluate.data.world import World
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.metrics.interventions.effect_map import effects_of
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.results.scopes import ANEW
from an8flower.evaluate.results.statistics.intervals import calibrated_intervals
from an8flower.evaluate.results.statistics.simulation import SimulationSetting, simulate
from an8flower.evaluate.results.wording import reliance
from an8flower.evaluate.trust.certificate import certify
from an8flower.evaluate.trust.leak import measure_leak
from an8flower.evaluate.trust.sanity.plan import sanity_plan
from an8flower.evaluate.trust.sanity.run import ModelSanity, sanity
from an8flower.generate import generate
from an8flower.spec import from_mapping
from an8flower.store import FlowerStore

BY_HAND = Path(__file__).parents[1] / "tests" / "evaluate" / "trust" / "counterexamples.py"
READS = {  # what a network reads: whether it relies on the evidence, and the largest share of it that it may use
    "OnePixel": ("yes", 0.02),
    "Rim": ("yes", 0.65),
    "StrongEdges": ("yes", 0.65),
    "Halo": ("no", 1.0),
    "MeanColour": ("yes", 1.0),
    "Disc": ("no", 1.0),
    "Shadow": ("no", 1.0),
}
CERTIFIED, AUDITS, DRAWN, RESAMPLES = 40, 80, 60, 300


class RulerLine(NamedTuple):
    """One line of the table."""

    found: str
    measure: str
    before: str  # on the development version that `ruler.BEFORE` names
    after: str
    cured: bool | None  # whether what was measured now meets the aim; None if the figure has none and is explained
    words: str


def flat_maps(setting: RulerSetting) -> Iterator[RulerLine]:
    """The leading metric of the map of what the model uses, and what it makes of harmless changes."""
    table = open_setting(setting.store, setting.classifier(), setting.rows)
    scores = {name: _leading_score(table, maps) for name, maps in _flat_and_right(table).items()}
    floor, top = scores["noise"], scores["truth"]
    right, corner = ((scores[name] - floor) / (top - floor) for name in ("effect map", "corner"))
    yield RulerLine(
        "the leading metric rewards flat maps",
        "calibrated leading score of what flowernet uses, pixel by pixel; of a map flat but for a corner",
        "0.16 to 0.22; not measured",
        f"{right:.2f}; {corner:.2f}",
        right >= 0.9 and corner <= 0.05,
        f"`{LEADING}` leads instead of `iou`, by a criterion",
    )
    methods = list(table.methods.values())
    before = [_leading_score(table, maps) for maps in methods]
    changes: dict[str, metric_table.Change] = {
        "ranks": rank,
        "clipped at 5 %": clip(5),
        "blurred by 2 px": lambda values: gaussian_filter(values, 2),
    }
    taus = {
        name: order_kept(before, [_leading_score(table, change_all(maps, change)) for maps in methods])
        for name, change in changes.items()
    }
    yield RulerLine(
        "the leading metric rewards flat maps",
        "Kendall's tau of the order of methods with itself: values ranked; clipped at 5 %; blurred by 2 px",
        "0.43; 0.52; 0.47",
        "; ".join(f"{tau:.2f}" for tau in taus.values()),
        taus["ranks"] >= 0.99 and taus["clipped at 5 %"] > 0.52 and taus["blurred by 2 px"] > 0.47,
        "order alone counts; clipping ties the largest values, and a blur makes another map: these may move it",
    )


def agreement_of_metrics(setting: RulerSetting) -> Iterator[RulerLine]:
    """Whether the leading metric orders methods as counterfactual deletion does."""
    taus = {metric: [_tau_with_deletion(board, metric) for _, board in setting.boards()] for metric in (LEADING, "iou")}
    said = {metric: "; ".join(f"{tau:.2f}" for tau in values) for metric, values in taus.items()}
    yield RulerLine(
        "the leading metric rewards flat maps",
        "Kendall's tau of the order of methods with that by counterfactual deletion: flowernet; flowervit",
        "0.30 to 0.40; 0.42 (`iou`)",
        f"{said[LEADING]} (`iou` on the same maps: {said['iou']})",
        min(taus[LEADING]) > 0.42,
        "both lead and ask two questions, so they need not agree; with ten methods a tau is known to 0.2 or so",
    )


def _tau_with_deletion(board: dict[str, Any], metric: str) -> float:
    names = [entry["text"] for entry in board["methods"] if entry["text"] not in CONTROLS]
    columns = [[board["metrics"][key]["results"][name]["mean"] for name in names] for key in (metric, DELETION)]
    return float(kendalltau(columns[0], -np.array(columns[1])).statistic)


def one_table(setting: RulerSetting) -> Iterator[RulerLine]:
    """Pairs that a board orders against their own comparison, and pairs never compared that count as tied."""
    against = sum(_against(board["metrics"][LEADING]) for _, board in setting.boards())
    compared = setting.document["comparisons"][LEADING]
    apart = {frozenset((pair["a"], pair["b"])): pair for pair in compared["pairs"] if not pair["compared"]}
    tied = sum(any(set(group) >= names for group in compared["groups"] or []) for names in apart)
    yield RulerLine(
        "different models in one table",
        "pairs ordered against their own comparison; never compared and said to be tied, of those never compared",
        "10; 8 of 8",
        f"{against}; {tied} of {len(apart)}",
        against == tied == 0,
        'a board for each architecture, of methods that ran on all of its models; "not compared" is not "tied"',
    )


def seeds(setting: RulerSetting) -> Iterator[RulerLine]:
    """How often made-up audits without any difference tell some pair apart, for models trained anew."""
    shares = [simulate(SimulationSetting("normal", 60, n, 0.22, 18), ANEW, AUDITS).familywise for n in (3, 5)]
    yield RulerLine(
        "seeds",
        f"a false difference in {AUDITS} audits of 18 methods without any, 60 rows: 2, 3, 5 seeds",
        "0.66; 0.70; 0.50",
        f"nothing is said; {shares[0]:.2f}; {shares[1]:.2f}",
        max(shares) <= 0.06 + 1.64 * (0.05 * 0.95 / AUDITS) ** 0.5,
        "two scopes; for models trained anew a moderated t-test with Holm's correction, from three seeds on",
    )


def coverage(setting: RulerSetting) -> Iterator[RulerLine]:
    """How often the interval of a calibrated score covers the score of all rows that rows were drawn from."""
    split = setting.store["test"]
    truth_rows = np.arange(len(split))
    case = open_setting(setting.store, setting.classifier(), 6).judge
    table = Setting(case, case.case(setting.classifier(), truth_rows, split.labels))
    maps, truth = table.explain("center"), table.case.truth
    shares = {name: _cover(parse_metric(name), maps, table) for name in ("iou", "energy_pointing")}
    yield RulerLine(
        "calibrated intervals",
        f"coverage of 95 % intervals, {RESAMPLES} draws of {DRAWN} of {len(truth.rows)} rows, `center`: "
        + ", ".join(f"`{name}`" for name in shares),
        "0.98 to 0.999",
        "; ".join(f"{share:.3f}" for share in shares.values()),
        all(0.92 <= share <= 0.978 for share in shares.values()),
        "chance and truth are drawn together with the score",
    )


def rim(setting: RulerSetting) -> Iterator[RulerLine]:
    """What a network reads off pictures whose evidence is painted over."""
    verdict = measure_leak(setting.store)
    yield RulerLine(
        "the mask's rim",
        f"accuracy of a network with the evidence painted over (chance), {setting.size} px",
        "0.70 (0.17), 56 px, void pixels not known",
        f"{verdict.accuracy:.2f}, {verdict.low:.2f} to {verdict.high:.2f} ({verdict.chance:.2f})",
        not verdict.leaks,
        "pixels at the rim are void: painted over here, and counted by no localisation metric",
    )


def certificates(setting: RulerSetting) -> Iterator[RulerLine]:
    """What the certificate says of networks with weights set by hand."""
    by_hand = _load(BY_HAND)
    words = {"Disc": by_hand.DISCS, "Shadow": by_hand.POTS}
    said, right = [], []
    for name, (expected, most) in READS.items():
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "x.h5"
            generate(from_mapping(by_hand.spec_words(words.get(name, by_hand.FLOWERS), CERTIFIED), "x"), path)
            world = World.of(FlowerStore(path)["test"], torch.device("cpu"))
            model = by_hand.wrapped(getattr(by_hand, name)(), world.spec.class_count)
            certificate = certify(model, world, np.arange(CERTIFIED))
        outcome, area = reliance(certificate.document()), certificate.use.area.mean
        said.append(f"{name} {outcome}" + ("" if np.isnan(area) else f" ({area:.0%} of the evidence)"))
        right.append(outcome == expected and not area > most)
    yield RulerLine(
        "the certificate",
        "networks set by hand: relies on the evidence? (share of it that holds 90 % of the effect)",
        'OnePixel yes (1.00 flip rate, nothing of a share); Halo "in part"',
        "; ".join(said),
        all(right),
        "evidence, rim and all else are swapped alone as well, limits decide, and the share is said",
    )


def null(setting: RulerSetting) -> Iterator[RulerLine]:
    """How many methods are no better than the best control that sees no model, and how much is of the picture."""
    counts, pictures = [], []
    for arch, board in setting.boards():
        results = board["metrics"][LEADING]["results"]
        skills = {name: entry["skill"] for name, entry in results.items() if name not in CONTROLS}
        counts.append(f"{sum(skill <= 0 for skill in skills.values())} of {len(skills)} on {arch}")
        pictures += [
            f"{name} {results[name]['calibrated'] - results[name]['of_this_picture']:.2f} of "
            f"{results[name]['calibrated']:.2f}"
            for name in ("gradcam", "vebi", "lrp")
            if arch == "flowernet" and name in results
        ]
    yield RulerLine(
        "the null",
        "methods that the mean training mask, or another control, equals or beats",
        "10 of 18 on flowernet, all on flowervit (`iou`), and nothing said so",
        ", ".join(counts),
        None,
        "a fact of methods and data; `skill` says it: 0 is the best control that sees no model",
    )
    yield RulerLine(
        "the null",
        "calibrated score of a method's own maps of other pictures, of its score",
        "gradcam 0.13 of 0.24, vebi 0.10 of 0.32, lrp 0.02 of 0.15 (`iou`)",
        ", ".join(pictures),
        None,
        "a fact of methods and data; `of_this_picture` is what is left",
    )


def sanity_over_seeds(setting: RulerSetting) -> Iterator[RulerLine]:
    """The verdict on one method for five seeds of the check."""
    outcomes, values = [], []
    for seed in range(5):
        with tempfile.TemporaryDirectory() as place:
            plan = sanity_plan(rows=60, steps=2, draws=10)
            model = ModelSanity(setting.classifier(), setting.store["test"], plan, CPU, folder=Path(place), seed=seed)
            verdicts = sanity(model, [parse_method("gradient")])["results"][0]["verdicts"]
        outcomes.append({name: verdict["outcome"] for name, verdict in verdicts.items()})
        values += [s["calibrated"] for v in verdicts.values() for s in v["similarities"].values()]
    names = list(outcomes[0])
    yield RulerLine(
        "sanity",
        f"`gradient` on flowernet for five seeds of the check ({', '.join(names)}); the lowest value of the scale",
        "pass, undecided, fail for seeds 0, 1, 2 (last layer); -2.40",
        "; ".join(f"{name}: {', '.join(outcome[name] for outcome in outcomes)}" for name in names)
        + f"; {min(value for value in values if value is not None):.2f}",
        all({"pass", "fail"} - {outcome[name] for outcome in outcomes} for name in names),
        "ten draws, the draw as the unit; a verdict may be undecided, and never goes from pass to fail",
    )


LINES: tuple[Callable[[RulerSetting], Iterator[RulerLine]], ...] = (
    *(flat_maps, agreement_of_metrics, one_table, seeds, coverage, rim, certificates, null, sanity_over_seeds),
)


def _flat_and_right(table: Setting) -> dict[str, torch.Tensor]:
    return {
        "noise": table.controls["noise"],
        "truth": table.references["truth"],
        "effect map": effects_of(table.case).maps.nan_to_num(0),
        "corner": table.controls["constant but a corner"],
    }


def _leading_score(table: Setting, maps: torch.Tensor) -> float:
    metric = parse_metric(LEADING)
    return mean_of(metric, metric.score(maps, table.case))


def _against(metric: dict[str, Any]) -> int:
    """The pairs of a board whose means are in another order than the mean of their differences."""
    means = {name: entry["mean"] for name, entry in metric["results"].items()}
    apart = {(pair["a"], pair["b"]): pair["difference"] for pair in metric["pairs"]}
    ordered = [(a, b) for a, b in combinations(means, 2)]
    known = [(a, b, apart.get((a, b), -apart[b, a] if (b, a) in apart else None)) for a, b in ordered]
    return sum(d is not None and d * (means[a] - means[b]) < -1e-12 for a, b, d in known)


def _cover(metric: Any, maps: torch.Tensor, table: Setting) -> float:
    """How often the interval of drawn rows holds the calibrated score of all rows."""
    truth = table.case.truth
    scores, floor, best = (
        values.double().numpy()
        for values in (
            metric.score(maps, table.case),
            metric.chance(truth.counted if metric.leaves_void_out else truth.masks),
            metric.score((truth.masks > 0).float(), table.case),
        )
    )
    whole = (scores.mean() - floor.mean()) / (best.mean() - floor.mean())
    random = np.random.default_rng(0)
    inside = 0
    for repeat in range(RESAMPLES):
        rows = random.choice(len(scores), DRAWN)
        (interval,) = calibrated_intervals(
            scores[None, rows, None], floor[rows, None], best[rows, None], seed=repeat, level=0.95
        )
        inside += interval.low <= whole <= interval.high
    return inside / RESAMPLES


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
