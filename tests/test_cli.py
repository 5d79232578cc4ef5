"""The command line as users meet it: what it writes, what it prints, in which words it refuses, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from an8flower.factors import COLOURS, FACTORS
from an8flower.spec import presets

Run = Callable[..., subprocess.CompletedProcess[str]]
OWN_MODEL = """
from torch import nn

def network():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4 * 20 * 20, 8), nn.ReLU(), nn.Linear(8, 6))
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(inplace=True), flat)
"""
RESULT_KEYS = {"mean", "low", "high", "n", "undefined", "chance", "oracle", "calibrated"}
RESULT_KEYS |= {"calibrated_low", "calibrated_high", "scope", "skill", "skill_low", "skill_high"}
RESULT_KEYS |= {"of_this_picture", "of_this_picture_low", "of_this_picture_high"}
OPTIONAL_KEYS = {"gaps", "defined_only", "skill_control", "skill_reason", "of_this_picture_reason", "ceiling"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, small_file: Path) -> Path:
    """A folder with the small data set in the default place, and a model trained on it for one epoch."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data").mkdir()
    shutil.copy(small_file, folder / "data" / "single-6c.h5")
    return folder


@pytest.fixture(scope="module")
def trained(home: Path, run_in: Run) -> Path:
    """The home folder once a model is there."""
    told = json.loads(run_in("train", "--epochs", "1", "--device", "cpu", "--json", cwd=home).stdout)
    assert set(told) == {"model", "arch", "seed", "accuracy", "epochs", "seconds", "recipe"}
    assert told["model"] == "runs/single-6c/flowernet-seed0.safetensors"
    assert (home / told["model"]).exists()
    return home


