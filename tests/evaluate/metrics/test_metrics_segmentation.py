"""The segmentation metrics against closed forms, scikit-image, scikit-learn, and noise."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.filters import threshold_otsu
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.metric import MEASURED, score_all
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.metrics.ranking import Ranking
from an8flower.evaluate.metrics.segmentation import otsu, pooled_iou

PLAIN = ("iou_otsu", "f1", "pixel_accuracy", "miou", "average_precision")
BOTH = "average_precision:classes=both"
NAMES = (*PLAIN, BOTH, "miou_pooled")


def case_of(masks: Tensor) -> Case:
    masks, rows = torch.as_tensor(masks), torch.arange(len(masks))
    truth = Truth(rows, rows, masks.to(torch.uint8), None)
    return Case(None, Query(torch.zeros(len(masks), 3, *masks.shape[1:]), rows, rows), truth)


def scores(maps: Tensor, masks: Tensor, names: tuple[str, ...] = NAMES) -> dict[str, Tensor]:
    return score_all([parse_metric(name) for name in names], maps.float(), case_of(masks))


def score(name: str, one_map: object, one_mask: object) -> float:
    """One metric of one map; miou_pooled of this one row."""
    metric = parse_metric(name)
    maps, masks = torch.as_tensor(one_map).float()[None], torch.as_tensor(one_mask)[None]
    found = metric.score(maps, case_of(masks))
    return float(metric.select(found.numpy())[0]) if metric.select else float(found[0])


# The definitions once more, by foreign libraries where there is one


def slow(one_map: np.ndarray, one_mask: np.ndarray) -> dict[str, float]:
    """All of one map (H, W) float32 and one mask (H, W) bool that is not empty."""
    values, inside = one_map.ravel(), one_mask.ravel()
    exact = values.astype(float)
    above = exact > math.fsum(exact) / len(exact)
    low, high = values.min(), values.max()
    ranged = (values - low) / (high - low) if high > low else np.zeros_like(values)
    over = exact > float(otsu(Ranking(torch.from_numpy(one_map)[None], torch.from_numpy(one_mask)[None]))[0])
    silent = high == low
    scores = {
        "iou_otsu": (over & inside).sum() / (over | inside).sum(),
        "f1": slow_f1(ranged.astype(float), inside),
        "pixel_accuracy": accuracy_score(inside, above),
        "miou": jaccard_score(inside, above, labels=[False, True], average="macro", zero_division=0),
        "average_precision": average_precision_score(inside, values),
        BOTH: average_precision_score(np.concatenate([~inside, inside]), np.concatenate([1 - ranged, ranged])),
    }
    return {name: math.nan if silent and name != "average_precision" else value for name, value in scores.items()}


def slow_f1(ranged: np.ndarray, inside: np.ndarray) -> float:
    if not ranged.any():
        return 0.0
    precision, recall = ranged[inside].sum() / ranged.sum(), ranged[inside].mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


LEVELS = st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.25, 0.5, 1.0, 3.0])
VALUES = st.one_of(LEVELS, st.floats(-1e3, 1e3, width=32, allow_subnormal=False))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A map with ties and signs, and a mask that is not empty."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(2, 9)))
    one_map = draw(hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([LEVELS, VALUES]))))
    one_mask = draw(hnp.arrays(bool, shape))
    one_mask[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = True
    return one_map, one_mask


def blobs(seed: int, rows: int = 4) -> tuple[Tensor, Tensor]:
    """Noisy maps that are larger inside their masks, (B, 30, 20)."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.nn.functional.interpolate(torch.rand(rows, 1, 6, 4, generator=generator), (30, 20))[:, 0] < 0.3
    return torch.randn(rows, 30, 20, generator=generator) + 1.5 * masks, masks


