"""The summary of every shipped plan, carried out at a tiny size, has the form that the JSON Schema says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.plan import Plan
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.results.manifest import CARDS, verify_run
from an8flower.evaluate.results.summary_schema import summary_schema

SIZES = {
    "certificate": {"rows": 2},
    "sanity": {"rows": 2, "steps": 1, "draws": 2, "labels": False},
    "pictures": {"rows": 1, "extremes": 1},
}
TRANSFORMERS = ("flowervit", "flowervit_tiny")


def shrink(name: str) -> Plan:
    """A shipped plan with all its methods and metrics, on a few small rows, models of one epoch, and small networks."""
    plan = plans.load(name)
    plan = plan.at_reduced_size() if plan.reduced else plan
    document = plan.document()
    tables = {key: document[key] | sizes for key, sizes in SIZES.items() if document.get(key)}
    archs = {model.arch for model in plan.models}
    small = [arch if arch in TRANSFORMERS else "flowernet" for arch in archs]
    return plan.with_changes(
        data=[{"spec": entry.spec, "rows": 120, "size": 42, "agreement": entry.agreement} for entry in plan.data],
        models=[{"arch": arch, "epochs": 1} for arch in dict.fromkeys(small)],
        rows=2,
        **tables,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", plans.shipped_plans())
def test_the_summary_of_a_shipped_plan_is_valid(name: str, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    folder = tmp_path / "runs" / name
    how = How(engine="inline", device="cpu", data_folder=tmp_path / "data")
    outcome = audit(shrink(name), folder, how)
    assert outcome.failed == []
    summary = json.loads((folder / "summary.json").read_text())
    errors = jsonschema.Draft202012Validator(summary_schema()).iter_errors(summary)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []
    assert set(verify_run(folder).values()) == {"ok"}
    assert all((folder / card).is_file() for card in CARDS)
    again = audit(shrink(name), tmp_path / "runs" / "again", how, against=folder)
    assert {change["outcome"] for change in again.summary["against"]["changes"]} <= {"equal", "cannot be told"}
    assert list(jsonschema.Draft202012Validator(summary_schema()).iter_errors(again.summary)) == []
