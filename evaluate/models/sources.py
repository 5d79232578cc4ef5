"""Models as users name them: a safetensors file, a factory of their own with its weights, or the network itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.store import FlowerStore

from ..registry import import_attribute, is_factory
from .classifier import MEAN, STD, Card, Classifier, wrap
from .files import load, load_weights
from .networks.guard import evaluating
from .transformers.description import describe

SIZE = 224  # pixels: the side of the images for a network whose user does not give it
IMAGENET = "imagenet"
APART = " with "  # between a factory and its weights, in words


class Normalisation(NamedTuple):
    """The mean and the standard deviation by which the channels of images in [0, 1] are normalised."""

    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD


@dataclass(frozen=True)
class Source:
    """A model as the user names it. A field that is None is left to the model, to the data, or to a default."""

    model: str | Path | nn.Module  # a file, package.module:factory, or the network itself
    weights: Path | None = None  # safetensors, of what the factory makes
    class_names: tuple[str, ...] | None = None
    size: int | None = None  # pixels
    normalisation: Normalisation | None = None
    layer: str | None = None  # the target layer

    def __str__(self) -> str:
        name = type(self.model).__name__ if isinstance(self.model, nn.Module) else str(self.model)
        return name if self.weights is None else f"{name}{APART}{self.weights}"

    @classmethod
    def of(cls, text: str) -> Source:
        """Read a source from its `str`: a place, and perhaps the weights of the network that is made there."""
        place, apart, weights = text.partition(APART)
        return cls(place, Path(weights)) if apart and is_factory(place) else cls(text)


class Defaults(NamedTuple):
    """The class names and the image size of a bare network whose user gives none."""

    class_names: Sequence[str] | None = None  # None: they are numbered
    size: int = SIZE


BARE = Defaults()


def open_model(
    source: str | Path | nn.Module | Source, store: FlowerStore, device: torch.device, weights: Path | None = None
) -> Classifier:
    """Open the classifier that a user names, for the classes and the size of a data set.

    A factory is called without arguments and returns a `Classifier`, or any network from images normalised by
    ImageNet's mean and standard deviation to logits; its CAM layer is then the last one that has spatial
    extent, or of a vision transformer of a known family the last norm that the class depends on. `weights` are those of
    the network that it makes.

    Raises Refusal where it cannot be had, or takes other classes or sizes than those of the data.
    """
    if isinstance(source, str) and weights is None:
        source = Source.of(source)
    request = source if isinstance(source, Source) else Source(source, weights)
    classifier = open_source(request, device, Defaults(store.class_names, store.size))
    if request.class_names is None:
        check_fits(classifier, store.class_names)
    if classifier.size != store.size:
        raise Refusal(
            f"{request}: takes {classifier.size} px, {store.path} has {store.size} px; train one on these data"
        )
    return classifier


def open_source(source: Source, device: torch.device, defaults: Defaults = BARE) -> Classifier:
    """Open the classifier that a user names, of any classes and size.

    A network that was given as itself keeps its mode; one that is made or read is in eval mode.

    Raises:
        WrongUsage: it cannot be imported, has no such layer, or knows already what is said of it.
        Refusal: it cannot be had or read, or is no network from images to logits.
    """
    model = source.model if isinstance(source.model, nn.Module) else _load_or_make(str(source.model), source)
    if source.weights is not None and model is source.model:
        raise WrongUsage(f"{source}: --weights is for package.module:factory; load them into the network yourself")
    if isinstance(model, Classifier):
        classifier = _adjust(model, source)
    else:
        if source.weights is not None:
            load_weights(model, source.weights)
        classifier = _wrap_bare(model, source, defaults)
    classifier = classifier.to(device)
    return classifier if model is source.model else classifier.eval()


def pair_with_weights(models: Sequence[str | Path | nn.Module], weights: Sequence[str | Path]) -> tuple[Source, ...]:
    """Each model with its weights: one file for each factory, in the same order, or none at all."""
    factories = [model for model in models if not isinstance(model, nn.Module) and is_factory(model)]
    if weights and len(weights) != len(factories):
        raise WrongUsage(
            f"{len(weights)} --weights came for {len(factories)} --model of the form package.module:factory; "
            "give one for each of them, in the same order, or none"
        )
    files = iter(weights)
    return tuple(Source(model, Path(next(files)) if weights and model in factories else None) for model in models)


def parse_normalisation(text: str) -> Normalisation:
    """`imagenet`, `none`, or `M,M,M:S,S,S`: three means and three standard deviations; raises WrongUsage."""
    if text in (IMAGENET, "none"):
        return Normalisation() if text == IMAGENET else Normalisation((0.0,) * 3, (1.0,) * 3)
    try:
        mean, std = (tuple(map(float, numbers.split(","))) for numbers in text.split(":"))
    except ValueError:
        mean = std = ()
    if len(mean) != 3 or len(std) != 3 or not all(abs(m) < 1e9 for m in mean) or not all(0 < s < 1e9 for s in std):
        raise WrongUsage(
            f'--normalise "{text}": expected imagenet, none, or three means and three positive standard deviations '
            "of images in [0, 1], as in 0.5,0.5,0.5:0.25,0.25,0.25"
        )
    return Normalisation(mean, std)


def check_trained_on(path: Path, store: FlowerStore) -> None:
    """Raise a Refusal if a file's classifier was trained on other data than these; early cards tell the spec alone."""
    described = load(path).card.data
    if (described.get("digest"), described.get("fingerprint", store.fingerprint)) != (store.digest, store.fingerprint):
        raise Refusal(
            f"{path}: trained on other data than {store.path} holds now; train again with "
            f"`an8flower train --data {store.path}`, or name it with --model if it is meant"
        )


