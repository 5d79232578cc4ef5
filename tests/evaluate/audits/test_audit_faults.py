"""What befalls an audit: its summary is that of an undisturbed one, or says why a cell is missing."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

import an8flower
from an8flower import atomic
from an8flower import spec as specs
from an8flower.commands.audit import _print_outcome
from an8flower.errors import Refusal
from an8flower.evaluate.audits.models import Training, find_or_take, is_meant
from an8flower.evaluate.audits.opened import ModelWords, open_once
from an8flower.evaluate.audits.plan import Models, Plan, from_mapping
from an8flower.evaluate.audits.run import AuditOutcome, How, audit
from an8flower.evaluate.audits.stages.scores import cell_makers
from an8flower.evaluate.audits.study import StudyWords
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.models.sources import check_trained_on
from an8flower.evaluate.models.training import Start, describe_training, recipe_for, train
from an8flower.evaluate.scoring.run import ScoringPlan
from an8flower.generate import generate
from an8flower.spec import DatasetSpec
from an8flower.store import FlowerStore

pytestmark = pytest.mark.usefixtures("undrawn")

FOLDER = Path(__file__).parent
INLINE = How(engine="inline", device="cpu")
OWN = "faulty_explainers"


@pytest.fixture(scope="module")
def spec() -> DatasetSpec:
    return specs.load("single-6c").with_changes(rows=120, size=32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, spec: DatasetSpec) -> Iterator[Path]:
    """A folder with data and a model; methods of the neighbouring file can be imported, by workers as well."""
    folder = tmp_path_factory.mktemp("faults")
    generate(spec, folder / "flowers.h5", workers=1)
    build("flowernet", FlowerStore(folder / "flowers.h5").class_names, 32, seed=0).save(folder / "net.safetensors")
    sys.path.insert(0, str(FOLDER))
    yield folder
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def finished(place: Path) -> AuditOutcome:
    """The plan below, carried out once."""
    return audit(plan(place), place / "undisturbed" / "run", INLINE)


@pytest.fixture(scope="module")
def undisturbed(finished: AuditOutcome) -> dict[str, Any]:
    """What the plan below comes to."""
    return finished.summary


def plan(place: Path, *methods: str, **given: Any) -> Plan:
    """A tiny plan: 24 rows, cheap methods, no checks that render."""
    told = {
        "name": "tiny",
        "data": [{"file": str(place / "flowers.h5")}],
        "models": [{"source": str(place / "net.safetensors")}],
        "methods": list(methods or (f"{OWN}:Well", "edges", "random")),
        "metrics": ["iou", "pointing", "energy_pointing"],
        "rows": 24,
        "certificate": None,
        "pictures": {"rows": 2, "extremes": 1},
    }
    return from_mapping({**told, **given}, "tiny")


def numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """All that was found, but not what it cost or where it was."""
    (study,) = summary["studies"]
    kept = {key: value for key, value in study.items() if key not in ("dataset", "scores", "pictures")}
    scores = {key: value for key, value in study["scores"].items() if key not in ("results", "versions")}
    results = [{key: value for key, value in each.items() if key != "cost"} for each in study["scores"]["results"]]
    pictures = sorted((each["model"], each["method"], each["file"]) for each in study["pictures"])
    return {**kept, "scores": scores, "results": results, "pictures": pictures}


def copy_of(finished: AuditOutcome, folder: Path) -> Path:
    """A copy of the folder of a run."""
    return Path(shutil.copytree(finished.folder, folder))


def of_method(summary: dict[str, Any], method: str) -> dict[str, Any]:
    """The numbers of a method by metric, without its skill, which depends on the controls that are scored beside it."""
    (found,) = [each for each in summary["studies"][0]["scores"]["results"] if each["method"] == method]
    return {
        metric: {key: value for key, value in values.items() if not key.startswith("skill")}
        for metric, values in found["metrics"].items()
    }


def run(place: Path, folder: Path, *methods: str, how: How = INLINE, **given: Any) -> AuditOutcome:
    return audit(plan(place, *methods, **given), folder, how)


def test_faulty_methods_fail_their_cells_alone(place: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    reasons = {
        "Raises": "ValueError: no such layer: conv9",
        "GivesNan": "returned NaN or infinity in the maps",
        "Mutates": "changed its input images in place",
    }
    _assert_failed(place, undisturbed, tmp_path / "run", INLINE, reasons)


@pytest.mark.slow
def test_methods_that_harm_their_process_fail_their_cells_alone(
    place: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    reasons = {
        "Hangs": "ran longer than 20 s and was ended; allow more with --time-limit",
        "Leaks": "out of memory",
        "Dies": "its process left with exit code 0 in each of 3 tries",
    }
    how = How(device="cpu", workers=2, time_limit=20, memory_limit=1.5)
    _assert_failed(place, undisturbed, tmp_path / "run", how, reasons)


def _assert_failed(place: Path, undisturbed: dict[str, Any], folder: Path, how: How, reasons: dict[str, str]) -> None:
    """Faulty methods are told with their reasons, and another one has its usual numbers."""
    methods = [*(f"{OWN}:{name}" for name in (*reasons, "Well")), "edges", "random"]  # the controls, for skill
    found = run(place, folder, *methods, how=how).summary
    told = {each["method"].removeprefix(f"{OWN}:"): each["reason"] for each in found["failed"]}
    assert set(told) == set(reasons)
    for name, reason in reasons.items():
        assert reason in told[name], name
    assert of_method(found, f"{OWN}:Well") == of_method(undisturbed, f"{OWN}:Well")
    traces = [json.loads(path.read_text())["traceback"] for path in (folder / "failed").iterdir()]
    assert len(traces) == len(reasons)
    assert any("faulty_explainers.py" in trace for trace in traces) or how.engine != "inline"


def test_a_gpu_without_room_gets_smaller_batches(place: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    found = run(place, tmp_path / "run", f"{OWN}:WantsSmallBatches").summary
    assert not found["failed"]
    assert of_method(found, f"{OWN}:WantsSmallBatches") == of_method(undisturbed, f"{OWN}:Well")


def test_nothing_is_done_twice(place: Path, finished: AuditOutcome, tmp_path: Path) -> None:
    again = run(place, copy_of(finished, tmp_path / "run"))
    assert finished.reused == 0
    assert (again.done, again.reused) == (0, finished.done)
    assert numbers(again.summary) == numbers(finished.summary)


def test_damaged_parts_are_done_again(place: Path, finished: AuditOutcome, tmp_path: Path) -> None:
    copy_of(finished, tmp_path / "run")
    for kind in ("scores", "pictures"):
        parts = sorted((tmp_path / "run" / kind).iterdir())
        os.truncate(parts[0], parts[0].stat().st_size // 2)
        parts[1].write_bytes(b"")
    again = run(place, tmp_path / "run")
    assert again.done == 4
    assert numbers(again.summary) == numbers(finished.summary)


def test_parts_of_another_version_are_not_taken(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(an8flower, "__version__", "0.0.1")
    before = run(place, tmp_path / "run")
    monkeypatch.undo()
    cell_makers.cache_clear()  # which a process of another version has not
    after = run(place, tmp_path / "run")
    assert after.reused < after.done == before.done


def test_other_data_under_the_same_name(place: Path, spec: DatasetSpec, finished: AuditOutcome, tmp_path: Path) -> None:
    for name in ("flowers.h5", "net.safetensors"):
        shutil.copy(place / name, tmp_path / name)
    copy_of(finished, tmp_path / "a" / "run")
    same = run(tmp_path, tmp_path / "a" / "run")
    assert same.done == 0
    assert numbers(same.summary) == numbers(finished.summary)
    generate(spec.with_changes(seed=7), tmp_path / "flowers.h5", workers=1, force=True)
    swapped = run(tmp_path, tmp_path / "a" / "run")
    clean = run(tmp_path, tmp_path / "b" / "run")
    assert swapped.reused == 0
    assert numbers(swapped.summary) == numbers(clean.summary) != numbers(finished.summary)


def test_a_model_that_was_replaced_between_two_audits_is_read_anew(place: Path, tmp_path: Path) -> None:
    """One process, one folder, the same name of the file: nothing but its content tells the models apart."""
    shutil.copy(place / "flowers.h5", tmp_path / "flowers.h5")
    first = build("flowernet", FlowerStore(place / "flowers.h5").class_names, 32, seed=0)
    second = build("flowernet", FlowerStore(place / "flowers.h5").class_names, 32, seed=1)
    second.card = first.card
    first.save(tmp_path / "net.safetensors")
    before = run(tmp_path, tmp_path / "run", "gradient")
    second.save(tmp_path / "net.safetensors")
    after = run(tmp_path, tmp_path / "run", "gradient")
    clean = run(tmp_path, tmp_path / "clean" / "run", "gradient")
    assert not after.failed
    assert numbers(after.summary) == numbers(clean.summary) != numbers(before.summary)


def test_a_model_that_was_replaced_during_an_audit_is_refused(place: Path, tmp_path: Path) -> None:
    """What a worker opens is the model that was meant, or nothing."""
    asked = ScoringPlan(place / "flowers.h5", (), ("gradient",), ("iou",), rows=6)
    store = FlowerStore(place / "flowers.h5")
    words = StudyWords(plan=asked, fingerprint=store.fingerprint, folder=str(tmp_path), device="cpu")
    model = ModelWords(words, str(place / "net.safetensors"), "0" * 64)
    with pytest.raises(Refusal, match="is another model than when the audit began"):
        open_once(model)


def test_fits_of_a_run_are_swept_and_made_afresh(place: Path, tmp_path: Path) -> None:
    fits = tmp_path / "run" / "fits"
    fits.mkdir(parents=True)
    dead = subprocess.Popen(["true"])
    dead.wait()
    unfinished = fits / f"vebi-1a2b3c4d.safetensors.{atomic._machine()}.{dead.pid}.unfinished"
    for path in (unfinished, fits / "vebi-1a2b3c4d.safetensors"):
        path.touch()
    run(place, tmp_path / "run", "edges")
    assert [path.name for path in fits.iterdir()] == ["vebi-1a2b3c4d.safetensors"]
    audit(plan(place, "edges"), tmp_path / "run", INLINE, fresh=True)
    assert not fits.exists()


def test_an_audit_that_cannot_begin_removes_nothing(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "flowers.h5", tmp_path / "flowers.h5")
    shutil.copy(place / "net.safetensors", tmp_path / "net.safetensors")
    run(tmp_path, tmp_path / "run", "edges")
    parts = sorted((tmp_path / "run" / "scores").iterdir())
    (tmp_path / "flowers.h5").unlink()
    with pytest.raises(Refusal, match="no such file"):
        audit(plan(tmp_path, "edges"), tmp_path / "run", INLINE, fresh=True)
    assert sorted((tmp_path / "run" / "scores").iterdir()) == parts
    assert parts


def test_a_model_that_lacks_weights_or_has_others_is_trained_again(place: Path, tmp_path: Path) -> None:
    """Its card says that it is the one that is meant; refused, it would stand in the way for ever."""
    store, wanted, where = (
        FlowerStore(place / "flowers.h5"),
        Models(arch="flowernet", epochs=1),
        tmp_path / "m.safetensors",
    )
    classifier = build("flowernet", store.class_names, 32, seed=0)
    data = describe_training(store, recipe_for("flowernet", 1), Start(), classifier)
    classifier.card = replace(classifier.card, data=data, versions={"an8flower": an8flower.__version__})
    classifier.save(where)
    assert is_meant(where, store, wanted, 0)
    with safe_open(where, "pt") as file:
        metadata = file.metadata()
    weights = dict(classifier.state_dict())
    others = {**weights, "network.classifier.bias": weights["network.classifier.bias"] + 1}
    fewer = {name: tensor for name, tensor in weights.items() if name != "network.classifier.bias"}
    for changed, about in ((others, metadata), (fewer, classifier.card.to_metadata())):
        save_file(changed, where, about)
        assert not is_meant(where, store, wanted, 0)


def test_a_model_of_edited_rows_is_not_taken_for_that_of_the_spec(place: Path, tmp_path: Path) -> None:
    """Edited rows with renewed checksums keep the digest of the spec."""
    shutil.copy(place / "flowers.h5", tmp_path / "flowers.h5")
    with h5py.File(tmp_path / "flowers.h5", "r+") as file:
        images = file["train/images"]
        images[0] = 255 - images[0]
        images.attrs["sha256"] = hashlib.sha256(images[:].tobytes()).hexdigest()
    whole, edited = FlowerStore(place / "flowers.h5"), FlowerStore(tmp_path / "flowers.h5")
    assert edited.digest == whole.digest
    wanted, model = Models(arch="flowernet", epochs=1), tmp_path / "runs" / "flowers" / "flowernet-seed0.safetensors"
    train(edited, "flowernet", epochs=1).classifier.save(model)
    assert is_meant(model, edited, wanted, 0)
    assert not is_meant(model, whole, wanted, 0)
    training = Training(tmp_path / "runs" / "run" / "models" / "m.safetensors", wanted, 0, waits=False)
    assert not find_or_take(training, whole, neighbours=[])
    check_trained_on(model, edited)
    with pytest.raises(Refusal, match="trained on other data"):
        check_trained_on(model, whole)


def test_damaged_data_are_refused(place: Path, tmp_path: Path) -> None:
    for name in ("flowers.h5", "net.safetensors"):
        shutil.copy(place / name, tmp_path / name)
    with h5py.File(tmp_path / "flowers.h5", "r+") as file:
        file["test/images"][0, 0, 0, 0] ^= 1
    with pytest.raises(Refusal, match="flowers.h5: test/images damaged"):
        run(tmp_path, tmp_path / "run")


def test_two_audits_in_one_folder(place: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    found: list[AuditOutcome] = []
    first = threading.Thread(target=lambda: found.append(run(place, tmp_path / "run", f"{OWN}:Slow", "edges")))
    first.start()
    _wait_for(lambda: (tmp_path / "run" / "plan.json").exists())
    with pytest.raises(Refusal, match="another audit is at work there; wait until it is through"):
        run(place, tmp_path / "run", f"{OWN}:Slow", "edges")
    first.join()
    assert of_method(found[0].summary, "edges") == of_method(undisturbed, "edges")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, too little for a run."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_and_the_same_audit_goes_on(
    place: Path, undisturbed: dict[str, Any], small_disk: Path
) -> None:
    with pytest.raises(Refusal, match="make room"):
        run(place, small_disk / "run")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert numbers(run(place, small_disk / "run").summary) == numbers(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_twenty_times(place: Path, tmp_path: Path) -> None:
    """Each time the whole group of processes is killed at a moment drawn from the time that the audit takes.

    An audit that ends in spite of it has the numbers of an undisturbed one; then another is begun, in a folder apart.
    """
    (tmp_path / "plan.toml").write_text(_as_toml(place))
    begin = _starter(tmp_path)
    began = time.monotonic()
    assert begin(tmp_path / "whole" / "run").wait(timeout=300) == 0
    takes, chance, kills, ended = time.monotonic() - began, random.Random(20), 0, 0
    while kills < 20:
        process = begin(tmp_path / f"killed{ended}" / "run")
        try:
            assert process.wait(timeout=chance.uniform(0.1, 0.9) * takes) == 0
            ended += 1
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert begin(tmp_path / f"killed{ended}" / "run").wait(timeout=300) == 0
    whole, *others = (
        numbers(json.loads((folder / "run" / "summary.json").read_text()))
        for folder in [tmp_path / "whole", *sorted(tmp_path.glob("killed*"))]
    )
    assert len(others) == ended + 1
    assert all(other == whole for other in others)
    assert not list(tmp_path.rglob("killed*/**/*.unfinished"))


def test_killed_at_a_cell_and_resumed(place: Path, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """Once, when the first part is filed."""
    (tmp_path / "plan.toml").write_text(_as_toml(place))
    process = _starter(tmp_path, "--engine", "inline")(tmp_path / "run")
    _wait_for(lambda: any((tmp_path / "run" / "scores").glob("*.parquet")))
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    filed = len(list((tmp_path / "run" / "scores").glob("*.parquet")))
    rest = run(place, tmp_path / "run")
    assert rest.reused >= filed > 0
    assert numbers(rest.summary) == numbers(undisturbed)
    assert not list(tmp_path.rglob("*.unfinished"))


def _starter(folder: Path, *more: str) -> Callable[[Path], subprocess.Popen[bytes]]:
    words = ["audit", folder / "plan.toml", "--trust", "--device", "cpu", "--workers", "2", *more, "-o"]
    path = os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])

    def begin(run: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "an8flower", *words, run],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    return begin


def _as_toml(place: Path) -> str:
    return f"""
