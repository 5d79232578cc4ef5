"""Variants beside their plain architectures: which models are paired, and what their scores come to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.statistics.scores import ScoreArrays
from an8flower.evaluate.results.summary import MetricKind
from an8flower.evaluate.results.variants import ModelFacts, PairedScores, describe_facts, pair_variants

PLAIN = ("net-seed0-a", "net-seed1-b", "net-seed2-c")
STREAM = ("net+ca-seed2-d", "net+ca-seed0-e", "net+ca-seed1-f")
METHODS = {"gradcam": "GradCAM()", "layercam": "LayerCAM()", "edges": "Edges()", "ca_attention": "Attention()"}
ROWS = 9
KIND = MetricKind(None, "localisation", True, (0, 1))


def make_scores(values: dict[tuple[str, str], np.ndarray]) -> ScoreArrays:
    """Scores by method and model, (rows,) each."""
    entries: list[dict[str, Any]] = []
    for (method, model), rows in values.items():
        about = {"metric": "iou", "explainer": METHODS[method], "model": model, "seconds": 0.0, "forwards": 1.0}
        entries += [{**about, "row": row, "value": value} for row, value in enumerate(rows.tolist())]
    return ScoreArrays(pa.Table.from_pylist(entries, SCHEMA), {"iou": None})


def draw() -> dict[tuple[str, str], np.ndarray]:
    random = np.random.default_rng(3)
    values = {(m, model): random.random(ROWS) for m in METHODS for model in (*PLAIN, *STREAM)}
    for model in PLAIN:
        del values["ca_attention", model]
    return values


def pair(values: dict[tuple[str, str], np.ndarray]) -> PairedScores:
    (models,) = pair_variants([*PLAIN, *STREAM])
    return PairedScores(make_scores(values), models, METHODS, frozenset(["edges"]), seed=0)


def test_models_are_paired_by_their_seeds() -> None:
    (models,) = pair_variants([*PLAIN, *STREAM, "net+ca-seed7-g", "own-None-h", "other+ca-seed0-i"])
    assert (models.variant, models.without, models.seeds) == ("net+ca", "net", (0, 1, 2))
    assert models.plain_models == PLAIN
    assert models.variant_models == (STREAM[1], STREAM[2], STREAM[0])


def test_a_seed_with_two_models_of_one_kind_is_left_out() -> None:
    (models,) = pair_variants([*PLAIN, *STREAM, "net+ca-seed1-g"])
    assert models.seeds == (0, 2)


def test_differences_are_those_of_a_slow_loop() -> None:
    values = draw()
    document = pair(values).describe("iou", KIND)
    assert document is not None
    assert [entry["text"] for entry in document["methods"]] == ["gradcam", "layercam", "edges"]
    by_seed = list(zip(PLAIN, (STREAM[1], STREAM[2], STREAM[0]), strict=True))

    def slow(method: str) -> float:
        gaps = [values[method, w][row] - values[method, p][row] for row in range(ROWS) for p, w in by_seed]
        return float(np.mean(gaps))

    assert [entry["difference"] for entry in document["methods"]] == pytest.approx(
        [slow("gradcam"), slow("layercam"), slow("edges")]
    )
    pooled = (slow("gradcam") + slow("layercam")) / 2
    assert document["all"]["difference"] == pytest.approx(pooled)
    assert document["controls"]["difference"] == pytest.approx(slow("edges"))
    assert document["beyond"]["difference"] == pytest.approx(pooled - slow("edges"))
    for entry in (*document["methods"], document["all"]):
        assert entry["with"] - entry["without"] == pytest.approx(entry["difference"])


def test_what_controls_gain_as_well_is_no_gain_of_the_methods() -> None:
    values = draw()
    for method in METHODS:
        for plain, stream in zip(sorted(PLAIN), sorted(STREAM, key=lambda name: name.split("-")[1]), strict=True):
            if (method, plain) in values:
                values[method, stream] = values[method, plain] + 0.25
    document = pair(values).describe("iou", KIND)
    assert document is not None
    assert document["all"]["these"]["apart"]
    assert document["beyond"]["difference"] == pytest.approx(0, abs=1e-6)
    assert not document["beyond"]["these"]["apart"]


def test_a_metric_without_a_method_on_both_sides_has_no_document() -> None:
    values = {key: rows for key, rows in draw().items() if key[0] == "ca_attention"}
    nothing = {("edges", model): np.full(ROWS, np.nan) for model in PLAIN}
    assert pair(values | nothing).describe("iou", KIND) is None


def test_facts_are_paired_over_seeds() -> None:
    (models,) = pair_variants([*PLAIN, *STREAM])
    sure, unsure = ({"mean": mean, "low": mean, "high": mean} for mean in (1.0, 0.0))
    facts = {name: ModelFacts(0.9, {"flip_rate": unsure, "stability": sure}) for name in PLAIN}
    facts |= {name: ModelFacts(0.9 + 0.01 * i, {"flip_rate": sure, "stability": sure}) for i, name in enumerate(STREAM)}
    document = describe_facts(models, facts)
    assert document["accuracy"]["difference"] == pytest.approx(0.01)
    certificates = document["certificates"]
    assert (certificates["relying_with"], certificates["relying_without"]) == (3, 0)
    assert certificates["shares"]["flip_rate"]["difference"] == 1
    assert set(certificates["shares"]) == {"flip_rate", "stability"}
    assert describe_facts(models, {**facts, PLAIN[0]: ModelFacts(None, None)})["certificates"] is None
