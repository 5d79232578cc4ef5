"""Shards: whoever renders which share, the merged file holds the very rows of the whole, or says why it does not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from an8flower.__main__ import main
from an8flower.errors import Refusal, WrongUsage
from an8flower.generate import generate
from an8flower.sharding import Shard, generate_shard, merge
from an8flower.spec import DatasetSpec, load
from an8flower.store import ALWAYS, RENDERED, FlowerStore, verify


@pytest.fixture
def spec() -> DatasetSpec:
    """29, 4 and 8 rows: no number of shards divides them all."""
    return load("absent-4c").with_changes(rows=41, size=16)


def make_shards(spec: DatasetSpec, count: int, folder: Path) -> list[Path]:
    return [generate_shard(spec, shard, count, folder, workers=1).path for shard in range(1, count + 1)]


def merged(spec: DatasetSpec, count: int, folder: Path) -> Path:
    return merge(spec, make_shards(spec, count, folder), folder / "merged.h5").path


def assert_equal_stores(one: Path, other: Path) -> None:
    first, second = FlowerStore(one), FlowerStore(other)
    told, expected = (
        {key: value for key, value in store.file.attrs.items() if key != "shards"} for store in (first, second)
    )
    assert told.keys() == expected.keys()
    for key, value in told.items():
        assert np.array_equal(value, expected[key]), key
    assert first.splits == second.splits
    for split in first.splits:
        for name in first.file[split]:
            a, b = first.file[split][name], second.file[split][name]
            assert (a.shape, a.dtype, a.attrs["sha256"]) == (b.shape, b.dtype, b.attrs["sha256"])
            assert (a[:] == b[:]).all(), f"{split}/{name}"


@pytest.mark.parametrize(("rows", "count"), [(41, 5), (7, 3), (4, 9), (0, 2)])
def test_shares_are_contiguous_and_nearly_equal(rows: int, count: int) -> None:
    shares = [Shard(number, count).share(rows) for number in range(1, count + 1)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_merged_file_is_the_whole(spec: DatasetSpec, tmp_path: Path, count: int) -> None:
    """With five shards, one of them has no row of the smallest split."""
    generate(spec, tmp_path / "whole.h5", workers=1)
    path = merged(spec, count, tmp_path / "shards")
    assert_equal_stores(path, tmp_path / "whole.h5")
    assert all(holds for _, holds in verify(path))
    assert path.stat().st_size < 200_000  # it refers to the shards


def test_rows_of_several_blocks(tmp_path: Path) -> None:
    spec = load("single-6c").with_changes(rows=900, size=16)
    generate(spec, tmp_path / "whole.h5", workers=1)
    path = merged(spec, 2, tmp_path / "shards")
    assert_equal_stores(path, tmp_path / "whole.h5")
    rows = np.array([0, 313, 314, 315, 316, 629])  # on both sides of where the shards meet
    ours, theirs = (FlowerStore(place)["train"].take(rows) for place in (path, tmp_path / "whole.h5"))
    for name in (*ALWAYS, *RENDERED):
        assert (getattr(ours, name) == getattr(theirs, name)).all()


def test_files_that_moved_together_are_read_from_anywhere(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_shards(spec, 2, tmp_path / "here" / "shards")
    before = merge(spec, paths, tmp_path / "here" / "merged.h5").path
    expected = FlowerStore(before)["train"].labels
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir("/")
    moved = tmp_path / "there" / "merged.h5"
    assert (FlowerStore(moved)["train"].labels == expected).all()
    assert all(holds for _, holds in verify(moved))


def test_a_killed_shard_goes_on_where_it_stopped(tmp_path: Path) -> None:
    spec = load("single-6c").with_changes(rows=3000, size=24)
    script = (
        "import sys; from pathlib import Path; from an8flower.spec import load; from an8flower.sharding import *; "
        "generate_shard(load('single-6c').with_changes(rows=3000, size=24), 1, 2, Path(sys.argv[1]), workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed")])
    while not (blocks := list(tmp_path.rglob("train-*.h5"))):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(tmp_path.glob("killed/*.h5"))
    kept = {path: path.stat().st_mtime_ns for path in blocks}
    seen: dict[Path, int] = {}

    def look(rows: int) -> None:
        seen.update({path: path.stat().st_mtime_ns for path in kept if path.exists()})

    path = generate_shard(spec, 1, 2, tmp_path / "killed", workers=1, progress=look).path
    assert seen == kept
    whole = generate_shard(spec, 1, 2, tmp_path / "whole", workers=1).path
    with h5py.File(path) as one, h5py.File(whole) as other:
        assert one["train/images"].attrs["sha256"] == other["train/images"].attrs["sha256"]
        assert (one["train/images"][:] == other["train/images"][:]).all()
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["single-6c-1of2.h5"]


def test_what_is_there_is_left_alone_and_another_shard_is_safe(spec: DatasetSpec, tmp_path: Path) -> None:
    path = generate_shard(spec, 1, 2, tmp_path, workers=1).path
    stamp = path.stat().st_mtime_ns
    assert generate_shard(spec, 1, 2, tmp_path).existed
    other = spec.with_changes(seed=7)
    with pytest.raises(Refusal, match="a shard of another data set than absent-4c; replace it with --force"):
        generate_shard(other, 1, 2, tmp_path)
    assert path.stat().st_mtime_ns == stamp
    assert not generate_shard(other, 1, 2, tmp_path, workers=1, force=True).existed
    path.write_text("notes")
    with pytest.raises(Refusal, match="not an HDF5 file"):
        generate_shard(spec, 1, 2, tmp_path)
    assert path.read_text() == "notes"


@pytest.mark.parametrize(("shard", "shards"), [(0, 2), (3, 2), (1, 0), (1, 1000)])
def test_numbers_out_of_range(spec: DatasetSpec, tmp_path: Path, shard: int, shards: int) -> None:
    with pytest.raises(WrongUsage, match="expected 1 to"):
        generate_shard(spec, shard, shards, tmp_path)


def test_only_all_shards_of_one_data_set_make_the_whole(spec: DatasetSpec, tmp_path: Path) -> None:
    one, two, three = make_shards(spec, 3, tmp_path)
    output = tmp_path / "merged.h5"
    other = generate_shard(spec.with_changes(seed=7), 2, 3, tmp_path / "other", workers=1).path
    half = generate_shard(spec, 1, 2, tmp_path / "halves", workers=1).path
    whole = generate(spec, tmp_path / "whole.h5", workers=1).path
    for given, told in (
        ([one, three], "shards 2 of 3 of absent-4c are missing"),
        ([], "shards 1 of 1 of absent-4c are missing"),
        ([one, other, three], "a shard of another data set than absent-4c"),
        ([one, two, three, half], "do not fit together"),
        ([one, two, two, three], "do not fit together"),
        ([one, two, whole], "whole.h5: not a shard"),
        ([one, two, tmp_path / "none.h5"], "none.h5: no such file; make it first"),
    ):
        with pytest.raises(Refusal, match=told):
            merge(spec, given, output)
        assert not output.exists()
    merge(spec, [three, one, two], output)  # in any order
    assert_equal_stores(output, whole)
    assert merge(spec, [], output).existed


def test_a_shard_is_not_a_data_set(spec: DatasetSpec, tmp_path: Path) -> None:
    """Its first row is not the first one of the data set, which rendering again would take it for."""
    path = generate_shard(spec, 2, 2, tmp_path, workers=1).path
    with pytest.raises(Refusal, match="not one of an8flower"):
        FlowerStore(path)


def test_a_missing_shard_is_never_read_as_black_pictures(spec: DatasetSpec, tmp_path: Path) -> None:
    path = merged(spec, 2, tmp_path)
    store = FlowerStore(path)
    store["train"].rows(0, 2)
    shard = tmp_path / "absent-4c-2of2.h5"
    shard.rename(tmp_path / "elsewhere.h5")
    for use in (lambda: store["train"].rows(0, 2), lambda: FlowerStore(path), lambda: list(verify(path))):
        with pytest.raises(Refusal, match=r"1 of its 2 shards are missing, the first is .*2of2.h5; put them back"):
            use()


def test_a_shard_that_was_replaced_is_noticed(spec: DatasetSpec, tmp_path: Path) -> None:
    path = merged(spec, 2, tmp_path)
    generate_shard(spec.with_changes(seed=7), 2, 2, tmp_path, workers=1, force=True)
    with pytest.raises(Refusal, match="its shard .*2of2.h5 has changed since the shards were merged; merge again"):
        FlowerStore(path)


def test_a_damaged_shard_is_found_and_named(spec: DatasetSpec, tmp_path: Path) -> None:
    path = merged(spec, 3, tmp_path)
    _change_a_pixel(tmp_path / "absent-4c-2of3.h5")
    found = dict(verify(path))
    assert [place for place, holds in found.items() if not holds] == [
        "train/images",
        "train/images of absent-4c-2of3.h5",
    ]
    shards = sorted(tmp_path.glob("*of3.h5"))
    with pytest.raises(Refusal, match="absent-4c-2of3.h5: train/images damaged; delete it and make the shard again"):
        merge(spec, shards, tmp_path / "again.h5")
    assert not list(tmp_path.glob("again*"))


def test_a_shard_of_which_half_is_missing_is_refused(spec: DatasetSpec, tmp_path: Path) -> None:
    path = merged(spec, 2, tmp_path)
    shard = tmp_path / "absent-4c-1of2.h5"
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(Refusal, match="absent-4c-1of2.h5: truncated or damaged"):
        FlowerStore(path)


def test_merging_again_after_a_shard_was_made_again(spec: DatasetSpec, tmp_path: Path) -> None:
    paths = make_shards(spec, 2, tmp_path)
    output = merge(spec, paths, tmp_path / "merged.h5").path
    shutil.copy(output, tmp_path / "before.h5")
    paths[0].unlink()
    with pytest.raises(Refusal, match="something else is there; replace it with --force"):
        merge(spec, paths, output)
    generate_shard(spec, 1, 2, tmp_path, workers=1)
    assert_equal_stores(output, tmp_path / "before.h5")  # the same rows again: nothing to merge


def test_by_the_command_line(tmp_path: Path) -> None:
    def an8flower(*words: str) -> str:
        done = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    for share in ("1/2", "2/2"):
        an8flower("shard", "absent-4c", share, "--rows", "41", "--size", "16", "--workers", "1", "-o", str(tmp_path))
    paths = [str(path) for path in sorted(tmp_path.glob("*of2.h5"))]
    told = an8flower("merge", *paths, "-o", str(tmp_path / "merged.h5"))
    assert "merged.h5: 41 rows in 2 shards" in told
    an8flower("generate", "absent-4c", "--rows", "41", "--size", "16", "-o", str(tmp_path / "whole.h5"))
    assert_equal_stores(tmp_path / "merged.h5", tmp_path / "whole.h5")
    wrong = CliRunner().invoke(main, ["shard", "absent-4c", "2of5"])
    assert wrong.exit_code == 2
    assert 'share "2of5": expected K/N, as in 2/5' in wrong.output


def _change_a_pixel(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["train/images"][0, 0, 0, 0] ^= 1
