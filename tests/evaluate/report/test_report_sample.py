"""A small but complete folder of an audit, made up: what the tests of the page write the page from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIZE, ROWS = 24, 4
METHODS = ("random", "center", "gradcam", "gradcam_pp", "layercam")
CONTROLS = ("random", "center", "edges")
HOSTILE = (
    '<img src=x onerror="alert(1)">',
    "=HYPERLINK(\"http://evil\",'x')",
    "</script><script>alert(2)</script>",
    "quo\"te's & line\nbreak $\\frac{",
    "Blüte \u202e\u2028 花 \x00\ud800 {{ 7*7 }}",
)
METRICS = {"iou": "localisation", "le": "localisation", "average_drop": "faithfulness", "flat": "faithfulness"}
REFERENCES = {"iou": (0.1, 1.0), "le": (0.8, 0.0), "average_drop": (90.0, 20.0), "flat": (0.5, 0.5)}
QUALITY = (0.0, 0.2, 0.6, 0.62, 0.4)  # calibrated, by method


def interval(mean: float | None, half: float = 0.02, n: int = 60) -> dict[str, Any]:
    """A share with its interval."""
    if mean is None:
        return {"mean": None, "low": None, "high": None, "n": 0, "undefined": n}
    return {"mean": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 1.0), "n": n, "undefined": 0}


def numbers(metric: str, quality: float) -> dict[str, Any]:
    """A metric of a method as `score --json` tells it."""
    chance, oracle = REFERENCES[metric]
    mean = chance + quality * (oracle - chance)
    half = 0.03 * abs(oracle - chance)
    known = oracle != chance
    relying = {"share": 0.9, "mean": mean, "low": mean - half, "high": mean + half, "n": 54, "calibrated": quality}
    return {
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "chance": chance,
        "oracle": oracle,
        "calibrated": quality if known else None,
        "n": 60,
        "undefined": 3 if metric == "average_drop" else 0,
        **({"relying": relying} if METRICS[metric] == "localisation" else {}),
    }


def scores(methods: Sequence[str]) -> dict[str, Any]:
    """A document of `score --json`: the third and the fourth method cannot be told apart."""
    results = [
        {
            "method": name,
            "text": name,
            "parameters": {},
            "family": "baselines" if name in CONTROLS else "cam",
            "metrics": {metric: numbers(metric, quality) for metric in METRICS},
            "cost": {"seconds": 0.001 * 3**i, "forwards": float(i), "backwards": float(i > 1)},
        }
        for i, (name, quality) in enumerate(zip(methods, QUALITY, strict=True))
    ]
    nothing = dict.fromkeys(("mean", "low", "high", "calibrated"))
    results[-1]["metrics"]["average_drop"] |= {**nothing, "undefined": 60}
    order = sorted(range(len(methods)), key=lambda i: -QUALITY[i])
    pairs = [
        {"a": methods[a], "b": methods[b], "apart": {a, b} != {2, 3}, "difference": QUALITY[a] - QUALITY[b]}
        for place, a in enumerate(order)
        for b in order[place + 1 :]
    ]
    groups = [[methods[3], methods[2]], [methods[4]], [methods[1]], [methods[0]]]
    standings = {
        methods[i]: {"rank": place + 1.0, "low": 1.0, "high": 5.0, "first": 0.2} for place, i in enumerate(order)
    }
    return {
        "dataset": {"name": "flowers", "digest": "d" * 64, "split": "test", "rows": 60},
        "target": "label",
        "models": [
            {"arch": "flowernet", "seed": 0, "digest": "1a2b3c4d", "accuracy": 0.987, "reliance": {"share": 0.95}},
            {"arch": "flowervit", "seed": 0, "digest": "5e6f7a8b", "accuracy": 0.9},
        ],
        "results": results,
        "families": METRICS,
        "comparisons": {metric: {"groups": groups, "pairs": pairs} for metric in METRICS},
        "ranks": {m: {"methods": standings, "agreement": 0.9, "tau_seeds": None} for m in METRICS},
        "variance": {},
        "power": {},
        "skipped": [{"method": "rollout", "model": "flowernet-seed0-1a2b3c4d", "reason": "needs attention"}],
        "failed": [],
        "versions": {},
        "left_out": [{"metric": "absence_mass", "reason": "no row has evidence by absence"}],
        "warnings": [],
        "cards": [
            {
                "name": metric,
                "definition": "what it is",
                "higher_is_better": REFERENCES[metric][1] >= REFERENCES[metric][0],
                "bounds": [0.0, 1.0],
                "parameters": {"baseline": "black"},
                "needs": [],
                "source": "someone, somewhere",
            }
            for metric in METRICS
        ],
    }


def certificate(
    model: str, flip: float | None = 0.97, stability: float = 0.98, alone: float = 0.97, rest: float = 0.02
) -> dict[str, Any]:
    """A document of `certify --json`."""
    return early_certificate(model, flip, stability) | {
        "evidence_alone": interval(alone),
        "rim_alone": interval(0.03),
        "rest_alone": interval(rest),
        "use": {name: interval(0.6) for name in ("area", "inside", "error", "pieces", "piece_share")},
        "sufficient_sets": [{"parts": ["petals"], "flip_rate": interval(0.9)}],
        "best_set": ["petals"],
    }


def derivation(model: str, mean: float | None) -> dict[str, Any]:
    """How far two derivations of what a model uses agree, as an audit files it."""
    known = mean is not None
    numbers = {"mean": mean, "low": 0.78 if known else None, "high": 0.91 if known else None}
    undefined = {} if known else {"the model gives no gradient": 8}
    counts = {"rows": 8, "orders": 2, "n": 8 if known else 0}
    passes = {"forwards": 316.0 if known else 0.0, "backwards": 25.0 if known else 0.0}
    return {"model": model, **numbers, "lowest": 0.53 if known else None, "undefined": undefined, **counts, **passes}


def early_certificate(model: str, flip: float | None = 0.97, stability: float = 0.98) -> dict[str, Any]:
    """A document of `certify --json` as it was before it knew what either half of the change does."""
    effect = {name: interval(0.4) for name in ("logit", "probability", "changed")}
    nothing = {name: interval(None) for name in ("logit", "probability", "changed")}
    return {
        "model": model,
        "evidence": ["petals"],
        "verdict": f"{model} relies on the designed evidence, the petals.",
        "accuracy": interval(0.987),
        "flip_rate": interval(flip),
        "stability": interval(stability),
        "stability_by_group": {"petals": interval(0.99), "view": interval(0.95)},
        "effects": [
            {"part": "petals", "change": "swapped", **effect, "in_the_data": 1.0, "reason": None},
            {"part": "disc", "change": "redrawn", **nothing, "in_the_data": None, "reason": "disc: nothing left"},
        ],
        "shortcut": {
            "factor": "tag.colour",
            **{f"by_{who}": interval(share) for who, share in (("shortcut", 0.1), ("evidence", 0.8), ("neither", 0.1))},
        },
    }


def judged(outcome: str, value: float) -> dict[str, Any]:
    """What a sanity test says."""
    alike = {"mean": value, "unrelated": 0.1, "calibrated": value, "low": value, "high": value}
    similar = {name: {**alike, "n": 12, "undefined": 0, "vanished": 0} for name in ("spearman_abs", "ssim")}
    tested = {"p": 0.001, "adjusted": 0.002, "tests": 2, "draws": 6}
    reason = "too few rows" if outcome == "undecided" else ""
    return {"outcome": outcome, "reason": reason, **tested, "similarities": similar}


def walked(start: float) -> list[dict[str, Any]]:
    """A cascade of three layers."""
    layers = ("classifier", "features.6", "features.0")
    names = ("spearman_abs", "spearman", "ssim", "hog")
    return [{"layer": layer, **{name: interval(start / (i + 1)) for name in names}} for i, layer in enumerate(layers)]


def sanity(methods: Sequence[str]) -> dict[str, Any]:
    """A document of `sanity --json`: the fifth method fails, the third passes."""
    outcomes = {methods[2]: "pass", methods[4]: "fail", methods[1]: "fail"}
    return {
        "dataset": {"name": "flowers", "digest": "d" * 64, "split": "test", "rows": 12},
        "model": {"arch": "flowernet", "seed": 0, "digest": "1a2b3c4d", "accuracy": 0.987},
        "plan": {"draws": 6},
        "coverage": {"share": 1.0},
        "labels": {"reason": "not asked for"},
        "results": [
            {
                "method": name,
                "parameters": {"layer": None},
                "scores": {},
                "verdicts": {"logits": judged("undecided", 0.5), "model": judged(outcome, 0.9)},
                "curves": {"cascading": walked(0.9 if outcome == "fail" else 0.3)},
                "pictures": f"pictures/sanity{i}.npz",
            }
            for i, (name, outcome) in enumerate(outcomes.items())
        ],
        "skipped": [],
    }


def curves(methods: Sequence[str]) -> dict[str, Any]:
    """Three kinds of curves, one with a gap."""
    x = [i / 20 for i in range(21)]
    lines: dict[str, Any] = {}
    for name, quality in zip(methods, QUALITY, strict=True):
        mean: list[float | None] = [quality * (1 - abs(2 * each - 1)) for each in x]
        lines[name] = {"mean": mean, "low": [(m or 0) - 0.02 for m in mean], "high": [(m or 0) + 0.02 for m in mean]}
    lines[methods[0]]["mean"][3] = None
    titles = {"iou": "IoU against threshold", "insertion": "Insertion", "deletion": "Deletion"}
    return {
        name: {"title": title, "x_title": "threshold", "y_title": "value", "x": x, "methods": lines}
        for name, title in titles.items()
    }


def slices(methods: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """IoU by class and by the size of the part."""
    kinds = {"class": list(classes), "part size": ["0.02 to 0.05", "0.05 to 0.2"]}
    return {
        "iou": [
            {
                "slice": kind,
                "value": value,
                "rows": 20,
                "methods": {
                    name: {"mean": q / (i + 1), "low": 0.0, "high": 1.0, "calibrated": q / (i + 1)}
                    for name, q in zip(methods, QUALITY, strict=True)
                },
            }
            for kind, values in kinds.items()
            for i, value in enumerate(values)
        ]
    }


def truth() -> np.ndarray:
    """A mask with evidence by presence, and a little by absence."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[6:16, 8:18] = 1
    mask[16:18, 8:12] = 2
    return mask


