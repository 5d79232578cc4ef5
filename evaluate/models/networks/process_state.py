"""The global state of this process on which numbers depend: settings of torch and numpy, and torch's own functions."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable, Iterator
from operator import eq
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack


class Aspect(NamedTuple):
    """One thing about a network or the process that a borrower may change, but must change back."""

    name: str  # as in "it changed ..."
    read: Callable[[nn.Module], Any]
    write: Callable[[Any], None]  # puts back what was read
    same: Callable[[Any, Any], bool] = eq  # whether two readings say the same


def read_default_device(network: nn.Module) -> torch.device | None:
    """The device on which torch makes tensors; None where nobody has set one, which is the CPU."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


class Autocast(NamedTuple):
    """What autocast does to the numbers of this thread."""

    kinds: tuple[tuple[str, bool, torch.dtype], ...]  # for each kind of device whether it is on, and its dtype
    contexts: int  # how many are open; copies of the weights are kept until the last one is left
    keeps_copies: bool


def count_autocast_contexts() -> int:
    """How many contexts of autocast are open in this thread; torch tells it only to those that open one more."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def read_autocast(network: nn.Module) -> Autocast:
    """Whether autocast is on for each kind of device, and how many of its contexts are open."""
    kinds = tuple((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda"))
    return Autocast(kinds, count_autocast_contexts(), torch.is_autocast_cache_enabled())


def write_autocast(state: Autocast) -> None:
    """Switch autocast on or off for each kind of device, and close the contexts that were left open.

    While one is open, torch keeps its copies of the weights: models trained afterwards would go on using old ones.
    """
    for kind, enabled, dtype in state.kinds:
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    while count_autocast_contexts() > state.contexts:
        torch.autocast_decrement_nesting()
    while count_autocast_contexts() < state.contexts:
        torch.autocast_increment_nesting()
    torch.set_autocast_cache_enabled(state.keeps_copies)
    torch.clear_autocast_cache()


def read_anomaly(network: nn.Module) -> tuple[bool, bool]:
    """Whether autograd looks for anomalies, and for NaN."""
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def read_arithmetic(network: nn.Module) -> tuple[Any, ...]:
    """The settings by which torch chooses an algorithm, in the order of `write_arithmetic`."""
    backends = torch.backends
    return (
        (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        torch.get_float32_matmul_precision(),
        (backends.mkldnn.enabled, backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic),
        (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32),
    )


def write_arithmetic(state: tuple[Any, ...]) -> None:
    """Put the settings back by which torch chooses an algorithm."""
    (deterministic, warn_only), precision, enabled, tf32 = state
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.set_float32_matmul_precision(precision)
    cudnn = torch.backends.cudnn
    torch._C._set_mkldnn_enabled(enabled[0])
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = enabled[1:]
    torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32 = tf32


def read_denormals(network: nn.Module) -> bool:
    """Whether numbers below the smallest normal one are flushed to zero in this thread, as a product tells."""
    return bool(np.float32(1e-39) * np.float32(1) == 0)


def write_denormals(flush: bool) -> None:
    """Have numbers below the smallest normal one flushed to zero, or kept, where the processor can."""
    torch.set_flush_denormal(flush)


def global_hook_tables() -> Iterator[dict[Any, Any]]:
    """The tables in which torch keeps hooks of all modules at once."""
    yield from (
        table
        for name, table in vars(nn.modules.module).items()
        if name.startswith("_global_") and isinstance(table, dict)
    )


def read_global_hooks(network: nn.Module) -> list[dict[Any, Any]]:
    """The hooks that run for every module."""
    return [dict(table) for table in global_hook_tables()]


def write_global_hooks(hooks: list[dict[Any, Any]]) -> None:
    """Remove the hooks of all modules that were added, and put back those that were removed."""
    for table, content in zip(global_hook_tables(), hooks, strict=True):
        refill(table, content)


def refill(table: dict[Any, Any], content: dict[Any, Any]) -> None:
    """Give a dict new content in place, since torch keeps references to it."""
    table.clear()
    table.update(content)


def read_saved_tensor_hooks(network: nn.Module) -> Any:
    """The innermost pair of default hooks of saved tensors; None where there are none."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False)


def write_saved_tensor_hooks(top: Any) -> None:
    """Take default hooks of saved tensors away until the innermost pair is the one that was read."""
    for _ in range(100):
        if read_saved_tensor_hooks(nn.Identity()) in (top, None):
            return
        torch._C._autograd._pop_saved_tensors_default_hooks()


