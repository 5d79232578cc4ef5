"""A description of this machine and its GPUs, for the records of an audit."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import torch

from ..models.networks.arithmetic import describe_arithmetic

SHARERS = 8  # processes on one GPU, at most
GIB_EACH = 2  # of a GPU's memory for each process, at least


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


def count_workers(cores: int, gpus: Sequence[str]) -> int:
    """How many processes work at once: one a core; several on a GPU, for which much is prepared and read on cores."""
    if not gpus:
        return max(1, cores)
    return max(len(gpus), min(cores, sum(map(count_sharers, gpus))))


def count_sharers(gpu: str) -> int:
    """How many processes may share a GPU: each takes half a GiB before it has done anything."""
    memory = torch.cuda.get_device_properties(gpu).total_memory / 2**30
    return max(1, min(SHARERS, int(memory // GIB_EACH)))


def list_gpus(device: str) -> list[str]:
    """The devices of the workers: every GPU for "cuda", the one named for "cuda:1", none for a CPU."""
    if device == "cuda":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [device] if device.startswith("cuda") else []
