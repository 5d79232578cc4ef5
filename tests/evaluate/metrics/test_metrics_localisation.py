"""The localisation metrics against closed forms, a slow second version, scikit-learn, and noise."""

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score
from torch import Tensor

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics import ranking
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.ranking import THRESHOLDS, dilate
from an8flower.evaluate.metrics.sorted_pixels import count_pairs, sort_pixels
from an8flower.evaluate.registry import metrics

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
THRESHOLDED = ("iou", "iou_best", "iou_mean", "energy_pointing")
SPATIAL = {"pointing_tol"}  # where the pixels lie counts, not only what they hold
NAMES = [
    "iou",
    "iou_best",
    "iou_mean",
    "iou_area",
    "pointing",
    "pointing_tol",
    "energy_pointing",
    "relevance_mass",
    "relevance_rank",
    "auroc",
]


def case_of(masks: Tensor) -> Case:
    rows = torch.arange(len(masks))
    query = Query(images=torch.zeros(len(masks), 3, *masks.shape[1:]), targets=rows, seeds=rows)
    return Case(None, query, Truth(rows=rows, labels=rows, masks=masks.to(torch.uint8), parts=None))


def scores(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """All ten of one batch; iou_best as its curves."""
    return score_all([metrics[name].item for name in NAMES], maps.float(), case_of(masks))


def score(name: str, one_map: object, one_mask: object) -> float:
    """One metric of one map, the best threshold being that of this one row."""
    metric = metrics[name].item
    maps, masks = torch.as_tensor(one_map).float()[None], torch.as_tensor(one_mask)[None]
    found = metric.score(maps, case_of(masks))
    return float(metric.select(found.numpy())[0]) if metric.select else float(found[0])


# The slow second version: one map, plain loops, no shared step


def _slow_iou_at(values: np.ndarray, inside: np.ndarray, cut: float) -> float:
    both = sum(1 for value, hit in zip(values, inside, strict=True) if value > cut and hit)
    either = sum(1 for value, hit in zip(values, inside, strict=True) if value > cut or hit)
    return both / either


def _slow_curve(values: np.ndarray, inside: np.ndarray) -> list[float]:
    low, high = values.min(), values.max()
    ranged = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return [_slow_iou_at(ranged, inside, np.float32(step / 100)) for step in range(100)]


def _slow_top(values: np.ndarray, inside: np.ndarray) -> float:
    """Mask pixels among the |G| largest, group of equal values by group."""
    room, found = int(inside.sum()), 0.0
    for value in sorted(set(values.tolist()), reverse=True):
        group = values == value
        taken = min(room, group.sum())
        found += taken * inside[group].mean()
        room -= taken
    return found


def _slow_pointing(one_map: np.ndarray, one_mask: np.ndarray, radius: float) -> float:
    peaks, pixels = np.argwhere(one_map == one_map.max()), np.argwhere(one_mask)
    return float(np.mean([min(math.dist(peak, pixel) for pixel in pixels) < radius for peak in peaks]))


def _slow_auroc(values: np.ndarray, inside: np.ndarray) -> float:
    pairs = [(x > y) + 0.5 * (x == y) for x in values[inside].tolist() for y in values[~inside].tolist()]
    return float(np.mean(pairs)) if pairs else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def slow(one_map: np.ndarray, one_mask: np.ndarray) -> dict[str, float]:
    """All ten of one map (H, W) float32 and one mask (H, W) bool."""
    if not one_mask.any():
        return dict.fromkeys(NAMES, math.nan)
    values, inside = one_map.ravel(), one_mask.ravel()
    exact = values.astype(float)
    shifted, positive = exact - exact.min(), exact.clip(0)
    curve, size, top = _slow_curve(values, inside), inside.sum(), _slow_top(values, inside)
    scores = {
        "iou": float(np.mean(curve)),
        "iou_best": max(curve),
        "iou_mean": _slow_iou_at(exact, inside, math.fsum(exact) / len(exact)),
        "iou_area": top / (2 * size - top),
        "pointing": _slow_pointing(one_map, one_mask, radius=1e-9),
        "pointing_tol": _slow_pointing(one_map, one_mask, radius=15 * max(one_map.shape) / 500),
        "energy_pointing": _ratio(shifted[inside].sum(), shifted.sum()),
        "relevance_mass": _ratio(positive[inside].sum(), positive.sum()),
        "relevance_rank": top / size,
        "auroc": _slow_auroc(values, inside),
    }
    silent = THRESHOLDED if values.min() == values.max() else ()
    return scores | dict.fromkeys(silent, math.nan)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A map with ties, signs and zeros of both signs, and a mask, empty and full ones among them; rarely square."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(2, 9)))
    levels = st.sampled_from([-2.5, -1.0, -1e-30, -0.0, 0.0, 1e-30, 0.25, 0.5, 1.0, 3.0])
    values = st.one_of(levels, st.floats(-1e3, 1e3, width=32))
    maps = hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([levels, values])))
    return draw(maps), draw(hnp.arrays(bool, shape, fill=st.sampled_from([True, False])))


