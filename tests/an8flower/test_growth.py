"""Data sets outlive the catalogue: a part or a factor that is added later changes neither digests nor pictures.

`written-before.hdf5` was written by the version before digests left defaults out: its digest is that of its whole spec.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest

from an8flower.errors import Refusal
from an8flower.factors import FACTORS, part_of
from an8flower.generate import generate
from an8flower.sharding import generate_shard, merge
from an8flower.spec import DatasetSpec, from_mapping, load, presets
from an8flower.store import FlowerStore, verify

HERE = Path(__file__).parent
NEW = {"petals.gloss", "butterfly.count", "butterfly.colour", "butterfly.x"}


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A copy of the file that an earlier version wrote."""
    return Path(shutil.copy(HERE / "written-before.hdf5", tmp_path / "written-before.h5"))


def write_in_the_old_manner(path: Path) -> None:
    """Give a file the attributes that it would have had before: no canonical text, the digest of the whole spec."""
    with h5py.File(path, "r+") as file:
        del file.attrs["canonical"]
        file.attrs["digest"] = hashlib.sha256(str(file.attrs["spec"]).encode()).hexdigest()


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory, small_spec: DatasetSpec) -> dict[str, Any]:
    """What a version with one more part and one more factor says of an old file and of a file of today."""
    folder = tmp_path_factory.mktemp("later")
    old = shutil.copy(HERE / "written-before.hdf5", folder / "old.h5")
    fresh = generate(small_spec.with_changes(rows=40), folder / "fresh.h5", workers=1).path
    command = [sys.executable, HERE / "grown_catalogue.py", old, fresh, folder / "new.h5"]
    done = subprocess.run(command, text=True, capture_output=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "folder": folder, "fresh digest": FlowerStore(fresh).digest}


@pytest.mark.parametrize("file", ["old", "fresh"])
def test_a_later_version_reads_and_renders_what_was_written_before(later: dict[str, Any], file: str) -> None:
    summary = later[file]
    assert summary["sound"]
    assert set(summary["columns"]) == set(FACTORS) | NEW
    assert summary["columns"][0] == "petals.gloss"
    assert summary["as drawn"]
    assert summary["same parts"]
    assert summary["same masks"]
    assert summary["largest difference"] <= (0 if file == "fresh" else 1)  # processors differ in the last bit
    assert summary["existed"]
    assert summary["butterflies"]  # the new part can be put into an old scene


def test_a_later_version_gives_the_same_digests(later: dict[str, Any]) -> None:
    assert later["presets"] == {name: load(name).digest for name in presets()}
    assert later["fresh"]["digest"] == later["fresh digest"]


def test_a_file_of_a_later_version_is_refused_by_name(later: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=r"new\.h5: knows petals\.gloss, which this version does not; use an8flower"):
        FlowerStore(later["folder"] / "new.h5")


def test_a_file_written_before_opens_and_verifies(old_file: Path) -> None:
    store = FlowerStore(old_file)
    assert store.digest == "42fe3aab83d7ecb2400ba82ce44de7f50bb5eef44ef3ee47ca2d005c85e5ca01"
    assert store.spec is not None
    assert store.spec.class_names[3] == "white petals, no pot"
    assert all(holds for _, holds in verify(old_file))
    assert len(store["test"].rows(0, 4).factors) == 4


def test_a_file_written_before_says_what_it_lacks(old_file: Path) -> None:
    store = FlowerStore(old_file)
    assert (store.schema, store["test"].rows(0, 4).coverage, store["test"].rows(0, 4).void) == (1, None, None)
    assert str(store.lack).startswith(f"{old_file} was written before files had coverage (schema 1)")
    assert store.spec is not None
    renewed = generate(store.spec, old_file, force=True)
    assert not renewed.existed
    assert FlowerStore(old_file).lack is None
    assert FlowerStore(old_file)["test"].rows(0, 4).void is not None


def test_a_file_written_before_is_known_by_its_spec(old_file: Path) -> None:
    spec = FlowerStore(old_file).spec
    assert spec is not None
    before = old_file.read_bytes()
    assert generate(spec, old_file).existed
    assert old_file.read_bytes() == before
    with pytest.raises(Refusal, match="another data set is there"):
        generate(spec.with_changes(seed=1), old_file)


def test_a_preset_written_before_is_known_by_its_spec(small_spec: DatasetSpec, tmp_path: Path) -> None:
    path = generate(small_spec, tmp_path / "x.h5", workers=1).path
    write_in_the_old_manner(path)
    assert FlowerStore(path).digest != small_spec.digest
    assert generate(small_spec, path).existed


def test_shards_written_before_are_merged_with_those_of_today(tmp_path: Path) -> None:
    spec = load("absent-4c").with_changes(rows=40, size=16)
    shards = [generate_shard(spec, number, 2, tmp_path, workers=1).path for number in (1, 2)]
    write_in_the_old_manner(shards[0])
    assert generate_shard(spec, 1, 2, tmp_path).existed
    assert FlowerStore(merge(spec, shards, tmp_path / "whole.h5").path).digest == spec.digest


def test_the_digest_can_be_recovered_from_a_file(small_file: Path, small_spec: DatasetSpec) -> None:
    store = FlowerStore(small_file)
    assert store.spec == small_spec
    assert store.spec.digest == store.digest
    assert hashlib.sha256(str(store.file.attrs["canonical"]).encode()).hexdigest() == store.digest


def test_the_canonical_text_leaves_defaults_out(small_spec: DatasetSpec) -> None:
    document = json.loads(small_spec.canonical_json())
    assert document["catalogue"] == 1
    assert document["nuisance"]["leaves.count"] == [1, 2, 3]
    assert not {"view.azimuth", "tag.count", "pot.count"} & set(document["nuisance"])
    assert {"seed", "shortcut"}.isdisjoint(document)


def test_to_say_a_default_changes_nothing(small_spec: DatasetSpec) -> None:
    document = json.loads(small_spec.canonical_json())
    del document["catalogue"]
    for value, equal in (({"from": 0, "to": 360}, True), ({"from": 0, "to": 90}, False)):
        longer = {**document, "nuisance": {**document["nuisance"], "view.azimuth": value}}
        assert (from_mapping(longer, "x").digest == small_spec.digest) == equal


@pytest.mark.parametrize("name", [name for name in FACTORS if name.endswith(".count")])
def test_every_part_can_be_left_out(name: str) -> None:
    """By the rules of the catalogue: a count of 0 takes a part away, whichever version draws it."""
    assert part_of(name)
    if name not in ("petals.count", "disc.count", "stem.count", "leaves.count"):
        assert FACTORS[name].default == 0


SCORE = """
import json, sys
from pathlib import Path

if sys.argv[1] == "later":
    sys.path.insert(0, sys.argv[3])
    import grown_catalogue
    grown_catalogue.grow()
import torch
from torch import nn
from an8flower.evaluate import score

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16 * 16, 4))
metrics = ["iou", "effect_correlation", "counterfactual_deletion", "distractibility"]
result = score(data=sys.argv[2], models=network, methods=["gradient"], metrics=metrics, device="cpu", output="runs")
print(json.dumps([{key: value for key, value in row.items() if key != "cost"} for row in result.document["results"]]))
"""


def test_a_later_version_scores_a_file_written_before_alike(
    old_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", SCORE, "later", old_file, HERE]
    later = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert later.returncode == 0, later.stderr
    (tmp_path / "today").mkdir()
    monkeypatch.chdir(tmp_path / "today")
    monkeypatch.setattr(sys, "argv", ["-c", "today", str(old_file)])
    exec(SCORE, {})
    assert capsys.readouterr().out == later.stdout
