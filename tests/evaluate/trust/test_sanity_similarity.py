"""Similarities of maps: equal to those of SciPy and scikit-image, and to closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from skimage.feature import hog
from skimage.metrics import structural_similarity
from torch import Tensor

from an8flower.evaluate.trust.sanity.compiled_similarity import rank_rows, sum_gradients
from an8flower.evaluate.trust.sanity.similarity import (
    BINS,
    SIMILARITIES,
    ComparedMaps,
    entropies,
    histograms,
    oriented_gradients,
    similarities,
)

SIZES = [(42, 42), (50, 64), (23, 31)]


def some_maps(size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth, noisy, tied, sparse and nearly equal maps, in pairs."""
    source = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.randn(5, 1, 6, 6, generator=source), size, mode="bilinear")[:, 0]
    noise = torch.randn(5, *size, generator=source)
    noise[1] = (noise[1] * 2).round()
    noise[2] = noise[2].clamp(min=0)
    noise[3] = smooth[3] + 0.1 * noise[3]
    return smooth, noise


def scaled(one: np.ndarray) -> np.ndarray:
    wide = one.astype(np.float64)
    return (wide - wide.min()) / (wide.max() - wide.min())


@pytest.mark.parametrize("size", SIZES)
def test_similarities_are_those_of_scipy_and_scikit_image(size: tuple[int, int]) -> None:
    ours, theirs = some_maps(size)
    found = similarities(ComparedMaps(ours), ComparedMaps(theirs))
    cell = min(16, min(size) // 3)
    for row, (one, other) in enumerate(zip(ours.numpy(), theirs.numpy(), strict=True)):
        assert found["spearman"][row] == pytest.approx(spearmanr(one.ravel(), other.ravel())[0], abs=1e-12)
        magnitude = spearmanr(np.abs(one).ravel(), np.abs(other).ravel())[0]
        assert found["spearman_abs"][row] == pytest.approx(magnitude, abs=1e-12)
        like = structural_similarity(scaled(one), scaled(other), gaussian_weights=True, data_range=1)
        assert found["ssim"][row] == pytest.approx(like, abs=1e-9)
        described = [hog(scaled(each), pixels_per_cell=(cell, cell)) for each in (one, other)]
        # scikit-image sums in single precision: values that are nearly equal may change ranks
        assert found["hog"][row] == pytest.approx(spearmanr(*described)[0], abs=2e-3)


@pytest.mark.parametrize("size", SIZES)
def test_oriented_gradients_are_those_of_scikit_image(size: tuple[int, int]) -> None:
    cell = min(16, min(size) // 3)
    images = np.stack([scaled(one) for one in torch.cat(some_maps(size)).numpy()])
    expected = [hog(image, pixels_per_cell=(cell, cell)) for image in images]
    np.testing.assert_allclose(oriented_gradients(images), expected, atol=1e-6)


@given(st.lists(st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=4))
def test_equal_values_share_their_ranks(values: list[list[int]]) -> None:
    table = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(rank_rows(table), rankdata(table, axis=1) - 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=40))
def test_floats_of_any_size_and_sign_are_ranked_as_by_scipy(dtype: type, values: list[float]) -> None:
    table = np.array([[*values, 0.0, -0.0]], dtype=dtype)
    np.testing.assert_array_equal(rank_rows(table), rankdata(table, axis=1) - 1)


def sum_slowly(image: np.ndarray, cell: int, orientations: int) -> np.ndarray:
    """Each pixel by itself, its direction by the arc tangent."""
    height, width = image.shape
    sums = np.zeros((height // cell, width // cell, orientations))
    for line in range(height // cell * cell):
        for column in range(width // cell * cell):
            down = image[line + 1, column] - image[line - 1, column] if 0 < line < height - 1 else 0
            right = image[line, column + 1] - image[line, column - 1] if 0 < column < width - 1 else 0
            turn = math.atan2(down, right) / math.pi % 1
            sums[line // cell, column // cell, int(turn * orientations)] += math.hypot(down, right)
    return sums


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([(9, 11), (12, 12), (14, 10)]))
def test_gradients_are_summed_as_by_a_loop_over_pixels(seed: int, levels: int, size: tuple[int, int]) -> None:
    image = np.random.default_rng(seed).integers(0, levels + 1, size) / levels  # many equal and level gradients
    np.testing.assert_allclose(sum_gradients(image[None], 3, 9)[0], sum_slowly(image, 3, 9), atol=1e-12)


def test_a_map_is_like_itself_and_unlike_its_negative() -> None:
    maps, _ = some_maps((42, 42))
    assert all(
        values == pytest.approx(np.ones(5)) for values in similarities(ComparedMaps(maps), ComparedMaps(maps)).values()
    )
    turned = similarities(ComparedMaps(maps), ComparedMaps(-maps))
    assert turned["spearman"] == pytest.approx(-np.ones(5))
    assert turned["spearman_abs"] == pytest.approx(np.ones(5))


@given(scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_scale_does_not_matter_and_shift_only_to_absolute_values(scale: float, shift: float) -> None:
    ours, theirs = some_maps((33, 33))
    before = similarities(ComparedMaps(ours), ComparedMaps(theirs))
    after = similarities(ComparedMaps(ours.double() * scale + shift), ComparedMaps(theirs))
    for name in set(SIMILARITIES) - {"spearman_abs"}:
        assert after[name] == pytest.approx(before[name], abs=1e-2 if name == "hog" else 1e-5)


def test_a_row_does_not_depend_on_the_others() -> None:
    ours, theirs = some_maps((42, 42))
    whole = similarities(ComparedMaps(ours), ComparedMaps(theirs))
    for row in range(5):
        alone = similarities(ComparedMaps(ours[row : row + 1]), ComparedMaps(theirs[row : row + 1]))
        assert all(alone[name][0] == pytest.approx(whole[name][row], abs=1e-12) for name in SIMILARITIES)


def test_picked_maps_keep_what_is_computed() -> None:
    ours, theirs = ComparedMaps(some_maps((42, 42))[0]), ComparedMaps(some_maps((42, 42))[1])
    similarities(ours, theirs)
    order = np.array([3, 0, 4])
    fresh = similarities(ComparedMaps(torch.from_numpy(ours.maps[order])), theirs.pick(order))
    kept = similarities(ours.pick(order), theirs.pick(order))
    assert all(kept[name] == pytest.approx(fresh[name], abs=1e-12) for name in SIMILARITIES)


@pytest.mark.parametrize("value", [0.0, 0.3, -2.0])
def test_constant_maps_are_like_nothing(value: float) -> None:
    ours, theirs = some_maps((42, 42))
    theirs[2] = value
    for one, other in ((ours, theirs), (theirs, ours)):
        for values in similarities(ComparedMaps(one), ComparedMaps(other)).values():
            np.testing.assert_array_equal(np.isnan(values), [False, False, True, False, False])


def test_maps_too_small_for_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 10 pixels"):
        ComparedMaps(torch.zeros(1, 10, 20))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_histograms_are_those_of_numpy(values: list[float]) -> None:
    row = np.concatenate([values, np.linspace(0, 1, BINS + 1), np.nextafter(np.linspace(0, 1, BINS + 1), 0)])
    np.testing.assert_array_equal(histograms(row[None])[0], np.histogram(row, BINS, (0, 1))[0])


def test_entropy_of_a_uniform_histogram_is_that_of_its_bins() -> None:
    ramp = torch.arange(1600.0).view(1, 40, 40)
    constant = torch.full((1, 40, 40), 0.7)
    halves = (ramp > 799).float()
    found = entropies(ComparedMaps(torch.cat([ramp, -3 * ramp, constant, halves])))
    assert found == pytest.approx([math.log(100), math.log(100), 0, math.log(2)])
