"""The layers of a network that lie on its way to the target layer, one for each stage."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.classifier import Classifier
from ...models.networks.guard import evaluating
from ...models.probing import listening


def list_stages(classifier: Classifier) -> list[str]:
    """The paths of the last layer of each resolution up to the target layer, which is the last one.

    In a vision transformer, the same place of each block.
    """
    transformer, last = classifier.transformer, classifier.target_layer
    if transformer is not None and transformer.blocks and last.startswith(f"{transformer.blocks[-1]}."):
        place = last[len(transformer.blocks[-1]) :]
        return [block + place for block in transformer.blocks]
    return [*{size: path for path, size in sizes_before(classifier, last)}.values()]


def sizes_before(classifier: Classifier, last: str) -> list[tuple[str, tuple[int, ...]]]:
    """The layers that give maps, in the order in which they are done, up to one of them, with the maps' sizes.

    Modules that lie deeper than just below the last one's level are left out: the parts of a block may have the size of
    the stage before it, and windows of attention look like maps.
    """
    sizes: list[tuple[str, tuple[int, ...]]] = []

    def note(path: str, values: object) -> None:
        if path.count(".") <= last.count(".") + 1 and isinstance(values, Tensor) and values.ndim == 4:
            places = values.shape[1:3] if classifier.gives_channels_last(path, values) else values.shape[2:]
            sizes.append((path, tuple(places)))

    with listening(classifier.network, note), evaluating(classifier), torch.no_grad():
        classifier.network(classifier.probe(1))
    return up_to(sizes, last)


def up_to(sizes: list[tuple[str, tuple[int, ...]]], last: str) -> list[tuple[str, tuple[int, ...]]]:
    """The layers up to the last run of one of them, and those of more than one position alone."""
    paths = [path for path, _ in sizes]
    place = len(paths) - paths[::-1].index(last) if last in paths else len(paths)
    return [(path, size) for path, size in sizes[:place] if max(size) > 1]
