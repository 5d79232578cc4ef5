"""A description of this machine and its GPUs, for the records of an audit."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from ..models.networks.arithmetic import describe_arithmetic


def describe_machine(device: str) -> dict[str, Any]:
    """The system, processor, memory and GPU of this machine, and how it multiplies, ready for JSON."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "gpu": None,
        **describe_arithmetic(torch.device(device)),
    }


def list_gpus(device: str) -> list[str]:
    """The devices of the workers: every GPU for "cuda", the one named for "cuda:1", none for a CPU."""
    if device == "cuda":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [device] if device.startswith("cuda") else []
