"""Writing: equal files for any number of workers and any interruption, and nothing half done under the final name."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from filelock import FileLock

from an8flower import atomic, draw, writing
from an8flower import generate as generating
from an8flower.errors import Refusal
from an8flower.factors import PARTS
from an8flower.generate import generate, make_rows
from an8flower.render import render
from an8flower.scene import build
from an8flower.spec import DatasetSpec, load
from an8flower.store import FlowerStore, StoredRows, verify
from an8flower.writing import Block, write_unless_there

NOBODY = 65534
Run = Callable[..., subprocess.CompletedProcess[str]]


def assert_equal_files(one: Path, other: Path) -> None:
    with h5py.File(one) as a, h5py.File(other) as b:
        assert dict(a.attrs).keys() == dict(b.attrs).keys()
        for split in a:
            for name in a[split]:
                assert (a[split][name][:] == b[split][name][:]).all(), f"{split}/{name}"
                assert a[split][name].attrs["sha256"] == b[split][name].attrs["sha256"]


@pytest.fixture
def spec() -> DatasetSpec:
    """Several blocks in a split, and a last one that is not full."""
    return load("absent-4c").with_changes(rows=900, size=24)


def test_blocks_of_any_length_give_the_same_file(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large pictures are made a few rows at a time, and blocks of another length that were left are made anew."""
    generate(spec, tmp_path / "whole.h5", workers=1)
    made: list[Block] = []

    def make(spec: DatasetSpec, block: Block) -> StoredRows:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(block)
        return make_rows(spec, block)

    with monkeypatch.context() as patch:
        patch.setattr(generating, "make_rows", make)
        with pytest.raises(KeyboardInterrupt):
            generate(spec, tmp_path / "short.h5", workers=1)
    monkeypatch.setattr(writing, "BLOCK_SIDE", 8)
    monkeypatch.setattr(generating, "make_rows", lambda spec, block: made.append(block) or make_rows(spec, block))
    generate(spec, tmp_path / "short.h5", workers=2)
    assert {block.stop - block.start for block in made[:3]} == {256, 118}
    assert {block.stop - block.start for block in made[3:]} == {32, 22, 26, 20}
    assert_equal_files(tmp_path / "short.h5", tmp_path / "whole.h5")


