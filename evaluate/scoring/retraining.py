"""Remove and retrain: what a network learns from images that lack the pixels which a method calls important.

All images of a data set lose the same share of their pixels, those of the largest values; then the architecture is
trained anew, and its accuracy is what a method is judged by. The lower, the more of the class the method has found.

Source: Hooker, Erhan, Kindermans, Kim: A Benchmark for Interpretability Methods in Deep Neural Networks, NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import NotApplicable
from an8flower.splits import SPLITS
from an8flower.store import FlowerStore

from ..data.batches import Batch, ResidentRows, split_tensors
from ..explaining.methods import Method
from ..explaining.stored_maps import BoundMaps
from ..metrics.masking import Masking
from ..models.classifier import Classifier, build
from ..models.networks.random_state import seed_global_state
from ..models.training import fit_as_registered, measure, recipe_for
from ..registry import archs
from ..seeds import seed_of
from .judge import Judge

BATCH, PATIENCE = 32, 6  # as training has them
AT_ONCE = 256  # rows that are explained at a time


def check_retrainable(classifier: Classifier, method: Method, store: FlowerStore) -> None:
    """Raise NotApplicable where nothing can be retrained: rows, an architecture by name, or maps are missing."""
    if empty := [split for split in SPLITS if split not in store.splits]:
        raise NotApplicable(f"{store.path} has no rows in {', '.join(empty)}, so that nothing can be trained anew")
    if classifier.arch not in archs.names() and ":" not in classifier.arch:
        raise NotApplicable(f"{classifier.arch} is no architecture by name, so that it cannot be trained anew")
    if isinstance(method.explainer, BoundMaps):
        raise NotApplicable(f"{method.text}: its maps lie in files, and there are none of training rows")


def rank_pixels(judge: Judge, classifier: Classifier, method: Method) -> Tensor:
    """Each pixel's place in the order of decreasing values, of all rows of a split, (N, H, W) int32 on the CPU."""
    indices = np.arange(len(judge.split))
    ranks = []
    for portion in np.split(indices, range(AT_ONCE, len(indices), AT_ONCE)):
        case = judge.case(classifier, portion, judge.split.labels[portion])
        ranks.append(Masking.of(judge.explain(classifier, method, case.query), case).ranks.cpu())
    return torch.cat(ranks)


def retrain(
    store: FlowerStore, classifier: Classifier, ranks: Mapping[str, Tensor], share: float, epochs: int | None
) -> int:
    """How many test rows a network gets right that was trained and is tested without a share of the pixels.

    It has the architecture and the seed of the classifier, and is trained as `an8flower train` does.

    Args:
        ranks: of the pixels of each split, (N, H, W).
        share: of the pixels, in [0, 1): the largest values are removed. With 0 the training itself is repeated.
    """
    arch, seed = classifier.arch, classifier.seed or 0
    stored = {split: split_tensors(store[split], classifier.device) for split in SPLITS}
    colour = mean_colour(stored["train"])
    rows = {split: ResidentRows(remove(batch, ranks[split], share, colour)) for split, batch in stored.items()}
    recipe = recipe_for(arch, epochs, BATCH, None, PATIENCE, seed)
    network = build(arch, store.class_names, store.size, seed).to(classifier.device)
    with torch.inference_mode(False), torch.enable_grad(), seed_global_state(seed_of("train", arch, seed)):
        fit_as_registered(network, rows["train"], rows["val"], recipe)
        _, accuracy = measure(network, rows["test"])
    return round(accuracy * len(rows["test"]))


def mean_colour(rows: Batch) -> Tensor:
    """The mean colour of all images, (3,) uint8: the colour of a single image may tell its class."""
    return rows.images.double().mean((0, 2, 3)).round().to(torch.uint8)


def remove(rows: Batch, ranks: Tensor, share: float, colour: Tensor) -> Batch:
    """Rows whose pixels of the largest values, a share of all rounded down, get the same colour (3,) in all images."""
    gone = (ranks < int(share * ranks[0].numel())).to(rows.images.device)
    return rows._replace(images=torch.where(gone[:, None], colour[:, None, None], rows.images))


def measure_roar(
    judge: Judge, classifier: Classifier, method: Method, shares: tuple[float, ...], epochs: int | None
) -> dict[str, object]:
    """The accuracy (and its 95 % interval, after Wilson) of networks trained anew without each share of the pixels.

    Raises NotApplicable as `check_retrainable` does.
    """
    store = judge.split.store
    check_retrainable(classifier, method, store)
    ranks = {split: rank_pixels(replace(judge, split=store[split]), classifier, method) for split in SPLITS}
    rows = len(store["test"])
    right = [retrain(store, classifier, ranks, share, epochs) for share in shares]
    from scipy.stats import binomtest  # here, as it takes a while to load

    intervals = [binomtest(count, rows).proportion_ci(method="wilson") for count in right]
    points = [
        {"share": share, "accuracy": count / rows, "low": float(interval.low), "high": float(interval.high)}
        for share, count, interval in zip(shares, right, intervals, strict=True)
    ]
    return {"points": points, "mean": sum(right) / rows / len(right), "rows": rows}
