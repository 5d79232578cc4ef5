"""The box metrics against closed forms, SciPy's labels threshold by threshold, and torchvision's crops."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as vision

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.boxes import crop, tight_boxes
from an8flower.evaluate.metrics.components import best_overlaps, largest_boxes
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.metrics.ranking import THRESHOLDS
from an8flower.evaluate.models.classifier import Classifier, wrap

NAMES = ("le", "le:overlap=hard", "om", "om:overlap=hard", "sm", "box_accuracy", "box_accuracy:components=all")
LOWER = {"le", "le:overlap=hard", "om", "om:overlap=hard"}
FLOOR = math.log(0.05)


class Colour(nn.Module):
    """Two classes, told apart by how red an image is in the mean; it counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = nn.Identity(), 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        red = self.layer(images)[:, 0].mean((1, 2))
        return torch.stack([red, 1 - red], 1) * 3


@cache
def colour() -> Classifier:
    return wrap(Colour(), "ab", 8, "layer", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def case_of(masks: Tensor, *, images: Tensor | None = None, labels: Tensor | None = None) -> Case:
    """A case of a model that calls every image without red the class 1."""
    masks, rows = torch.as_tensor(masks), torch.arange(len(masks))
    images = torch.zeros(len(masks), 3, *masks.shape[1:]) if images is None else images
    labels = torch.ones(len(masks), dtype=torch.int64) if labels is None else labels
    return Case(colour(), Query(images, labels, rows), Truth(rows, labels, masks.to(torch.uint8), None))


def scores(maps: Tensor, case: Case) -> dict[str, Tensor]:
    with torch.no_grad():
        return score_all([parse_metric(name) for name in NAMES], maps.float(), case)


def score(name: str, one_map: object, one_mask: object, **case: Tensor) -> float:
    """One metric of one map, the best threshold being that of this one row."""
    metric = parse_metric(name)
    maps, masks = torch.as_tensor(np.asarray(one_map)).float()[None], torch.as_tensor(np.asarray(one_mask))[None]
    with torch.no_grad():
        found = metric.score(maps, case_of(masks, **case))
    return float(metric.select(found.numpy())[0]) if metric.select else float(found[0])


def rectangle(top: int, left: int, bottom: int, right: int, size: int = 8) -> np.ndarray:
    filled = np.zeros((size, size), bool)
    filled[top:bottom, left:right] = True
    return filled


# The slow second version: a label of every threshold


def _boxes(above: np.ndarray) -> list[tuple[int, tuple[int, ...]]]:
    """Size and box of every component."""
    labels, count = ndimage.label(above)
    slices = ndimage.find_objects(labels)
    sizes = [int((labels == number + 1).sum()) for number in range(count)]
    return [(n, (y.start, x.start, y.stop, x.stop)) for n, (y, x) in zip(sizes, slices, strict=True)]


def slow_largest(above: np.ndarray) -> tuple[int, ...]:
    found = _boxes(above)
    tied = [box for size, box in found if size == max(size for size, _ in found)]
    return tuple(np.array(tied)[:, :2].min(0)) + tuple(np.array(tied)[:, 2:].max(0)) if tied else (0, 0, 0, 0)


def slow_iou(one: tuple[int, ...], other: tuple[int, ...], size: int = 64) -> float:
    drawn = [rectangle(*box, size=size) for box in (one, other)]
    return (drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum()


def slow_tight(mask: np.ndarray) -> tuple[int, ...]:
    down, right = np.nonzero(mask)
    return down.min(), right.min(), down.max() + 1, right.max() + 1


def slow_error(one_map: np.ndarray, one_mask: np.ndarray) -> float:
    if one_map.min() == one_map.max():
        return math.nan
    exact = one_map.astype(float)
    return 1 - slow_iou(slow_largest(exact > math.fsum(exact.ravel()) / exact.size), slow_tight(one_mask))


def slow_overlaps(one_map: np.ndarray, one_mask: np.ndarray, components: str) -> list[float]:
    """IoU at each threshold."""
    low, high = one_map.min(), one_map.max()
    ranged = (one_map - low) / (high - low) if high > low else np.zeros_like(one_map)
    truth = slow_tight(one_mask)
    if components == "largest":
        return [slow_iou(slow_largest(ranged > cut), truth) for cut in THRESHOLDS.numpy()]
    boxes = [[box for _, box in _boxes(ranged > cut)] for cut in THRESHOLDS.numpy()]
    return [max((slow_iou(box, truth) for box in each), default=0.0) for each in boxes]


LEVELS = st.sampled_from([-2.5, -1.0, -1e-30, -0.0, 0.0, 0.25, 0.5, 1.0, 3.0])
VALUES = st.one_of(LEVELS, st.floats(-1e3, 1e3, width=32, allow_subnormal=False))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A map with ties and signs, and a mask that is not empty."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(2, 9)))
    one_map = draw(hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([LEVELS, VALUES]))))
    one_mask = draw(hnp.arrays(bool, shape))
    one_mask[draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))] = True
    return one_map, one_mask


