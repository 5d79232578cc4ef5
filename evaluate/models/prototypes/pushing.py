"""Prototypes become patches of training images, and those that stand for no class go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from an8flower.errors import Refusal

from ...data.batches import RowSource
from ..classifier import Classifier
from ..networks.arithmetic import multiplying_in_full
from ..networks.guard import evaluating
from ..staged_training import StagedWork
from .protopnet import ProtoPNet
from .protopnet_loss import network_of

BATCH = 128  # images at a time
PROOF_BATCH = 50  # another number, so that the proof depends on no batch
ZERO = 1e-6  # the largest squared distance that rounding of features explains


class NearestPatches(NamedTuple):
    """The patch of each image that is nearest to each prototype."""

    distances: Tensor  # squared, (N, K)
    cells: Tensor  # row and column in the features, (N, K, 2) int64
    labels: Tensor  # of the images, (N,) int64


@torch.no_grad()
def find_nearest_patches(classifier: Classifier, rows: RowSource, order: Tensor | None = None) -> NearestPatches:
    """The patch of each image that is nearest to each prototype, in eval mode and full precision.

    Args:
        order: the indices of the rows; None: all.
    """
    network, parts = network_of(classifier), []
    with evaluating(classifier), multiplying_in_full():
        for batch in rows.batches(torch.arange(len(rows)) if order is None else order, BATCH):
            distances = network.measure(classifier.normalise(batch.images.float() / 255))
            smallest, place = distances.flatten(2).min(2)
            width = distances.shape[3]
            parts.append((smallest, torch.stack((place // width, place % width), 2), batch.labels))
    return NearestPatches(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


@torch.no_grad()
def push(classifier: Classifier, rows: RowSource) -> None:
    """Make every prototype the nearest patch of a training image of its own class, and prove that it is one.

    Raises:
        Refusal: a class has no rows, or a prototype is not at distance 0 from its patch afterwards.
    """
    network = network_of(classifier)
    nearest = find_nearest_patches(classifier, rows)
    is_own = nearest.labels[:, None] == network.class_identity[None]
    if not is_own.any(0).all():
        missing = network.class_identity[~is_own.any(0)].unique().tolist()
        raise Refusal(_say_missing(classifier, missing))
    chosen = nearest.distances.masked_fill(~is_own, torch.inf).argmin(0)
    cells = nearest.cells[chosen, torch.arange(len(chosen), device=chosen.device)]
    network.prototypes.vectors.copy_(_read_patches(classifier, rows, chosen, cells)[:, :, None, None])
    network.source.copy_(torch.cat((chosen[:, None], cells), 1))
    prove_push(classifier, rows)


def _say_missing(classifier: Classifier, classes: list[int]) -> str:
    names = ", ".join(classifier.class_names[index] for index in classes)
    return (
        f"{classifier.arch}: no training rows of {names}, whose prototypes are to become patches of them; "
        "train on data with rows of every class"
    )


def _read_patches(classifier: Classifier, rows: RowSource, chosen: Tensor, cells: Tensor) -> Tensor:
    """The features (K, d) at a cell of each of some rows."""
    network, parts = network_of(classifier), []
    with evaluating(classifier), multiplying_in_full():
        for batch, places in zip(rows.batches(chosen.cpu(), BATCH), cells.split(BATCH), strict=True):
            features = network.embed(classifier.normalise(batch.images.float() / 255))
            parts.append(features[torch.arange(len(places)), :, places[:, 0], places[:, 1]])
    return torch.cat(parts)


@torch.no_grad()
def prove_push(classifier: Classifier, rows: RowSource) -> None:
    """Raise a Refusal unless every prototype is at distance 0 from the patch that it is said to be."""
    network, parts = network_of(classifier), []
    order, prototypes = network.source[:, 0].cpu(), torch.arange(len(network.source), device=network.source.device)
    with evaluating(classifier), multiplying_in_full():
        for batch, numbers in zip(rows.batches(order, PROOF_BATCH), prototypes.split(PROOF_BATCH), strict=True):
            distances = network.measure(classifier.normalise(batch.images.float() / 255))
            _, y, x = network.source[numbers].T
            parts.append(distances[torch.arange(len(numbers)), numbers, y, x])
    apart = torch.cat(parts)
    if not (apart <= ZERO).all():
        worst = int(apart.argmax())
        raise Refusal(
            f"{classifier.arch}: prototype {worst} is at the squared distance {apart[worst]:.2g} from the patch of "
            f"training row {int(order[worst])} that it was pushed to, and not at 0; "
            "make the network the same for an image whatever others are in the batch"
        )


@dataclass(frozen=True)
class Push:
    """Every prototype becomes the nearest patch of a training image of its own class."""

    name: str = "push"
    epochs: int = 0

    def words(self) -> str:
        """The stage, in one word."""
        return self.name

    def check(self, work: StagedWork) -> None:
        """Raise a Refusal unless each class has rows, and at least as many patches as prototypes."""
        classifier, labels = work.classifier, read_labels_of(work.training)
        network = network_of(classifier)
        rows = torch.bincount(labels.cpu(), minlength=len(classifier.class_names))
        if not rows.all():
            raise Refusal(_say_missing(classifier, torch.nonzero(rows == 0).flatten().tolist()))
        with evaluating(classifier), torch.no_grad():
            positions = network.embed(classifier.probe(1)).shape[2:].numel()
        wanted = torch.bincount(network.class_identity.cpu(), minlength=len(rows))
        if (wanted > rows * positions).any():
            least = int((rows * positions - wanted).argmin())
            raise Refusal(
                f"{classifier.arch}: {int(wanted[least])} prototypes of {classifier.class_names[least]}, whose "
                f"{int(rows[least])} training rows have {int(rows[least]) * positions} patches; "
                "give fewer with --prototypes"
            )

    def run(self, work: StagedWork) -> None:
        """Push, prove it, and say from how many images the prototypes come."""
        push(work.classifier, work.training)
        source = network_of(work.classifier).source
        images = len(source[:, 0].unique())
        work.note(f"pushed {len(source)} prototypes to patches of {images} training images, distance 0 to each")


def read_labels_of(rows: RowSource) -> Tensor:
    """The labels of all rows, (N,) int64."""
    return torch.cat([batch.labels for batch in rows.batches(torch.arange(len(rows)), BATCH)])


@dataclass(frozen=True)
class Prune:
    """Prototypes go of whose nearest training patches too few are of their class; each class keeps its best one."""

    nearest: int = 6  # images, each by its nearest patch
    least: int = 3  # of them of the prototype's class
    name: str = "prune"
    epochs: int = 0

    def words(self) -> str:
        """The stage with all its settings, in a few words."""
        return f"{self.name} (fewer than {self.least} of the {self.nearest} nearest images of the class)"

    def check(self, work: StagedWork) -> None:
        """Raise nothing: what is there can always be pruned."""

    def run(self, work: StagedWork) -> None:
        """Prune, and say how many prototypes went."""
        network = network_of(work.classifier)
        before = len(network.class_identity)
        remain = self.choose(network, find_nearest_patches(work.classifier, work.training))
        if len(remain) < before:
            network.keep_prototypes(remain)
            work.classifier.forget_halves()
        work.note(f"pruned {before - len(remain)} of {before} prototypes")

    def choose(self, network: ProtoPNet, nearest: NearestPatches) -> Tensor:
        """The indices (k,) of the prototypes that stay."""
        images = nearest.distances.topk(min(self.nearest, len(nearest.labels)), dim=0, largest=False).indices
        counts = (nearest.labels[images] == network.class_identity[None]).sum(0)
        stays = counts >= self.least
        for label in network.class_identity.unique():
            members = torch.nonzero(network.class_identity == label).flatten()
            stays[members[counts[members].argmax()]] = True
        return torch.nonzero(stays).flatten()
