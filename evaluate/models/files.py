"""Classifiers, and the weights of a user's own network, read from safetensors alone: nothing is unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from an8flower.errors import Refusal
from an8flower.gate.regular import FileKind, check_regular, shorten

from ..registry import archs, names_code, to_file_name
from .classifier import FORMAT, Card, Classifier, build
from .safetensors_files import LARGEST, read_metadata, read_tensors

PICKLES = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".th", ".tar"}
MARKS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # what torch.save and pickle start with
NAMED = 3  # examples in a message
DATA_PARALLEL = "module."
CONVERT = 'safetensors.torch.save_file(model.state_dict(), "weights.safetensors")'
WEIGHTS = FileKind("a safetensors file", LARGEST, f"write it anew with {CONVERT}", f"write one with {CONVERT}")


def load_weights(network: nn.Module, path: Path) -> None:
    """Put the tensors of a safetensors file into a network: all that the network has, and no other.

    Tensors that a network holds under several names may be there under one of them, as `save_model` writes them.

    Raises:
        Refusal: no such file, a pickle, damaged, or names or shapes that are not the network's.
    """
    stored, expected = read_weights(path), network.state_dict()
    known = {expected[name].data_ptr() for name in stored if name in expected}
    missing = [name for name in expected if name not in stored and expected[name].data_ptr() not in known]
    unexpected = [name for name in stored if name not in expected]
    if missing or unexpected:
        raise Refusal(f"{path}: not the weights of this {type(network).__name__}; {_names(missing, unexpected)}")
    if wrong := [name for name in stored if stored[name].shape != expected[name].shape]:
        first = (
            f"{wrong[0]} is {tuple(stored[wrong[0]].shape)} there and {tuple(expected[wrong[0]].shape)} in the network"
        )
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise Refusal(f"{path}: {first}{more}; have the factory make the network that was saved")
    network.load_state_dict(stored, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by their names; raises Refusal as `load_weights` does."""
    check_regular(path, WEIGHTS)
    if path.suffix.lower() in PICKLES or _starts_as_pickle(path):
        raise Refusal(
            f"{path}: a pickle is not read, because unpickling runs whatever code is in it; where you trust it, load "
            f"it with torch yourself, and convert it once: {CONVERT}"
        )
    return read_tensors(path, WEIGHTS)[1]


def _starts_as_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4).startswith(MARKS)


def _names(missing: list[str], unexpected: list[str]) -> str:
    """A sentence that says which names do not match, and what may be done about it."""
    counts = [
        f"{len(names)} {what} ({', '.join(names[:NAMED])}{', ...' * (len(names) > NAMED)})"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"))
        if names
    ]
    if unexpected and all(name.startswith(DATA_PARALLEL) for name in unexpected):
        return f"{', '.join(counts)}; save model.module.state_dict(), without DataParallel's prefix"
    return f"{', '.join(counts)}; have the factory make the network that was saved"


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu", *, trust: bool | str = False) -> Classifier:
    """Read a classifier that `Classifier.save` wrote.

    Args:
        trust: whether code of somebody's own that the file names may be imported, which runs it; the name of an
            architecture (`package.module:factory`) allows that one alone.

    Raises:
        Refusal: no such file, not safetensors, not ours, weights that do not fit their architecture, or an architecture
            in code that is not trusted.
    """
    card, weights = read_classifier(Path(path))
    # A file must not make us import what it names.
    arch = shorten(card.arch)
    if names_code(card.arch) and trust not in (True, card.arch):
        raise Refusal(
            f'{path}: holds the architecture "{arch}", and importing a module runs its code; '
            "read the module, and add --trust (in Python: trust=True) if you trust it"
        )
    if ":" not in card.arch and card.arch not in archs.names():
        raise Refusal(f'{path}: holds the architecture "{arch}", which is not registered; import its module first')
    try:
        classifier = build(card.arch, card.class_names, card.size, card.seed or 0, card.layer)
        classifier.card = card
        classifier.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise Refusal(
            f"{path}: its weights do not fit {card.arch} with {len(card.class_names)} classes; train one anew"
        ) from error
    return classifier.to(device).eval()


def file_name_of(arch: str, seed: int) -> str:
    """The name of the file of a trained classifier; it has no colon, whatever the architecture is called."""
    return f"{to_file_name(arch)}-seed{seed}.safetensors"


def read_classifier(path: Path) -> tuple[Card, dict[str, Tensor]]:
    """The card and the tensors in a classifier's file; nothing is imported or built for it.

    Raises:
        Refusal: no such file, not safetensors, or not ours.
    """
    metadata, weights = read(path)
    try:
        return Card.from_metadata(metadata), weights
    except (KeyError, ValueError, TypeError) as error:
        raise Refusal(
            f"{path}: its metadata are not ours ({shorten(error)}); train one with `an8flower train`"
        ) from error


def names_arch(path: Path, arch: str) -> bool:
    """Whether a file is one of a classifier of this architecture, as `Classifier.save` writes them."""
    check_regular(path, WEIGHTS)
    metadata = read_metadata(path)
    return metadata.get("format") == FORMAT and metadata.get("arch") == json.dumps(arch)


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The metadata and the tensors of a safetensors file."""
    remedy = f"train one with `an8flower train -o {path}`"
    return read_tensors(path, FileKind("a model in a safetensors file", LARGEST, remedy))