name = "tiny"
methods = ["{OWN}:Well", "edges", "random"]
metrics = ["iou", "pointing", "energy_pointing"]
rows = 24
pictures = {{ rows = 2, extremes = 1 }}
[[data]]
file = "{place / "flowers.h5"}"
[[models]]
source = "{place / "net.safetensors"}"
"""


def _wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_method_that_changes_the_model_changes_no_other_part(
    place: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """Neither in the same audit, nor in one in a folder beside it, which takes its parts."""
    bad = f"{OWN}:Leaves:what=weights"
    disturbed = run(place, tmp_path / "one", bad, f"{OWN}:Well", "edges", "random")
    assert {failure["method"] for failure in disturbed.failed} == {bad}
    beside = run(place, tmp_path / "two")
    assert beside.done == 0
    assert numbers(beside.summary) == numbers(undisturbed)


def test_a_metric_that_raises_is_told_of_chance_and_methods_alike(place: Path, tmp_path: Path) -> None:
    outcome = run(place, tmp_path / "run", metrics=["iou", f"{OWN}:METRIC_BROKEN"])
    assert {failure["method"] for failure in outcome.failed} == {"chance and truth", f"{OWN}:Well", "edges", "random"}
    assert all("strange_broken: ValueError: no such curve" in failure["reason"] for failure in outcome.failed)
    assert set(of_method(outcome.summary, "edges")) == {"iou"}
    with pytest.raises(Refusal, match="4 cells failed, the rest is on the page; the first: chance and truth: "):
        _print_outcome(outcome, as_json=False)
