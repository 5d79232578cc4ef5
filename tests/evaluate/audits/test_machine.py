"""How many processes work at once on the cores and the GPUs of a machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from an8flower.evaluate.audits import machine

GIB = 2**30
MACHINES = [
    (2, [], 2),  # cores; GiB of each GPU; processes
    (0, [], 1),  # more threads than cores were asked for
    (16, [139], 8),
    (4, [139], 4),
    (16, [8], 4),
    (16, [1], 1),
    (2, [24, 24, 24], 3),
    (64, [24, 24], 16),
]


@pytest.mark.parametrize(("cores", "gpus", "workers"), MACHINES)
def test_several_processes_share_a_gpu(
    monkeypatch: pytest.MonkeyPatch, cores: int, gpus: list[int], workers: int
) -> None:
    memory = {f"cuda:{number}": SimpleNamespace(total_memory=size * GIB) for number, size in enumerate(gpus)}
    monkeypatch.setattr(torch.cuda, "get_device_properties", memory.__getitem__)
    assert machine.count_workers(cores, list(memory)) == workers
