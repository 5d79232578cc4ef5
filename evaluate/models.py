"""Models by what users type: a safetensors file, or a factory of their own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from an8flower.errors import Refusal
from an8flower.store import FlowerStore

from .classifier import Classifier, check_fits, load, wrap
from .registry import import_attribute
from .split import evaluating


def open_model(source: str, store: FlowerStore, device: torch.device) -> Classifier:
    """The classifier in a file, or from `package.module:factory`, for the classes of a data set.

    A factory is called without arguments and returns a `Classifier`, or any network from normalised images to logits;
    its CAM layer is then the last one that has spatial extent.

    Raises Refusal where it cannot be had, or takes other classes or sizes than those of the data.
    """
    if ":" in source and not Path(source).exists():
        classifier = _made(source, store).to(device).eval()
    else:
        classifier = load(Path(source), device)
    check_fits(classifier, store.class_names)
    if classifier.size != store.size:
        raise Refusal(
            f"{source}: takes {classifier.size} px, {store.path} has {store.size} px; train one on these data"
        )
    return classifier


def check_trained_on(path: Path, store: FlowerStore) -> None:
    """Raise a Refusal where a file's classifier was trained on other data than these."""
    if load(path).card.data.get("digest") != store.digest:
        raise Refusal(
            f"{path}: trained on other data than {store.path} holds now; train again with "
            f"`an8flower train --data {store.path}`, or name it with --model if it is meant"
        )


def last_spatial_layer(network: nn.Module, images: Tensor) -> str:
    """The path of the last module to give (B, K, h, w) with more than one position; raises Refusal without one."""
    seen: list[str] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.append(name) if _spatial(output) else None)
        for name, module in network.named_modules()
        if name
    ]
    try:
        with evaluating(network), torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise Refusal(
            f"{type(network).__name__}: no layer has spatial extent; return a Classifier with its own target layer"
        )
    return seen[-1]


def _made(source: str, store: FlowerStore) -> Classifier:
    made = import_attribute(source)()
    if isinstance(made, Classifier):
        return made
    if not isinstance(made, nn.Module):
        raise Refusal(f"{source} returned {type(made).__name__}; expected a torch module or a Classifier")
    layer = last_spatial_layer(made, torch.zeros(1, 3, store.size, store.size))
    return wrap(made, store.class_names, store.size, layer)


def _spatial(output: object) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1
