"""Training a classifier on a store: a plain loop."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

import an8flower
from an8flower.digests import digest_file
from an8flower.errors import Refusal, WrongUsage
from an8flower.splits import SPLITS
from an8flower.store import FlowerStore

from ..data.batches import RowSource, open_rows
from ..seeds import generator, seed_of
from .classifier import PENALTY, Classifier, build
from .cross_attention import BACKBONE, CrossAttentionPooled
from .factories import find_arch
from .frozen import NOTHING, Frozen, freeze_up_to, holding_still
from .gradient_penalty import GradientPenalty
from .networks.arithmetic import describe_arithmetic
from .networks.guard import evaluating
from .networks.random_state import seed_global_state
from .normalisation import parse_normalisation
from .pretrained import load_pretrained
from .prototypes.protopnet import ProtoPNet
from .recipe import BATCH, EPOCHS, LEARNING_RATE, PATIENCE, Recipe
from .training_loss import loss_of, precision

RECIPE = "recipe"  # what a registration, and a card's data, call the stages of a training
SHIFT = 4  # pixels that augmentation moves an image by, at most


BatchLoss = Callable[[Tensor, Tensor, torch.Generator], Tensor]


class EpochReport(NamedTuple):
    """The losses, the accuracy and the time of one epoch of training."""

    epoch: int  # counted from 0
    epochs: int  # at most
    loss: float  # mean over the training rows
    val_loss: float
    val_accuracy: float  # in [0, 1]
    seconds: float  # since the training began


@dataclass(frozen=True)
class TrainingResult:
    """A classifier with the weights of its best epoch, and how it came about."""

    classifier: Classifier
    accuracy: float  # on the test split, in [0, 1]
    epochs: int  # that were run
    seconds: float
    history: tuple[EpochReport, ...]
    notes: tuple[str, ...] = ()  # what was done to the network besides training it, in sentences


@dataclass(frozen=True)
class Start:
    """What a network is to begin its training with, besides its architecture; None leaves it to the architecture."""

    init: Path | None = None  # a safetensors file: pretrained weights
    freeze: str | None = None  # up to this layer nothing is trained
    normalise: str | None = None  # imagenet, none, or M,M,M:S,S,S
    layer: str | None = None  # that CAM-like methods look at
    learning_rate: float | None = None
    penalty: GradientPenalty | None = None
    prototypes: int | None = None  # of each class, in a network that has prototypes

    def words(self) -> dict[str, str]:
        """What is asked, as a model's card and the name of its file tell it; the weights by their sha256."""
        values = {
            "init": self.init and digest_file(self.init),
            "freeze": self.freeze,
            "normalise": self.normalise,
            "layer": self.layer,
            "learning_rate": self.learning_rate and repr(self.learning_rate),
            PENALTY: self.penalty and str(self.penalty),
            "prototypes": self.prototypes and str(self.prototypes),
        }
        return {name: value for name, value in values.items() if value}


class NamedStage(Protocol):
    """One stage of a recipe, as messages tell it."""

    @property
    def name(self) -> str:
        """The name of the stage, one word or two."""
        ...

    @property
    def epochs(self) -> int:
        """For how many epochs the stage trains at most; 0 if it does something else."""
        ...


class OwnRecipe(Protocol):
    """What an architecture is registered with, as `recipe`, if it is trained otherwise; see `staged_training`."""

    @property
    def stages(self) -> Sequence[NamedStage]:
        """The stages of the training, in order."""
        ...

    @property
    def epochs(self) -> int:
        """The epochs of all stages together, at most."""
        ...

    def words(self) -> str:
        """The recipe with all its settings, as a card tells it."""
        ...

    def spread(self, epochs: int) -> OwnRecipe:
        """The recipe with so many epochs in all; raises WrongUsage if these are too few."""
        ...

    def fit(
        self,
        classifier: Classifier,
        training: RowSource,
        validation: RowSource,
        recipe: Recipe,
        on_epoch: Callable[[EpochReport], None],
        frozen: Frozen,
        note: Callable[[str], None],
    ) -> tuple[EpochReport, ...]:
        """Train a classifier, as the function `fit` does; `note` is told what was done besides, in sentences."""
        ...


