"""Models as users name them: a safetensors file, a factory of their own with its weights, or the network itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.store import FlowerStore

from ..registry import import_attribute, is_factory, is_from_elsewhere, takes_weights
from .black_box import BlackBox
from .classifier import Classifier, normalisation_of, wrap
from .elsewhere.opening import open_from_elsewhere
from .elsewhere.ready import ReadyNetwork
from .factories import call_for
from .files import load, load_weights, names_arch, read_classifier
from .heads import order_outputs
from .labels import read_labels
from .layer_choice import choose_layer
from .normalisation import Normalisation, parse_normalisation
from .probing import probe_network

SIZE = 224  # pixels: the side of the images for a network whose user does not give it
APART = " with "  # between a factory and its weights, in words


@dataclass(frozen=True)
class Source:
    """A model as the user names it. A field that is None is left to the model, to the data, or to a default."""

    model: str | Path | nn.Module  # a file, package.module:factory, timm:NAME and its like, or the network itself
    weights: Path | None = None  # safetensors, of what the factory makes
    class_names: tuple[str, ...] | None = None
    size: int | None = None  # pixels
    normalisation: Normalisation | None = None
    layer: str | None = None  # the target layer
    trust: bool | str = False  # whether code that the model's file names may be imported; a text: that code alone

    def __str__(self) -> str:
        name = type(self.model).__name__ if isinstance(self.model, nn.Module) else str(self.model)
        name = name if self.weights is None else f"{name}{APART}{self.weights}"
        return f"{name} ({', '.join(self._settings)})" if self._settings else name

    @property
    def _settings(self) -> list[str]:
        """What is said of the network besides where it comes from, in words."""
        settings = [f"labels {', '.join(self.class_names)}"] if self.class_names else []
        settings += [f"layer {self.layer}"] if self.layer else []
        settings += ["normalised by {}:{}".format(*map(_to_numbers, self.normalisation))] if self.normalisation else []
        return settings

    @classmethod
    def of(cls, text: str) -> Source:
        """Read a source from its `str`: a place, and perhaps the weights of the network that is made there."""
        place, apart, weights = text.partition(APART)
        return cls(place, Path(weights)) if apart and is_factory(place) else cls(text)


def _to_numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


class Defaults(NamedTuple):
    """The class names and the image size of a bare network whose user gives none."""

    class_names: Sequence[str] | None = None  # None: they are numbered
    size: int | None = None  # pixels; None: what the network's own configuration says, else SIZE


BARE = Defaults()


def open_model(
    source: str | Path | nn.Module | Source, store: FlowerStore, device: torch.device, weights: Path | None = None
) -> Classifier:
    """Open the classifier that a user names, for the classes and the size of a data set.

    A factory is called without arguments; one that wants them gets the number of classes and the size of the data. It
    returns a `Classifier`, or any network from images normalised by ImageNet's mean and standard deviation to logits;
    its CAM layer is then the last one that has spatial extent, or of a vision transformer of a known family the last
    norm that the class depends on. `weights` are those of the network that it makes.

    Raises Refusal where it cannot be had, or takes other classes or sizes than those of the data.
    """
    if isinstance(source, str) and weights is None:
        source = Source.of(source)
    request = source if isinstance(source, Source) else Source(source, weights)
    classifier = _open_for(request, store, device)
    if request.class_names is None:
        check_fits(classifier, store.class_names)
    return classifier


def _open_for(request: Source, store: FlowerStore, device: torch.device) -> Classifier:
    """Open a classifier for the size of a data set; its classes may be others, or in another order."""
    classifier = open_source(request, device, Defaults(store.class_names, store.size))
    if classifier.size != store.size:
        raise Refusal(
            f"{request}: takes {classifier.size} px, {store.path} has {store.size} px; train one on these data"
        )
    return classifier


def open_judged(source: str | Source, store: FlowerStore, device: torch.device) -> Classifier:
    """Open the classifier that a user names, to be judged on a data set: it tells apart the data's classes, in order.

    As `open_model`, but class names that the source gives, or a network's own configuration, have to be those of the
    data; if their order is another one, the outputs of a bare network are put in the order of the data.

    Raises Refusal as `open_model` does, and where the names are not those of the data.
    """
    request = Source.of(source) if isinstance(source, str) else source
    classifier = _open_for(request, store, device)
    if tuple(store.class_names) == classifier.class_names:
        return classifier
    if request.class_names is None and not (is_from_elsewhere(request.model) and _are_permuted(classifier, store)):
        check_fits(classifier, store.class_names)
    return order_classes(classifier, store.class_names)


def _are_permuted(classifier: Classifier, store: FlowerStore) -> bool:
    """Whether a classifier names the classes of the data in another order."""
    return sorted(classifier.class_names) == sorted(store.class_names)


def order_classes(classifier: Classifier, class_names: Sequence[str]) -> Classifier:
    """A copy of a classifier with its outputs in another order of its classes.

    Raises:
        Refusal: the names are not those of its classes, or its outputs come from no last linear layer.
    """
    names = list(classifier.class_names)
    if sorted(names) != sorted(class_names) or len(set(names)) < len(names):
        strange = [name for name in names if name not in class_names]
        raise Refusal(
            f"the labels name {', '.join(strange or names)}, and the data have the classes {', '.join(class_names)}; "
            "name each class of the data once, in the order of the network's outputs"
        )
    order = [names.index(name) for name in class_names]
    network = order_outputs(classifier.network, classifier.size, order, classifier.arch)
    mean, std = normalisation_of(classifier)
    ordered = wrap(network, class_names, classifier.size, classifier.target_layer, mean, std)
    ordered.card = replace(classifier.card, class_names=tuple(class_names))
    return ordered.train(classifier.training)


def open_source(source: Source, device: torch.device, defaults: Defaults = BARE) -> Classifier:
    """Open the classifier that a user names, of any classes and size.

    A network that was given as itself keeps its mode; one that is made or read is in eval mode.

    Raises:
        WrongUsage: it cannot be imported, has no such layer, or knows already what is said of it.
        Refusal: it cannot be had or read, or is no network from images to logits.
    """
    source = _take_code_by_name(source)
    model = source.model if isinstance(source.model, nn.Module) else _find_model(str(source.model), source, defaults)
    if source.weights is not None and model is source.model:
        raise WrongUsage(f"{source}: --weights is for package.module:factory; load them into the network yourself")
    if isinstance(model, Classifier):
        classifier = _adjust(model, source)
    elif isinstance(model, ReadyNetwork):
        classifier = _wrap_ready(model, source, defaults)
    else:
        if source.weights is not None:
            load_weights(model, source.weights)
        classifier = _wrap_bare(model, source, defaults)
    classifier = classifier.to(device)
    return classifier if model is source.model else classifier.eval()


def _take_code_by_name(source: Source) -> Source:
    """A factory with a file that `train` wrote for it is that file, and the user has named its code."""
    place = str(source.model)
    if source.weights is None or isinstance(source.model, nn.Module) or not names_arch(source.weights, place):
        return source
    return replace(source, model=source.weights, weights=None, trust=place)


@dataclass(frozen=True)
class NetworkSettings:
    """What a user says of bare networks, the same for all of a call; None leaves it to a default or to the data."""

    class_names: tuple[str, ...] | None = None  # in the order of the outputs
    normalisation: Normalisation | None = None
    layer: str | None = None
    trust: bool = False  # whether code that files of models name may be imported

    @classmethod
    def read(cls, class_names: Path | None, normalise: str | None, layer: str | None, trust: bool) -> NetworkSettings:
        """The settings as options say them; raises WrongUsage or Refusal if one of them cannot be read."""
        names = None if class_names is None else read_labels(class_names)
        return cls(names, None if normalise is None else parse_normalisation(normalise), layer, trust)

    def of(self, model: str | Path | nn.Module, weights: Path | None) -> Source:
        """The source of a model with these settings, if they are for one of its kind."""
        if isinstance(model, nn.Module) or is_factory(model):
            return Source(model, weights, self.class_names, None, self.normalisation, self.layer, self.trust)
        return Source(model, weights, trust=self.trust)

    @property
    def words(self) -> list[str]:
        """The options that were given and that only bare networks take."""
        values = {"--class-names": self.class_names, "--normalise": self.normalisation, "--layer": self.layer}
        return [word for word, value in values.items() if value is not None]


def pair_with_weights(
    models: Sequence[str | Path | nn.Module], weights: Sequence[str | Path], settings: NetworkSettings | None = None
) -> tuple[Source, ...]:
    """Each model with its weights: one file for each factory, in the same order, or none at all.

    The settings go to factories and networks; a model's file has its own.
    """
    settings = settings or NetworkSettings()
    factories = [model for model in models if not isinstance(model, nn.Module) and is_factory(model)]
    receivers = [model for model in factories if takes_weights(model)]
    if weights and len(weights) != len(receivers):
        raise WrongUsage(
            f"{len(weights)} --weights came for {len(receivers)} --model of the form package.module:factory; "
            "give one for each of them, in the same order, or none"
        )
    if settings.words and not factories and not any(isinstance(model, nn.Module) for model in models):
        raise WrongUsage(
            f"{settings.words[0]} is for --model package.module:factory; a model's file says it itself, and `train` "
            "writes it there"
        )
    files = iter(weights)
    return tuple(settings.of(model, Path(next(files)) if weights and model in receivers else None) for model in models)


def check_trained_on(path: Path, store: FlowerStore) -> None:
    """Raise a Refusal if a file's classifier was trained on other data than these; early cards tell the spec alone."""
    described = read_classifier(path)[0].data
    if (described.get("digest"), described.get("fingerprint", store.fingerprint)) != (store.digest, store.fingerprint):
        raise Refusal(
            f"{path}: trained on other data than {store.path} holds now; train again with "
            f"`an8flower train --data {store.path}`, or name it with --model if it is meant"
        )


