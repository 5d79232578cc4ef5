"""An audit beside an earlier one, on the command line: what changed, where it stands, and the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from an8flower.__main__ import main
from an8flower.evaluate.results.summary_schema import summary_schema

pytestmark = pytest.mark.usefixtures("undrawn")

PLAN = """
name = "before"
methods = ["gradcam", "random"]
metrics = ["iou_best", "pointing"]
rows = 24
pictures = {{rows = 1, extremes = 1}}
[[data]]
spec = "single-6c"
rows = 120
size = 32
[[models]]
arch = "flowernet"
epochs = {epochs}
"""


def audit(*words: str, plan: str = "before.toml") -> Result:
    return CliRunner().invoke(main, ["audit", plan, "--engine", "inline", "--device", "cpu", *words])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished audits: of a model of three epochs, and then of one of a single epoch."""
    folder = tmp_path_factory.mktemp("against")
    for name, epochs in (("before", 3), ("after", 1)):
        (folder / f"{name}.toml").write_text(PLAN.format(epochs=epochs) + "[certificate]\nrows = 2\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert audit().exit_code == 0
        assert audit("-o", "runs/after", plan="after.toml").exit_code == 0
    return folder


def changes(place: Path, run: str) -> dict[tuple[str, str], str]:
    against = json.loads((place / "runs" / run / "summary.json").read_text())["against"]
    return {(change["method"], change["metric"]): change["outcome"] for change in against["changes"]}


def test_the_same_plan_gives_equal_cells_and_none_is_worse(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    done = audit("-o", "runs/same", "--against", "runs/before", "--require", "no worse", "--strict")
    assert done.exit_code == 0, done.output
    assert set(changes(place, "same").values()) == {"equal"}
    assert "against runs/before: 4 cells: 0 worse, 0 better, 4 equal" in done.stdout
    assert "holds      baseline: no worse" in done.stdout


def test_a_model_that_was_trained_for_less_is_worse(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    words = ["-o", "runs/after", "--against", "runs/before", "--require", "no worse", "--method", "gradcam"]
    done = audit(*words, "--markdown", str(tmp_path / "m.md"), "--junit", str(tmp_path / "j.xml"), plan="after.toml")
    assert done.exit_code == 3, done.output
    outcomes = changes(place, "after")
    assert outcomes["gradcam", "pointing"] == "worse"
    assert {outcomes["random", metric] for metric in ("iou_best", "pointing")} == {"gone"}
    assert "worse      gradcam by pointing on flowernet seed 0, single-6c" in done.stdout
    assert "gone: random (2 cells)" in done.stdout
    page, markdown = (place / "runs" / "after" / "report.html").read_text(), (tmp_path / "m.md").read_text()
    assert "What has changed" in page
    for text in (page, markdown):
        assert "2 gone" in text
    assert "| worse | `gradcam` | pointing |" in markdown
    assert "baseline: no worse" in (tmp_path / "j.xml").read_text()
    jsonschema = pytest.importorskip("jsonschema")
    summary = json.loads((place / "runs" / "after" / "summary.json").read_text())
    assert not list(jsonschema.Draft202012Validator(summary_schema()).iter_errors(summary))
    assert CliRunner().invoke(main, ["report", "runs/after"]).exit_code == 0
    assert CliRunner().invoke(main, ["verify", "runs/after"]).exit_code == 0


def test_a_run_without_its_rows_is_compared_by_means(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    shutil.copytree("runs/before", "elsewhere/before")
    shutil.rmtree("elsewhere/before/scores")
    words = ["-o", "runs/means", "--against", "elsewhere/before", "--require", "gradcam: no worse"]
    assert audit(*words, "--strict").exit_code == 0  # of the very same scores
    assert set(changes(place, "means").values()) == {"equal"}
    done = audit(*words, "--rows", "18")
    assert done.exit_code == 0, done.output
    assert "so means are compared" in " ".join(done.stdout.split())
    assert "cannot be told" in changes(place, "means").values()
    assert "undecided  gradcam: no worse" in done.stdout


def test_an_audit_is_signed_when_it_is_finished(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    monkeypatch.chdir(place)
    key, private, public = Ed25519PrivateKey.generate(), tmp_path / "key.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert audit("-o", "runs/signed", "--sign", str(private)).exit_code == 0
    verify = ["verify", "runs/signed", "--public-key", str(public)]
    assert CliRunner().invoke(main, verify).exit_code == 0
    assert audit("-o", "runs/signed", "--rows", "18").exit_code == 0  # another manifest
    assert CliRunner().invoke(main, verify).exit_code == 1
    assert audit("-o", "runs/none", "--sign", str(public)).exit_code == 1
    assert not Path("runs/none").exists()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--require", "no worse"], 2, "give the folder of an audit with --against"),
        (["--against", "runs/before", "-o", "runs/before"], 1, "is the folder of this audit itself"),
        (["--against", "runs"], 1, "no finished audit is there to compare with"),
        (["--against", "runs/before", "--metric", "pointing:strict=true"], 1, "other options"),
        (["--against", "runs/before", "--data", "pair-12c"], 1, "scored other data (single-6c)"),
        (["--against", "runs/before", "--require", "gradcan: no worse"], 2, 'unknown method "gradcan"'),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    place: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, sentence: str
) -> None:
    monkeypatch.chdir(place)
    done = audit(*(["-o", "runs/none"] if "-o" not in words else []), *words)
    assert done.exit_code == code, done.output
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
