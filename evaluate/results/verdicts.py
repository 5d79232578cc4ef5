"""The verdict on each method and architecture of a data set, from what the summary says of it. No torch in here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .anew_outlook import look_ahead
from .decisions import WITHOUT_VERDICT, name_of
from .sanity_outcomes import outcome_shown
from .verdict_rules import (
    ABOVE,
    AMONG_BEST,
    BELOW,
    BEST,
    BETTER_BUT,
    EVIDENCE,
    NONE,
    OPEN,
    ORDER,
    PARTIAL,
    SANITY_OPEN,
    SHORTCUT,
    UNKNOWN,
    WORDS,
    Candidate,
    QuestionStanding,
    VerdictRules,
    judge,
    reason_of,
    stand,
)
from .wording import high_of, low_of, reliance

LOCALISATION = "localisation"  # the family of metrics that ask whether a map finds the designed evidence
CONTROLS = "baselines"  # the family of methods that explain nothing, and get no verdict
PART_MASS = "part_mass:part="  # the metric that says how much of a map lies on a part
TRUTHS: Mapping[str, Sequence[str]] = {EVIDENCE: ("yes",), ORDER: ("yes", "part", "none")}
"""What the weakest certificate has to say for a question to be asked: pixels that lead a model which goes by something
else are not those that a counterfactual changes."""
WEAKEST = ("no", "unknown", "part", "yes")  # what certificates say, the weakest first


def verdicts(study: Mapping[str, Any], rules: VerdictRules | None = None) -> list[dict[str, Any]]:
    """The verdicts on each architecture of one data set, ready for JSON; none in documents without boards."""
    boards = (study.get("scores") or {}).get("boards") or ()
    single = [board for board in boards if len(board["architectures"]) == 1]
    return [ArchitectureVerdicts(study, board, rules or VerdictRules()).to_document() for board in single]


class ArchitectureVerdicts:
    """The verdicts on all methods of one board, whose models have one architecture."""

    def __init__(self, study: Mapping[str, Any], board: Mapping[str, Any], rules: VerdictRules) -> None:
        self.study, self.board, self.rules = study, board, rules
        self.scores = study["scores"]
        self.models: list[str] = list(board.get("models") or ())
        self.texts = [entry["text"] for entry in board["methods"]]
        self.results = {result["text"]: result for result in self.scores["results"]}
        self.controls = [text for text in self.texts if self.results[text].get("family") == CONTROLS]
        self.methods = [text for text in self.texts if text not in self.controls]
        self.certificates = [c for c in study.get("certificates") or () if c["model"] in self.models]
        self.truth = weakest_truth(self.certificates, len(self.models))
        self.metrics = self._metrics()

    def to_document(self) -> dict[str, Any]:
        """Everything that the first screen of the page says of one architecture, ready for JSON."""
        standings = {question: self._standings(question) for question in self.metrics}
        best = self._best_group(standings)
        methods = [self._verdict(text, standings) for text in self.methods]
        return {
            "architecture": next(iter(self.board["architectures"])),
            "models": self.models,
            "truth": self.truth,
            "shortcut": self.shortcut,
            "questions": [self._question(key, standings[key]) for key in self.metrics],
            "methods": sorted([*methods, *self._partial()], key=best_first),
            "controls": [{"method": text, "sanity": self._sanity(text)} for text in self.controls],
            "skipped": self._list_skipped(),
            "cheapest": self._cheapest(first_to_use(methods) or best),
            "anew": self._anew(),
        }

    # ---- The questions, and how each method stands in them

    @property
    def shortcut(self) -> str | None:
        """Whether the models go by a planted shortcut: yes, no or unknown; None where none was planted."""
        decisions = [certificate.get("shortcut") for certificate in self.certificates]
        if not decisions or not all(decisions):
            return None
        shares = [decision["by_shortcut"] for decision in decisions if decision]
        if min(map(low_of, shares)) >= self.rules.shortcut:
            return "yes"
        return "no" if max(map(high_of, shares)) < self.rules.shortcut else "unknown"

    def _metrics(self) -> dict[str, str | None]:
        """The metric that answers each question; None if none of them was scored."""
        families, scored = self.scores.get("families") or {}, self.board["metrics"]
        leading = [name for name in self.scores.get("leading") or () if name in scored]
        local = [name for name in leading if families.get(name) == LOCALISATION]
        other = [name for name in leading if families.get(name) != LOCALISATION]
        metrics = {EVIDENCE: next(iter(local), None), ORDER: next(iter(other), None)}
        if self.shortcut == "yes":
            metrics[SHORTCUT] = next((f"{PART_MASS}{part}" for part in self._parts() if self._has(part)), None)
        return metrics

    def _parts(self) -> list[str]:
        """The parts that carry the planted shortcut."""
        factors = [certificate["shortcut"]["factor"] for certificate in self.certificates]
        return list(dict.fromkeys(factor.partition(".")[0] for factor in factors))

    def _has(self, part: str) -> bool:
        return f"{PART_MASS}{part}" in self.board["metrics"]

    def _standings(self, question: str) -> dict[str, QuestionStanding]:
        """How each method stands in a question, those that are told from the first one of them marked as above."""
        metric = self.metrics[question]
        if metric is None:
            return {text: QuestionStanding(NONE, reason=NOT_ASKED[question]) for text in self.methods}
        if question == SHORTCUT and self.scores.get("target") != "predicted":
            return {text: QuestionStanding(NONE, reason=OF_LABEL) for text in self.methods}
        if question == SHORTCUT:
            return {text: self._shows(text, metric) for text in self.methods}
        if self.truth not in TRUTHS[question]:
            return {text: QuestionStanding(NONE, reason=WHY_NO_TRUTH[self.truth]) for text in self.methods}
        plain = {text: self._skill(text, metric) for text in self.methods}
        known = [text for text in plain if plain[text].value is not None]
        first = max(known, key=lambda text: plain[text].value or 0.0, default=None)
        return {text: self._mark_best(metric, text, first, standing) for text, standing in plain.items()}

    def _skill(self, text: str, metric: str) -> QuestionStanding:
        numbers = self._numbers(text, metric)
        value, low, high = (numbers.get(key) for key in ("skill", "skill_low", "skill_high"))
        if value is None or low is None or high is None:
            return QuestionStanding(NONE, reason=str(numbers.get("skill_reason") or "it has no interval on these rows"))
        return stand(value, low, high, self.rules.skill, int(numbers["n"]))

    def _mark_best(self, metric: str, text: str, first: str | None, standing: QuestionStanding) -> QuestionStanding:
        """The standing of a method, best instead of above if it is the first one or not told from it."""
        if standing.outcome != ABOVE or first is None:
            return standing
        is_best = text == first or self._is_tied(metric, first, text)
        return standing._replace(outcome=BEST) if is_best else standing

    def _shows(self, text: str, metric: str) -> QuestionStanding:
        """Whether more of a map lies on the shortcut than of the map of every control: the worst pair decides."""
        pairs = [pair for control in self.controls if (pair := self._difference(metric, text, control))]
        if not pairs:
            return QuestionStanding(NONE, reason="no control was scored beside it")
        value, low, high = (min(ends) for ends in zip(*pairs, strict=True))
        return stand(value, low, high, 0.0, int(self._numbers(text, metric)["n"]))

    def _difference(self, metric: str, first: str, second: str) -> tuple[float, float, float] | None:
        """How much more the first method has of a metric than the second, with its interval; None if not compared."""
        for pair in self.board["metrics"][metric].get("pairs") or ():
            if {pair["a"], pair["b"]} == {first, second} and pair.get("low") is not None:
                ends = (pair["difference"], pair["low"], pair["high"])
                return ends if pair["a"] == first else (-ends[0], -ends[2], -ends[1])
        return None

    def _is_tied(self, metric: str, first: str, second: str) -> bool:
        """Whether two methods were compared by a metric, and cannot be told apart."""
        pairs = self.board["metrics"][metric].get("pairs") or ()
        return any({p["a"], p["b"]} == {first, second} and p.get("compared", True) and not p["apart"] for p in pairs)

    def _numbers(self, text: str, metric: str) -> Mapping[str, Any]:
        numbers: Mapping[str, Any] = self.board["metrics"][metric]["results"].get(text) or {}
        return numbers

    def _question(self, key: str, standings: Mapping[str, QuestionStanding]) -> dict[str, Any]:
        """What a question is about: its metric, the control to beat, and the methods by their standing, best first."""
        metric = self.metrics[key]
        ordered = sorted(standings, key=lambda text: -(standings[text].value or 0.0))
        groups = {
            outcome: [text for text in ordered if standings[text].outcome == outcome]
            for outcome in (BEST, ABOVE, OPEN, BELOW, NONE)
        }
        controls = (self._numbers(text, metric).get("skill_control") for text in self.methods) if metric else ()
        reasons = [standing.reason for standing in standings.values() if standing.reason]
        reason = reasons[0] if groups[NONE] and len(groups[NONE]) == len(standings) else ""
        control = next(filter(None, controls), None) if key != SHORTCUT else None
        return {"key": key, "metric": metric, "control": control, "reason": reason, **groups}

    def _best_group(self, standings: Mapping[str, Mapping[str, QuestionStanding]]) -> list[str]:
        """The methods that are in the best group of the first question that has one."""
        for by_text in standings.values():
            if best := [text for text, standing in by_text.items() if standing.outcome == BEST]:
                return best
        return []

    # ---- The methods

    def _verdict(self, text: str, standings: Mapping[str, Mapping[str, QuestionStanding]]) -> dict[str, Any]:
        candidate = Candidate(
            {question: by_text[text] for question, by_text in standings.items()},
            self._sanity(text),
            max((int(self._numbers(text, metric).get("n") or 0) for metric in self.board["metrics"]), default=0),
            self._silent(text),
            self.truth,
        )
        word, rule = judge(candidate, self.rules)
        equal = next(entry["equal"] for entry in self.board["methods"] if entry["text"] == text)
        return {
            "method": text,
            "equal": list(equal),
            "verdict": word,
            "rule": rule,
            "reason": reason_of(word, rule, candidate, self.rules),
            "standings": {key: asdict_of(standing) for key, standing in candidate.standings.items()},
            "sanity": dict(candidate.sanity),
        }

    def _partial(self) -> Iterator[dict[str, Any]]:
        """The methods that ran on some of the models alone, or failed: nothing is known of them."""
        failed = {entry["method"]: entry["reason"] for entry in self.scores.get("failed") or () if self._is_here(entry)}
        for text, count in self.board["missing"].items():
            if count or text in failed:
                reason = failed.get(text) or "the others cannot have it"
                words = f"it ran on {count} of {len(self.models)} models: {reason}"
                yield {
                    "method": text,
                    "equal": [],
                    "verdict": UNKNOWN,
                    "rule": PARTIAL,
                    "reason": words,
                    "standings": {},
                    "sanity": {},
                }

    def _list_skipped(self) -> list[dict[str, str]]:
        """The methods that these models cannot have, each once, with the reason."""
        reasons = {
            entry["method"]: entry["reason"] for entry in self.scores.get("skipped") or () if self._is_here(entry)
        }
        absent = [text for text in reasons if text not in self.texts and not self.board["missing"].get(text)]
        return [{"method": text, "reason": reasons[text]} for text in absent]

    def _is_here(self, entry: Mapping[str, Any]) -> bool:
        return entry.get("model") in self.models

    def _sanity(self, text: str) -> dict[str, str]:
        """The weakest outcome of each sanity test of a method over the models of the architecture."""
        outcomes: dict[str, list[str]] = {}
        for document in self.study.get("sanity") or ():
            if name_of(document["model"]) in self.models:
                for result in document["results"]:
                    if (result.get("text") or result["method"]) == text:
                        for test, verdict in result["verdicts"].items():
                            outcomes.setdefault(test, []).append(outcome_shown(verdict)[0])
        return {test: weakest_outcome(words) for test, words in outcomes.items() if test not in WITHOUT_VERDICT}

    def _silent(self, text: str) -> tuple[int, int] | None:
        """How many maps of a method say nothing, of how many, on the model and by the metric where they are most."""
        by_metric = [self._numbers(text, metric) for metric in self.board["metrics"]]
        counts = [(n, int(m["n"])) for m in by_metric for n in (m.get("gaps") or {}).values() if m.get("n")]
        return max(counts, default=None)

    # ---- What holds beside the verdicts

    def _cheapest(self, texts: Sequence[str]) -> dict[str, Any] | None:
        """What the cheapest of some methods costs for a picture; None without any."""
        costs = [(text, self.results[text].get("cost") or {}) for text in texts]
        timed = [(cost["seconds"], text, cost) for text, cost in costs if cost.get("seconds") is not None]
        if not timed:
            return None
        _, text, cost = min(timed, key=lambda entry: entry[0])
        return {"method": text, **{key: cost.get(key) for key in ("seconds", "forwards", "backwards")}}

    def _anew(self) -> dict[str, Any]:
        """What holds for models trained anew, by the metric of the first question that has one."""
        metric = next((name for name in self.metrics.values() if name), None)
        return look_ahead(self.board["metrics"][metric] if metric else {}, self.board["architectures"], self.methods)


def first_to_use(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """The trusted methods; if there are none, those that lack nothing but a passed sanity check."""
    by_rule = [[entry["method"] for entry in methods if entry["rule"] == rule] for rule in (AMONG_BEST, SANITY_OPEN)]
    return next(filter(None, by_rule), [])


def best_first(entry: Mapping[str, Any]) -> tuple[int, float]:
    """The key by which verdicts are sorted: by their words, then by rule, then by the mean skill over the questions."""
    rank = 2 * WORDS.index(entry["verdict"]) + (entry["rule"] == BETTER_BUT)
    values = [standing["value"] for standing in entry["standings"].values() if standing["value"] is not None]
    return rank, -sum(values) / len(values) if values else 0.0


NOT_ASKED = {
    EVIDENCE: "no leading metric of localisation was scored",
    ORDER: "no leading metric asks the model; score counterfactual_deletion as well",
    SHORTCUT: f"score {PART_MASS}PART of the part that carries it as well",
}
OF_LABEL = 'maps explain the label, against which the shortcut speaks; set target = "predicted"'
WHY_NO_TRUTH = {
    "part": "not every model relies on the designed evidence more than in part",
    "no": "not every model relies on the designed evidence",
    "unknown": "whether every model relies on the designed evidence cannot be told",
    "none": "not every model has a certificate",
}


def asdict_of(standing: QuestionStanding) -> dict[str, Any]:
    """A standing as a JSON document."""
    return dict(standing._asdict())


def weakest_truth(certificates: Sequence[Mapping[str, Any]], models: int) -> str:
    """What the weakest certificate of some models says: yes, part, unknown or no; none if a model has none."""
    if not certificates or len(certificates) < models:
        return "none"
    return min(map(reliance, certificates), key=WEAKEST.index)


def weakest_outcome(outcomes: Iterable[str]) -> str:
    """The outcome of a sanity test over several models: fail if one fails, pass if all pass, undecided otherwise.

    >>> weakest_outcome(["pass", "fail"]), weakest_outcome(["pass", "pass"]), weakest_outcome(["pass", "no verdict"])
    ('fail', 'pass', 'undecided')
    """
    words = set(outcomes)
    return "fail" if "fail" in words else "pass" if words == {"pass"} else "undecided"
