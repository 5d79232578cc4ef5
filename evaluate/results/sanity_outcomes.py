"""What becomes of the sanity tests of a method: pass, fail, undecided or no verdict, corrected over all of its tests.

One similarity decides, Spearman's of absolute maps, which the literature averages; the others describe. The tests of a
method on all models of a data set are one family, and Holm's correction keeps the probability of any wrong outcome in
it below 5 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .statistics.comparisons import ALPHA, holm

Outcome = Literal["pass", "fail", "undecided", "no verdict"]
PRIMARY = "spearman_abs"  # the similarity that decides
THRESHOLD = 0.5  # the share of a map's own part that is left where picture and parameters contribute alike
LEAST_DRAWS = 5  # of a random model, for a verdict: Student's t reaches 2.8 standard errors, with two draws 12.7
EARLY = "checked by an earlier version, with too few draws: run the check again"


def settle(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sanity documents of all models of a data set with the outcomes of all tests, corrected for each method."""
    settled = [{**document, "results": [_copy(result) for result in document["results"]]} for document in documents]
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for document in settled:
        for result in document["results"]:
            key = (str(result.get("text") or result["method"]), repr(result.get("parameters")))
            families.setdefault(key, []).extend(result["verdicts"].values())
    for verdicts in families.values():
        settle_family(verdicts)
    return settled


def _copy(result: Mapping[str, Any]) -> dict[str, Any]:
    return {**result, "verdicts": {test: dict(verdict) for test, verdict in result["verdicts"].items()}}


def settle_family(verdicts: Iterable[dict[str, Any]]) -> None:
    """Write the corrected outcomes into verdicts that are read together; those without a p stay as they are."""
    tested = [verdict for verdict in verdicts if verdict.get("p") is not None]
    if not tested:
        return
    for verdict, adjusted in zip(tested, holm(np.array([verdict["p"] for verdict in tested])).tolist(), strict=True):
        similar = verdict["similarities"][PRIMARY]
        outcome, reason = outcome_of(similar, adjusted, len(tested))
        verdict.update(outcome=outcome, reason=reason, adjusted=adjusted, tests=len(tested))


def outcome_of(similar: Mapping[str, Any], adjusted: float, tests: int) -> tuple[Outcome, str]:
    """Pass, fail or undecided by the corrected p of a similarity, and why the latter."""
    if adjusted < ALPHA:
        return ("fail" if similar["calibrated"] > THRESHOLD else "pass"), ""
    if similar["low"] <= THRESHOLD <= similar["high"]:
        return "undecided", f"the interval holds {THRESHOLD}: take more draws"
    return "undecided", f"among {tests} tests of the method it may be chance (Holm's p {adjusted:.2f}): take more draws"


def is_early(verdict: Mapping[str, Any]) -> bool:
    """Whether a verdict was filed before draws were the unit, so that its outcome says less than it seems to."""
    return "draws" not in verdict


def outcome_shown(verdict: Mapping[str, Any]) -> tuple[str, str]:
    """The outcome of a verdict as tables show it, and why there is none."""
    return ("no verdict", EARLY) if is_early(verdict) else (str(verdict["outcome"]), str(verdict["reason"]))
