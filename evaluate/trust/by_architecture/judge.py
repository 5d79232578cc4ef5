"""How much of a map lies in the one cell of a canvas that the network can look at, or that shows the class.

The score of a canvas is the positive attribution in the cell by all positive attribution; of a map without any it is
undefined. Chance is 1/4. In `difull` and `dipart` a method passes where the whole 95 % interval of the mean over
canvases lies nearer to 1 than to chance, and fails where it lies nearer to chance; a canvas without a score counts as
chance. In `gridpg` the network may look everywhere, so there is a score and no verdict.

Source: Rao, Böhle, Schiele, CVPR 2022.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.store import FlowerSplit

from ...case import Explainer, Query
from ...data.images import as_images
from ...explaining.explain import explain, name_of
from ...explaining.fitting import is_fitted_first
from ...models.classifier import Classifier
from ...results.statistics.intervals import Interval, interval
from ...seeds import seed_of
from .networks import CELLS, Setting, join_cells, measure_cell, over_canvas, take_cell

CANVASES = 32  # of which a quarter is asked about each cell
CHANCE = 1 / CELLS
HALFWAY = (1 + CHANCE) / 2
BATCH = 16  # canvases in the network at once

Outcome = Literal["pass", "FAILED", "undecided", "scored", "not applicable"]


class Canvases(NamedTuple):
    """Canvases of four pictures each, of which one shows the class that is asked about."""

    images: Tensor  # (n, 3, 2 S, 2 S) float32 in [0, 1]
    targets: Tensor  # (n,) int64: the class of the cell that is asked about, which no other cell shows
    cells: Tensor  # (n,) int64: which cell that is, row by row


@dataclass(frozen=True)
class CanvasVerdict:
    """What an explainer's maps of canvases are worth in one setting."""

    setting: Setting
    status: Outcome
    reason: str = ""
    score: Interval | None = None  # the positive attribution in the cell by all, the mean over canvases
    undefined: int = 0  # canvases without positive attribution
    canvases: int = 0

    def document(self) -> dict[str, Any]:
        """The verdict ready for JSON, with None for each undefined number."""
        score = self.score and {name: None if value != value else value for name, value in asdict(self.score).items()}
        return {**asdict(self), "score": score}


class ExaminedCanvases(NamedTuple):
    """The verdict on an explainer in one setting, and its maps (n, 2 S, 2 S) with their cells unless it gave none."""

    verdict: CanvasVerdict
    maps: Tensor | None = None
    cells: Tensor | None = None


def lay_canvases(classifier: Classifier, split: FlowerSplit, count: int = CANVASES) -> Canvases:
    """Canvases of rows that the classifier gets right, the class that is asked about being in one cell only.

    Raises:
        NotApplicable: it gets rows of fewer than two classes right, or cannot be laid over a canvas.
    """
    rows = np.arange(min(len(split), 40 * CELLS))
    stored = split.take(rows)
    images, labels = as_images(stored.images, classifier.device), torch.from_numpy(stored.labels).long()
    right = torch.cat([classifier.predict(portion) for portion in images.split(BATCH)]).cpu() == labels
    usable = right.nonzero()[:, 0].numpy()
    if len(np.unique(labels[usable])) < 2:
        raise NotApplicable(f"{classifier.arch} predicts fewer than two classes of these rows rightly: no canvas")
    chosen = np.array([choose_cells(labels.numpy(), usable, place) for place in range(count)])
    cells = torch.arange(count) % CELLS
    targets = labels[torch.from_numpy(chosen[np.arange(count), cells.numpy()])]
    padded = widen(images, measure_cell(classifier))
    return Canvases(join_cells([padded[chosen[:, cell]] for cell in range(CELLS)]), targets, cells)


def widen(images: Tensor, side: int) -> Tensor:
    """Images (n, 3, S, S) in the middle of (n, 3, side, side); their outermost pixels go on to the border."""
    before = (side - images.shape[-1]) // 2
    after = side - images.shape[-1] - before
    return pad(images, (before, after, before, after), mode="replicate")


