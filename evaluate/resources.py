"""The resources of a run: they never change what it computes, so none of them is hashed."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from an8flower.errors import WrongUsage
from an8flower.names import unknown

if TYPE_CHECKING:
    import torch  # whoever carries work to processes asks here what went wrong, and does without torch


FEWEST, MOST = 16, 512  # images in a network at once: on any device, and beyond which a GPU gains nothing
PER_IMAGE = 100_000_000  # bytes that a gradient through a ResNet-50 at 224 px keeps of an image
Result = TypeVar("Result")
ON_A_GPU = re.compile(  # CUDA itself, its libraries, which allocate for themselves, and Apple's Metal
    "out of memory|CU[A-Z]+_[A-Z_]*ALLOC(ATION)?_FAILED|valid cuDNN algorithm|unable to find an engine to execute"
)


@dataclass(frozen=True)
class Resources:
    """The device that work is done on, and the size of its batches."""

    device: torch.device
    batch: int | None = None  # images in flight, halved on out-of-memory; None: what suits the device
    sharers: int = 1  # processes that work on the device at once, and share its memory

    @property
    def in_flight(self) -> int:
        """The number of images that may be in a network at once."""
        return in_flight_on(self.device, self.sharers) if self.batch is None else self.batch


def in_flight_on(device: torch.device, sharers: int = 1) -> int:
    """The number of images that may be in a network at once, unless the user says otherwise.

    Two cores gain nothing beyond a few images. On a GPU the number is fixed when this process first asks.

    Args:
        sharers: how many processes work on the device at once, and share its memory.
    """
    return _count_images(device, sharers) if device.type == "cuda" else FEWEST


@cache
def _count_images(device: torch.device, sharers: int) -> int:
    """How many images a process's share of a GPU's memory has room for, as far as the memory is free."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return max(FEWEST, min(MOST, int(min(free, total / sharers) // PER_IMAGE)))


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


def settle_on(name: str, precision: str = "float32", *, needs_double: bool = True) -> torch.device:
    """The device of a name, on which this process multiplies from now on as `precision` says: `float32` or `tf32`.

    Every command and every worker chooses its device here, so that none multiplies in TF32 unless it was asked for.
    Raises WrongUsage if the device is not here, knows no such precision, or knows no float64 where that is needed.
    """
    from .models.networks.arithmetic import choose_arithmetic

    device = parse_device(name)
    if needs_double:
        refuse_single_precision(device)
    choose_arithmetic(device, precision)
    return device


def refuse_single_precision(device: torch.device) -> None:
    """Raise WrongUsage for Apple's GPUs, which know no float64: metrics and several methods compute in it."""
    if device.type == "mps":
        raise WrongUsage(
            f"device {device} came, which knows no float64, and scores are computed in it; use --device cpu "
            "(train works on mps)"
        )


def is_lack_of_double(error: BaseException) -> bool:
    """Whether a computation failed because Apple's GPUs know no float64."""
    return isinstance(error, TypeError) and "MPS" in str(error) and "float64" in str(error)


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

    if isinstance(error, torch.OutOfMemoryError) or is_out_of_main_memory(error):
        return True
    return isinstance(error, RuntimeError) and ON_A_GPU.search(str(error)) is not None


def halve_where_memory_runs_out(call: Callable[[int], Result], images: int, device: torch.device) -> Result:
    """Call with a number of images that may be in flight, and with half as many for as long as memory runs out.

    Raises what the call raises of one image, and whatever is not about memory.
    """
    while True:
        try:
            return call(images)
        except Exception as error:  # libraries have several types for it
            if images == 1 or not is_out_of_memory(error):
                raise
        release_memory(device)  # not before: the error held what the call had in memory
        images //= 2


def release_memory(device: torch.device) -> None:
    """Give back what torch holds of a GPU's memory and nobody uses, for libraries and for other processes."""
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
