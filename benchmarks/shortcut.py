"""What a classifier that was trained on `shortcut-6c` uses, and one that was trained where the tag says nothing.

Both are trained on rows of the same kind; in the second data set the tag agrees with the class as often as chance has
it. The certificate tells what they rely on in the test rows of `shortcut-6c`, where the tag never agrees.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from report import write

from an8flower import spec as specs
from an8flower.evaluate.data.selection import select_rows
from an8flower.evaluate.data.world import World
from an8flower.evaluate.models.training import TrainingResult, train
from an8flower.evaluate.resources import parse_device
from an8flower.evaluate.trust.certificate import Certificate, certify
from an8flower.generate import generate
from an8flower.spec import DatasetSpec
from an8flower.store import FlowerStore

ROWS = 300
SEEDS = (0, 1, 2)


def without_shortcut(spec: DatasetSpec) -> DatasetSpec:
    """The same data set, but that the tag agrees with the class no more often than with any other."""
    assert spec.shortcut
    chance = dict.fromkeys(("train", "val", "test"), 1 / spec.class_count)
    return spec.model_copy(update={"name": "chance-6c", "shortcut": spec.shortcut.model_copy(update=chance)})


def row(trained: TrainingResult, seed: int, agreement: float, found: Certificate) -> dict[str, object]:
    """One line of the table."""
    assert found.shortcut
    return {
        "the tag agrees in": f"{agreement:.0%} of the training rows",
        "seed": seed,
        "accuracy on its own test rows": share(trained.accuracy),
        "accuracy where the tag never agrees": share(found.accuracy.mean),
        "follows the petals": share(found.flip_rate.mean),
        "the tag decides": share(found.shortcut.by_shortcut.mean),
        "the petals decide": share(found.shortcut.by_evidence.mean),
        "neither decides": share(found.shortcut.by_neither.mean),
    }


def share(value: float) -> str:
    """As a percentage."""
    return f"{value:.1%}"


def main() -> None:
    """Train with several seeds, with the shortcut and without it, and tell what each model uses."""
    spec, device = specs.load("shortcut-6c"), parse_device("auto")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            each.name: FlowerStore(generate(each, Path(folder) / f"{each.name}.h5").path)
            for each in (spec, without_shortcut(spec))
        }
        world = World.of(stores[spec.name]["test"], device)
        chosen = select_rows(world.split.labels, ROWS, 0)
        for store in stores.values():
            assert store.spec
            assert store.spec.shortcut
            for seed in SEEDS:
                trained = train(store, "flowernet", seed=seed, device=device)
                found = certify(trained.classifier, world, chosen)
                rows.append(row(trained, seed, store.spec.shortcut.train, found))
    about = {"what": f"flowernet, certified on {ROWS} test rows of shortcut-6c", "threads": torch.get_num_threads()}
    write("shortcut", rows, about)


if __name__ == "__main__":
    main()
