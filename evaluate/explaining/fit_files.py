"""What explainers learnt, kept on disk: beside the model where that is a file, else in the folder of the run."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import an8flower
from an8flower.atomic import moved_into

from ..case import Explainer
from ..models.classifier import Classifier
from .fitting import Examples, Fittable, Fitted, Learnt, prepared

FORMAT = "an8flower fit 1"


def fitted_once(
    explainer: Explainer,
    classifier: Classifier,
    examples: Examples,
    model: str,
    folder: Path | None = None,
    batch: int | None = None,
) -> Explainer:
    """As `prepared`, but what was learnt before, from the same examples by the same model, is read from its file.

    A file that is damaged, or not ours, is made anew; where none can be written, the fit is used all the same.

    Args:
        model: how the user named it; its fits lie beside it where that is a file.
        folder: where they lie else; they are not kept where it is None.
    """
    if not isinstance(explainer, Fittable):
        return explainer
    identity = identity_of(explainer, classifier, examples)
    path = place(explainer, identity, model, folder)
    learnt = None if path is None else read(path, identity)
    if learnt is not None:
        return Fitted(explainer, {name: tensor.to(classifier.device) for name, tensor in learnt.items()})
    ready = prepared(explainer, classifier, examples, batch)
    if path is not None and isinstance(ready, Fitted):
        write(path, identity, ready.learnt)
    return ready


def identity_of(explainer: Explainer, classifier: Classifier, examples: Examples) -> str:
    """A digest of all that a fit depends on."""
    told = json.dumps([an8flower.__version__, classifier.digest, examples.digest, repr(explainer)])
    return hashlib.sha256(told.encode()).hexdigest()


def place(explainer: Explainer, identity: str, model: str, folder: Path | None) -> Path | None:
    """`MODEL.vebi-1a2b3c4d.safetensors`, or without the model's name in the folder of a run."""
    name = f"{type(explainer).__name__.lower()}-{identity[:8]}.safetensors"
    file = Path(model)
    if file.is_file():
        return file.with_name(f"{file.stem}.{name}")
    return None if folder is None else folder / "fits" / name


def read(path: Path, identity: str) -> Learnt | None:
    """What a file holds; None where there is none, or not the one that is wanted."""
    try:
        with safe_open(path, "pt") as file:
            if file.metadata() != {"format": FORMAT, "identity": identity}:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None


def write(path: Path, identity: str, learnt: Learnt) -> None:
    """File what was learnt, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in learnt.items()}
    with suppress(OSError, SafetensorError), moved_into(path) as unfinished:
        save_file(tensors, unfinished, {"format": FORMAT, "identity": identity})
