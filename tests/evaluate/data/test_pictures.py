"""A split as other libraries take it: torch's loaders, arrays, frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from an8flower.errors import WrongUsage
from an8flower.evaluate import dataset
from an8flower.importing import import_folders
from an8flower.store import FlowerStore


@pytest.fixture
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_gives_the_rows_of_the_file(store: FlowerStore, workers: int) -> None:
    pictures, rows = dataset(store["test"]), store["test"].rows(0, 24)
    assert len(pictures) == 24
    batches = list(DataLoader(pictures, 10, collate_fn=pictures.collate, num_workers=workers))
    assert [len(batch.label) for batch in batches] == [10, 10, 4]
    images, labels, masks, parts = (torch.cat(column).numpy() for column in zip(*batches, strict=True))
    assert images.dtype == np.float32
    assert np.array_equal(np.rint(images * 255).astype(np.uint8), rows.images.transpose(0, 3, 1, 2))
    for came, expected in ((labels, rows.labels), (masks, rows.masks), (parts, rows.parts)):
        assert came.dtype == expected.dtype
        assert np.array_equal(came, expected)


def test_bytes_stay_bytes_and_torch_collates_by_itself(store: FlowerStore) -> None:
    batch = next(iter(DataLoader(dataset(store["test"], "uint8"), 3)))
    assert np.array_equal(batch.image.numpy(), store["test"].rows(0, 3).images.transpose(0, 3, 1, 2))
    with pytest.raises(WrongUsage, match='unknown dtype "uint9"; did you mean "uint8"'):
        dataset(store["test"], "uint9")


def test_rows_are_counted_as_in_a_list(store: FlowerStore) -> None:
    pictures = dataset(store["test"])
    assert torch.equal(pictures[-1].image, pictures[23].image)
    for outside in (24, -25):
        with pytest.raises(IndexError, match="there are 24"):
            pictures[outside]
    assert len(list(pictures)) == 24  # the old way to iterate, which ends with an IndexError


def test_without_part_maps_there_are_none(store: FlowerStore, tmp_path: Path) -> None:
    rows = store["train"].rows(0, 20)
    for i, (image, mask) in enumerate(zip(rows.images, rows.masks, strict=True)):
        for kind, picture in (("IMAGES", image), ("MASKS", (mask > 0).astype(np.uint8) * 255)):
            (tmp_path / kind / "a").mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / kind / "a" / f"{i}.png")
    import_folders(tmp_path / "IMAGES", tmp_path / "MASKS", tmp_path / "own.h5")
    pictures = dataset(FlowerStore(tmp_path / "own.h5")["train"])
    batch = next(iter(DataLoader(pictures, 4, collate_fn=pictures.collate)))
    assert batch.parts is None
    assert batch.mask.shape == (4, 40, 40)
    frame = FlowerStore(tmp_path / "own.h5")["train"].frame
    assert list(frame) == ["row", "label", "class", "evidence"]


def test_arrays_are_as_quantus_takes_them(store: FlowerStore) -> None:
    x, y, s = store["test"].arrays(4, 20)
    rows = store["test"].rows(4, 20)
    assert (x.shape, x.dtype, y.dtype, s.shape, s.dtype) == ((16, 3, 40, 40), "f4", "i8", (16, 1, 40, 40), bool)
    for i in range(16):  # a slow second version
        for channel in range(3):
            assert np.array_equal(x[i, channel], (rows.images[i, :, :, channel] / 255).astype(np.float32))
        assert np.array_equal(s[i, 0], rows.masks[i] != 0)
    assert np.array_equal(y, rows.labels)
    assert x.flags.c_contiguous


def test_a_frame_has_a_line_for_each_row(store: FlowerStore) -> None:
    frame, rows = store["train"].frame, store["train"].rows(0, 84)
    assert frame["row"].tolist() == list(range(84))
    assert [store.class_names.index(name) for name in frame["class"]] == frame["label"].tolist() == rows.labels.tolist()
    assert frame["evidence"].tolist() == [(mask > 0).mean() for mask in rows.masks]
    assert rows.factors is not None
    assert [name.encode() for name in frame["petals.colour"]] == rows.factors["petals.colour"].tolist()
    assert frame["petals.count"].tolist() == rows.factors["petals.count"].tolist()
    assert frame["distractors.colour.7"].tolist() == [v.decode() for v in rows.factors["distractors.colour"][:, 7]]
