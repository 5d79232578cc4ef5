"""A network as a judge meets it: normalisation inside, cut at a layer on demand, with a name, a seed and a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from an8flower.errors import Refusal
from an8flower.gate.documents import parse_json

from ..registry import model_name, variant_of
from ..seeds import seed_of
from .card_bounds import check_card
from .costs import Cost, Share, backward_counter, measure_shares
from .factories import find_arch, make_network
from .kept_copies import KeptCopies
from .layer_choice import choose_layer
from .networks.code_digest import digest_code
from .networks.features import Features, at_least_single, token_grid
from .networks.guard import evaluating
from .networks.random_state import seed_global_state
from .networks.split import ChannelsLast, Split, split
from .normalisation import IMAGENET, MEAN, STD, Normalisation, parse_normalisation
from .probing import are_channels_last, probe_network
from .safetensors_files import UNWRITABLE, write_tensors
from .transformers.description import Transformer, describe

FORMAT = "an8flower classifier 1"
Made = TypeVar("Made")
PENALTY = "gradient_penalty"  # what a card's data call the penalty of the training's loss


@dataclass(frozen=True)
class Card:
    """The facts about a classifier besides its weights; they travel in the file's metadata, as JSON."""

    arch: str
    class_names: tuple[str, ...]
    size: int  # images are (size, size) pixels
    seed: int | None = None
    accuracy: float | None = None  # on the test split, in [0, 1]
    data: dict[str, str] = field(default_factory=dict)  # name, digest and fingerprint of what it was trained on
    versions: dict[str, str] = field(default_factory=dict)
    layer: str | None = None  # the target layer, where the architecture was not registered with one

    def to_metadata(self) -> dict[str, str]:
        """The text fields of a safetensors file."""
        values = {name: value for name, value in vars(self).items() if name != "layer" or value is not None}
        return {"format": FORMAT, **{name: json.dumps(value) for name, value in values.items()}}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> Card:
        """The inverse of `to_metadata`; raises KeyError or ValueError if the metadata are not ours."""
        if metadata["format"] != FORMAT:
            raise ValueError(f"format {metadata['format']!r}")
        names = [name for name in cls.__dataclass_fields__ if name != "layer" or name in metadata]
        values = {name: parse_json(metadata[name]) for name in names}
        return cls(**vars(check_card(json.dumps(values))))


