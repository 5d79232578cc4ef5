"""Arrays on disk: whole, or none; whatever is damaged is noticed, and nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from an8flower.evaluate.results.arrays import read_arrays, write_arrays


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"rows": np.arange(3), "names": np.array(["ä", "<b>"])})
    found = read_arrays(tmp_path / "a.npz")
    assert found is not None
    assert found["rows"].tolist() == [0, 1, 2]
    assert found["names"].tolist() == ["ä", "<b>"]
    assert set(read_arrays(tmp_path / "a.npz", ["rows"]) or {}) == {"rows"}
    assert read_arrays(tmp_path / "a.npz", ["absent"]) is None
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"]


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    place, values = tmp_path / "a.npz", np.random.default_rng(0).normal(size=40)
    write_arrays(place, {"values": values})
    whole = place.read_bytes()
    lost = 0
    for i in range(len(whole)):
        place.write_bytes(whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :])
        found = read_arrays(place)
        lost += found is None
        assert found is None or "values" not in found or found["values"].tolist() == values.tolist()
    assert lost > len(whole) / 2


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", thing=np.array([{"a": 1}], dtype=object))
    assert read_arrays(tmp_path / "a.npz") is None


@pytest.mark.parametrize("text", [b"", b"no archive"])
def test_what_is_no_archive_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(text)
    assert read_arrays(tmp_path / "a.npz") is None
    assert read_arrays(tmp_path / "absent.npz") is None