def read_function_modes(network: nn.Module) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The modes that see every call of a torch function or operator, the innermost last."""
    functions = (
        mode for mode in _get_current_function_mode_stack() if not isinstance(mode, DeviceContext)
    )  # which has an aspect of its own
    return tuple(functions), tuple(_get_current_dispatch_mode_stack())


def write_function_modes(stacks: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    """Leave the modes that were entered since; one that was left cannot be entered again."""
    functions, dispatch = stacks
    while len(read_function_modes(nn.Identity())[0]) > len(functions):
        torch._C._pop_torch_function_stack()
    while len(_get_current_dispatch_mode_stack()) > len(dispatch):
        torch._C._pop_torch_dispatch_stack()


CALLS = ("__call__", "_call_impl", "_wrapped_call_impl")
OF_TORCH = ("manual_seed", "seed", "Storage")  # which torch replaces itself: when it compiles, or for the default dtype


def functions_of(owner: Any) -> dict[str, Any]:
    """The functions that a module or a class of torch defines under public names."""
    return {
        name: value
        for name, value in vars(owner).items()
        if callable(value) and (not name.startswith("_") or name in CALLS) and name not in OF_TORCH
    }


OWNERS = (torch, F, torch.Tensor, torch.autograd, nn.Module)
LAYERS = tuple(kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module))
ORIGINALS = {owner: functions_of(owner) for owner in (*OWNERS, *LAYERS)}


def read_functions(network: nn.Module) -> dict[tuple[Any, str], Any]:
    """The functions of torch that are not those that were there when this file was imported."""
    patches = {}
    for owner, functions in ORIGINALS.items():
        current = vars(owner)
        for name, function in functions.items():
            if current.get(name) is not function:
                patches[owner, name] = current.get(name)
    return patches


def write_functions(patches: dict[tuple[Any, str], Any]) -> None:
    """Put the functions of torch back, all but those that were patched already when they were read."""
    for owner, name in read_functions(nn.Identity()):
        setattr(owner, name, patches.get((owner, name), ORIGINALS[owner][name]))


def read_torch_random(network: nn.Module) -> tuple[bytes, ...]:
    """The states of torch's global generators: the CPU's, and those of the GPUs once they are in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return tuple(bytes(state.numpy()) for state in (torch.get_rng_state(), *cuda))


def same_torch_random(before: tuple[bytes, ...], now: tuple[bytes, ...]) -> bool:
    """Whether the generators that both readings know have the same states; GPUs have one only once they are in use."""
    return all(state == current for state, current in zip(before, now, strict=False))


def write_torch_random(states: tuple[bytes, ...]) -> None:
    """Set torch's global generators to the states that were read."""
    cpu, *cuda = (torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in states)
    torch.set_rng_state(cpu)
    for device, state in enumerate(cuda):
        torch.cuda.set_rng_state(state, device)


def read_numpy_random(network: nn.Module) -> tuple[Any, ...]:
    """The state of numpy's global generator."""
    kind, keys, *rest = np.random.get_state()
    return kind, np.asarray(keys).tobytes(), *rest


def write_numpy_random(state: tuple[Any, ...]) -> None:
    """Set numpy's global generator to the state that was read."""
    kind, keys, *rest = state
    np.random.set_state((kind, np.frombuffer(keys, np.uint32), *rest))


def read_folder(network: nn.Module) -> str | None:
    """The current folder; None where it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def write_folder(folder: str | None) -> None:
    """Go back to the folder that was read, if there was one."""
    if folder is not None:
        os.chdir(folder)


def write_warnings(filters: list[Any]) -> None:
    """Put the filters of warnings back."""
    warnings.filters[:] = filters  # type: ignore[index]
    getattr(warnings, "_filters_mutated", lambda: None)()


def write_environment(environment: dict[str, str]) -> None:
    """Put the environment variables back."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


RANDOM = (
    Aspect("torch's global random state", read_torch_random, write_torch_random, same_torch_random),
    Aspect("numpy's global random state", read_numpy_random, write_numpy_random),
    Aspect("Python's global random state", lambda network: random.getstate(), random.setstate),
)
# Modes come first: as long as they are on, they see what reads and writes the others.
SETTINGS = (
    Aspect("the stack of torch's function modes", read_function_modes, write_function_modes),
    Aspect("functions of torch", read_functions, write_functions),
    Aspect("the default device", read_default_device, torch.set_default_device),
    Aspect("the default dtype", lambda network: torch.get_default_dtype(), torch.set_default_dtype),
    Aspect("the number of threads", lambda network: torch.get_num_threads(), torch.set_num_threads),
    Aspect("grad mode", lambda network: torch.is_grad_enabled(), torch._C._set_grad_enabled),
    Aspect("inference mode", lambda network: torch.is_inference_mode_enabled(), lambda mode: None),  # left by `guard`
    Aspect("autocast", read_autocast, write_autocast),
    Aspect("anomaly mode", read_anomaly, lambda state: torch._C.set_anomaly_enabled(*state)),
    Aspect("torch's choice of algorithms", read_arithmetic, write_arithmetic),
    Aspect("the treatment of denormal numbers", read_denormals, write_denormals),
    Aspect("global module hooks", read_global_hooks, write_global_hooks),
    Aspect("the default hooks of saved tensors", read_saved_tensor_hooks, write_saved_tensor_hooks),
    Aspect("numpy's handling of errors", lambda network: np.geterr(), lambda how: np.seterr(**how) and None),
    Aspect("the current folder", read_folder, write_folder),
)
# Put back without blame: a library that is imported in a call changes them too, and no number depends on them.
QUIET = (
    Aspect("filters of warnings", lambda network: list(warnings.filters), write_warnings),
    Aspect("the environment", lambda network: dict(os.environ), write_environment),
)
