"""Verdicts: the rules against a second statement of them, made-up audits with known answers, and their words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from an8flower.commands.verdicts import show_verdicts
from an8flower.errors import Refusal
from an8flower.evaluate.audits.plan import Verdict, from_mapping, load, shipped_plans
from an8flower.evaluate.registry import explainers
from an8flower.evaluate.results.anew_outlook import look_ahead
from an8flower.evaluate.results.method_names import TITLES, title_of
from an8flower.evaluate.results.pull_request import to_markdown
from an8flower.evaluate.results.statistics.power import seeds_needed
from an8flower.evaluate.results.summary_schema import summary_schema
from an8flower.evaluate.results.verdict_rules import (
    EVIDENCE,
    ORDER,
    RULES,
    SHORTCUT,
    Candidate,
    QuestionStanding,
    VerdictRules,
    judge,
    lowest_share,
    reason_of,
    rules_of,
    stand,
)
from an8flower.evaluate.results.verdict_words import QUESTIONS, answer_all, by_word, where_text
from an8flower.evaluate.results.verdicts import verdicts

OUTCOMES = ("best", "above", "below", "open", "none")
standings = st.builds(QuestionStanding, st.sampled_from(OUTCOMES), reason=st.sampled_from(("", "why")))
candidates = st.builds(
    Candidate,
    st.fixed_dictionaries({EVIDENCE: standings, ORDER: standings}, optional={SHORTCUT: standings}),
    st.dictionaries(st.sampled_from(("model", "logits")), st.sampled_from(("pass", "fail", "undecided"))),
    st.integers(1, 90),
    st.none() | st.tuples(st.integers(0, 60), st.just(60)),
    st.sampled_from(("yes", "part", "no", "unknown", "none")),
)
limits = st.builds(
    VerdictRules,
    best=st.integers(0, 2),
    rows=st.integers(1, 60),
    checked=st.booleans(),
    silent=st.sampled_from((0.0, 0.05, 1)),
)


# ---- The rules -------------------------------------------------------------------------------------------------


def states(candidate: Candidate, rules: VerdictRules) -> dict[str, bool]:
    """When each verdict is due, stated once more: each by itself, and not as a list that is read from the top."""
    outcomes = {key: standing.outcome for key, standing in candidate.standings.items()}
    better = {key for key, outcome in outcomes.items() if outcome in ("best", "above")}
    worse = {key for key, outcome in outcomes.items() if outcome == "below"}
    enough = candidate.rows >= rules.rows
    wrong = candidate.sanity.get("model") == "fail" or SHORTCUT in worse
    silent = candidate.silent is not None and binomtest(*candidate.silent).proportion_ci(0.95).low > rules.silent
    sane = "fail" not in candidate.sanity.values() and not (rules.checked and candidate.sanity.get("model") != "pass")
    places = [outcomes[EVIDENCE], outcomes[ORDER]]
    flawless = {*places} <= {"best", "above"} and ("above" not in places or places.count("best") >= rules.best)
    flawless = flawless and SHORTCUT in {*better, *({SHORTCUT} - {*outcomes})}
    return {
        "trust": not wrong and enough and flawless and sane and not silent,
        "caution": not wrong and enough and bool(better) and not (flawless and sane and not silent),
        "avoid": wrong or (enough and bool(worse) and not better),
        "unknown": not wrong and (not enough or (not better and not worse)),
    }


@settings(max_examples=60)
@given(candidates, limits)
def test_the_verdict_is_the_only_one_that_is_due(candidate: Candidate, rules: VerdictRules) -> None:
    word, rule = judge(candidate, rules)
    assert [name for name, due in states(candidate, rules).items() if due] == [word]
    assert rule in RULES


@settings(max_examples=50)
@given(candidates, limits)
def test_every_verdict_but_trust_has_its_reason(candidate: Candidate, rules: VerdictRules) -> None:
    word, rule = judge(candidate, rules)
    if rule not in ("no truth", "nothing to compare with"):
        assert reason_of(word, rule, candidate, rules)
    assert (", but " in reason_of(word, rule, candidate, rules)) == (word == "caution")


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 5), st.floats(0, 1), st.floats(0, 1))
def test_bounds_decide_and_not_the_mean(low: float, width: float, limit: float, one: float, other: float) -> None:
    high = low + width
    first, second = (stand(low + share * width, low, high, limit, 60).outcome for share in (one, other))
    assert first == second
    assert first == ("above" if low > limit else "below" if high <= limit else "open")


@settings(max_examples=30)
@given(st.integers(0, 80), st.integers(1, 80))
def test_the_lowest_share_is_that_of_the_exact_interval(count: int, of: int) -> None:
    count = min(count, of)
    assert lowest_share(count, of) == pytest.approx(binomtest(count, of).proportion_ci(0.95).low, abs=1e-9)


# ---- Made-up audits --------------------------------------------------------------------------------------------

SKILLS = {  # by the localisation metric, then by the one that asks the model
    "lrp": ((0.4, 0.3, 0.5), (0.5, 0.4, 0.6)),
    "gradcam": ((0.38, 0.28, 0.48), (0.48, 0.3, 0.6)),
    "layercam": ((0.39, 0.3, 0.5), (0.2, 0.1, 0.3)),
    "guided_backprop": ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3)),
    "vebi": ((0.35, 0.25, 0.45), (0.4, 0.3, 0.5)),
    "gradient": ((0.05, -0.1, 0.2), (0.45, 0.3, 0.6)),
    "vargrad": ((-0.3, -0.4, -0.2), (-0.2, -0.3, 0.0)),
    "smoothgrad:samples=5": ((0.01, -0.1, 0.12), (0.02, -0.1, 0.13)),
    "rise": ((0.4, 0.3, 0.5), (0.5, 0.4, 0.6)),
    "center": ((-0.5, -0.6, -0.4), (-0.5, -0.6, -0.4)),
    "mean_mask": ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
}
APART = {"area": {("lrp", "guided_backprop")}, "order": {("lrp", "layercam"), ("lrp", "guided_backprop")}}
EXPECTED = {
    "lrp": ("trust", "among the best"),
    "gradcam": ("caution", "better than a control, but"),
    "layercam": ("trust", "among the best"),
    "guided_backprop": ("caution", "better than a control, but"),
    "vebi": ("caution", "among the best, sanity open"),
    "gradient": ("caution", "better than a control, but"),
    "vargrad": ("avoid", "no better than a control"),
    "smoothgrad:samples=5": ("unknown", "not told from a control"),
    "rise": ("avoid", "ignores the model"),
    "deeplift": ("unknown", "not on all models"),
}
SANITY = dict.fromkeys(("lrp", "layercam", "gradient", "vargrad", "guided_backprop"), ("pass", "pass"))
SANITY |= {"gradcam": ("pass", "fail"), "rise": ("fail", "fail"), "center": ("fail", "fail")}


def share(mean: float, half: float = 0.02) -> dict[str, Any]:
    return {"mean": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 1.0), "n": 60, "undefined": 0}


def certificate(model: str, flip: float = 0.97, tag: float | None = None) -> dict[str, Any]:
    decision = {"by_shortcut": share(tag or 0), "by_evidence": share(0.1), "by_neither": share(0.0)}
    return {
        "model": model,
        "evidence": ["petals"],
        "flip_rate": share(flip),
        "stability": share(0.98),
        "shortcut": None if tag is None else {"factor": "tag.colour", **decision},
    }


def sanity(seed: int) -> dict[str, Any]:
    def result(method: str, model: str, logits: str) -> dict[str, Any]:
        outcomes = {"model": model, "logits": logits, "labels": "no verdict"}
        verdict = {key: {"outcome": outcome, "reason": "", "draws": 10} for key, outcome in outcomes.items()}
        return {"text": method, "method": method, "verdicts": verdict}

    model = {"arch": "net", "seed": seed, "digest": f"{seed}" * 64}
    return {"model": model, "results": [result(name, *outcomes) for name, outcomes in SANITY.items()]}


def numbers(skill: tuple[float, float, float], n: int = 60) -> dict[str, Any]:
    value, low, high = skill
    return {"n": n, "skill": value, "skill_low": low, "skill_high": high, "skill_control": "mean_mask"}


def study(n: int = 60, seeds: int = 2, **changes: Any) -> dict[str, Any]:
    """A data set with two models of one architecture, on which every rule has a method."""
    models = [f"net-seed{seed}-{str(seed) * 8}" for seed in range(seeds)]
    metrics = {}
    for place, metric in enumerate(("area", "order")):
        pairs = [
            {"a": a, "b": b, "difference": 0.1, "low": -0.1, "high": 0.3, "apart": (a, b) in APART[metric]}
            for i, a in enumerate(SKILLS)
            for b in [*SKILLS][i + 1 :]
        ]
        results = {name: numbers(both[place], n) for name, both in SKILLS.items()}
        metrics[metric] = {"results": results, "pairs": pairs, "trained_anew": {"pairs": []}}
    methods = [{"text": name, "equal": ["hirescam"] if name == "gradcam" else []} for name in SKILLS]
    board = {"architectures": {"net": seeds}, "models": models, "methods": methods, "missing": {"deeplift": 1}}
    every = [{"text": name, "method": name, "family": family(name), "cost": cost(i)} for i, name in enumerate(SKILLS)]
    scores = {
        "target": "label",
        "results": every,
        "families": {"area": "localisation", "order": "intervention", "mass": "localisation"},
        "leading": ["order", "area"],
        "boards": [{**board, "metrics": metrics}, {**board, "architectures": {"net": 2, "vit": 1}, "metrics": metrics}],
        "skipped": [{"method": "rollout", "model": models[0], "reason": "needs attention"}],
    }
    document = {"dataset": {"name": "flowers", "rows": n}, "scores": scores}
    document |= {"certificates": list(map(certificate, models)), "sanity": [sanity(0), sanity(1)]}
    return {**document, **changes}


def family(name: str) -> str:
    return "baselines" if name in ("center", "mean_mask") else "gradients"


def cost(place: int) -> dict[str, float]:
    return {"seconds": 0.002 * (place + 1), "forwards": 1.0, "backwards": 1.0}


def of_methods(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {entry["method"]: (entry["verdict"], entry["rule"]) for entry in document["methods"]}


def test_each_rule_finds_its_method() -> None:
    (document,) = verdicts(study())
    assert of_methods(document) == EXPECTED
    words = [entry["verdict"] for entry in document["methods"]]
    assert words == sorted(words, key=["trust", "caution", "avoid", "unknown"].index)
    reasons = {entry["method"]: entry["reason"] for entry in document["methods"]}
    assert reasons["gradcam"].endswith("but hardly notices a random last layer")
    assert reasons["layercam"] == "is among the best at finding the evidence and orders pixels as the model does"
    assert reasons["guided_backprop"].endswith("but others are better at both")
    assert reasons["vebi"].endswith("but its sanity was not checked")
    assert re.search(r"is not shown to find .* \(about \d+ rows would tell\)", reasons["gradient"])
    assert reasons["deeplift"] == "it ran on 1 of 2 models: the others cannot have it"
    assert document["skipped"] == [{"method": "rollout", "reason": "needs attention"}]
    assert document["cheapest"]["method"] == "lrp"
    assert [entry["method"] for entry in document["controls"]] == ["center", "mean_mask"]


def test_the_document_has_the_form_that_the_schema_says() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = summary_schema()
    form = {"$ref": "#/$defs/architecture_verdicts", "$defs": schema["$defs"]}
    for document in (*verdicts(study()), *verdicts(study(certificates=[])), *verdicts(with_shortcut("predicted"))):
        jsonschema.Draft202012Validator(form).validate(document)


def test_equal_maps_are_one_line() -> None:
    (document,) = verdicts(study())
    assert {entry["method"]: entry["equal"] for entry in document["methods"]}["gradcam"] == ["hirescam"]


def test_few_rows_decide_nothing_but_what_does_not_need_them() -> None:
    (document,) = verdicts(study(n=29))
    assert {word for word, _ in of_methods(document).values()} == {"unknown", "avoid"}
    assert of_methods(document)["rise"] == EXPECTED["rise"]
    (document,) = verdicts(study(n=29), VerdictRules(rows=29))
    assert of_methods(document) == EXPECTED


@pytest.mark.parametrize(
    ("certificates", "truth", "words"),
    [
        ([], "none", {"caution", "avoid", "unknown"}),
        ([("a", 0.97)], "none", {"caution", "avoid", "unknown"}),
        ([("a", 0.97), ("b", 0.7)], "part", {"caution", "avoid", "unknown"}),
        ([("a", 0.97), ("b", 0.1)], "no", {"avoid", "unknown"}),
    ],
)
def test_without_a_truth_nothing_is_trusted(certificates: list[Any], truth: str, words: set[str]) -> None:
    models = dict(zip("ab", ("net-seed0-00000000", "net-seed1-11111111"), strict=True))
    (document,) = verdicts(study(certificates=[certificate(models[key], flip) for key, flip in certificates]))
    assert document["truth"] == truth
    methods = of_methods(document)
    assert {word for word, _ in methods.values()} == words
    assert methods["rise"] == EXPECTED["rise"]
    if truth == "no":
        assert methods["lrp"] == ("unknown", "no truth")


def test_an_unchecked_method_is_trusted_only_if_the_plan_says_so() -> None:
    (document,) = verdicts(study(sanity=[]))
    assert of_methods(document)["lrp"] == ("caution", "among the best, sanity open")
    (document,) = verdicts(study(sanity=[]), VerdictRules(checked=False))
    assert of_methods(document)["lrp"][0] == "trust"


def test_a_failure_on_one_model_is_enough() -> None:
    fails = sanity(1)
    fails["results"][0]["verdicts"]["model"]["outcome"] = "fail"
    (document,) = verdicts(study(sanity=[sanity(0), fails]))
    assert of_methods(document)["lrp"] == ("avoid", "ignores the model")


def test_a_method_whose_maps_often_say_nothing_is_not_trusted() -> None:
    document = study()
    document["scores"]["boards"][0]["metrics"]["area"]["results"]["lrp"]["gaps"] = {"net-seed0-00000000": 15}
    (verdict,) = verdicts(document)
    (line,) = (entry for entry in verdict["methods"] if entry["method"] == "lrp")
    assert (line["verdict"], line["reason"].rpartition("but ")[2]) == (
        "caution",
        "15 of its 60 maps of a model say nothing",
    )


def test_documents_without_boards_have_no_verdict() -> None:
    assert verdicts({"dataset": {"name": "old"}, "scores": {"results": []}}) == []
    assert verdicts({"dataset": {"name": "old"}}) == []


# ---- A planted shortcut ----------------------------------------------------------------------------------------


def with_shortcut(target: str, tag: float = 0.95) -> dict[str, Any]:
    """Models that go by a tag: lrp and gradcam mark it, layercam less than a control, of gradient nobody knows."""
    document = study(certificates=[certificate(f"net-seed{s}-{str(s) * 8}", 0.1, tag) for s in range(2)])
    more = {"lrp": (0.2, 0.1, 0.3), "gradcam": (0.1, 0.01, 0.2), "layercam": (-0.1, -0.2, 0.0)}
    more |= {"gradient": (0.05, -0.1, 0.2)}
    pairs = [pair(name, control, *ends) for name, ends in more.items() for control in ("center", "mean_mask")]
    results = {name: {"mean": 0.1, "low": 0.0, "high": 0.2, "n": 60} for name in SKILLS}
    document["scores"]["target"] = target
    mass = {"results": results, "pairs": pairs}
    document["scores"]["boards"][0]["metrics"]["part_mass:part=tag"] = mass
    return document


def pair(name: str, control: str, value: float, low: float, high: float) -> dict[str, Any]:
    """A pair of a method and a control, which stands first in half of the cases."""
    if control == "center":
        return {"a": name, "b": control, "difference": value, "low": low, "high": high, "apart": True}
    return {"a": control, "b": name, "difference": -value, "low": -high, "high": -low, "apart": True}


def test_who_marks_a_planted_shortcut_and_who_misses_it() -> None:
    document = with_shortcut("predicted")
    (verdict,) = verdicts(document)
    assert verdict["shortcut"] == "yes"
    methods = of_methods(verdict)
    assert methods["lrp"][0] == methods["gradcam"][0] == "caution"
    assert methods["layercam"] == ("avoid", "misses the shortcut")
    assert methods["gradient"] == ("unknown", "not told from a control")
    answers = {answer.question: answer.sentence for answer in answer_all(verdict, document)}
    goes = "The planted shortcut, tag.colour, decides 93% of the cases, or more."
    assert answers["truth"] == f"No: of 2 models, 2 rely on something else. {goes}"
    assert answers[SHORTCUT].startswith("LRP and Grad-CAM. Missed by: LayerCAM. Open: Gradient. Not known: ")


def test_who_would_have_told_of_a_mark_on_photographs() -> None:
    document = study(certificates=[])
    (verdict,) = verdicts(document)
    names = ("lrp", "layercam", "gradcam", "gradient")
    verdict["methods"] = [entry for entry in verdict["methods"] if entry["method"] in names]
    sure, never = share(0.95), share(0.02)
    outcomes = [{"lrp": "yes", "gradcam": "no", "layercam": "always"}, {"lrp": "yes", "gradcam": "yes"}]
    marks = [
        {
            "model": model,
            "by_mark": sure,
            "by_picture": never,
            "methods": [{"method": name, "outcome": outcome} for name, outcome in of_model.items()],
        }
        for model, of_model in zip(verdict["models"], outcomes, strict=True)
    ]
    assert planted_answer(verdict, document) == "None was planted in these data."
    assert planted_answer(verdict, document | {"marks": marks[:1]}) == (
        "LRP. Missed by: Grad-CAM. Shown whether it is used or not by: LayerCAM. Open: Gradient."
    )
    assert planted_answer(verdict, document | {"marks": marks}) == "LRP. Open: Grad-CAM, Gradient and LayerCAM."
    unused = [entry | {"by_mark": never, "by_picture": sure} for entry in marks]
    answer = "One was planted, and no model is shown to go by it."
    assert planted_answer(verdict, document | {"marks": unused}) == answer
    assert planted_answer(verdict, document | {"marks": [*unused, marks[1]]}).startswith("LRP and Grad-CAM. Open: ")


def planted_answer(verdict: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """What the page answers about a planted shortcut."""
    return {answer.question: answer.sentence for answer in answer_all(verdict, document)}[SHORTCUT]


def test_maps_of_the_label_cannot_show_what_speaks_against_it() -> None:
    (verdict,) = verdicts(with_shortcut("label"))
    assert all(word in ("unknown", "avoid") for word, _ in of_methods(verdict).values())
    assert of_methods(verdict)["layercam"] == ("unknown", "no truth")


@pytest.mark.parametrize(("tag", "goes"), [(0.95, "yes"), (0.5, "unknown"), (0.2, "no")])
def test_whether_models_go_by_the_shortcut_is_a_matter_of_bounds(tag: float, goes: str) -> None:
    (verdict,) = verdicts(with_shortcut("predicted", tag))
    assert verdict["shortcut"] == goes
    assert (SHORTCUT in {question["key"] for question in verdict["questions"]}) == (goes == "yes")


# ---- Models trained anew ---------------------------------------------------------------------------------------


@given(st.floats(0.05, 2), st.floats(0.001, 0.5), st.floats(0.001, 1), st.integers(3, 8))
def test_so_many_seeds_have_the_power_and_one_less_has_not(gap: float, rows: float, seeds: float, count: int) -> None:
    needed = seeds_needed(gap, rows, seeds, count)

    def power(n: int) -> float:
        return float(norm.cdf(gap / (rows**2 + seeds**2 * count / n) ** 0.5 - norm.ppf(0.975)))

    if needed is None:
        assert power(999) < 0.8
    else:
        assert power(needed) >= 0.8 - 1e-9
        assert needed == 1 or power(needed - 1) < 0.8


def test_what_these_models_say_and_others_would_not() -> None:
    here = [{"a": "x", "b": name, "low": 0.1, "high": 0.2, "apart": name != "w"} for name in "yzw"]
    ends = {"y": (0.05, 0.25, True), "z": (-0.2, 0.5, False), "w": (-0.2, 0.5, False)}
    anew = [
        {"a": "x", "b": name, "difference": 0.15, "low": low, "high": high, "apart": apart, "freedom": 8.0}
        for name, (low, high, apart) in ends.items()
    ]
    outlook = look_ahead({"pairs": here, "trained_anew": {"pairs": anew}}, {"net": 3}, "xyzw")
    assert (outlook["pairs"], outlook["hold"], outlook["beyond"]) == (2, 1, 0)
    assert outlook["needed"] > 3
    assert look_ahead({"pairs": here, "trained_anew": {"pairs": anew}}, {"net": 3}, "xy")["pairs"] == 1
    assert look_ahead({}, {"net": 1}, "xy") == {
        "seeds": 1,
        "least": 3,
        "pairs": 0,
        "hold": 0,
        "needed": None,
        "beyond": 0,
    }


# ---- Words -----------------------------------------------------------------------------------------------------


def test_every_question_has_an_answer() -> None:
    document = study()
    (verdict,) = verdicts(document)
    answers = {answer.question: answer.sentence for answer in answer_all(verdict, document)}
    assert list(answers) == list(QUESTIONS)
    assert answers["truth"] == "Yes: both models rely on the petals (in 95% of the cases, or more)."
    assert answers[EVIDENCE].startswith("LRP; not told from it: RISE, LayerCAM, Grad-CAM and VEBI. Behind, yet better")
    assert answers[ORDER].startswith(
        "LRP; not told from it: RISE, Grad-CAM, Gradient and VEBI. Behind, yet better than"
    )
    assert answers["fail"] == "Evidence: VarGrad. Order: VarGrad."
    assert answers["insane"] == "RISE (6 pass, 3 not checked). The control Center fails, as it has to."
    assert answers["anew"] == "Nothing can be said: that takes three seeds of an architecture; there are two."
    assert answers["cost"] == "LRP: 2 ms for a picture, 1 pass forwards and 1 pass backwards."


@pytest.mark.parametrize(
    ("outlook", "sentence"),
    [
        ({"pairs": 0}, "Nothing: these models tell no two methods apart."),
        ({"pairs": 4, "hold": 4}, "All 4 differences between methods hold."),
        ({"pairs": 4, "hold": 1, "needed": 9}, "About 9 seeds would settle the others."),
        ({"pairs": 4, "hold": 1, "needed": 9, "beyond": 2}, "settle the others but 2, which take more rows."),
        ({"pairs": 4, "hold": 1, "beyond": 3}, "The others take more rows, whatever the number of seeds."),
    ],
)
def test_what_holds_for_models_trained_anew_is_said(outlook: dict[str, int], sentence: str) -> None:
    document = study(seeds=3)
    (verdict,) = verdicts(document)
    verdict["anew"] = {"seeds": 3, "least": 3, "hold": 0, "needed": None, "beyond": 0, **outlook}
    answers = {answer.question: answer.sentence for answer in answer_all(verdict, document)}
    assert answers["anew"].endswith(sentence)


def test_the_terminal_says_the_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    document = study()
    show_verdicts({"studies": [{**document, "verdicts": verdicts(document)}]})
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "net on flowers (2 models, 60 rows):"
    assert lines[0].split() == ["trust", "lrp,", "layercam"]
    assert lines[1].split() == ["caution:", "sanity", "check", "open", "vebi"]
    assert max(map(len, lines)) <= 80


def test_markdown_says_the_verdicts() -> None:
    document = study()
    document["verdicts"] = verdicts(document)
    document["scores"]["boards"], document["sanity"] = [], []
    document["certificates"] = []
    text = to_markdown({"name": "tiny", "studies": [document]})
    assert "### Verdict: net on flowers (2 models, 60 rows)" in text
    assert "| trust | `lrp`, `layercam` |" in text
    assert "| avoid | " in text
    assert where_text(document["verdicts"][0], document) == "net on flowers (2 models, 60 rows)"
    assert by_word(document["verdicts"][0])["trust"] == ["lrp", "layercam"]
    assert by_word(document["verdicts"][0])["caution: sanity check open"] == ["vebi"]


def test_every_built_in_method_has_the_name_that_its_authors_gave_it() -> None:
    built_in = {name for name in explainers.names() if explainers[name].item.__module__.startswith("an8flower.")}
    assert set(TITLES) == built_in
    assert len(set(TITLES.values())) == len(TITLES)
    assert title_of("captum:Occlusion(stride=2)") == "captum:Occlusion(stride=2)"


# ---- The plan --------------------------------------------------------------------------------------------------


def test_the_plan_has_the_thresholds() -> None:
    assert VerdictRules(**Verdict().model_dump()) == VerdictRules()
    plan = {"name": "x", "data": [{"spec": "single-6c"}], "models": [{"arch": "flowernet"}], "methods": ["gradcam"]}
    document = from_mapping({**plan, "verdict": {"rows": 50, "insane": ["model", "logits"]}}, "x").document()
    assert rules_of(document) == VerdictRules(rows=50, insane=("model", "logits"))
    assert rules_of({}) == VerdictRules()
    with pytest.raises(Refusal, match='unknown sanity test "modle"; did you mean "model"'):
        from_mapping({**plan, "verdict": {"insane": ["modle"]}}, "x")
    for name in shipped_plans():
        assert load(name).document()["verdict"]["rows"] == 30
