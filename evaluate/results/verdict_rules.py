"""The rules of verdicts: from how a method stands in each question to trust, caution, avoid or unknown. No torch.

Bounds of intervals decide, never means. Two questions have skill as their scale, where 0 is the best control that sees
no model: does the map find the designed evidence, and does it order pixels as the model does? A third is there where a
shortcut was planted and the models go by it: does the map show more of it than every control? Beside them stands what
the sanity checks say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, NamedTuple

from .checks import unnoticed_words
from .reliability import FEW_ROWS
from .statistics.power import rows_to_decide
from .wording import HALF

Word = Literal["trust", "caution", "avoid", "unknown"]
TRUST: Final = "trust"
CAUTION: Final = "caution"
AVOID: Final = "avoid"
UNKNOWN: Final = "unknown"
MOST_ROWS = 10_000  # nobody scores more to settle a question
WORDS: Final = (TRUST, CAUTION, AVOID, UNKNOWN)

AMONG_BEST: Final = "among the best"
SANITY_OPEN: Final = "among the best, sanity open"
BETTER_BUT: Final = "better than a control, but"
IGNORES: Final = "ignores the model"
MISSES: Final = "misses the shortcut"
NO_BETTER: Final = "no better than a control"
FEW: Final = "too few rows"
NO_TRUTH: Final = "no truth"
NO_COMPARISON: Final = "nothing to compare with"
NOT_TOLD: Final = "not told from a control"
PARTIAL: Final = "not on all models"
RULES: Final = (
    *(AMONG_BEST, SANITY_OPEN, BETTER_BUT, IGNORES, MISSES, NO_BETTER),
    *(FEW, NO_TRUTH, NO_COMPARISON, NOT_TOLD, PARTIAL),
)

EVIDENCE, ORDER, SHORTCUT = "evidence", "order", "shortcut"  # the questions
BEST, ABOVE, BELOW, OPEN, NONE = "best", "above", "below", "open", "none"  # the standings of a method in a question


@dataclass(frozen=True)
class VerdictRules:
    """The thresholds of verdicts; the plan's table `[verdict]` may set others."""

    skill: float = 0.0  # that a bound of skill has to exceed: 0 is the best control that sees no model
    best: int = 1  # in how many of the two questions trust takes a place among the best
    rows: int = FEW_ROWS  # with fewer, intervals are too narrow to decide
    silent: float = 0.05  # the share of maps that may say nothing
    shortcut: float = HALF  # from this share of the cases on, a model goes by a planted shortcut
    insane: tuple[str, ...] = ("model",)  # sanity tests of which one failure means avoid
    checked: bool = True  # whether trust takes a passed sanity check


class QuestionStanding(NamedTuple):
    """How a method stands in one question: best, above, below, open or none, and the numbers that say so."""

    outcome: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int | None = None  # about how many would decide what is open
    reason: str = ""  # why there is no standing


class Candidate(NamedTuple):
    """A method on one architecture, with all that its verdict is made of."""

    standings: Mapping[str, QuestionStanding]  # by question
    sanity: Mapping[str, str]  # the weakest outcome over the models, by test; empty if it was not checked
    rows: int  # that were scored
    silent: tuple[int, int] | None  # maps that say nothing, of how many, on the model where they are most
    truth: str  # what the weakest certificate says


def rules_of(plan: Mapping[str, Any]) -> VerdictRules:
    """The thresholds in the document of a plan; the defaults where it has none."""
    table = plan.get("verdict") or {}
    known: dict[str, Any] = {field.name: table[field.name] for field in fields(VerdictRules) if field.name in table}
    if "insane" in known:
        known["insane"] = tuple(known["insane"])
    return VerdictRules(**known)


def judge(candidate: Candidate, rules: VerdictRules) -> tuple[Word, str]:
    """The verdict on a method, and the key of the rule that gave it; the first rule that applies decides."""
    outcomes = {key: standing.outcome for key, standing in candidate.standings.items()}
    known = {outcome for outcome in outcomes.values() if outcome != NONE}
    if any(candidate.sanity.get(test) == "fail" for test in rules.insane):
        return AVOID, IGNORES
    if outcomes.get(SHORTCUT) == BELOW:
        return AVOID, MISSES
    if candidate.rows < rules.rows:
        return UNKNOWN, FEW
    if not known:
        return UNKNOWN, NO_COMPARISON if candidate.truth == "yes" else NO_TRUTH
    if not {BEST, ABOVE} & known:
        return (AVOID, NO_BETTER) if BELOW in known else (UNKNOWN, NOT_TOLD)
    doubts = list_doubts(candidate, rules)
    if not doubts:
        return TRUST, AMONG_BEST
    return CAUTION, SANITY_OPEN if doubts == list(_doubts_of_sanity(candidate, rules)) else BETTER_BUT


def list_doubts(candidate: Candidate, rules: VerdictRules) -> list[str]:
    """What keeps a method that is better than a control from being trusted, as clauses; the questions come first."""
    return [
        *_doubts_of_rank(candidate, rules),
        *_doubts_of_questions(candidate),
        *_doubts_of_maps(candidate, rules),
        *_doubts_of_sanity(candidate, rules),
    ]


