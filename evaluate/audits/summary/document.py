"""The summary of an audit: one document of all that its cells come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ...results.ledger import Ledger
from ...results.summary import CHANCE, ORACLE, RELIANCE
from ..desk import Aspect, Desk
from ..pieces import failures
from ..plan import Plan
from .curves import curves
from .printed import Measured, printed
from .slices import row_properties, slices


def summarise(
    plan: Plan, desks: Sequence[Desk], aspects: Sequence[Sequence[Aspect]], training: Ledger
) -> dict[str, Any]:
    """`summary.json`, but for the circumstances: a study for each data set, tables of the literature, failures."""
    tables = [desk.run.table(own[0].ledger.filed) for desk, own in zip(desks, aspects, strict=True)]  # of the scores
    studies = [_study(*each) for each in zip(desks, aspects, tables, strict=True)]
    measured = [_measured(*each) for each in zip(desks, tables, studies, strict=True)]
    failed = list(failures([training], "all"))
    for desk, own in zip(desks, aspects, strict=True):
        failed += failures([aspect.ledger for aspect in own], desk.opened.store.name)
    return {
        "name": plan.name,
        "title": plan.title,
        "plan": plan.document(),
        "studies": studies,
        "printed": [told for name in plan.printed for told in printed(name, measured)],
        "failed": failed,
    }


def _measured(desk: Desk, table: pa.Table, study: dict[str, Any]) -> Measured:
    """What the tables of the literature are set beside."""
    return Measured(study["scores"], table, desk.methods, desk.opened.judge.metrics, desk.plan.seed)


def _study(desk: Desk, aspects: Sequence[Aspect], table: pa.Table) -> dict[str, Any]:
    """What is known of one data set."""
    told = {key: value for aspect in aspects for key, value in aspect.told().items()}
    store, judge = desk.opened.store, desk.opened.judge
    metrics, properties = judge.metrics, row_properties(judge.split, desk.opened.chosen, desk.threads)
    return {
        "dataset": _dataset(desk),
        **told,
        "curves": curves(table, desk.methods, metrics, store.size, desk.plan.seed),
        "slices": slices(table, desk.methods, metrics, properties, desk.plan.seed),
        "reasons": _reasons(table),
    }


def _dataset(desk: Desk) -> dict[str, Any]:
    store = desk.opened.store
    return {
        "name": store.name,
        "title": store.spec.title if store.spec else "",
        "path": str(store.path),
        "digest": store.digest,
        "split": desk.plan.split,
        "rows": len(desk.opened.chosen),
        "size": store.size,
        "class_names": store.class_names,
        "has_spec": store.spec is not None,
    }


def _reasons(table: pa.Table) -> dict[str, dict[str, int]]:
    """How often each metric had no value of a method, by the reason."""
    found: dict[str, Counter[str]] = {}
    rows = table.select(["explainer", "metric", "reason"]).filter(pa.compute.is_valid(table["reason"]))
    for row in rows.to_pylist():
        if row["explainer"] not in (CHANCE, ORACLE, RELIANCE):
            found.setdefault(row["metric"], Counter())[row["reason"]] += 1
    return {metric: dict(counts) for metric, counts in found.items()}
