"""Tuning: the values of a method's parameters that score best against the truth on validation rows.

The rows of the test split are read only when the search is over, to say what it gained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from an8flower.errors import Refusal, WrongUsage
from an8flower.store import FlowerStore

from ..explaining.methods import Method, parse_method
from ..explaining.search import SearchTrial, choose_best, is_grid, search
from ..explaining.search_space import Tunable, Values, find_tunable
from ..metrics.naming import expand
from ..models.sources import Source
from ..resources import Resources
from ..results.files import without_nan
from ..results.folder import RunFolder
from ..results.ledger import Ledger, Work
from ..results.tuned import SPLIT, calibrated_score, gain, with_best
from .judge import Target, TruthKind
from .run import Scoring, ScoringPlan

Progress = Callable[[int, int], None]
Settle = Callable[[Scoring, Ledger, Sequence[Method]], None]
"""Does the cells of some methods, and of chance and the truth, that are not done."""


@dataclass(frozen=True)
class TuningPlan:
    """What a search is about: everything in here may change what is chosen, and nothing else does."""

    data: Path
    models: tuple[str | Source, ...]  # the score is the mean over them
    method: str | Method  # parameters that its text sets stay as they are
    metric: str = "iou_area"
    trials: int = 20  # combinations of values, the user's own among them
    parameters: tuple[str, ...] = ()  # that are tuned; all that have a range where empty
    rows: int | None = None  # of the validation split, spread evenly over the classes; all where None or too many
    target: Target = "label"
    truth: TruthKind = "association"
    seed: int = 0

    def scoring(self, split: str, methods: tuple[Method, ...] = (), rows: int | None = None) -> ScoringPlan:
        """The plan that scores methods on a split by the metric of the search, on all its rows if there are fewer."""
        store = FlowerStore(self.data)
        if rows is not None and split in store.splits and rows >= len(store[split]):
            rows = None
        return ScoringPlan(
            data=self.data,
            models=self.models,
            methods=methods,
            metrics=(self.metric,),
            split=split,
            rows=rows,
            target=self.target,
            truth=self.truth,
            seed=self.seed,
        )


class TuningOutcome(NamedTuple):
    """What a search chose, and all that it tried."""

    method: Method  # with the chosen values
    document: dict[str, Any]


class Tuning:
    """A search that is open: the validation rows, the networks, and the values among which it chooses.

    Raises:
        WrongUsage: the metric is several, there are fewer than 2 trials, or a parameter cannot be tuned.
        Refusal: as `Scoring` does.
        NotApplicable: the method leaves no choice on these networks.
    """

    def __init__(
        self,
        plan: TuningPlan,
        resources: Resources,
        folder: Path,
        settle: Settle,
        scoring: Scoring | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        if len(names := expand(plan.metric)) != 1:
            raise WrongUsage(f"{plan.metric} stands for {len(names)} metrics; tune by one of them")
        if plan.trials < 2:
            raise WrongUsage(f"trials is {plan.trials}; expected at least 2, the method as it is and another one")
        self.plan, self._settle = plan, settle
        self.scoring = scoring or Scoring(plan.scoring(SPLIT, rows=plan.rows), resources, folder)
        (self.metric,) = self.scoring.judge.metrics
        method = parse_method(plan.method) if isinstance(plan.method, str) else plan.method
        classifiers = [model.classifier for model in self.scoring.models]
        self.tunable: Tunable = find_tunable(method, classifiers, plan.parameters)
        self.ledger = ledger or Ledger(RunFolder(folder))
        self.entries: dict[str, dict[str, Any]] = {}  # what came of each method, by its text

    def run(self, progress: Progress = lambda done, total: None) -> TuningOutcome:
        """Search, and choose the values with the best score; raises Refusal if no values have one.

        Args:
            progress: is told how many trials are through, of how many.
        """
        total, through = int(min(self.tunable.count, self.plan.trials)), 0

        def measure(combinations: Sequence[Values]) -> list[float | None]:
            nonlocal through
            scores = self._measure(combinations)
            through += len(scores)
            progress(through, max(total, through))
            return scores

        trials = search(self.tunable, self.plan.trials, self.plan.seed, measure)
        best = choose_best(trials)
        if best is None:
            reason = self.entries[self.tunable.method.text]["reason"]
            raise Refusal(f"{self.tunable.method.text}: no trial has a score; the first: {reason}")
        return TuningOutcome(self.tunable.with_values(best.values), self._document(trials, best))

    def _measure(self, combinations: Sequence[Values]) -> list[float | None]:
        """The calibrated scores of combinations of values; what was measured before is not measured again."""
        methods = [self.tunable.with_values(values) for values in combinations]
        new = [method for method in {method.text: method for method in methods}.values() if self._is_new(method)]
        self._settle(self.scoring, self.ledger, new)
        self.entries |= {method.text: self._score(method) for method in new}
        return [self.entries[method.text]["calibrated"] for method in methods]

    def _is_new(self, method: Method) -> bool:
        return method.text not in self.entries

    def _score(self, method: Method) -> dict[str, Any]:
        """The score of a method whose cells are settled, or the reason why it has none."""
        names = [cell.name for cell, _ in works_of(self.scoring, [method])]
        if missing := set(names) - set(self.ledger.filed):
            reason = self._reason_for(method) or f"{len(missing)} cells are missing"
            return {"calibrated": None, "low": None, "high": None, "n": 0, "reason": reason}
        table, kind = self.ledger.run.table(names), self.metric.kind
        entry = calibrated_score(table, self.metric.name, kind, repr(method.explainer), self.plan.seed)
        return {**entry, "reason": None if entry["calibrated"] is not None else self._why_undefined(method)}

    def _reason_for(self, method: Method) -> str:
        """Why a method was skipped, or failed; empty if neither."""
        entries = [*self.ledger.failures, *self.ledger.skipped]
        return next((entry["reason"] for entry in entries if entry["method"] in (method.text, "chance and truth")), "")

    def _why_undefined(self, method: Method) -> str:
        return self._reason_for(method) or f"{self.metric.name} is undefined, or chance and the truth score the same"

    def _document(self, trials: Sequence[SearchTrial], best: SearchTrial) -> dict[str, Any]:
        """What was searched, every trial, and what was chosen, ready for JSON."""
        scoring, plan, chosen = self.scoring, self.plan, self.tunable.with_values(best.values)
        shown = [self._describe(trial) for trial in trials]
        models = [{"arch": m.classifier.variant, "seed": m.classifier.seed, "digest": m.digest} for m in scoring.models]
        document = {
            "dataset": {"name": scoring.store.name, "digest": scoring.store.digest},
            "models": models,
            "method": self.tunable.method.name,
            "text": self.tunable.method.text,
            "metric": self.metric.name,
            "target": plan.target,
            "seed": plan.seed,
            "search": {
                "by": "grid" if is_grid(self.tunable, plan.trials) else "tpe",
                "split": SPLIT,
                "rows": len(scoring.chosen),
                "space": {name: values.describe() for name, values in self.tunable.space.items()},
            },
            "trials": [{"number": number, **trial} for number, trial in enumerate(with_best(shown))],
            "chosen": {"text": chosen.text, "values": best.values, **self.entries[chosen.text]},
        }
        return dict(without_nan(document))

    def _describe(self, trial: SearchTrial) -> dict[str, Any]:
        text = self.tunable.with_values(trial.values).text
        return {"text": text, "values": trial.values, **self.entries[text]}


def works_of(scoring: Scoring, methods: Sequence[Method]) -> list[Work]:
    """The cells that scores of methods rest on: chance, the truth, and the methods' own."""
    works = list(scoring.references())
    for model in scoring.models:
        works += [work for work in model.cells(()) if work[0].about["method"] == "chance and truth"]
        works += [work for method in methods for work in model.cells((method,)) if work[0].explains]
    return works


