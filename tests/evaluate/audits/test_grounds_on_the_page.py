"""Rows on photographs: their slices by background and photograph, and the captions of the gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from an8flower.backgrounds import describe_grounds, ground_kinds, photograph_names
from an8flower.evaluate.audits.pictures import pictures_of
from an8flower.evaluate.audits.summary.slices import MOST_PHOTOGRAPHS, row_properties
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.metrics.naming import parse_metrics
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.arrays import read_arrays, write_arrays
from an8flower.evaluate.scoring.judge import Judge
from an8flower.generate import generate
from an8flower.spec import from_mapping
from an8flower.store import FlowerStore

SIZE = 24
NATURAL = ("noise", "leaves", "scramble", "photo")
SPEC: dict[str, Any] = {
    "name": "mixed",
    "size": SIZE,
    "rows": {"train": 6, "val": 6, "test": 60},
    "classes": {"petals.colour": ("red", "blue")},
    "nuisance": {"background.kind": ("plain", *NATURAL)},
    "background": {"images": "."},
}


def make(folder: Path, photographs: int, **changes: Any) -> FlowerStore:
    """A small file on so many photographs of one colour each, which its test rows are told by."""
    folder.mkdir()
    for i in range(photographs):
        split = ("train", "val")[i] if i < 2 else "test"
        (folder / split).mkdir(exist_ok=True)
        Image.new("RGB", (30, 26), (20 * i, 60, 255 - 10 * i)).save(folder / split / f"p{i}.png")
    spec = from_mapping(SPEC | changes, "x", folder)
    return FlowerStore(generate(spec, folder / "mixed.h5", workers=1).path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    return make(tmp_path_factory.mktemp("grounds") / "p", 5)


def test_rows_are_named_by_the_photograph_that_is_seen(store: FlowerStore) -> None:
    """The corner of a picture has the colour of the photograph whose name it gets."""
    split = store["test"]
    rows = split.rows(0, 60)
    assert rows.factors is not None
    kinds, names, words = ground_kinds(rows), photograph_names(split, rows), describe_grounds(split, rows)
    assert kinds.tolist() == [kind.decode() for kind in rows.factors["background.kind"]]
    for kind, name, word, image in zip(kinds, names, words, rows.images, strict=True):
        if kind == "photo":
            seen = image[0, 0].astype(int)
            number = int(name.removeprefix("test/p").removesuffix(".png"))
            assert np.abs(seen - (20 * number, 60, 255 - 10 * number)).max() <= 6
        assert word == {"plain": "", "photo": name, "scramble": f"{name}, scrambled"}.get(kind, kind)
        assert bool(name) == (kind in ("photo", "scramble"))
    assert set(kinds) == {"plain", *NATURAL}
    assert set(names) == {"", "test/p2.png", "test/p3.png", "test/p4.png"}


def test_rows_are_sliced_by_background_and_photograph(store: FlowerStore) -> None:
    split, indices = store["test"], np.arange(1, 50)
    properties = row_properties(split, indices)
    assert properties["background"].cat.categories.tolist() == sorted({"plain", *NATURAL})
    assert properties["photograph"].cat.categories.tolist() == ["test/p2.png", "test/p3.png", "test/p4.png"]
    names = photograph_names(split, split.rows(0, 60))[indices]
    assert [name if isinstance(name, str) else "" for name in properties["photograph"]] == names.tolist()


def test_many_photographs_are_no_slices(tmp_path: Path) -> None:
    store = make(tmp_path / "p", 8 + MOST_PHOTOGRAPHS, nuisance={"background.kind": "photo"})
    assert len(set(photograph_names(store["test"], store["test"].rows(0, 60))) - {""}) > MOST_PHOTOGRAPHS
    assert "photograph" not in row_properties(store["test"], np.arange(60))


def test_a_file_without_copies_or_factors_has_no_names(tmp_path: Path) -> None:
    store = make(tmp_path / "p", 5)
    store.close()
    with h5py.File(store.path, "r+") as file:
        del file["photographs"]
    lacking = FlowerStore(store.path)
    assert set(describe_grounds(lacking["test"], lacking["test"].rows(0, 60))) == {"", *NATURAL}
    lacking.close()
    with h5py.File(store.path, "r+") as file:
        del file["test/factors"]
        del file.attrs["spec"]
    bare = FlowerStore(store.path)
    assert set(describe_grounds(bare["test"], bare["test"].rows(0, 60))) == {""}
    assert list(row_properties(bare["test"], np.arange(60)))[-1] == "clutter"


def test_the_gallery_says_what_lies_behind(store: FlowerStore, tmp_path: Path) -> None:
    judge = Judge(
        store["test"], "label", 0, tuple(parse_metrics(["iou_best"])), Resources(torch.device("cpu"), batch=5)
    )
    model = build("flowernet", store.class_names, SIZE, seed=0).eval()
    arrays = pictures_of(judge, model, parse_method("edges"), {"gallery": [4, 0, 9]})
    write_arrays(tmp_path / "x.npz", arrays)
    again = read_arrays(tmp_path / "x.npz")
    assert again is not None
    expected = describe_grounds(store["test"], store["test"].rows(0, 60))[[4, 0, 9]]
    assert again["grounds"].tolist() == expected.tolist()
