"""What running out of memory looks like."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import torch

from an8flower.evaluate.resources import is_out_of_main_memory, is_out_of_memory

MAIN = [
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    RuntimeError("std::bad_alloc"),
]


@pytest.mark.parametrize("error", MAIN, ids=repr)
def test_main_memory_runs_out_in_several_words(error: Exception) -> None:
    assert is_out_of_main_memory(error)
    assert is_out_of_memory(error)


def test_memory_of_a_gpu_is_another_matter() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert is_out_of_memory(error)
    assert not is_out_of_main_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), OSError(errno.ENOSPC, "full"), ValueError()])
def test_other_errors_are_none_of_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_worker_starts_without_torch() -> None:
    code = "import sys, an8flower.evaluate.audits.engines.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
