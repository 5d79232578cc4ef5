"""The normalisation of pictures as users write it: a name, or means and standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from an8flower.errors import WrongUsage

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
IMAGENET = "imagenet"


class Normalisation(NamedTuple):
    """The mean and the standard deviation by which the channels of images in [0, 1] are normalised."""

    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD


NAMES = {IMAGENET: Normalisation(), "none": Normalisation((0.0,) * 3, (1.0,) * 3)}


def parse_normalisation(text: str) -> Normalisation:
    """`imagenet`, `none`, or `M,M,M:S,S,S`: three means and three standard deviations; raises WrongUsage."""
    if text in NAMES:
        return NAMES[text]
    try:
        mean, std = (tuple(map(float, numbers.split(","))) for numbers in text.split(":"))
    except ValueError:
        mean = std = ()
    if len(mean) != 3 or len(std) != 3 or not all(abs(m) < 1e9 for m in mean) or not all(0 < s < 1e9 for s in std):
        raise WrongUsage(
            f'--normalise "{text}": expected imagenet, none, or three means and three positive standard deviations '
            "of images in [0, 1], as in 0.5,0.5,0.5:0.25,0.25,0.25"
        )
    return Normalisation(mean, std)
