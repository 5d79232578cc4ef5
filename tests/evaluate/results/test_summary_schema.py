"""The JSON Schema of summaries is one, says the version of the code, and refuses what is none."""

from __future__ import annotations

from typing import Any

import pytest

from an8flower.evaluate.results.summary_schema import SUMMARY_VERSION, summary_schema

jsonschema = pytest.importorskip("jsonschema")

NUMBERS = dict.fromkeys(("mean", "low", "high"), 0.5)
CHECK = {"where": "flowers", "outcome": "holds", "reason": "0.5", "rows": None}


def summary(**more: Any) -> dict[str, Any]:
    return {
        "schema_version": SUMMARY_VERSION,
        "name": "p",
        "title": "",
        "plan": {},
        "studies": [],
        "requirements": [{"text": "a: b >= 1", "outcome": "holds", "reason": "", "rows": None, "checks": [CHECK]}],
        "printed": [],
        "failed": [{"reason": "it ran out of time"}],
        "versions": dict.fromkeys(("an8flower", "python", "torch", "numpy"), "1"),
        "machine": {},
        "command": "",
        "seconds": 1.5,
        **more,
    }


def is_valid(document: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator(summary_schema()).is_valid(document))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(summary_schema())
    assert is_valid(summary())


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema_version": SUMMARY_VERSION + 1},
        {"seconds": "1"},
        {"more": 1},
        {"versions": {}},
        {"failed": [{}]},
        {"requirements": [{"text": "a: b >= 1"}]},
        {"requirements": [{"text": "", "outcome": "pass", "reason": "", "rows": None, "checks": []}]},
        {"studies": [{}]},
    ],
)
def test_what_is_no_summary_is_refused(wrong: dict[str, Any]) -> None:
    assert not is_valid(summary(**wrong))


@pytest.mark.parametrize("key", sorted(summary()))
def test_every_key_is_required(key: str) -> None:
    document = summary()
    del document[key]
    assert not is_valid(document)