def maps_of(method: int, rows: Sequence[int]) -> np.ndarray:
    """The maps of a method: noise on a hill over the evidence, or a constant for the second row of the last method."""
    source = np.random.default_rng(method)
    y, x = np.mgrid[:SIZE, :SIZE]
    hill = np.exp(-((y - 11) ** 2 + (x - 13) ** 2) / 60)
    found = np.stack([hill * QUALITY[method] + 0.3 * source.random((SIZE, SIZE)) for _ in rows])
    if method == len(QUALITY) - 1:
        found[1] = 0.5
    return found.astype(np.float16)


def write_pictures(place: Path, method: int) -> None:
    """Pictures of a method: four rows of the gallery, its best and its worst."""
    rows = [*range(ROWS), 7, 8 + method]
    source = np.random.default_rng(99)
    images = source.integers(0, 255, (len(rows), SIZE, SIZE, 3), np.uint8)
    masks = np.repeat(truth()[None], len(rows), 0)
    masks[2] = 0
    np.savez_compressed(
        place,
        rows=np.array(rows),
        roles=np.array(["gallery"] * ROWS + ["best", "worst"]),
        labels=np.array([row % 3 for row in rows]),
        predicted=np.array([0] * len(rows)),
        images=images,
        masks=masks,
        maps=maps_of(method, rows),
        iou=np.array([0.5, 0.4, np.nan, 0.3, 0.9, 0.1], np.float32),
    )


