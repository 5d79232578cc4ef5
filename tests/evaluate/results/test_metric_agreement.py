"""Which metric may be believed: made-up scores whose agreement is known, and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from an8flower.evaluate.results.certified import NO_CERTIFICATE, CertifiedModels, choose_certified
from an8flower.evaluate.results.folder import SCHEMA
from an8flower.evaluate.results.metric_agreement import describe_agreement
from an8flower.evaluate.results.metric_tests import ADVERSARIES, DEGRADED, MAPS, describe_tests
from an8flower.evaluate.results.metric_values import MetricKind
from an8flower.evaluate.results.metric_words import (
    about_words,
    agreement_rows,
    agreement_sentences,
    anew_sentence,
    known_map_rows,
    misled_sentence,
    truth_sentence,
    wide_rows,
)
from an8flower.evaluate.results.statistics.scores import ScoreArrays
from an8flower.evaluate.results.summary_schema import summary_schema

jsonschema = pytest.importorskip("jsonschema")

ROWS, METHODS = 30, ["A()", "B()", "C()", "D()", "E()"]
KINDS = {
    "iou_area": MetricKind(family="localisation"),
    "deletion": MetricKind(family="faithfulness", higher_is_better=False),
    "sparseness": MetricKind(family="faithfulness"),
    "insertion": MetricKind(family="faithfulness"),
}
MODELS = [f"net-seed{seed}-0000000{seed}" for seed in range(3)]


def made_up_scores(models: list[str] = MODELS) -> ScoreArrays:
    """Scores of five methods, each better than the one before; deletion agrees, sparseness is the reverse."""
    random = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {field.name: [] for field in SCHEMA}
    for model in models:
        for number, method in enumerate(METHODS):
            for metric in KINDS:
                sign = {"deletion": -1, "sparseness": -1, "insertion": 0}.get(metric, 1)
                for row in range(ROWS):
                    value = 0.5 + 0.1 * sign * number + 0.05 * random.normal()
                    entry = {"row": row, "model": model, "explainer": method, "metric": metric, "value": value}
                    for name, cells in columns.items():
                        cells.append(entry.get(name))
    return ScoreArrays(pa.table(columns, SCHEMA), {})


def describe(certified: list[CertifiedModels], **changes: Any) -> list[dict[str, Any]]:
    words: dict[str, Any] = {
        "named": {name: name[0].lower() for name in METHODS},
        "controls": {"A()"},
        "leading": ["iou_area"],
        "seed": 0,
    }
    return describe_agreement(made_up_scores(), KINDS, certified, **(words | changes))


@pytest.fixture(scope="module")
def agreement() -> dict[str, Any]:
    (entry,) = describe([CertifiedModels("net", tuple(MODELS), ())])
    return entry


def is_valid(kind: str, document: Any) -> bool:
    schema = summary_schema()
    return bool(jsonschema.Draft202012Validator({**schema["$defs"][kind], "$defs": schema["$defs"]}).is_valid(document))


def test_direction_counts_and_the_reverse_is_seen(agreement: dict[str, Any]) -> None:
    """Lower deletion is better, so it agrees; higher sparseness is said to be better, so it orders the other way."""
    pairs = {pair["metric"]: pair for pair in agreement["pairs"]}
    assert list(pairs) == ["deletion", "sparseness", "insertion"]
    assert pairs["deletion"]["tau"] == pytest.approx({"mean": 1, "low": 1, "high": 1, "n": ROWS, "undefined": 0})
    assert pairs["sparseness"]["tau"]["mean"] == pytest.approx(-1)
    assert pairs["insertion"]["tau"]["low"] < 0 <= pairs["insertion"]["tau"]["high"]
    assert pairs["deletion"]["methods"] == 5
    assert pairs["deletion"]["tau_without_controls"]["mean"] == pytest.approx(1)
    assert pairs["deletion"]["trained_anew"] == pytest.approx({"mean": 1, "low": 1, "high": 1, "n": 3, "undefined": 0})
    assert is_valid("metric_agreement", agreement)


def test_what_is_said_follows_from_the_intervals(agreement: dict[str, Any]) -> None:
    agrees, undecided, disagrees = agreement_sentences(agreement)
    assert agrees.startswith("Ordering methods as every truth does")
    assert agrees.endswith(": deletion.")
    assert undecided.endswith("(the interval reaches 0): insertion.")
    assert disagrees.endswith("(the interval lies below 0): sparseness.")
    assert truth_sentence(agreement) == "Truths: iou_area (does the map find the designed evidence?)."
    assert anew_sentence(agreement).endswith("the interval of tau lies above 0 by every truth for: deletion.")
    assert agreement_rows(agreement, "iou_area")[0][:2] == ["deletion", "1.00 (1.00 to 1.00)"]
    assert wide_rows(agreement)[1] == ["sparseness", "-1.00 (-1.00 to -1.00)"]
    assert about_words(agreement) == f"These models ({', '.join(MODELS)}), 5 methods, 30 rows."


def test_models_without_a_certificate_do_not_count() -> None:
    sure, never = {"mean": 1.0, "low": 0.95, "high": 1.0}, {"mean": 0.0, "low": 0.0, "high": 0.1}
    certificates = [
        {"model": MODELS[0], "flip_rate": sure, "stability": sure},
        {"model": MODELS[1], "flip_rate": never, "stability": sure},
    ]
    (group,) = choose_certified([("net", name) for name in MODELS], certificates)
    assert group.models == (MODELS[0],)
    assert dict(group.left_out)[MODELS[2]] == NO_CERTIFICATE
    (entry,) = describe([group])
    assert entry["models"] == [MODELS[0]]
    assert entry["pairs"][0]["trained_anew"] is None
    assert anew_sentence(entry).endswith("that takes 3 certified models, and there is 1.")
    assert f"{MODELS[1]} is left out: its certificate says that it does not rely on the evidence." in about_words(entry)
    (nobody,) = describe([CertifiedModels("net", (), group.left_out)])
    assert nobody["pairs"] == []
    assert list(agreement_sentences(nobody)) == [
        "net: no model of this architecture is certified to rely on the evidence."
    ]
    assert is_valid("metric_agreement", nobody)


def test_without_a_truth_or_a_proxy_nothing_is_said() -> None:
    group = [CertifiedModels("net", tuple(MODELS), ())]
    assert describe(group, leading=["deletion"]) == []


def test_two_methods_have_no_order() -> None:
    (entry,) = describe([CertifiedModels("net", tuple(MODELS), ())], named={"A()": "a", "B()": "b"})
    assert entry["pairs"][0]["tau"]["mean"] is None
    assert entry["pairs"][0]["reason"].startswith("fewer than 3 methods")
    assert is_valid("metric_agreement", entry)


def known_scores(rows: int = 20) -> dict[str, dict[str, np.ndarray]]:
    """A metric that falls by a tenth at each step, and takes the blurred truth for the truth."""
    means = {name: 1 - step / 10 for step, name in enumerate(DEGRADED)} | dict.fromkeys(ADVERSARIES, 0.2)
    means |= {"truth": 1.0, "blurred": 1.0, "eroded": 1.5}
    return {name: {"m": np.full(rows, means[name]), "none": np.full(rows, np.nan)} for name in MAPS}


def test_known_maps_are_judged() -> None:
    group = CertifiedModels("net", ("a",), ())
    (entry,) = describe_tests({"a": known_scores()}, [group], {"m": True, "none": True}, 0)
    assert known_map_rows(entry) == [
        ["m", "1.00 (1.00 to 1.00)", "100% noise", "blurred", "eroded"],
        ["none", "-", "-", "none", "none"],
    ]
    assert misled_sentence(entry) == ""  # blurred and eroded maps show no other pixels than the evidence
    (other,) = describe_tests({"a": known_scores()}, [CertifiedModels("net", ("a",), ())], {"m": False}, 0)
    assert misled_sentence(other).endswith(": m (shifted, inverted, edges, other_class).")
    assert entry["metrics"]["m"]["adversaries"]["shifted"]["mean"] == pytest.approx(0.8)
    assert entry["metrics"]["none"]["adversaries"]["shifted"]["outcome"] is None
    assert is_valid("metric_tests", entry)


def test_a_model_that_lacks_a_map_is_not_described() -> None:
    scores = known_scores()
    del scores["edges"]
    (entry,) = describe_tests({"a": scores}, [CertifiedModels("net", ("a",), ())], {"m": True}, 0)
    assert (entry["metrics"], entry["reason"]) == ({}, "it failed for every model")
    assert is_valid("metric_tests", entry)