class TestAgainstForeignLibraries:
    @settings(max_examples=80, deadline=None)
    @given(pairs())
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")  # scikit-image divides by empty bins
    def test_small_maps(self, pair: tuple[np.ndarray, np.ndarray]) -> None:
        for name, expected in slow(*pair).items():
            assert score(name, *pair) == pytest.approx(expected, abs=1e-6, nan_ok=True), name

    @pytest.mark.parametrize("levels", [3, 20, None])
    def test_larger_maps(self, levels: int | None) -> None:
        maps, masks = blobs(1)
        maps = maps if levels is None else (maps * levels / 4).round()
        found = scores(maps, masks)
        for row in range(4):
            for name, expected in slow(maps[row].numpy(), masks[row].numpy()).items():
                assert float(found[name][row]) == pytest.approx(expected, abs=1e-6), name

    @settings(max_examples=150, deadline=None)
    @given(hnp.arrays(np.float32, st.integers(2, 400), elements=VALUES))
    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_otsu_is_that_of_scikit_image(self, values: np.ndarray) -> None:
        found = float(otsu(Ranking(torch.from_numpy(values)[None, None], torch.ones(1, 1, len(values)) > 0))[0])
        exact = values.astype(float)
        expected = threshold_otsu(exact)
        if found != expected:  # scikit-image weighs in float32, so that ties fall either way
            assert between(exact, found) == pytest.approx(between(exact, expected), rel=1e-6)

    @pytest.mark.parametrize("power", [-3, 0, 4])
    def test_otsu_of_large_maps(self, power: int) -> None:
        maps = (torch.randn(8, 112, 112, generator=torch.Generator().manual_seed(2)) ** 2) * 10.0**power
        found = otsu(Ranking(maps, torch.ones(8, 112, 112, dtype=torch.bool)))
        assert found.tolist() == [threshold_otsu(each.double().numpy()) for each in maps]


@pytest.mark.parametrize("steps", [[0.0] + [2] * 10 + [3] * 10, [0.0] + [1] * 10 + [2] * 10])
@pytest.mark.parametrize("step", [0.25, 2.0**-23])
def test_otsu_where_rounding_to_float32_would_matter(steps: list[float], step: float) -> None:
    """Values on the edge of a bin, and values that are the float32 next to the middle of theirs."""
    values = torch.tensor([[1 + step * each for each in steps]])
    exact = values.double().numpy()
    over = values.double() > threshold_otsu(exact)
    assert float(otsu(Ranking(values[None], over[None]))[0]) == threshold_otsu(exact)
    assert score("iou_otsu", values, over) == 1


def between(values: np.ndarray, cut: float) -> float:
    """Variance between the bins up to that with the centre `cut` and those beyond."""
    counts, edges = np.histogram(values, 256, (values.min(), values.max()))
    centres = (edges[1:] + edges[:-1]) / 2
    low, high = centres <= cut, centres > cut
    means = [np.average(centres[part], weights=counts[part]) for part in (low, high)]
    return counts[low].sum() * counts[high].sum() * (means[0] - means[1]) ** 2


