"""What a plan requires, on the command line: outcomes, exit codes, files, and refusals before anything is rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from an8flower.__main__ import main
from an8flower.commands.requirements import Gate, write_verdict_files
from an8flower.errors import Refusal
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.required import check_requirements
from an8flower.evaluate.results.summary_schema import summary_schema

pytestmark = pytest.mark.usefixtures("undrawn")

PLAN = """
name = "gated"
methods = ["gradcam", "random"]
metrics = ["iou_best"]
rows = 12
pictures = {rows = 1, extremes = 1}
certificate = {rows = 6}
[[data]]
spec = "single-6c"
rows = 60
size = 32
[[models]]
arch = "flowernet"
epochs = 1
[sanity]
methods = ["gradcam"]
rows = 4
steps = 2
draws = 1
[require]
random = ["iou_best >= 0.0"]
certificate = ["accuracy >= 0.0"]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan and its finished audit; audits of the same plan there take the cells as they are."""
    folder = tmp_path_factory.mktemp("gated")
    (folder / "plan.toml").write_text(PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert audit().exit_code == 0
    return folder


def audit(*words: str) -> Result:
    return CliRunner().invoke(main, ["audit", "plan.toml", "--engine", "inline", "--device", "cpu", *words])


HOLDS, FAILS, OPEN = "gradcam: iou_best < 0.9", "random: iou_best > 0.5", "gradcam: iou_best > 0.1"


@pytest.mark.parametrize(
    ("requirements", "more", "code"),
    [
        ([HOLDS, OPEN], [], 0),
        ([HOLDS, OPEN], ["--strict"], 4),
        ([HOLDS, FAILS, OPEN], ["--strict"], 3),
    ],
)
def test_exit_codes(
    place: Path, monkeypatch: pytest.MonkeyPatch, requirements: list[str], more: list[str], code: int
) -> None:
    monkeypatch.chdir(place)
    done = audit(*more, *(word for text in requirements for word in ("--require", text)))
    assert done.exit_code == code, done.output
    assert ("\nError: " in done.stderr) == (code > 0)


def test_outcomes_stand_in_every_file(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    junit, markdown = tmp_path / "junit.xml", tmp_path / "summary.md"
    words = ["--require", HOLDS, "--require", FAILS, "--require", OPEN]
    done = audit(*words, "--junit", str(junit), "--markdown", str(markdown))
    summary = json.loads((place / "runs" / "gated" / "summary.json").read_text())
    outcomes = {entry["text"]: entry["outcome"] for entry in summary["requirements"]}
    expected = {HOLDS: "holds", FAILS: "fails", OPEN: "undecided", "certificate: accuracy >= 0": "holds"}
    assert outcomes == {**expected, "random: iou_best >= 0": "holds"}
    (undecided,) = (entry for entry in summary["requirements"] if entry["outcome"] == "undecided")
    assert undecided["rows"] > 12
    assert summary["plan"]["require"]["random"] == ["iou_best >= 0", "iou_best > 0.5"]
    page = (place / "runs" / "gated" / "report.html").read_text()
    for text in ("5 requirements: 3 hold, 1 fails, 1 undecided", f"about {undecided['rows']} rows would decide"):
        assert text in page
        assert text in markdown.read_text()
    assert f"undecided  {OPEN}" in done.stdout
    assert f"about {undecided['rows']} rows would decide" in " ".join(done.stdout.split())
    junitparser = pytest.importorskip("junitparser")
    (suite,) = junitparser.JUnitXml.fromfile(str(junit))
    assert (suite.tests, suite.failures) == (5 + 2, 1)
    assert suite.skipped == 1 + 2  # one draw gives no verdict


def test_the_summary_has_the_form_that_its_schema_says(place: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    summary = json.loads((place / "runs" / "gated" / "summary.json").read_text())
    validator = jsonschema.Draft202012Validator(summary_schema())
    assert [error.message for error in validator.iter_errors(summary)] == []
    summary["studies"][0]["scores"]["results"][0]["metrics"]["iou_best"]["maen"] = 0.5
    assert not validator.is_valid(summary)


def test_the_manifest_lists_data_weights_plan_summary_and_page(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    folder = place / "runs" / "gated"
    listed = {entry["role"]: entry["path"] for entry in json.loads((folder / "manifest.json").read_text())["files"]}
    assert set(listed) == {"plan", "summary", "page", "data", "weights", "rows", "card"}
    assert listed["data"].startswith("../../data/single-6c")
    assert listed["weights"].startswith("models/")
    assert listed["rows"].startswith("scores/")
    for command in ("verify", "report", "verify"):
        done = CliRunner().invoke(main, [command, str(folder)])
        assert done.exit_code == 0, done.output


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match="choose another place with --junit"):
        write_verdict_files({"name": "p", "studies": []}, Gate((), False, tmp_path / "file" / "junit.xml", None))


@pytest.mark.parametrize(
    ("text", "words", "code"),
    [
        ("gradcan: iou_best >= 0.5", 'unknown method "gradcan"; did you mean "gradcam"?', 2),
        ("gradcam: iou_bets >= 0.5", 'unknown metric "iou_bets"; did you mean "iou_best"?', 2),
        ("random: sane", 'unknown method of the sanity checks "random"', 2),
        ("certificate: relies on resnet18", 'unknown architecture "resnet18"', 2),
        ("gradcam: iou_best = 0.5", "is no requirement", 2),
    ],
)
def test_what_no_result_can_show_is_refused_before_anything_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN)
    done = audit("--require", text)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("data").exists()


def read(**values: Any) -> plans.Plan:
    """A plan of two methods with other values."""
    usual = {"name": "p", "methods": ["edges", "family:cam"], "metrics": ["usual"], "data": [{"spec": "single-6c"}]}
    return plans.from_mapping({**usual, "models": [{"arch": "resnet18"}], **values}, "p")


def test_a_plan_says_where_its_requirement_is_wrong() -> None:
    with pytest.raises(Refusal, match="^p: require: "):
        read(require={"gradcam": ["iou"]})
    with pytest.raises(Refusal, match="expected a list"):
        read(require={"gradcam": "sane"})


def test_patterns_of_methods_and_metrics_are_looked_into() -> None:
    check_requirements(read(require={"gradcam": ["iou >= 0.1"]}))
    with pytest.raises(Refusal, match='unknown metric "insertion"'):
        check_requirements(read(require={"gradcam": ["insertion >= 0.1"]}))
    with pytest.raises(Refusal, match="sanity checks"):
        check_requirements(read(require={"gradcam": ["sane"]}))
    with pytest.raises(Refusal, match="no model is certified"):
        check_requirements(read(require={"certificate": ["relies"]}, certificate=None))
    check_requirements(read(require={"gradcam": ["sane on resnet18"]}, sanity={}))
    check_requirements(read(require={"edges": ["iou > 0 on net"]}, models=[{"source": "net.safetensors"}]))


def test_at_reduced_size_a_requirement_is_about_the_stand_in() -> None:
    reduced = {"archs": {"resnet18": "flowernet"}}
    plan = read(reduced=reduced, require={"edges": ["iou > 0.0 on resnet18", "sane"]}).at_reduced_size()
    assert plan.require == {"edges": ("iou > 0 on flowernet", "sane")}
