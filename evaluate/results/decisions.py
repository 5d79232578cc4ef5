"""Whether requirements hold, by the bounds of intervals alone: holds, fails, or undecided. No torch in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from ..registry import model_name, to_file_name
from .requirements import BASELINE, CERTIFICATE, COSTS, DECIDED_BY, MEAN, NO_WORSE, RELIES, SANE, STABLE, Requirement
from .sanity_outcomes import outcome_shown
from .statistics.power import rows_to_decide, rows_without_exception
from .wording import HIGH, LEAK, low_of

RequirementOutcome = Literal["holds", "fails", "undecided"]
HOLDS: Final = "holds"
FAILS: Final = "fails"
UNDECIDED: Final = "undecided"
WITHOUT_VERDICT = ("labels",)  # sanity tests of a single random model, which describe and never decide
OUTCOMES: Mapping[str, RequirementOutcome] = {"pass": HOLDS, "fail": FAILS}
"""What becomes of a requirement by the outcome of a sanity test; undecided by any other."""
STABILITY: Mapping[str, RequirementOutcome] = {"stable": HOLDS, "unstable": FAILS}
"""What becomes of a requirement by the outcome of an agreement of maps; undecided by any other."""


@dataclass(frozen=True)
class RequirementCheck:
    """A requirement held against one number, or one set of tests, of a summary."""

    where: str  # the data set, and the architecture or the model
    outcome: RequirementOutcome
    reason: str  # the number with its interval, or why there is none
    rows: int | None = None  # that would decide


def decide_all(
    requirements: Iterable[Requirement],
    studies: Sequence[Mapping[str, Any]],
    against: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The part `requirements` of a summary: each with its outcome, and the checks that gave it."""
    return [decide(requirement, studies, against) for requirement in requirements]