def has_steady_mean(one_map: np.ndarray) -> bool:
    """Whether the mean of a map is the same in any order of summation, up to a rounding that no score can show.

    Where a sum nearly cancels, a value of 1e-30 beside one of 3 decides whether 0 is above the mean, if it is not lost.
    """
    sizes = np.abs(one_map[one_map != 0].astype(float))
    cancels = abs(math.fsum(one_map.ravel().astype(float))) < 1e-9 * sizes.sum()
    return not cancels or bool(sizes.min() >= 1e-5 * sizes.max())


class TestAgainstTheSlowVersion:
    @settings(max_examples=150, deadline=None)
    @given(pairs())
    def test_all_ten(self, pair: tuple[np.ndarray, np.ndarray]) -> None:
        one_map, one_mask = pair
        assume(has_steady_mean(one_map))
        for name, expected in slow(one_map, one_mask).items():
            assert score(name, one_map, one_mask) == pytest.approx(expected, abs=1e-6, nan_ok=True), name

    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("levels", [3, 20, None])
    def test_a_batch_of_larger_maps(self, device: str, levels: int | None) -> None:
        generator = torch.Generator().manual_seed(1)
        maps = torch.randn(4, 30, 20, generator=generator)
        maps = maps if levels is None else (maps * levels / 4).round()
        masks = torch.rand(4, 30, 20, generator=generator) < 0.1
        found = scores(maps.to(device), masks.to(device))
        for row, expected in enumerate(slow(*pair) for pair in zip(maps.numpy(), masks.numpy(), strict=True)):
            expected["iou_best"] = _slow_curve(maps[row].numpy().ravel(), masks[row].numpy().ravel())
            for name in NAMES:
                assert found[name][row].tolist() == pytest.approx(expected[name], abs=1e-6), name

    def test_auroc_is_that_of_scikit_learn(self) -> None:
        generator = torch.Generator().manual_seed(2)
        maps = (torch.randn(6, 112, 112, generator=generator) * 10 ** torch.arange(6)[:, None, None]).round()
        masks = torch.rand(6, 112, 112, generator=generator) < torch.rand(6, 1, 1, generator=generator)
        expected = [roc_auc_score(mask.ravel(), m.ravel()) for mask, m in zip(masks.numpy(), maps.numpy(), strict=True)]
        assert scores(maps, masks)["auroc"].tolist() == pytest.approx(expected, abs=1e-7)

    @pytest.mark.parametrize("radius", [0.3, 1.0, 1.5, 2.0, 3.36, 5.0, 5.01, 20.0])
    def test_dilation(self, radius: float) -> None:
        masks = torch.rand(3, 13, 9, generator=torch.Generator().manual_seed(3)) < 0.03
        expected = [
            [[any(math.dist(p, q) < radius for q in mask.nonzero().tolist()) for p in row] for row in grid(9, 13)]
            for mask in masks
        ]
        assert dilate(masks, radius).tolist() == expected


def grid(width: int, height: int) -> list[list[tuple[int, int]]]:
    return [[(y, x) for x in range(width)] for y in range(height)]


