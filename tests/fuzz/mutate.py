"""Files damaged in ways that a seed and a number decide: bytes of any file, and the inside of formats that we know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import mutate_arrays, mutate_hdf5, mutate_texts

MOST = 64  # bytes that one mutation touches, where it does not say otherwise
LENGTHS = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
Rng = np.random.Generator
INSIDE: dict[str, tuple[Callable[[Path, Rng], str], ...]] = {
    "hdf5": (mutate_hdf5.change,),
    "safetensors": (mutate_arrays.change_safetensors,),
    "parquet": (mutate_arrays.change_parquet,),
    "npz": (mutate_arrays.change_npz,),
    "picture": (mutate_arrays.change_picture,),
    "json": (mutate_texts.change_json,),
    "toml": (mutate_texts.change_toml,),
    "text": (mutate_texts.change_lines,),
}


def mutate(path: Path, kind: str, rng: Rng) -> str:
    """Damage a file in place, and say how: its bytes in half of the cases, else its inside by what its format has."""
    if rng.random() < 0.5:
        return change_bytes(path, rng)
    return INSIDE[kind][int(rng.integers(len(INSIDE[kind])))](path, rng)


def change_bytes(path: Path, rng: Rng) -> str:
    """Apply one to three of the mutations that fit any file."""
    content = path.read_bytes()
    names = [list(BYTES)[i] for i in rng.integers(len(BYTES), size=rng.integers(1, 4))]
    for name in names:
        content = BYTES[name](content, rng) if content else b""
    path.write_bytes(content)
    return ", ".join(names)


def flip(content: bytes, rng: Rng) -> bytes:
    """Turn single bits around."""
    changed = bytearray(content)
    for place in _places(content, rng, int(rng.integers(1, 9))):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwrite(content: bytes, rng: Rng) -> bytes:
    """Put random bytes over a short stretch."""
    start, length = _stretch(content, rng)
    return content[:start] + rng.bytes(length) + content[start + length :]


def truncate(content: bytes, rng: Rng) -> bytes:
    """Cut the end off."""
    return content[: rng.integers(len(content))]


def duplicate(content: bytes, rng: Rng) -> bytes:
    """Repeat a stretch right after itself."""
    start, length = _stretch(content, rng, len(content))
    return content[: start + length] + content[start:]


def insert_zeros(content: bytes, rng: Rng) -> bytes:
    """Push the rest of the file away by zeros."""
    place = int(rng.integers(len(content)))
    return content[:place] + bytes(int(rng.integers(1, MOST))) + content[place:]


def zero(content: bytes, rng: Rng) -> bytes:
    """Put zeros over a stretch, as a hole in a file has."""
    start, length = _stretch(content, rng, min(4096, len(content)))
    return content[:start] + bytes(length) + content[start + length :]


def set_length(content: bytes, rng: Rng) -> bytes:
    """Put an extreme number where a length may stand."""
    width = int(rng.choice([2, 4, 8]))
    place = int(rng.integers(max(len(content) - width, 1)))
    number = LENGTHS[rng.integers(len(LENGTHS))] % 2 ** (8 * width)
    return content[:place] + number.to_bytes(width, "little") + content[place + width :]


def swap(content: bytes, rng: Rng) -> bytes:
    """Exchange two stretches of the same length."""
    start, length = _stretch(content, rng)
    other = int(rng.integers(len(content)))
    first, second = sorted((start, other))
    length = min(length, second - first, len(content) - second)
    changed = bytearray(content)
    changed[first : first + length] = content[second : second + length]
    changed[second : second + length] = content[first : first + length]
    return bytes(changed)


def append(content: bytes, rng: Rng) -> bytes:
    """Let random bytes follow."""
    return content + rng.bytes(int(rng.integers(1, MOST)))


BYTES: dict[str, Callable[[bytes, Rng], bytes]] = {
    change.__name__: change
    for change in (flip, overwrite, truncate, duplicate, insert_zeros, zero, set_length, swap, append)
}


def _stretch(content: bytes, rng: Rng, longest: int = MOST) -> tuple[int, int]:
    start = int(rng.integers(len(content)))
    return start, min(int(rng.integers(1, longest + 1)), len(content) - start)


def _places(content: bytes, rng: Rng, count: int) -> list[int]:
    """Places in a file; half of the time near its beginning, where formats say what they are."""
    reach = len(content) if rng.random() < 0.5 else min(len(content), 1024)
    return [int(place) for place in rng.integers(reach, size=count)]
