"""What `score --require` decides: outcomes as in an audit, exit codes, files, and early refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from an8flower import spec as specs
from an8flower.__main__ import main
from an8flower.evaluate import score as call_score
from an8flower.generate import generate

HOLDS, FAILS, OPEN = "gradcam: iou_best < 0.9", "random: iou_best > 0.5", "gradcam: iou_best > 0.1"
WORDS = (
    "score",
    "--method",
    "gradcam",
    "--method",
    "random",
    "--metric",
    "iou_best",
    "--rows",
    "12",
    "--device",
    "cpu",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set and a model of one epoch, scored once."""
    folder = tmp_path_factory.mktemp("scored")
    generate(specs.load("single-6c").with_changes(rows=60, size=32), folder / "data" / "single-6c.h5", workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train = CliRunner().invoke(main, ["train", "--epochs", "1", "--device", "cpu"])
        assert train.exit_code == 0, train.output
        assert score().exit_code == 0
    return folder


def score(*words: str, require: tuple[str, ...] = ()) -> Result:
    required = [word for text in require for word in ("--require", text)]
    return CliRunner().invoke(main, [*WORDS, "--in-process", *words, *required])


@pytest.mark.parametrize(
    ("require", "more", "code"),
    [((HOLDS, OPEN), (), 0), ((HOLDS, OPEN), ("--strict",), 4), ((HOLDS, FAILS, OPEN), ("--strict",), 3)],
)
def test_exit_codes(
    place: Path, monkeypatch: pytest.MonkeyPatch, require: tuple[str, ...], more: tuple[str, ...], code: int
) -> None:
    monkeypatch.chdir(place)
    done = score(*more, require=require)
    assert done.exit_code == code, done.output
    for text, outcome in zip(require, ("holds", "undecided") if len(require) == 2 else (), strict=False):
        assert f"{outcome:<9}  {text}" in done.stdout


def test_outcomes_stand_in_json_and_in_both_files(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    junit, markdown = tmp_path / "junit.xml", tmp_path / "summary.md"
    done = score("--json", "--junit", str(junit), "--markdown", str(markdown), require=(HOLDS, FAILS, OPEN))
    assert done.exit_code == 3
    document = json.loads(done.stdout)
    assert {entry["text"]: entry["outcome"] for entry in document["requirements"]} == {
        HOLDS: "holds",
        FAILS: "fails",
        OPEN: "undecided",
    }
    for entry in document["requirements"]:  # decided by the bounds of the very interval that the document prints
        method, bound = entry["text"].split(":")[0], float(entry["text"].split()[-1])
        (result,) = (result for result in document["results"] if result["text"] == method)
        numbers = result["metrics"]["iou_best"]
        assert (numbers["low"] < bound < numbers["high"]) == (entry["outcome"] == "undecided")
    assert "3 requirements: 1 holds, 1 fails, 1 undecided" in markdown.read_text()
    junitparser = pytest.importorskip("junitparser")
    (suite,) = junitparser.JUnitXml.fromfile(str(junit))
    assert (suite.tests, suite.failures, suite.skipped) == (3, 1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gradcan: iou_best >= 0.5", 'unknown method "gradcan"; did you mean "gradcam"?'),
        ("gradcam: iou_bets >= 0.5", 'unknown metric "iou_bets"; did you mean "iou_best"?'),
        ("gradcam: sane", "require it of `an8flower audit`"),
        ("certificate: relies", "require it of `an8flower audit`"),
        ("gradcam: iou_best = 0.5", "is no requirement"),
    ],
)
def test_what_no_score_can_show_is_refused_before_anything_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = score(require=(text,))
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_python_decides_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = call_score(
        data="data/single-6c.h5",
        models="runs/single-6c/flowernet-seed0.safetensors",
        methods=["gradcam", "random"],
        metrics="iou_best",
        rows=12,
        device="cpu",
        require=[HOLDS, FAILS],
    )
    assert [entry["outcome"] for entry in result.document["requirements"]] == ["holds", "fails"]
