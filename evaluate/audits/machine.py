"""Under which circumstances numbers came about: the machine, and its GPUs."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch


def machine(device: str) -> dict[str, Any]:
    """What computed it."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "gpu": _gpu_name(device),
    }


def _gpu_name(device: str) -> str | None:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else None


def gpus(device: str) -> list[str]:
    """All GPUs where none in particular was asked for."""
    if device == "cuda":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [device] if device.startswith("cuda") else []
