"""The page on known truths: every failure has a sentence that explains it, and every sentence explains one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from an8flower.evaluate.registry import explainers
from an8flower.evaluate.trust.by_hand.networks import HANDSET

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def tables() -> Any:
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("by_hand_tables")
    finally:
        sys.path.remove(str(DOCS))


def test_every_failure_has_a_reason(tables: Any) -> None:
    assert [pair for pair, reason in tables.failures_by_hand().items() if reason is None] == []


def test_every_reason_explains_a_failure(tables: Any) -> None:
    used = {id(reason) for reason in tables.failures_by_hand().values()}
    assert [reason.sentence for reason in tables.REASONS if id(reason) not in used] == []


def test_every_explainer_was_judged_on_every_network(tables: Any) -> None:
    details = tables._measured()["details"]
    assert set(details) == {name for name in explainers.names() if name not in explainers.plug_ins()}
    assert all(list(verdicts) == [network.name for network in HANDSET] for verdicts in details.values())