def settle_here(scoring: Scoring, ledger: Ledger, methods: Sequence[Method]) -> None:
    """Do every cell that is not done, one after the other in this process."""
    for cell, make in works_of(scoring, methods):
        if cell.name not in ledger.filed:
            ledger.settle(cell, make)


def tune(
    plan: TuningPlan,
    resources: Resources,
    folder: Path,
    progress: Progress = lambda done, total: None,
    *,
    test_rows: int | None = None,
    warn: Callable[[str], None] = lambda sentence: None,
) -> TuningOutcome:
    """Search on validation rows, and then say what the chosen values gain on test rows.

    Args:
        folder: where cells are filed; those that lie there are not computed again.
        test_rows: how many rows of the test split the gain is measured on; all where None.
        warn: is told which model is at chance or far below what its file states.
    """
    tuning = Tuning(plan, resources, folder, settle_here)
    tuning.scoring.refuse_damaged()
    tuning.scoring.check_accuracy(warn)
    outcome = tuning.run(progress)
    test = measure_gain(plan, tuning.tunable.method, outcome.method, resources, folder, test_rows)
    return outcome._replace(document={**outcome.document, "test": test})


def measure_gain(
    plan: TuningPlan, untuned: Method, tuned: Method, resources: Resources, folder: Path, rows: int | None
) -> dict[str, Any]:
    """What a tuned method scores on test rows, and gains there over the method as the user named it."""
    wanted = plan.scoring("test", tuple({method.text: method for method in (untuned, tuned)}.values()), rows)
    opened = Scoring(wanted, resources, folder)
    opened.refuse_damaged()
    ledger = Ledger(RunFolder(folder))
    settle_here(opened, ledger, opened.methods)
    if failed := [*ledger.failures, *ledger.skipped]:
        raise Refusal(f"{failed[0]['method']} on test rows: {failed[0]['reason']}")
    (metric,) = opened.judge.metrics
    table = ledger.run.table(ledger.filed)
    scores = {
        name: calibrated_score(table, metric.name, metric.kind, repr(method.explainer), plan.seed)
        for name, method in (("untuned", untuned), ("tuned", tuned))
    }
    difference = gain(table, metric.name, metric.kind, repr(tuned.explainer), repr(untuned.explainer), plan.seed)
    return {"rows": len(opened.chosen), **scores, "gain": difference}
