"""Results of cells in files of their own: taken only as the result of the cell after which the file is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from an8flower.evaluate.results import kept_maps
from an8flower.evaluate.results.answers import (
    find_or_take,
    read_document,
    read_sealed_arrays,
    write_document,
    write_sealed_arrays,
)
from an8flower.evaluate.results.arrays import read_arrays, write_arrays
from an8flower.evaluate.results.files import write_json
from an8flower.evaluate.results.folder import SCHEMA, RunFolder
from an8flower.evaluate.results.map_files import MapsManifest

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    PLAIN | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


@settings(max_examples=25)  # each is flushed to the disk
@given(st.dictionaries(TEXTS.filter(lambda key: key != "seal"), VALUES, max_size=4))
def test_documents_come_back(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> None:
    place = tmp_path_factory.getbasetemp() / "net-1.5-0123456789abcdef.json"
    write_document(place, document)
    assert read_document(place) == document


def test_arrays_come_back(tmp_path: Path) -> None:
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.array(["ä", "<b>"]), "c": np.asfortranarray(np.eye(3, 4))}
    write_sealed_arrays(tmp_path / "x.npz", arrays)
    again = read_sealed_arrays(tmp_path / "x.npz")
    assert again is not None
    assert again.keys() == arrays.keys()
    assert all((again[name] == values).all() for name, values in arrays.items())


def test_a_document_of_another_cell_an_edited_one_and_one_without_a_seal_count_as_missing(tmp_path: Path) -> None:
    here, other = tmp_path / "here.json", tmp_path / "other.json"
    write_document(other, {"verdict": "passes", "mean": 0.5})
    shutil.copy(other, here)
    assert read_document(here) is None
    assert read_document(other) == {"verdict": "passes", "mean": 0.5}
    edited = {**json.loads(other.read_text()), "mean": 0.25}
    for document in (edited, {"verdict": "passes"}, {"seal": "other"}, {"seal": ["other", ""]}):
        write_json(other, document)
        assert read_document(other) is None


def test_arrays_of_another_cell_edited_ones_and_ones_without_a_seal_count_as_missing(tmp_path: Path) -> None:
    here, other = tmp_path / "here.npz", tmp_path / "other.npz"
    write_sealed_arrays(other, {"maps": np.ones(3)})
    shutil.copy(other, here)
    assert read_sealed_arrays(here) is None
    sealed = read_arrays(other) or {}
    changes = [np.zeros(3), np.ones(3, np.float32), np.ones((3, 1))]
    for arrays in (*({"maps": values} for values in changes), {"more": np.ones(1)}, {"seal": np.ones(2)}):
        write_arrays(other, {**sealed, **arrays})
        assert read_sealed_arrays(other) is None
    write_arrays(other, {"maps": np.ones(3)})
    assert read_sealed_arrays(other) is None


def test_a_neighbour_gives_what_is_of_the_cell_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "run" / "pictures" / "cell.npz"
    write_arrays(tmp_path / "a" / "pictures" / "cell.npz", {"maps": np.zeros(3)})
    write_sealed_arrays(tmp_path / "b" / "pictures" / "cell.npz", {"maps": np.ones(3)})
    assert not find_or_take(place, [tmp_path / "a"])
    assert find_or_take(place, [tmp_path / "a", tmp_path / "b"])
    assert (read_sealed_arrays(place) or {})["maps"].tolist() == [1, 1, 1]


def test_long_rows_of_another_cell_count_as_missing(tmp_path: Path) -> None:
    """Cells of two seeds, or of two data sets, have rows that are about the same."""
    run = RunFolder(tmp_path)
    run.write_part("net-seed0", SCHEMA.empty_table())
    assert run.has("net-seed0")
    shutil.copy(run.part("net-seed0"), run.part("net-seed1"))
    assert not run.has("net-seed1")


def test_maps_of_another_cell_or_of_other_rows_count_as_missing(tmp_path: Path) -> None:
    place, rows = tmp_path / "cell-0.5-a.h5", np.array([2, 5])
    kept_maps.write_maps(place, rows, np.ones((2, 4, 4), np.float32), MapsManifest("d" * 64, "test", None))
    assert kept_maps.has_maps(place, rows)
    assert not kept_maps.has_maps(place, np.array([2, 6]))
    shutil.copy(place, tmp_path / "cell-0.5-b.h5")
    assert not kept_maps.has_maps(tmp_path / "cell-0.5-b.h5", rows)