def decide(
    requirement: Requirement, studies: Sequence[Mapping[str, Any]], against: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Decide a requirement: it holds if it holds on every data set and architecture, and fails if it fails on one.

    Args:
        studies: the documents of the data sets, as in a summary.
        against: what has changed since an earlier run, as in a summary; None without such a run.
    """
    if requirement.quantity == NO_WORSE:
        checks = list(_check_changes(requirement, against))
    else:
        checks = [check for study in studies for check in _check(requirement, study)]
    outcome = combine(check.outcome for check in checks)
    reasons = [f"{check.where}: {check.reason}" for check in checks if check.outcome == outcome]
    rows = [check.rows for check in checks if check.outcome == UNDECIDED and check.rows]
    return {
        "text": requirement.text,
        "outcome": outcome,
        "reason": "; ".join(reasons) or "nothing was measured",
        "rows": max(rows, default=None) if outcome == UNDECIDED else None,
        "checks": [asdict(check) for check in checks],
    }


def combine(outcomes: Iterable[RequirementOutcome]) -> RequirementOutcome:
    """The outcome of a requirement that has to hold everywhere; undecided if it was held against nothing.

    >>> combine(["holds", "undecided", "fails"]), combine(["holds", "undecided"]), combine([])
    ('fails', 'undecided', 'undecided')
    """
    several = list(outcomes)
    if FAILS in several:
        return "fails"
    return "undecided" if UNDECIDED in several or not several else "holds"


def _check(requirement: Requirement, study: Mapping[str, Any]) -> Iterator[RequirementCheck]:
    """Hold a requirement against the numbers of one data set."""
    if requirement.subject == CERTIFICATE:
        yield from _check_certificates(requirement, study)
    elif requirement.quantity == SANE:
        yield from _check_sanity(requirement, study)
    elif requirement.quantity == STABLE:
        yield from check_stability(requirement, study)
    elif requirement.quantity in COSTS:
        yield _check_cost(requirement, study)
    else:
        yield from _check_metric(requirement, study)


def _check_changes(requirement: Requirement, against: Mapping[str, Any] | None) -> Iterator[RequirementCheck]:
    """Hold what has changed since an earlier run against `no worse`, on each data set and architecture.

    One cell that is worse fails; one that is gone, or cannot be told, leaves it open; new ones do not count.
    """
    places: dict[str, list[Mapping[str, Any]]] = {}
    for change in (against or {}).get("changes", ()):
        wanted = requirement.subject in (BASELINE, change["method"])
        if wanted and requirement.architecture in (None, change["architecture"]) and change["outcome"] != "new":
            places.setdefault(f"{change['dataset']}, {change['architecture']}", []).append(change)
    for where, changes in places.items():
        worse = [change for change in changes if change["outcome"] == "worse"]
        open_ones = [change for change in changes if change["outcome"] in ("gone", "cannot be told")]
        outcome: RequirementOutcome = "fails" if worse else "undecided" if open_ones else "holds"
        yield RequirementCheck(where, outcome, _count_changes(changes, worse or open_ones))


def _count_changes(changes: Sequence[Mapping[str, Any]], deciding: Sequence[Mapping[str, Any]]) -> str:
    """How many of the cells of a place decide, by their outcomes, and the first of them."""
    if not deciding:
        return f"{len(changes)} cells, none worse"
    counts = Counter(change["outcome"] for change in deciding)
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    first = deciding[0]
    numbers = "" if first["now"] is None else f", {first['before']:.3f} then and {first['now']:.3f} now"
    return f"of {len(changes)} cells {words}; such as {first['method']} by {first['metric']}{numbers}"


def _check_metric(requirement: Requirement, study: Mapping[str, Any]) -> Iterator[RequirementCheck]:
    """Hold the score of a method against a bound, on each architecture."""
    scores, name = study["scores"], study["dataset"]["name"]
    known = list(dict.fromkeys(model["arch"] for model in scores["models"]))
    for architecture in known if requirement.architecture is None else [requirement.architecture]:
        where = f"{name}, {architecture}"
        numbers = _numbers_of(requirement, scores, architecture)
        if isinstance(numbers, str):
            yield RequirementCheck(where, UNDECIDED, numbers)
        else:
            yield _check_interval(requirement, where, _on_scale(numbers, requirement.scale))


def _numbers_of(requirement: Requirement, scores: Mapping[str, Any], architecture: str) -> Mapping[str, Any] | str:
    """The numbers of a method by a metric on one architecture, or the reason why there are none."""
    method, metric = requirement.subject, requirement.quantity
    only = [to_file_name(architecture)]
    board = next((board for board in scores.get("boards") or () if [*board["architectures"]] == only), None)
    first = next((e["text"] for e in board["methods"] if method in (e["text"], *e["equal"])), None) if board else None
    if board and first is not None:
        numbers = board["metrics"].get(metric, {}).get("results", {}).get(first)
        left_out = (entry["reason"] for entry in scores.get("left_out") or () if entry["metric"] == metric)
        return numbers if numbers is not None else next(left_out, f"{metric} has no value")
    if board and method in board["missing"]:
        return f"it ran on {board['missing'][method]} of {len(board['models'])} models"
    return _why_not(method, scores, architecture)


def _why_not(method: str, document: Mapping[str, Any], architecture: str | None = None) -> str:
    """The reason why a method has no result on an architecture, as far as a document knows it."""
    entries = [*(document.get("skipped") or ()), *(document.get("failed") or ())]
    reasons = (
        entry["reason"]
        for entry in entries
        if entry["method"] == method
        and (architecture is None or str(entry.get("model", "")).startswith(f"{to_file_name(architecture)}-seed"))
    )
    return next(reasons, "it has no result there")


def _on_scale(numbers: Mapping[str, Any], scale: str) -> dict[str, Any]:
    """The mean, its interval, the rows and the reason of a score on one of its scales."""
    if scale == MEAN:
        return {key: numbers.get(key) for key in ("mean", "low", "high", "n")}
    ends = {"mean": numbers.get(scale), "low": numbers.get(f"{scale}_low"), "high": numbers.get(f"{scale}_high")}
    return {**ends, "n": numbers.get("n"), "reason": numbers.get(f"{scale}_reason")}


def _check_interval(
    requirement: Requirement, where: str, numbers: Mapping[str, Any], is_share: bool = False
) -> RequirementCheck:
    """Hold a mean with its interval against the bound of a requirement."""
    if numbers.get("mean") is None:
        return RequirementCheck(where, UNDECIDED, str(numbers.get("reason") or "it has no value"))
    if numbers.get("low") is None or numbers.get("high") is None:
        return RequirementCheck(where, UNDECIDED, f"{numbers['mean']:.3f}, without an interval on these rows")
    mean, low, high = (float(numbers[key]) for key in ("mean", "low", "high"))
    outcome = compare_with_bound(low, high, requirement.relation, requirement.bound)
    reason = f"{mean:.3f} (95 %: {low:.3f} to {high:.3f}, {numbers['n']} rows)"
    if outcome != UNDECIDED:
        return RequirementCheck(where, outcome, reason)
    rows = _rows_that_decide(mean, low, high, int(numbers["n"]), requirement.bound, is_share)
    more = f"about {rows} rows would decide" if rows else "no number of rows would decide"
    return RequirementCheck(where, outcome, f"{reason}; {more}", rows)


def compare_with_bound(low: float, high: float, relation: str, bound: float) -> RequirementOutcome:
    """Compare an interval with a bound: all of it on the right side holds, all on the wrong side fails.

    >>> compare_with_bound(0.5, 0.6, ">=", 0.5), compare_with_bound(0.5, 0.6, "<", 0.5)
    ('holds', 'fails')
    >>> compare_with_bound(0.4, 0.6, "<=", 0.5)
    'undecided'
    """
    if relation[0] == "<":
        low, high, bound = -high, -low, -bound
    if low > bound or (relation[1:] and low == bound):
        return "holds"
    return "fails" if high < bound or (not relation[1:] and high == bound) else "undecided"


def _rows_that_decide(mean: float, low: float, high: float, n: int, bound: float, is_share: bool) -> int | None:
    """How many rows would decide, from the interval of fewer; None if no number would."""
    if is_share and mean in (0.0, 1.0):  # nothing has a spread: the exact interval decides
        return rows_without_exception(bound if mean else 1 - bound)
    return rows_to_decide(mean, mean - low if mean > bound else high - mean, n, bound)


def _check_cost(requirement: Requirement, study: Mapping[str, Any]) -> RequirementCheck:
    """Hold the mean cost of a method for a picture, which has no interval, against a bound."""
    where = study["dataset"]["name"]
    results = (entry for entry in study["scores"]["results"] if entry["text"] == requirement.subject)
    value = next((entry["cost"].get(requirement.quantity) for entry in results), None)
    if value is None:
        return RequirementCheck(where, UNDECIDED, "it has no cost there")
    outcome = compare_with_bound(value, value, requirement.relation, requirement.bound)
    return RequirementCheck(where, outcome, f"{value:.3g} for a picture")


def _check_sanity(requirement: Requirement, study: Mapping[str, Any]) -> Iterator[RequirementCheck]:
    """Hold a method against its sanity tests on each model: one that fails is enough, and all have to pass."""
    documents: dict[str, Mapping[str, Any]] = {
        name_of(document["model"]): document for document in study.get("sanity") or ()
    }
    for model in _models_of(requirement, study):
        where, document = f"{study['dataset']['name']}, {model}", documents.get(model, {})
        results = (r for r in document.get("results") or () if (r.get("text") or r["method"]) == requirement.subject)
        result = next(results, None)
        if result is None:
            yield RequirementCheck(where, UNDECIDED, _why_not(requirement.subject, document))
        else:
            yield _check_tests(where, result["verdicts"])


def check_stability(requirement: Requirement, study: Mapping[str, Any]) -> Iterator[RequirementCheck]:
    """Hold a method against the agreement of its maps, of each kind and on each architecture: all have to be stable."""
    entries = [entry for entry in study.get("agreement") or () if entry["method"] == requirement.subject]
    for entry in entries:
        if requirement.architecture in (None, entry["architecture"]):
            where = f"{study['dataset']['name']}, {entry['architecture']}, {entry['kind']}"
            outcome = STABILITY.get(entry["outcome"], UNDECIDED)
            yield RequirementCheck(where, outcome, _describe_agreement(entry))
    if not entries:
        yield RequirementCheck(study["dataset"]["name"], UNDECIDED, "its maps were not compared there")


def _describe_agreement(entry: Mapping[str, Any]) -> str:
    """The scaled agreement with its interval, or why it does not decide."""
    scaled = entry.get("scaled") or {"mean": None, "low": None}
    if scaled["low"] is None or entry["reason"]:
        return str(entry["reason"] or "without an interval on these rows")
    return f"{scaled['mean']:.3f} (95 %: {scaled['low']:.3f} to {scaled['high']:.3f}, {entry['rows']} rows)"


def _check_tests(where: str, verdicts: Mapping[str, Any]) -> RequirementCheck:
    """The outcome of all sanity tests of a method on one model that can decide."""
    shown = {key: outcome_shown(verdict) for key, verdict in verdicts.items() if key not in WITHOUT_VERDICT}
    outcome = combine(OUTCOMES.get(word, UNDECIDED) for word, _ in shown.values())
    words = [f"{key}: {word}{f' ({reason})' if reason else ''}" for key, (word, reason) in shown.items()]
    return RequirementCheck(where, outcome, ", ".join(words) or "no test was made")


def _check_certificates(requirement: Requirement, study: Mapping[str, Any]) -> Iterator[RequirementCheck]:
    """Hold the certificate of each model against a requirement."""
    certificates = {certificate["model"]: certificate for certificate in study.get("certificates") or ()}
    for model in _models_of(requirement, study):
        where, certificate = f"{study['dataset']['name']}, {model}", certificates.get(model)
        if certificate is None:
            yield RequirementCheck(where, UNDECIDED, f"no certificate: {study.get('no_certificate') or 'it failed'}")
        elif requirement.quantity == RELIES:
            yield _check_reliance(where, certificate)
        else:
            share = _share_of(certificate, requirement.quantity)
            yield _check_interval(requirement, where, share, is_share=True)


def _models_of(requirement: Requirement, study: Mapping[str, Any]) -> list[str]:
    """The names of the models that a requirement is about."""
    models = study["scores"]["models"]
    return [name_of(model) for model in models if requirement.architecture in (None, model["arch"])]


def name_of(model: Mapping[str, Any]) -> str:
    """The name of the model that a document describes."""
    return model_name(model["arch"], model["seed"], str(model["digest"]))


def _share_of(certificate: Mapping[str, Any], quantity: str) -> Mapping[str, Any]:
    if quantity in DECIDED_BY and not certificate.get("shortcut"):
        return {"reason": "the data have no shortcut"}
    shares = certificate["shortcut"] if quantity in DECIDED_BY else certificate
    return shares.get(quantity) or {}


def _check_reliance(where: str, certificate: Mapping[str, Any]) -> RequirementCheck:
    """Hold a certificate against the limits by which `wording.reliance` says yes."""
    limits = {"flip_rate": (">=", HIGH), "stability": (">=", HIGH)}
    limits |= {"evidence_alone": (">=", HIGH), "rest_alone": ("<=", LEAK)}
    if low_of(certificate.get("rim_alone") or {"low": None}) > LEAK:  # else it is not shown that the rim decides
        limits["rim_alone"] = ("<=", LEAK)
    shares = {key: certificate[key] for key in limits if certificate.get(key) is not None}
    checks = [
        _check_interval(Requirement(CERTIFICATE, key, MEAN, *limits[key]), where, share, is_share=True)
        for key, share in shares.items()
    ]
    outcome = combine(check.outcome for check in checks)
    deciding = zip(shares, checks, strict=True)
    reason = ", ".join(f"{key} {check.reason}" for key, check in deciding if check.outcome == outcome)
    rows = [check.rows for check in checks if check.outcome == UNDECIDED and check.rows]
    return RequirementCheck(where, outcome, reason, max(rows, default=None) if outcome == UNDECIDED else None)
