"""How few pixels does a map need? Neither the model nor the truth is asked: a small map may be wrong.

|M| are the magnitudes of a map's values, N is their number. The docstring of each function is the definition on its
card.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..case import Truth
from ..registry import register_metric
from .metric import Metric, Reading, sentence


def sparseness_of_noise(masks: Tensor) -> Tensor:
    """analytic, to second order in 1 / N: (N - 1) / (3 N) (1 + 1 / (3 N))"""
    pixels = masks[0].numel()
    return fill(masks, (pixels - 1) / (3 * pixels) * (1 + 1 / (3 * pixels)))


def complexity_of_noise(masks: Tensor) -> Tensor:
    """analytic, to second order in 1 / N: log(N / 2) + 1 / 2 + 1 / (18 N)"""
    pixels = masks[0].numel()
    return fill(masks, math.log(pixels / 2) + 0.5 + 1 / (18 * pixels))


def fill(masks: Tensor, value: float) -> Tensor:
    """The same value for each of the masks (B, H, W): (B,) float32."""
    return torch.full((len(masks),), value, device=masks.device)


def magnitudes(maps: Tensor, truth: Truth) -> Tensor:
    """The magnitudes |M| as shares of their largest: (B, N) float64, NaN where the map is zero everywhere."""
    values = maps.flatten(1).double().abs()
    return values / values.amax(1, keepdim=True)


def register_compactness(name: str, **card: Any) -> Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]:
    """Register what is read off magnitudes (B, N), in (B,) float64, as a metric."""

    def file(read: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        metric = Metric(
            name=name,
            family="faithfulness",
            score=Reading(magnitudes, lambda values: read(values).float()),
            sign="magnitudes: a value and its negative count alike",
            ties="none: every pixel counts by its value",
            undefined="the map is zero everywhere",
            version=1,
            definition=sentence(read),
            **card,
        )
        register_metric(metric)
        return read

    return file


@register_compactness(
    "sparseness",
    unit="Gini index",
    bounds=(0.0, 1.0),
    higher_is_better=True,
    chance=sparseness_of_noise,
    source="Chalasani et al.: Concise Explanations of Neural Networks using Adversarial Training, ICML 2020",
    further={
        "oracle": "1 - |G| / N: the mask taken as the map",
        "quirks": "Quantus adds 1e-7 to every value, so that a map of zeros scores 0",
    },
)
def _sparseness(values: Tensor) -> Tensor:
    """Gini index of |M|: 0 where all are equal, 1 - 1 / N where all but one are zero."""
    count = values.shape[1]
    weights = 2 * torch.arange(1, count + 1, dtype=values.dtype, device=values.device) - count - 1
    return (values.sort(1).values * weights).sum(1) / (count * values.sum(1))


@register_compactness(
    "complexity",
    unit="nat",
    bounds=(0.0, math.inf),
    higher_is_better=False,
    chance=complexity_of_noise,
    source="Bhatt, Weller, Moura: Evaluating and Aggregating Feature-based Model Explanations, IJCAI 2020",
    further={
        "oracle": "log |G|: the mask taken as the map",
        "quirks": "at most log N, which grows with the image; Quantus adds 1e-12 inside the logarithm",
    },
)
def _complexity(values: Tensor) -> Tensor:
    """Entropy of |M| / sum |M|, in nats: 0 where all but one are zero, log N where all are equal."""
    return torch.special.entr(values / values.sum(1, keepdim=True)).sum(1)
