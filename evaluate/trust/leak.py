"""What still tells the classes once the evidence is painted over: a small network is trained on what is left.

Evidence by the mask and void pixels get one grey. The region that is painted must not tell the class by its form; in
rendered data it does not, save for which parts are evidence, where that differs between classes: see `chance`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from an8flower import interventions
from an8flower.errors import Refusal
from an8flower.evidence import evidence_parts
from an8flower.render import render
from an8flower.scene import build
from an8flower.splits import SPLITS
from an8flower.store import FlowerSplit, FlowerStore, StoredRows

from ..data.batches import Batch, ResidentRows
from ..models.classifier import build as build_classifier
from ..models.networks.random_state import seed_global_state
from ..models.training import EpochReport, accuracy, fit, recipe_for
from ..seeds import seed_of

GREY = 128
ARCH = "flowernet"
ROWS = 3000  # of a split, at most
EPOCHS = 10
LEVEL = 0.95


class LeakVerdict(NamedTuple):
    """How well a network tells the classes of pictures whose evidence is painted over."""

    accuracy: float  # on test rows, in [0, 1]
    low: float  # of the exact (Clopper and Pearson) interval of 95 %
    high: float
    chance: float  # the share that is right without any leak
    rows: int  # tested
    trained_on: int  # rows
    epochs: int
    seed: int
    arch: str
    void: bool  # whether void pixels were painted over too: False where the file knows of none

    @property
    def leaks(self) -> bool:
        """Whether the network is above chance beyond doubt: the whole interval is."""
        return self.low > self.chance

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        painted = "evidence and void pixels" if self.void else "evidence (the file knows of no void pixels)"
        what = "something else tells the classes" if self.leaks else "nothing that this network finds tells the classes"
        return (
            f"with {painted} painted over, {self.arch} is right in {self.accuracy:.1%} of {self.rows} rows "
            f"({self.low:.1%} to {self.high:.1%}), chance is {self.chance:.1%}: {what} "
            f"({self.trained_on} rows, {self.epochs} epochs, seed {self.seed})"
        )

    def document(self) -> dict[str, Any]:
        """The verdict ready for JSON."""
        return {**self._asdict(), "leaks": self.leaks, "sentence": self.sentence}


def measure_leak(
    store: FlowerStore,
    *,
    rows: int = ROWS,
    epochs: int = EPOCHS,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> LeakVerdict:
    """Train a network on pictures whose evidence and void pixels are painted over, and test it.

    A planted shortcut is drawn anew without regard to the class, since it leaks by design.

    Args:
        rows: how many rows of each split are used at most.

    Raises Refusal where a split has no rows.
    """
    if empty := [split for split in SPLITS if split not in store.splits]:
        raise Refusal(f"{store.path}: no rows in {', '.join(empty)}; the leak test wants rows in {', '.join(SPLITS)}")
    batches = {split: paint_rows(store[split], rows, seed) for split in SPLITS}
    sources = {
        split: ResidentRows(Batch._make(tensor.to(device) for tensor in batch)) for split, batch in batches.items()
    }
    classifier = build_classifier(ARCH, store.class_names, store.size, seed).to(device)
    with seed_global_state(seed_of("leak", ARCH, seed)):
        recipe = recipe_for(ARCH, epochs, 32, None, epochs, seed)
        fit(classifier, sources["train"], sources["val"], recipe, on_epoch)
    labels = batches["test"].labels.numpy()
    reached = accuracy(classifier, sources["test"])
    from scipy.stats import binomtest  # here, as it takes a while to load

    interval = binomtest(round(reached * len(labels)), len(labels)).proportion_ci(LEVEL, method="exact")
    return LeakVerdict(
        accuracy=reached,
        low=float(interval.low),
        high=float(interval.high),
        chance=chance(store, labels),
        rows=len(labels),
        trained_on=len(batches["train"].labels),
        epochs=epochs,
        seed=seed,
        arch=ARCH,
        void=store[SPLITS[0]].rows(0, 1).void is not None,
    )


def chance(store: FlowerStore, labels: np.ndarray) -> float:
    """The share of rows (n,) that is right if nothing but the place of the paint tells the classes.

    Classes with the same evidence parts have it in the same places, so the most frequent of them is the best guess.
    Masks that were imported say nothing of places that is known.
    """
    spec = store.spec
    groups = [frozenset() if spec is None else evidence_parts(spec, label) for label in range(len(store.class_names))]
    counts = np.bincount(labels, minlength=len(groups))
    best = {group: max(counts[i] for i, other in enumerate(groups) if other == group) for group in set(groups)}
    return float(sum(best.values()) / len(labels))


def paint_rows(split: FlowerSplit, most: int, seed: int) -> Batch:
    """The first rows of a split, as networks take them, with evidence and void pixels in one grey."""
    rows = split.rows(0, min(most, len(split)))
    images = _without_shortcut(split, rows, seed)
    images[hidden_pixels(rows)] = GREY
    tensors = (
        torch.from_numpy(images).permute(0, 3, 1, 2),
        torch.from_numpy(rows.labels),
        torch.from_numpy(rows.masks),
    )
    return Batch(*tensors)


def hidden_pixels(rows: StoredRows) -> np.ndarray:
    """The pixels that are painted over, (n, S, S) bool: those of the mask, and void ones."""
    marked: np.ndarray = rows.masks > 0
    return marked if rows.void is None else marked | rows.void


def _without_shortcut(split: FlowerSplit, rows: StoredRows, seed: int) -> np.ndarray:
    """The pictures of rows (n, S, S, 3) uint8, a planted shortcut having the value of any class."""
    spec = split.store.spec
    if spec is None or spec.shortcut is None or rows.factors is None:
        return rows.images.copy()
    chooser = np.random.default_rng(seed_of("leak", split.name, seed))
    classes = chooser.integers(spec.class_count, size=len(rows.labels))
    scenes = build(interventions.with_shortcut(spec, rows.factors, classes), split.album)
    return render(scenes, spec.size)[0]
