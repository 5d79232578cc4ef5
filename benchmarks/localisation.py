"""Time of the localisation metrics, ten of them beside the same kind of metrics in Quantus on the same maps and masks.

Ours and Quantus's take turns within one run, so that a busy machine slows down both; the ratio is taken turn by turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import mean, median
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import quantus
import report
import torch
from torch import Tensor, nn

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.registry import metrics
from an8flower.spec import load

SIZE, BATCH, TURNS = 112, 64, 9
QUIET = {"disable_warnings": True, "display_progressbar": False}
# Quantus's metrics, and which of ours asks the same question (TopKIntersection: of a fixed number of pixels instead)
PEERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "pointing": ("PointingGame", lambda: quantus.PointingGame(**QUIET)),
    "relevance_mass": ("RelevanceMassAccuracy", lambda: quantus.RelevanceMassAccuracy(**QUIET)),
    "relevance_rank": ("RelevanceRankAccuracy", lambda: quantus.RelevanceRankAccuracy(**QUIET)),
    "auroc": ("AUC", lambda: quantus.AUC(**QUIET)),
    "energy_pointing": ("AttributionLocalisation", lambda: quantus.AttributionLocalisation(**QUIET)),
    "iou_area": ("TopKIntersection", lambda: quantus.TopKIntersection(k=1000, **QUIET)),
}
OURS = (*PEERS, "iou", "iou_best", "iou_mean", "pointing_tol")
PIXELS = ("iou_otsu", "f1", "pixel_accuracy", "miou", "miou_pooled", "average_precision", "part_mass", "best_set")
BOXES = ("le", "om", "box_accuracy", "sm")
IMAGES, LABELS = np.zeros((BATCH, 3, SIZE, SIZE), dtype=np.float32), np.zeros(BATCH, dtype=int)
GROUPS = {"all but the boxes": (*OURS, *PIXELS), "boxes": BOXES}


class Silent(nn.Module):
    """A network that costs nothing, so that what is measured of metrics that ask it is all the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images)[:, :, 0, 0] * 0


