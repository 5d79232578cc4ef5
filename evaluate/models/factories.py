"""Networks made by the name of their architecture: a registered one, one of timm or torchvision, a user's factory."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import partial
from types import ModuleType
from typing import Any

from torch import nn

from an8flower.errors import Refusal, WrongUsage

from ..registry import Entry, archs, is_ours
from .heads import REMEDY, replace_heads
from .probing import probe_network

CLASSES = ("classes", "num_classes", "n_classes")  # what a factory may call the number of classes
SIZES = ("size", "image_size", "img_size", "input_size")  # ... and the side of the images in pixels


def find_arch(name: str) -> Entry:
    """The entry of an architecture: a registered name, `timm:NAME`, `torchvision:NAME` or `package.module:factory`.

    Raises:
        WrongUsage: there is none; gives the nearest name.
        Refusal: it is of a toolkit that is not installed, or a plug-in that cannot be loaded.
    """
    _refuse_pooling(name)
    toolkit, colon, model = name.partition(":")
    if colon and toolkit in TOOLKITS:
        return Entry(name, TOOLKITS[toolkit](model), {"family": toolkit})
    return archs[name]


def _refuse_pooling(name: str) -> None:
    """Raise WrongUsage for a pooling that a network does not take."""
    base, plus, pooling = name.rpartition("+")
    fitting = [known.partition("+")[0] for known in archs.names() if plus and known.endswith(f"+{pooling}")]
    if fitting and name not in archs.names():
        raise WrongUsage(f"{base} cannot be pooled by {pooling}; it fits {', '.join(fitting)}")


def make_network(
    entry: Entry, classes: int, size: int, unwrap: Callable[[nn.Module], nn.Module]
) -> tuple[nn.Module, list[str]]:
    """A network that tells so many classes apart and takes images of a size; and what was done for it, in sentences.

    A registered function gets the two numbers. A factory of a user's gets those that it has arguments for; if it has
    none for the classes, and makes another number of logits, its last linear layer is replaced.

    Args:
        unwrap: gives the bare network of what a factory made, which may be a Classifier.

    Raises:
        Refusal: it cannot be called, gives no network from such images to logits, or has no last linear layer.
    """
    if is_ours(entry.item) and ":" not in entry.name:
        return entry.item(classes, size), []
    make, is_told = _bind(entry, classes, size)
    made = _check_is_network(entry.name, _call(entry.name, make))
    probe = probe_network(unwrap(made), size)
    if probe.classes == classes:
        return made, []
    if is_told:
        raise Refusal(
            f"{entry.name} gives {probe.classes} logits where {classes} classes were asked for; "
            "expected one logit a class"
        )
    return made, [replace_heads(unwrap(made), probe, classes, entry.name)]


def _bind(entry: Entry, classes: int, size: int) -> tuple[Callable[[], Any], bool]:
    """A factory with its arguments, and whether the number of classes is one of them."""
    if isinstance(entry.item, nn.Module):
        raise Refusal(
            f"{entry.name} is a network already; name a function that makes one, so that each seed has its own"
        )
    if "layer" in entry.about:  # it is registered, and takes the two numbers whatever it calls them
        return partial(entry.item, classes, size), True
    arguments = _arguments_for(entry.name, entry.item, classes, size)
    return partial(entry.item, **arguments), bool(arguments.keys() & set(CLASSES))


def call_for(name: str, factory: Callable[..., Any], classes: int | None, size: int) -> Any:
    """What a factory of a finished model gives: it is told the classes and the size only if it cannot do without.

    Raises:
        Refusal: it cannot be called, or wants the number of classes where nobody knows it.
    """
    required = [word for word, parameter in _parameters(factory).items() if _is_required(parameter)]
    if classes is None and (words := [word for word in required if word in CLASSES]):
        raise Refusal(f'{name} wants "{words[0]}", the number of classes; name them with --class-names, or give --data')
    arguments = {} if classes is None else _arguments_for(name, factory, classes, size)
    return _call(name, partial(factory, **{word: value for word, value in arguments.items() if word in required}))


def _arguments_for(name: str, factory: Callable[..., Any], classes: int, size: int) -> dict[str, int]:
    """The arguments that a factory takes of the number of classes and the side of the images, by their names."""
    words = {word: value for known, value in ((CLASSES, classes), (SIZES, size)) for word in known}
    parameters = _parameters(factory)
    for word, parameter in parameters.items():
        if _is_required(parameter) and word not in words:
            raise Refusal(f'{name} wants "{word}", which nobody knows here; {REMEDY}, or one without arguments')
    return {word: value for word, value in words.items() if word in parameters}


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # what is written in C tells nothing, and what is no function has none
        return {}


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def _call(name: str, factory: Callable[[], Any]) -> Any:
    """Call a factory, which fails in any way it likes."""
    try:
        return factory()
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(f"{name} cannot be called ({type(error).__name__}: {error}); {REMEDY}") from error


def _check_is_network(name: str, network: Any) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise Refusal(f"{name} returned {type(network).__name__}; expected a torch module")
    return network


def _of_timm(model: str) -> Callable[..., nn.Module]:
    """A factory of a model of timm, untrained; nothing is downloaded."""
    timm = _import_toolkit("timm")
    _check_listed("timm", model, timm.list_models())
    return _with_size(partial(timm.create_model, model, pretrained=False), "num_classes", "img_size")


def _of_torchvision(model: str) -> Callable[..., nn.Module]:
    """A factory of a classifier of torchvision, untrained; nothing is downloaded."""
    models = _import_toolkit("torchvision.models")
    _check_listed("torchvision", model, models.list_models(module=models))
    return _with_size(partial(models.get_model, model, weights=None), "num_classes", "image_size")


TOOLKITS: dict[str, Callable[[str], Callable[..., nn.Module]]] = {"timm": _of_timm, "torchvision": _of_torchvision}


def _with_size(create: Callable[..., nn.Module], classes_word: str, size_word: str) -> Callable[..., nn.Module]:
    """A factory of classes and size, for models of which only some are made for one size."""

    def network(classes: int, size: int) -> nn.Module:
        plain = create(**{classes_word: classes})
        try:
            probe_network(plain, size)
            return plain
        except Refusal as reason:
            try:
                return create(**{classes_word: classes, size_word: size})
            except Exception:  # it takes no size, or not this one: then what it said of the images counts
                raise reason from None

    return network


def _import_toolkit(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Refusal(f"{name} cannot be imported ({error}); install it with pip install {name}") from None


def _check_listed(toolkit: str, model: str, names: list[str]) -> None:
    """Raise WrongUsage unless a toolkit has this model: its other spellings may fetch what lies elsewhere."""
    if model.partition(".")[0] not in names:
        near = get_close_matches(model, names, n=1)
        remedy = f'did you mean "{toolkit}:{near[0]}"?' if near else f"{toolkit} lists them with list_models()"
        raise WrongUsage(f'{toolkit} has no classifier "{model}"; {remedy}')
