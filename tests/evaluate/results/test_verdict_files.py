"""The files for pipelines: JUnit XML that a foreign parser reads, and Markdown whose tables keep their cells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from an8flower.evaluate.results.junit import to_junit
from an8flower.evaluate.results.pull_request import to_markdown

REQUIREMENTS = [
    {"text": "gradcam: iou >= 0.5", "outcome": "holds", "reason": "0.6"},
    {"text": "gradcam: iou >= 0.9", "outcome": "fails", "reason": 'net: "0.6" <&> \x00'},
    {"text": "lrp: iou < 0.5", "outcome": "undecided", "reason": "about 90 rows would decide"},
]
VERDICTS = {"logits": "pass", "model": "fail", "labels": "no verdict"}


def summary(requirements: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    verdicts = {key: {"outcome": outcome, "reason": "", "draws": 10} for key, outcome in VERDICTS.items()}
    document = {
        "model": {"arch": "net", "seed": 0, "digest": "1" * 64},
        "results": [{"text": "gradcam", "method": "gradcam", "verdicts": verdicts}],
    }
    study = {"dataset": {"name": "flowers", "rows": 60}, "scores": {}, "sanity": [document]}
    return {"name": "tiny", "studies": [study], "requirements": REQUIREMENTS if requirements is None else requirements}


def test_a_foreign_parser_reads_every_case_with_its_outcome(tmp_path: Path) -> None:
    junitparser = pytest.importorskip("junitparser")
    place = tmp_path / "junit.xml"
    place.write_text(to_junit(summary()), encoding="utf-8")
    parsed = junitparser.JUnitXml.fromfile(str(place))
    (suite,) = parsed
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (6, 2, 2, 0)
    outcomes = [(case.classname, type(case.result[0]).__name__ if case.result else "") for case in suite]
    model = "sanity.flowers.net-seed0-11111111"
    assert outcomes == [
        *(("requirements", ""), ("requirements", "Failure"), ("requirements", "Skipped")),
        *((model, ""), (model, "Failure"), (model, "Skipped")),
    ]
    cases = list(suite)
    assert cases[1].name == "gradcam: iou >= 0.9"
    assert cases[1].result[0].message == 'net: "0.6" <&> \N{REPLACEMENT CHARACTER}'
    assert cases[2].result[0].message == "about 90 rows would decide"


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_text_gives_xml_that_can_be_read(text: str) -> None:
    entry = {"text": text, "outcome": "fails", "reason": text}
    root = ElementTree.fromstring(to_junit(summary([entry])).encode("utf-8"))
    assert len(root.findall("testsuite/testcase")) == 4


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_stays_in_its_cell(text: str) -> None:
    lines = to_markdown(summary([{"text": text, "outcome": "fails", "reason": text}])).splitlines()
    (row,) = (line for line in lines if "| fails |" in line)
    bare = row.replace("\\\\", "")
    assert len(re.findall(r"(?<!\\)\|", bare)) == 4
    assert "<" not in row.rpartition("| fails |")[2]


def test_methods_without_a_value_stand_last() -> None:
    document = summary()
    scores = {"none": None, "worse": -0.2, "better": 0.4}
    ends = {"calibrated_low": None, "calibrated_high": None}
    results = {name: {"calibrated": value, **ends} for name, value in scores.items()}
    board = {"architectures": {"net": 1}, "metrics": {"iou": {"results": results}}}
    document["studies"][0]["scores"] = {"leading": ["iou"], "boards": [board]}
    text = to_markdown(document)
    assert text.index("`better`") < text.index("`worse`") < text.index("`none`")
