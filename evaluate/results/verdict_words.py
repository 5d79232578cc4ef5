"""What the verdicts of an audit say in sentences: one answer for each question and architecture. No torch in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .mark_words import goes_by
from .method_names import short_titles, title_of
from .scopes import count_word
from .verdict_rules import (
    ABOVE,
    AVOID,
    BELOW,
    BEST,
    CAUTION,
    EVIDENCE,
    IGNORES,
    NONE,
    OPEN,
    ORDER,
    SANITY_OPEN,
    SHORTCUT,
    TRUST,
    UNKNOWN,
)
from .wording import join_names, low_of, reliance

MOST = 3  # names in a sentence of the first screen, before it says how many more there are
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
    names = names_of(verdict)
    sentences = {
        "truth": _truth(verdict, study),
        EVIDENCE: _best(questions[EVIDENCE], names),
        ORDER: _best(questions[ORDER], names),
        "fail": _fail(questions, names),
        "insane": _insane(verdict, names),
        SHORTCUT: _list_tellers(verdict, study, names) or _shortcut(verdict, questions.get(SHORTCUT), names),
        "anew": _anew(verdict["anew"]),
        "cost": _cost(verdict["cheapest"], names, has_several_architectures(study)),
    }
    return [QuestionAnswer(key, sentences[key]) for key in QUESTIONS]


Names = Mapping[str, str]
"""The names of methods for sentences, by their texts."""


def names_of(verdict: Mapping[str, Any]) -> Names:
    """The name of each method and control of an architecture, as short as it can be."""
    return short_titles([entry["method"] for entry in (*verdict["methods"], *verdict["controls"])])


def by_word(verdict: Mapping[str, Any]) -> dict[str, list[str]]:
    """The methods of each verdict, best first; a method stands for those whose maps are equal to its own.

    Those to be used with caution for want of a sanity check alone have a group of their own.
    """
    groups: dict[str, list[str]] = {word: [] for word in (TRUST, SANITY_MISSING, CAUTION, AVOID, UNKNOWN)}
    for entry in verdict["methods"]:
        groups[SANITY_MISSING if entry["rule"] == SANITY_OPEN else entry["verdict"]].append(entry["method"])
    return groups


SANITY_MISSING = "caution: sanity check open"


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
    goes = f" {_goes_by(certificates)}" if verdict["shortcut"] == "yes" else ""
    if len(certificates) == 1:
        return f"{known}: the model relies {split.partition(' ')[2]}.{goes}"
    count, _, rest = split.partition(" ")
    return f"{known}: of {len(certificates)} models, {count} {'relies' if count == '1' else 'rely'} {rest}.{goes}"


def _goes_by(certificates: Sequence[Mapping[str, Any]]) -> str:
    """That models go by a planted shortcut, with the lowest limit of the share that it decides."""
    decisions = [certificate["shortcut"] for certificate in certificates]
    lowest = min(low_of(decision["by_shortcut"]) for decision in decisions)
    return f"The planted shortcut, {decisions[0]['factor']}, decides {lowest:.0%} of the cases, or more."


def _models_rely(count: int) -> str:
    if count == 1:
        return "the model relies"
    return f"{'both' if count == 2 else f'all {count_word(count)}'} models rely"


def _join(texts: Sequence[str], names: Names) -> str:
    return join_names([names.get(text, title_of(text)) for text in texts], MOST)


def _best(question: Mapping[str, Any], names: Names) -> str:
    """Who is in the best group of a question, and who else is better than the best control."""
    if question["reason"]:
        return f"Not known: {question['reason']}."
    if not question[BEST]:
        control = question["control"]
        return f"None is shown to be better than the best control{f', {_join([control], names)}' if control else ''}."
    first, *others = question[BEST]
    tied = f"; not told from it: {_join(others, names)}" if others else ""
    behind = f" Behind, yet better than the best control: {_join(question[ABOVE], names)}." if question[ABOVE] else ""
    return f"{_join([first], names)}{tied}.{behind}"


def _fail(questions: Mapping[str, Mapping[str, Any]], names: Names) -> str:
    """Which methods are no better than the best control, by question."""
    known = {what: questions[key] for key, what in ((EVIDENCE, "Evidence"), (ORDER, "Order"))}
    sentences = [
        f"{what}: {_join(question[BELOW], names) or 'none'}."
        for what, question in known.items()
        if not question["reason"]
    ]
    return " ".join(sentences) or "Not known."


def _insane(verdict: Mapping[str, Any], names: Names) -> str:
    """Which methods fail model randomisation, how many pass, and whether the controls fail as they have to."""
    methods = verdict["methods"]
    failing = [entry["method"] for entry in methods if entry["rule"] == IGNORES]
    passed = sum(entry["sanity"].get("model") == "pass" for entry in methods)
    missing = sum(not entry["sanity"] for entry in methods)
    if missing == len(methods):
        return "Not checked."
    counts = {"pass": passed, "undecided": len(methods) - passed - missing - len(failing), "not checked": missing}
    rest = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{_join(failing, names) or 'None fails'}{f' ({rest})' if rest else ''}.{_controls_fail(verdict, names)}"


def _controls_fail(verdict: Mapping[str, Any], names: Names) -> str:
    """A sentence on the controls that fail, which shows that the check can find something; empty without any."""
    failing = [entry["method"] for entry in verdict["controls"] if entry["sanity"].get("model") == "fail"]
    if not failing:
        return ""
    if len(failing) == 1:
        return f" The control {_join(failing, names)} fails, as it has to."
    return f" The controls {_join(failing, names)} fail, as they have to."


def _list_tellers(verdict: Mapping[str, Any], study: Mapping[str, Any], names: Names) -> str:
    """Name the methods that would have told of a mark on photographs; empty where none was planted."""
    marks = [entry for entry in study.get("marks") or () if entry["model"] in verdict["models"]]
    if verdict["shortcut"] is not None or not marks:
        return ""
    used = [{m["method"]: m["outcome"] for m in entry["methods"]} for entry in marks if goes_by(entry) == "mark"]
    if not used:
        return "One was planted, and no model is shown to go by it."
    groups: dict[str, list[str]] = {word: [] for word in ("yes", "no", "always", "open")}
    for method in [entry["method"] for entry in verdict["methods"]]:
        outcomes = {of_model.get(method, "open") for of_model in used}
        groups[outcomes.pop() if len(outcomes) == 1 else "open"].append(method)
    words = {"no": "Missed by", "always": "Shown whether it is used or not by", "open": "Open"}
    rest = [f" {start}: {_join(groups[word], names)}." for word, start in words.items() if groups[word]]
    return f"{_join(groups['yes'], names) or 'None is shown to'}.{''.join(rest)}"


def _shortcut(verdict: Mapping[str, Any], question: Mapping[str, Any] | None, names: Names) -> str:
    """Which methods show a planted shortcut that the models go by."""
    if verdict["shortcut"] is None:
        return "None was planted in these data."
    if verdict["shortcut"] == "no":
        return "One was planted, and the models do not go by it."
    if verdict["shortcut"] == "unknown" or question is None:
        return "One was planted; whether all models go by it cannot be told."
    if question["reason"]:
        return f"Not known: {question['reason']}."
    shown = _join([*question[BEST], *question[ABOVE]], names) or "None shows it"
    words = {BELOW: "Missed by", OPEN: "Open", NONE: "Not known"}
    rest = [f" {start}: {_join(question[key], names)}." for key, start in words.items() if question[key]]
    return f"{shown}.{''.join(rest)}"


def _anew(anew: Mapping[str, Any]) -> str:
    """What these models say already that holds for others, and how many seeds would settle the rest."""
    if anew["seeds"] < anew["least"]:
        have = "there is one" if anew["seeds"] == 1 else f"there are {count_word(anew['seeds'])}"
        return f"Nothing can be said: that takes {count_word(anew['least'])} seeds of an architecture; {have}."
    if not anew["pairs"]:
        return "Nothing: these models tell no two methods apart."
    if anew["hold"] == anew["pairs"]:
        return f"All {anew['pairs']} differences between methods hold."
    return f"{anew['hold']} of the {anew['pairs']} differences between methods hold. {_settle(anew)}"


def _settle(anew: Mapping[str, Any]) -> str:
    """How many seeds would settle the differences that do not hold yet."""
    if not anew["needed"]:
        return "The others take more rows, whatever the number of seeds."
    rest = f" but {anew['beyond']}, which take more rows" if anew["beyond"] else ""
    return f"About {anew['needed']} seeds would settle the others{rest}."


def has_several_architectures(study: Mapping[str, Any]) -> bool:
    """Whether the models of a data set have several architectures, over which costs are means."""
    return len({model["arch"] for model in study["scores"].get("models") or ()}) > 1


def _cost(cheapest: Mapping[str, Any] | None, names: Names, is_mean: bool) -> str:
    if cheapest is None:
        return "No method is among the best."
    counts = [(key, f"{cheapest[key]:.3g}") for key in ("forwards", "backwards") if cheapest.get(key)]
    passes = " and ".join(f"{count} pass{'' if count == '1' else 'es'} {key}" for key, count in counts)
    name = _join([cheapest["method"]], names)
    over = " (mean over all networks)" if is_mean else ""
    return f"{name}: {1000 * cheapest['seconds']:.3g} ms for a picture, {passes or 'no pass'}{over}."