def train(
    store: FlowerStore,
    arch: str,
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = BATCH,
    learning_rate: float | None = None,
    patience: int = PATIENCE,
    init: str | os.PathLike[str] | None = None,
    freeze: str | None = None,
    normalise: str | None = None,
    layer: str | None = None,
    penalty: GradientPenalty | None = None,
    prototypes: int | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    note: Callable[[str], None] = lambda sentence: None,
) -> TrainingResult:
    """Train an architecture on a store's training rows; validation rows choose the epoch, test rows give the accuracy.

    Epochs, learning rate, normalisation and layer default to what the architecture was registered with. Global random
    state is left alone. A network that gives several outputs in training mode gives the logits first; each further one
    of the same shape is an auxiliary output, whose loss counts 0.3 (Szegedy et al., CVPR 2015, section 5). On a CPU the
    same arguments give the same weights; on a GPU they do not, since it adds up in any order.

    Args:
        arch: a registered name, `timm:NAME`, `torchvision:NAME`, or `package.module:factory`: a function of the number
            of classes and the size (`classes` and `size`), or one whose network gets a new last linear layer.
        init: a safetensors file of pretrained weights; the last linear layer may differ or be missing there.
        freeze: the layer up to which nothing is trained, statistics of batch norms included.
        normalise: imagenet, none, or M,M,M:S,S,S.
        layer: the layer that CAM-like methods look at.
        penalty: a term of the loss that pulls input gradients towards guided ones.
        prototypes: how many each class has at first, in a network that has prototypes of classes.
        note: is told in sentences what was replaced, loaded and frozen before the training begins, and what stages of
            a recipe did besides training.

    Raises:
        WrongUsage: unknown architecture or layer, fewer than one epoch or prototype, or a setting that the recipe of
            the architecture decides.
        Refusal: a split without rows, images of a size that it cannot take, a network that gives no logits, weights
            that fit in part, a penalty for a network without ReLUs, or a loss that is no number.
    """
    began = time.perf_counter()
    if empty := [split for split in SPLITS if split not in store.splits]:
        raise Refusal(f"{store.path}: no rows in {', '.join(empty)}; training wants rows in {', '.join(SPLITS)}")
    start = Start(None if init is None else Path(init), freeze, normalise, layer, learning_rate, penalty, prototypes)
    check_start(arch, start)
    recipe = recipe_for(arch, epochs, batch, learning_rate, patience, seed)._replace(penalty=penalty)
    notes: list[str] = []

    def write_down(sentence: str) -> None:
        notes.append(sentence)
        note(sentence)

    classifier, frozen = begin(arch, store, seed, start, write_down)
    classifier.to(device)
    with seed_global_state(seed_of("train", arch, seed)):  # dropout draws from global generators
        training, validation = (open_rows(store, split, device) for split in ("train", "val"))
        history = fit_as_registered(classifier, training, validation, recipe, on_epoch, frozen, write_down)
    reached = accuracy(classifier, open_rows(store, "test", device))
    data = describe_training(store, recipe, start, classifier)
    versions = {"an8flower": an8flower.__version__, "torch": str(torch.__version__)}
    versions |= _describe_circumstances(classifier.device)
    classifier.card = replace(classifier.card, accuracy=reached, data=data, versions=versions)
    return TrainingResult(classifier, reached, len(history), time.perf_counter() - began, history, tuple(notes))


def _describe_circumstances(device: torch.device) -> dict[str, str]:
    """The device that a classifier is trained on, and the precision in which it multiplies there."""
    kind = precision(device)
    return describe_arithmetic(device) | ({} if kind is None else {"precision": str(kind).removeprefix("torch.")})


