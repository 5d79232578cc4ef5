"""What scoring by masking costs, in passes of the bare network, beside the same metrics of other toolkits.

Ours and theirs take turns within one run, with the bare forward pass timed in every turn, so that a busy machine slows
down all of them; ratios are taken turn by turn, and their medians are reported.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import report
import torch
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from torch import Tensor, nn
from torchcam.metrics import ClassificationMetric, DeletionInsertionMetric

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metrics
from an8flower.evaluate.models.classifier import Classifier, build

try:
    import quantus
except ImportError:  # the one peer that only this comparison needs
    quantus = None

THREADS, CLASSES, SIZE, ROWS, TURNS, IN_FLIGHT = 2, 6, 112, 16, 3, 16
FAMILY = ("average_drop", "average_increase", "average_gain")
PERTURBATION = ("perturbation_positive", "perturbation_negative")
CURVES = ("insertion", "deletion")
OURS: dict[str, tuple[str, ...]] = {
    "insertion, deletion, drop family": (*CURVES, *FAMILY),
    "the same and perturbation": (*CURVES, *FAMILY, *PERTURBATION),
    "drop family": FAMILY,
    "insertion, deletion, 20 steps, black": tuple(f"{name}:baseline=black,steps=20" for name in CURVES),
    "deletion, 28 steps, black": ("deletion:steps=28",),
}
LIMIT = 1.1  # times the distinct masked images times the bare pass
softmax = partial(torch.softmax, dim=-1)


class Measure(NamedTuple):
    """What a call costs, per image."""

    seconds: float
    shown: float  # images that pass through the network


class Given:
    """An extractor of TorchCAM that has the maps already, so that only its metric is timed."""

    def __init__(self, classifier: Classifier, maps: Tensor) -> None:
        self.model, self.maps = classifier, maps

    def __call__(self, classes: list[int], scores: Tensor) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """The only one."""
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


Work = Callable[[Case, Tensor], Any]


def torch_cam_drop(case: Case, maps: Tensor) -> None:
    """Average drop and increase."""
    metric = ClassificationMetric(Given(case.classifier, maps), softmax)
    metric.update(case.query.images, case.query.targets.tolist())


def torch_cam_curves(case: Case, maps: Tensor) -> None:
    """Insertion and deletion, 20 steps of black pixels."""
    metric = DeletionInsertionMetric(Given(case.classifier, maps), softmax, steps=20, batch_size=IN_FLIGHT)
    metric.update(case.query.images, case.query.targets.tolist())


def grad_cam_drop(case: Case, maps: Tensor) -> None:
    """Drop and increase in confidence, each of which runs the network itself; without division by p."""
    targets = [lambda output, target=target: output.softmax(-1)[target] for target in case.query.targets.tolist()]
    for metric in (DropInConfidence(), IncreaseInConfidence()):
        metric(case.query.images, maps.numpy(), targets, case.classifier)


class Grey(nn.Module):
    """The classifier for images of one channel: of three, Quantus would rank and remove each apart."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.classifier(images.expand(-1, 3, -1, -1))


def quantus_flipping(case: Case, maps: Tensor) -> None:
    """Pixel flipping in 28 steps of black."""
    flipping = quantus.PixelFlipping(
        features_in_step=SIZE * SIZE // 28, perturb_baseline=0.0, disable_warnings=True, display_progressbar=False
    )
    flipping(
        model=Grey(case.classifier).eval(),
        x_batch=case.query.images[:, :1].numpy(),
        y_batch=case.query.targets.numpy(),
        a_batch=maps[:, None].numpy(),
        batch_size=IN_FLIGHT,
        channel_first=True,
        softmax=True,
    )


PEERS: dict[str, tuple[str, Work]] = {  # and which of ours asks the same
    "TorchCAM ClassificationMetric": ("drop family", torch_cam_drop),
    "pytorch-grad-cam DropInConfidence, IncreaseInConfidence": ("drop family", grad_cam_drop),
    "TorchCAM DeletionInsertionMetric, 20 steps, black": ("insertion, deletion, 20 steps, black", torch_cam_curves),
    **({"Quantus PixelFlipping, 28 steps, black": ("deletion, 28 steps, black", quantus_flipping)} if quantus else {}),
}


def asked() -> tuple[Case, Tensor]:
    """A network with untrained weights, grey noise for images, and smooth maps."""
    classifier = build("resnet18", [str(each) for each in range(CLASSES)], SIZE, 0).eval()
    generator, rows = torch.Generator().manual_seed(0), torch.arange(ROWS)
    images = torch.rand(ROWS, 1, SIZE, SIZE, generator=generator).expand(-1, 3, -1, -1).contiguous()
    coarse = torch.rand(ROWS, 1, 14, 14, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear").squeeze(1)
    query = Query(images, rows % CLASSES, rows)
    return Case(classifier, query, Truth(rows, query.targets, (maps > 0.5).to(torch.uint8), None)), maps


@torch.no_grad()
def ours(names: tuple[str, ...], case: Case, maps: Tensor) -> None:
    """Our metrics, as the judge calls them."""
    with case.classifier.holding(IN_FLIGHT):
        score_all(parse_metrics(names), maps, case)


@torch.no_grad()
def forward(case: Case, maps: Tensor) -> None:
    """The bare pass, of as many images at once as ours has."""
    for some in case.query.images.split(IN_FLIGHT):
        case.classifier(some)


def measured(work: Work, case: Case, maps: Tensor) -> Measure:
    """Of one call."""
    with case.classifier.counting() as cost:
        start = perf_counter()
        work(case, maps)
        taken = perf_counter() - start
    return Measure(taken / ROWS, cost.forwards / ROWS)


def row(who: str, turns: list[dict[str, Measure]]) -> dict[str, Any]:
    """A line of the table: somebody's time in bare passes, and in bare passes of the images that it shows."""
    shown = turns[0][who].shown
    passes = median(turn[who].seconds / turn["forward"].seconds for turn in turns)
    own = f"an8flower {PEERS[who][0]}" if who in PEERS else None
    return {
        "who": who,
        "ms per image": 1000 * median(turn[who].seconds for turn in turns),
        "images shown": shown,
        "in F": passes,
        "in F per image shown": passes / shown,
        "ours is faster, times": median(turn[who].seconds / turn[own].seconds for turn in turns) if own else None,
        "to reach": None if own else f"{LIMIT} F per image shown",
    }


def main() -> None:
    """Measure and report."""
    torch.set_num_threads(THREADS)
    case, maps = asked()
    works: dict[str, Work] = {f"an8flower {name}": partial(ours, names) for name, names in OURS.items()}
    works |= {name: work for name, (_, work) in PEERS.items()}
    measured(forward, case, maps)  # warm up
    turns = [
        {name: measured(work, case, maps) for name, work in {"forward": forward, **works}.items()} for _ in range(TURNS)
    ]
    about = {
        "network": f"resnet18, {SIZE} px, untrained; {ROWS} images of grey noise, {IN_FLIGHT} at once",
        "F": "a bare forward pass of an image in such a batch",
        "threads": THREADS,
        "turns": f"medians of {TURNS}",
        "Quantus": "not installed"
        if quantus is None
        else "given images of one channel, and no clean image to begin with",
    }
    report.write("faithfulness", [row(name, turns) for name in works], about)


if __name__ == "__main__":
    main()