class NetworkProbe(NamedTuple):
    """What a network shows of itself when it is given one image."""

    classes: int  # logits
    layer: str | None  # the last module to give (B, K, h, w) with more than one position


def probe_network(network: nn.Module, size: int) -> NetworkProbe:
    """Show a network one grey image; it is given back as it was.

    Raises Refusal where it does not take it, or gives anything but a tensor (1, C).
    """
    like = next(network.parameters(), torch.zeros(()))
    image = torch.zeros(1, 3, size, size, dtype=like.dtype, device=like.device)
    seen: list[str] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.append(name) if _spatial(output) else None)
        for name, module in network.named_modules()
        if name
    ]
    try:
        with evaluating(network), torch.no_grad():
            logits = network(image)
    except Exception as error:  # foreign code fails in any way it likes
        raise Refusal(
            f"{type(network).__name__} does not take an image of {size} x {size} px ({type(error).__name__}: {error}); "
            "expected a network from (B, 3, S, S) to logits; give its S with --size, or data of that size"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    if not (isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == 1):
        came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise Refusal(f"{type(network).__name__} gives {came} for one image; expected logits (1, C)")
    return NetworkProbe(logits.shape[1], seen[-1] if seen else None)


def _load_or_make(place: str, source: Source) -> nn.Module:
    """Load the model that a file holds, or make the one that a factory gives."""
    if not is_factory(place):
        if source.weights is not None:
            raise WrongUsage(f"{place}: --weights is for --model package.module:factory; this is read as a whole model")
        return load(Path(place))
    factory = import_attribute(place)
    model = factory if isinstance(factory, nn.Module) else _call_factory(place, factory)
    if not isinstance(model, nn.Module):
        raise Refusal(f"{place} returned {type(model).__name__}; expected a torch module or a Classifier")
    return model


def _call_factory(place: str, factory: Callable[[], Any]) -> Any:
    try:
        return factory()
    except Refusal:
        raise
    except Exception as error:  # foreign code fails in any way it likes
        raise Refusal(
            f"{place} cannot be called ({type(error).__name__}: {error}); "
            "expected a function without arguments that returns a torch module"
        ) from error


def _adjust(classifier: Classifier, source: Source) -> Classifier:
    """Give a classifier, which brings its size and normalisation, the class names and the layer that the user names."""
    if source.size not in (None, classifier.size):
        raise WrongUsage(f"{source}: takes {classifier.size} px, and --size {source.size} came; leave --size out")
    if source.normalisation is not None:
        raise WrongUsage(f"{source}: is a Classifier, which normalises by itself; leave --normalise out")
    if source.weights is not None:
        load_weights(classifier.network, source.weights)
    if source.class_names is None and source.layer is None:
        return classifier
    names = source.class_names or classifier.class_names
    mean, std = (values.flatten().tolist() for values in (classifier.mean, classifier.std))
    _check_count(names, len(classifier.class_names), classifier.arch)
    adjusted = wrap(classifier.network, names, classifier.size, source.layer or classifier.target_layer, mean, std)
    adjusted.card = Card(**{**vars(classifier.card), "class_names": names})
    return adjusted


def _wrap_bare(network: nn.Module, source: Source, defaults: Defaults) -> Classifier:
    """Make a bare network a classifier, with the user's settings if there are any."""
    size, names = source.size or defaults.size, source.class_names or defaults.class_names
    probe = probe_network(network, size)
    transformer = describe(network)
    layer = source.layer or (probe.layer if transformer is None else transformer.target_layer)
    if layer is None:
        raise Refusal(
            f"{type(network).__name__}: no layer has spatial extent; return a Classifier with its own target layer"
        )
    if source.class_names is not None:
        _check_count(source.class_names, probe.classes, type(network).__name__)
    named = tuple(names) if names is not None else tuple(f"class {i}" for i in range(probe.classes))
    return wrap(network, named, size, layer, *(source.normalisation or Normalisation()))


def _check_count(names: Sequence[str], classes: int, arch: str) -> None:
    if len(names) != classes:
        raise Refusal(
            f"{len(names)} class names came, and {arch} tells {classes} classes apart; name each of them once"
        )


def _spatial(output: object) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1


def check_fits(classifier: Classifier, class_names: Sequence[str]) -> None:
    """Raise a Refusal unless a classifier tells apart just these classes, in this order."""
    ours, theirs = list(classifier.class_names), list(class_names)
    if len(ours) != len(theirs):
        raise Refusal(
            f"{classifier.arch} has {len(ours)} classes and the data have {len(theirs)}; train one on these data"
        )
    if ours != theirs:
        raise Refusal(
            f"{classifier.arch} knows the classes {', '.join(ours)} and the data have {', '.join(theirs)}; "
            "train one on these data"
        )