class TestComponents:
    @settings(max_examples=200, deadline=None)
    @given(hnp.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)))
    def test_every_threshold_is_that_of_scipy(self, levels: np.ndarray) -> None:
        truth = (1, 1, 3, 5)
        found = largest_boxes(levels[None], 4)[0]
        overlaps = best_overlaps(levels[None], 4, np.array([truth]))[0]
        for cut in range(4):
            above = levels > cut
            assert tuple(found[cut]) == slow_largest(above)
            expected = max((slow_iou(box, truth) for _, box in _boxes(above)), default=0)
            assert overlaps[cut] == pytest.approx(expected)

    @pytest.mark.parametrize("scale", [1, 5])
    def test_maps_of_many_pixels(self, scale: int) -> None:
        coarse = torch.rand(3, 1, 40 // scale, 30 // scale, generator=torch.Generator().manual_seed(1))
        maps = nn.functional.interpolate(coarse, (40, 30), mode="bilinear")[:, 0].numpy()
        levels = np.searchsorted(THRESHOLDS.numpy(), maps)
        found = largest_boxes(levels, 100)
        for row in range(3):
            assert [tuple(box) for box in found[row]] == [slow_largest(maps[row] > cut) for cut in THRESHOLDS.numpy()]

    def test_a_spiral_is_one_component(self) -> None:
        spiral = np.array(
            [list("######"), list(".....#"), list("####.#"), list("#..#.#"), list("#....#"), list("######")]
        )
        assert largest_boxes((spiral == "#").astype(np.int64)[None], 1).tolist() == [[[0, 0, 6, 6]]]

    def test_neighbours_share_a_side(self) -> None:
        assert largest_boxes(np.array([[[1, 0, 0], [0, 1, 1]]]), 1).tolist() == [[[1, 1, 2, 3]]]


def test_tight_boxes_are_those_of_scipy() -> None:
    masks = torch.rand(40, 7, 9, generator=torch.Generator().manual_seed(2)) < 0.05
    masks[0] = False
    expected = [slow_tight(mask) if mask.any() else (0, 0, 0, 0) for mask in masks.numpy()]
    assert [tuple(box) for box in tight_boxes(masks).tolist()] == [tuple(map(int, box)) for box in expected]


class TestAgainstTheSlowVersion:
    @settings(max_examples=80, deadline=None)
    @given(pairs())
    def test_le_and_om(self, pair: tuple[np.ndarray, np.ndarray]) -> None:
        expected = slow_error(*pair)
        hard = math.nan if math.isnan(expected) else float(expected >= 0.5)
        for options, wanted in (("", expected), ("overlap=hard,", hard)):
            both = [score(f"{name}:{options}truth=mask", *pair) for name in ("le", "om")]
            assert both == pytest.approx([wanted] * 2, nan_ok=True)

    @settings(max_examples=25, deadline=None)
    @given(pairs(), st.sampled_from(["largest", "all"]))
    def test_box_accuracy(self, pair: tuple[np.ndarray, np.ndarray], components: str) -> None:
        overlaps = np.array(slow_overlaps(*pair, components))
        expected = np.mean([(overlaps >= delta).any() for delta in (0.3, 0.5, 0.7)])
        if pair[0].min() == pair[0].max():
            expected = np.nan
        value = score(f"box_accuracy:truth=mask,components={components}", *pair)
        assert value == pytest.approx(expected, nan_ok=True)

    @settings(max_examples=30, deadline=None)
    @given(hnp.arrays(np.float32, (8, 8), elements=VALUES), hnp.arrays(np.float32, (3, 8, 8), elements=st.floats(0, 1)))
    def test_sm(self, one_map: np.ndarray, image: np.ndarray) -> None:
        found = score("sm", one_map, np.eye(8), images=torch.from_numpy(image.astype(np.float32))[None])
        exact = one_map.astype(float)
        box = slow_largest(exact > math.fsum(exact.ravel()) / exact.size)
        top, left, bottom, right = map(int, box)
        if not bottom:
            assert math.isnan(found)
            return
        resized = vision.resized_crop(
            torch.from_numpy(image.astype(np.float32)), top, left, bottom - top, right - left, [8, 8], antialias=True
        )
        logits = Colour()(resized[None]).double()[0]
        area = (bottom - top) * (right - left) / 64
        assert found == pytest.approx(float(math.log(max(area, 0.05)) + logits.logsumexp(0) - logits[1]), abs=1e-5)


class TestClosedForms:
    MASK = rectangle(2, 1, 6, 5)

    def test_the_rectangle_itself(self) -> None:
        for name in LOWER:
            assert score(name, self.MASK, self.MASK) == 0
        assert score("box_accuracy", self.MASK, self.MASK) == 1

    def test_half_of_it(self) -> None:
        half = rectangle(2, 1, 6, 3)
        assert score("le", half, self.MASK) == score("om", half, self.MASK) == 0.5
        assert score("le:overlap=hard", half, self.MASK) == 1  # 0.5 is not above 0.5
        assert score("box_accuracy", half, self.MASK) == pytest.approx(2 / 3)
        assert score("box_accuracy:deltas=0.5", half, self.MASK) == 1
        assert score("box_accuracy:deltas=0.51", half, self.MASK) == 0

    def test_a_wrong_prediction_loses_om_alone(self) -> None:
        wrong = {"labels": torch.zeros(1, dtype=torch.int64)}
        assert (
            score("om", self.MASK, self.MASK, **wrong) == score("om:overlap=hard", self.MASK, self.MASK, **wrong) == 1
        )
        assert score("le", self.MASK, self.MASK, **wrong) == 0

    def test_right_is_who_predicts_the_label_whatever_was_asked_for(self) -> None:
        case = case_of(torch.from_numpy(self.MASK)[None])
        asked = case._replace(query=case.query._replace(targets=torch.zeros(1, dtype=torch.int64)))
        assert scores(torch.from_numpy(self.MASK)[None], asked)["om"].tolist() == [0]

    def test_the_larger_of_two_pieces(self) -> None:
        right = rectangle(1, 6, 8, 8) | rectangle(7, 6, 8, 8)
        small = rectangle(0, 6, 2, 8)
        assert score("le", self.MASK | small, self.MASK) == 0
        assert score("le", self.MASK | right, right) == 1
        assert score("box_accuracy", self.MASK + 2 * small, self.MASK) == 1
        assert score("box_accuracy", 2 * self.MASK + 2 * small, small) == 0
        assert score("box_accuracy:components=all", 2 * self.MASK + 2 * small, small) == 1

    def test_the_box_around_pieces_of_one_size(self) -> None:
        two = rectangle(0, 0, 2, 2) | rectangle(6, 6, 8, 8)
        whole = np.ones((8, 8), bool)
        assert score("le", two, whole) == score("le", two[::-1].copy(), whole) == 0

    def test_sm_of_a_box_around_everything(self) -> None:
        frame = ~rectangle(1, 1, 7, 7)
        image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
        expected = -Colour()(image).log_softmax(1)[0, 1]
        assert score("sm", frame, self.MASK, images=image) == pytest.approx(float(expected), abs=1e-6)

    def test_sm_of_small_boxes_is_bounded_by_the_floor(self) -> None:
        sure = -torch.tensor([0.0, 3.0]).log_softmax(0)[1]
        assert score("sm", rectangle(3, 3, 4, 4), self.MASK) == pytest.approx(float(FLOOR + sure), abs=1e-6)
        assert score("sm", rectangle(2, 2, 4, 4), self.MASK) == pytest.approx(float(math.log(4 / 64) + sure), abs=1e-6)

    def test_a_crop_of_the_whole_image_is_the_image(self) -> None:
        image = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(4))
        torch.testing.assert_close(crop(image, torch.tensor([0, 0, 9, 7]))[0], image, rtol=0, atol=1e-6)