class TestClosedForms:
    def test_iou_of_a_ramp_over_its_top_half(self) -> None:
        ramp = torch.linspace(0, 1, 10**6)[None]
        integral = 0.5 * math.log(2) + 0.25
        left_sum = integral + 0.01 / 2 * (0.5 - 0)  # half a step times what the curve falls by
        assert score("iou", ramp, ramp > 0.5) == pytest.approx(left_sum, abs=5e-5)

    def test_everything_but_one_pixel(self) -> None:
        one_map, one_mask = torch.ones(50, 50), torch.zeros(50, 50)
        one_map[0, 0], one_mask[10:20, 10:20] = 0, 1
        assert score("iou", one_map, one_mask) == pytest.approx(100 / 2499)

    def test_uniform_map(self) -> None:
        one_mask = torch.zeros(8, 10)
        one_mask[2:4, 3:8] = 1
        uniform = torch.full((8, 10), 0.7)
        for name in ("pointing", "pointing_tol", "relevance_mass", "relevance_rank"):
            assert score(name, uniform, one_mask) == pytest.approx(10 / 80), name
        assert score("iou_area", uniform, one_mask) == pytest.approx((1 / 8) / (2 - 1 / 8))
        assert score("auroc", uniform, one_mask) == 0.5
        for name in THRESHOLDED:
            assert math.isnan(score(name, uniform, one_mask)), name

    @pytest.mark.parametrize(("size", "radius"), [(100, 3), (500, 15), (112, 3.36)])
    def test_delta_map_hits_strictly_within_the_tolerance(self, size: int, radius: float) -> None:
        for down, right in [
            (0, 0),
            (1, 1),
            (2, 2),
            (0, 3),
            (3, 1),
            (3, 2),
            (0, 4),
            (9, 12),
            (0, 15),
            (10, 11),
            (0, 14),
        ]:
            one_map, one_mask = torch.zeros(2, size, size)
            one_map[20 + down, 20 + right], one_mask[20, 20] = 1, 1
            assert score("pointing_tol", one_map, one_mask) == (math.hypot(down, right) < radius)
            assert score("pointing", one_map, one_mask) == (down == right == 0)

    def test_tolerance_scales_with_the_longer_side(self) -> None:
        one_map, one_mask = torch.zeros(2, 10, 500)
        one_map[0, 0], one_mask[0, 14] = 1, 1
        assert score("pointing_tol", one_map, one_mask) == 1
        assert score("pointing_tol", one_map.T, one_mask.T) == 1

    def test_half_of_the_tied_maxima(self) -> None:
        assert score("pointing", [[1.0, 1, 0, 0]], [[1, 0, 0, 1]]) == 0.5

    def test_signs(self) -> None:
        one_map, one_mask = [[3.0, -2, 1, 0]], [[1, 1, 0, 0]]
        assert score("relevance_mass", one_map, one_mask) == 0.75
        assert score("energy_pointing", one_map, one_mask) == pytest.approx(5 / 10)
        assert score("relevance_rank", one_map, one_mask) == 0.5
        assert score("iou_area", one_map, one_mask) == pytest.approx(1 / 3)

    def test_all_negative_and_all_zero_maps_have_no_mass(self) -> None:
        for one_map in ([[-3.0, -1, -2]], [[0.0, 0, 0]]):
            assert math.isnan(score("relevance_mass", one_map, [[0, 1, 0]]))
        assert score("energy_pointing", [[-3.0, -1, -2]], [[0, 1, 0]]) == pytest.approx(2 / 3)

    def test_values_as_close_as_float32_allows_are_still_ranked(self) -> None:
        tiny = np.float32(1)
        close = np.array([[tiny, np.nextafter(tiny, np.float32(2)), -1e30, 1e-45, -1e-45, 0]], dtype=np.float32)
        assert score("auroc", close, [[0, 1, 0, 0, 0, 0]]) == 1
        assert score("auroc", close, [[0, 0, 0, 1, 0, 0]]) == pytest.approx(3 / 5)

    def test_thresholds_are_the_float32_of_hundredths(self) -> None:
        assert THRESHOLDS.tolist() == [float(np.float32(step / 100)) for step in range(100)]

    def test_a_value_on_a_threshold_is_not_above_it(self) -> None:
        steps = torch.cat([THRESHOLDS, torch.ones(1)])[None]
        curve = metrics["iou_best"].item.score(steps[None], case_of(torch.ones(1, 1, 101)))
        assert curve[0].tolist() == pytest.approx([(100 - step) / 101 for step in range(100)])


@pytest.mark.parametrize("shape", [(112, 112), (20, 31), (9, 4)])
def test_truth_itself_scores_exactly_one(shape: tuple[int, int]) -> None:
    masks = (
        torch.rand(5, *shape, generator=torch.Generator().manual_seed(4)) < torch.linspace(0.1, 0.9, 5)[:, None, None]
    )
    for name, found in scores(masks.float(), masks).items():
        assert (found == 1).all(), name


