"""What running out of memory looks like."""

from __future__ import annotations

import errno
import subprocess
import sys
import weakref

import pytest
import torch

from an8flower.evaluate import resources
from an8flower.evaluate.resources import halve_where_memory_runs_out, is_out_of_main_memory, is_out_of_memory

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


# As torch words what CUDA and its libraries say of a GPU that is full.
ON_A_GPU = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported at some other API call"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.98 GB, other allocations: 320.00 KB)"),
]


@pytest.mark.parametrize("error", ON_A_GPU, ids=repr)
def test_memory_of_a_gpu_is_another_matter(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_main_memory(error)


OTHERS = [
    *(RuntimeError("shapes do not match"), OSError(errno.ENOSPC, "full"), ValueError()),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    ValueError("out of memory"),
]


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_other_errors_are_none_of_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_a_worker_starts_without_torch() -> None:
    code = "import sys, an8flower.evaluate.audits.engines.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Held:
    """Something large that a call has in its hands when memory runs out."""


def test_half_as_many_until_memory_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the failed call held is free when memory is given back, or it would not be given back."""
    sizes: list[int] = []
    held: list[weakref.ref[Held]] = []
    released: list[bool] = []
    monkeypatch.setattr(resources, "release_memory", lambda device: released.append(held[-1]() is None))

    def call(images: int) -> int:
        sizes.append(images)
        large = Held()
        held.append(weakref.ref(large))
        if images > 3:
            raise RuntimeError("CUDA error: out of memory")
        return images

    assert halve_where_memory_runs_out(call, 20, torch.device("cpu")) == 2
    assert (sizes, released) == ([20, 10, 5, 2], [True] * 3)


@pytest.mark.parametrize(("error", "sizes"), [(ON_A_GPU[2], [4, 2, 1]), (ValueError("other"), [4])])
def test_what_is_not_about_memory_or_has_no_smaller_half_is_raised(error: Exception, sizes: list[int]) -> None:
    seen: list[int] = []

    def call(images: int) -> None:
        seen.append(images)
        raise error

    with pytest.raises(type(error), match=str(error)):
        halve_where_memory_runs_out(call, 4, torch.device("cpu"))
    assert seen == sizes
