"""Explainers that learn from examples before they explain: fitted once for a model and a data set, and kept on disk.

What was learnt lies beside the model where that is a file, else in the folder of the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import an8flower
from an8flower.errors import NotApplicable, Refusal
from an8flower.gate.regular import FileKind
from an8flower.store import FlowerStore, StoredRows

from ..case import Explainer
from ..data.images import as_images
from ..data.selection import select_rows
from ..explainers.fittable import Examples, Fittable, Fitted, Learnt
from ..models.classifier import Classifier
from ..models.networks.arithmetic import identity_of_arithmetic
from ..models.networks.guard import guard
from ..models.safetensors_files import LARGEST, UNWRITABLE, read_tensors, write_tensors
from ..resources import in_flight_on
from ..seeds import seed_of
from .explain import forgetting_halves


@dataclass(frozen=True)
class TensorExamples:
    """Images (N, 3, S, S) float32 in [0, 1] and labels (N,) int64 that are at hand; their order is kept."""

    images: Tensor
    labels: Tensor
    digest: str = "given"
    masks: Tensor | None = None  # (N, S, S) uint8, 0 where there is no evidence; None if nobody knows

    def take(self, count: int, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The first `count` examples, in portions."""
        yield from zip(self.images[:count].split(portion), self.labels[:count].split(portion), strict=True)

    def take_masks(self, count: int, portion: int) -> Iterator[Tensor]:
        """The masks of the first `count` examples, in portions; raises NotApplicable if nobody gave any."""
        if self.masks is None:
            raise NotApplicable("no masks of training examples came; give TensorExamples(..., masks=...)")
        yield from self.masks[:count].split(portion)


@dataclass(frozen=True)
class StoredExamples:
    """Rows of a split of a store; which ones is fixed by the data and their number."""

    store: FlowerStore
    device: torch.device
    split: str = "train"

    @property
    def digest(self) -> str:
        """The fingerprint of the data set and the name of the split."""
        return f"{self.store.fingerprint} {self.split}"

    def take(self, count: int, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Read `count` rows of the split, spread over the classes, a portion at a time."""
        for rows in self._read(count, portion):
            yield as_images(rows.images, self.device), torch.from_numpy(rows.labels).to(self.device)

    def take_masks(self, count: int, portion: int) -> Iterator[Tensor]:
        """Read the masks of the same rows; raises NotApplicable if the data set has no such split."""
        if self.split not in self.store.splits:
            raise NotApplicable(f"{self.store.path} has no split {self.split}, so no masks can be learnt from")
        for rows in self._read(count, portion):
            yield torch.from_numpy(rows.masks).to(self.device)

    def _read(self, count: int, portion: int) -> Iterator[StoredRows]:
        split = self.store[self.split]
        chosen = torch.from_numpy(select_rows(split.labels, min(count, len(split)), seed_of("examples")))
        return (split.take(indices.numpy()) for indices in chosen.split(portion))


def is_fitted_first(explainer: Explainer) -> bool:
    """Whether an explainer learns from examples before it explains."""
    return isinstance(explainer, Fittable)


def asks_model(explainer: Explainer) -> bool:
    """Whether what an explainer learns depends on the model."""
    return not isinstance(explainer, Fittable) or explainer.asks_model


def prepare(explainer: Any, classifier: Classifier, examples: Examples, batch: int | None = None) -> Explainer:
    """An explainer that is ready to explain: fitted on examples if it learns from them, else as it came.

    The classifier is given back as it was. `batch` bounds how many images are in it at once, as in `explain`.

    Raises:
        NotApplicable: the method cannot run on this architecture.
    """
    if not isinstance(explainer, Fittable):
        return explainer
    batch = in_flight_on(classifier.device) if batch is None else batch
    with forgetting_halves(classifier, explainer), guard(classifier, repr(explainer)), classifier.holding(batch):
        return explainer.fit(classifier, examples)


FORMAT = "an8flower fit 1"
FIT = FileKind("what a method learnt", LARGEST, "delete it, and it is made anew")
VERSION = 2  # of how fits are made: since 2 the model is known to be whole


def fit_once(
    explainer: Explainer,
    classifier: Classifier,
    examples: Examples,
    model: str,
    folder: Path | None = None,
    batch: int | None = None,
) -> Explainer:
    """An explainer as `prepare` gives it; what it learnt before from the same examples is read from disk.

    A file that is damaged, or not ours, is made anew; where none can be written, the fit is used all the same.

    Args:
        model: how the user names the model; its fits lie beside it if that is a file.
        folder: where the fit lies if the model is no file; None: it is not kept then.
    """
    if not isinstance(explainer, Fittable):
        return explainer
    identity = identity_of(explainer, classifier, examples)
    path = fit_path(explainer, identity, model, folder)
    learnt = None if path is None else read_fit(path, identity)
    if learnt is not None:
        return Fitted(explainer, {name: tensor.to(classifier.device) for name, tensor in learnt.items()})
    ready = prepare(explainer, classifier, examples, batch)
    if identity_of(explainer, classifier, examples) != identity:
        raise Refusal(f"{explainer!r}: the model changed while it was fitted; what was learnt is not kept")
    if path is not None and isinstance(ready, Fitted):
        write_fit(path, identity, ready.learnt)
    return ready


def identity_of(explainer: Explainer, classifier: Classifier, examples: Examples) -> str:
    """A digest of all that a fit depends on; one that asks no model depends on none."""
    model = classifier.digest if asks_model(explainer) else ""
    arithmetic = identity_of_arithmetic(classifier.device) if model else ()
    document = json.dumps([an8flower.__version__, VERSION, model, examples.digest, repr(explainer), *arithmetic])
    return hashlib.sha256(document.encode()).hexdigest()


def fit_path(explainer: Explainer, identity: str, model: str, folder: Path | None) -> Path | None:
    """The path of a fit: `MODEL.vebi-1a2b3c4d.safetensors`, or without the model's name in the folder of a run.

    What asks no model lies in the folder of the run, once for all models.
    """
    name = f"{type(explainer).__name__.lower()}-{identity[:8]}.safetensors"
    file = Path(model)
    if file.is_file() and asks_model(explainer):
        return file.with_name(f"{file.stem}.{name}")
    return None if folder is None else folder / "fits" / name


def read_fit(path: Path, identity: str) -> Learnt | None:
    """Read what was learnt from a file; None if there is no file, or it holds another fit."""
    try:
        metadata, learnt = read_tensors(path, FIT)
    except Refusal:
        return None
    return learnt if metadata == {"format": FORMAT, "identity": identity} else None


def write_fit(path: Path, identity: str, learnt: Learnt) -> None:
    """Write what an explainer learnt to a file, whole or not at all."""
    with suppress(*UNWRITABLE):
        write_tensors(path, learnt, {"format": FORMAT, "identity": identity})
