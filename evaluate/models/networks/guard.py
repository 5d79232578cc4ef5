"""A guard around a network that code from elsewhere runs: afterwards, the network is what it was before."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from an8flower.errors import Refusal


class Aspect(NamedTuple):
    """One thing about a network or the process that a borrower may change, but must change back."""

    name: str  # as in "it changed ..."
    read: Callable[[nn.Module], Any]  # a value that can be compared
    write: Callable[[Any], None]


@contextmanager
def guard(network: nn.Module, borrower: object) -> Iterator[None]:
    """Lend a network, in eval mode and with gradients enabled, and put everything back afterwards, also on an error.

    What is put back: submodules, hooks, training modes, `requires_grad` and `.grad` of parameters, and the global
    random states of torch, numpy and Python. Weights are not compared: that would cost more than many explanations.

    Args:
        network: it works as usual inside the block.
        borrower: whom to blame.

    Raises:
        Refusal: the borrower changed something and did not change it back; names what.
    """
    before = [(aspect, aspect.read(network)) for aspect in (GRADIENTS, *ASPECTS)]
    network.eval()
    GRADIENTS.write(dict.fromkeys(network.parameters()))
    lent = [(aspect, aspect.read(network)) for aspect in ASPECTS]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
        changed = [aspect.name for aspect, value in lent if restore_if_changed(aspect, value, network)]
    finally:
        for aspect, value in before:
            aspect.write(value)
    if changed:
        raise Refusal(
            f"{borrower} changed {', '.join(changed)} and did not change it back; have it restore what it borrows"
        )


def restore_if_changed(aspect: Aspect, value: Any, network: nn.Module) -> bool:
    """Put an aspect back if it changed, and say whether it did; at once, since a submodule has hooks and modes too."""
    changed = aspect.read(network) != value
    if changed:
        aspect.write(value)
    return bool(changed)


def read_submodules(network: nn.Module) -> dict[nn.Module, dict[str, nn.Module | None]]:
    """The children of every module of a network."""
    return {module: dict(module._modules) for module in network.modules()}


def write_submodules(children: dict[nn.Module, dict[str, nn.Module | None]]) -> None:
    """Put the children back into their modules."""
    for module, named in children.items():
        refill(module._modules, named)


def read_hooks(network: nn.Module) -> dict[Any, dict[str, dict[Any, Any]]]:
    """All hooks of every module and of every parameter, by the attribute that holds them."""
    owners: list[nn.Module | nn.Parameter] = [*network.modules(), *network.parameters()]
    return {owner: {name: dict(hooks) for name, hooks in hook_tables(owner)} for owner in owners}


def write_hooks(tables: dict[Any, dict[str, dict[Any, Any]]]) -> None:
    """Remove the hooks that were added, and put back those that were removed."""
    for owner, named in tables.items():
        for name, hooks in hook_tables(owner):
            refill(hooks, named.get(name, {}))


def hook_tables(owner: nn.Module | nn.Parameter) -> list[tuple[str, dict[Any, Any]]]:
    """The attributes in which torch keeps the hooks of a module or a parameter."""
    if isinstance(owner, nn.Parameter):
        return [("_backward_hooks", owner._backward_hooks)] if owner._backward_hooks else []
    return [(name, value) for name, value in vars(owner).items() if "hooks" in name and isinstance(value, dict)]


def refill(table: dict[Any, Any], content: dict[Any, Any]) -> None:
    """Give a dict new content in place, since torch keeps references to it."""
    table.clear()
    table.update(content)


def read_modes(network: nn.Module) -> dict[nn.Module, bool]:
    """Whether each module is in training mode."""
    return {module: module.training for module in network.modules()}


def write_modes(modes: dict[nn.Module, bool]) -> None:
    """Put every module into training or evaluation mode."""
    for module, training in modes.items():
        module.training = training


def read_requires_grad(network: nn.Module) -> dict[nn.Parameter, bool]:
    """Whether each parameter of a network wants a gradient."""
    return {parameter: parameter.requires_grad for parameter in network.parameters()}


def write_requires_grad(wanted: dict[nn.Parameter, bool]) -> None:
    """Switch `requires_grad` of the parameters on or off."""
    for parameter, wants in wanted.items():
        parameter.requires_grad_(wants)


def read_gradients(network: nn.Module) -> dict[nn.Parameter, torch.Tensor | None]:
    """The gradients that the parameters of a network hold in `.grad`."""
    return {parameter: parameter.grad for parameter in network.parameters()}


def write_gradients(gradients: dict[nn.Parameter, torch.Tensor | None]) -> None:
    """Put gradients into `.grad` of their parameters."""
    for parameter, gradient in gradients.items():
        parameter.grad = gradient


def read_torch_random(network: nn.Module) -> tuple[bytes, ...]:
    """The states of torch's global generators: the CPU's, and those of the GPUs once they are in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return tuple(bytes(state.numpy()) for state in (torch.get_rng_state(), *cuda))


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


# Not among the others: gradients that a borrower leaves in `.grad` are discarded, which is no reason to blame it.
GRADIENTS = Aspect("gradients", read_gradients, write_gradients)
ASPECTS = (
    Aspect("submodules", read_submodules, write_submodules),
    Aspect("hooks", read_hooks, write_hooks),
    Aspect("training modes", read_modes, write_modes),
    Aspect("requires_grad of parameters", read_requires_grad, write_requires_grad),
    Aspect("torch's global random state", read_torch_random, write_torch_random),
    Aspect("numpy's global random state", read_numpy_random, write_numpy_random),
    Aspect("Python's global random state", lambda network: random.getstate(), random.setstate),
)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and every module back into its own mode."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