def begin(
    arch: str, store: FlowerStore, seed: int, start: Start, note: Callable[[str], None]
) -> tuple[Classifier, Frozen]:
    """A classifier as its training begins, and what of it is frozen; raises as `train` does."""
    normalisation = None if start.normalise is None else parse_normalisation(start.normalise)
    classifier = build(arch, store.class_names, store.size, seed, start.layer, normalisation, note)
    if start.prototypes is not None:
        take_prototypes(classifier.network, start.prototypes, arch, seed)
    if start.penalty is not None:
        start.penalty.check(classifier.network, arch, store.size)
    if start.init is not None:
        note(load_pretrained(classifier.network, start.init, store.size))
    if start.freeze is None:
        return classifier, NOTHING
    frozen = freeze_up_to(classifier.network, start.freeze, store.size)
    count, whole = (sum(p.numel() for p in some) for some in (frozen.parameters, classifier.network.parameters()))
    whole_backbone = start.freeze == BACKBONE and isinstance(classifier.network, CrossAttentionPooled)
    place = "the backbone and its head" if whole_backbone else f"up to {start.freeze}"
    note(f"frozen {place}: {count:,} of {whole:,} parameters, and the statistics of batch norms there")
    return classifier, frozen


def take_prototypes(network: nn.Module, count: int, arch: str, seed: int) -> None:
    """Give a network so many prototypes of each class; raises WrongUsage if that is none, or if it has no classes'."""
    if not isinstance(network, ProtoPNet):
        raise WrongUsage(f"--prototypes came for {arch}, which has no prototypes of classes; use --pool protopnet")
    if count < 1:
        raise WrongUsage(f"{count} prototypes of each class came; expected at least 1")
    with seed_global_state(seed_of("prototypes", arch, seed)):
        network.take_prototypes(count)


def describe_training(store: FlowerStore, recipe: Recipe, start: Start, classifier: Classifier) -> dict[str, str]:
    """What a card says of the training: by it, the model of a plan is recognised."""
    code = {"code": classifier.code} if classifier.code else {}
    words = {"epochs": str(recipe.epochs), RECIPE: describe_recipe(classifier.arch, recipe, start.freeze)}
    return {**describe_data(store), **words, **start.words(), **code}


def describe_recipe(arch: str, recipe: Recipe, freeze: str | None = None) -> str:
    """How an architecture is trained by a recipe, as `archs` and cards tell it: its stages with all their settings.

    Args:
        freeze: the layer up to which nothing is trained.
    """
    staged = staged_recipe(arch)
    stages = staged.spread(recipe.epochs).words() if staged else recipe.words()
    pooling = find_arch(arch).about.get("pooling")
    further = [f"pooled by {pooling}" if pooling else "", f"frozen up to {freeze}" if freeze else ""]
    return "; ".join([f"{recipe.manner()}: {stages}", *filter(None, further)])


def describe_data(store: FlowerStore) -> dict[str, str]:
    """What a model's card says of the data that it was trained on: their name, their spec, and the rows themselves."""
    return {"name": store.name, "digest": store.digest, "fingerprint": store.fingerprint}


def recipe_for(
    arch: str,
    epochs: int | None = None,
    batch: int = BATCH,
    learning_rate: float | None = None,
    patience: int = PATIENCE,
    seed: int = 0,
) -> Recipe:
    """The recipe for an architecture: a setting that is None is the one it was registered with."""
    rate = learning_rate or find_arch(arch).about.get("learning_rate", LEARNING_RATE)
    return Recipe(epochs_for(arch, epochs), batch, rate, patience, seed)


def epochs_for(arch: str, epochs: int | None) -> int:
    """For how many epochs an architecture is trained: the given number, else the one it was registered with."""
    if epochs is None:
        staged = staged_recipe(arch)
        return staged.epochs if staged else int(find_arch(arch).about.get("epochs", EPOCHS))
    if epochs < 1:
        raise WrongUsage(f"{epochs} epochs came; expected at least 1")
    return epochs