class TestBestThresholds:
    def test_one_for_all_rows_and_each_delta(self) -> None:
        """A row fits at t below 0.5, the other one above; by delta, more rows or fewer do so."""
        broad, narrow = rectangle(1, 1, 7, 7), rectangle(2, 2, 6, 6)
        maps = np.stack([broad * 0.5 + narrow * 0.5] * 3)
        masks = np.stack([narrow, broad, broad])
        metric = parse_metric("box_accuracy:deltas=0.4/1.0")
        values = metric.select(metric.score(torch.tensor(maps).float(), case_of(torch.tensor(masks))).numpy())
        assert values.tolist() == [0.5, 1, 1]  # at 0.4 all of them, whatever t; at 1.0 the last two, at a t below 0.5

    def test_rows_without_a_mask_stay_without_a_value(self) -> None:
        metric = parse_metric("box_accuracy")
        masks = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
        values = metric.select(metric.score(torch.rand(2, 8, 8), case_of(masks)).numpy())
        assert np.isnan(values).tolist() == [True, False]

    @pytest.mark.parametrize("rows", [0, 2])
    def test_without_a_defined_row(self, rows: int) -> None:
        assert np.isnan(parse_metric("box_accuracy").select(np.full((rows, 300), np.nan))).all()


class TestUndefinedAndConstant:
    def test_empty_masks_have_no_value_but_sm(self) -> None:
        masks = torch.stack([torch.zeros(8, 8), torch.eye(8)])
        for name, found in scores(
            torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(5)), case_of(masks)
        ).items():
            assert found.view(2, -1).isnan().any(1).tolist() == [name != "sm", False], name

    @pytest.mark.parametrize("value", [-1.0, 0.0, 0.1])
    def test_constant_maps_have_no_box(self, value: float) -> None:
        for name, values in scores(torch.full((1, 8, 8), value), case_of(torch.eye(8)[None])).items():
            assert values.isnan().all(), name

    def test_negative_maps_are_read_as_they_are(self) -> None:
        mask = rectangle(2, 1, 6, 5)
        for name in LOWER:
            assert score(name, mask - 5.0, mask) == 0
        assert score("box_accuracy", mask - 5.0, mask) == 1


