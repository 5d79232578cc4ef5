"""The resources of a run: they never change what it computes, so none of them is hashed."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from an8flower.errors import WrongUsage
from an8flower.names import unknown

if TYPE_CHECKING:
    import torch  # whoever carries work to processes asks here what went wrong, and does without torch


@dataclass(frozen=True)
class Resources:
    """The device that work is done on, and the size of its batches."""

    device: torch.device
    batch: int | None = None  # images in flight, halved on out-of-memory; None: what suits the device

    @property
    def in_flight(self) -> int:
        """The number of images that may be in a network at once."""
        return in_flight_on(self.device) if self.batch is None else self.batch


def in_flight_on(device: torch.device) -> int:
    """The number of images that may be in a network at once, unless the user says otherwise.

    A gradient through a ResNet-50 at 224 px keeps about 100 MB an image; two cores gain nothing beyond a few images.
    """
    return 128 if device.type == "cuda" else 16


def parse_device(name: str) -> torch.device:
    """The device of a name; `auto` is the first GPU, else the CPU. Raises WrongUsage if the device is not here."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise WrongUsage(unknown("device", name, _present())) from None
    if str(device) not in _present():
        raise WrongUsage(f'device "{name}" is not on this machine; present are: {", ".join(_present())}')
    return device


def _present() -> list[str]:
    import torch

    cuda = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    return ["auto", "cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def is_out_of_main_memory(error: BaseException) -> bool:
    """Whether main memory ran out; libraries have several ways to say so. (A GPU's memory is another matter.)"""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ("t allocate memory", "bad_alloc"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a GPU or of the machine ran out, so that a smaller portion may pass."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or is_out_of_main_memory(error)