def choose_cells(labels: np.ndarray, usable: np.ndarray, place: int) -> list[int]:
    """The rows of a canvas's cells: classes that differ from each other as far as there are enough of them.

    The class of the cell that is asked about, number `place` modulo 4, is in no other cell.
    """
    draws = np.random.default_rng(seed_of("canvas", place)).permutation(usable).tolist()
    first = draws[0]
    others = [row for row in draws if labels[row] != labels[first]]
    distinct = list({labels[row]: row for row in reversed(others)}.values())[::-1]
    rest = (distinct + [row for row in others if row not in distinct] + others * CELLS)[: CELLS - 1]
    return [*rest[: place % CELLS], first, *rest[place % CELLS :]]


def judge_on_canvases(
    explainer: Explainer, classifier: Classifier, canvases: Canvases, setting: Setting
) -> ExaminedCanvases:
    """Judge an explainer in one setting; whatever it raises is part of the verdict."""
    try:
        return judge_if_applicable(explainer, classifier, canvases, setting)
    except Refusal as reason:
        return ExaminedCanvases(CanvasVerdict(setting, "FAILED", str(reason)))
    except Exception as error:  # foreign code raises whatever it likes
        said = f"{name_of(explainer)} raised {type(error).__name__}: {' '.join(str(error).split())}"
        return ExaminedCanvases(CanvasVerdict(setting, "FAILED", said))


def judge_if_applicable(
    explainer: Explainer, classifier: Classifier, canvases: Canvases, setting: Setting, batch: int = BATCH
) -> ExaminedCanvases:
    """Judge an explainer in one setting; that it does not apply is a verdict, and all else that it raises is raised.

    Args:
        batch: canvases in the network at once.
    """
    try:
        maps = explain_canvases(explainer, classifier, canvases, setting, batch)
    except (NotApplicable, WrongUsage) as reason:
        return ExaminedCanvases(CanvasVerdict(setting, "not applicable", str(reason)))
    return ExaminedCanvases(judge_scores(score_cells(maps, canvases.cells), setting), maps, canvases.cells)


def explain_canvases(
    explainer: Explainer, classifier: Classifier, canvases: Canvases, setting: Setting, batch: int = BATCH
) -> Tensor:
    """An explainer's maps (n, 2 S, 2 S) of canvases, each for the class of the cell that is asked about."""
    if is_fitted_first(explainer):
        raise NotApplicable(f"{name_of(explainer)} is fitted on pictures, and canvases are larger")
    maps = torch.empty(len(canvases.images), *canvases.images.shape[2:])
    for cell in range(CELLS):
        rows = (canvases.cells == cell).nonzero()[:, 0]
        seeds = torch.tensor([seed_of("canvas", row) for row in rows.tolist()])
        query = Query(canvases.images[rows], canvases.targets[rows], seeds)
        on_device = Query(*(tensor.to(classifier.device) for tensor in query))
        maps[rows] = explain(over_canvas(classifier, setting, cell), explainer, on_device, batch).maps.cpu()
    return maps


def score_cells(maps: Tensor, cells: Tensor) -> np.ndarray:
    """The positive attribution in each canvas's cell by all of it, (n,) float64; NaN if there is none."""
    positive = maps.double().clamp(min=0)
    inside = torch.stack([take_cell(canvas, int(cell)).sum() for canvas, cell in zip(positive, cells, strict=True)])
    total = positive.sum((1, 2))
    return torch.where(total > 0, inside / total, torch.nan).numpy()


def judge_scores(scores: np.ndarray, setting: Setting) -> CanvasVerdict:
    """The verdict on scores (n,) of canvases."""
    undefined, canvases = int(np.isnan(scores).sum()), len(scores)
    score = interval(scores, seed=seed_of("canvas"))
    if setting == "gridpg":
        return CanvasVerdict(setting, "scored", "", score, undefined, canvases)
    deciding = interval(np.where(np.isnan(scores), CHANCE, scores), seed=seed_of("canvas"))
    status: Outcome = "pass" if deciding.low > HALFWAY else "FAILED" if deciding.high < HALFWAY else "undecided"
    reason = "" if status == "pass" else describe_outside(scores)
    return CanvasVerdict(setting, status, reason, score, undefined, canvases)


def describe_outside(scores: np.ndarray) -> str:
    """How much attribution lies where the network cannot look, in a sentence."""
    undefined = int(np.isnan(scores).sum())
    if 2 * undefined > len(scores):
        return f"no positive attribution in {undefined} of {len(scores)} canvases"
    outside = 1 - float(np.nanmean(scores))
    return f"{outside:.0%} of the positive attribution lies outside the only cell that the logits read"
