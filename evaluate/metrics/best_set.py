"""Does the map mark one of the ways in which a class can be told, where there are several?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from an8flower import draw
from an8flower.errors import WrongUsage
from an8flower.evidence import absent_evidence, sufficient_sets
from an8flower.factors import PARTS

from ..case import Case
from ..data.world import World
from ..registry import metrics
from .localisation import SILENT, register_localisation
from .metric import Asking, Metric, Reading, score_all, sentence


class Ways:
    """A batch of maps beside one mask for each way in which the class of a row can be told."""

    def __init__(self, maps: Tensor, case: Case) -> None:
        assert case.world is not None, "metrics that need the renderer are given it"
        assert case.truth.parts is not None, "metrics that need the parts are given them"
        self.maps, self.case, self.world, self.parts = maps, case, case.world, case.truth.parts

    @cached_property
    def sets(self) -> list[tuple[frozenset[str], ...]]:
        """The minimal sufficient sets of each row's class."""
        sets_of = cache(lambda label: sufficient_sets(self.world.spec, label))
        return [sets_of(label) for label in self.case.truth.labels.tolist()]

    @cached_property
    def cases(self) -> list[tuple[Tensor, Case]]:
        """Which rows (n,) have a first set, a second one, ..., and those rows with the masks of that set alone."""
        cases = []
        for number in range(max(map(len, self.sets), default=0)):
            rows = [row for row, sets in enumerate(self.sets) if len(sets) > number]
            indices = torch.tensor(rows, device=self.maps.device)
            masks = torch.stack([self._mask(row, number) for row in rows])
            cases.append((indices, self._case_of(indices, masks)))
        return cases

    def _case_of(self, rows: Tensor, masks: Tensor) -> Case:
        """A case of some of the rows, with masks of their own and without a model."""
        query = type(self.case.query)._make(values[rows] for values in self.case.query)
        truth = type(self.case.truth)._make(None if values is None else values[rows] for values in self.case.truth)
        return Case(None, query, truth._replace(masks=masks))

    def _mask(self, row: int, number: int) -> Tensor:
        """The mask (H, W) uint8 of one set in a row; a row with one set keeps its own mask."""
        sets, mask = self.sets[row], self.case.truth.masks[row]
        if len(sets) == 1:
            return mask
        shown = torch.tensor([PARTS.index(part) for part in sets[number]], device=mask.device)
        seen = torch.isin(self.parts[row], shown)
        return (seen | self._missing(row, sets[number])).to(mask.dtype)

    def _missing(self, row: int, parts: frozenset[str]) -> Tensor:
        """Pixels (H, W) bool where the parts that the row's class lacks would be seen."""
        truth = self.case.truth
        lacking = absent_evidence(self.world.spec, int(truth.labels[row]))
        covered = torch.zeros_like(truth.masks[row], dtype=torch.bool)
        for part in parts & lacking.keys():
            covered |= _seen_with(self.world, truth.rows[row : row + 1], part, lacking[part])
        return covered


def _seen_with(world: World, rows: Tensor, part: str, count: int) -> Tensor:
    """Pixels (H, W) bool where a row (1,) would show a part if it had that part."""
    table = draw.override(world.factors(rows), {f"{part}.count": count})
    return world.photograph(table).parts[0] == PARTS.index(part)


@dataclass(frozen=True)
class BestSet:
    """The largest value of a localisation metric against the mask of any one minimal sufficient set of parts of the
    row's class: of iou, unless another metric is named."""

    metric: str = "iou"

    def __post_init__(self) -> None:
        if not _fits(metrics[self.metric].item):
            raise WrongUsage(
                f"best_set: metric is {self.metric}; expected one of localisation that scores each row by map and mask "
                "alone and is best at 1, such as iou or relevance_mass"
            )

    def __call__(self, ways: Ways) -> Tensor:
        metric = metrics[self.metric].item
        best = ways.maps.new_full((len(ways.maps),), torch.nan)
        for rows, case in ways.cases:
            best[rows] = best[rows].fmax(score_all([metric], ways.maps[rows], case)[metric.name])
        return best


def _fits(metric: Any) -> bool:
    """Whether a metric gives one value per row, from map and mask alone, and is best at 1."""
    if not isinstance(metric, Metric):
        return False
    alone = isinstance(metric.score, Reading) and not metric.needs and metric.select is None
    return alone and metric.family == "localisation" and metric.higher_is_better


register_localisation(
    "best_set",
    Asking(Ways, BestSet()),
    sentence(BestSet),
    constant=f"as that metric has it; by iou {SILENT}",
    version=3,
    undefined="that metric has no value for any of the sets: none of their parts is seen, or the map is constant",
    sign="as that metric reads it",
    ties="as that metric reads them",
    source="an8flower: a class that can be told in several ways is explained by any one of them",
    needs=("parts", "renderer"),
    further={
        "void": "as that metric leaves them out",
        "oracle": "1 where a class has one set, and as that metric has it then; the mask of a redundant class marks "
        "all of its sets, and scores less than one of them alone",
        "quirks": "none: ours",
    },
)
