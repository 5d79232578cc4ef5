"""What is not on the page, and why: failures, undefined values, what was skipped or left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .study import Study


class Trouble(NamedTuple):
    """The gaps of one data set."""

    undefined: Sequence[tuple[str, str, int]]  # metric, reason, rows
    skipped: Sequence[tuple[str, str, str]]  # method, model, reason
    left_out: Sequence[tuple[str, str]]  # metric, reason
    unlocated: Sequence[tuple[str, int]]  # metric, rows without a value whose reason is not known


def trouble(study: Study) -> Trouble:
    """The gaps of a data set."""
    reasons: Mapping[str, Mapping[str, int]] = study.document.get("reasons") or {}
    skipped = [*(study.scores.get("skipped") or ()), *_skipped_in_sanity(study)]
    return Trouble(
        [(metric, reason, count) for metric, own in reasons.items() for reason, count in own.items()],
        [(str(each["method"]), str(each.get("model", "")), str(each["reason"])) for each in skipped],
        [(str(each["metric"]), str(each["reason"])) for each in study.scores.get("left_out") or ()],
        [(metric, count) for metric in study.metrics if metric not in reasons and (count := _undefined(study, metric))],
    )


def _undefined(study: Study, metric: str) -> int:
    return sum(m.result["metrics"].get(metric, {}).get("undefined", 0) for m in study.methods)


def _skipped_in_sanity(study: Study) -> list[dict[str, Any]]:
    documents = study.document.get("sanity") or ()
    return [
        {**each, "reason": f"sanity: {each['reason']}"}
        for document in documents
        for each in document.get("skipped", ())
    ]
