"""The stage that derives the effects of a model a second time: in the summary, on the page, and only where asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import AuditOutcome, How, audit
from an8flower.evaluate.results.summary_schema import summary_schema

jsonschema = pytest.importorskip("jsonschema")
pytestmark = pytest.mark.slow

PLAN: dict[str, Any] = {
    "name": "derived",
    "data": [{"spec": "single-6c", "rows": 60, "size": 24}],
    "models": [{"arch": "flowernet", "epochs": 1}],
    "methods": ["gradient"],
    "metrics": ["effect_rank"],
    "rows": 6,
    "certificate": None,
    "pictures": None,
    "derivations": {"rows": 2, "orders": 1},
}


def run(folder: Path, name: str, **changes: Any) -> AuditOutcome:
    how = How(engine="inline", device="cpu", data_folder=folder / "data")
    return audit(plans.from_mapping({**PLAN, **changes}, "derived"), folder / "runs" / name, how)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> AuditOutcome:
    return run(tmp_path_factory.mktemp("derived"), "derived")


def test_the_summary_and_the_page_say_how_far_the_derivations_agree(outcome: AuditOutcome) -> None:
    (study,) = outcome.summary["studies"]
    (document,) = study["derivations"]
    assert (document["rows"], document["orders"]) == (2, 1)
    assert document["n"] + sum(document["undefined"].values()) == 2
    assert document["forwards"] > 0
    jsonschema.Draft202012Validator(summary_schema()).validate(outcome.summary)
    text = outcome.page.read_text()
    assert "Is the truth of the model sure?" in text
    assert "for 1 of 1 models" in text or "for 0 of 1 models" in text
    again = run(outcome.folder.parents[1], "derived")
    assert (again.done, again.reused) == (0, outcome.done - 1)


def test_no_effect_map_no_derivation(outcome: AuditOutcome) -> None:
    """A plan without a metric that asks for effect maps, or without the table, has no such cells."""
    for name, changes in (("none", {"derivations": None}), ("maps", {"metrics": ["pointing"]})):
        other = run(outcome.folder.parents[1], name, **changes)
        assert "derivations" not in other.summary["studies"][0]
        assert "Is the truth of the model sure?" not in other.page.read_text()