def staged_recipe(arch: str) -> OwnRecipe | None:
    """The recipe of its own that an architecture was registered with; None if it is trained like all others."""
    recipe: OwnRecipe | None = find_arch(arch).about.get(RECIPE)
    return recipe


def check_start(arch: str, start: Start) -> None:
    """Raise WrongUsage for a setting that the recipe of an architecture decides by itself."""
    if (staged := staged_recipe(arch)) is None:
        return
    for option, value in {"--learning-rate": start.learning_rate, "--gradient-penalty": start.penalty}.items():
        if value is not None:
            raise WrongUsage(
                f"{option} came for {arch}, which is trained in stages with rates and losses of their own "
                f"({', '.join(stage.name for stage in staged.stages)}); leave {option} out"
            )


def fit_as_registered(
    classifier: Classifier,
    training: RowSource,
    validation: RowSource,
    recipe: Recipe,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    frozen: Frozen = NOTHING,
    note: Callable[[str], None] = lambda sentence: None,
) -> tuple[EpochReport, ...]:
    """Train by the recipe that the architecture was registered with, else as `fit` does.

    Args:
        note: is told what stages of a recipe did besides training, in sentences.
    """
    if (staged := staged_recipe(classifier.arch)) is None:
        return fit(classifier, training, validation, recipe, on_epoch, frozen)
    return staged.fit(classifier, training, validation, recipe, on_epoch, frozen, note)


def fit(
    classifier: Classifier,
    training: RowSource,
    validation: RowSource,
    recipe: Recipe,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    frozen: Frozen = NOTHING,
) -> tuple[EpochReport, ...]:
    """Train until the epochs are over or nothing gets better; leaves the weights of the best epoch, in eval mode."""
    with holding_still(frozen), repeating_convolutions():
        return _fit(classifier, training, validation, recipe, on_epoch, frozen)


def _fit(
    classifier: Classifier,
    training: RowSource,
    validation: RowSource,
    recipe: Recipe,
    on_epoch: Callable[[EpochReport], None],
    frozen: Frozen,
) -> tuple[EpochReport, ...]:
    began, best, history = time.perf_counter(), Best(classifier), []
    classifier.to(memory_format=torch.channels_last)  # in training, up to three times as fast
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    steps = recipe.epochs * math.ceil(len(training) / recipe.batch)
    optimiser, schedule = recipe.start([{"params": trained}], steps)
    for epoch in range(recipe.epochs):
        loss = run_epoch(classifier, training, optimiser, schedule, recipe, epoch, frozen)
        judged = measure(classifier, validation)
        report = EpochReport(epoch, recipe.epochs, loss, *judged, time.perf_counter() - began)
        history.append(report)
        on_epoch(report)
        if best.age_after(report) >= recipe.patience or report.val_accuracy >= recipe.enough:
            break
    best.restore()
    classifier.to(memory_format=torch.contiguous_format).eval()
    return tuple(history)


@contextmanager
def repeating_convolutions() -> Iterator[None]:
    """Have cuDNN add up the gradients of weights in the same order each time, inside the block.

    Other operations of a GPU add up in any order all the same (the way back through pooling, for one), so that the same
    seed gives other weights, by rounding, at each training on a GPU; on a CPU it gives the same.
    """
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def run_epoch(
    classifier: Classifier,
    training: RowSource,
    optimiser: AdamW,
    schedule: OneCycleLR,
    recipe: Recipe,
    epoch: int,
    frozen: Frozen = NOTHING,
    loss_of_batch: BatchLoss | None = None,
) -> float:
    """Train once on every row, in an order and with augmentation that the seed and the epoch fix; the mean loss.

    Args:
        loss_of_batch: the loss of images (B, 3, H, W) uint8 and their labels (B,), which may draw from the generator
            on the CPU that it gets; None: cross entropy, with the penalty of the recipe.
    """
    device = classifier.device
    order = torch.randperm(len(training), generator=generator(seed_of("order", recipe.seed, epoch)))
    moves = generator(seed_of("augment", recipe.seed, epoch))
    total = torch.zeros((), device=device)
    classifier.train()
    frozen.hold()
    for rows in training.batches(order, recipe.batch):
        (images,) = augment(moves, rows.images) if recipe.augmented else (rows.images,)
        if loss_of_batch is None:
            loss = loss_of(classifier, images, rows.labels, recipe.penalty)
        else:
            loss = loss_of_batch(images, rows.labels, moves)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        total += loss.detach() * len(images)
    if not total.isfinite():
        raise Refusal(f"{classifier.arch}: the loss of epoch {epoch + 1} is {total.item()}; try a lower learning rate")
    return total.item() / len(training)