def refusal(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one sentence of a command that refused."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    return last


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    with Image.open(picture) as opened:
        return opened.size


def test_help_shows_an_example_for_each_command(run: Run) -> None:
    commands = [line.split()[0] for line in run("--help").stdout.split("Commands:")[1].strip().splitlines()]
    assert {
        "generate",
        "presets",
        "inspect",
        "verify",
        "import",
        "factors",
        "train",
        "methods",
        "metrics",
        "archs",
        "check",
        "explain",
        "certify",
        "score",
    } <= set(commands)
    for command in commands:
        assert f"Example:  an8flower {command}" in run(command, "--help").stdout


def test_generate_says_what_it_did(run: Run, tmp_path: Path) -> None:
    told = json.loads(run("generate", "thin-4c", "--rows", 40, "--size", 24, "--json").stdout)
    assert set(told) == {"file", "digest", "rows", "seconds"}
    assert told["file"] == "data/thin-4c.h5"
    assert told["rows"] == 40
    with h5py.File(tmp_path / "data" / "thin-4c.h5") as file:
        assert file.attrs["digest"] == told["digest"]
        assert [len(file[split]["labels"]) for split in ("train", "val", "test")] == [28, 4, 8]
    again = run("generate", "thin-4c", "--rows", 40, "--size", 24)
    assert "is there already, with the same spec: nothing to do" in again.stdout
    other = run("generate", "thin-4c", "--rows", 50, "--size", 24, check=False)
    assert "another data set is there; replace it with --force" in refusal(other, 1)
    assert "50 rows" in run("generate", "thin-4c", "--rows", 50, "--size", 24, "--force").stdout


def test_factors_lists_what_a_spec_may_say(run: Run) -> None:
    document = json.loads(run("factors", "--json").stdout)
    assert [entry["name"] for entry in document["factors"]] == list(FACTORS)
    assert document["colours"] == dict(COLOURS)
    assert document["factors"][0] == {
        "name": "petals.count",
        "part": "petals",
        "what": "how many petals a ring has",
        "kind": "count",
        "values": [0, 16],
        "default": 8,
        "independent values": 1,
    }
    (tilt,) = json.loads(run("factors", "head.tilt", "--json").stdout)["factors"]
    assert (tilt["part"], tilt["values"], tilt["default"]) == (None, [0, 90], {"from": 25, "to": 60})
    assert json.loads(run("factors", "colours", "--json").stdout)["factors"] == []


def test_factors_are_told_in_words(run: Run) -> None:
    petals = run("factors", "petals").stdout
    assert "form of a petal" in petals
    assert "round, oval, long" in petals
    assert "{ from = 0.9, to = 1.1 }" in petals
    assert "leaves.count" not in petals
    assert "#e0202c" in run("factors", "colours").stdout


def test_every_factor_says_what_it_is() -> None:
    assert all(len(factor.words.split()) >= 3 for factor in FACTORS.values())


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["generat"], 2, 'unknown command "generat"; did you mean "generate"?'),
        (["generate", "singel-6c"], 2, 'unknown preset "singel-6c"; did you mean "single-6c"?'),
        (["generate", "own.toml"], 1, "own.toml: no such file"),
        (["generate", "--size", "-5"], 1, "size: expected 16 to 1024 pixels, came -5"),
        (["generate", "--size", "50000"], 1, "6000 rows of it would take 75,000.0 GB"),
        (["generate", "--rows", "0"], 2, "--rows"),
        (["inspect", "none.h5"], 1, "none.h5: no such file"),
        (["verify", "none.h5"], 1, "none.h5: no such file"),
        (["import", "a", "b", "-o", "c.h5"], 1, "a: no such folder"),
        (["train", "--data", "none.h5"], 1, "none.h5: no such file"),
        (["train", "--arch", "resnet19"], 2, 'unknown arch "resnet19"; did you mean "resnet'),
        (["train", "--device", "cpus"], 2, 'unknown device "cpus"; did you mean "cpu"?'),
        (["train", "--device", "cuda:7"], 2, 'device "cuda:7" is not on this machine'),
        (["score", "--method", "grad-cam"], 2, 'unknown explainer "grad-cam"; did you mean "gradcam"?'),
        (["score", "--method", "gradcam:layr=x"], 2, 'did you mean "layer"?'),
        (["score", "--method", "family:kam"], 2, 'did you mean "cam"?'),
        (["score", "--method", "random", "--metric", "iuo"], 2, 'unknown metric "iuo"; did you mean "iou"?'),
        (["score", "--method", "random", "--model", "none.safetensors"], 1, "none.safetensors"),
        (["score", "--method", "random", "--split", "tset"], 2, 'unknown split "tset"; did you mean "test"?'),
        (["score", "--method", "random", "--json", "--csv"], 2, "not both"),
        (["certify", "--split", "tset"], 2, 'unknown split "tset"; did you mean "test"?'),
        (["certify", "--data", "none.h5"], 1, "none.h5: no such file"),
        (["certify", "--model", "none.safetensors"], 1, "none.safetensors: no such file"),
        (["certify", "--rows", "99"], 2, "--rows 99: expected 1 to 24"),
        (["explain", "--method", "gradcam"], 2, "give either --image FILE, or --row N"),
        (["check", "gradcan"], 2, 'unknown explainer "gradcan"; did you mean "gradcam"?'),
        (["check", "captum:Salency"], 2, 'unknown class of captum "Salency"; did you mean "Saliency"?'),
        (["factors", "petal"], 2, 'unknown part or factor "petal"; did you mean "petals"?'),
        (["metrics", "iuo"], 2, 'unknown metric "iuo"; did you mean "iou"?'),
    ],
)
def test_refusals(run: Run, home: Path, trained: Path, words: list[str], code: int, expected: str) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*"))
    assert expected in refusal(run(*words, check=False, cwd=home), code)
    assert sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*")) == before


def test_inspect_and_its_sheet(run: Run, home: Path, tmp_path: Path) -> None:
    told = json.loads(run("inspect", home / "data" / "single-6c.h5", "--sheet", "sheet.png", "--json").stdout)
    assert told["rows in test"] == 24
    assert "red: petals" in told["evidence"]
    assert size_of(tmp_path / "sheet.png") > (200, 100)
    assert "single-6c" in run("inspect", home / "data" / "single-6c.h5").stdout