class Classifier(nn.Module):
    """Images (B, 3, H, W) float32 in [0, 1] -> logits (B, C).

    Normalisation lies inside, so that whoever perturbs images does so in pixel space.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        card: Card,
        target_layer: str,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
    ) -> None:
        super().__init__()
        self.network = network
        self.card = card
        self.target_layer = target_layer
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))
        self.code = ""  # a digest of what the network does besides its weights; known by its name if it is one of archs
        self._splits: dict[str, Split] = {}
        self._shares: dict[str, Share] = {}
        self._costs: list[Cost] = []
        self._kept: KeptCopies | None = None  # what was made of the weights; see `keeping`
        self._unread: list[Tensor] = []  # of passes on a GPU that are counted, whether the output is finite
        # How many images an explainer may have in the network at once: what bounds its memory; see `holding`.
        self.in_flight = 16
        self.black_box = ""  # why nothing but the logits can be read; empty where layers and gradients can

    @property
    def arch(self) -> str:
        """The name of the classifier's architecture."""
        return self.card.arch

    @property
    def name(self) -> str:
        """The classifier's name in results, `flowernet-seed0-1a2b3c4d`, which ends in the digest."""
        return model_name(self.variant, self.seed, self.digest)

    @property
    def variant(self) -> str:
        """The architecture, and what its training did besides: what results are grouped by; `resnet18+cosine`."""
        return variant_of(self.arch, self.card.data.get(PENALTY, ""), self.card.data.get("freeze", ""))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.card.class_names

    @property
    def size(self) -> int:
        """The side of the images, in pixels."""
        return self.card.size

    @property
    def seed(self) -> int | None:
        """The seed that the classifier was built and trained from; None if nobody knows it."""
        return self.card.seed

    @property
    def device(self) -> torch.device:
        """The device that holds its weights."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the network's weights."""
        return next((weights.dtype for weights in self.network.parameters()), self.mean.dtype)

    @property
    def digest(self) -> str:
        """The sha256 of all weights and buffers, the target layer and the code; computed anew, but within `keeping`."""
        return self.recall(("digest", self.target_layer, self.code), self._compute_digest)

    def _compute_digest(self) -> str:
        whole = hashlib.sha256(f"{self.target_layer} {self.code}".encode())
        for name, tensor in self.state_dict().items():
            whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return whole.hexdigest()

    def normalise(self, images: Tensor) -> Tensor:
        """Images as the network wants them, in the dtype of its weights."""
        mean, scale = self.mean.to(images.dtype), 1 / self.std.to(images.dtype)
        return torch.addcmul(-mean * scale, images, scale).to(self.dtype)  # one pass over the pixels instead of two

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C), of at least single precision."""
        return self.count(at_least_single(self.network(self.normalise(images))), 1.0)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The predicted classes (B,) int64 of images (B, 3, H, W), in one pass."""
        return torch.as_tensor(self(images).argmax(1))

    def head(self, images: Tensor, layer: str | None = None) -> Features:
        """The features of a layer (default: the target layer), with all that `tail` needs besides; in eval mode."""
        layer = layer or self.target_layer
        features = self.split(layer).head(self.normalise(images))
        if self._costs:
            self.count(features.values, self.share(layer).head)
        return features

    def tail(self, features: Features, layer: str | None = None) -> Tensor:
        """The logits (B, C) of the features that `head` gave for the same layer; in eval mode."""
        layer = layer or self.target_layer
        logits = at_least_single(self.split(layer).tail(features))
        return self.count(logits, self.share(layer).tail) if self._costs else logits

    def split(self, layer: str) -> Split:
        """The network's two halves around a layer, cut once.

        Raises:
            WrongUsage: there is no such layer.
            Refusal: its output has no spatial extent.
        """
        if layer not in self._splits:
            halves = split(self.network, layer, self.probe(2))
            with evaluating(self), torch.no_grad():
                values = halves.head(self.probe(1)).values
            self._splits[layer] = ChannelsLast(halves) if self.gives_channels_last(layer, values) else halves
        return self._splits[layer]

    @property
    def transformer(self) -> Transformer | None:
        """Where the network keeps what methods read of a vision transformer; None if it is none that is known."""
        return describe(self.network)

    def gives_channels_last(self, layer: str, values: Tensor) -> bool:
        """Whether a layer of the network, which gives these values, gives (B, h, w, K), as those of Swin do.

        The description of a transformer's family says it; of other networks the shape of the values does.
        """
        transformer = self.transformer
        return are_channels_last(values) if transformer is None else transformer.channels_last(layer)

    def grid_of(self, tokens: int) -> tuple[int, int]:
        """The rows and columns of the patches among that many tokens; those before them are prefix tokens."""
        transformer = self.transformer
        if transformer is not None and transformer.grid is not None:
            height, width = transformer.grid
            if tokens == transformer.prefix + height * width:
                return height, width
        return token_grid(tokens)

    def forget_halves(self) -> None:
        """Have the network cut anew when its halves are needed again."""
        self._splits = {}

    def share(self, layer: str) -> Share:
        """The shares of the network's cost in the halves around a layer, measured once."""
        if layer not in self._shares:
            self._shares[layer] = measure_shares(self.network, self.split(layer), self.probe(1))
        return self._shares[layer]

    def spatial(self, values: Tensor) -> Tensor:
        """Features as maps (B, K, h, w), of at least single precision.

        The tokens of a vision transformer lose the prefix tokens and return to their grid.
        """
        values = at_least_single(values)
        if values.ndim == 4:
            return values
        height, width = self.grid_of(values.shape[1])
        return values[:, -height * width :].transpose(1, 2).unflatten(2, (height, width))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and card as safetensors, for `load`; the file appears when it is whole.

        Raises:
            Refusal: it cannot be written there.
        """
        try:
            write_tensors(Path(path), self.state_dict(), self.card.to_metadata())
        except UNWRITABLE as error:
            raise Refusal(f"{path}: cannot be written ({error})") from error

    @contextmanager
    def counting(self) -> Iterator[Cost]:
        """Count the passes, forwards and backwards, of all calls inside the block.

        Raises:
            Refusal: at the end of the block, if a pass on a GPU gave NaN or infinity; see `count`.
        """
        cost = Cost()
        self._costs.append(cost)
        try:
            yield cost
        finally:
            self._costs = [other for other in self._costs if other is not cost]
            unread, self._unread = self._unread, []
            if unread and not torch.stack(unread).all():
                self._refuse_infinite()

    @contextmanager
    def keeping(self, kept: KeptCopies | None = None) -> Iterator[None]:
        """Keep what is made of the weights, inside the block, which nothing but a guarded explainer may change.

        Args:
            kept: what was made in earlier blocks, between which nothing has changed either. Inside another such block
                what that one keeps is used.
        """
        before, self._kept = self._kept, self._kept or kept or KeptCopies()
        try:
            yield
        finally:
            self._kept = before

    @contextmanager
    def keeping_nothing(self) -> Iterator[None]:
        """Make everything of the weights anew, inside the block, whatever is kept outside: for strangers' code."""
        before, self._kept = self._kept, None
        try:
            yield
        finally:
            self._kept = before

    def recall(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gives; inside `keeping`, what it gave for this key when the weights were the same."""
        return make() if self._kept is None else self._kept.recall(self, key, make)

    @contextmanager
    def holding(self, images: int) -> Iterator[None]:
        """Let explainers have at most so many images in the network at once, inside the block."""
        before, self.in_flight = self.in_flight, images
        try:
            yield
        finally:
            self.in_flight = before

    def count(self, output: Tensor, share: float) -> Tensor:
        """Note a pass forwards in every open account, and its pass backwards once a gradient arrives at its output.

        Args:
            output: what the pass gave, batch first.
            share: of the whole network's operations.

        Raises:
            Refusal: an account is open, and the output is not finite. Outputs on a GPU, which would be waited for, are
                looked at together when the account is closed.
        """
        if self._costs:
            finite = output.detach().isfinite().all()
            if finite.device.type != "cpu":
                self._unread.append(finite)
            elif not finite:
                self._refuse_infinite()
        for cost in self._costs:
            cost.forwards += len(output) * share
        return self.count_backward(output, share)

    def _refuse_infinite(self) -> None:
        raise Refusal(f"{self.arch} gives NaN or infinity for these images; train it anew, or check its weights")

    def count_backward(self, output: Tensor, share: float) -> Tensor:
        """Note a pass backwards in every open account once a gradient arrives at an output; see `count`."""
        for cost in self._costs:
            if output.requires_grad:
                output.register_hook(backward_counter(cost, len(output) * share))
        return output

    def probe(self, count: int) -> Tensor:
        """Normalised images of a plain ramp, to measure with."""
        ramp = torch.linspace(0, 1, count * 3 * self.size**2, device=self.device, dtype=torch.float32)
        return self.normalise(ramp.view(count, 3, self.size, self.size))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Classifier:
        """Move or convert as torch does; the graphs are cut anew, since they may hold tensors of the former device."""
        self._splits = {}
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """The state to copy or pickle, without graphs and accounts: they belong to this network, and to open blocks."""
        return {**self.__dict__, "_splits": {}, "_costs": [], "_unread": [], "_kept": None}


def build(
    arch: str,
    class_names: Sequence[str],
    size: int,
    seed: int,
    layer: str | None = None,
    normalisation: Normalisation | None = None,
    note: Callable[[str], None] = lambda sentence: None,
) -> Classifier:
    """An untrained classifier on the CPU, the same for the same arguments; global random state is left alone.

    Args:
        arch: a registered name, `timm:NAME`, `torchvision:NAME` or `package.module:factory`.
        layer: the layer that CAM-like methods look at. None: the architecture's own, else the last one with spatial
            extent, or of a known vision transformer the last norm.
        normalisation: of images in [0, 1]. None: the architecture's own, else ImageNet's.
        note: is told in a sentence if a last linear layer is replaced.

    Raises:
        WrongUsage: unknown architecture or layer.
        Refusal: it cannot take images of this size, or gives no logits for so many classes.
    """
    entry = find_arch(arch)
    with seed_global_state(seed_of("weights", arch, seed)):
        made, sentences = make_network(entry, len(class_names), size, _unwrap)
    for sentence in sentences:
        note(sentence)
    network = _unwrap(made)
    mean, std = normalisation or _own_normalisation(made, entry.about)
    place = layer or _own_layer(made, entry.about, size)
    in_card = layer if "layer" in entry.about else place
    classifier = Classifier(network, Card(arch, tuple(class_names), size, seed, layer=in_card), place, mean, std)
    if layer or "layer" not in entry.about:
        classifier.split(place)
    if ":" in arch:
        classifier.code = digest_code(network)
    return classifier


def _unwrap(made: nn.Module) -> nn.Module:
    """The bare network of what a factory made."""
    return made.network if isinstance(made, Classifier) else made


def normalisation_of(classifier: Classifier) -> Normalisation:
    """The means and the standard deviations by which a classifier normalises images."""
    return Normalisation(classifier.mean.flatten().tolist(), classifier.std.flatten().tolist())


def _own_normalisation(made: nn.Module, about: dict[str, Any]) -> Normalisation:
    """The normalisation that a network brings with it: a Classifier's, or that of its registration; else ImageNet's."""
    if isinstance(made, Classifier):
        return normalisation_of(made)
    return parse_normalisation(about.get("normalise", IMAGENET))


def _own_layer(made: nn.Module, about: dict[str, Any], size: int) -> str:
    """The layer of CAMs that a network brings with it, else the one that is chosen for a bare network."""
    if isinstance(made, Classifier):
        return made.target_layer
    place = about.get("layer") or choose_layer(made, probe_network(made, size))
    if place is None:
        raise Refusal(f"{type(made).__name__}: no layer has spatial extent; name the layer that CAMs look at (--layer)")
    return str(place)


def wrap(
    network: nn.Module,
    class_names: Sequence[str],
    size: int,
    layer: str,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Classifier:
    """A user's own network as a classifier.

    Args:
        network: from (B, 3, size, size) images, normalised by mean and std, to logits (B, len(class_names)).
        layer: the path of the submodule that CAM-like methods look at.

    Raises:
        WrongUsage: there is no such layer.
        Refusal: the layer has no spatial extent, or the logits do not match the class names.
    """
    classifier = Classifier(network, Card(type(network).__name__, tuple(class_names), size), layer, mean, std)
    classifier.code = digest_code(network)
    like = next(network.parameters(), classifier.mean)
    classifier.to(like.device)
    with evaluating(classifier), torch.no_grad():
        shape = tuple(network(classifier.probe(1)).shape)
    if shape != (1, len(class_names)):
        raise Refusal(
            f"{classifier.arch} gives {shape} for one image; expected (1, {len(class_names)}), one logit a class"
        )
    classifier.split(layer)
    return classifier
