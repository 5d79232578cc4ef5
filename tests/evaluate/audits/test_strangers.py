"""Commands with methods and metrics of strangers: what these do ends as a sentence, and all other numbers stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from an8flower import spec as specs
from an8flower.evaluate.audits.engines.inline import Inline
from an8flower.evaluate.audits.strangers import parse_methods_apart, stranger_in
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.results.ledger import Cell
from an8flower.generate import generate
from an8flower.store import FlowerStore

Run = Callable[..., CompletedProcess[str]]
Score = Callable[..., tuple[dict[str, Any], int]]
FOLDER = Path(__file__).parent
OWN = "hostile_explainers"
METRIC = """
from dataclasses import replace
from an8flower.evaluate.registry import metrics, register_metric

print("my_metrics is imported")
mine = register_metric(replace(metrics["iou"].item, name="mine"))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a model, and modules of strangers."""
    folder = tmp_path_factory.mktemp("strangers")
    generate(specs.load("single-6c").with_changes(rows=120, size=42), folder / "flowers.h5", workers=1)
    names = FlowerStore(folder / "flowers.h5").class_names
    build("flowernet", names, 42, seed=0).save(folder / "net.safetensors")
    (folder / f"{OWN}.py").write_text((FOLDER / f"{OWN}.py").read_text())
    (folder / "my_metrics.py").write_text(METRIC)
    return folder


@pytest.fixture(scope="module")
def call(run_in: Run, place: Path) -> Run:
    """Run `an8flower ...` in that folder."""
    return lambda *words: run_in(*words, cwd=place, check=False)


@pytest.fixture(scope="module")
def score(call: Run) -> Score:
    """Score methods in that folder: the document that is printed, and the exit code."""

    def score(output: str, *methods: str, more: tuple[str, ...] = ()) -> tuple[dict[str, Any], int]:
        words = [word for method in methods for word in ("--method", method)]
        shared = ["--data", "flowers.h5", "--model", "net.safetensors", "--rows", "12", "--device", "cpu", "--json"]
        metrics = [] if "--metric" in more else ["--metric", "iou", "--metric", "pointing"]
        done = call("score", *words, *shared, *metrics, *more, "-o", output)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.stdout, done.stderr
        return json.loads(done.stdout), done.returncode

    return score


def numbers(document: dict[str, Any]) -> dict[str, Any]:
    """What was found of each method, without what it has cost."""
    return {
        result["text"]: {key: value for key, value in result.items() if key != "cost"} for result in document["results"]
    }


@pytest.fixture(scope="module")
def undisturbed(score: Score) -> dict[str, Any]:
    """The document of methods that are well, all in one process."""
    document, code = score("undisturbed", "edges", f"{OWN}:Bright:power=2.0", more=("--in-process",))
    assert code == 0
    return document


def test_a_process_of_its_own_changes_no_number_and_no_shape(
    score: Score, place: Path, undisturbed: dict[str, Any]
) -> None:
    document, code = score("apart", "edges", f"{OWN}:Bright:power=2.0")
    assert code == 0
    for found in (document, undisturbed):
        assert found["results"][1].keys() == undisturbed["results"][0].keys()
        for result in found["results"]:
            result["cost"].pop("seconds")
    assert document == undisturbed
    plans = [json.loads((place / name / "plan.json").read_text()) for name in ("apart", "undisturbed")]
    assert plans[0] == plans[1]


def _assert_told(score: Score, undisturbed: dict[str, Any], folder: str, reasons: dict[str, str], limit: int) -> None:
    """Hostile methods are told with reasons; what is well has its numbers, and standard output is one document."""
    names = [f"{OWN}:{name}" for name in reasons]
    more = ("--time-limit", str(limit))
    document, code = score(folder, *names, "edges", f"{OWN}:Bright:power=2.0", more=more)
    assert code == 1
    failed = {entry["method"].removeprefix(f"{OWN}:"): entry["reason"] for entry in document["failed"]}
    assert list(failed) == list(reasons)
    for name, reason in reasons.items():
        assert failed[name].startswith(reason), failed[name]
        assert len(failed[name]) < 400
    assert numbers(document) == numbers(undisturbed)


@pytest.mark.slow
def test_hostile_methods_are_told_and_harm_no_other(score: Score, undisturbed: dict[str, Any]) -> None:
    reasons = {
        "RaisesOwn": "OwnError: petals",
        "Exits": "its process left with exit code 0 in each of 3 tries",
    }
    _assert_told(score, undisturbed, "few", reasons, 300)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # each stranger gets processes of its own, and one is waited for
def test_all_hostile_methods_are_told_and_harm_no_other(score: Score, undisturbed: dict[str, Any]) -> None:
    reasons = {
        "RaisesOwn": "OwnError: petals",
        "RaisesUnspeakable": "Unspeakable: its text cannot be had, as that raises OwnError",
        "Interrupts": "KeyboardInterrupt",
        "LeavesPython": "SystemExit: 0",
        "Exits": "its process left with exit code 0 in each of 3 tries",
        "Hangs": "ran longer than 60 s and was ended; allow more with --time-limit",
        "FullDisk": "OSError: [Errno 28] No space left on device",
        "ClosesEverything": "",
    }
    _assert_told(score, undisturbed, "all", reasons, 60)


@pytest.mark.slow
def test_a_method_that_prints_forks_and_patches_torch_has_its_own_numbers_alone(
    score: Score, undisturbed: dict[str, Any]
) -> None:
    names = [f"{OWN}:{name}" for name in ("Prints", "Forks")]
    document, code = score("odd", *names, f"{OWN}:PatchesTorch", "edges", f"{OWN}:Bright:power=2.0")
    assert code == 1
    (failure,) = document["failed"]
    assert "PatchesTorch(power=1.0) changed functions of torch and did not change it back" in failure["reason"]
    found = numbers(document)
    assert {name: found.pop(name)["metrics"]["iou"]["mean"] for name in names}.keys() == {*names}
    assert found == numbers(undisturbed)
    plain, _ = score("plain", "edges", f"{OWN}:Bright", more=("--in-process",))  # edges is what skill is read against
    metrics = numbers(plain)[f"{OWN}:Bright"]["metrics"]
    assert all(numbers(document)[name]["metrics"] == metrics for name in names)


@pytest.mark.slow
def test_a_metric_of_a_stranger_gives_the_same_numbers(score: Score) -> None:
    more = ("--metric", "my_metrics:mine")
    documents = [score("metric", "edges", more=more)[0]]
    documents.append(score("metric-here", "edges", more=(*more, "--in-process"))[0])
    assert numbers(documents[0]) == numbers(documents[1])
    assert set(documents[0]["results"][0]["metrics"]) == {"mine"}


@pytest.mark.slow
def test_sanity_of_a_stranger_is_the_same_in_a_process_of_its_own(call: Run) -> None:
    shared = ["--data", "flowers.h5", "--model", "net.safetensors", "--rows", 6, "--steps", 2, "--draws", 1]
    methods = ["--method", f"{OWN}:Bright", "--method", f"{OWN}:RaisesOwn"]
    words = ["sanity", *shared, "--device", "cpu", "--json", *methods]
    done = call(*words, "-o", "sane")
    assert done.returncode == 1
    assert "1 methods failed; the first: hostile_explainers:RaisesOwn: OwnError: petals" in done.stderr
    document = json.loads(done.stdout)
    words = [*words[: -words[::-1].index("--method") - 1], "--in-process"]
    here = json.loads(call(*words, "-o", "sane-here").stdout)
    for found in (document, here):
        found.pop("labels")  # where the model of permuted labels lies, and how long it took
        for result in found["results"]:
            result["cost"].pop("seconds")
    assert {**document, "failed": []} == here


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        # How the end of a process is seen, test_engines.py shows; how `check` says what failed, test_plugin.py.
        pytest.param("Exits", "its process left with exit code 0", marks=pytest.mark.slow),
        pytest.param("Hangs", "ran longer than 25 s", marks=pytest.mark.slow),
        pytest.param("Interrupts", "Keyboard", marks=pytest.mark.slow),
    ],
)
def test_check_ends_with_a_sentence(call: Run, name: str, reason: str) -> None:
    done = call("check", f"{OWN}:{name}", "--time-limit", 25, "--json")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert any(line.startswith("Error: ") and reason in line for line in done.stderr.splitlines())
    document = json.loads(done.stdout)
    assert document["holds"] is False
    assert document["checks"][-1]["status"] == "FAILED"
    assert document["not_watched"]


@pytest.mark.slow
def test_names_that_cannot_be_imported_are_told_as_before(call: Run) -> None:
    for command in (["check"], ["score", "--data", "flowers.h5", "--model", "net.safetensors", "--method"]):
        done = call(*command, f"{OWN}:Nothing")
        assert (done.returncode, done.stdout) == (2, "")
        assert "cannot be imported (module 'hostile_explainers' has no attribute" in done.stderr


def test_stand_ins_say_what_the_explainers_say(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(place))
    text = f"{OWN}:Bright:power=2.0"
    (method, ours) = parse_methods_apart([text, "edges"], "float32", Inline())
    original = parse_method(text)
    assert repr(method.explainer) == repr(original.explainer)
    assert vars(method.explainer) == vars(original.explainer)
    assert (method.text, method.name, method.class_sensitive) == original[:2] + original[3:4]
    assert ours == parse_method("edges")


def test_whose_code_a_cell_runs() -> None:
    def stranger(method: str, *metrics: str) -> str:
        return stranger_in(Cell("", (), None, {"method": method}), metrics)  # type: ignore[arg-type]

    assert stranger("gradcam:layer=x", "iou", "usual", "family:localisation") == ""
    assert stranger("chance and truth", "iou") == stranger("reliance") == ""
    assert stranger("captum:Saliency") == "captum"
    assert stranger("mine:A:b=1", "iou", "my_metrics:mine") == "mine:A and my_metrics:mine"