class TestClosedForms:
    MASK = (torch.arange(80) < 16).view(8, 10)

    def test_half_of_the_mask(self) -> None:
        half = (torch.arange(80) < 8).view(8, 10)
        assert score("f1", half, self.MASK) == pytest.approx(2 / 3)  # P = 1, R = 1/2
        assert score("iou_otsu", half, self.MASK) == 0.5
        assert score("pixel_accuracy", half, self.MASK) == pytest.approx(0.9)
        assert score("miou", half, self.MASK) == pytest.approx((8 / 16 + 64 / 72) / 2)

    def test_the_opposite(self) -> None:
        for name in NAMES:
            if "average" not in name:
                assert score(name, ~self.MASK, self.MASK) == 0, name
        assert score("average_precision", ~self.MASK, self.MASK) == pytest.approx(16 / 80)

    @pytest.mark.parametrize("value", [-1.0, 0.0, 0.7])
    def test_constant_maps_say_nothing(self, value: float) -> None:
        constant, density = torch.full((8, 10), value), 16 / 80
        for name in set(NAMES) - {"average_precision"}:
            assert math.isnan(score(name, constant, self.MASK)), name
        assert score("average_precision", constant, self.MASK) == pytest.approx(density)

    def test_average_precision_by_hand(self) -> None:
        assert score("average_precision", [[4.0, 3, 2, 1]], [[1, 0, 1, 0]]) == pytest.approx((1 + 2 / 3) / 2)
        assert score("average_precision", [[4.0, 3, 3, 1]], [[1, 0, 1, 0]]) == pytest.approx((1 + 2 / 3) / 2)
        assert score("average_precision", [[1.0, 2, 3, 4]], [[1, 0, 0, 0]]) == 0.25

    def test_two_levels_are_parted_between_them(self) -> None:
        one_map = 5 + 3 * self.MASK.float()
        assert score("iou_otsu", one_map, self.MASK) == 1

    def test_f1_is_the_overlap_of_dice(self) -> None:
        maps, masks = blobs(3, rows=1)
        ranged = (maps - maps.min()) / (maps.max() - maps.min())
        dice = 2 * (ranged * masks).sum() / (ranged.sum() + masks.sum())
        assert score("f1", maps[0], masks[0]) == pytest.approx(float(dice))


def test_truth_itself_scores_one() -> None:
    _, masks = blobs(4)
    for name, found in scores(masks.float(), masks).items():
        found = torch.from_numpy(pooled_iou(found.numpy())) if name == "miou_pooled" else found
        assert found.tolist() == pytest.approx([1] * 4, abs=1e-9), name


class TestPooledIou:
    @pytest.mark.parametrize("rows", [1, 6])
    def test_mean_is_that_of_all_pixels_as_one_image(self, rows: int) -> None:
        maps, masks = blobs(5, rows)
        masks[0] &= torch.arange(30)[:, None] < 15
        above = maps > maps.double().mean((1, 2), keepdim=True)
        expected = jaccard_score(masks.ravel(), above.ravel(), labels=[False, True], average="macro")
        values = pooled_iou(scores(maps, masks)["miou_pooled"].numpy())
        assert values.mean() == pytest.approx(expected, abs=1e-6)

    def test_spread_is_that_of_the_ratio(self) -> None:
        """The standard error of the values' mean, beside how the ratio itself varies over many data sets."""
        source = np.random.default_rng(6)
        union = source.integers(50, 400, (3000, 60))
        both = source.binomial(union, 0.3 + 0.001 * union)
        curves = np.stack([both, union, both, union], 2).astype(float)
        ratios = both.sum(1) / union.sum(1)
        errors = [pooled_iou(each).std(ddof=1) / math.sqrt(60) for each in curves[:300]]
        assert np.mean(errors) == pytest.approx(ratios.std(), rel=0.05)

    def test_rows_without_a_mask_are_left_out(self) -> None:
        maps, masks = blobs(7)
        masks[2] = False
        known = [0, 1, 3]
        values = pooled_iou(scores(maps, masks)["miou_pooled"].numpy())
        assert np.isnan(values).tolist() == [False, False, True, False]
        assert values[known] == pytest.approx(pooled_iou(scores(maps[known], masks[known])["miou_pooled"].numpy()))

    @pytest.mark.parametrize("rows", [0, 2])
    def test_without_a_defined_row(self, rows: int) -> None:
        assert np.isnan(pooled_iou(np.full((rows, 4), np.nan))).all()


class TestUndefined:
    def test_exactly_where_the_mask_is_empty(self) -> None:
        maps, masks = blobs(8)
        masks[0], masks[1] = False, True
        for name, found in scores(maps, masks).items():
            assert found.view(4, -1).isnan().any(1).tolist() == [True, False, False, False], name
            assert found.dtype == torch.float32

    def test_a_mask_of_everything(self) -> None:
        maps, whole = torch.tensor([[0.0, 1, 2, 3]]), torch.ones(1, 4)
        assert score("average_precision", maps, whole) == 1
        assert score("pixel_accuracy", maps, whole) == 0.5
        assert score("miou", maps, whole) == 0.25  # no pixel of the background is found