def write_walk(place: Path) -> None:
    """Maps down the cascade."""
    source = np.random.default_rng(3)
    np.savez_compressed(
        place,
        row=np.int64(2),
        image=source.integers(0, 255, (SIZE, SIZE, 3), np.uint8),
        mask=truth(),
        steps=np.array(["trained", "classifier", "features.6", "features.0"]),
        maps=source.random((4, SIZE, SIZE)).astype(np.float16),
        similarity=np.array([1.0, 0.6, 0.4, np.nan], np.float32),
    )


def write_filters(place: Path) -> None:
    """Filters of two classes, and the accuracy without them."""
    source = np.random.default_rng(4)
    np.savez_compressed(
        place,
        classes=np.array([0, 0, 1]),
        layers=np.array(["features.6", "features.9", "features.9"]),
        channels=np.array([3, 1, 4]),
        weights=np.array([0.5, -0.7, 0.2], np.float32),
        averages=source.integers(0, 255, (3, 12, 12, 3), np.uint8),
        sizes=np.array([[12, 12], [8, 8], [8, 8]]),
        counts=np.array([0, 4, 8]),
        relevant=np.array([0.98, 0.6, 0.3]),
        random=np.array([[0.98, 0.95, 0.9], [0.98, 0.97, 0.8]]),
    )


