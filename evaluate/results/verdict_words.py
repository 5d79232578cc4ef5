"""What the verdicts of an audit say in sentences: one answer for each question and architecture. No torch in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .method_names import title_of
from .scopes import count_word
from .verdict_rules import (
    ABOVE,
    BELOW,
    BEST,
    EVIDENCE,
    IGNORES,
    NONE,
    OPEN,
    ORDER,
    SHORTCUT,
    WORDS,
)
from .wording import join_names, low_of, reliance

MOST = 5  # names in a sentence of the first screen, before it says how many more there are
RELIES = {"yes": "on it", "part": "on it in part", "no": "on something else", "unknown": "on what cannot be told"}


class QuestionAnswer(NamedTuple):
    """The answer to one question on one architecture."""

    question: str  # its key
    sentence: str


QUESTIONS = {
    "truth": "Is there a truth to score against?",
    EVIDENCE: "Which methods find the evidence?",
    ORDER: "Which order pixels as the model does?",
    "fail": "Which are no better than a map that sees no model?",
    "insane": "Which ignore the model?",
    SHORTCUT: "Which would have shown a planted shortcut?",
    "anew": "What holds for models trained anew?",
    "cost": "What does the cheapest of the best cost?",
}
"""The questions that the page begins with, by their keys."""


def answer_all(verdict: Mapping[str, Any], study: Mapping[str, Any]) -> list[QuestionAnswer]:
    """The answers to all questions on one architecture.

    Args:
        verdict: what `verdicts` says of the architecture.
        study: the document of the data set.
    """
    questions = {entry["key"]: entry for entry in verdict["questions"]}
    sentences = {
        "truth": _truth(verdict, study),
        EVIDENCE: _best(questions[EVIDENCE]),
        ORDER: _best(questions[ORDER]),
        "fail": _fail(verdict, questions),
        "insane": _insane(verdict),
        SHORTCUT: _shortcut(verdict, questions.get(SHORTCUT)),
        "anew": _anew(verdict["anew"]),
        "cost": _cost(verdict["cheapest"]),
    }
    return [QuestionAnswer(key, sentences[key]) for key in QUESTIONS]


def by_word(verdict: Mapping[str, Any]) -> dict[str, list[str]]:
    """The methods of each verdict, best first; a method stands for those whose maps are equal to its own."""
    groups: dict[str, list[str]] = {word: [] for word in WORDS}
    for entry in verdict["methods"]:
        groups[entry["verdict"]].append(entry["method"])
    return groups


def where_text(verdict: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """The architecture and the data set of verdicts, and how many models and rows they are of."""
    count, rows = len(verdict["models"]), study["dataset"].get("rows")
    models = f"{count} model{'s' * (count != 1)}"
    return f"{verdict['architecture']} on {study['dataset']['name']} ({models}, {rows} rows)"


def _truth(verdict: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    certificates = [c for c in study.get("certificates") or () if c["model"] in verdict["models"]]
    if verdict["truth"] == "none":
        return f"Not known: {study.get('no_certificate') or 'not every model has a certificate'}."
    if verdict["truth"] == "yes":
        parts = " and ".join(certificates[0]["evidence"])
        lowest = min(low_of(certificate["flip_rate"]) for certificate in certificates)
        return f"Yes: {_models_rely(len(certificates))} on the {parts} (in {lowest:.0%} of the cases, or more)."
    counts = Counter(map(reliance, certificates))
    split = ", ".join(f"{counts[key]} {words}" for key, words in RELIES.items() if counts[key])
    known = "In part" if counts["yes"] + counts["part"] else "No"
    if len(certificates) == 1:
        return f"{known}: the model relies {split.partition(' ')[2]}."
    return f"{known}: of {len(certificates)} models, {split} rely."


def _models_rely(count: int) -> str:
    if count == 1:
        return "the model relies"
    return f"{'both' if count == 2 else f'all {count_word(count)}'} models rely"


def _names(texts: Sequence[str]) -> str:
    return join_names(list(map(title_of, texts)), MOST)


def _best(question: Mapping[str, Any]) -> str:
    """Who is in the best group of a question, and who else is better than the best control."""
    if question["reason"]:
        return f"Not known: {question['reason']}."
    control = title_of(question["control"] or "the best control")
    if not question[BEST]:
        return f"None is shown to be better than the best control, {control}."
    first, *others = question[BEST]
    tied = f"; not told from it: {_names(others)}" if others else ""
    behind = f" Behind, yet better than the best control: {_names(question[ABOVE])}." if question[ABOVE] else ""
    return f"{title_of(first)}{tied}.{behind}"


def _fail(verdict: Mapping[str, Any], questions: Mapping[str, Mapping[str, Any]]) -> str:
    """Which methods are no better than the best control in a question, and of which that is open."""
    sentences = []
    for key, what in ((EVIDENCE, "Evidence"), (ORDER, "Order")):
        question = questions[key]
        if not question["reason"]:
            still = f"; open: {_names(question[OPEN])}" if question[OPEN] else ""
            sentences.append(f"{what}: {_names(question[BELOW]) or 'none'}{still}.")
    return " ".join(sentences) or "Not known."


def _insane(verdict: Mapping[str, Any]) -> str:
    """Which methods fail model randomisation, how many were checked, and whether the controls fail as they have to."""
    checked = [entry for entry in verdict["methods"] if entry["sanity"]]
    failing = [entry["method"] for entry in checked if entry["rule"] == IGNORES]
    if not checked:
        return "Not checked."
    rest = len(verdict["methods"]) - len(checked)
    start = _names(failing) if failing else f"None of the {len(checked)} checked"
    return f"{start}{f'; {rest} not checked' if rest else ''}.{_controls_fail(verdict['controls'])}"


def _controls_fail(controls: Sequence[Mapping[str, Any]]) -> str:
    """A sentence on the controls that fail, which shows that the check can find something; empty without any."""
    failing = [entry["method"] for entry in controls if entry["sanity"].get("model") == "fail"]
    if not failing:
        return ""
    if len(failing) == 1:
        return f" The control {_names(failing)} fails, as it has to."
    return f" The controls {_names(failing)} fail, as they have to."


def _shortcut(verdict: Mapping[str, Any], question: Mapping[str, Any] | None) -> str:
    """Which methods show a planted shortcut that the models go by."""
    if verdict["shortcut"] is None:
        return "None was planted in these data."
    if verdict["shortcut"] == "no":
        return "One was planted, and the models do not go by it."
    if verdict["shortcut"] == "unknown" or question is None:
        return "One was planted; whether all models go by it cannot be told."
    if question["reason"]:
        return f"Not known: {question['reason']}."
    shown = _names([*question[BEST], *question[ABOVE]]) or "None shows it"
    words = {BELOW: "Missed by", OPEN: "Open", NONE: "Not known"}
    rest = [f" {start}: {_names(question[key])}." for key, start in words.items() if question[key]]
    return f"{shown}.{''.join(rest)}"


def _anew(anew: Mapping[str, Any]) -> str:
    """What these models say already that holds for others, and how many seeds would settle the rest."""
    if anew["seeds"] < anew["least"]:
        have = "there is one" if anew["seeds"] == 1 else f"there are {count_word(anew['seeds'])}"
        return f"Nothing can be said: that takes {count_word(anew['least'])} seeds of an architecture; {have}."
    if not anew["pairs"]:
        return "Nothing: these models tell no two methods apart."
    settled = f" About {anew['needed']} seeds would settle the others" if anew["needed"] else ""
    if anew["beyond"]:
        settled += f"{', but for' if settled else ' For'} {anew['beyond']} that take more rows"
    return f"{anew['hold']} of the {anew['pairs']} differences between methods hold.{settled}{'.' if settled else ''}"


def _cost(cheapest: Mapping[str, Any] | None) -> str:
    if cheapest is None:
        return "No method is among the best."
    counts = [(key, f"{cheapest[key]:.3g}") for key in ("forwards", "backwards") if cheapest.get(key)]
    passes = " and ".join(f"{count} pass{'' if count == '1' else 'es'} {key}" for key, count in counts)
    return f"{title_of(cheapest['method'])}: {1000 * cheapest['seconds']:.3g} ms for a picture, {passes or 'no pass'}."
