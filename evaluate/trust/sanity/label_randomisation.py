"""Label randomisation: the same architecture, trained to memorise labels that say nothing of the images.

What such a model has learnt is not what the classes look like: a method whose maps of it are those of the trained model
does not show what a model has learnt.

Source: Adebayo et al., NeurIPS 2018, section 4.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import an8flower
from an8flower.errors import NotApplicable, Refusal
from an8flower.store import FlowerStore

from ...data.batches import Batch, ResidentRows
from ...data.selection import select_rows
from ...models.classifier import Classifier, build, normalisation_of
from ...models.files import load
from ...models.networks.random_state import seed_global_state
from ...models.training import EpochReport, accuracy, describe_data, fit, recipe_for
from ...registry import archs, to_file_name
from ...seeds import seed_of

MEMORISED = 0.95  # accuracy on its training rows from which a model counts as having memorised them
ENOUGH = 0.99  # at which training ends


@dataclass(frozen=True)
class Memory:
    """How many labels a model memorises, and for how long it is trained."""

    rows: int = 120  # of the training split, as many of each class
    epochs: int = 200  # at most
    batch: int = 32
    seed: int = 0


@dataclass(frozen=True)
class MemorisingModel:
    """A model that was trained on permuted labels, and how well it memorised them."""

    classifier: Classifier
    accuracy: float  # on the permuted labels of its training rows, in [0, 1]
    rows: int
    seconds: float  # 0 where it was read from its file
    path: Path

    @property
    def objection(self) -> str:
        """Why the comparison cannot be trusted; empty where it can."""
        if self.accuracy >= MEMORISED:
            return ""
        return (
            f"the model of permuted labels did not memorise them: accuracy {self.accuracy:.0%} on its {self.rows} "
            f"training rows, expected {MEMORISED:.0%}; give it more epochs, or fewer rows"
        )

    def to_document(self) -> dict[str, Any]:
        """The model of permuted labels as a document describes it."""
        return {
            "accuracy": self.accuracy,
            "memorised": self.accuracy >= MEMORISED,
            "rows": self.rows,
            "seconds": self.seconds,
            "model": str(self.path),
            "reason": self.objection,
        }


def memorise_once(
    classifier: Classifier,
    store: FlowerStore,
    memory: Memory,
    folder: Path,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> MemorisingModel:
    """The model trained on permuted labels; it is read from its file in the folder if it was trained before.

    Raises:
        NotApplicable: the architecture is not registered, so that it cannot be built anew.
    """
    if ":" not in classifier.arch and classifier.arch not in archs.names():
        raise NotApplicable(f"{classifier.arch} cannot be trained anew, since it is not a registered architecture")
    memory = replace(memory, rows=min(memory.rows, len(store["train"])))
    wanted = identity(classifier, store, memory)
    path = folder / f"{to_file_name(classifier.arch)}-permuted-seed{memory.seed}-{wanted[:8]}.safetensors"
    with suppress(Refusal, KeyError, ValueError):  # a file that is missing, damaged or another one is made anew
        trained = load(path, classifier.device, trust=classifier.arch)
        if trained.card.data["identity"] == wanted:
            return MemorisingModel(trained, float(trained.card.data["memorised"]), memory.rows, 0.0, path)
    return memorise(classifier, store, memory, path, on_epoch=on_epoch)


def identity(classifier: Classifier, store: FlowerStore, memory: Memory) -> str:
    """A digest of all that the model depends on."""
    settings = [classifier.code, classifier.target_layer, *normalisation_of(classifier)] if classifier.code else []
    words = json.dumps([an8flower.__version__, classifier.arch, store.fingerprint, repr(memory), *settings])
    return hashlib.sha256(words.encode()).hexdigest()


def memorise(
    classifier: Classifier, store: FlowerStore, memory: Memory, path: Path, *, on_epoch: Callable[[EpochReport], None]
) -> MemorisingModel:
    """Train a model on permuted labels and file it: without augmentation, which would be more to memorise."""
    began = time.perf_counter()
    rows = ResidentRows(permute_labels(store, memory, classifier.device))
    recipe = recipe_for(
        classifier.arch,
        memory.epochs,
        batch=memory.batch,
        learning_rate=None,
        patience=memory.epochs,
        seed=memory.seed,
    )
    # Half the usual rate: noise that helps to generalise keeps from learning by heart.
    recipe = recipe._replace(learning_rate=recipe.learning_rate / 2, augmented=False, enough=ENOUGH)
    fresh = build(
        classifier.arch,
        classifier.class_names,
        classifier.size,
        seed_of("memory", memory.seed),
        classifier.card.layer,
        normalisation_of(classifier),
    )
    fresh.to(classifier.device)
    with seed_global_state(seed_of("memorise", classifier.arch, memory.seed)):
        fit(fresh, rows, rows, recipe, on_epoch)
    reached = accuracy(fresh, rows)
    data = {**describe_data(store), "identity": identity(classifier, store, memory)}
    data |= {"labels": "permuted", "memorised": repr(reached)}
    fresh.card = replace(fresh.card, seed=memory.seed, data=data, versions={"an8flower": an8flower.__version__})
    fresh.save(path)
    return MemorisingModel(fresh, reached, memory.rows, time.perf_counter() - began, path)


def permute_labels(store: FlowerStore, memory: Memory, device: torch.device) -> Batch:
    """Training rows whose labels are dealt out anew among them."""
    split = store["train"]
    indices = select_rows(split.labels, memory.rows, seed_of("memory", memory.seed))
    rows = split.take(indices)
    labels = np.random.default_rng(seed_of("permuted", memory.seed)).permutation(rows.labels)
    if np.array_equal(labels, rows.labels):
        raise Refusal(f"{store.path}: the labels of {memory.rows} rows came out as they were; choose another seed")
    images = torch.from_numpy(rows.images).permute(0, 3, 1, 2)
    return Batch(*(tensor.to(device) for tensor in (images, torch.from_numpy(labels), torch.from_numpy(rows.masks))))
