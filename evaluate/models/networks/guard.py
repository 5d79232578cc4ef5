"""A guard around a network that code from elsewhere runs: afterwards, the network is what it was before."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from an8flower.errors import Refusal

from .process_state import QUIET, RANDOM, SETTINGS, Aspect, refill, write_functions
from .weight_copies import hold_copies, list_weights, read_weights, write_weights

Readings = list[tuple[Aspect, Any]]
"""What some aspects of a network and the process were."""


@contextmanager
def guard(network: nn.Module, borrower: object, gradients: bool = True, weights: bool = True) -> Iterator[None]:
    """Lend a network, in eval mode and with gradients enabled, and put everything back afterwards, also on an error.

    What is put back: weights and buffers to the byte, modules, their classes and attributes, hooks, training modes,
    `requires_grad` and `.grad` of parameters, the global state of the process (`SETTINGS`), and the global random
    states of torch, numpy and Python.

    Args:
        network: it works as usual inside the block.
        borrower: whom to blame.
        gradients: whether gradients are enabled in the block; else they are as they were.
        weights: whether weights and buffers are looked at; else the caller puts them back.

    Raises:
        Refusal: the borrower changed something and did not change it back; names what.
    """
    before = read_aspects((GRADIENTS, MODES), network)
    network.eval()
    GRADIENTS.write(dict.fromkeys(network.parameters()))
    with torch.inference_mode(False), torch.set_grad_enabled(gradients or torch.is_grad_enabled()):
        watched = ASPECTS if weights else [aspect for aspect in ASPECTS if aspect is not WEIGHTS]
        lent, quiet = read_aspects(watched, network), read_aspects(QUIET, network)
        changed: list[str] = []
        try:
            yield
        finally:
            changed = put_back(lent, network)
            put_back(quiet, network)
            for aspect, value in before:
                aspect.write(value)
    if changed:
        raise Refusal(
            f"{borrower} changed {', '.join(changed)} and did not change it back; have it restore what it borrows"
        )


@contextmanager
def freezing(network: nn.Module) -> Iterator[None]:
    """Have no parameter of a network want a gradient inside the block, so that passes keep nothing for them."""
    before = read_requires_grad(network)
    try:
        write_requires_grad(dict.fromkeys(before, False))
        yield
    finally:
        write_requires_grad(before)


def read_aspects(aspects: Iterable[Aspect], network: nn.Module) -> Readings:
    """Read some aspects of a network and the process."""
    return [(aspect, aspect.read(network)) for aspect in aspects]


def put_back(reading: Readings, network: nn.Module) -> list[str]:
    """Put back what is not what it was, and name it."""
    return [aspect.name for aspect, value in reading if restore_if_changed(aspect, value, network)]


def restore_if_changed(aspect: Aspect, value: Any, network: nn.Module) -> bool:
    """Put an aspect back if it changed, and say whether it did; at once, since a submodule has hooks and modes too."""
    current = aspect.read(network) if aspect is not WEIGHTS else None  # which are compared where they are
    if aspect.same(value, current):
        return False
    aspect.write(value)
    return aspect is not ATTRIBUTES or bool(strange_attributes(value, current, network))


def read_submodules(network: nn.Module) -> dict[nn.Module, dict[str, nn.Module | None]]:
    """The children of every module of a network."""
    return {module: dict(module._modules) for module in network.modules()}


def write_submodules(children: dict[nn.Module, dict[str, nn.Module | None]]) -> None:
    """Put the children back into their modules."""
    for module, named in children.items():
        refill(module._modules, named)


def read_tensors(network: nn.Module) -> dict[nn.Module, list[dict[str, Same]]]:
    """Which parameters and buffers every module holds."""
    return {
        module: [{name: Same(tensor) for name, tensor in table.items()} for table in tensor_tables(module)]
        for module in network.modules()
    }


def write_tensors(tables: dict[nn.Module, list[dict[str, Same]]]) -> None:
    """Put the parameters and buffers back into their modules."""
    for module, content in tables.items():
        for table, named in zip(tensor_tables(module), content, strict=True):
            refill(table, {name: same.value for name, same in named.items()})


def tensor_tables(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables in which torch keeps the parameters and the buffers of a module."""
    return module._parameters, module._buffers


