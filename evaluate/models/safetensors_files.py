"""Safetensors files: named tensors with text about them, whole under their final name or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from an8flower.atomic import moved_into

DAMAGE = (SafetensorError, OSError)
"""What reading and writing raise where a file is damaged, or its place cannot be read or written."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of any device with their metadata; raises one of DAMAGE where that cannot be done."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with moved_into(path) as unfinished:
        save_file(whole, unfinished, dict(metadata))


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and the tensors of a file, on the CPU; raises one of DAMAGE where that cannot be done."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
