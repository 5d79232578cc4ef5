"""The innocent model: trained on the same pictures, with marks that say nothing of the class.

It has no reason to look at the mark. So a method that shows the mark all the same raises a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from an8flower.generate import generate
from an8flower.planted import planting_of
from an8flower.planting import replant
from an8flower.spec import DatasetSpec
from an8flower.splits import SPLITS
from an8flower.store import FlowerStore


def innocent_path(store: FlowerStore, folder: Path) -> Path:
    """The path of the innocent version of a data set; other rows have another name."""
    return folder / f"{store.path.stem}-innocent-{store.fingerprint[:8]}.h5"


def write_innocent_data(store: FlowerStore, folder: Path, on_wait: Callable[[], None] = lambda: None) -> Path:
    """Write a data set again with marks that agree with the class as often as chance has it; once in a folder.

    Another process that writes it is waited for. Raises Refusal as `replant` and `generate` do.
    """
    path = innocent_path(store, folder)
    if planting := planting_of(store):
        replant(store.path, path, dict.fromkeys(SPLITS, planting.chance), workers=1, on_wait=on_wait)
    else:
        assert store.spec is not None, "asked for only where rows have marks"
        generate(without_shortcut(store.spec), path, workers=1, force=True, on_wait=on_wait)
    return path


def without_shortcut(spec: DatasetSpec) -> DatasetSpec:
    """The same spec with a shortcut whose values agree with the class as often as chance has it."""
    assert spec.shortcut is not None, "asked for only where there is one"
    chance = dict.fromkeys(SPLITS, 1 / spec.class_count)
    return spec.model_copy(update={"shortcut": spec.shortcut.model_copy(update=chance)})
