"""The layers of a network in the order of its forward pass: in which order sanity checks randomise them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...models.classifier import Classifier
from ...models.networks.guard import evaluating


@dataclass(frozen=True)
class Layer:
    """A module that owns parameters, and what they are called."""

    name: str  # the module's path in the network
    parameters: tuple[str, ...]  # the parameters' paths in the network


@dataclass(frozen=True)
class Step:
    """Consecutive layers that are randomised at once."""

    layers: tuple[Layer, ...]

    @property
    def name(self) -> str:
        """The layers' names, the one nearest to where the walk began first."""
        names = [layer.name for layer in self.layers]
        return names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of all parameters of the step."""
        return tuple(name for layer in self.layers for name in layer.parameters)


def layers_of(classifier: Classifier) -> list[Layer]:
    """Every module that owns parameters, in the order in which the forward pass enters them.

    A module that is never called itself, because its parent reads its weights (the output projection of torch's
    attention), stands behind its nearest parent that is called. A parameter that modules share belongs to the first
    of them.
    """
    turns = record_entries(classifier)
    modules = dict(classifier.network.named_modules())
    order = sorted(modules, key=lambda name: turns[nearest(name, turns)])  # stable: a parent before its own children
    owners: dict[int, str] = {}
    layers = []
    for name in order:
        parameters = modules[name].named_parameters(recurse=False)
        keys = [key for key, parameter in parameters if owners.setdefault(id(parameter), name) == name]
        if keys:
            paths = tuple(f"{name}.{key}" if name else key for key in keys)
            layers.append(Layer(name or type(modules[name]).__name__, paths))
    return layers


def nearest(name: str, turns: dict[str, int]) -> str:
    """The path of a module, or of its nearest parent, that was entered."""
    while name and name not in turns:
        name = name.rpartition(".")[0]
    return name


def record_entries(classifier: Classifier) -> dict[str, int]:
    """Run a forward pass and record, by the path of each module, as how many-th the pass first enters it."""
    turns: dict[str, int] = {"": -1}
    hooks = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: note_entry(turns, name))
        for name, module in classifier.network.named_modules()
    ]
    try:
        # With gradients: without them, torch's transformer layers run as one call that enters nothing.
        with evaluating(classifier), torch.enable_grad():
            classifier.network(classifier.probe(1))
    finally:
        for hook in hooks:
            hook.remove()
    return turns


def note_entry(turns: dict[str, int], name: str) -> None:
    """Note the turn of a module that is entered for the first time."""
    turns.setdefault(name, len(turns))


def steps_of(layers: Sequence[Layer], count: int) -> list[Step]:
    """The layers from the logits down, in at most `count` steps: the last layer, then equally many layers each.

    Where `count` is 1, the whole network is one step.
    """
    down = list(reversed(layers))
    first, rest = (down[:1], down[1:]) if count > 1 else ([], down)
    portions = np.array_split(np.arange(len(rest)), max(1, min(count - len(first), len(rest))))
    steps = [first, *([rest[index] for index in portion] for portion in portions)]
    return [Step(tuple(step)) for step in steps if step]