def _doubts_of_rank(candidate: Candidate, rules: VerdictRules) -> Iterator[str]:
    """That others are better, if the method is among the best in too few questions."""
    outcomes = {key: candidate.standings[key].outcome for key in (EVIDENCE, ORDER)}
    behind = [key for key, outcome in outcomes.items() if outcome == ABOVE]
    if behind and list(outcomes.values()).count(BEST) < rules.best:
        yield "others are better at both" if len(behind) == 2 else f"others {OTHERS[behind[0]]} better"


def _doubts_of_questions(candidate: Candidate) -> Iterator[str]:
    for question, standing in candidate.standings.items():
        if clause := SHORT_OF[question].get(standing.outcome):
            yield f"{clause} (about {standing.rows} rows would tell)" if standing.rows else clause
    unknown: dict[str, list[str]] = {}
    for question, standing in candidate.standings.items():
        if standing.outcome == NONE:
            unknown.setdefault(standing.reason, []).append(GOOD[question])
    for reason, clauses in unknown.items():
        yield f"whether it {' and '.join(clauses)} is not known: {reason}"


GOOD = {
    EVIDENCE: "finds the evidence",
    ORDER: "orders pixels as the model does",
    SHORTCUT: "shows the planted shortcut",
}
"""What a standing above the controls means, by question."""
AT_BEST = {
    EVIDENCE: "is among the best at finding the evidence",
    ORDER: "is among the best at ordering pixels as the model does",
}
OTHERS = {EVIDENCE: "find the evidence", ORDER: "order pixels"}
SHORT_OF: Mapping[str, Mapping[str, str]] = {
    EVIDENCE: {
        BELOW: "finds the evidence no better than the best control",
        OPEN: "is not shown to find the evidence better than the best control",
    },
    ORDER: {
        BELOW: "orders pixels no better than the best control",
        OPEN: "is not shown to order pixels better than the best control",
    },
    SHORTCUT: {
        BELOW: "shows the planted shortcut no more than a control",
        OPEN: "is not shown to mark the planted shortcut more than every control",
    },
}
"""What a standing that is not above the controls means, by question."""


def _doubts_of_maps(candidate: Candidate, rules: VerdictRules) -> Iterator[str]:
    failed = [test for test, outcome in candidate.sanity.items() if outcome == "fail"]
    if failed:
        yield f"hardly notices {' and '.join(unnoticed_words().get(test, test) for test in failed)}"
    if candidate.silent and lowest_share(*candidate.silent) > rules.silent:
        yield "{} of its {} maps of a model say nothing".format(*candidate.silent)


def _doubts_of_sanity(candidate: Candidate, rules: VerdictRules) -> Iterator[str]:
    """That a sanity test which counts was not passed, and did not fail either."""
    passed = [test for test in rules.insane if candidate.sanity.get(test) == "pass"]
    if rules.checked and len(passed) < len(rules.insane):
        yield "its sanity check is undecided" if candidate.sanity else "its sanity was not checked"


def lowest_share(count: int, of: int) -> float:
    """The lower limit of the exact 95 % interval of a share.

    Source: Clopper, Pearson, Biometrika 26 (1934) 404-413.

    >>> lowest_share(0, 60), round(lowest_share(6, 60), 3)
    (0.0, 0.038)
    """
    from scipy.stats import beta  # here, as it takes a while to load

    return float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0


def stand(value: float, low: float, high: float, limit: float, n: int) -> QuestionStanding:
    """How an interval of skill stands to a limit: above, below or open, then with the rows that would decide.

    >>> stand(0.3, 0.1, 0.5, 0.0, 60).outcome, stand(-0.1, -0.2, 0.0, 0.0, 60).outcome
    ('above', 'below')
    """
    if low > limit:
        return QuestionStanding(ABOVE, value, low, high)
    if high <= limit:
        return QuestionStanding(BELOW, value, low, high)
    rows = rows_to_decide(value, value - low if value > limit else high - value, n, limit)
    return QuestionStanding(OPEN, value, low, high, rows if rows and rows <= MOST_ROWS else None)


def reason_of(word: Word, rule: str, candidate: Candidate, rules: VerdictRules) -> str:
    """Why a rule applies to a method, in words."""
    if rule == IGNORES:
        return "its maps hardly change when all layers of the network are random"
    if rule == MISSES:
        return SHORT_OF[SHORTCUT][BELOW]
    if rule == FEW:
        return f"{candidate.rows} rows were scored; a verdict takes {rules.rows}"
    if rule in (NO_COMPARISON, NO_TRUTH):
        return "; ".join(dict.fromkeys(s.reason for s in candidate.standings.values() if s.reason))
    words = {BEST: {**GOOD, **AT_BEST}, ABOVE: GOOD}
    good = [words[s.outcome][question] for question, s in candidate.standings.items() if s.outcome in words]
    doubts = list_doubts(candidate, rules) if word == CAUTION else list(_doubts_of_questions(candidate))
    return ", but ".join(filter(None, [" and ".join(good), "; ".join(doubts)]))