def test_evidence_by_absence_counts_like_evidence_by_presence() -> None:
    maps = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(5))
    masks = (maps > 0.6).to(torch.uint8)
    for one, two in zip(scores(maps, masks).values(), scores(maps, masks * 2).values(), strict=True):
        torch.testing.assert_close(one, two)


class TestBestThreshold:
    def test_one_for_the_whole_data_set(self) -> None:
        select = metrics["iou_best"].item.select
        curves = np.array([[0.9, 0.2, 0.0], [0.0, 0.8, 0.1], [np.nan] * 3, [0.1, 0.5, 0.2]])
        np.testing.assert_array_equal(select(curves), [0.2, 0.8, np.nan, 0.5])

    @pytest.mark.parametrize("rows", [0, 2])
    def test_without_a_defined_row(self, rows: int) -> None:
        assert np.isnan(metrics["iou_best"].item.select(np.full((rows, 100), np.nan))).all()


class TestUndefined:
    MAPS = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(6))

    @pytest.mark.parametrize("name", NAMES)
    def test_empty_mask(self, name: str) -> None:
        masks = torch.ones(3, 6, 7)
        masks[:, 0, 0] = 0
        masks[1] = 0
        found = scores(self.MAPS, masks)[name].view(3, -1).isnan()
        assert found.all(1).tolist() == found.any(1).tolist() == [False, True, False]

    @pytest.mark.parametrize("name", NAMES)
    def test_full_mask(self, name: str) -> None:
        assert math.isnan(score(name, self.MAPS[0], torch.ones(6, 7))) == (name == "auroc")

    @pytest.mark.parametrize("name", NAMES)
    def test_constant_maps(self, name: str) -> None:
        one_mask = torch.eye(6, 7)
        for value in (-1.0, 0.0, 0.1):
            found = score(name, torch.full((6, 7), value), one_mask)
            assert math.isnan(found) == (name in THRESHOLDED or (value <= 0 and name == "relevance_mass"))


class TestInvariance:
    @settings(max_examples=60, deadline=None)
    @given(pairs(), st.integers(-3, 3))
    def test_positive_scale(self, pair: tuple[np.ndarray, np.ndarray], power: int) -> None:
        one_map, one_mask = pair
        for name in NAMES:
            expected = score(name, one_map, one_mask)
            assert score(name, one_map * np.float32(2.0**power), one_mask) == pytest.approx(expected, nan_ok=True), name

    @settings(max_examples=60, deadline=None)
    @given(hnp.arrays(np.int8, (5, 6)), hnp.arrays(bool, (5, 6)), st.integers(-1000, 1000))
    def test_shift(self, one_map: np.ndarray, one_mask: np.ndarray, shift: int) -> None:
        for name in set(NAMES) - {"relevance_mass"}:
            moved = score(name, one_map.astype(np.float32) + np.float32(shift), one_mask)
            assert moved == pytest.approx(score(name, one_map, one_mask), nan_ok=True), name

    @settings(max_examples=40, deadline=None)
    @given(pairs(), st.randoms(use_true_random=False))
    def test_order_of_the_pixels(self, pair: tuple[np.ndarray, np.ndarray], random: object) -> None:
        one_map, one_mask = pair
        order = random.sample(range(one_map.size), one_map.size)
        moved = [array.ravel()[order].reshape(array.shape) for array in (one_map, one_mask)]
        for name in set(NAMES) - SPATIAL:
            assert score(name, *moved) == pytest.approx(score(name, one_map, one_mask), abs=1e-6, nan_ok=True), name

    @settings(max_examples=60, deadline=None)
    @given(pairs())
    def test_bounds(self, pair: tuple[np.ndarray, np.ndarray]) -> None:
        for name in NAMES:
            low, high = metrics[name].item.bounds
            assert (math.isnan(found := score(name, *pair))) or low <= found <= high, name

    def test_each_row_is_scored_as_if_alone(self) -> None:
        maps, masks = torch.randn(2, 9, 12, 15, generator=torch.Generator().manual_seed(7))
        together = scores(maps, masks > 1)
        for row in range(9):
            alone = scores(maps[row : row + 1], masks[row : row + 1] > 1)
            for name in NAMES:
                torch.testing.assert_close(together[name][row : row + 1], alone[name], rtol=0, atol=0)

    @pytest.mark.parametrize("name", NAMES)
    def test_alone_as_among_all(self, name: str) -> None:
        maps, masks = torch.randn(2, 4, 12, 15, generator=torch.Generator().manual_seed(8))
        alone = metrics[name].item.score(maps, case_of(masks > 1))
        torch.testing.assert_close(alone, scores(maps, masks > 1)[name], rtol=0, atol=0)
        assert alone.dtype == torch.float32

    def test_nothing_given_is_changed(self) -> None:
        maps, masks = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(9))
        masks = masks > 0
        before = maps.clone(), masks.clone()
        scores(maps.transpose(1, 2), masks.transpose(1, 2))
        assert torch.equal(maps, before[0])
        assert torch.equal(masks, before[1])