def augment(source: torch.Generator, *aligned: Tensor) -> tuple[Tensor, ...]:
    """Flip and shift images, and what is aligned with them, in the same way; the class of a flower stays what it was.

    Half of the rows are mirrored left to right; all are moved by up to four pixels each way, their edges repeated.

    Args:
        source: a generator on the CPU, so that every device sees the same moves.
        aligned: tensors (B, ..., H, W) of any dtype, such as images (B, 3, H, W) and masks (B, H, W).
    """
    count, height, width = len(aligned[0]), *aligned[0].shape[-2:]
    shifts = torch.randint(-SHIFT, SHIFT + 1, (2, count, 1), generator=source)
    flips = torch.randint(2, (count, 1), generator=source).bool()
    down, right = torch.arange(height), torch.arange(width)
    rows = (down + shifts[0]).clamp(0, height - 1)
    columns = (torch.where(flips, right.flip(0), right) + shifts[1]).clamp(0, width - 1)
    return tuple(gather_pixels(tensor, rows.to(tensor.device), columns.to(tensor.device)) for tensor in aligned)


def gather_pixels(tensor: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels of a tensor (B, ..., H, W) at rows (B, H') and columns (B, W'): (B, ..., H', W')."""
    batch = torch.arange(len(tensor), device=tensor.device)[:, None, None]
    picked = tensor.movedim((-2, -1), (1, 2))[batch, rows[:, :, None], columns[:, None, :]]
    return picked.movedim((1, 2), (-2, -1))


def measure(classifier: Classifier, rows: RowSource, batch: int = 256) -> tuple[float, float]:
    """Mean cross entropy and accuracy, in eval mode and full precision, as the classifier is used later."""
    loss = right = torch.zeros((), device=classifier.device)
    with evaluating(classifier), torch.no_grad():
        for portion in rows.batches(torch.arange(len(rows)), batch):
            logits = classifier(portion.images.float() / 255)
            loss = loss + F.cross_entropy(logits, portion.labels, reduction="sum")
            right = right + (logits.argmax(1) == portion.labels).sum()
    return loss.item() / len(rows), right.item() / len(rows)


def accuracy(classifier: Classifier, rows: RowSource, batch: int = 256) -> float:
    """The share of rows, in [0, 1], whose class is predicted."""
    return measure(classifier, rows, batch)[1]


class Best:
    """The best weights so far, by the highest validation accuracy, then by the lowest loss."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._rank = (-math.inf, -math.inf)
        self._epoch = -1
        self._weights: dict[str, Tensor] = {}

    def age_after(self, report: EpochReport) -> int:
        """Take note of an epoch; how many epochs ago the best one was."""
        rank = (report.val_accuracy, -report.val_loss)
        if rank > self._rank:
            self._rank, self._epoch = rank, report.epoch
            self._weights = {name: tensor.clone() for name, tensor in self._classifier.state_dict().items()}
        return report.epoch - self._epoch

    def restore(self) -> None:
        """Put the best weights back into the classifier."""
        self._classifier.load_state_dict(self._weights)
