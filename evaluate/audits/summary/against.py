"""The part of a summary that holds an audit against an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...results.baseline import Baseline, ScoredStudy
from ...results.changes import compare_runs
from ...results.summary import MetricKind
from ..open_study import OpenStudy
from ..plan import Plan


def compare(
    plan: Plan,
    studies: Sequence[OpenStudy],
    documents: Sequence[Mapping[str, Any]],
    tables: Sequence[pa.Table],
    baseline: Baseline,
) -> dict[str, Any]:
    """What has changed since an earlier run, in every cell of either; see `compare_runs`.

    Args:
        documents: those of the data sets, as in a summary.
        tables: the long rows of the scores of the data sets.
    """
    now = [
        ScoredStudy(document, table, {text: explainer for explainer, text in study.methods.items()})
        for study, document, table in zip(studies, documents, tables, strict=True)
    ]
    kinds = {it.name: _kinds_of(study) for study, it in zip(studies, now, strict=True)}
    return compare_runs(now, baseline, kinds, plan.seed)


def _kinds_of(study: OpenStudy) -> dict[str, MetricKind]:
    return {
        metric.name: MetricKind(metric.select, metric.family, metric.higher_is_better, metric.bounds)
        for metric in study.scoring.judge.metrics
    }