def test_one_sort_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts, sort = [], ranking.sort_pixels
    monkeypatch.setattr(ranking, "sort_pixels", lambda *rows: sorts.append(rows) or sort(*rows))
    maps = torch.rand(2, 6, 6)
    scores(maps - 0.5, maps > 0.5)
    assert len(sorts) == 1


@settings(max_examples=50, deadline=None)
@given(pairs())
def test_pixels_are_sorted_on_a_gpu_as_on_the_cpu(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ordered, hits = ranking._sort_on_device(*map(torch.from_numpy, pair))
    expected = sort_pixels(*pair)
    assert np.array_equal(ordered.numpy(), expected[0])
    assert np.array_equal(hits.numpy(), expected[1])


@settings(max_examples=50, deadline=None)
@given(pairs())
def test_mask_pixels_are_the_last_ones_among_equals(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for values, masks, ordered, hits in zip(*pair, *sort_pixels(*pair), strict=True):
        expected = sorted(zip(values.tolist(), masks.tolist(), strict=True))  # 0 and -0 are equal
        assert list(zip(ordered.tolist(), hits.tolist(), strict=True)) == expected
        assert not np.signbit(ordered[ordered == 0]).any()


@settings(max_examples=50, deadline=None)
@given(pairs())
def test_pairs_are_counted_one_by_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for values, masks, (not_less, equal) in zip(*pair, count_pairs(*sort_pixels(*pair)), strict=True):
        inside, outside = values[masks][:, None], values[~masks]
        assert (not_less, equal) == ((inside >= outside).sum(), (inside == outside).sum())


def test_values_of_all_sizes_are_sorted() -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2**32, (3, 5000), dtype=np.uint32).view(np.float32)
    values[np.isnan(values)] = np.inf
    values[0, :4] = [-np.inf, np.finfo(np.float32).tiny, -1e-45, 1e-45]
    ordered, hits = sort_pixels(values, values > 1)
    assert np.array_equal(ordered, np.sort(values, axis=1))
    assert np.array_equal(hits, ordered > 1)


# Chance: what noise really scores, beside what is expected of it


@cache
def noise(size: int, maps: int) -> SimpleNamespace:
    """Scores of uniform noise on one mask of `size` of 30 x 24 pixels, in a corner so that the border cuts."""
    mask = (torch.arange(720) < size).view(30, 24)
    generator = torch.Generator().manual_seed(size)
    found = scores(torch.rand(maps, 30, 24, generator=generator), mask.expand(maps, -1, -1))
    return SimpleNamespace(mask=mask[None], maps=maps, scores=found)


@pytest.mark.parametrize("size", [7, 40, 200, 650])
@pytest.mark.parametrize("name", NAMES)
def test_chance_is_what_noise_scores(name: str, size: int) -> None:
    seen = noise(size, 8000)
    expected, found = metrics[name].item.chance(seen.mask)[0].double(), seen.scores[name].double()
    error = found.std(0) / math.sqrt(seen.maps)
    assert ((found.mean(0) - expected).abs() <= 4.5 * error + 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_chance_of_undefined_rows_is_undefined(name: str) -> None:
    masks = torch.stack([torch.zeros(5, 6), torch.eye(5, 6), torch.ones(5, 6)])
    found = metrics[name].item.chance(masks).reshape(3, -1).isnan().all(1).tolist()
    assert found == [True, False, name == "auroc"]
