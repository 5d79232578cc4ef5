"""How a GPU multiplies numbers of single precision: in full, or rounded to ten bits of mantissa (TF32).

On the GPUs of NVIDIA from Ampere on, cuDNN convolves in TF32 unless somebody says otherwise. That is faster and moves
maps by percents, so it is off unless it is asked for; `settle_on` is the one place that says so. CPUs know no TF32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from an8flower.errors import WrongUsage
from an8flower.names import check_known

FULL, TF32 = "float32", "tf32"
ARITHMETICS = (FULL, TF32)
DRIVER = Path("/proc/driver/nvidia/version")  # where NVIDIA's driver for Linux says which it is


def choose_arithmetic(device: torch.device, precision: str = FULL) -> None:
    """Have this process multiply on a GPU as `precision` says, from now on.

    Raises:
        WrongUsage: there is no such precision, or the device knows no TF32.
    """
    check_known("precision", precision, ARITHMETICS)
    if precision == TF32 and device.type != "cuda":
        raise WrongUsage(f"precision tf32 came for {device}; only GPUs of NVIDIA multiply so; leave it out")
    _write((precision == TF32,) * 2)


def arithmetic_on(device: torch.device) -> str:
    """The precision in which this process multiplies on a device: `tf32` if a GPU may round anywhere."""
    return TF32 if device.type == "cuda" and any(_read()) else FULL


def identity_of_arithmetic(device: torch.device) -> tuple[str, ...]:
    """What the identity of a result says of how it was multiplied: nothing where that was in full."""
    arithmetic = arithmetic_on(device)
    return () if arithmetic == FULL else (arithmetic,)


@contextmanager
def preserve_arithmetic() -> Iterator[None]:
    """Put the way to multiply back after the block, also after an error."""
    before = _read()
    try:
        yield
    finally:
        _write(before)


@contextmanager
def multiplying_as(precision: str, device: torch.device) -> Iterator[None]:
    """Multiply as `choose_arithmetic` says inside the block, and raise what it raises."""
    with preserve_arithmetic():
        choose_arithmetic(device, precision)
        yield


@contextmanager
def multiplying_in_full() -> Iterator[None]:
    """Multiply in full inside the block, whatever was chosen: for comparisons that are about rounding."""
    with preserve_arithmetic():
        _write((False, False))
        yield


def describe_arithmetic(device: torch.device) -> dict[str, str]:
    """What the numbers of a device may depend on besides the versions of Python packages, ready for JSON.

    The device and the precision; for a GPU its name, its driver, and the releases of CUDA and cuDNN.
    """
    facts = {"device": str(device), "precision": arithmetic_on(device)}
    if device.type != "cuda":
        return facts
    releases = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": read_driver()}
    name = torch.cuda.get_device_name(device)
    return {**facts, "gpu": name, **{key: str(value) for key, value in releases.items() if value}}


def read_driver(place: Path = DRIVER) -> str | None:
    """The version of NVIDIA's driver, as in `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03`, or None."""
    try:
        words = place.read_text(encoding="utf-8", errors="replace").partition("\n")[0].split()
    except OSError:
        return None
    return next((word for word in words if word.replace(".", "").isdigit() and "." in word), None)


def _read() -> tuple[bool, bool]:
    """Whether convolutions, and products of matrices, may be rounded."""
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def _write(rounded: tuple[bool, bool]) -> None:
    """Let convolutions, and products of matrices, be rounded or not."""
    if rounded != _read():
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = rounded