class Same:
    """An object that is equal to itself alone, whatever it says of equality; it is kept alive."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value

    __hash__ = None  # type: ignore[assignment]


PLAIN = (bool, int, float, complex, str, bytes, type(None))
DEEPEST, LONGEST = 4, 10_000  # what lies deeper, and longer containers, are compared by which object they are


def freeze(value: Any, depth: int = 0) -> Any:
    """What tells a value from others: its content if it is plain or a container, else which object it is."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Tensor):
        return Same(value), None if value.is_inference() else value._version
    if depth == DEEPEST:
        return Same(value)
    if isinstance(value, dict | list | tuple | set | frozenset) and len(value) <= LONGEST:
        if isinstance(value, dict):
            return dict, [(freeze(key, DEEPEST), freeze(entry, depth + 1)) for key, entry in value.items()]
        if isinstance(value, set | frozenset):
            return type(value), frozenset(value)
        return type(value), [freeze(entry, depth + 1) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), [freeze(getattr(value, field.name, None), depth + 1) for field in fields(value)]
    return Same(value)


TABLES = {"_parameters", "_buffers", "_modules", "training", "_splits", "_shares", "_costs", "_unread", "_kept"}
"""The attributes that have an aspect of their own, and a classifier's notes, which grow while it is used."""


def read_attributes(network: nn.Module) -> dict[nn.Module, dict[str, tuple[Any, Any]]]:
    """The plain attributes of every module, such as eps, stride, or a `forward` of its own: each, and what it says."""
    return {
        module: {
            name: (copy_container(value), freeze(value))
            for name, value in vars(module).items()
            if name not in TABLES and "hook" not in name
        }
        for module in network.modules()
    }


def copy_container(value: Any) -> Any:
    """A container, or a dataclass, with its content of now, so that it can be put back; anything else as it is."""
    if type(value) in (dict, list, set):
        return value.copy()
    if not is_dataclass(value) or isinstance(value, type):
        return value
    duplicate = copy.copy(value)
    for field in fields(value):
        content: Any = getattr(value, field.name, None)
        if type(content) in (dict, list, set):
            object.__setattr__(duplicate, field.name, content.copy())
    return duplicate


def same_attributes(before: dict[Any, Any], now: dict[Any, Any]) -> bool:
    """Whether attributes say what they said."""
    return not any(True for _ in changed_attributes(before, now))


def changed_attributes(before: dict[Any, Any], now: dict[Any, Any]) -> Iterator[tuple[nn.Module, str]]:
    """The modules and names of the attributes that were added, removed, or say something else."""
    nothing: dict[str, tuple[Any, Any]] = {}
    for module, known in before.items():
        current = now.get(module, nothing)
        for name in known.keys() | current.keys():
            if name not in known or name not in current or known[name][1] != current[name][1]:
                yield module, name


def write_attributes(attributes: dict[nn.Module, dict[str, tuple[Any, Any]]]) -> None:
    """Put attributes back, and remove those that were added."""
    now = {module: read_attributes_of(module) for module in attributes}
    for module, name in list(changed_attributes(attributes, now)):
        if name in attributes[module]:
            vars(module)[name] = copy_container(attributes[module][name][0])
        else:
            vars(module).pop(name, None)


