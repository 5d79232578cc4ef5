"""What a map of independent uniform noise is expected to score, from the masks alone.

Noise has no ties, and every set of pixels of one size is as likely as any other to be its brightest one: how many of
K bright pixels lie inside a mask of |G| among N pixels follows the hypergeometric law. Masks (B, H, W) are above 0 in G
and below 0 in pixels that are void, which are none of the N. Empty masks give NaN. The first paragraph of each function
is what the metric's card says.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .ranking import THRESHOLDS, dilate, tolerance

EULER = 0.57721566490153286  # the harmonic number of N is digamma(N + 1) + this


def area(masks: Tensor) -> Tensor:
    """exact: |G| / N, the mask's share of the image"""
    return (_size(masks) / _pixels(masks)).float()


def dilated_area(masks: Tensor) -> Tensor:
    """exact: the share of the image that lies within the tolerance of the mask"""
    near = (dilate(masks > 0, tolerance(masks)) & (masks >= 0)).flatten(1).sum(1)
    return torch.where(_size(masks).isnan(), torch.nan, near / _pixels(masks)).float()


def half(masks: Tensor) -> Tensor:
    """exact: 1/2

    Of two pixels of noise either is the larger as often as the other. NaN if the mask is empty or covers the image.
    """
    both = (masks > 0).flatten(1).any(1) & (masks == 0).flatten(1).any(1)
    return torch.where(both, 0.5, torch.nan)


def even(masks: Tensor) -> Tensor:
    """exact: 1/2, because noise is above its mean as often as below it"""
    return (_size(masks) * 0 + 0.5).float()


def average_precision(masks: Tensor) -> Tensor:
    """exact: (H + (|G| - 1) (N - H) / (N - 1)) / N, where H = 1 + 1/2 + ... + 1/N

    Source: Bestgen: Exact Expected Average Precision of the Random Baseline for System Evaluation, PBML 103 (2015).
    """
    pixels = _pixels(masks)
    harmonic = torch.digamma(pixels + 1) + EULER
    return ((harmonic + (_size(masks) - 1) * (pixels - harmonic) / (pixels - 1).clamp(min=1)) / pixels).float()


def soft_f1(masks: Tensor) -> Tensor:
    """analytic, to second order in 1 / N: by mean and variance of the sums of range-normalised noise in G and over all

    One pixel is exactly 0, one exactly 1 and N - 2 are uniform between them; every pixel is any of these alike.
    """
    pixels, size = _pixels(masks), _size(masks)
    inside, both = size / 2, size + pixels / 2
    variance = (pixels - 2) / 12  # of the sum over all pixels; its covariance with that in G is |G| / N of it
    return (2 * (inside / both - variance * size / pixels / both**2 + inside * variance / both**3)).float()


def miou(masks: Tensor) -> Tensor:
    """analytic, to second order in 1 / N: the mean of what both classes score, K having mean N / 2, variance N / 12"""
    background = iou_above_mean(torch.where(masks < 0, -1, (masks == 0).to(torch.int8))).nan_to_num(0)
    return (iou_above_mean(masks) + background) / 2


def areas(masks: Tensor) -> Tensor:
    """exact: half of each class is found, and half of the rest of the image is taken for it

    Intersection and union of foreground and background, (B, 4) float32.
    """
    pixels, size = _pixels(masks), _size(masks)
    rest = pixels - size
    return (torch.stack([size, pixels + size, rest, pixels + rest], 1) / 2).float()


def iou_curve(masks: Tensor) -> Tensor:
    """analytic per threshold t, to second order in 1 / N: K = 1 + Binomial(N - 2, 1 - t) pixels lie above t

    After range normalisation one pixel is exactly 0, one exactly 1 and N - 2 are uniform between them. (B, T) float32.
    """
    inner, t = _pixels(masks)[:, None] - 2, THRESHOLDS.to(masks.device, torch.float64)
    return _expected_iou(masks, 1 + inner * (1 - t), inner * t * (1 - t)).float()


def iou(masks: Tensor) -> Tensor:
    """analytic, to second order in 1 / N: the mean over t with K = 1 + Binomial(N - 2, 1 - t) pixels above t"""
    return iou_curve(masks).mean(1)


def iou_above_mean(masks: Tensor) -> Tensor:
    """analytic, to second order in 1 / N: K has the mean N / 2 and the variance N / 12

    The variance of a count above a fixed threshold, N / 4, shrinks because the mean of a map moves with its pixels.
    """
    pixels = _pixels(masks)[:, None]
    return _expected_iou(masks, pixels / 2, pixels / 12).squeeze(1).float()


def iou_same_area(masks: Tensor) -> Tensor:
    """exact: the mean of I / (2 |G| - I) over the hypergeometric law of the overlap I of two areas |G|"""
    pairs = [(int(n), size) for n, size in zip(_pixels(masks), (masks > 0).flatten(1).sum(1).tolist(), strict=True)]
    expected = {pair: _same_area(*pair) for pair in set(pairs)}
    return torch.tensor([expected[pair] for pair in pairs], dtype=torch.float32, device=masks.device)


def _same_area(pixels: int, size: int) -> float:
    if size == 0:
        return float("nan")
    overlap = torch.arange(max(0, 2 * size - pixels), size + 1, dtype=torch.float64)
    law = _log_choose(size, overlap) + _log_choose(pixels - size, size - overlap)
    law -= _log_choose(pixels, torch.tensor(size, dtype=torch.float64))
    return float((law.exp() * overlap / (2 * size - overlap)).sum())


def _log_choose(many: int, few: Tensor) -> Tensor:
    """The logarithm of the binomial coefficient."""
    return math.lgamma(many + 1) - torch.lgamma(few + 1) - torch.lgamma(many - few + 1)


def _size(masks: Tensor) -> Tensor:
    """Mask pixels (B,) float64; NaN where there are none, which then runs through all that is computed from it."""
    size = (masks > 0).flatten(1).sum(1).double()
    return size.where(size > 0, torch.nan)


def _pixels(masks: Tensor) -> Tensor:
    """How many pixels count, (B,) float64."""
    return (masks >= 0).flatten(1).sum(1).double()


def _expected_iou(masks: Tensor, counts: Tensor, variances: Tensor) -> Tensor:
    """Mean of I / (K + |G| - I) for K bright pixels of given mean and variance (B, T): (B, T) float64.

    The ratio is expanded to second order around the means of K and I (the delta method): with a mask of a hundred
    pixels the plain ratio of the means is already off by half a percent.
    """
    pixels, size = _pixels(masks)[:, None], _size(masks)[:, None]
    density = size / pixels
    inside = counts * density
    both, union = counts + size, counts + size - inside
    spread = (counts * (pixels - counts) - variances) * density * (1 - density) / (pixels - 1)  # of I, K being given
    bend = both * (spread + density**2 * variances) - (both + inside) * density * variances + inside * variances
    return inside / union + bend / union**3