class TestTheModel:
    def test_is_asked_once_for_each_image_and_each_crop(self) -> None:
        case = case_of(torch.eye(8).expand(5, 8, 8))
        maps = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(6))
        case.classifier.network.seen = 0
        scores(maps, case)
        assert case.classifier.network.seen == 10
        case.classifier.network.seen = 0
        with torch.no_grad():
            score_all([parse_metric("om"), parse_metric("om:overlap=hard")], maps, case)
        assert case.classifier.network.seen == 5

    def test_is_never_given_more_than_it_may_hold(self) -> None:
        case = case_of(torch.eye(8).expand(5, 8, 8))
        maps = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(7))
        together, sizes = scores(maps, case), []
        handle = case.classifier.network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
        with case.classifier.holding(2):
            apart = scores(maps, case)
        handle.remove()
        assert max(sizes) == 2
        for name in NAMES:
            torch.testing.assert_close(apart[name], together[name], rtol=1e-6, atol=1e-6)

    def test_is_not_asked_by_the_others(self) -> None:
        case = case_of(torch.eye(8)[None])._replace(classifier=None)
        for name in ("le", "box_accuracy"):
            assert parse_metric(name).score(torch.rand(1, 8, 8), case).isfinite().all()


class TestInvariance:
    @settings(max_examples=60, deadline=None)
    @given(pairs(), st.integers(-3, 3))
    def test_positive_scale(self, pair: tuple[np.ndarray, np.ndarray], power: int) -> None:
        for name in ("le", "box_accuracy"):
            scaled = score(name, pair[0] * np.float32(2.0**power), pair[1])
            assert scaled == pytest.approx(score(name, *pair), nan_ok=True), name

    @settings(max_examples=60, deadline=None)
    @given(hnp.arrays(np.int8, (5, 6)), hnp.arrays(bool, (5, 6)).filter(np.any), st.integers(-1000, 1000))
    def test_shift_and_mirror(self, one_map: np.ndarray, one_mask: np.ndarray, shift: int) -> None:
        one_map = one_map.astype(np.float32)
        for name in ("le", "box_accuracy", "box_accuracy:components=all"):
            expected = score(name, one_map, one_mask)
            assert score(name, one_map + np.float32(shift), one_mask) == pytest.approx(expected, nan_ok=True)
            for turned in (np.flipud, np.fliplr, np.transpose):
                moved = score(name, np.ascontiguousarray(turned(one_map)), np.ascontiguousarray(turned(one_mask)))
                assert moved == pytest.approx(expected, nan_ok=True)

    @settings(max_examples=60, deadline=None)
    @given(hnp.arrays(np.float32, (8, 8), elements=VALUES), hnp.arrays(bool, (8, 8)))
    def test_bounds(self, one_map: np.ndarray, one_mask: np.ndarray) -> None:
        for name in NAMES:
            low, high = parse_metric(name).bounds
            assert math.isnan(found := score(name, one_map, one_mask)) or low - 1e-6 <= found <= high, name

    def test_each_row_is_scored_as_if_alone(self) -> None:
        generator = torch.Generator().manual_seed(8)
        maps, masks = torch.randn(2, 6, 8, 8, generator=generator)
        images = torch.rand(6, 3, 8, 8, generator=generator)
        together = scores(maps, case_of(masks > 0, images=images))
        for row in range(6):
            one = slice(row, row + 1)
            for name, found in scores(maps[one], case_of(masks[one] > 0, images=images[one])).items():
                torch.testing.assert_close(found, together[name][one], rtol=1e-6, atol=1e-6)

    def test_nothing_given_is_changed(self) -> None:
        maps, masks = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(9))
        before, case = maps.clone(), case_of(masks > 0)
        scores(maps.transpose(1, 2), case)
        assert torch.equal(maps, before)
        assert torch.equal(case.truth.masks, (masks > 0).to(torch.uint8))


