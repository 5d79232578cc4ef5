"""How a run is carried out: never what it computes, so none of this is hashed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from an8flower.errors import WrongUsage
from an8flower.names import unknown


@dataclass(frozen=True)
class Resources:
    """Where and in what portions work is done."""

    device: torch.device
    batch: int = 64  # images in flight; halved on out-of-memory


def device_named(name: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU; raises WrongUsage for one that is not here."""
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
    cuda = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []
    return ["auto", "cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
