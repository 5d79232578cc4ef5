"""Which metric may be believed, in sentences and tables: what the terminal, the page and the manual say of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .metric_agreement import QUESTIONS
from .metric_tests import ADVERSARIES
from .wording import number

Rows = list[list[str]]
AGREES, UNDECIDED, DISAGREES = "agrees", "cannot be told", "disagrees"
AGREEMENT_COLUMNS = ("metric", "tau", "without controls", "tau by row", "rho by row")
WRONG_PIXELS = ("shifted", "inverted", "edges", "other_class")
"""The adversaries that show other pixels than the evidence; the others show it too large, too small or blurred."""
TEST_COLUMNS = ("metric", "in order", "lost at", "takes for the truth", "prefers to the truth")


def outcome_of_pair(pair: Mapping[str, Any]) -> str | None:
    """Whether a metric agrees with a truth, by the interval of tau: above 0, below 0, or neither; None without a tau.

    >>> outcome_of_pair({"tau": {"mean": 0.5, "low": 0.1, "high": 0.8}})
    'agrees'
    """
    tau = pair["tau"]
    if tau["mean"] is None:
        return None
    if tau["low"] is None:
        return UNDECIDED
    return AGREES if tau["low"] > 0 else DISAGREES if tau["high"] < 0 else UNDECIDED


def pairs_of(entry: Mapping[str, Any], truth: str) -> list[Mapping[str, Any]]:
    """The pairs of an architecture's agreement with one truth."""
    return [pair for pair in entry["pairs"] if pair["truth"] == truth]


def agreement_rows(entry: Mapping[str, Any], truth: str) -> Rows:
    """The rows of the table of AGREEMENT_COLUMNS for one truth: the proxies, then the other truths."""
    return [
        [
            pair["metric"],
            with_span(pair["tau"]),
            with_span(pair["tau_without_controls"]),
            number(pair["row_tau"]["mean"]),
            number(pair["row_spearman"]["mean"]),
        ]
        for pair in pairs_of(entry, truth)
    ]


def wide_rows(entry: Mapping[str, Any]) -> Rows:
    """The rows of a table with a column for each truth: the metric, then tau with its interval."""
    truths = [truth["metric"] for truth in entry["truths"]]
    taus = {(pair["metric"], pair["truth"]): with_span(pair["tau"]) for pair in entry["pairs"]}
    return [[metric, *(taus.get((metric, truth), "") for truth in truths)] for metric in (*entry["proxies"], *truths)]


def known_map_rows(entry: Mapping[str, Any]) -> Rows:
    """The rows of the table of TEST_COLUMNS, one for each metric."""
    return [
        [
            metric,
            with_span(test["in_order"]),
            _percent(test["lost_at"]),
            _adversaries(test, "not told"),
            _adversaries(test, "preferred"),
        ]
        for metric, test in entry["metrics"].items()
    ]


def agreement_sentences(entry: Mapping[str, Any]) -> Iterator[str]:
    """What may be said of the proxies of one architecture, in sentences, or why nothing can be said."""
    if not entry["pairs"]:
        yield f"{entry['architecture']}: {entry.get('reason', 'nothing was compared')}."
        return
    outcomes = {proxy: outcome_of_proxy(entry, proxy) for proxy in entry["proxies"]}
    for outcome, words in WORDS.items():
        names = [name for name, value in outcomes.items() if value == outcome]
        if names:
            yield f"{words}: {', '.join(names)}."


def outcome_of_proxy(entry: Mapping[str, Any], proxy: str) -> str:
    """Whether a proxy agrees with every truth, disagrees with one at least, or neither."""
    outcomes = {outcome_of_pair(pair) for pair in entry["pairs"] if pair["metric"] == proxy}
    if outcomes == {AGREES}:
        return AGREES
    return DISAGREES if DISAGREES in outcomes else UNDECIDED


WORDS = {
    AGREES: "Ordering methods as every truth does, in part at least (the interval of tau lies above 0)",
    UNDECIDED: "Not told from chance by one truth at least (the interval reaches 0)",
    DISAGREES: "Ordering methods the other way round by one truth at least (the interval lies below 0)",
}
"""What is said of proxies by their outcome."""


def truth_sentence(entry: Mapping[str, Any]) -> str:
    """The metrics that stand for the truth, each with its question; metrics with one question stand together."""
    by_question: dict[str, list[str]] = {}
    for truth in entry["truths"]:
        by_question.setdefault(truth["question"], []).append(truth["metric"])
    truths = [f"{' and '.join(names)} ({QUESTIONS[question]})" for question, names in by_question.items()]
    return f"Truths: {'; '.join(truths)}."


def misled_sentence(entry: Mapping[str, Any]) -> str:
    """The metrics that take a map of other pixels than the evidence for the truth, or prefer it, each with these maps.

    Empty if there is none.
    """
    misled = {
        metric: [name for name in WRONG_PIXELS if test["adversaries"][name]["outcome"] in ("not told", "preferred")]
        for metric, test in entry["metrics"].items()
    }
    named = [f"{metric} ({', '.join(names)})" for metric, names in misled.items() if names]
    return f"Taking maps of other pixels for the truth, or preferring them: {'; '.join(named)}." if named else ""


def about_words(entry: Mapping[str, Any]) -> str:
    """The scope of the numbers of one architecture, in words."""
    left_out = "".join(f" {out['model']} is left out: {out['reason']}." for out in entry["left_out"])
    methods = f"{len(entry['methods'])} methods, " if entry.get("methods") else ""
    models = ", ".join(entry["models"]) or "none"
    return f"{entry['scope'].capitalize()} ({models}), {methods}{entry['rows']} rows.{left_out}"


def anew_sentence(entry: Mapping[str, Any]) -> str:
    """What can be said of models trained anew, in a sentence; empty if there is nothing to be said of any."""
    anew = entry.get("trained_anew")
    if anew is None:
        return ""
    if anew["models"] < anew["least"]:
        return (
            f"Of models trained anew nothing can be said: that takes {anew['least']} certified models, "
            f"and there {'is' if anew['models'] == 1 else 'are'} {anew['models']}."
        )
    lowest = {
        proxy: [(pair["trained_anew"] or {}).get("low") for pair in entry["pairs"] if pair["metric"] == proxy]
        for proxy in entry["proxies"]
    }
    sure = [proxy for proxy, ends in lowest.items() if all(low is not None and low > 0 for low in ends)]
    return f"For models trained anew, the interval of tau lies above 0 by every truth for: {', '.join(sure) or 'none'}."


def with_span(share: Mapping[str, Any]) -> str:
    """A mean with its interval in brackets.

    >>> with_span({"mean": 0.5, "low": 0.25, "high": 0.75}), with_span({"mean": None, "low": None, "high": None})
    ('0.50 (0.25 to 0.75)', '-')
    """
    return number(share["mean"]) + (f" ({span_words(share)})" if share["low"] is not None else "")


def span_words(share: Mapping[str, Any]) -> str:
    """The ends of an interval in words; a dash if it has none."""
    return "-" if share["low"] is None else f"{number(share['low'])} to {number(share['high'])}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%} noise"


def _adversaries(test: Mapping[str, Any], outcome: str) -> str:
    """The adversaries of a metric with an outcome."""
    names = [name for name, entry in test["adversaries"].items() if entry["outcome"] == outcome]
    return ", ".join(names) or "none"


def describe_adversaries() -> Sequence[tuple[str, str]]:
    """Each adversary with what it is."""
    return list(ADVERSARIES.items())
