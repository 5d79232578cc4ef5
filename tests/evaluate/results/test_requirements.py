"""Requirements: the grammar both ways, decisions against a second way to decide, and the rows that would decide."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from an8flower.errors import WrongUsage
from an8flower.evaluate.results.decisions import combine, compare_with_bound, decide
from an8flower.evaluate.results.requirements import (
    COSTS,
    DECIDED_BY,
    SCALES,
    SHARES,
    Requirement,
    parse_requirement,
    refuse_unknown_names,
)
from an8flower.evaluate.results.statistics.intervals import intervals
from an8flower.evaluate.results.statistics.power import rows_needed, rows_to_decide, rows_without_exception
from an8flower.evaluate.results.wording import reliance

METHODS = ("gradcam", "smoothgrad:samples=20,sigma=0.1", "captum:Occlusion(sliding_window_shapes=(3,8,8))", "a.b:C")
METRICS = ("average_precision", "deletion:baseline=mean,steps=28", "mine:metric")
numbers = st.floats(allow_nan=False, allow_infinity=False)
relations = st.sampled_from((">=", "<=", ">", "<"))
places = st.none() | st.sampled_from(("flowernet", "mine.nets:net"))
methods = st.sampled_from(METHODS)
requirements = st.one_of(
    st.builds(Requirement, methods, st.sampled_from(METRICS), st.sampled_from(SCALES), relations, numbers, places),
    st.builds(Requirement, methods, st.sampled_from(COSTS), st.just("mean"), relations, numbers),
    st.builds(Requirement, methods, st.just("sane"), architecture=places),
    st.builds(Requirement, st.just("certificate"), st.just("relies"), architecture=places),
    st.builds(Requirement, methods | st.just("baseline"), st.just("no worse"), architecture=places),
    st.builds(
        Requirement, st.just("certificate"), st.sampled_from(SHARES + DECIDED_BY), st.just("mean"), relations, numbers
    ),
)


@settings(max_examples=50)
@given(requirements)
def test_a_requirement_is_read_from_its_own_text(requirement: Requirement) -> None:
    assert parse_requirement(requirement.text) == requirement


@settings(max_examples=20)
@given(requirements, st.sampled_from((" ", "  ", "\t")))
def test_blanks_between_the_words_do_not_matter(requirement: Requirement, blank: str) -> None:
    text = requirement.text.replace(" ", blank)
    assert parse_requirement(f"{blank}{text}{blank}") == requirement


@settings(max_examples=30)
@given(st.text(max_size=40) | st.text("ab:><= .0159e-\n", max_size=30))
def test_any_other_text_is_refused_in_a_sentence_or_says_the_same_again(text: str) -> None:
    with suppress(WrongUsage):
        requirement = parse_requirement(text)
        assert parse_requirement(requirement.text) == requirement


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no requirement"),
        ("gradcam", "is no requirement"),
        ("gradcam: iou", "is no requirement"),
        ("gradcam: iou == 0.5", "is no requirement"),
        ("gradcam: iou >= nan", "is no requirement"),
        ("gradcam: iou >= 1e999", "is no requirement"),
        ("gradcam iou >= 0.5", "is no requirement"),
        ("gradcam: iou >= 0.5 on", "is no requirement"),
        ("gradcam: iou >= 0.5.1", "is no requirement"),
        ("gradcam: relies", "only a model relies"),
        ("certificate: sane", 'unknown share of a certificate "sane"'),
        ("certificate: flip_rat >= 0.9", 'did you mean "flip_rate"'),
        ("gradcam: skill seconds < 1", "skill is a scale of metrics"),
        ("gradcam: seconds < 1 on flowernet", "leave `on` out"),
    ],
)
def test_wrong_requirements_are_refused(text: str, words: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        parse_requirement(text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gradcan: iou >= 0.5", 'unknown method "gradcan"; did you mean "gradcam"?'),
        ("gradcam: iuo >= 0.5", 'unknown metric "iuo"; did you mean "iou"?'),
        ("edges: sane", 'unknown method of the sanity checks "edges"'),
        ("gradcam: iou >= 0.5 on flowernets", 'did you mean "flowernet"?'),
        ("certificate: relies", "no model is certified here"),
    ],
)
def test_names_that_no_result_will_have_are_refused(text: str, words: str) -> None:
    known: dict[str, Any] = {"methods": ["gradcam", "edges"], "metrics": ["iou"], "sane": ["gradcam"]}
    with pytest.raises(WrongUsage) as refused:
        refuse_unknown_names(
            [parse_requirement(text)], **known, certifies=False, architectures=["flowernet", "flowervit"]
        )
    assert words in str(refused.value)


@given(*[st.integers(-8, 8)] * 3, relations)
def test_the_decision_is_what_holds_for_every_point_of_the_interval(a: int, b: int, bound: int, relation: str) -> None:
    low, high = sorted((a, b))
    holds = {">=": lambda x: x >= bound, "<=": lambda x: x <= bound, ">": lambda x: x > bound, "<": lambda x: x < bound}
    points = [holds[relation](x / 2) for x in range(2 * low, 2 * high + 1)]
    expected = "holds" if all(points) else "undecided" if any(points) else "fails"
    assert compare_with_bound(low, high, relation, bound) == expected


def share(mean: float | None, low: float | None = None, high: float | None = None, n: int = 50) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high, "n": n, "undefined": 0}


def study(**more: Any) -> dict[str, Any]:
    """A data set with two models of flowernet and one of flowervit."""
    models = [{"arch": arch, "seed": s, "digest": f"{s}" * 64} for arch, s in (("net", 0), ("net", 1), ("vit", 2))]
    return {"dataset": {"name": "flowers", "rows": 50}, "scores": {"models": models, "results": []}, **more}


def board(architecture: str, numbers: dict[str, Any], **more: Any) -> dict[str, Any]:
    metrics = {"iou": {"results": {"gradcam": numbers}}}
    methods = [{"text": "gradcam", "equal": ["hirescam"]}]
    return {
        "architectures": {architecture: 1},
        "models": ["a", "b"],
        "methods": methods,
        "missing": {},
        "metrics": metrics,
        **more,
    }


def outcome_of(text: str, document: dict[str, Any]) -> tuple[str, str]:
    decision = decide(parse_requirement(text), [document])
    return decision["outcome"], decision["reason"]


def test_a_metric_has_to_hold_on_every_architecture() -> None:
    high = {**share(0.8, 0.7, 0.9), "skill": None, "skill_reason": "no control"}
    document = study()
    document["scores"]["boards"] = [board("net", high), board("vit", share(0.5, 0.4, 0.6))]
    for method in ("gradcam", "hirescam"):  # equal maps stand on the board once
        assert outcome_of(f"{method}: iou >= 0.3", document)[0] == "holds"
        assert outcome_of(f"{method}: iou >= 0.65", document)[0] == "fails"
        assert outcome_of(f"{method}: iou >= 0.55 on net", document)[0] == "holds"
    decision = decide(parse_requirement("gradcam: iou >= 0.55"), [document])
    assert decision["outcome"] == "undecided"
    assert decision["rows"] == rows_to_decide(0.5, 0.1, 50, 0.55)
    assert f"about {decision['rows']} rows would decide" in decision["reason"]
    assert outcome_of("gradcam: skill iou > 0 on net", document) == ("undecided", "flowers, net: no control")
    assert outcome_of("gradcam: iou >= 0.5 on other", document)[0] == "undecided"


def test_a_network_of_ones_own_is_decided_on_as_well() -> None:
    """Its architecture has a colon, which names of models and boards lack."""
    document = study(certificates=[{"model": "mine.net-seed0-33333333", "flip_rate": share(1.0, 0.9, 1.0)}])
    document["scores"]["models"] = [{"arch": "mine:net", "seed": 0, "digest": "3" * 64}]
    document["scores"]["boards"] = [board("mine.net", share(0.8, 0.7, 0.9))]
    document["scores"]["failed"] = [{"method": "lrp", "model": "mine.net-seed0-33333333", "reason": "no rule"}]
    assert outcome_of("gradcam: iou >= 0.5", document)[0] == "holds"
    assert outcome_of("certificate: flip_rate >= 0.5", document)[0] == "holds"
    assert outcome_of("lrp: iou >= 0.5", document) == ("undecided", "flowers, mine:net: no rule")


def test_a_value_without_an_interval_is_told() -> None:
    document = study()
    document["scores"]["boards"] = [board("net", share(0.5))]
    reason = "flowers, net: 0.500, without an interval on these rows"
    assert outcome_of("gradcam: iou >= 0.3 on net", document) == ("undecided", reason)


def test_a_method_that_ran_on_some_models_alone_is_undecided() -> None:
    document = study()
    document["scores"]["boards"] = [board("net", share(0.8, 0.7, 0.9), missing={"rollout": 1})]
    document["scores"]["skipped"] = [{"method": "gradcam", "model": "vit-seed2-22222222", "reason": "has no layer"}]
    assert outcome_of("gradcam: iou >= 0.5", document) == ("undecided", "flowers, vit: has no layer")
    assert "ran on 1 of 2 models" in outcome_of("rollout: iou >= 0.5 on net", document)[1]
    assert "iou_best has no value" in outcome_of("gradcam: iou_best >= 0.5 on net", document)[1]


def test_costs_have_no_interval() -> None:
    document = study()
    document["scores"]["results"] = [{"text": "rise", "cost": {"seconds": 0.5, "forwards": 4000.0}}]
    assert outcome_of("rise: seconds <= 1", document)[0] == "holds"
    assert outcome_of("rise: forwards < 4000", document)[0] == "fails"
    assert outcome_of("rise: backwards < 4000", document)[0] == "undecided"


def sanity(seed: int, **outcomes: str) -> dict[str, Any]:
    verdicts = {key: {"outcome": outcome, "reason": "", "draws": 10} for key, outcome in outcomes.items()}
    model = {"arch": "net", "seed": seed, "digest": f"{seed}" * 64}
    return {"model": model, "results": [{"method": "gradcam", "verdicts": verdicts}]}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({"logits": "pass", "model": "pass", "labels": "no verdict"}, "holds"),
        ({"logits": "pass", "model": "undecided"}, "undecided"),
        ({"logits": "no verdict", "model": "pass"}, "undecided"),
        ({"logits": "undecided", "model": "fail"}, "fails"),
    ],
)
def test_a_method_is_sane_if_it_passes_on_every_model(second: dict[str, str], expected: str) -> None:
    document = study(sanity=[sanity(0, logits="pass", model="pass"), sanity(1, **second)])
    assert outcome_of("gradcam: sane on net", document)[0] == expected
    assert outcome_of("gradcam: sane", document)[0] == ("fails" if expected == "fails" else "undecided")  # no vit
    assert outcome_of("gradcam: sane on net", study(sanity=[sanity(0, model="pass")]))[0] == "undecided"  # one of two


shares = st.none() | st.tuples(*[st.integers(0, 20)] * 3).map(lambda three: [n / 20 for n in sorted(three)])


@given(st.tuples(shares, shares, shares, shares, shares))
def test_what_relies_is_what_the_certificate_calls_yes(five: tuple[list[float] | None, ...]) -> None:
    keys = ("flip_rate", "stability", "evidence_alone", "rim_alone", "rest_alone")
    values = {key: share(v[1], v[0], v[2]) if v else share(None) for key, v in zip(keys, five, strict=True)}
    certificates = [{"model": "vit-seed2-22222222", **values}]
    outcome, _ = outcome_of("certificate: relies on vit", study(certificates=certificates))
    assert (outcome == "holds") == (reliance(values) == "yes")


def test_shares_of_certificates_are_held_against_bounds() -> None:
    certificate = {"model": "vit-seed2-22222222", "flip_rate": share(1.0, 0.54, 1.0, 6), "shortcut": None}
    certificate["rest_alone"] = share(0.0, 0.0, 0.46, 6)
    document = study(certificates=[certificate])
    for text in ("certificate: flip_rate >= 0.9 on vit", "certificate: rest_alone <= 0.1 on vit"):
        decision = decide(parse_requirement(text), [document])
        assert (decision["outcome"], decision["rows"]) == ("undecided", 36)
    assert outcome_of("certificate: flip_rate >= 0.5 on vit", document)[0] == "holds"
    assert "no certificate" in outcome_of("certificate: flip_rate >= 0.5", document)[1]
    outcome, reason = outcome_of("certificate: by_shortcut <= 0.1 on vit", document)
    assert outcome == "undecided"
    assert reason.endswith("the data have no shortcut")
    certificate["shortcut"] = {"factor": "tag", "by_shortcut": share(0.8, 0.7, 0.9)}
    assert outcome_of("certificate: by_shortcut <= 0.1 on vit", document)[0] == "fails"


@pytest.mark.parametrize("bound", [0.5, 0.9, 0.95, 0.99])
def test_rows_without_exception_are_the_fewest_that_clear_the_bound(bound: float) -> None:
    rows = rows_without_exception(bound)
    assert rows
    lows = [binomtest(n, n).proportion_ci(0.95, method="exact").low for n in (rows - 1, rows)]
    assert lows[0] < bound <= lows[1]


def test_so_many_rows_decide_as_often_as_said() -> None:
    """Rows of a known spread: an interval of few tells how many decide, and so many decide in four of five runs."""
    rng = np.random.default_rng(0)
    few = intervals(rng.normal(0.56, 0.2, (1, 400, 1)), seed=0)[0]
    rows = rows_to_decide(0.56, few.high - few.mean, 400, 0.5)
    assert rows == pytest.approx(rows_needed(0.06 / 0.2), rel=0.15)
    runs = intervals(rng.normal(0.56, 0.2, (300, rows, 1)), seed=0)
    assert np.mean([run.low > 0.5 for run in runs]) == pytest.approx(0.8, abs=0.1)


@settings(max_examples=20)
@given(st.lists(st.sampled_from(("holds", "fails", "undecided"))), st.randoms())
def test_the_order_of_checks_does_not_matter(outcomes: list[Any], random: Any) -> None:
    shuffled = random.sample(outcomes, len(outcomes))
    assert combine(shuffled) == combine(outcomes)


def agreed(outcome: str, kind: str = "nuisance", **more: Any) -> dict[str, Any]:
    """An entry of the agreement of maps, as a summary has it."""
    numbers = {"mean": 0.6, "low": 0.52, "high": 0.7}
    start = {"method": "gradcam", "architecture": "net", "kind": kind, "models": ["a", "b"], "outcome": outcome}
    return {**start, "scaled": numbers, "rows": 12, "reason": None, **more}


@pytest.mark.parametrize(
    ("entries", "expected", "words"),
    [
        ([agreed("stable"), agreed("stable", "seeds")], "holds", "0.600 (95 %: 0.520 to 0.700, 12 rows)"),
        ([agreed("stable"), agreed("unstable", "seeds")], "fails", "flowers, net, seeds: 0.600"),
        (
            [agreed("stable"), agreed("unknown", "seeds", reason="no two models rely")],
            "undecided",
            "no two models rely",
        ),
        ([agreed("undecided")], "undecided", "flowers, net, nuisance"),
        ([agreed("stable"), agreed("unstable", method="lrp")], "holds", "0.600"),
        ([agreed("stable"), agreed("unstable", architecture="vit")], "fails", "vit"),
        ([], "undecided", "its maps were not compared there"),
    ],
)
def test_stable_is_what_all_agreements_of_maps_say(entries: list[dict[str, Any]], expected: str, words: str) -> None:
    outcome, reason = outcome_of("gradcam: stable", study(agreement=entries))
    assert outcome == expected
    assert words in reason


def test_stable_is_asked_of_methods_whose_maps_are_compared() -> None:
    requirement = parse_requirement("gradcam: stable on net")
    assert (requirement.quantity, requirement.architecture, requirement.is_metric) == ("stable", "net", False)
    known: dict[str, Any] = {"methods": ["gradcam"], "metrics": ["iou"], "sane": [], "certifies": True}
    refuse_unknown_names([requirement], stable=["gradcam"], architectures=["net"], **known)
    with pytest.raises(WrongUsage, match="method of the agreement of maps"):
        refuse_unknown_names([requirement], architectures=["net"], **known)
