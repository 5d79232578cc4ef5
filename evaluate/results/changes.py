"""What has changed since an earlier audit, cell by cell: better, worse, equal, cannot be told, new or gone.

A cell is a data set, a model (by its architecture and seed), a method and a metric. Its scores of then and now are
paired row by row. Where the rows of then are not at hand, means of an architecture are compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from .baseline import ROWS_MISSING, Baseline, ScoredStudy
from .decisions import name_of
from .files import without_nan
from .metric_values import MetricKind
from .statistics.comparisons import ALPHA, holm, sign_flip_p, without_rounding
from .statistics.intervals import Interval, intervals
from .statistics.scores import ScoreArrays
from .summary import resampling_seed

ChangeOutcome = Literal["better", "worse", "equal", "cannot be told", "new", "gone"]
BETTER: Final = "better"
WORSE: Final = "worse"
EQUAL: Final = "equal"
UNTOLD: Final = "cannot be told"
NEW: Final = "new"
GONE: Final = "gone"
OUTCOMES: tuple[ChangeOutcome, ...] = (WORSE, GONE, BETTER, NEW, UNTOLD, EQUAL)
"""Every outcome, in the order in which they are shown."""
Kinds = Mapping[str, MetricKind]


@dataclass(frozen=True)
class Change:
    """One cell then and now. NaN where there is no number."""

    dataset: str
    architecture: str
    seed: int | None  # None if means of all seeds of the architecture are compared
    method: str
    metric: str
    by: Literal["rows", "means", ""]  # what was compared; nothing where a cell is new or gone
    outcome: ChangeOutcome = UNTOLD
    before: float = math.nan  # the mean score then; over the common rows where rows are paired
    now: float = math.nan
    difference: float = math.nan  # now less then, in the unit of the metric
    low: float = math.nan  # of its 95 % interval
    high: float = math.nan
    n: int = 0  # rows in common
    p: float = math.nan  # two-sided, that the difference is chance
    p_holm: float = math.nan  # corrected for all cells whose scores differ in any row
    reason: str = ""  # why there is no number

    def to_document(self) -> dict[str, Any]:
        """The change ready for JSON."""
        return dict(without_nan(asdict(self)))


class CellPair(NamedTuple):
    """A cell of one model whose long rows of then and now are both at hand."""

    change: Change
    before: np.ndarray  # (rows,) float64, of the rows in common
    now: np.ndarray


def compare_runs(
    now: Sequence[ScoredStudy], baseline: Baseline, kinds: Mapping[str, Kinds], seed: int
) -> dict[str, Any]:
    """The part `against` of a summary: each cell of a new audit or of an earlier one, with what became of it.

    A row counts by its difference now less then; the interval is that of `intervals`, p that of the sign-flip test, and
    Holm's correction is over all cells of the comparison whose scores differ in any row, so that nothing at all is
    called better or worse by chance with a probability of 95 %.

    Args:
        kinds: the metrics of each data set, by the names of both.
        seed: of the plan.
    """
    before = {study.digest: study for study in baseline.studies()}
    changes: list[Change] = []
    for study in now:
        earlier = before.pop(study.digest, None)
        if earlier is None:
            changes += _lone(study, NEW)
        else:
            changes += compare_studies(study, earlier, kinds[study.name], resampling_seed(seed))
    changes += [change for study in before.values() for change in _lone(study, GONE)]
    settled = settle(changes, kinds)
    return {
        "run": str(baseline.folder),
        "name": baseline.summary.get("name", ""),
        "command": baseline.summary.get("command", ""),
        "versions": dict(baseline.summary.get("versions") or {}),
        "digest": baseline.digest,
        "notes": list(_notes(settled, baseline)),
        "counts": {outcome: sum(change.outcome == outcome for change in settled) for outcome in OUTCOMES},
        "changes": [change.to_document() for change in settled],
    }


def settle(changes: Sequence[Change], kinds: Mapping[str, Kinds]) -> list[Change]:
    """The same changes with corrected p-values and their outcomes, where these are not known yet."""
    adjusted = holm(np.array([change.p for change in changes], np.float64)).tolist() if changes else []
    return [
        replace(change, p_holm=p, outcome=_outcome_of(change, p, kinds))
        for change, p in zip(changes, adjusted, strict=True)
    ]


def _outcome_of(change: Change, adjusted: float, kinds: Mapping[str, Kinds]) -> ChangeOutcome:
    if math.isnan(change.p) or adjusted >= ALPHA:
        return change.outcome
    sign = 1 if kinds[change.dataset][change.metric].higher_is_better else -1
    return BETTER if sign * change.difference > 0 else WORSE


def _notes(changes: Sequence[Change], baseline: Baseline) -> Iterator[str]:
    """Sentences on what the comparison could not rest on."""
    if any(change.by == "means" for change in changes):
        yield f"{ROWS_MISSING[0].upper()}{ROWS_MISSING[1:]}: a difference has to be larger to be told."
    if baseline.missing:
        yield (
            f"Of the earlier run, {', '.join(baseline.missing)} {'is' if len(baseline.missing) == 1 else 'are'} not "
            "where the manifest says, so that nobody looked whether they are unchanged; its summary and plan are."
        )


def compare_studies(now: ScoredStudy, before: ScoredStudy, kinds: Kinds, seed: int) -> list[Change]:
    """The changes of every cell of one data set, by rows if those of both audits are at hand, else by means."""
    if now.table is not None and before.table is not None:
        arrays = [ScoreArrays(it.table, {name: kind.select for name, kind in kinds.items()}) for it in (now, before)]
        rows = np.intersect1d(arrays[0].rows, arrays[1].rows, assume_unique=True)
        if len(rows) > 1:
            return _compare_rows(now, before, arrays, rows, seed)
    return _compare_means(now, before)


def _compare_rows(
    now: ScoredStudy, before: ScoredStudy, arrays: Sequence[ScoreArrays], rows: np.ndarray, seed: int
) -> list[Change]:
    cells = [cells_of(study, of_study) for study, of_study in zip((now, before), arrays, strict=True)]
    pairs = [
        CellPair(
            Change(now.name, *key, by="rows"),
            cell_values(arrays[1], before, cells[1][key], key, rows),
            cell_values(arrays[0], now, cells[0][key], key, rows),
        )
        for key in cells[0]
        if key in cells[1]
    ]
    return [
        *measure(pairs, seed),
        *(_single(now.name, key, NEW) for key in cells[0] if key not in cells[1]),
        *(_single(now.name, key, GONE) for key in cells[1] if key not in cells[0]),
    ]


CellKey = tuple[str, int | None, str, str]
"""The architecture, the seed, the method and the metric of a cell."""


def cells_of(study: ScoredStudy, arrays: ScoreArrays) -> dict[CellKey, int]:
    """The cells of a data set that have long rows, each with the number of its model."""
    models = models_of(study)
    known = [(number, models[name]) for number, name in enumerate(arrays.models) if name in models]
    cells: dict[CellKey, int] = {}
    for number, (architecture, seed) in known:
        for result in study.scores["results"]:
            method = str(result["text"])
            explainer = study.explainers.get(method)
            for metric in result["metrics"] if explainer in arrays.explainers else ():
                if arrays.has_rows(metric, str(explainer))[:, number].any():
                    cells.setdefault((architecture, seed, method, metric), number)
    return cells


def models_of(study: ScoredStudy) -> dict[str, tuple[str, int | None]]:
    """The architecture and the seed of each model by its name in long rows.

    Networks of one's own may have both in common; these are told apart by their digests.
    """
    pairs = {
        name_of(model): (str(model["arch"]), model["seed"], str(model["digest"])) for model in study.scores["models"]
    }
    counts = Counter(pair[:2] for pair in pairs.values())
    return {
        name: (architecture if counts[architecture, seed] == 1 else f"{architecture} ({digest[:8]})", seed)
        for name, (architecture, seed, digest) in pairs.items()
    }


def cell_values(arrays: ScoreArrays, study: ScoredStudy, model: int, key: CellKey, rows: np.ndarray) -> np.ndarray:
    """The scores (rows,) of a cell on the rows that both audits scored."""
    places = np.searchsorted(arrays.rows, rows)
    return arrays.of(key[3], study.explainers[key[2]])[places, model]


def measure(pairs: Sequence[CellPair], seed: int) -> list[Change]:
    """The differences of paired cells on the same rows, with their intervals and p-values that are not corrected."""
    if not pairs:
        return []
    scores = np.array([[pair.before, pair.now] for pair in pairs], np.float64)  # (cells, 2, rows)
    apart = np.stack([without_rounding(cell[1] - cell[0], cell) for cell in scores])
    differ = (np.nan_to_num(apart) != 0).any(1)
    p = np.full(len(pairs), np.nan)
    p[differ] = sign_flip_p(apart[differ], seed, tests=int(differ.sum()))
    return [
        _add_numbers(pair.change, interval, float(p_value))
        for pair, interval, p_value in zip(_with_means(pairs), intervals(apart[..., None], seed=seed), p, strict=True)
    ]


def _with_means(pairs: Sequence[CellPair]) -> Iterator[CellPair]:
    """The same cells, each with its mean scores on the rows that have a value then and now."""
    for pair in pairs:
        both = ~np.isnan(pair.before + pair.now)
        before, now = (float(values[both].mean()) if both.any() else math.nan for values in (pair.before, pair.now))
        yield pair._replace(change=replace(pair.change, before=before, now=now))


def _add_numbers(change: Change, interval: Interval, p: float) -> Change:
    if not interval.n:
        return replace(change, reason="no row has a value then and now")
    numbers = replace(change, difference=interval.mean + 0.0, low=interval.low, high=interval.high, n=interval.n, p=p)
    return replace(numbers, outcome=EQUAL) if math.isnan(p) else numbers


def _compare_means(now: ScoredStudy, before: ScoredStudy) -> list[Change]:
    """The changes of the means of each architecture, method and metric, which the summaries hold."""
    boards = [_means_of(study) for study in (now, before)]
    seeds = [_seeds_of(study) for study in (now, before)]
    changes = []
    for key in dict.fromkeys([*boards[0], *boards[1]]):
        values = [board.get(key) for board in boards]
        change = Change(now.name, key[0], None, key[1], key[2], by="means")
        if values[0] is None or values[1] is None:
            changes.append(replace(change, by="", outcome=GONE if values[0] is None else NEW))
        elif seeds[0][key[0]] != seeds[1][key[0]]:
            changes.append(replace(change, reason="the means are of other seeds"))
        else:
            changes.append(_compare_two_means(change, values[1], values[0]))
    return changes


def _means_of(study: ScoredStudy) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """The numbers of each architecture, method and metric of a data set, by these three."""
    numbers: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for board in study.scores.get("boards") or ():
        if len(board["architectures"]) == 1:
            names = {it["text"]: (it["text"], *it["equal"]) for it in board["methods"]}
            for metric, results in board["metrics"].items():
                for first, result in results["results"].items():
                    numbers |= {
                        (next(iter(board["architectures"])), name, metric): result for name in names.get(first, ())
                    }
    return numbers


def _seeds_of(study: ScoredStudy) -> dict[str, list[Any]]:
    """The seeds of each architecture of a data set, named as boards do."""
    seeds: dict[str, list[Any]] = {}
    for model in study.scores["models"]:
        seeds.setdefault(name_of(model).rsplit("-", 2)[0], []).append(model["seed"])
    return {architecture: sorted(several, key=repr) for architecture, several in seeds.items()}


def _compare_two_means(change: Change, before: Mapping[str, Any], now: Mapping[str, Any]) -> Change:
    """Compare two means with their intervals as if they were of rows that have nothing in common.

    The reaches of the intervals add in squares; p is that of a normal difference with such an interval. Where the
    rows are the same ones, as they mostly are, the true interval is narrower.

    Source: Zou, Donner, Statistics in Medicine 27 (2008) (adding the reaches).
    """
    ends = [numbers.get(key) for numbers in (before, now) for key in ("mean", "low", "high")]
    known = [float(end) for end in ends if end is not None]
    if len(known) < len(ends):
        return replace(change, reason="a mean, or its interval, is not defined")
    mean, low, high, other, other_low, other_high = known  # then, and now
    difference = other - mean
    down, up = math.hypot(other - other_low, high - mean), math.hypot(other_high - other, mean - low)
    numbers = replace(
        change, before=mean, now=other, difference=difference, low=difference - down, high=difference + up
    )
    if (mean, low, high) == (other, other_low, other_high):  # to the last digit: of the same scores
        return replace(numbers, outcome=EQUAL)
    reach = down if difference > 0 else up  # towards zero
    if not difference or not reach:
        return numbers
    from scipy.stats import norm  # here, as it takes a while to load

    return replace(numbers, p=float(2 * norm.sf(abs(difference) / reach * norm.ppf(1 - ALPHA / 2))))


def _lone(study: ScoredStudy, outcome: ChangeOutcome) -> Iterator[Change]:
    """The cells of a data set that only one of the audits has."""
    for architecture, seed in models_of(study).values():
        for result in study.scores["results"]:
            for metric in result["metrics"]:
                yield _single(study.name, (architecture, seed, str(result["text"]), metric), outcome)


def _single(dataset: str, key: CellKey, outcome: ChangeOutcome) -> Change:
    return Change(dataset, *key, by="", outcome=outcome)