class TestInvariance:
    @settings(max_examples=50, deadline=None)
    @given(pairs(), st.integers(-3, 3))
    def test_positive_scale(self, pair: tuple[np.ndarray, np.ndarray], power: int) -> None:
        scaled = pair[0] * np.float32(2.0**power)
        for name in NAMES:
            assert score(name, scaled, pair[1]) == pytest.approx(score(name, *pair), abs=1e-6, nan_ok=True), name

    @settings(max_examples=50, deadline=None)
    @given(hnp.arrays(np.int8, (5, 6)), hnp.arrays(bool, (5, 6)).filter(np.any), st.integers(-1000, 1000))
    def test_shift(self, one_map: np.ndarray, one_mask: np.ndarray, shift: int) -> None:
        one_map = one_map.astype(np.float32)
        for name in NAMES:
            if name != "iou_otsu":  # whose bins end at other floats
                moved = score(name, one_map + np.float32(shift), one_mask)
                assert moved == pytest.approx(score(name, one_map, one_mask), abs=1e-6, nan_ok=True), name

    @settings(max_examples=50, deadline=None)
    @given(pairs())
    def test_bounds(self, pair: tuple[np.ndarray, np.ndarray]) -> None:
        for name in NAMES:
            value = score(name, *pair)
            assert -1e-9 <= value <= 1 + 1e-9 or (math.isnan(value) and np.ptp(pair[0]) == 0), name

    def test_each_row_is_scored_as_if_alone(self) -> None:
        maps, masks = blobs(9)
        together = scores(maps, masks)
        for row in range(4):
            for name, found in scores(maps[row : row + 1], masks[row : row + 1]).items():
                torch.testing.assert_close(found, together[name][row : row + 1], rtol=0, atol=0)

    def test_nothing_given_is_changed(self) -> None:
        maps, masks = blobs(10)
        before = maps.clone(), masks.clone()
        scores(maps.transpose(1, 2), masks.transpose(1, 2))
        assert torch.equal(maps, before[0])
        assert torch.equal(masks, before[1])


# Chance: what noise really scores, beside what is expected of it

ANALYTIC = ("f1", "pixel_accuracy", "miou", "average_precision", "miou_pooled")


@cache
def noise(size: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A mask of `size` of 30 x 24 pixels, and what uniform noise scores on it."""
    mask = (torch.arange(720) < size).view(30, 24)
    maps = torch.rand(8000, 30, 24, generator=torch.Generator().manual_seed(size))
    return mask[None], scores(maps, mask.expand(8000, -1, -1), ANALYTIC)


@pytest.mark.parametrize("size", [7, 200, 650, 720])
@pytest.mark.parametrize("name", ANALYTIC)
def test_chance_is_what_noise_scores(name: str, size: int) -> None:
    mask, found = noise(size)
    expected, drawn = parse_metric(name).chance(mask)[0].double(), found[name].double()
    error = drawn.std(0) / math.sqrt(8000)
    assert ((drawn.mean(0) - expected).abs() <= 4.5 * error + 2e-6 * expected.abs() + 1e-6).all()


@pytest.mark.parametrize("name", ANALYTIC)
def test_chance_of_empty_masks_is_undefined(name: str) -> None:
    masks = torch.stack([torch.zeros(5, 6), torch.eye(5, 6), torch.ones(5, 6)])
    assert parse_metric(name).chance(masks).reshape(3, -1).isnan().any(1).tolist() == [True, False, False]


def test_the_chance_of_other_options_is_measured() -> None:
    assert parse_metric(BOTH).card()["chance"] == MEASURED
    assert parse_metric("average_precision:classes=foreground").chance is not None


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(WrongUsage, match="both"):
        parse_metric("average_precision:classes=bath")
