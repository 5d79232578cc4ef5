"""Does a map lie on the pixels that a network can use? Judged on networks whose weights say which pixels these are.

A row's share is the part of the map's positive mass that lies on used pixels; pixels at their border, which show both,
do not count. On the scale (share - chance) / (1 - chance), 0 is what maps of *other* rows reach on the same pixels, and
1 is all of the mass where it belongs. A method passes where the whole 95 % interval of the mean over rows lies above
0.5, so that its maps are nearer to the truth than to maps of other pictures, and fails where it lies below. Each part
that is read has to hold more of the mass than an even map gives it. A map without positive mass has no share; on the
scale it stands at 0, since it says no more than any map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.factors import PARTS

from ...case import Explainer, Query
from ...explaining.explain import explain, name_of
from ...explaining.fitting import TensorExamples, prepare
from ...models.classifier import Classifier
from ...results.statistics.intervals import Interval, interval
from ...seeds import seed_of
from .networks import HandsetNetwork
from .scenes import HandScene, render_scene

ROWS = 24  # of each scene that are explained
EXAMPLES = 48  # of its training rows, for methods that are fitted
HALF = 0.5  # of the scale
BATCH = 64  # images in the network at once

Status = Literal["pass", "FAILED", "undecided", "not applicable"]


class UsablePixels(NamedTuple):
    """Which pixels a network can use, and which of all pixels count."""

    used: Tensor  # (n, S, S) bool: the pixel's centre shows a part that can speak for a class
    counted: Tensor  # (n, S, S) bool: the pixel is not at a border of used pixels
    parts: Tensor  # (n, S, S) uint8: id of the part visible at the pixel's centre


class Masses(NamedTuple):
    """Where the positive mass of maps lies, as shares of it; NaN in rows without any."""

    on_used: np.ndarray  # (n,) on used pixels
    by_chance: np.ndarray  # (n,) the mean share that the maps of the other rows have on the same pixels
    by_part: Mapping[str, np.ndarray]  # (n,) on the pixels of each part
    areas: Mapping[str, np.ndarray]  # (n,) the share of the counted pixels that each part has


@dataclass(frozen=True)
class HandVerdict:
    """What an explainer's maps of one hand-set network are worth."""

    network: str
    status: Status
    reason: str = ""  # in a sentence, unless it passed
    skill: Interval | None = None  # on the scale from maps of other rows to the truth, at most 1
    share: float = float("nan")  # of the positive mass on used pixels, the mean over rows
    chance: float = float("nan")  # the same of maps of other rows
    flat: int = 0  # rows whose map has no positive mass
    rows: int = 0
    parts: Mapping[str, float] | None = None  # the share of the positive mass on each part, the mean over rows

    def document(self) -> dict[str, Any]:
        """The verdict ready for JSON, with None for each undefined number."""
        values = {**asdict(self), "parts": dict(self.parts or {})}
        return {name: None if value != value else value for name, value in values.items()}


class ExaminedByHand(NamedTuple):
    """The verdict on an explainer on one hand-set network, and its maps (n, S, S) unless it gave none."""

    verdict: HandVerdict
    maps: Tensor | None = None


def judge_by_hand(explainer: Explainer, network: HandsetNetwork, rows: int = ROWS) -> ExaminedByHand:
    """Judge an explainer on one hand-set network; whatever it raises is part of the verdict."""
    try:
        maps = explain_by_hand(explainer, network, rows)
    except (NotApplicable, WrongUsage) as reason:
        return ExaminedByHand(HandVerdict(network.name, "not applicable", str(reason)))
    except Refusal as reason:
        return ExaminedByHand(HandVerdict(network.name, "FAILED", str(reason)))
    except Exception as error:  # foreign code raises whatever it likes
        said = f"{name_of(explainer)} raised {type(error).__name__}: {' '.join(str(error).split())}"
        return ExaminedByHand(HandVerdict(network.name, "FAILED", said))
    return ExaminedByHand(judge_maps(maps, network), maps)


def explain_by_hand(explainer: Explainer, network: HandsetNetwork, rows: int = ROWS) -> Tensor:
    """An explainer's maps (n, S, S) of the first test rows of a network's scene, for the classes that it predicts."""
    classifier = network.classifier()
    ready = prepare(explainer, classifier, examples_of(network, classifier), BATCH)
    return explain(classifier, ready, query_of(network, classifier, rows), BATCH).maps


def query_of(network: HandsetNetwork, classifier: Classifier, rows: int) -> Query:
    """The first test rows of a network's scene, each asked for the class that the network predicts."""
    scene = render_scene(network.scene, "test", rows)
    seeds = torch.tensor([seed_of("by hand", row) for row in range(rows)])
    return Query(scene.images, classifier.predict(scene.images), seeds)


def examples_of(network: HandsetNetwork, classifier: Classifier) -> TensorExamples:
    """Training rows for methods that learn: labelled as the network predicts, masked by what it uses."""
    scene = render_scene(network.scene, "train", EXAMPLES)
    masks = locate_used(network, scene).used.to(torch.uint8)
    return TensorExamples(scene.images, classifier.predict(scene.images), "by hand", masks)


