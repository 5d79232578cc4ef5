"""What the tests of the engines have done by workers, who know it by its name: each would break a naive engine."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HELD: list[bytearray] = []


def add(a: int, b: int) -> int:
    return a + b


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail() -> None:
    raise ValueError("petals are missing")


def leave_python() -> None:
    sys.exit("enough")


def spin() -> None:
    while True:
        pass


def spin_in_c(mark: Path | None = None) -> None:
    """No signal handler and no other thread of Python ever gets its turn."""
    if mark:
        mark.write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(1000)


def leave(code: int, log: Path) -> None:
    _note(log)
    os._exit(code)


def kill_self(log: Path, times: int) -> int:
    """Dies so many times, then tells how often it was tried."""
    tries = _note(log)
    if tries <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


def crash(log: Path) -> None:
    _note(log)
    ctypes.string_at(0)


def private_gib() -> float:
    """The private memory that this process holds from its start."""
    from an8flower.evaluate.audits.engines.worker import GIB, _count_private_bytes

    return _count_private_bytes() / GIB


def eat() -> None:
    eaten = []
    with suppress(MemoryError):
        while True:
            eaten.append(bytearray(2**20))
    while True:
        eaten.append(bytearray(1000))  # so little that nothing is left for whoever tells of it


def eat_tensors() -> None:
    import torch

    eaten = []
    while True:
        eaten.append(torch.empty(2**24))


def leak(megabytes: int) -> int:
    HELD.append(bytearray(megabytes * 2**20))
    return os.getpid()


def unpicklable() -> Any:
    return lambda: 1


class Spiteful:
    """Raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return fail, ()


def spiteful() -> Spiteful:
    return Spiteful()


def say(words: str) -> str:
    print(words)
    os.system(f"echo {words}")
    return words


def is_deaf() -> bool:
    """Whether Ctrl-C was kept from this process before it could say so itself."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def pid(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def device(seconds: float = 0.0) -> str:
    from an8flower.evaluate.audits.engines import here

    time.sleep(seconds)
    return here.device("cpu")


def threads() -> tuple[str, int]:
    import torch

    return os.environ["OMP_NUM_THREADS"], torch.get_num_threads()


def convolve(seed: int) -> Any:
    import torch

    source = torch.Generator().manual_seed(seed)
    images, kernels = torch.rand(2, 3, 16, 16, generator=source), torch.rand(4, 3, 3, 3, generator=source)
    return torch.nn.functional.conv2d(images, kernels).softmax(1)


def multiply(seed: int) -> Any:
    import numpy as np

    first, second = np.random.default_rng(seed).normal(size=(2, 40, 40))
    return first @ second


def multiply_slowly(seed: int, log: Path) -> Any:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.5)
    return multiply(seed)


def _note(log: Path) -> int:
    """Note one more try; gives how many there were."""
    with log.open("a") as file:
        file.write("tried\n")
    return len(log.read_text().splitlines())