class TestTruthInPieces:
    """Two pieces, of 16 and of 4 pixels."""

    LARGE, SMALL = rectangle(2, 1, 6, 5), rectangle(0, 6, 2, 8)

    @pytest.mark.parametrize("components", ["largest", "all"])
    def test_whole_and_largest_piece_are_both_right(self, components: str) -> None:
        mask, whole = self.LARGE | self.SMALL, rectangle(0, 1, 6, 8)
        for name in ("le", "om", "le:overlap=hard"):
            assert score(name, mask, mask) == score(name, whole, mask) == score(name, self.LARGE, mask) == 0
            assert score(name, self.SMALL, mask) > 0.5
        name = f"box_accuracy:components={components}"
        assert score(name, mask, mask) == score(name, whole, mask) == 1
        assert score(name, self.SMALL, mask) == 0

    def test_by_itself_only_the_whole_is_right(self) -> None:
        mask, whole = self.LARGE | self.SMALL, rectangle(0, 1, 6, 8)
        assert score("le:truth=mask", mask, mask) == score("om:truth=mask", mask, mask) == pytest.approx(1 - 16 / 42)
        assert score("le:truth=mask", whole, mask) == 0

    @settings(max_examples=40, deadline=None)
    @given(hnp.arrays(bool, (6, 7)).filter(lambda mask: mask.any() and not mask.all()))
    def test_any_truth_scores_the_best_value(self, mask: np.ndarray) -> None:
        assert score("le", mask, mask) == score("om:overlap=hard", mask, mask) == 0
        assert score("box_accuracy", mask, mask) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_truth_in_one_piece_scores_the_best_value(seed: int) -> None:
    source = np.random.default_rng(seed)
    pieces = [rectangle(*source.integers(0, 4, 2), *source.integers(5, 8, 2)) for _ in range(3)]  # all hold (4, 4)
    mask = pieces[0] | pieces[1] | pieces[2]
    found = scores(torch.from_numpy(mask)[None], case_of(torch.from_numpy(mask)[None]))
    assert all(found[name][0] == 0 for name in LOWER)
    assert found["box_accuracy"].eq(1).all()


@pytest.mark.parametrize(
    "text",
    [
        "le:overlap=medium",
        "om:overlap=Hard",
        "box_accuracy:components=some",
        "box_accuracy:deltas=0.5/x",
        "box_accuracy:deltas=",
        "box_accuracy:deltas=0/0.5",
        "box_accuracy:deltas=1.5",
        "sm:overlap=hard",
        "le:truth=pices",
        "box_accuracy:truth=all",
    ],
)
def test_options_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(WrongUsage):
        parse_metric(text)


def test_a_hit_at_a_small_delta_is_no_less_likely() -> None:
    maps = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(10))
    case = case_of(torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(11)) < 0.2)
    hits = parse_metric("box_accuracy").score(maps, case).view(4, 3, 100)
    assert (hits[:, 0] >= hits[:, 1]).all()
    assert (hits[:, 1] >= hits[:, 2]).all()
