"""Every parameter of a network drawn anew, each from its own initial distribution, and a copy that takes them on."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from an8flower.errors import Refusal

from ...models.classifier import Classifier, build
from ...models.networks.random_state import seed_global_state
from ...registry import archs
from ...seeds import generator, seed_of
from .layers import Layer

ARCH = "the initialiser of its architecture"
LAYER = "the initialiser of its layer"
NOT_ZERO = "the initialiser of its layer, since its architecture starts it at zero"
PERMUTED = "a permutation of its own values"
MEMORY = 2**30  # bytes that the draws of a network may take in memory together
PORTION = 16  # images at a time while statistics are taken: fixed, so that they do not depend on the batch


@dataclass(frozen=True)
class RedrawnParameter:
    """A new value of a parameter, and where it comes from."""

    value: Tensor
    source: str
    constant: bool  # whether every draw gives the same


def redraw(classifier: Classifier, seed: int) -> dict[str, RedrawnParameter]:
    """Every parameter of a classifier's network drawn anew, by name; the classifier is left alone.

    A registered architecture is built again from another seed, which is each parameter's own initialiser by
    definition. A weight that its architecture starts at zero (the last layer of torchvision's vision transformers)
    takes its layer's initialiser: behind zeros, every gradient is zero. A network of the user's own takes what
    `reset_parameters` of its layers gives, and what no layer resets, its own values in another order.
    """
    return Redraws(classifier, [seed])[0]


@dataclass(frozen=True)
class InitialDraw:
    """What the initialisers of a classifier's architecture, or else of its layers, give for a seed."""

    seed: int
    network: nn.Module | None  # untrained; None where the architecture is not registered
    values: dict[str, Tensor]  # by the parameters' names


def draw_initial(classifier: Classifier, seed: int) -> InitialDraw:
    """Run the initialisers of a classifier's architecture, or else of its layers, from a seed."""
    fresh = build_untrained(classifier, seed)
    if fresh is None:
        return InitialDraw(seed, None, reset(classifier.network, seed))
    return InitialDraw(seed, fresh, {name: value.detach() for name, value in fresh.named_parameters()})


def find_constants(first: InitialDraw, second: InitialDraw) -> set[str]:
    """The parameters, by name, that their initialisers give the same values at every draw, found by two of them."""
    return {name for name, value in first.values.items() if torch.equal(value, second.values[name])}


def complete_draw(
    classifier: Classifier, initial: InitialDraw, constants: Collection[str]
) -> dict[str, RedrawnParameter]:
    """Every parameter drawn anew, by name: what initialisers gave, and what takes the place of zeros or of nothing."""
    if initial.network is None:
        return redraw_foreign(classifier.network, initial, constants)
    drawn = {name: RedrawnParameter(value, ARCH, name in constants) for name, value in initial.values.items()}
    zero = [name for name, new in drawn.items() if new.constant and new.value.ndim > 1 and not new.value.any()]
    resets = reset(initial.network, initial.seed) if zero else {}
    return drawn | {name: RedrawnParameter(resets[name], NOT_ZERO, False) for name in zero if name in resets}


def build_untrained(classifier: Classifier, seed: int) -> nn.Module | None:
    """An untrained network of the same architecture; None where the architecture is not registered."""
    if classifier.arch not in archs.names():
        return None
    network = build(classifier.arch, classifier.class_names, classifier.size, seed).network
    return network if shapes(network) == shapes(classifier.network) else None


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    """The shape of every parameter by its name."""
    return {name: value.shape for name, value in network.named_parameters()}


def redraw_foreign(network: nn.Module, initial: InitialDraw, constants: Collection[str]) -> dict[str, RedrawnParameter]:
    """Draw anew the parameters of a network whose architecture is not registered, as its own layers would."""
    drawn = {}
    for name, value in network.named_parameters():
        if name in initial.values:
            drawn[name] = RedrawnParameter(initial.values[name], LAYER, name in constants)
        else:
            order = torch.randperm(value.numel(), generator=generator(seed_of(initial.seed, name))).to(value.device)
            constant = bool((value == value.reshape(-1)[0]).all())
            drawn[name] = RedrawnParameter(value.detach().reshape(-1)[order].view(value.shape), PERMUTED, constant)
    return drawn


def reset(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """The parameters, by name, that their own modules know how to initialise; the network is left alone."""
    blank = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in blank.parameters():
            parameter.fill_(torch.nan)  # what is still NaN afterwards, no module initialises
    with seed_global_state(seed):
        for module in blank.modules():  # parents first: they may reset their children in another way
            again = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(again):
                again()
    return {name: value.detach() for name, value in blank.named_parameters() if not value.isnan().any()}


class Redraws(Sequence[dict[str, RedrawnParameter]]):
    """A network drawn anew from each of several seeds; all draws stay in memory while they are small."""

    def __init__(self, classifier: Classifier, seeds: Sequence[int], memory: int = MEMORY) -> None:
        """`memory` is how many bytes all draws may take; if they take more, the latest one alone is kept."""
        self._classifier, self._seeds = classifier, seeds
        size = sum(value.numel() * value.element_size() for value in classifier.network.parameters())
        self._room = len(seeds) if size * len(seeds) <= memory else 1
        self._kept: dict[int, dict[str, RedrawnParameter]] = {}
        self._constants: set[str] = set()
        if seeds:
            self._begin()

    def _begin(self) -> None:
        """Find out by two draws which parameters every draw gives the same; those that have room stay."""
        others = [*self._seeds[1:2], seed_of(self._seeds[0], "other")]
        first, second = (draw_initial(self._classifier, seed) for seed in (self._seeds[0], others[0]))
        self._constants = find_constants(first, second)
        for draw, initial in enumerate((first, second)[: min(self._room, len(self))]):
            self._keep(draw, initial)

    def __len__(self) -> int:
        return len(self._seeds)

    @overload
    def __getitem__(self, draw: int) -> dict[str, RedrawnParameter]: ...
    @overload
    def __getitem__(self, draw: slice) -> Sequence[dict[str, RedrawnParameter]]: ...
    def __getitem__(self, draw: int | slice) -> Any:
        if isinstance(draw, slice):
            return [self[place] for place in range(*draw.indices(len(self)))]
        if draw >= len(self):
            raise IndexError(draw)
        if draw not in self._kept:
            if len(self._kept) == self._room:
                self._kept.clear()
            self._keep(draw, draw_initial(self._classifier, self._seeds[draw]))
        return self._kept[draw]

    def _keep(self, draw: int, initial: InitialDraw) -> None:
        """Keep a draw on the classifier's device: copied to a GPU once, and not in every step of every walk."""
        drawn, device = complete_draw(self._classifier, initial, self._constants), self._classifier.device
        self._kept[draw] = {name: replace(new, value=new.value.to(device)) for name, new in drawn.items()}


class RandomisableCopy:
    """A copy of a classifier whose parameters can be drawn anew by name, again and again.

    New values are lent to the parameters, and not copied into them, where they lie in memory as the trained ones do.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = copy.deepcopy(classifier).eval()
        network = self.classifier.network
        self._parameters = dict(network.named_parameters())
        self._in_place = not have_blocks(network)  # where memory is shared, a write to one tensor has to reach others
        trained = {name: parameter.detach() for name, parameter in self._parameters.items()}
        self._trained = {name: value.clone() for name, value in trained.items()} if self._in_place else trained
        self._buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
        self._redrawn: dict[str, Tensor] = {}  # what parameters hold that do not hold what they were trained to
        self._walking = False

    @contextmanager
    def only(
        self, names: Collection[str], values: dict[str, RedrawnParameter], recalibrate: Tensor | None = None
    ) -> Iterator[Classifier]:
        """The classifier with these parameters drawn anew and all others as trained, inside the block.

        Batch norms keep their running statistics, unless `recalibrate` gives images (N, 3, H, W) to take them from.
        """
        self._take_on({name: values[name].value for name in names})
        if recalibrate is not None:
            take_statistics(self.classifier, recalibrate)
        try:
            yield self.classifier
        finally:
            if not self._walking:
                self._restore()

    @contextmanager
    def walking(self) -> Iterator[None]:
        """Exchange only what differs from one `only` to the next, inside the block; then all is as trained again.

        All blocks `only` inside take new statistics of batch norms, or none does.
        """
        self._walking = True
        try:
            yield
        finally:
            self._walking = False
            self._restore()

    @torch.no_grad()
    def _take_on(self, values: dict[str, Tensor]) -> None:
        """Have these parameters hold these values, and all others what they were trained to."""
        for name in self._redrawn.keys() - values.keys():
            self._give(name, self._trained[name])
        for name, value in values.items():
            if self._redrawn.get(name) is not value:
                self._give(name, value)
        self._redrawn = values

    def _give(self, name: str, value: Tensor) -> None:
        """Have a parameter hold a value."""
        parameter, trained = self._parameters[name], self._trained[name]
        if self._in_place:
            parameter.copy_(value)
        else:
            parameter.data = value if lie_alike(value, trained) else torch.empty_like(trained).copy_(value)
            increment_version(parameter)  # for whoever keeps what was made of the values before

    @torch.no_grad()
    def _restore(self) -> None:
        """Have everything be as trained, whatever was done to it."""
        for name, value in self._trained.items():
            self._give(name, value)
        for buffer, value in self._buffers:
            buffer.copy_(value)
        self._redrawn = {}


def have_blocks(network: nn.Module) -> bool:
    """Whether each parameter and buffer of a network is a plain tensor with a block of memory that no other reads."""
    tensors = [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.numel()]
    if any(type(tensor) not in (Tensor, nn.Parameter) for tensor in tensors):
        return False
    return len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)


def lie_alike(value: Tensor, other: Tensor) -> bool:
    """Whether a tensor can take the place of another one: same type, dtype, device, shape and order in memory."""
    if type(value) is not type(other) or value.is_inference() or other.is_inference():
        return False
    return (value.dtype, value.device, value.shape, value.stride()) == (
        other.dtype,
        other.device,
        other.shape,
        other.stride(),
    )


def take_statistics(classifier: Classifier, images: Tensor) -> None:
    """Have every batch norm take its running statistics from images (N, 3, H, W) in [0, 1]; changed in place."""
    norms = [module for module in classifier.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [module for module in norms if module.track_running_stats]
    momenta = [module.momentum for module in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all portions
        norm.train()
    with torch.no_grad():
        for portion in images.split(PORTION):
            classifier(portion)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def coverage(classifier: Classifier, layers: list[Layer], values: dict[str, RedrawnParameter]) -> dict[str, Any]:
    """Which parameters are drawn anew, how, and how far they differ from the trained ones.

    Raises:
        Refusal: one is not reached, or is not drawn though its initial distribution is not constant.
    """
    refuse_missing(classifier, layers, values)
    trained = dict(classifier.network.named_parameters())
    reports = [
        parameter_report(name, layer.name, trained[name], values[name]) for layer in layers for name in layer.parameters
    ]
    refuse_same(classifier, [report["name"] for report in reports if not report["constant"] and not report["changed"]])
    elements = sum(report["elements"] for report in reports)
    return {
        "parameters": len(reports),
        "elements": elements,
        "share": elements / max(sum(value.numel() for value in trained.values()), 1),
        "sources": {source: sum(report["source"] == source for report in reports) for source in sources(values)},
        "constant": [report["name"] for report in reports if report["constant"]],
        "unchanged": [report["name"] for report in reports if not report["changed"]],
        "by_parameter": reports,
    }


def check_draw(classifier: Classifier, layers: list[Layer], values: dict[str, RedrawnParameter]) -> None:
    """Raise a Refusal as `coverage` does, which takes longer, as it counts elements."""
    refuse_missing(classifier, layers, values)
    trained = dict(classifier.network.named_parameters())
    drawn = [name for layer in layers for name in layer.parameters if not values[name].constant]
    refuse_same(
        classifier, [name for name in drawn if torch.equal(values[name].value.to(trained[name]), trained[name])]
    )


def refuse_missing(classifier: Classifier, layers: list[Layer], values: dict[str, RedrawnParameter]) -> None:
    """Raise a Refusal that names the parameters that no layer reaches, or that have no new value."""
    reached = {name for layer in layers for name in layer.parameters if name in values}
    if missing := sorted({name for name, _ in classifier.network.named_parameters()} - reached):
        raise Refusal(f"{classifier.arch}: {', '.join(missing)} cannot be randomised; name their owner as a module")


def refuse_same(classifier: Classifier, same: list[str]) -> None:
    """Raise a Refusal that names the parameters that were drawn as they had been trained, if there are any."""
    if same:
        raise Refusal(f"{classifier.arch}: {', '.join(same)} came out as trained; choose another seed")


def sources(values: dict[str, RedrawnParameter]) -> list[str]:
    """The sources that new values come from, each once."""
    return list(dict.fromkeys(value.source for value in values.values()))


def parameter_report(name: str, layer: str, trained: Tensor, drawn: RedrawnParameter) -> dict[str, Any]:
    """Report what becomes of one parameter; `changed` counts the elements that differ from the trained ones."""
    new = drawn.value.to(trained)
    return {
        "name": name,
        "layer": layer,
        "elements": trained.numel(),
        "changed": int((new != trained).sum()),
        "source": drawn.source,
        "constant": drawn.constant,
    }