def _find_model(place: str, source: Source, defaults: Defaults) -> nn.Module | ReadyNetwork:
    """The model behind a name: one of another toolkit's, one in a file, or what a factory gives."""
    if not is_from_elsewhere(place):
        return _load_or_make(place, source, defaults)
    names = source.class_names or defaults.class_names
    return open_from_elsewhere(
        place, source.weights, None if names is None else len(names), source.size or defaults.size
    )


def _wrap_ready(ready: ReadyNetwork, source: Source, defaults: Defaults) -> Classifier:
    """Make a network from elsewhere a classifier: what the user says counts, then what its configuration says."""
    request = replace(
        source,
        size=source.size or defaults.size or ready.size,
        normalisation=source.normalisation or ready.normalisation,
        class_names=source.class_names or ready.class_names,
    )
    classifier = _wrap_bare(ready.network, request, defaults, ready.black_box)
    classifier.card = replace(classifier.card, arch=ready.name)
    return classifier


def _load_or_make(place: str, source: Source, defaults: Defaults) -> nn.Module:
    """Load the model that a file holds, or make the one that a factory gives."""
    if not is_factory(place):
        if source.weights is not None:
            raise WrongUsage(f"{place}: --weights is for --model package.module:factory; this is read as a whole model")
        return load(Path(place), trust=source.trust)
    factory = import_attribute(place)
    names = source.class_names or defaults.class_names
    count = None if names is None else len(names)
    make = partial(call_for, place, factory, count, source.size or defaults.size or SIZE)
    model = factory if isinstance(factory, nn.Module) else make()
    if not isinstance(model, nn.Module):
        raise Refusal(f"{place} returned {type(model).__name__}; expected a torch module or a Classifier")
    return model


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
    mean, std = normalisation_of(classifier)
    _check_count(names, len(classifier.class_names), classifier.arch)
    adjusted = wrap(classifier.network, names, classifier.size, source.layer or classifier.target_layer, mean, std)
    adjusted.card = replace(classifier.card, class_names=tuple(names))
    return adjusted


def _wrap_bare(network: nn.Module, source: Source, defaults: Defaults, black_box: str = "") -> Classifier:
    """Make a bare network a classifier, with the user's settings if there are any.

    Args:
        black_box: why nothing but its logits can be read; empty where layers and gradients can.
    """
    size, names = source.size or defaults.size or SIZE, source.class_names or defaults.class_names
    probe = probe_network(network, size)
    layer = source.layer or choose_layer(network, probe)
    if layer is None and not black_box:
        raise Refusal(
            f"{type(network).__name__}: no layer has spatial extent; return a Classifier with its own target layer"
        )
    if source.class_names is not None:
        _check_count(source.class_names, probe.classes, type(network).__name__)
    named = tuple(names) if names is not None else tuple(f"class {i}" for i in range(probe.classes))
    normalisation = source.normalisation or Normalisation()
    if black_box:
        _check_count(named, probe.classes, type(network).__name__)
        return BlackBox(network, named, size, normalisation, black_box)
    return wrap(network, named, size, str(layer), *normalisation)


def _check_count(names: Sequence[str], classes: int, arch: str) -> None:
    if len(names) != classes:
        raise Refusal(
            f"{len(names)} class names came, and {arch} tells {classes} classes apart; name each of them once"
        )


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