def study(name: str, methods: Sequence[str], classes: Sequence[str], prefix: str) -> dict[str, Any]:
    """A data set with everything."""
    models = ("flowernet-seed0-1a2b3c4d", "flowernet-seed1-9c9c9c9c", "flowervit-seed0-5e6f7a8b")
    return {
        "dataset": {
            "name": name,
            "title": "Six classes",
            "path": f"data/{name}.h5",
            "digest": "d" * 64,
            "split": "test",
            "rows": 60,
            "size": SIZE,
            "class_names": list(classes),
            "has_spec": True,
        },
        "scores": scores(methods),
        "certificates": [certificate(model) for model in models],
        "sanity": [sanity(methods)],
        "derivations": [derivation(models[0], 0.86), derivation(models[-1], None)],
        "curves": curves(methods),
        "slices": slices(methods, classes),
        "pictures": [
            {"model": model, "method": method, "file": f"pictures/{prefix}{i}.npz"}
            for model in models
            for i, method in enumerate(methods)
        ],
        "filters": [{"model": models[0], "file": "filters/one.npz"}],
        "reasons": {"average_drop": {"the probability is 0": 15}},
    }


def against(methods: Sequence[str], name: str) -> dict[str, Any]:
    """What has changed since an earlier audit: a cell of each outcome."""
    outcomes = ("worse", "gone", "better", "new", "cannot be told", "equal")
    numbers = {"before": 0.5, "now": 0.4, "difference": -0.1, "low": -0.15, "high": -0.05, "p": 0.001, "p_holm": 0.01}
    cell = {"dataset": name, "architecture": "flowernet", "metric": "iou", "n": 60, "by": "rows", "reason": ""}
    changes = [
        {**cell, "seed": place, "method": methods[place % len(methods)], "outcome": outcome}
        | (numbers if outcome not in ("new", "gone") else dict.fromkeys(numbers))
        for place, outcome in enumerate(outcomes)
    ]
    about = {"run": f"runs/{name}", "name": name, "command": "", "versions": {"an8flower": "0.0.9"}, "digest": "d"}
    counts = dict.fromkeys(outcomes, 1)
    return {**about, "notes": [f"A note about {name}."], "counts": counts, "changes": changes}


