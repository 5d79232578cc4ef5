"""Painted evidence: a class that stands in a corner is found out, and a file without a leak passes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import beta

from an8flower.__main__ import main
from an8flower.evaluate.trust import leak
from an8flower.generate import generate
from an8flower.spec import from_mapping, load, presets
from an8flower.store import FlowerStore

WORDS = {
    "name": "tiny",
    "size": 16,
    "rows": {"train": 160, "val": 20, "test": 100},
    "classes": {"petals.colour": ["red", "blue"]},
    "nuisance": {"background.kind": "plain"},
}
QUICK = {"rows": 160, "epochs": 4}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(from_mapping(WORDS, "x"), tmp_path_factory.mktemp("tiny") / "tiny.h5", workers=1).path


@pytest.fixture(scope="module")
def leaking(tiny: Path) -> Path:
    """The same rows, with the class in a corner that no mask marks."""
    path = Path(shutil.copy(tiny, tiny.with_name("leaking.h5")))
    with h5py.File(path, "r+") as file:
        for split in file.values():
            images = split["images"][:]
            images[:, :5, :5] = 255 * split["labels"][:][:, None, None, None]
            split["images"][:] = images
    return path


def test_what_is_painted_is_mask_and_void(tiny: Path) -> None:
    split = FlowerStore(tiny)["test"]
    rows, painted = split.rows(0, 20), leak.paint_rows(split, 20, 0).images.permute(0, 2, 3, 1).numpy()
    hidden = (rows.masks > 0) | rows.void
    assert (painted[hidden] == leak.GREY).all()
    assert (painted[~hidden] == rows.images[~hidden]).all()
    assert (rows.images[rows.void & (rows.masks == 0)] != leak.GREY).any()


def test_a_leak_is_found_and_its_absence_as_well(tiny: Path, leaking: Path) -> None:
    assert not leak.measure_leak(FlowerStore(tiny), **QUICK).leaks
    verdict = leak.measure_leak(FlowerStore(leaking), **QUICK)
    assert verdict.leaks
    assert (verdict.rows, verdict.chance, verdict.trained_on) == (100, 0.5, 160)
    right = round(verdict.accuracy * 100)
    assert verdict.low == pytest.approx(beta.ppf(0.025, right, 101 - right))
    assert "painted over, flowernet is right in" in verdict.sentence


def test_chance_knows_where_the_evidence_is() -> None:
    class Named:
        def __init__(self, name: str) -> None:
            self.spec, self.class_names = load(name), load(name).class_names

    for name, expected in (("single-6c", 1 / 6), ("double-12c", 1 / 6), ("pair-12c", 1 / 12)):
        labels = np.arange(120) % len(load(name).class_names)
        assert leak.chance(Named(name), labels) == pytest.approx(expected)  # type: ignore[arg-type]
    unbalanced = Named("single-6c")
    unbalanced.spec = None  # type: ignore[assignment]
    assert leak.chance(unbalanced, np.array([0, 0, 0, 1])) == 0.75  # type: ignore[arg-type]


def test_a_planted_shortcut_is_drawn_without_regard_to_the_class(tmp_path: Path) -> None:
    store = FlowerStore(generate(load("shortcut-6c").with_changes(size=24, rows=400), tmp_path / "x.h5").path)
    rows = store["train"].rows(0, 200)
    pictures = leak._without_shortcut(store["train"], rows, 0)
    tags = rows.parts == store.part_names.index("tag")
    near = tags | rows.void
    assert (pictures != rows.images).any(3)[tags].mean() > 0.5
    changed = (pictures != rows.images).any(3)
    assert changed[~near].mean() < 0.02  # the rim of the tag


def test_the_command_says_it_with_its_exit_status(leaking: Path) -> None:
    words = ["verify", "--leak", str(leaking), "--rows", "160", "--epochs", "4", "--device", "cpu", "--json"]
    with h5py.File(leaking, "r+") as file:  # its checksums are no longer those that were recorded
        for split in file.values():
            split["images"].attrs["sha256"] = hashlib.sha256(split["images"][:].tobytes()).hexdigest()
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["leak"]["leaks"]
    assert document["lacks"] is None


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", presets())
def test_no_preset_leaks(name: str, tmp_path: Path) -> None:
    """At 42 px, where the rim is the largest share of the picture."""
    store = FlowerStore(generate(load(name).with_changes(size=42, rows=4200), tmp_path / "x.h5").path)
    verdict = leak.measure_leak(store)
    assert not verdict.leaks, verdict.sentence


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["noise", "leaves", "scramble", "photo"])
def test_no_ground_leaks(kind: str, tmp_path: Path) -> None:
    """single-6c on grounds of natural statistics, and on photographs."""
    document = json.loads(load("single-6c").with_changes(size=42, rows=2000).to_json())
    document["nuisance"] |= {"background.kind": kind, "background.colour": ["stone", "sand", "slate"]}
    if kind in ("scramble", "photo"):
        names = ["brick.png", "chelsea.png", "coffee.png", "grass.png", "rocket.jpg", "astronaut.png"]
        document["background"] = {"images": "package:skimage.data", "only": names}
    store = FlowerStore(generate(from_mapping(document, kind), tmp_path / "x.h5").path)
    verdict = leak.measure_leak(store, epochs=5)
    assert not verdict.leaks, verdict.sentence


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_without_its_void_pixels_single_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FlowerStore(generate(load("single-6c").with_changes(size=42, rows=4200), tmp_path / "x.h5").path)
    monkeypatch.setattr(leak, "hidden_pixels", lambda rows: rows.masks > 0)
    assert leak.measure_leak(store).leaks