def locate_used(network: HandsetNetwork, scene: HandScene) -> UsablePixels:
    """The pixels that a network can use, and those that count: all but a ring of a pixel to either side of borders.

    If a network reads squares of pixels as one, a square counts if all of its pixels are used, or if none counts as
    used nor lies at a border.
    """
    used = shows(scene.parts, network.reads)
    if network.cell > 1:
        whole, touched = ~_by_square(~used, network.cell), _by_square(_widen(used), network.cell)
        return UsablePixels(used, whole | ~touched, scene.parts)
    return UsablePixels(used, ~_widen(~used) | ~_widen(used), scene.parts)


def _by_square(where: Tensor, side: int) -> Tensor:
    """The squares of pixels (n, S, S) bool that hold one, whole."""
    squares = max_pool2d(where.float()[:, None], side)
    return squares.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, 0] > 0


def shows(parts: Tensor, names: tuple[str, ...]) -> Tensor:
    """Whether pixels of a part map (n, S, S) show one of some parts."""
    ids = torch.tensor([PARTS.index(name) for name in names])
    return torch.isin(parts.long(), ids)


def _widen(where: Tensor) -> Tensor:
    """Pixels (n, S, S) bool and their eight neighbours."""
    return max_pool2d(where.float()[:, None], 3, 1, 1)[:, 0] > 0


def judge_maps(maps: Tensor, network: HandsetNetwork) -> HandVerdict:
    """Judge maps (n, S, S) of the first test rows of a network's scene."""
    pixels = locate_used(network, render_scene(network.scene, "test", len(maps)))
    masses = weigh(maps, pixels)
    flat = int(np.isnan(masses.on_used).sum())
    skill = interval(scale(masses), seed=seed_of("by hand"))
    status, reason = decide(skill, masses, network)
    share, chance = (_mean(values) for values in (masses.on_used, masses.by_chance))
    parts = {name: _mean(values) for name, values in masses.by_part.items()}
    return HandVerdict(network.name, status, reason, skill, share, chance, flat, len(maps), parts)


def weigh(maps: Tensor, pixels: UsablePixels) -> Masses:
    """Weigh the positive mass of maps (n, S, S) on pixels that count."""
    positive = maps.double().clamp(min=0)
    shares = _share_on(positive, pixels.used & pixels.counted, pixels.counted)  # [i, j]: map j on the pixels of row i
    itself = np.eye(len(maps), dtype=bool)
    parts = {name: shows(pixels.parts, (name,)) & pixels.counted for name in PARTS}
    parts = {name: where for name, where in parts.items() if where.any()}
    sizes = pixels.counted.flatten(1).sum(1)
    return Masses(
        shares[itself],
        np.array([_mean(shares[row][~itself[row]]) for row in range(len(maps))]),
        {name: np.diag(_share_on(positive, where, pixels.counted)) for name, where in parts.items()},
        {name: (where.flatten(1).sum(1) / sizes).numpy() for name, where in parts.items()},
    )


def _share_on(positive: Tensor, where: Tensor, counted: Tensor) -> np.ndarray:
    """The share [i, j] of the mass of map j on the counted pixels of row i that lies where it should."""
    flat = positive.flatten(1).T
    inside, total = where.flatten(1).double() @ flat, counted.flatten(1).double() @ flat
    return torch.where(total > 0, inside / total, torch.nan).numpy()


def scale(masses: Masses) -> np.ndarray:
    """Shares (n,) on the scale from maps of other rows, 0, to the truth, 1; rows without positive mass are at 0."""
    chance = np.where(np.isnan(masses.by_chance), 0.0, masses.by_chance)
    room = np.where(chance < 1, 1 - chance, 1.0)
    return np.where(np.isnan(masses.on_used), 0.0, (masses.on_used - chance) / room)


def decide(skill: Interval, masses: Masses, network: HandsetNetwork) -> tuple[Status, str]:
    """The verdict, and its reason unless it is a pass."""
    if skill.high < HALF:
        return "FAILED", describe_failure(masses, network)
    faint = [part for part in network.reads if len(network.reads) > 1 and _excess(masses, part).low <= 0]
    missing = [part for part in faint if _excess(masses, part).high <= 0]
    if missing:
        return "FAILED", f"the {missing[0]} holds less of the positive attribution than an even map gives it"
    if skill.low <= HALF or faint:
        about = f"from {skill.low:.2f} to {skill.high:.2f} on the scale, where {HALF} divides"
        return "undecided", f"whether the {faint[0]} is shown cannot be told" if faint else about
    return "pass", ""


def _excess(masses: Masses, part: str) -> Interval:
    """How much more of the mass a part holds than of the area; a row without mass holds as much."""
    more = np.nan_to_num(masses.by_part[part] - masses.areas[part])
    return interval(more, seed=seed_of("by hand"))


def describe_failure(masses: Masses, network: HandsetNetwork) -> str:
    """Why maps fail, in a sentence: there is no attribution, or most of it lies on what part."""
    flat, rows = int(np.isnan(masses.on_used).sum()), len(masses.on_used)
    if 2 * flat > rows:
        return f"no positive attribution in {flat} of {rows} rows"
    elsewhere = {part: _mean(values) for part, values in masses.by_part.items() if part not in network.reads}
    most = max(elsewhere, key=lambda part: elsewhere[part])
    role = "can only speak against" if most in network.against else "cannot have been used"
    return (
        f"{_mean(masses.on_used):.0%} of the positive attribution lies on used pixels, where maps of other rows put "
        f"{_mean(masses.by_chance):.0%}; {elsewhere[most]:.0%} lies on the {most}, which {role}"
    )


def _mean(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
