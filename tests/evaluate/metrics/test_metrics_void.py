"""Void pixels count for nothing: a map scores what its other pixels alone score, and what it says there is not read."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from an8flower.evaluate import Case, Query, Truth
from an8flower.evaluate.metrics.guarded import guard_chance
from an8flower.evaluate.metrics.metric import ALL_VOID, reasons
from an8flower.evaluate.metrics.naming import parse_metric, parse_metrics
from an8flower.evaluate.registry import metrics

SIDE = 9
BOXES = ["le", "box_accuracy"]  # pieces of maps are connected through void pixels
WITH_CHOICE = [metric.name for metric in parse_metrics(["usual"])]
BY_PIXEL = [name for name in WITH_CHOICE if name not in BOXES]
UNPLACED = [name for name in BY_PIXEL if name != "pointing_tol"]  # where a pixel lies does not matter


def case_of(masks: Tensor, void: Tensor | None) -> Case:
    rows = torch.arange(len(masks))
    query = Query(torch.zeros(len(masks), 3, *masks.shape[1:]), rows, rows)
    return Case(None, query, Truth(rows, rows, masks.to(torch.uint8), None, void))


def score(name: str, maps: Tensor, masks: Tensor, void: Tensor | None) -> Tensor:
    scores: Tensor = parse_metric(name).score(maps, case_of(masks, void))
    return scores


def draw(seed: int, levels: int, rows: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Maps with many ties, masks and void pixels (rows, SIDE, SIDE); the last row has no void."""
    source = torch.Generator().manual_seed(seed)
    maps = torch.randint(-levels, levels + 1, (rows, SIDE, SIDE), generator=source).float() / levels
    masks, void = (torch.rand(rows, SIDE, SIDE, generator=source) < share for share in (0.3, 0.25))
    void[-1] = False
    return maps, masks, void


@pytest.mark.parametrize("name", [*UNPLACED, "average_precision:classes=both"])
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([1, 3, 1000]))
def test_void_is_as_if_it_were_not_in_the_picture(name: str, seed: int, levels: int) -> None:
    maps, masks, void = draw(seed, levels)
    values = score(name, maps, masks, void)
    for row in range(len(maps)):
        alone = ~void[row]
        expected = score(name, maps[row][alone][None, None], masks[row][alone][None, None], None)[0]
        torch.testing.assert_close(values[row], expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", BY_PIXEL)
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_what_a_map_says_in_void_pixels_is_not_read(name: str, seed: int) -> None:
    maps, masks, void = draw(seed, 1000)
    other = maps.where(~void, 50 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(seed + 1)))
    flipped = masks ^ void  # nor what the mask says
    first, second = score(name, maps, masks, void), score(name, other, flipped, void)
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", WITH_CHOICE)
def test_strict_counts_all_pixels_as_the_mask_has_them(name: str) -> None:
    maps, masks, void = draw(3, 1000)
    strict = name + (",strict=true" if "=" in name else ":strict=true")
    torch.testing.assert_close(score(strict, maps, masks, void), score(name, maps, masks, None), equal_nan=True)
    if name not in BOXES:  # chance maps have boxes as large as the picture
        assert not torch.equal(score(name, maps, masks, void)[:-1], score(strict, maps, masks, void)[:-1])
    assert parse_metric(strict).card()["parameters"]["strict"] is True


@pytest.mark.parametrize("name", [name for name in WITH_CHOICE if parse_metric(name).chance])
def test_chance_is_that_of_noise_on_the_pixels_that_count(name: str) -> None:
    """By the formula for a picture of these pixels alone, whose truth other tests have from simulations."""
    _, masks, void = draw(5, 3)
    truth = case_of(masks, void).truth
    values = guard_chance(metrics[name].item, truth).values[name]
    if name == "pointing_tol":  # whose formula needs places: it is one here, and by simulation below
        return
    for row in range(len(masks)):
        alone = masks[row][~void[row]][None, None].to(torch.uint8)
        torch.testing.assert_close(values[row], metrics[name].item.chance(alone)[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["iou", "pointing_tol", "average_precision", "auroc", "relevance_mass", "miou", "f1"])
def test_chance_by_simulation(name: str) -> None:
    _, masks, void = draw(7, 3)
    masks, void = masks[:1].expand(4000, -1, -1), void[:1].expand(4000, -1, -1)
    noise = torch.rand(masks.shape, generator=torch.Generator().manual_seed(1))
    values = score(name, noise, masks, void).double()
    expected = guard_chance(metrics[name].item, case_of(masks[:1], void[:1]).truth).values[name]
    assert abs(values.mean() - expected) < 4 * values.std() / 4000**0.5 + 1e-4


@pytest.mark.parametrize("name", WITH_CHOICE)
@pytest.mark.parametrize("rim", [True, False])
def test_the_truth_scores_best_with_or_without_its_rim(name: str, rim: bool) -> None:
    masks, void = torch.zeros(1, 12, 12, dtype=torch.bool), torch.zeros(1, 12, 12, dtype=torch.bool)
    masks[:, 3:9, 3:8] = True
    void[:, 2:10, 2:9] = True
    void[:, 4:8, 4:7] = False
    best = parse_metric(name)
    values = score(name, (masks if rim else masks & ~void).float(), masks, void)
    if best.select:
        values = torch.from_numpy(best.select(values.numpy()))
    assert values.item() == pytest.approx(1 if best.higher_is_better else 0, abs=1e-6)
    assert "void" in best.card()


@pytest.mark.parametrize("name", ["le", "le:strict=true"])
def test_a_box_may_leave_the_rim_out(name: str) -> None:
    masks, void = torch.zeros(1, 12, 12, dtype=torch.bool), torch.zeros(1, 12, 12, dtype=torch.bool)
    masks[:, 3:9, 3:9] = True
    void[:, 3:9, 3:9] = True
    void[:, 4:8, 4:8] = False
    inner = (masks & ~void).float()
    assert score(name, inner, masks, void).item() == pytest.approx(1 - 16 / 36 if "strict" in name else 0)


def test_a_mask_that_is_all_void_has_no_score_and_says_why() -> None:
    maps, masks, void = draw(1, 3)
    void = void | masks
    truth = case_of(masks, void).truth
    assert score("iou", maps, masks, void).isnan().tolist() == [True] * 5
    assert reasons(parse_metric("iou"), truth) == [ALL_VOID] * 5
    everything = case_of(masks, torch.ones_like(void)).truth
    assert parse_metric("iou").score(maps, case_of(masks, everything.void)).isnan().all()


def test_a_metric_of_somebody_else_gets_masks_as_they_were() -> None:
    _, masks, void = draw(1, 3)
    truth = case_of(masks, void).truth
    assert truth.masks.dtype == torch.uint8
    assert ((truth.counted == -1) == void).all()
    assert not parse_metric("effect_mass").leaves_void_out
