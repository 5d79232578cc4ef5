"""Named arrays in safetensors files, as numpy sees them: text and numbers, which run no code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import Refusal
from .regular import FileKind, check_regular, shorten

DAMAGE = (SafetensorError, OSError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError)
"""What safetensors raises where a file is damaged, or holds numbers that numpy has no type for."""


def read_safetensors(path: Path, kind: FileKind) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the arrays of a file, which take in memory what they take on disk; raises Refusal if damaged."""
    check_regular(path, kind)
    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return dict(file.metadata() or {}), arrays
    except DAMAGE as error:
        raise Refusal(f"{path}: not a safetensors file, or damaged ({shorten(error)}); {kind.remedy}") from None
