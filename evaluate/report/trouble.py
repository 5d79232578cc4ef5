"""The gaps of the page: undefined values, skipped methods and metrics that were left out, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .study import StudyView


class Gaps(NamedTuple):
    """Everything that is missing for one data set, each with its reason."""

    undefined: Sequence[tuple[str, str, int]]  # metric, reason, rows
    skipped: Sequence[tuple[str, str, str]]  # method, model, reason
    left_out: Sequence[tuple[str, str]]  # metric, reason
    unexplained: Sequence[tuple[str, int]]  # metric, rows without a value whose reason is not known


def list_gaps(study: StudyView) -> Gaps:
    """Collect everything that is missing for a data set."""
    reasons: Mapping[str, Mapping[str, int]] = study.document.get("reasons") or {}
    skipped = [*(study.scores.get("skipped") or ()), *_skipped_in_sanity(study)]
    undefined = {metric: _count_undefined(study, metric) for metric in study.metrics if metric not in reasons}
    return Gaps(
        [(metric, reason, count) for metric, counts in reasons.items() for reason, count in counts.items()],
        [(str(entry["method"]), str(entry.get("model", "")), str(entry["reason"])) for entry in skipped],
        [(str(entry["metric"]), str(entry["reason"])) for entry in study.scores.get("left_out") or ()],
        [(metric, count) for metric, count in undefined.items() if count],
    )


def _count_undefined(study: StudyView, metric: str) -> int:
    return sum(m.result["metrics"].get(metric, {}).get("undefined", 0) for m in study.methods)


def _skipped_in_sanity(study: StudyView) -> list[dict[str, Any]]:
    documents = study.document.get("sanity") or ()
    return [
        {**entry, "reason": f"sanity checks: {entry['reason']}"}
        for document in documents
        for entry in document.get("skipped", ())
    ]
