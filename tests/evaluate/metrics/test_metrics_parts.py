"""What a map gives to a part, and the best of several ways in which a class can be told, on rendered rows."""

import math
from functools import cache
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from torch import Tensor

from an8flower import draw
from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.metrics.ranking import nan_where_empty
from an8flower.factors import PARTS
from an8flower.generate import make_rows
from an8flower.marking import evidence_masks
from an8flower.spec import DatasetSpec, from_mapping
from an8flower.writing import Block

ROWS = 8
ONE = {"petals.colour": ["red", "blue", "white"]}
TWO = {"petals.colour": ["red", "blue"], "stem.colour": ["brown", "moss"]}
ABSENT = {"petals.colour": ["red", "blue"], "pot.count": [1, 0]}
MIXED = {"petals.colour": ["red", "red", "blue"], "stem.colour": ["brown", "moss", "cream"]}  # the third has two ways


class Drawn(World):
    """A world without a file: its rows are drawn when they are asked for."""

    def factors(self, rows: Tensor) -> np.ndarray:
        return draw.factors(self.spec, "test", 0, ROWS)[rows.numpy()]


class Scene(NamedTuple):
    spec: DatasetSpec
    case: Case
    table: np.ndarray


@cache
def scene(*classes: tuple[str, tuple[object, ...]]) -> Scene:
    """A few rendered rows of classes, and the case that they make."""
    given = {"name": "x", "size": 24, "rows": {"train": 0, "val": 0, "test": ROWS}, "classes": dict(classes)}
    spec = from_mapping(given, "x")
    made = make_rows(spec, Block("test", 0, ROWS))
    rows, labels = torch.arange(ROWS), torch.from_numpy(made.labels)
    truth = Truth(rows, labels, torch.from_numpy(made.masks), torch.from_numpy(made.parts))
    query = Query(torch.zeros(ROWS, 3, 24, 24), labels, rows)
    world = Drawn(spec, cast(Any, SimpleNamespace(album=None)), torch.device("cpu"))
    return Scene(spec, Case(None, query, truth, None, world), made.factors)


def of(classes: dict[str, list[object]]) -> Scene:
    return scene(*((name, tuple(values)) for name, values in classes.items()))


def seen(scene: Scene, *parts: str) -> Tensor:
    """Where parts are seen, (B, H, W) bool."""
    return torch.isin(scene.case.truth.parts, torch.tensor([PARTS.index(part) for part in parts]))


def score(name: str, maps: Tensor, case: Case) -> Tensor:
    return score_all([parse_metric(name)], maps.float(), case)[name]


def noise(seed: int) -> Tensor:
    return torch.randn(ROWS, 24, 24, generator=torch.Generator().manual_seed(seed))


class TestPartMass:
    def test_shares_of_all_parts_are_the_whole(self) -> None:
        case = of(ONE).case
        found = torch.stack([score(f"part_mass:part={part}", noise(1), case) for part in PARTS])
        assert found.nansum(0).tolist() == pytest.approx([1] * ROWS)

    def test_by_the_definition(self) -> None:
        case, maps = of(ONE).case, noise(2)
        for part in ("background", "petals", "stem"):
            positive = np.maximum(maps.double().numpy(), 0)
            inside = case.truth.parts.numpy() == PARTS.index(part)
            expected = (positive * inside).sum((1, 2)) / positive.sum((1, 2))
            assert score(f"part_mass:part={part}", maps, case).tolist() == pytest.approx(expected.tolist())

    def test_a_uniform_map_gives_each_part_its_area(self) -> None:
        case = of(ONE).case
        expected = (case.truth.parts == 0).float().mean((1, 2))
        torch.testing.assert_close(score("part_mass", torch.full((ROWS, 24, 24), 0.3), case), expected)

    def test_the_truth_gives_nothing_to_the_background(self) -> None:
        case = of(ONE).case
        assert score("part_mass", case.truth.masks > 0, case).eq(0).all()
        assert score("part_mass:part=petals", case.truth.masks > 0, case).eq(1).all()

    def test_undefined_where_there_is_no_such_part_or_no_mass(self) -> None:
        case = of(ABSENT).case
        without = (case.truth.parts != PARTS.index("pot")).all(2).all(1)
        assert without.any()
        assert not without.all()
        assert score("part_mass:part=pot", noise(3), case).isnan().tolist() == without.tolist()
        for value in (-1.0, 0.0):
            assert score("part_mass", torch.full((ROWS, 24, 24), value), case).isnan().all()

    def test_an_empty_mask_does_not_matter(self) -> None:
        case = of(ONE).case
        blank = case._replace(truth=case.truth._replace(masks=torch.zeros_like(case.truth.masks)))
        torch.testing.assert_close(score("part_mass", noise(4), blank), score("part_mass", noise(4), case))

    @settings(max_examples=40, deadline=None)
    @given(hnp.arrays(np.int8, (ROWS, 24, 24)))
    def test_bounds_scale_and_batch(self, given: np.ndarray) -> None:
        case, maps = of(ONE).case, torch.from_numpy(given).float()
        found = score("part_mass", maps, case)
        assert ((found >= 0) & (found <= 1) | found.isnan()).all()
        torch.testing.assert_close(score("part_mass", maps * 4, case), found, rtol=0, atol=0, equal_nan=True)
        alone = case._replace(truth=Truth(*(each[2:3] for each in case.truth[:4])))
        torch.testing.assert_close(score("part_mass", maps[2:3], alone), found[2:3], rtol=0, atol=0, equal_nan=True)

    def test_an_unknown_part_is_refused(self) -> None:
        with pytest.raises(WrongUsage, match="petals"):
            parse_metric("part_mass:part=petal")


