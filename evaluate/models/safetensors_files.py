"""Safetensors files: named tensors with text about them, whole under their final name or not there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from an8flower.atomic import moved_into
from an8flower.errors import Refusal
from an8flower.gate.regular import FileKind, check_regular, shorten

UNWRITABLE = (SafetensorError, OSError)
"""What writing raises where it cannot be done."""

DAMAGE = (SafetensorError, OSError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError)
"""What reading raises where a file is damaged."""

LARGEST = 2**35  # bytes: tensors take in memory what they take on disk
CHECKSUM = "sha256"  # the entry of the metadata that holds the checksum of the tensors; early files have none


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of any device with their metadata and a checksum; raises one of UNWRITABLE if it cannot be done."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with moved_into(path) as unfinished:
        save_file(whole, unfinished, {**metadata, CHECKSUM: checksum(whole)})


def read_tensors(path: Path, kind: FileKind) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and the tensors of a file, on the CPU.

    Raises:
        Refusal: it is no safetensors file, is damaged, or its tensors are not those of its checksum.
    """
    check_regular(path, kind)
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except DAMAGE as error:
        raise Refusal(f"{path}: not a safetensors file, or damaged ({shorten(error)}); {kind.remedy}") from None
    if metadata.pop(CHECKSUM, None) not in (None, checksum(tensors)):
        raise Refusal(f"{path}: its tensors are not those of its checksum, so they were changed; {kind.remedy}")
    return metadata, tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without its tensors; empty if it has none or cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except DAMAGE:
        return {}


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of contiguous tensors on the CPU, with their names, dtypes and shapes."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
