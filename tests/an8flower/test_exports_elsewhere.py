"""Exports as other tools read them, with the real packages (the extra `interop`): the pixels are the data set's."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from an8flower.exporting.export import export
from an8flower.exporting.layouts import LAYOUTS
from an8flower.store import FlowerStore, StoredRows


@pytest.fixture(scope="module")
def folders(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small data set in each layout, with masks of pairs; not to be changed."""
    place = tmp_path_factory.mktemp("exports")
    return {name: export(small_file, place / name, name, with_pairs=True).folder for name in LAYOUTS}


@pytest.fixture(scope="module")
def rows(small_file: Path) -> StoredRows:
    """All rows of the test split."""
    store = FlowerStore(small_file)
    return store["test"].rows(0, len(store["test"]))


def test_hugging_face_datasets(
    folders: dict[str, Path], rows: StoredRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load_dataset(FOLDER)`, as it is done with a repository of the hub: three splits, pictures and class names."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(folders["parquet"]), cache_dir=str(tmp_path))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 84, "val": 12, "test": 24}
    test = loaded["test"]
    assert np.array_equal(np.stack([np.asarray(image) for image in test["image"]]), rows.images)
    assert np.array_equal(np.stack([np.asarray(mask) for mask in test["mask"]]), rows.masks)
    assert np.array_equal(np.stack([np.asarray(parts) for parts in test["parts"]]), rows.parts)
    assert list(test["label"]) == rows.labels.tolist()
    assert test.features["label"].int2str(rows.labels.tolist()) == list(test["class"])
    assert rows.factors is not None
    assert list(test["petals.size"]) == rows.factors["petals.size"].tolist()


def test_hugging_face_reads_the_other_layouts(
    folders: dict[str, Path], rows: StoredRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    pictures = datasets.load_dataset(str(folders["folder"]), cache_dir=str(tmp_path / "f"))["test"]
    assert sorted(np.asarray(image).tobytes() for image in pictures["image"]) == sorted(
        image.tobytes() for image in rows.images
    )
    samples = datasets.load_dataset(str(folders["webdataset"]), cache_dir=str(tmp_path / "w"))["test"]
    assert np.array_equal(np.stack([np.asarray(image) for image in samples["image.png"]]), rows.images)
    assert [line["label"] for line in samples["json"]] == rows.labels.tolist()


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_croissant_is_valid(layout: str, folders: dict[str, Path]) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described = mlcroissant.Dataset(jsonld=folders[layout] / "croissant.json")
    issues = described.metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings
    assert described.metadata.name == "single-6c"
    document = json.loads((folders[layout] / "croissant.json").read_text())
    assert sum(key.startswith("rai:") for key in document) == 10


def records(folder: Path, split: str, count: int) -> list[dict[str, Any]]:
    """The first records that mlcroissant reads of a split, under the names of their fields."""
    import mlcroissant

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described = mlcroissant.Dataset(jsonld=folder / "croissant.json")
        read = [record for record, _ in zip(described.records(split), range(count), strict=False)]
    return [{name.partition("/")[2]: value for name, value in record.items()} for record in read]


def test_croissant_reads_ten_rows_of_parquet(folders: dict[str, Path], rows: StoredRows) -> None:
    pytest.importorskip("mlcroissant")
    read = records(folders["parquet"], "test", 10)
    assert len(read) == 10
    for i, record in enumerate(read):
        assert (record["row"], record["label"]) == (i, rows.labels[i])
        assert np.array_equal(np.asarray(record["image"]), rows.images[i])
        assert np.array_equal(np.asarray(record["mask"]), rows.masks[i])
        assert np.array_equal(np.asarray(record["parts"]), rows.parts[i])  # type: ignore[index]


def test_croissant_reads_ten_rows_of_a_folder(folders: dict[str, Path], rows: StoredRows) -> None:
    pytest.importorskip("mlcroissant")
    read = records(folders["folder"], "test", 10)
    assert len(read) == 10
    for i, record in enumerate(read):
        assert record["label"] == rows.labels[i]
        with Image.open(folders["folder"] / record["image"].decode()) as image:
            assert np.array_equal(np.asarray(image), rows.images[i])
        with Image.open(folders["folder"] / record["mask"].decode()) as mask:
            assert np.array_equal(np.asarray(mask), rows.masks[i])


def test_croissant_reads_ten_rows_of_archives(folders: dict[str, Path], rows: StoredRows) -> None:
    pytest.importorskip("mlcroissant")
    for name, expected in (("image", rows.images), ("mask", rows.masks), ("parts", rows.parts)):
        read = records(folders["webdataset"], f"test-{name}", 10)
        assert [record["key"] for record in read] == [f"test-{i:09d}".encode() for i in range(10)]
        for i, record in enumerate(read):
            assert np.array_equal(np.asarray(record["content"]), expected[i])  # type: ignore[index]
    labels = [record["content"] for record in records(folders["webdataset"], "test-cls", 10)]
    assert [int(label) for label in labels] == rows.labels[:10].tolist()


def test_webdataset(folders: dict[str, Path], rows: StoredRows) -> None:
    webdataset = pytest.importorskip("webdataset")
    shards = [f"file:{place}" for place in sorted(folders["webdataset"].glob("test-*.tar"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode())
    assert len(samples) == 24
    for i, sample in enumerate(samples):
        assert sample["__key__"] == f"test-{i:09d}"
        assert sample["cls"] == rows.labels[i]
        for name, expected in (("image", rows.images), ("mask", rows.masks), ("parts", rows.parts)):
            content = sample[f"{name}.png"]
            with Image.open(io.BytesIO(content)) as picture:
                assert np.array_equal(np.asarray(picture), expected[i])  # type: ignore[index]


def test_image_folder(folders: dict[str, Path], rows: StoredRows, small_file: Path) -> None:
    """torchvision's ImageFolder: sorted by class, each picture found again by the row in its name."""
    from torchvision.datasets import ImageFolder

    images, masks = (ImageFolder(str(folders["folder"] / kind / "test")) for kind in ("images", "masks"))
    assert [name.partition("-")[2] for name in images.classes] == FlowerStore(small_file).class_names
    numbers = [int(Path(place).stem) for place, _ in images.samples]
    assert sorted(numbers) == list(range(24))
    for (image, label), (mask, _), row in zip(images, masks, numbers, strict=True):
        assert label == rows.labels[row]
        assert np.array_equal(np.asarray(image), rows.images[row])
        assert np.array_equal(np.asarray(mask)[:, :, 0], rows.masks[row])


def test_sha256sum(folders: dict[str, Path]) -> None:
    if sys.platform != "linux":
        pytest.skip("sha256sum is a tool of GNU")
    for folder in folders.values():
        command = ["sha256sum", "--check", "--quiet", "checksums.sha256"]
        assert subprocess.run(command, cwd=folder, check=False).returncode == 0
