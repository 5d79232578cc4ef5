"""Finished classifiers of torchvision: `torchvision:resnet18`, with the normalisation and size of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn

from an8flower.errors import Refusal

from ..factories import find_arch
from ..files import load_weights
from ..normalisation import Normalisation
from .ready import ReadyNetwork, import_toolkit, mute_toolkit, refuse_absent, refuse_broken, refuse_download


def open_torchvision(name: str, weights: Path | None, classes: int | None, size: int | None) -> ReadyNetwork:
    """Open a classifier of torchvision with a user's weights, or with those that lie in the cache of torch's hub.

    The cached file is torch's own format, which is read as tensors alone (`weights_only`).

    Args:
        weights: of the network with this many classes, or as many as torchvision gives it.
        size: of the images, for vision transformers, which are made for one size; None: the size of its own weights.

    Raises:
        WrongUsage: torchvision has no such classifier.
        Refusal: there are no weights, or they do not fit.
    """
    place, known = f"torchvision:{name}", read_weights_entry(name)
    preset = known.transforms()
    if weights is not None:
        network = make(name, size, preset.crop_size[0], {} if classes is None else {"num_classes": classes})
        load_weights(network, weights)
    elif not cached_file(known).is_file():
        raise refuse_absent(place, "its weights are")
    else:
        network = make(name, None, None, {})
        load_known(network, known, place)
    names = None if weights is not None else tuple(map(str, known.meta["categories"]))
    return ReadyNetwork(network, place, Normalisation(preset.mean, preset.std), preset.crop_size[0], names)


def fetch_torchvision(name: str) -> None:
    """Download the weights of a classifier of torchvision into the cache of torch's hub; their hash is checked."""
    known = read_weights_entry(name)
    try:
        with mute_toolkit():
            known.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except Exception as error:  # what the network raises is its own
        raise refuse_download(f"torchvision:{name}", error) from None


def read_weights_entry(name: str) -> Any:
    """What torchvision knows of the best weights of a name: their address, their preprocessing, their classes."""
    find_arch(f"torchvision:{name}")  # refuses what is not listed
    known: Any = import_toolkit("torchvision.models").get_model_weights(name)
    return known.DEFAULT


def cached_file(known: Any) -> Path:
    """Where the weights lie once they were downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(known.url).path).name


def load_known(network: nn.Module, known: Any, place: str) -> None:
    """Put cached weights into a network."""
    try:
        with mute_toolkit():
            network.load_state_dict(known.get_state_dict(progress=False, weights_only=True, map_location="cpu"))
    except Exception as error:  # a damaged file fails in many ways
        raise refuse_broken(f"{place}: {cached_file(known)}", error) from None


def make(name: str, size: int | None, usual: int | None, arguments: dict[str, Any]) -> nn.Module:
    """Make a network, for the size of the images if it has to know it."""
    models: Any = import_toolkit("torchvision.models")
    resized = {} if size in (None, usual) else {"image_size": size}
    try:
        with mute_toolkit():
            try:
                return models.get_model(name, weights=None, **arguments, **resized)
            except TypeError:  # it takes images of any size
                return models.get_model(name, weights=None, **arguments)
    except Refusal:
        raise
    except Exception as error:
        raise refuse_broken(f"torchvision:{name}", error) from error
