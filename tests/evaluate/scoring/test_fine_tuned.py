"""Fine-tuned copies of models: made once, kept beside the model, and models like any other."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from an8flower.evaluate.metrics.idsds import PatchRemoval
from an8flower.evaluate.models import fine_tuning
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.files import load
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring import fine_tuned as kept
from an8flower.evaluate.scoring.fine_tuned import FineTuner, files_of
from an8flower.evaluate.scoring.needs import missing_needs
from an8flower.evaluate.scoring.run import Scoring, ScoringPlan
from an8flower.store import FlowerStore

REMOVAL = PatchRemoval(4, "mean")


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def classifier(store: FlowerStore) -> Classifier:
    return build("flowernet", store.class_names, store.size, seed=4).eval()


@pytest.fixture(scope="module")
def folder(store: FlowerStore, classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's file, and beside it what it became by fine-tuning."""
    folder = tmp_path_factory.mktemp("tuned")
    classifier.save(folder / "net.safetensors")
    FineTuner(store, {classifier.digest: folder / "net.safetensors"})(classifier, REMOVAL)
    return folder


@pytest.fixture
def no_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    def tune(*_: object) -> None:
        pytest.fail("what lies on disk was made again")

    monkeypatch.setattr(kept, "tune", tune)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was fine-tuned, in the order of calls, each for one epoch."""
    calls: list[str] = []

    def tune(classifier: Classifier, *rest: object) -> fine_tuning.TunedClassifier:
        calls.append(repr(rest[2]))
        return fine_tuning.tune(classifier, *rest, epochs=1)

    monkeypatch.setattr(kept, "tune", tune)
    return calls


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("net.tuned-*.safetensors")
    return path


@pytest.mark.usefixtures("no_tuning")
def test_what_lies_beside_the_model_is_taken(store: FlowerStore, classifier: Classifier, folder: Path) -> None:
    tuner = FineTuner(store, {classifier.digest: folder / "net.safetensors"})
    tuned = tuner(classifier, REMOVAL)
    assert tuned.digest == load(only_file(folder)).digest != classifier.digest
    assert not tuned.training
    assert tuner(classifier, REMOVAL) is tuned


def test_its_card_says_what_it_is(classifier: Classifier, folder: Path) -> None:
    card = load(only_file(folder)).card
    assert card.accuracy is None
    assert card.data["tuned"] == repr(REMOVAL)
    assert card.data["tuned_from"] == classifier.digest
    before, after = (float(card.data["tuned_loss"].split()[place]) for place in (0, 2))
    assert after < before


def test_other_models_other_removals_and_damage_are_made_anew(
    store: FlowerStore, classifier: Classifier, folder: Path, tmp_path: Path, counted: list[str]
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    files = {classifier.digest: tmp_path / "net.safetensors"}
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    FineTuner(store, files)(classifier, REMOVAL)
    assert counted == [repr(REMOVAL)]
    assert load(path).card.data["tuned_from"] == classifier.digest  # whole again
    FineTuner(store, files)(classifier, PatchRemoval(4, "black"))
    other = build("flowernet", store.class_names, store.size, seed=5).eval()
    FineTuner(store, {other.digest: tmp_path / "net.safetensors"})(other, REMOVAL)
    assert len(counted) == 3
    assert len([*tmp_path.glob("net.tuned-*")]) == 3


def test_who_comes_at_the_same_time_waits(
    store: FlowerStore, classifier: Classifier, tmp_path: Path, counted: list[str]
) -> None:
    classifier.save(tmp_path / "net.safetensors")
    tuners = [FineTuner(store, {classifier.digest: tmp_path / "net.safetensors"}) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda tuner: tuner(classifier, REMOVAL), tuners)
    assert counted == [repr(REMOVAL)]
    assert first.digest == second.digest
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".safetensors"] * 2


def test_a_model_without_a_file_has_it_in_the_folder_of_the_run(
    store: FlowerStore, classifier: Classifier, tmp_path: Path, counted: list[str]
) -> None:
    FineTuner(store, {}, tmp_path)(classifier, REMOVAL)
    assert len([*(tmp_path / "tuned").glob("tuned-*.safetensors")]) == len(counted) == 1
    FineTuner(store)(classifier, REMOVAL)  # no folder: nothing is kept
    assert len(counted) == 2


def test_scoring_fine_tunes_once_for_all_methods(
    small_file: Path, folder: Path, tmp_path: Path, counted: list[str]
) -> None:
    shutil.copy(folder / "net.safetensors", tmp_path / "net.safetensors")
    assert score_rows(small_file, tmp_path / "net.safetensors", ("gradient", "edges"), "idsds", tmp_path)
    assert counted == [repr(REMOVAL)]
    assert score_rows(small_file, only_file(tmp_path), ("gradient",), "idsds:tuned=false", tmp_path)
    assert counted == [repr(REMOVAL)]


def score_rows(data: Path, model: Path, methods: tuple[str, ...], metric: str, folder: Path) -> bool:
    """Score four rows with each method; whether all of them have values."""
    plan = ScoringPlan(data, (str(model),), methods, (metric,), rows=4)
    opened = Scoring(plan, Resources(torch.device("cpu"), batch=7), folder / "run")
    classifier, indices = opened.models[0].classifier, opened.chosen
    tables = [opened.judge.score(classifier, method, indices, indices * 0) for method in opened.methods]
    return not any(table["value"].null_count for table in tables)


def test_data_without_training_rows_leave_it_out(store: FlowerStore) -> None:
    assert "training" not in missing_needs(store)
    alone = SimpleNamespace(spec=store.spec, part_names=store.part_names, splits=("test", "val"), path="alone.h5")
    assert missing_needs(alone)["training"] == (
        "alone.h5 has no rows in train, so that no model can be fine-tuned on it"
    )


def test_only_files_have_places(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").touch()
    sources = {"a": str(tmp_path / "net.safetensors"), "b": "package.module:factory"}
    assert files_of(sources) == {"a": tmp_path / "net.safetensors"}
