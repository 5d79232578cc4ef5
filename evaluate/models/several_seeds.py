"""One architecture trained from several seeds, so that what is due to the seed can be told from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from an8flower.errors import WrongUsage
from an8flower.store import FlowerStore

from .training import TrainingResult, train


@dataclass(frozen=True)
class SeedsResult:
    """What came of training an architecture from several seeds, in their order."""

    results: tuple[TrainingResult, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The accuracy of each training on the test split, in [0, 1]."""
        return tuple(result.accuracy for result in self.results)

    @property
    def mean(self) -> float:
        """The mean of the accuracies, in [0, 1]."""
        return fmean(self.accuracies)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest of the accuracies, in [0, 1]."""
        return min(self.accuracies), max(self.accuracies)


def train_seeds(store: FlowerStore, arch: str, *, seeds: int | Sequence[int] = 3, **options: Any) -> SeedsResult:
    """Train an architecture once for each of several seeds, all else alike, as `an8flower train --seeds` does.

    >>> result = train_seeds(store, "flowernet", seeds=3)  # doctest: +SKIP
    >>> result.mean, result.range  # doctest: +SKIP

    Args:
        seeds: how many, counted from 0; or the seeds themselves, of which one that comes twice counts once.
        options: the further options of `train`, but for `seed`.

    Raises:
        WrongUsage: no seed, or a seed below 0.
        Refusal: as `train` does.
    """
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(dict.fromkeys(seeds))
    if not numbers or min(numbers) < 0:
        raise WrongUsage(f"seeds={seeds!r}: expected how many (at least 1), or a list of seeds from 0 on")
    return SeedsResult(tuple(train(store, arch, seed=seed, **options) for seed in numbers))
