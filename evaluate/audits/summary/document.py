"""The summary of an audit: one document made from the results of all cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ...metrics.metric import Metric
from ...results.baseline import Baseline
from ...results.decisions import decide_all
from ...results.ledger import Ledger, broken_metrics, without_metrics
from ...results.statistics.scores import is_method
from ...results.summary_schema import SUMMARY_VERSION
from ...results.verdict_rules import rules_of
from ...results.verdicts import verdicts
from ..cell_tasks import failures
from ..open_study import OpenStudy
from ..plan import Plan
from ..stage import Stage
from .against import compare
from .curves import curves
from .printed import Measured, beside_printed
from .printed_pairs import names as names_of_pairs
from .slices import row_properties, slices

Stages = Mapping[str, Stage]
"""The stages of one data set by their names."""


def summarise(
    plan: Plan, studies: Sequence[Stages], training: Ledger, baseline: Baseline | None = None
) -> dict[str, Any]:
    """Make `summary.json`, without versions and machine: a study for each data set, printed tables, failures.

    Args:
        baseline: an earlier run that every cell is compared with.
    """
    tables = [_read_scores(stages) for stages in studies]
    documents = [_describe_study(stages, table) for stages, table in zip(studies, tables, strict=True)]
    rules = rules_of(plan.document())
    documents = [{**document, "verdicts": verdicts(document, rules)} for document in documents]
    opened = [stages["scores"].study for stages in studies]
    measured = [_measure(*triple) for triple in zip(opened, tables, documents, strict=True)]
    against = compare(plan, opened, documents, tables, baseline) if baseline else None
    single = [name for name in plan.printed if name not in names_of_pairs()]  # pairs stand with the variants
    failed = list(failures([training], "all"))
    for study, stages in zip(opened, studies, strict=True):
        failed += failures([stage.ledger for stage in stages.values()], study.scoring.store.name)
    return {
        "schema_version": SUMMARY_VERSION,
        "name": plan.name,
        "title": plan.title,
        "plan": plan.document(),
        "studies": documents,
        "requirements": decide_all(plan.requirements(), documents, against),
        "printed": [table for name in single for table in beside_printed(name, measured)],
        "failed": failed,
        **({"against": against} if against else {}),
    }


def _read_scores(stages: Stages) -> pa.Table:
    """The long rows of the scores of one data set, without those of metrics that failed."""
    rows = stages["scores"].study.run.table(stages["scores"].ledger.filed)
    return without_metrics(rows, broken_metrics(rows))


def _metrics(study: OpenStudy, document: dict[str, Any]) -> tuple[Metric, ...]:
    """The metrics that have scores."""
    return tuple(metric for metric in study.scoring.judge.metrics if metric.name in document["families"])


def _measure(study: OpenStudy, table: pa.Table, document: dict[str, Any]) -> Measured:
    """The numbers of one data set, ready to be compared with tables of the literature."""
    return Measured(
        document["scores"],
        table,
        methods=study.methods,
        metrics=_metrics(study, document["scores"]),
        seed=study.plan.seed,
    )


def _describe_study(stages: Stages, table: pa.Table) -> dict[str, Any]:
    """The part of the summary about one data set; the table holds the long rows of its scores."""
    results = {key: value for stage in stages.values() for key, value in stage.to_document().items()}
    study = stages["scores"].study
    store, judge, seed = study.scoring.store, study.scoring.judge, study.plan.seed
    metrics = _metrics(study, results["scores"])
    properties = row_properties(judge.split, study.scoring.chosen, study.threads)
    return {
        "dataset": _describe_dataset(study),
        **results,
        "long_rows": {
            "parts": stages["scores"].ledger.filed,
            "explainers": {text: explainer for explainer, text in study.methods.items()},
        },
        "curves": curves(table, study.methods, metrics, store.size, seed),
        "slices": slices(table, study.methods, metrics, properties, seed),
        "reasons": _count_reasons(table),
    }


def _describe_dataset(study: OpenStudy) -> dict[str, Any]:
    store = study.scoring.store
    return {
        "name": store.name,
        "title": store.spec.title if store.spec else "",
        "path": str(store.path),
        "digest": store.digest,
        "split": study.plan.split,
        "rows": len(study.scoring.chosen),
        "size": store.size,
        "class_names": store.class_names,
        "has_spec": store.spec is not None,
    }


def _count_reasons(table: pa.Table) -> dict[str, dict[str, int]]:
    """How often each metric was undefined for a method, by reason."""
    counts_by_metric: dict[str, Counter[str]] = {}
    rows = table.select(["explainer", "metric", "reason"]).filter(pa.compute.is_valid(table["reason"]))
    for row in rows.to_pylist():
        if is_method(row["explainer"]):
            counts_by_metric.setdefault(row["metric"], Counter())[row["reason"]] += 1
    return {metric: dict(counts) for metric, counts in counts_by_metric.items()}
