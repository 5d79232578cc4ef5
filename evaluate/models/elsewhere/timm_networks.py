"""Finished classifiers of timm: `timm:resnet18`, `timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k`."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from an8flower.errors import Refusal, WrongUsage

from ..factories import find_arch
from ..files import load_weights
from ..normalisation import Normalisation
from .ready import ReadyNetwork, import_toolkit, mute_toolkit, refuse_absent, refuse_broken, refuse_download, three

WEIGHTS = "model.safetensors"  # in the repository of a model on the hub


def open_timm(name: str, weights: Path | None, classes: int | None, size: int | None) -> ReadyNetwork:
    """Open a classifier of timm with a user's weights, or with those that lie in the cache of the hub.

    Args:
        weights: of the network with this many classes, or as many as timm gives it.
        size: of the images, for networks that are made for one size; None: the size that timm knows.

    Raises:
        WrongUsage: timm has no such classifier.
        Refusal: timm is not installed, or there are no weights.
    """
    place, config = f"timm:{name}", read_config(name)
    if weights is not None:
        network = make(name, size, {} if classes is None else {"num_classes": classes})
        load_weights(network, weights)
    else:
        file = find_file(place, config, download=False)
        network = make(name, size, {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file)}})
    normalisation = Normalisation(three(config.mean), three(config.std))
    names = None if weights is not None else read_class_names(config)
    return ReadyNetwork(network, place, normalisation, int(config.input_size[-1]), names)


def fetch_timm(name: str) -> None:
    """Download the weights of a classifier of timm into the cache of the hub."""
    find_file(f"timm:{name}", read_config(name), download=True)


def read_config(name: str) -> Any:
    """The configuration that timm has of the weights of a name; raises WrongUsage if there is none."""
    find_arch(f"timm:{name}")  # refuses what is not listed, and other spellings, which may fetch something
    timm = import_toolkit("timm")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = timm.list_models(f"{name.partition('.')[0]}*", pretrained=True)
        near = get_close_matches(name, known, n=1)
        remedy = f'did you mean "timm:{near[0]}"?' if near else "leave the part behind the point out"
        raise WrongUsage(f'timm has no weights "{name}"; {remedy}') from None
    return config if config is not None else timm.models.PretrainedCfg()


def find_file(place: str, config: Any, download: bool) -> Path:
    """The file of a classifier's weights in the cache of the hub; it is fetched if `download` says so."""
    if not isinstance(config.hf_hub_id, str):
        raise Refusal(f"{place}: timm knows no weights for it; give them with --weights FILE.safetensors")
    hub = import_toolkit("huggingface_hub")
    try:
        with mute_toolkit():
            return Path(hub.hf_hub_download(config.hf_hub_id, WEIGHTS, local_files_only=not download))
    except Exception as error:  # what the hub and the network raise is theirs
        raise refuse_download(place, error) if download else refuse_absent(place, "its weights are") from None


def make(name: str, size: int | None, arguments: dict[str, Any]) -> nn.Module:
    """Make a network, for the size of the images if it has to know it."""
    timm = import_toolkit("timm")
    config, place = timm.get_pretrained_cfg(name), f"timm:{name}"
    resized = {} if size in (None, config and config.input_size[-1]) else {"img_size": size}
    try:
        with mute_toolkit():
            try:
                return timm.create_model(name, **arguments, **resized)
            except TypeError:  # it takes images of any size
                return timm.create_model(name, **arguments)
    except Refusal:
        raise
    except Exception as error:
        raise refuse_broken(place, error) from error


def read_class_names(config: Any) -> tuple[str, ...] | None:
    """The names of the thousand classes of ImageNet, where the weights are of these."""
    names = getattr(config, "label_names", None)
    if names:
        return tuple(map(str, names))
    if config.num_classes != 1000:
        return None
    info = import_toolkit("timm.data").ImageNetInfo()
    return tuple(info.index_to_description(index) for index in range(1000))
