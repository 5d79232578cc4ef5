"""Training a classifier on a store: a plain loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

import an8flower
from an8flower.errors import Refusal, WrongUsage
from an8flower.splits import SPLITS
from an8flower.store import FlowerStore

from ..data.batches import RowSource, open_rows
from ..registry import archs
from ..seeds import generator, seed_of
from .classifier import Classifier, build
from .networks.guard import evaluating
from .networks.random_state import seed_global_state

EPOCHS = 12
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
SHIFT = 4  # pixels that augmentation moves an image by, at most


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


class Recipe(NamedTuple):
    """The settings that a network is trained with."""

    epochs: int
    batch: int
    learning_rate: float  # at the top of the cycle
    patience: int  # epochs without a better one after which training ends
    seed: int
    augmented: bool = True
    enough: float = math.inf  # validation accuracy at which training ends


def train(
    store: FlowerStore,
    arch: str,
    *,
    epochs: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 32,
    learning_rate: float | None = None,
    patience: int = 6,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> TrainingResult:
    """Train an architecture on a store's training rows; validation rows choose the epoch, test rows give the accuracy.

    Epochs and learning rate default to what the architecture was registered with. Global random state is left alone.

    Raises:
        WrongUsage: unknown architecture, or fewer than one epoch.
        Refusal: a split without rows, images of a size that it cannot take, or a loss that is no number.
    """
    began = time.perf_counter()
    if empty := [split for split in SPLITS if split not in store.splits]:
        raise Refusal(f"{store.path}: no rows in {', '.join(empty)}; training wants rows in {', '.join(SPLITS)}")
    recipe = recipe_for(arch, epochs, batch, learning_rate, patience, seed)
    classifier = build(arch, store.class_names, store.size, seed).to(device)
    with seed_global_state(seed_of("train", arch, seed)):  # dropout draws from global generators
        history = fit(classifier, open_rows(store, "train", device), open_rows(store, "val", device), recipe, on_epoch)
    reached = accuracy(classifier, open_rows(store, "test", device))
    data = {**describe_data(store), "epochs": str(recipe.epochs)}
    versions = {"an8flower": an8flower.__version__, "torch": str(torch.__version__)}
    classifier.card = replace(classifier.card, accuracy=reached, data=data, versions=versions)
    return TrainingResult(classifier, reached, len(history), time.perf_counter() - began, history)


def describe_data(store: FlowerStore) -> dict[str, str]:
    """What a model's card says of the data that it was trained on: their name, their spec, and the rows themselves."""
    return {"name": store.name, "digest": store.digest, "fingerprint": store.fingerprint}


def recipe_for(
    arch: str, epochs: int | None, batch: int, learning_rate: float | None, patience: int, seed: int
) -> Recipe:
    """The recipe for an architecture: a setting that is None is the one it was registered with."""
    rate = learning_rate or archs[arch].about.get("learning_rate", LEARNING_RATE)
    return Recipe(epochs_for(arch, epochs), batch, rate, patience, seed)


def epochs_for(arch: str, epochs: int | None) -> int:
    """For how many epochs an architecture is trained: the given number, else the one it was registered with."""
    epochs = archs[arch].about.get("epochs", EPOCHS) if epochs is None else epochs
    if epochs < 1:
        raise WrongUsage(f"{epochs} epochs came; expected at least 1")
    return epochs


def fit(
    classifier: Classifier,
    training: RowSource,
    validation: RowSource,
    recipe: Recipe,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> tuple[EpochReport, ...]:
    """Train until the epochs are over or nothing gets better; leaves the weights of the best epoch, in eval mode."""
    began, best, history = time.perf_counter(), Best(classifier), []
    classifier.to(memory_format=torch.channels_last)  # in training, up to three times as fast
    optimiser = AdamW(classifier.parameters(), recipe.learning_rate, weight_decay=WEIGHT_DECAY)
    steps = recipe.epochs * math.ceil(len(training) / recipe.batch)
    schedule = OneCycleLR(optimiser, recipe.learning_rate, steps)
    for epoch in range(recipe.epochs):
        loss = run_epoch(classifier, training, optimiser, schedule, recipe, epoch)
        judged = measure(classifier, validation)
        report = EpochReport(epoch, recipe.epochs, loss, *judged, time.perf_counter() - began)
        history.append(report)
        on_epoch(report)
        if best.age_after(report) >= recipe.patience or report.val_accuracy >= recipe.enough:
            break
    best.restore()
    classifier.to(memory_format=torch.contiguous_format).eval()
    return tuple(history)


def run_epoch(
    classifier: Classifier, training: RowSource, optimiser: AdamW, schedule: OneCycleLR, recipe: Recipe, epoch: int
) -> float:
    """Train once on every row, in an order and with augmentation that the seed and the epoch fix; the mean loss."""
    device = classifier.device
    order = torch.randperm(len(training), generator=generator(seed_of("order", recipe.seed, epoch)))
    moves = generator(seed_of("augment", recipe.seed, epoch))
    total = torch.zeros((), device=device)
    classifier.train()
    for rows in training.batches(order, recipe.batch):
        (images,) = augment(moves, rows.images) if recipe.augmented else (rows.images,)
        loss = loss_of(classifier, images, rows.labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        total += loss.detach() * len(images)
    if not total.isfinite():
        raise Refusal(f"{classifier.arch}: the loss of epoch {epoch + 1} is {total.item()}; try a lower learning rate")
    return total.item() / len(training)


def loss_of(classifier: Classifier, images: Tensor, labels: Tensor) -> Tensor:
    """The mean cross entropy of uint8 images, in the precision that is fast on their device."""
    kind = precision(images.device)
    with torch.autocast(images.device.type, dtype=kind, enabled=kind is not None):
        logits = classifier(images.float() / 255)
    return F.cross_entropy(logits.float(), labels)


def precision(device: torch.device) -> torch.dtype | None:
    """The dtype to multiply in while training: bfloat16 if the device has it (about twice as fast), else None."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type == "cpu":
        native: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases do not tell
        return torch.bfloat16 if native.get("avx512_bf16") or native.get("amx_bf16") else None
    return None


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