class TestBestSet:
    @pytest.mark.parametrize("metric", ["iou", "auroc", "relevance_mass", "f1"])
    def test_is_the_plain_metric_where_there_is_one_set(self, metric: str) -> None:
        case = of(ONE).case
        found = score(f"best_set:metric={metric}", noise(5), case)
        torch.testing.assert_close(found, score(metric, noise(5), case), rtol=0, atol=0)

    def test_each_set_alone_is_enough(self) -> None:
        redundant = of(TWO)
        for part in ("petals", "stem"):
            shown = seen(redundant, part)
            found = score("best_set", shown, redundant.case)
            assert torch.equal(found, nan_where_empty(torch.ones(ROWS), shown.flatten(1).sum(1)).nan_to_num(0))
            assert (score("iou", shown, redundant.case) < 1).all()

    def test_both_at_once_are_more_than_one_needs(self) -> None:
        redundant = of(TWO)
        found = score("best_set", seen(redundant, "petals", "stem"), redundant.case)
        sizes = torch.stack([seen(redundant, part).flatten(1).sum(1) for part in ("petals", "stem")])
        torch.testing.assert_close(found, (sizes.amax(0) / sizes.sum(0)).float())

    @pytest.mark.parametrize("metric", ["iou", "relevance_rank", "average_precision"])
    def test_by_the_definition(self, metric: str) -> None:
        redundant, maps = of(TWO), noise(6)
        alone = []
        for part in ("petals", "stem"):
            masks = seen(redundant, part).to(torch.uint8)
            alone.append(score(metric, maps, redundant.case._replace(truth=redundant.case.truth._replace(masks=masks))))
        expected = alone[0].fmax(alone[1])
        torch.testing.assert_close(score(f"best_set:metric={metric}", maps, redundant.case), expected, rtol=0, atol=0)

    def test_evidence_by_absence_is_rendered(self) -> None:
        """The mask of the pot alone is that of a data set in which nothing but the pot tells the classes apart."""
        redundant = of(ABSENT)
        labels = redundant.case.truth.labels.numpy()
        of_pots = of({"pot.count": [1, 0]}).spec
        pots = torch.from_numpy(evidence_masks(of_pots, labels, redundant.table)) > 0
        assert pots.flatten(1).any(1).all()
        assert score("best_set", pots, redundant.case).eq(1).all()
        assert (pots & (redundant.case.truth.parts != PARTS.index("pot"))).any()

    def test_only_redundant_classes_have_a_choice(self) -> None:
        mixed, maps = of(MIXED), noise(7)
        plain, found = score("iou", maps, mixed.case), score("best_set", maps, mixed.case)
        single = mixed.case.truth.labels < 2
        torch.testing.assert_close(found[single], plain[single], rtol=0, atol=0)
        alone = [
            score("iou", maps, mixed.case._replace(truth=mixed.case.truth._replace(masks=seen(mixed, part).byte())))
            for part in ("petals", "stem")
        ]
        torch.testing.assert_close(found[~single], alone[0].fmax(alone[1])[~single], rtol=0, atol=0)

    def test_undefined_where_no_set_is_seen(self) -> None:
        redundant = of(TWO)
        hidden = redundant.case.truth.parts.clone()
        hidden[0] = 0
        hidden[1][seen(redundant, "stem")[1]] = 0
        case = redundant.case._replace(truth=redundant.case.truth._replace(parts=hidden))
        assert score("best_set", noise(8), case).isnan().tolist() == [True] + [False] * (ROWS - 1)

    def test_each_row_is_scored_as_if_alone(self) -> None:
        case, maps = of(MIXED).case, noise(9)
        together = score("best_set", maps, case)
        for row in range(ROWS):
            one = slice(row, row + 1)
            alone = case._replace(
                query=Query._make(each[one] for each in case.query),
                truth=Truth(*(each[one] for each in case.truth[:4])),
            )
            torch.testing.assert_close(score("best_set", maps[one], alone), together[one], rtol=0, atol=0)

    @pytest.mark.parametrize("name", ["le", "om", "sm", "iou_best", "part_mass", "best_set", "iuo"])
    def test_other_metrics_are_refused(self, name: str) -> None:
        with pytest.raises(WrongUsage):
            parse_metric(f"best_set:metric={name}")

    def test_undefined_where_the_mask_of_the_only_set_is_empty(self) -> None:
        case = of(ONE).case
        blank = case._replace(truth=case.truth._replace(masks=torch.zeros_like(case.truth.masks)))
        assert all(math.isnan(value) for value in score("best_set", noise(10), blank).tolist())