def test_any_number_of_workers_gives_the_same_file(spec: DatasetSpec, tmp_path: Path) -> None:
    for workers in (1, 2, 5):
        generate(spec, tmp_path / f"{workers}.h5", workers=workers)
    assert_equal_files(tmp_path / "1.h5", tmp_path / "2.h5")
    assert_equal_files(tmp_path / "1.h5", tmp_path / "5.h5")
    assert all(holds for _, holds in verify(tmp_path / "5.h5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.h5", "2.h5", "5.h5"]


def test_killed_many_times_and_resumed(tmp_path: Path) -> None:
    spec = load("single-6c").with_changes(rows=3000, size=32)
    words = ["generate", "single-6c", "--rows", "3000", "--size", "32", "--workers", "2", "-o", "killed.h5"]
    chance, kills = random.Random(7), 0
    for _ in range(40):
        process = subprocess.Popen([sys.executable, "-m", "an8flower", *words], cwd=tmp_path, stderr=subprocess.DEVNULL)
        _wait_for_a_block(process, tmp_path)
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        if kills >= 3 or (tmp_path / "killed.h5").exists():
            break
        assert not list(tmp_path.glob("killed.h5"))
    assert kills >= 2
    generate(spec, tmp_path / "killed.h5", workers=1)
    generate(spec, tmp_path / "whole.h5", workers=2)
    assert_equal_files(tmp_path / "killed.h5", tmp_path / "whole.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.h5", "whole.h5"]


def _wait_for_a_block(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the process has put down one more block than was there, or has ended."""
    before = len(list(folder.glob("*.partial/*.h5")))
    while process.poll() is None and len(list(folder.glob("*.partial/*.h5"))) <= before:
        time.sleep(0.005)


def test_finished_blocks_are_not_made_again(spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Block] = []

    def count(spec: DatasetSpec, block: Block) -> object:
        made.append(block)
        if len(made) == 3:
            raise KeyboardInterrupt
        return make_rows(spec, block)

    monkeypatch.setattr(generating, "make_rows", count)
    with pytest.raises(KeyboardInterrupt):
        generate(spec, tmp_path / "x.h5", workers=1)
    assert not (tmp_path / "x.h5").exists()
    generate(spec, tmp_path / "x.h5", workers=1)
    assert made[2] in made[3:]
    assert not {made[0], made[1]} & set(made[3:])


def test_a_damaged_block_is_made_again(spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_join", stop)
        with pytest.raises(KeyboardInterrupt):
            generate(spec, tmp_path / "x.h5")
    blocks = sorted(tmp_path.glob("*.partial/*.h5"))
    blocks[0].write_bytes(b"")
    blocks[1].write_bytes(blocks[1].read_bytes()[:-100])
    generate(spec, tmp_path / "x.h5")
    assert all(holds for _, holds in verify(tmp_path / "x.h5"))


def test_the_same_data_set_is_left_alone_and_another_one_is_safe(spec: DatasetSpec, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    assert not generate(spec, path).existed
    before = path.stat().st_mtime_ns
    assert generate(spec, path).existed
    assert path.stat().st_mtime_ns == before
    with pytest.raises(Refusal, match="another data set is there; replace it with --force"):
        generate(spec.with_changes(seed=1), path)
    assert FlowerStore(path).digest == spec.digest
    generate(spec.with_changes(seed=1), path, force=True)
    assert FlowerStore(path).digest == spec.with_changes(seed=1).digest


def test_what_is_no_data_set_is_not_replaced_either(spec: DatasetSpec, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    path.write_text("a diary")
    with pytest.raises(Refusal, match="something else is there"):
        generate(spec, path)
    assert path.read_text() == "a diary"


def test_a_place_that_cannot_be_written(spec: DatasetSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match="cannot be written"):
        generate(spec, tmp_path / "file" / "x.h5")


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Not as root, who may write anywhere."""
    found = os.geteuid()
    if not found:
        os.seteuid(NOBODY)
    yield
    os.seteuid(found)


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that everybody may enter and nobody may write to; pytest's own are closed to other users."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    yield folder
    folder.rmdir()


@pytest.mark.usefixtures("unprivileged")
def test_a_folder_that_is_read_only(spec: DatasetSpec, read_only_folder: Path) -> None:
    with pytest.raises(Refusal, match="cannot be written"):
        generate(spec, read_only_folder / "x.h5")
    assert not [*read_only_folder.iterdir()]


def test_a_read_only_file_system(spec: DatasetSpec) -> None:
    with pytest.raises(Refusal, match="cannot be written"):
        generate(spec, Path("/proc/x.h5"))


def test_a_full_disk_keeps_what_is_finished(spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = writing._write_chunks, [4]

    def write_chunks(*given: object) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*given)

    monkeypatch.setattr(writing, "_write_chunks", write_chunks)
    with pytest.raises(Refusal, match="the disk is full; make room, finished rows are kept in .*partial"):
        generate(spec, tmp_path / "x.h5", workers=1)
    assert not (tmp_path / "x.h5").exists()
    monkeypatch.setattr(writing, "_write_chunks", real)
    generate(spec, tmp_path / "x.h5")
    assert all(holds for _, holds in verify(tmp_path / "x.h5"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where the machine lets us have one."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, run: Run) -> None:
    done = run("generate", "--rows", 3000, "--size", 32, "-o", small_disk / "x.h5", check=False)
    assert done.returncode == 1
    assert "the disk is full; make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (small_disk / "x.h5").exists()
    for path in small_disk.rglob("*.h5"):
        h5py.File(path).close()  # what is there is whole


def test_two_writers_at_once(spec: DatasetSpec, tmp_path: Path) -> None:
    began, go_on = multiprocessing.get_context("spawn").Event(), multiprocessing.get_context("spawn").Event()
    path = tmp_path / "x.h5"
    other = multiprocessing.get_context("spawn").Process(
        target=_write_slowly, args=(spec.to_json(), path, began, go_on)
    )
    other.start()
    assert began.wait(60)
    for wanted in (spec, spec.with_changes(seed=3)):
        with pytest.raises(Refusal, match="another process is writing it"):
            generate(wanted, path)
    waited = []
    assert generate(spec, path, on_wait=lambda: waited.append(go_on.set())).existed
    assert len(waited) == 1
    other.join(60)
    assert other.exitcode == 0
    assert all(holds for _, holds in verify(path))


def test_whoever_holds_the_lock_and_writes_nothing_is_not_waited_for_without_end(
    spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PATIENCE", 1.0)
    with (
        FileLock(tmp_path / "x.h5.lock"),
        pytest.raises(Refusal, match="has written nothing for 1 s; end that process"),
    ):
        generate(spec, tmp_path / "x.h5", on_wait=lambda: None)


def test_what_is_damaged_is_replaced_with_force(spec: DatasetSpec, tmp_path: Path) -> None:
    """As the sentence about a damaged file says; it has the digest of its spec all the same."""
    path = tmp_path / "x.h5"
    generate(spec, path, workers=1)
    with h5py.File(path, "r+") as file:
        file["test/images"][0, 0, 0, 0] ^= 1
    assert generate(spec, path, workers=1).existed
    assert not generate(spec, path, workers=1, force=True).existed
    assert all(holds for _, holds in verify(path))
    assert generate(spec, path, workers=1, force=True).existed


def _write_slowly(spec: str, path: Path, began: object, go_on: object) -> None:
    from an8flower.spec import from_json

    def wait(rows: int) -> None:
        began.set()  # type: ignore[attr-defined]
        go_on.wait(60)  # type: ignore[attr-defined]

    generate(from_json(spec, "spec"), path, workers=1, progress=wait)


def test_evidence_by_absence() -> None:
    """A missing part is marked where it would be seen; what is there is marked as such."""
    spec = load("absent-4c").with_changes(size=64)
    rows = make_rows(spec, Block("test", 0, 24))
    assert rows.parts is not None
    visible = np.isin(rows.parts, [PARTS.index("leaves"), PARTS.index("pot")])
    assert ((rows.masks == 1) == visible).all()
    lacking = {label: (rows.masks[rows.labels == label] == 2).any(axis=(1, 2)) for label in range(4)}
    assert not lacking[0].any()  # has both
    assert all(lacking[label].all() for label in (1, 2, 3))


def test_missing_pot_is_marked_where_the_pot_would_stand() -> None:
    spec = load("absent-4c").with_changes(size=64)
    rows = make_rows(spec, Block("test", 0, 24))
    assert rows.factors is not None
    leaves_only = np.flatnonzero(rows.labels == 1)
    with_pot = render(build(draw.override(rows.factors[leaves_only], {"pot.count": 1})), 64, threads=1)[
        1
    ] == PARTS.index("pot")
    assert ((rows.masks[leaves_only] == 2) == (with_pot & (rows.masks[leaves_only] != 1))).all()


def test_what_somebody_else_has_just_written_is_not_replaced(spec: DatasetSpec, tmp_path: Path) -> None:
    """Between the first look and the lock another process may have come and gone."""
    looks: list[bool] = []

    def look() -> bool:
        looks.append((tmp_path / "x.h5").exists())
        (tmp_path / "x.h5").touch()  # the other process
        return looks[-1]

    assert write_unless_there(tmp_path / "x.h5", look, lambda: pytest.fail("written over"))
    assert looks == [False, True]


def test_content_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.readlink(f"/proc/self/fd/{handle}")))
    with atomic.moved_into(tmp_path / "x.txt") as unfinished:
        unfinished.write_text("whole")
        assert not flushed
    assert flushed == [str(unfinished), str(tmp_path)]
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
