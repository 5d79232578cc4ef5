"""Copies of a network's weights and buffers, by which a change is found to the byte, however it was made."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Copies = list[tuple[Tensor, Tensor]]
"""Tensors of a network, each with a copy of its values; nobody writes into a copy."""

WORTH_THREADS = 2**24  # bytes of weights from which on several threads compare them

_LATEST: WeakKeyDictionary[nn.Module, Copies] = WeakKeyDictionary()  # of one network, for as long as it lives


def read_weights(network: nn.Module) -> Copies:
    """Each parameter and buffer of a network, with a copy of its values.

    The copies of the network that was read last are lent again where they still hold, since new memory on a CPU costs
    many times what a comparison does: the system hands it out page by page. A GPU's are made anew, to leave it room.
    """
    tensors = list_weights(network)
    latest = _LATEST.get(network, [])
    if [id(tensor) for tensor, _ in latest] == [id(tensor) for tensor in tensors] and hold_copies(latest):
        return latest
    _LATEST.clear()
    del latest
    copies = copy_weights(tensors)
    if all(copy.device.type == "cpu" for _, copy in copies):
        _LATEST[network] = copies
    return copies


def list_weights(network: nn.Module) -> list[Tensor]:
    """The parameters and buffers of a network that have values, each once."""
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return [tensor for tensor in tensors.values() if not torch.nn.parameter.is_lazy(tensor) and not tensor.is_meta]


def copy_weights(tensors: Iterable[Tensor]) -> Copies:
    """Tensors, each with a copy of its values."""
    with torch.no_grad():
        return [(tensor, tensor.detach().clone()) for tensor in tensors]


def hold_copies(pairs: Copies, _: object = None) -> bool:
    """Whether tensors are equal to their copies, to the byte; a GPU is waited for once."""
    if any((t.shape, t.dtype, t.device) != (saved.shape, saved.dtype, saved.device) for t, saved in pairs):
        return False
    here = [(tensor, saved) for tensor, saved in pairs if tensor.device.type == "cpu"]
    with torch.no_grad():
        unequal = [
            (as_integers(t.detach()) != as_integers(saved)).any() for t, saved in pairs if t.device.type != "cpu"
        ]
        return are_equal_here(here) and (not unequal or not bool(torch.stack(unequal).any()))


def are_equal_here(pairs: Copies) -> bool:
    """Whether tensors on the CPU are equal to their copies, to the byte; large ones are shared out among threads.

    The comparison of the C library lets other threads work. There are as many as torch has.
    """
    threads = torch.get_num_threads()
    sizes = {id(saved): saved.numel() * saved.element_size() for _, saved in pairs}
    if threads == 1 or sum(sizes.values()) < WORTH_THREADS:
        return are_equal(pairs)
    by_size = sorted(pairs, key=lambda pair: sizes[id(pair[1])])
    shares = [by_size[first::threads] for first in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return all(pool.map(are_equal, shares))


def are_equal(pairs: Copies) -> bool:
    """Whether tensors on the CPU are equal to their copies, to the byte."""
    return all(equal_bytes(tensor.detach(), saved) for tensor, saved in pairs)


def equal_bytes(values: Tensor, expected: Tensor) -> bool:
    """Whether two tensors on the CPU, of one shape and dtype, are equal to the byte, so that NaN is equal to itself."""
    compare = load_memcmp()
    if compare is not None and is_one_block(values) and values.stride() == expected.stride():
        return (
            values.data_ptr() == expected.data_ptr()
            or compare(values.data_ptr(), expected.data_ptr(), values.nbytes) == 0
        )
    return torch.equal(as_integers(values), as_integers(expected))


@cache
def load_memcmp() -> Callable[[int, int, int], int] | None:
    """The C library's comparison of two blocks of memory, several times as fast as torch's; None without one."""
    try:
        compare = ctypes.CDLL(None).memcmp
    except (OSError, TypeError, AttributeError):  # on Windows, no library of this process has it
        return None
    compare.argtypes, compare.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t), ctypes.c_int
    return lambda first, second, size: int(compare(first, second, size))


def is_one_block(tensor: Tensor) -> bool:
    """Whether the elements of a tensor fill one block of memory without holes, in whatever order."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized:
        return False
    if tensor.is_conj() or tensor.is_neg():
        return False
    if tensor.is_contiguous():
        return True
    sides = sorted((stride, side) for stride, side in zip(tensor.stride(), tensor.shape, strict=True) if side > 1)
    return bool(sides) and sides[0][0] == 1 and all(a * size == b for (a, size), (b, _) in pairwise(sides))


def as_integers(tensor: Tensor) -> Tensor:
    """The bytes of a tensor as integers of its own width, so that NaN is equal to itself; nothing is copied."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    kind = INTEGERS.get(tensor.element_size())
    return tensor if kind is None or tensor.is_quantized or tensor.is_sparse else tensor.view(kind)


INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def write_weights(pairs: Copies) -> None:
    """Give tensors the values of their copies again."""
    with torch.no_grad():
        for tensor, saved in pairs:
            if tensor.shape == saved.shape and tensor.dtype == saved.dtype and tensor.device == saved.device:
                tensor.detach().copy_(saved)
            else:
                tensor.data = saved.clone()