def silent() -> Classifier:
    """A classifier of three classes that knows nothing."""
    return wrap(Silent(), "abc", SIZE, "layer", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def pictures(seed: int) -> tuple[Tensor, Tensor]:
    """Smooth maps in [0, 1] with minimum 0 (so that all normalisations agree), and discs as masks: (B, S, S)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(BATCH, 1, 14, 14, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bilinear").squeeze(1)
    maps = maps - maps.amin((1, 2), keepdim=True)
    down, right = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    middle = torch.randint(20, SIZE - 20, (2, BATCH, 1, 1), generator=generator)
    return maps, ((down - middle[0]) ** 2 + (right - middle[1]) ** 2 < 18**2).to(torch.uint8)


def case_of(masks: Tensor, classifier: Classifier | None = None) -> Case:
    """What the judge knows of rows with these masks. Half of an image is background, and every class has one set."""
    rows, parts = torch.arange(len(masks)), torch.zeros_like(masks)
    parts[:, SIZE // 2 :] = 1
    images, world = torch.zeros(len(masks), 3, SIZE, SIZE), SimpleNamespace(spec=load("single-6c"))
    return Case(classifier, Query(images, rows % 3, rows), Truth(rows, rows % 3, masks, parts), None, world)


def ours(maps: Tensor, case: Case, names: tuple[str, ...] = OURS) -> Any:
    """The scores of the named metrics, by name."""
    with torch.no_grad():
        return score_all([metrics[name].item for name in names], maps, case)


def theirs(name: str, maps: Tensor, masks: Tensor) -> np.ndarray:
    """The scores of Quantus's counterpart, called as its documentation does."""
    found = PEERS[name][1]()(
        model=None,
        x_batch=IMAGES,
        y_batch=LABELS,
        a_batch=maps.numpy()[:, None],
        s_batch=masks.numpy()[:, None],
        batch_size=len(maps),
    )
    return np.asarray(found, dtype=float).ravel()


def milliseconds(work: Callable[[], object]) -> float:
    """Time per map of one batch."""
    start = perf_counter()
    work()
    return (perf_counter() - start) * 1000 / BATCH


def together(maps: Tensor, masks: Tensor, names: tuple[str, ...], threads: int) -> float:
    """Milliseconds per map of some of ours; median of three, as a short time on a shared machine is a noisy one."""
    torch.set_num_threads(threads)
    classifier = silent()
    return median(milliseconds(partial(ours, maps, case_of(masks, classifier), names)) for _ in range(3))


def turn(maps: Tensor, masks: Tensor) -> dict[str, float]:
    """Milliseconds per map: ours by groups on two threads and on one; each of ours and of Quantus's on one."""
    taken = {"two": together(maps, masks, OURS, threads=2), "one": together(maps, masks, OURS, threads=1)}
    for threads in (2, 1):  # one thread last, for what follows
        for group, names in GROUPS.items():
            taken[f"{group} {threads}"] = together(maps, masks, names, threads)
    classifier = silent()
    for name in (*OURS, *PIXELS, *BOXES):
        taken[f"ours {name}"] = milliseconds(partial(ours, maps, case_of(masks, classifier), (name,)))
    for name in PEERS:
        taken[f"theirs {name}"] = milliseconds(partial(theirs, name, maps, masks))
    return taken


def ratio(taken: dict[str, float], threads: str) -> float:
    """How many times longer ten metrics of Quantus's mean cost take than our ten."""
    return len(OURS) * mean(taken[f"theirs {name}"] for name in PEERS) / taken[threads]


def row(name: str, taken: dict[str, float], found: dict[str, Tensor], maps: Tensor, masks: Tensor) -> dict[str, Any]:
    """A line of the table: one of ours beside its counterpart, if it has one."""
    mine: dict[str, Any] = {"ours": name, "ms per map, alone": taken[f"ours {name}"]}
    if name not in PEERS:
        return {**mine, "Quantus": None, "its ms per map": None, "largest difference": None}
    difference = float(np.abs(found[name].numpy() - theirs(name, maps, masks)).max())
    peer = {"Quantus": PEERS[name][0], "its ms per map": taken[f"theirs {name}"]}
    return {**mine, **peer, "largest difference": difference}


def main() -> None:
    """Measure and report."""
    turn(*pictures(0))  # warm up
    turns = [turn(*pictures(seed)) for seed in range(TURNS)]
    taken = {key: median(each[key] for each in turns) for key in turns[0]}
    maps, masks = pictures(0)
    found = ours(maps, case_of(masks))
    about = {
        "maps": f"{SIZE} x {SIZE}, {BATCH} a batch, medians of {TURNS} turns; what is scored is made before",
        "our ten together, ms per map, one thread": taken["one"],
        "our ten together, ms per map, two threads": taken["two"],
        f"our {len(OURS + PIXELS)} without the box metrics, ms per map, one thread": taken["all but the boxes 1"],
        f"our {len(OURS + PIXELS)} without the box metrics, ms per map, two threads": taken["all but the boxes 2"],
        f"our {len(BOXES)} box metrics, ms per map, one thread": taken["boxes 1"],
        f"our {len(BOXES)} box metrics, ms per map, two threads": taken["boxes 2"],
        "Quantus, ms per map and metric (mean of its six)": mean(taken[f"theirs {name}"] for name in PEERS),
        "ten of Quantus's mean against our ten, times, one thread": median(ratio(each, "one") for each in turns),
        "ten of Quantus's mean against our ten, times, two threads": median(ratio(each, "two") for each in turns),
        "note": "TopKIntersection takes 1000 pixels instead of the mask's area: its values are not ours; om and sm ask "
        "a network that costs nothing; best_set is that of classes that can be told in one way",
    }
    report.write("localisation", [row(name, taken, found, maps, masks) for name in (*OURS, *PIXELS, *BOXES)], about)


if __name__ == "__main__":
    main()