def read_attributes_of(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """The plain attributes of one module."""
    return {
        name: (value, freeze(value))
        for name, value in vars(module).items()
        if name not in TABLES and "hook" not in name
    }


def strange_attributes(before: Any, now: Any, network: nn.Module) -> set[tuple[int, str]]:
    """The changed attributes that the network does not change by itself whenever an image passes through it."""
    changed = {(id(module), name) for module, name in changed_attributes(before, now)}
    probe: Callable[[int], Tensor] | None = getattr(network, "probe", None)
    inner = getattr(network, "network", None)
    if probe is None or inner is None:
        return changed
    restored = read_attributes(network)
    try:
        with torch.no_grad():
            inner(probe(1))
    except Exception:  # a network of somebody's own fails in any way it likes
        return changed
    restless = {(id(module), name) for module, name in changed_attributes(restored, read_attributes(network))}
    write_attributes(before)
    return changed - restless


def read_classes(network: nn.Module) -> dict[nn.Module, type]:
    """The class of every module of a network."""
    return {module: type(module) for module in network.modules()}


def write_classes(classes: dict[nn.Module, type]) -> None:
    """Give modules their classes back."""
    for module, kind in classes.items():
        if type(module) is not kind:
            module.__class__ = kind


def read_code(network: nn.Module) -> dict[type, dict[str, Any]]:
    """The functions that the classes of a network's modules define, torch's own classes aside."""
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    return {
        kind: {name: value for name, value in vars(kind).items() if isinstance(value, types.FunctionType)}
        for kind in kinds
        if not kind.__module__.startswith(("torch.nn", "builtins"))
    }


def write_code(code: dict[type, dict[str, Any]]) -> None:
    """Give classes their functions back, and remove those that were added."""
    for kind, functions in code.items():
        current = {name for name, value in vars(kind).items() if isinstance(value, types.FunctionType)}
        for name in current - functions.keys():
            delattr(kind, name)
        for name, function in functions.items():
            if vars(kind).get(name) is not function:
                setattr(kind, name, function)


def read_hooks(network: nn.Module) -> dict[Any, dict[str, dict[Any, Any]]]:
    """All hooks of every module and of every parameter, by the attribute that holds them, where it holds any."""
    owners: list[nn.Module | nn.Parameter] = [*network.modules(), *network.parameters()]
    return {owner: {name: dict(hooks) for name, hooks in hook_tables(owner) if hooks} for owner in owners}


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


def read_splits(network: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    """The halves that a classifier has been cut into so far, by their layers."""
    return network, {layer: (split, freeze(vars(split))) for layer, split in vars(network).get("_splits", {}).items()}


def same_splits(before: Any, now: Any) -> bool:
    """Whether what was cut before is still the same; more may have been cut since, or all forgotten."""
    return all(
        now[1].get(layer, known)[0] is known[0] and now[1].get(layer, known)[1] == known[1]
        for layer, known in before[1].items()
    )


def write_splits(reading: Any) -> None:
    """Forget all cuts: they are made anew when they are needed."""
    if "_splits" in vars(reading[0]):
        reading[0]._splits = {}


# Not among the others: gradients that a borrower leaves in `.grad` are discarded, which is no reason to blame it.
GRADIENTS = Aspect("gradients", read_gradients, write_gradients)
MODES = Aspect("training modes", read_modes, write_modes)
ATTRIBUTES = Aspect("attributes of modules", read_attributes, write_attributes, same_attributes)
WEIGHTS = Aspect("weights or buffers", read_weights, write_weights, hold_copies)
NETWORK = (
    Aspect("submodules", read_submodules, write_submodules),
    Aspect("classes of modules", read_classes, write_classes),
    Aspect("code of modules", read_code, write_code),
    Aspect("parameters", read_tensors, write_tensors),
    ATTRIBUTES,
    Aspect("hooks", read_hooks, write_hooks),
    MODES,
    Aspect("requires_grad of parameters", read_requires_grad, write_requires_grad),
    Aspect("halves of the network", read_splits, write_splits, same_splits),
    WEIGHTS,
)
ASPECTS = (*SETTINGS, *NETWORK, *RANDOM)


class NotWhole(Refusal):
    """A network or the process changed while something was computed with it."""


class Seal:
    """What a network was when it was known to be right: kept, compared, and put back where something broke it."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._reading = read_aspects(NETWORK, network)

    def mend(self) -> list[str]:
        """Put the network back where it is not what it was, and name what had changed."""
        return put_back(self._reading, self._network)

    def renew(self) -> nn.Module:
        """A copy of the network as it was, out of reach of whatever goes on changing it; itself if it has no copy."""
        try:
            fresh = copy.deepcopy(self._network)
        except Exception:  # a network of somebody's own fails in any way it likes
            return self._network
        kept = next(value for aspect, value in self._reading if aspect is WEIGHTS)
        write_weights([(tensor, saved) for tensor, (_, saved) in zip(list_weights(fresh), kept, strict=True)])
        return fresh

    @contextmanager
    def watch(self, name: str, forget: Callable[[], None] = lambda: None) -> Iterator[None]:
        """A block whose results are kept only if the network and the process were whole from its begin to its end.

        What something left changed that ran before the block is put back first.

        Args:
            name: how the network is called.
            forget: drops whatever was computed with the network; called where something had changed.

        Raises:
            NotWhole: something changed in the block; names what. It is put back.
        """
        write_functions({})
        process = read_aspects((*SETTINGS, *QUIET), self._network)
        if self.mend():
            forget()
        changed: list[str] = []
        try:
            yield
        finally:
            blamed = {aspect.name for aspect in SETTINGS}
            changed = [aspect for aspect in put_back(process, self._network) if aspect in blamed] + self.mend()
            if changed:
                forget()
        if changed:
            raise NotWhole(
                f"{name} was not the same at the end as at the beginning: {', '.join(changed)} changed, "
                "by this method or by what one before it left running; nothing of this cell is kept"
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
