"""What a classifier that was trained on `shortcut-6c` does with the tag and without it.

The same test rows are rendered four times: with the tag of another class (as the test split has it), with the tag of
their own class, without a tag, and with the petals of another class under the tag of their own. Nothing else changes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from report import write

from an8flower import draw
from an8flower import spec as specs
from an8flower.evaluate.classifier import Classifier
from an8flower.evaluate.resources import device_named
from an8flower.evaluate.training import train
from an8flower.generate import generate
from an8flower.render import render
from an8flower.scene import build
from an8flower.store import FlowerStore

ROWS = 1200
SEEDS = (0, 1, 2)


def predicted(classifier: Classifier, table: np.ndarray, size: int) -> np.ndarray:
    """The classes (n,) that a classifier sees in rows with these factors."""
    images = torch.from_numpy(render(build(table), size)[0]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        parts = [classifier(part.to(classifier.device).float() / 255).argmax(1).cpu() for part in images.split(64)]
    return torch.cat(parts).numpy()


def row(classifier: Classifier, spec: specs.DatasetSpec, seed: int) -> dict[str, object]:
    """One line of the table."""
    assert spec.shortcut is not None
    table, labels = draw.factors(spec, "test", 0, ROWS), draw.labels(spec, "test", 0, ROWS)
    own_tag, other_petals, no_tag = table.copy(), table.copy(), table.copy()
    own_tag["tag.colour"] = np.array(spec.shortcut.values)[labels]
    other_petals["tag.colour"] = own_tag["tag.colour"]
    others = (labels + 1 + np.arange(ROWS) % (spec.class_count - 1)) % spec.class_count
    other_petals["petals.colour"] = np.array(spec.classes["petals.colour"])[others]
    no_tag["tag.count"] = 0
    torn = predicted(classifier, other_petals, spec.size)
    return {
        "seed": seed,
        "accuracy, tag of another class": share(predicted(classifier, table, spec.size) == labels),
        "accuracy, tag of the own class": share(predicted(classifier, own_tag, spec.size) == labels),
        "accuracy, no tag": share(predicted(classifier, no_tag, spec.size) == labels),
        "petals against tag: follows the petals": share(torn == others),
        "petals against tag: follows the tag": share(torn == labels),
    }


def share(hits: np.ndarray) -> str:
    """As a percentage."""
    return f"{hits.mean():.2%}"


def main() -> None:
    """Train with several seeds and tell what each does."""
    spec = specs.load("shortcut-6c")
    with tempfile.TemporaryDirectory() as folder:
        path = generate(spec, Path(folder) / "shortcut-6c.h5").path
        device = device_named("auto")
        trained = [train(FlowerStore(path), "flowernet", seed=seed, device=device) for seed in SEEDS]
    rows = [row(each.classifier, spec, seed) for each, seed in zip(trained, SEEDS, strict=True)]
    write("shortcut", rows, {"what": "flowernet trained on shortcut-6c, where the tag agrees with 90 % of the rows"})


if __name__ == "__main__":
    main()
