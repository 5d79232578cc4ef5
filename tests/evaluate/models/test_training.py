"""Training: what it reaches, that it repeats itself, and that it leaves no traces."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from an8flower import spec as specs
from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.data import batches as data
from an8flower.evaluate.data.batches import FlowerDataset, ResidentRows, StreamedRows, open_rows, split_tensors
from an8flower.evaluate.models import training
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.training import EpochReport, accuracy, augment, describe_recipe, recipe_for, train
from an8flower.evaluate.models.training_loss import precision
from an8flower.evaluate.seeds import generator, seed_of
from an8flower.generate import generate
from an8flower.store import FlowerStore


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def bigger(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    path = tmp_path_factory.mktemp("data") / "bigger.h5"
    generate(specs.load("single-6c").with_changes(rows=900, size=42), path, workers=1)
    return FlowerStore(path)


# Seeds


def test_seeds_depend_on_every_name_and_on_nothing_else() -> None:
    assert seed_of("rows", 1) == 2922159925702270433
    assert len({seed_of("a", "b"), seed_of("b", "a"), seed_of("ab"), seed_of("a", "b", 0), seed_of()}) == 5
    assert all(0 <= seed_of(number) < 2**63 for number in range(100))
    assert torch.equal(torch.rand(3, generator=generator(5)), torch.rand(3, generator=generator(5)))


# Data


def test_a_whole_split_as_tensors(store: FlowerStore) -> None:
    rows = split_tensors(store["train"], slice_rows=11)
    stored = store["train"].rows(0, len(store["train"]))
    assert rows.images.shape == (84, 3, 40, 40)
    assert [tensor.dtype for tensor in rows] == [torch.uint8, torch.int64, torch.uint8]
    np.testing.assert_array_equal(rows.images.permute(0, 2, 3, 1), stored.images)
    np.testing.assert_array_equal(rows.labels, stored.labels)
    np.testing.assert_array_equal(rows.masks, stored.masks)
    assert rows.images.is_contiguous(memory_format=torch.channels_last)


def test_the_dataset_gives_rows_and_travels(store: FlowerStore) -> None:
    dataset = FlowerDataset(store.path, "test")
    before = dataset[3]
    assert len(dataset) == len(store["test"])
    assert before.images.shape == (3, 40, 40)
    for ours, again in zip(before, pickle.loads(pickle.dumps(dataset))[3], strict=True):
        assert torch.equal(ours, again)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
def test_streamed_rows_are_the_resident_ones(store: FlowerStore) -> None:
    order = torch.tensor([5, 0, 11, 3, 7])
    resident = ResidentRows(split_tensors(store["test"]))
    streamed = StreamedRows(FlowerDataset(store.path, "test"), "cpu", workers=1)
    assert len(resident) == len(streamed) == len(store["test"])
    before = torch.get_rng_state()
    pairs = list(zip(resident.batches(order, 2), streamed.batches(order, 2), strict=True))
    assert [len(ours.labels) for ours, _ in pairs] == [2, 2, 1]
    assert all(torch.equal(a, b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_spawned_workers_open_the_file_themselves(store: FlowerStore) -> None:
    loader = DataLoader(FlowerDataset(store.path, "test"), 8, num_workers=1, multiprocessing_context="spawn")
    labels = torch.cat([rows.labels for rows in loader])
    np.testing.assert_array_equal(labels, store["test"].labels)


def test_splits_that_do_not_fit_are_streamed(store: FlowerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_rows(store, "test", "cpu"), ResidentRows)
    monkeypatch.setattr(data, "bytes_available", lambda device: 1000)
    assert isinstance(open_rows(store, "test", "cpu"), StreamedRows)


# Augmentation


def slow_augment(image: np.ndarray, flip: bool, down: int, right: int) -> np.ndarray:
    """One image (..., H, W): padded with its edges, cut out, mirrored."""
    reach = training.SHIFT
    padding = [(0, 0)] * (image.ndim - 2) + [(reach, reach)] * 2
    height, width = image.shape[-2:]
    moved = np.pad(image, padding, mode="edge")[..., reach + down :, :][..., :height, :]
    across = moved[..., reach + right :][..., :width]
    return across if not flip else np.flip(moved, -1)[..., reach - right :][..., :width]


def test_augmentation_moves_images_and_masks_alike() -> None:
    images = torch.randint(255, (200, 3, 12, 10), dtype=torch.uint8, generator=generator(0))
    masks = images[:, 0].clone()
    moved, moved_masks = augment(generator(1), images, masks)
    assert moved.shape == images.shape
    assert moved.dtype == torch.uint8
    assert torch.equal(moved[:, 0], moved_masks)
    moves = generator(1)
    shifts = torch.randint(-training.SHIFT, training.SHIFT + 1, (2, 200, 1), generator=moves)[..., 0].tolist()
    flips = torch.randint(2, (200, 1), generator=moves)[:, 0].tolist()
    for row in range(200):
        expected = slow_augment(images[row].numpy(), flips[row], shifts[0][row], shifts[1][row])
        np.testing.assert_array_equal(moved[row], expected)


def test_augmentation_comes_from_its_generator() -> None:
    images = torch.randint(255, (8, 3, 12, 12), dtype=torch.uint8)
    before = torch.get_rng_state()
    assert torch.equal(augment(generator(2), images)[0], augment(generator(2), images)[0])
    assert not torch.equal(augment(generator(2), images)[0], augment(generator(3), images)[0])
    assert torch.equal(torch.get_rng_state(), before)


# The loop


def test_flowernet_learns_colours(bigger: FlowerStore, tmp_path: Path) -> None:
    reports: list[EpochReport] = []
    trained = train(bigger, "flowernet", on_epoch=reports.append)
    assert trained.accuracy > 0.95
    assert trained.history == tuple(reports)
    assert trained.epochs == len(reports)
    assert [report.epoch for report in reports] == list(range(len(reports)))
    card = trained.classifier.card
    assert (card.accuracy, card.data) == (
        trained.accuracy,
        {
            "name": "single-6c",
            "digest": bigger.digest,
            "fingerprint": bigger.fingerprint,
            "epochs": "10",
            "recipe": describe_recipe("flowernet", recipe_for("flowernet")),
        },
    )
    trained.classifier.save(tmp_path / "f.safetensors")
    again = load(tmp_path / "f.safetensors")
    assert accuracy(again, open_rows(bigger, "test", "cpu")) == trained.accuracy
    assert not again.training


def test_the_seed_fixes_the_result_and_nothing_global_moves(
    store: FlowerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = train(store, "flowernet", epochs=2, seed=1).classifier.digest
    torch.rand(3)
    torch.set_rng_state(before[0])
    assert train(store, "flowernet", epochs=2, seed=1).classifier.digest == first
    assert train(store, "flowernet", epochs=2, seed=2).classifier.digest != first
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_dropout_is_seeded_too(store: FlowerStore) -> None:
    digests = []
    for seed in (0, 7):
        torch.manual_seed(seed)
        digests.append(train(store, "mobilenet_v2", epochs=1).classifier.digest)
    assert digests[0] == digests[1]


def test_the_best_epoch_stays_and_patience_ends(store: FlowerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    judgements = iter([(1.0, 0.5), (0.9, 0.6), (0.8, 0.6), (0.1, 0.5), (0.9, 0.6), (0.9, 0.4), (0.9, 0.8)])
    digests: list[str] = []
    measured = training.measure

    def judge(classifier: training.Classifier, rows: data.RowSource, batch: int = 256) -> tuple[float, float]:
        digests.append(classifier.digest)
        return measured(classifier, rows) if len(rows) != len(store["val"]) else next(judgements)

    monkeypatch.setattr(training, "measure", judge)
    monkeypatch.setattr(training, "accuracy", lambda classifier, rows: 0.0)
    trained = train(store, "flowernet", epochs=7, patience=3)
    assert trained.epochs == 6
    assert trained.classifier.digest == digests[2]


def test_a_vision_transformer_trains(tmp_path: Path) -> None:
    generate(specs.load("single-6c").with_changes(rows=60, size=28), tmp_path / "f.h5", workers=1)
    trained = train(FlowerStore(tmp_path / "f.h5"), "flowervit", epochs=2)
    assert trained.history[1].loss < trained.history[0].loss


def test_what_cannot_be_trained(store: FlowerStore) -> None:
    with pytest.raises(Refusal, match=r"the loss of epoch \d is (nan|inf); try a lower learning rate"):
        train(store, "flowernet", epochs=2, learning_rate=1e20)
    with pytest.raises(WrongUsage, match="0 epochs came"):
        train(store, "flowernet", epochs=0)
    with pytest.raises(WrongUsage, match='unknown arch "flowrnet"'):
        train(store, "flowrnet")
    with pytest.raises(Refusal, match="40 px is no multiple of 14; use 42 px"):
        train(store, "flowervit")


def test_precision_is_known_for_every_kind_of_device() -> None:
    assert precision(torch.device("cpu")) in (None, torch.bfloat16)
    assert precision(torch.device("meta")) is None


def test_the_gpu_that_trains_says_whether_it_has_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two GPUs may be an older one."""
    ages = {"cuda:0": (9, 0), "cuda:1": (7, 5)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: ages[str(device)])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)  # of the first
    assert precision(torch.device("cuda:0")) is torch.bfloat16
    assert precision(torch.device("cuda:1")) is None


def test_cudnn_repeats_itself_while_a_model_is_trained(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(training, "run_epoch", lambda *_: seen.append(torch.backends.cudnn.deterministic) or 0.0)
    train(FlowerStore(small_file), "flowernet", epochs=1)
    assert seen == [True]
    assert not torch.backends.cudnn.deterministic


def test_a_model_says_on_what_it_was_trained(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "run_epoch", lambda *_: 0.0)
    monkeypatch.setattr(training, "precision", lambda device: torch.bfloat16)
    card = train(FlowerStore(small_file), "flowernet", epochs=1).classifier.card
    assert card.versions.items() >= {"device": "cpu", "precision": "bfloat16"}.items()
