"""Networks from elsewhere by one word: `timm:NAME`, `torchvision:NAME`, `hf:FOLDER`, `onnx:FILE`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from an8flower.errors import WrongUsage

from ...registry import is_from_elsewhere
from ..networks.random_state import preserve_random_state
from .onnx_networks import open_onnx
from .ready import ReadyNetwork
from .timm_networks import fetch_timm, open_timm
from .torchvision_networks import fetch_torchvision, open_torchvision
from .transformers_networks import fetch_transformers, open_transformers

FETCHERS: dict[str, Callable[[str], None]] = {
    "timm": fetch_timm,
    "torchvision": fetch_torchvision,
    "hf": fetch_transformers,
}


def open_from_elsewhere(place: str, weights: Path | None, classes: int | None, size: int | None) -> ReadyNetwork:
    """Open a network of another toolkit with its weights; nothing is downloaded.

    Args:
        place: `timm:NAME`, `torchvision:NAME`, `hf:FOLDER` or `onnx:FILE`.
        weights: a safetensors file of a user's, for timm and torchvision; None: what lies in the toolkit's cache.
        classes: how many classes the network of `weights` tells apart; None: as many as its toolkit gives it.
        size: of the images in pixels; None: what the network's own configuration says.

    Raises:
        WrongUsage: the toolkit has no such network.
        Refusal: a toolkit or weights are not there, or not what they should be.
    """
    toolkit, _, name = place.partition(":")
    if not name:
        raise WrongUsage(f"{place} names no network; write {toolkit}:NAME")
    if weights is not None and toolkit in ("hf", "onnx"):
        raise WrongUsage(f"{place}: holds its weights itself; leave --weights {weights} out")
    openers: dict[str, Callable[[], ReadyNetwork]] = {
        "timm": partial(open_timm, name, weights, classes, size),
        "torchvision": partial(open_torchvision, name, weights, classes, size),
        "hf": partial(open_transformers, name),
        "onnx": partial(open_onnx, name),
    }
    with preserve_random_state():  # a network draws its weights before it loads others
        return openers[toolkit]()


def fetch(places: Iterable[object]) -> None:
    """Download the weights of the networks from elsewhere among some models into the caches of their toolkits.

    Raises:
        WrongUsage: there is none whose weights could be downloaded.
        Refusal: a download failed.
    """
    texts = [str(place) for place in places]
    names = [text.partition(":") for text in texts if is_from_elsewhere(text)]
    fetched = [(toolkit, name) for toolkit, _, name in names if toolkit in FETCHERS]
    if not fetched:
        raise WrongUsage("--download is for --model timm:NAME, torchvision:NAME or hf:NAME; nothing else is fetched")
    for toolkit, name in fetched:
        FETCHERS[toolkit](name)
