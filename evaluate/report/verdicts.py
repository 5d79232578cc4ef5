"""The answers that the page begins with, and the section with a line for each method and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from ..results.checks import verdict_words
from ..results.verdict_rules import EVIDENCE, ORDER, SHORTCUT, rules_of
from ..results.verdict_words import QUESTIONS, QuestionAnswer, answer_all, by_word, names_of
from ..results.verdicts import verdicts
from .boards import boards_of
from .numbers import DASH, between, brief, count_of, number
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView

COLUMNS = {EVIDENCE: "finds the evidence", ORDER: "orders pixels as the model", SHORTCUT: "shows the shortcut"}
RULES = (
    (
        "trust",
        "Its lower bound of skill is above 0 in both questions; in one at least it is the best, or not told from the "
        "best; it passes the sanity check; and a planted shortcut, if the models go by one, shows on its maps.",
    ),
    ("caution", "It is shown to be better than the best control in one question at least, but something is missing."),
    (
        "avoid",
        "Its maps hardly change when the network is random; or they miss a planted shortcut; or its upper bound of "
        "skill is at or below 0 in a question, and it is not shown to be better than the best control in any.",
    ),
    (
        "unknown",
        "Too few rows, no control to compare with, no truth that the question could be asked of, not run on all "
        "models; or its interval of skill holds 0 in every question.",
    ),
)
"""The rules of the verdicts in words, as the page explains them."""


class LinkedText(NamedTuple):
    """A text of the table of verdicts that leads to its evidence, and the metric that is to be shown there."""

    text: str
    target: str = ""
    metric: str = ""


class VerdictLine(NamedTuple):
    """The line of one method: its verdict and why, then what that rests on."""

    key: str  # where links lead
    method: str
    equal: Sequence[str]
    control: bool
    word: str
    reason: str
    fields: Sequence[LinkedText]


class VerdictView:
    """What the page says of one architecture of one data set."""

    def __init__(self, study: StudyView, index: int, document: Mapping[str, Any]) -> None:
        self.study, self.document = study, document
        self.key = f"verdicts-{study.key}-{index}"
        self.questions = {entry["key"]: entry for entry in document["questions"]}
        boards = [board for board in boards_of(study) if [*board.document["architectures"]] == [self.architecture]]
        self.board = boards[0]

    @property
    def architecture(self) -> str:
        """The name of the architecture."""
        return str(self.document["architecture"])

    @property
    def models(self) -> str:
        """How many models of the architecture there are, in words."""
        return count_of(sum(self.board.document["architectures"].values()), "model")

    @cached_property
    def answers(self) -> list[QuestionAnswer]:
        """The answer to each question."""
        return answer_all(self.document, self.study.document)

    @property
    def groups(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The methods of each verdict that some method has: a name, and where its line is."""
        keys = {line.method: line.key for line in self.lines}
        names = names_of(self.document)
        groups = by_word(self.document).items()
        return [(word, [(names[text], keys[text]) for text in methods]) for word, methods in groups if methods]

    @property
    def columns(self) -> list[str]:
        """The headings of what a verdict rests on."""
        return [*(COLUMNS[key] for key in self.questions), "sanity", "ms for a picture"]

    @cached_property
    def lines(self) -> list[VerdictLine]:
        """A line for each method, the best verdicts first, and the controls below."""
        methods = [self._line(place, entry) for place, entry in enumerate(self.document["methods"])]
        controls = [{**entry, "equal": [], "verdict": "", "reason": ""} for entry in self.document["controls"]]
        return methods + [self._line(len(methods) + place, entry) for place, entry in enumerate(controls)]

    def _line(self, place: int, entry: Mapping[str, Any]) -> VerdictLine:
        text, word = entry["method"], entry["verdict"]
        fields = [
            *(self._standing(text, key) for key in self.questions),
            self._sanity(entry["sanity"]),
            self._cost(text),
        ]
        return VerdictLine(f"{self.key}-{place}", text, entry["equal"], not word, word, entry["reason"], fields)

    def _standing(self, text: str, key: str) -> LinkedText:
        """The skill of a method in a question with its interval, or the share of its maps on the shortcut."""
        metric = self.questions[key]["metric"]
        m = (self.board.document["metrics"].get(metric) or {}).get("results", {}).get(text) or {} if metric else {}
        names = ("mean", "low", "high") if key == SHORTCUT else ("skill", "skill_low", "skill_high")
        value, low, high = (m.get(name) for name in names)
        if value is None:
            return LinkedText(DASH)
        return LinkedText(f"{number(value, 2)} ({between(low, high, 2)})", f"board-{self.board.key}", metric)

    def _sanity(self, outcomes: Mapping[str, str]) -> LinkedText:
        if not outcomes:
            return LinkedText("not checked")
        words = verdict_words()
        by_outcome = {
            word: [words.get(t, t) for t, o in outcomes.items() if o == word] for word in ("fail", "undecided")
        }
        texts = [f"{word} ({', '.join(tests)})" for word, tests in by_outcome.items() if tests]
        return LinkedText("; ".join(texts) or "pass", "sanity")

    def _cost(self, text: str) -> LinkedText:
        method = self.study.by_text.get(text)
        seconds = (method.result.get("cost") or {}).get("seconds") if method else None
        return LinkedText(brief(None if seconds is None else 1000 * seconds))


def verdict_views(study: StudyView, plan: Mapping[str, Any]) -> list[VerdictView]:
    """The verdicts on each architecture of a data set; made now for a summary of a time when there were none."""
    documents = study.document.get("verdicts")
    if documents is None:
        documents = verdicts(study.document, rules_of(plan))
    return [VerdictView(study, index, document) for index, document in enumerate(documents)]


@add_section
def show_verdicts(studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder) -> PageSection | None:
    """A line for each method with its verdict, the rule that gave it, and what it rests on; None without verdicts."""
    by_study = [(study, views) for study in studies if (views := verdict_views(study, summary["plan"]))]
    if not by_study:
        return None
    content = {"by_study": by_study, "rules": RULES, "limits": rules_of(summary["plan"])}
    return PageSection("methods", "A verdict on each method", content, "verdicts", leads=True)


EVIDENCE_OF = {
    "truth": "certificates",
    EVIDENCE: "leaderboard",
    ORDER: "leaderboard",
    "fail": "methods",
    "insane": "sanity",
    SHORTCUT: "methods",
    "anew": "leaderboard",
    "cost": "cost",
}
"""The section of the page that holds the evidence for the answer to each question."""


def linked_questions(sections: Sequence[PageSection]) -> list[tuple[str, str, str]]:
    """Each question that the page begins with: its key, its words, and the section that holds the evidence."""
    there = {section.key for section in sections}
    return [
        (key, words, EVIDENCE_OF[key] if EVIDENCE_OF[key] in there else "methods") for key, words in QUESTIONS.items()
    ]
