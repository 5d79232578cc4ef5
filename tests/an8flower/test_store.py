"""Reading: schema 1 as it is written down, lazily, in any order; and everything that is not such a file, refused."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from an8flower import draw
from an8flower.errors import Refusal, WrongUsage
from an8flower.factors import PARTS, table_dtype
from an8flower.spec import DatasetSpec
from an8flower.store import ALWAYS, RENDERED, FlowerStore, verify


def test_the_schema_as_it_is_written_down(small_file: Path, small_spec: DatasetSpec) -> None:
    with h5py.File(small_file) as file:
        attributes = dict(file.attrs)
        assert attributes["format"] == "an8flower"
        assert attributes["schema"] == 2
        assert attributes["spec"] == small_spec.to_json()
        assert attributes["digest"] == hashlib.sha256(attributes["canonical"].encode()).hexdigest()
        assert attributes["complete"]
        assert list(attributes["class_names"]) == ["red", "orange", "yellow", "blue", "violet", "white"]
        assert list(attributes["part_names"]) == list(PARTS)
        group = file["test"]
        assert {name: (data.shape, data.dtype) for name, data in group.items()} == {
            "images": ((24, 40, 40, 3), np.uint8),
            "labels": ((24,), np.int64),
            "parts": ((24, 40, 40), np.uint8),
            "masks": ((24, 40, 40), np.uint8),
            "factors": ((24,), table_dtype()),
            "coverage": ((24, 40, 40), np.uint8),
        }
        assert {data.compression for data in group.values()} == {"gzip"}
        for data in group.values():
            assert data.attrs["sha256"] == hashlib.sha256(data[:].tobytes()).hexdigest()


def test_rows_are_those_of_the_spec(small_file: Path, small_spec: DatasetSpec) -> None:
    rows = FlowerStore(small_file)["train"].rows(3, 17)
    assert (rows.labels == draw.labels(small_spec, "train", 3, 17)).all()
    assert (rows.factors == draw.factors(small_spec, "train", 3, 17)).all()
    assert rows.parts is not None
    assert ((rows.masks == 1) == (rows.parts == PARTS.index("petals"))).all()


def test_taking_rows_one_by_one(small_file: Path) -> None:
    split = FlowerStore(small_file)["train"]
    indices = np.array([0, 1, 40, 41, 83])
    taken = split.take(indices)
    for i, index in enumerate(indices):
        row = split.rows(index, index + 1)
        for name in (*ALWAYS, *RENDERED):
            assert (getattr(row, name)[0] == getattr(taken, name)[i]).all()
        assert taken.below is taken.placed is row.below is row.placed is None


def test_taking_no_rows(small_file: Path) -> None:
    assert FlowerStore(small_file)["val"].take(np.array([], np.int64)).images.shape == (0, 40, 40, 3)


def test_a_store_pickles_as_its_path(small_file: Path) -> None:
    store = FlowerStore(small_file)
    before = store["test"].rows(0, 4)
    after = pickle.loads(pickle.dumps(store))["test"].rows(0, 4)
    assert (before.images == after.images).all()


def test_rows_outside_the_split(small_file: Path) -> None:
    with pytest.raises(IndexError, match="test has rows 0 to 24; asked for 20 to 25"):
        FlowerStore(small_file)["test"].rows(20, 25)


def test_unknown_split(small_file: Path) -> None:
    with pytest.raises(WrongUsage, match='unknown split "tets"; did you mean "test"'):
        FlowerStore(small_file)["tets"]


def _without(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file["test"].__delitem__(name)


def _attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def _resized(file: h5py.File) -> None:
    del file["test"]["masks"]
    file["test"]["masks"] = np.zeros((24, 39, 40), np.uint8)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_attribute("format", "other"), "not one of an8flower"),
        (_attribute("schema", 3), "schema 3 came, 1 and 2 are read here"),
        (_attribute("complete", False), "unfinished"),
        (_without("labels"), "test lacks labels"),
        (_resized, r"test/masks has shape \(24, 39, 40\), expected \(24, 40, 40\)"),
    ],
)
def test_foreign_and_damaged_files(
    small_file: Path, tmp_path: Path, damage: Callable[[h5py.File], None], words: str
) -> None:
    path = tmp_path / "x.h5"
    shutil.copy(small_file, path)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(Refusal, match=words):
        FlowerStore(path)


def test_missing_truncated_and_other_files(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no such file"):
        FlowerStore(tmp_path / "none.h5")
    truncated, text = tmp_path / "t.h5", tmp_path / "text.h5"
    truncated.write_bytes(small_file.read_bytes()[:-5000])
    text.write_text("hello")
    with pytest.raises(Refusal, match="truncated or damaged"):
        FlowerStore(truncated)
    with pytest.raises(Refusal, match="not an HDF5 file"):
        FlowerStore(text)


def test_verify_finds_the_damaged_data_set(small_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    shutil.copy(small_file, path)
    assert all(holds for _, holds in verify(path))
    with h5py.File(path, "r+") as file:
        file["val/masks"][3, 7, 7] += 1
    assert [place for place, holds in verify(path) if not holds] == ["val/masks"]


def test_verify_survives_chunks_that_cannot_be_read(small_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    shutil.copy(small_file, path)
    with h5py.File(path) as file:
        where = file["train/images"].id.get_chunk_info(0)
    with path.open("r+b") as raw:
        raw.seek(where.byte_offset + 10)
        raw.write(b"\0" * 200)
    assert "train/images" in [place for place, holds in verify(path) if not holds]
    with pytest.raises(Refusal, match="rows 0 to 5 are damaged"):
        FlowerStore(path)["train"].rows(0, 5)
