"""What running out of memory looks like."""

from __future__ import annotations

import errno
import subprocess
import sys
import weakref

import pytest
import torch

from an8flower.errors import WrongUsage
from an8flower.evaluate import resources
from an8flower.evaluate.resources import (
    Resources,
    halve_where_memory_runs_out,
    is_lack_of_double,
    is_out_of_main_memory,
    is_out_of_memory,
    settle_on,
)

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


GIB = 2**30
CARDS = [
    ((130 * GIB, 139 * GIB), 1, 512),  # bytes free, and in all; processes that share it; images in flight
    ((130 * GIB, 139 * GIB), 8, 186),
    ((22 * GIB, 24 * GIB), 8, 32),
    ((2 * GIB, 24 * GIB), 1, 21),  # somebody else is there
    ((GIB, 4 * GIB), 8, 16),
]


@pytest.mark.parametrize(("memory", "sharers", "images"), CARDS)
def test_images_in_flight_fill_the_share_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, memory: tuple[int, int], sharers: int, images: int
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: memory)
    monkeypatch.setattr(resources, "_count_images", resources._count_images.__wrapped__)
    assert Resources(torch.device("cuda"), sharers=sharers).in_flight == images
    assert Resources(torch.device("cuda"), batch=3, sharers=sharers).in_flight == 3
    assert Resources(torch.device("cpu")).in_flight == 16


def test_what_needs_float64_does_not_run_on_apples_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(WrongUsage, match=r"device mps came, .*no float64.*use --device cpu \(train works on mps\)"):
        settle_on("mps")
    assert settle_on("mps", needs_double=False) == torch.device("mps")
    assert is_lack_of_double(
        TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
    )
    assert not is_lack_of_double(TypeError("expected Tensor"))