def summary(
    methods: Sequence[str] = METHODS, classes: Sequence[str] = ("red", "blue", "white"), name: str = "flowers"
) -> dict[str, Any]:
    """The summary of a made-up audit of two data sets."""
    return {
        "name": "quick",
        "title": f"A quick audit of {name}",
        "plan": {"name": "quick", "rows": 60, "methods": list(methods)},
        "versions": {"an8flower": "0.1.0", "numpy": "2"},
        "machine": {"system": "Linux", "processor": "x86", "cores": 2, "memory_gib": 8, "gpu": None},
        "command": f"an8flower audit '{name}.toml'",
        "seconds": 123.4,
        "studies": [study(name, methods, classes, "a"), study("imported", methods, classes, "b")],
        "printed": [
            {
                "table": "IoU",
                "source": "someone, 2019",
                "metrics": ["iou"],
                "rows": [{"method": methods[2], "printed": {"iou": 0.4}, "ours": {"iou": 0.6}}],
                "correlation": {"iou": {"tau": 0.5, "low": 0.1, "high": 0.8, "n": 5}},
                "trends": [{"statement": "one beats another", "holds": "cannot be told", "why": "they are tied"}],
                "note": "the data differ",
            }
        ],
        "against": against(methods, name),
        "failed": [{"cell": "c1", "method": methods[4], "model": "flowervit", "dataset": name, "reason": "raised <x>"}],
    }


Change = Callable[[dict[str, Any]], None]


def write_folder(folder: Path, document: dict[str, Any] | None = None, change: Change | None = None) -> Path:
    """The folder of an audit, complete; `change` is made to its summary."""
    document = document or summary()
    if change:
        change(document)
    for name in ("pictures", "filters"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(len(METHODS)):
        for prefix in "ab":
            write_pictures(folder / f"pictures/{prefix}{i}.npz", i)
        write_walk(folder / f"pictures/sanity{i}.npz")
    write_filters(folder / "filters/one.npz")
    (folder / "summary.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def test_the_sample_is_json(tmp_path: Path) -> None:
    read = json.loads((write_folder(tmp_path) / "summary.json").read_text(encoding="utf-8"))
    assert [each["dataset"]["name"] for each in read["studies"]] == ["flowers", "imported"]


def with_boards(document: dict[str, Any]) -> dict[str, Any]:
    """The document of `score --json` with two boards: the first method of the cams ran on one architecture alone."""
    names = [result["text"] for result in document["results"]]
    anew = {
        "scope": "trained anew",
        "sentence": "For models trained anew, 1 of 3 pairs of methods can be told apart (flowernet has three).",
        "pairs": [
            {"a": names[3], "b": names[1], "difference": 0.4, "low": 0.1, "high": 0.7, "p_holm": 0.02, "apart": True}
        ],
    }

    def board(seeds: dict[str, int], methods: Sequence[str], sets: int, missing: dict[str, int]) -> dict[str, Any]:
        of_metric = {
            metric: {
                "scope": "these models",
                "results": {
                    result["text"]: result["metrics"][metric]
                    | {"calibrated_low": 0.51, "calibrated_high": 0.69, "gaps": {"flowernet-seed0-d": 7}}
                    for result in document["results"]
                    if result["text"] in methods
                },
                "groups": [[name] for name in methods] * sets,
                "pairs": [],
                "ranks": document["ranks"][metric],
                "better_than": {name: {"control": True, "next": False} for name in methods},
                "trained_anew": anew,
            }
            for metric in METRICS
        }
        listed = [{"text": name, "equal": ["hirescam"] if name == "gradcam" else []} for name in methods]
        return {"architectures": seeds, "methods": listed, "missing": missing, "metrics": of_metric}

    boards = [board({"flowernet": 3}, names, 2, {}), board({"flowernet": 3, "vit": 3}, names[:2], 1, {names[2]: 3})]
    return document | {"boards": boards}


def with_verdicts(document: dict[str, Any]) -> dict[str, Any]:
    """The summary with boards and skill: the best two of the first architecture cannot be told apart, nor trusted."""
    for study in document["studies"]:
        scores = with_boards(study["scores"]) | {"leading": ["iou", "average_drop"]}
        for board in scores["boards"]:
            board["models"] = ["flowernet-seed0-1a2b3c4d"]
            for metric, numbers in board["metrics"].items():
                numbers["pairs"] = scores["comparisons"][metric]["pairs"]
                for text, result in numbers["results"].items():
                    skill = (result["calibrated"] or 0) - 0.2
                    ends = {"skill": skill, "skill_low": skill - 0.1, "skill_high": skill + 0.1}
                    numbers["results"][text] = {**result, **ends, "skill_control": list(numbers["results"])[1]}
        study["scores"] = scores
    return document