def test_verify_exits_by_what_it_finds(run: Run, home: Path, tmp_path: Path) -> None:
    assert run("verify", home / "data" / "single-6c.h5").stdout.count("ok") == 18
    shutil.copy(home / "data" / "single-6c.h5", tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["test/images"][0, 0, 0, 0] += 1
    done = run("verify", "x.h5", check=False)
    assert done.returncode == 1
    assert "DAMAGED  test/images" in done.stdout
    assert "Error: x.h5: test/images damaged" in done.stderr


def test_lists(run: Run) -> None:
    methods = {entry["name"]: entry for entry in json.loads(run("methods", "--json").stdout)}
    assert {"random", "center", "edges", "intensity", "fakecam", "gradient", "cam", "gradcam"} <= set(methods)
    assert all({"name", "family", "parameters", "source", "needs"} <= set(entry) for entry in methods.values())
    cards = {card["name"]: card for card in json.loads(run("metrics", "--json").stdout)}
    ten = "iou iou_best iou_mean iou_area pointing pointing_tol energy_pointing relevance_mass relevance_rank auroc"
    assert set(ten.split()) <= set(cards)
    wanted = {
        "name",
        "family",
        "unit",
        "bounds",
        "higher_is_better",
        "chance",
        "sign",
        "ties",
        "undefined",
        "source",
        "version",
    }
    assert all(wanted <= set(card) for card in cards.values())
    archs = {entry["name"] for entry in json.loads(run("archs", "--json").stdout)}
    assert archs >= {"flowernet", "flowervit", "resnet18", "resnet50", "vgg16", "mobilenet_v2", "convnext_tiny"}
    assert {entry["name"] for entry in json.loads(run("presets", "--json").stdout)} == set(presets())
    for command in ("methods", "metrics", "archs", "presets"):
        assert run(command).stdout.strip()
    assert "tie" in run("metrics", "pointing").stdout


def test_score_prints_json_as_designed(run: Run, trained: Path) -> None:
    words = ["score", "--method", "gradcam", "--method", "random", "--method", "edges", "--rows", "12", "--json"]
    document = json.loads(run(*words, cwd=trained).stdout)
    assert {"name", "digest", "split", "rows"} == set(document["dataset"])
    assert document["dataset"]["rows"] == 12
    assert {"arch", "seed", "digest", "accuracy", "recipe", "reliance", "accuracy_check"} == set(document["models"][0])
    assert {"share", "flip_rate"} == set(document["models"][0]["reliance"])
    assert all(isinstance(sentence, str) for sentence in document["warnings"])
    assert [result["method"] for result in document["results"]] == ["gradcam", "random", "edges"]
    for result in document["results"]:
        assert set(result) == {"method", "text", "family", "parameters", "metrics", "cost"}
        assert set(result["cost"]) == {"seconds", "forwards", "backwards"}
        assert all(set(numbers) - OPTIONAL_KEYS == RESULT_KEYS | {"relying"} for numbers in result["metrics"].values())
    gradcam, random, edges = (result["metrics"]["iou"] for result in document["results"])
    assert (edges["skill"], edges["skill_control"]) == (0, "edges")
    assert "ceiling" in gradcam
    assert "ceiling" not in random
    assert document["leading"] == ["iou_area"]
    assert document["versions"]["an8flower"]
    assert json.loads((trained / "runs" / "single-6c" / "summary.json").read_text())["results"] == document["results"]


def test_score_prints_csv_and_tables(run: Run, trained: Path) -> None:
    words = [
        "score",
        "--method",
        "gradcam",
        "--method",
        "random",
        "--rows",
        "12",
        "--metric",
        "iou",
        "--metric",
        "auroc",
    ]
    rows = list(csv.DictReader(io.StringIO(run(*words, "--csv", cwd=trained).stdout)))
    assert [(row["method"], row["metric"]) for row in rows] == [
        (method, metric) for method in ("gradcam", "random") for metric in ("iou", "auroc")
    ]
    table = run(*words, cwd=trained).stdout
    assert "accuracy" in table
    assert "calibrated" in table


def test_score_does_what_it_needs_first(run: Run, home: Path, trained: Path, tmp_path: Path) -> None:
    """Without a model there: it says that it trains one, and does."""
    (tmp_path / "data").mkdir()
    shutil.copy(home / "data" / "single-6c.h5", tmp_path / "data")
    done = run("score", "--method", "center", "--rows", 6)
    assert "runs/single-6c/flowernet-seed0.safetensors is not there: training it first" in done.stderr
    assert "center" in done.stdout


def test_what_cannot_run_is_skipped_with_its_reason(run: Run, trained: Path) -> None:
    (trained / "mine.py").write_text(OWN_MODEL)
    words = ["score", "--model", "mine:network", "--rows", 6, "--method", "cam", "-o", "mine"]
    assert "does not go on with the mean and one linear layer" in refusal(run(*words, check=False, cwd=trained), 1)
    both = run(*words, "--method", "center", cwd=trained)
    assert "skipped cam on Sequential" in both.stdout
    assert "center" in both.stdout


def test_explain_writes_picture_and_map(run: Run, trained: Path, tmp_path: Path) -> None:
    done = run("explain", "--method", "gradcam", "--row", 3, "-o", tmp_path / "why.png", cwd=trained)
    assert "gradcam for" in done.stdout
    assert np.load(tmp_path / "why.npy").shape == (40, 40)
    assert size_of(tmp_path / "why.png") > (900, 200)
    Image.new("RGB", (60, 50), "red").save(tmp_path / "own.png")
    run("explain", "--method", "gradient", "--image", tmp_path / "own.png", "-o", tmp_path / "own-why.png", cwd=trained)
    assert np.load(tmp_path / "own-why.npy").shape == (40, 40)
    done = run("explain", "--method", "gradcam", "--row", 3, "--target", 77, cwd=trained, check=False)
    assert "77" in refusal(done, 2)


def test_certify_tells_what_the_model_uses(run: Run, trained: Path) -> None:
    words = ["certify", "--rows", 6, "-o", "certificates/one.json"]
    document = json.loads(run(*words, "--json", cwd=trained).stdout)
    assert document == json.loads((trained / "certificates" / "one.json").read_text())
    assert document["dataset"]["rows"] == 6
    (certificate,) = document["certificates"]
    shares = {"accuracy", "flip_rate", "stability", "evidence_alone", "rim_alone", "rest_alone"}
    rest = {"model", "evidence", "verdict", "stability_by_group", "effects", "shortcut"}
    assert {*rest, *shares, "use", "sufficient_sets", "best_set"} == set(certificate)
    assert all({"mean", "low", "high", "n", "undefined"} == set(certificate[share]) for share in shares)
    assert certificate["evidence"] == ["petals"]
    assert certificate["shortcut"] is None
    assert (certificate["sufficient_sets"], certificate["best_set"]) == ([], None)
    assert set(certificate["use"]) == {"area", "inside", "error", "pieces", "piece_share"}
    effects = {(effect["part"], effect["change"]): effect for effect in certificate["effects"]}
    assert len(effects) == 12
    assert effects["disc", "swapped"]["reason"] == "disc: tells no class"
    table = run("certify", "--rows", 6, cwd=trained).stdout
    assert "flowernet-seed0" in table
    assert "follows when the petals become those of another class" in table


def test_certify_refuses_what_nobody_can_render(run: Run, trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "data" / "single-6c.h5", tmp_path / "foreign.h5")
    with h5py.File(tmp_path / "foreign.h5", "r+") as file:
        del file.attrs["spec"]
    done = run("certify", "--data", "foreign.h5", check=False)
    assert "foreign.h5: no spec, so its rows cannot be rendered again" in refusal(done, 1)
    assert not (tmp_path / "runs").exists()  # it refuses before it trains


def test_check_tells_what_holds(run: Run) -> None:
    told = json.loads(run("check", "captum:Saliency", "--json").stdout)
    assert told["holds"]
    assert {each["network"] for each in told["checks"]} == {"in-place", "reuse", "vit"}
    assert {each["status"] for each in told["checks"]} <= {"ok", "not applicable"}
    table = run("check", "cam").stdout
    assert "another target gives another map" in table
    assert "not applicable: maps on vit: cam: behind" in table


def test_a_model_of_another_data_set_does_not_fit(run: Run, trained: Path, tmp_path: Path) -> None:
    run("generate", "thin-4c", "--rows", 40, "--size", 40)
    words = ["score", "--method", "gradcam", "--data", "data/thin-4c.h5"]
    done = run(*words, "--model", trained / "runs" / "single-6c" / "flowernet-seed0.safetensors", check=False)
    assert "flowernet has 6 classes and the data have 4" in refusal(done, 1)


def test_a_default_model_of_former_data_is_not_taken_silently(run: Run, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    run("generate", "--rows", 60, "--size", 40, "--seed", 1)
    done = run("score", "--method", "random", check=False)
    assert "trained on other data than data/single-6c.h5 holds now; train again" in refusal(done, 1)
    named = run("score", "--method", "random", "--model", "runs/single-6c/flowernet-seed0.safetensors")
    assert "random" in named.stdout
    run("generate", "--rows", 60, "--size", 56, "--force")
    done = run("score", "--method", "random", "--model", "runs/single-6c/flowernet-seed0.safetensors", check=False)
    assert "takes 40 px, data/single-6c.h5 has 56 px" in refusal(done, 1)


def test_the_launcher_is_the_command(tmp_path: Path) -> None:

    launcher = Path(__file__).parents[1] / "cli.py"
    done = subprocess.run(
        [sys.executable, launcher, "presets", "--json"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert json.loads(done.stdout)
