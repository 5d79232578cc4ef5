"""Made-up scores without any difference, and how often intervals and tests keep their word on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..scopes import ANEW, THESE
from .comparisons import ALPHA, FLIPS, FLIPS_PER_PAIR, holm, sign_flip_p, without_rounding
from .intervals import intervals, rows_of
from .trained_anew import compare_anew

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
SKEW, RARE = 4 / 9, 0.1  # a gamma distribution of this shape has skewness 3; a share as of the pointing game
SCORES: Mapping[str, Draw] = {
    "normal": lambda random, shape: random.normal(size=shape),
    "skewed": lambda random, shape: (random.gamma(SKEW, size=shape) - SKEW) / SKEW**0.5,
    "tied": lambda random, shape: ((random.random(shape) < RARE) - RARE) / (RARE * (1 - RARE)) ** 0.5,
    "bounded": lambda random, shape: (random.beta(0.5, 0.5, shape) - 0.5) * 8**0.5,
}
"""How scores may be distributed over rows; each has mean 0 and variance 1."""
BETWEEN_MODELS = 0.3  # the spread of a row's scores over models; 0 for tied scores, which stay tied
COVERAGE = (0.93, 0.975)  # what an interval of 95 % has to keep to
FAMILYWISE = 0.06  # what a family of tests at ALPHA has to keep to


@dataclass(frozen=True)
class SimulationSetting:
    """One kind of made-up audit: equally good methods on rows and seeds of one architecture."""

    scores: str  # a name of SCORES
    rows: int
    seeds: int
    interaction: float = 0.0  # the spread of what a method gains or loses on a seed
    methods: int = 6


@dataclass(frozen=True)
class Outcome:
    """How often intervals covered the truth, and how often some pair of an audit was told apart."""

    means: float  # of the methods; NaN for models trained anew
    differences: float  # of all pairs
    familywise: float

    @property
    def holds(self) -> bool:
        """Whether intervals and tests kept their word; the tests may be more careful than they have to be."""
        covers = [share for share in (self.means, self.differences) if not np.isnan(share)]
        return min(covers) >= COVERAGE[0] and max(covers) <= COVERAGE[1] and self.familywise <= FAMILYWISE


def draw_scores(setting: SimulationSetting, scope: str, random: np.random.Generator) -> np.ndarray:
    """Scores (methods, rows, models) of methods whose true means are all 0 in a scope.

    A row's score is one of the row, one of the method on it, and one of the model on both. For these models, what a
    method gains on one seed it loses on the others.
    """
    draw, shape = SCORES[setting.scores], (setting.methods, setting.rows, setting.seeds)
    tied = setting.scores == "tied"
    of_seeds = setting.interaction * random.normal(size=(setting.methods, 1, setting.seeds))
    if scope == THESE:
        of_seeds -= of_seeds.mean(2, keepdims=True)
    by_row = 0.0 if tied else draw(random, (1, setting.rows, 1))
    by_model = 0.0 if tied else BETWEEN_MODELS * random.normal(size=shape)
    scores: np.ndarray = by_row + draw(random, (setting.methods, setting.rows, 1)) + by_model + of_seeds
    return scores


def simulate(setting: SimulationSetting, scope: str, repeats: int, seed: int = 0) -> Outcome:
    """Draw as many made-up audits, and count."""
    random = np.random.default_rng(seed)
    audits = [draw_scores(setting, scope, random) for _ in range(repeats)]
    return _anew(audits) if scope == ANEW else _these(np.stack(audits), seed)


def _anew(audits: list[np.ndarray]) -> Outcome:
    compared = [compare_anew(values) for values in audits]
    covered = [pair.difference.low <= 0 <= pair.difference.high for pairs in compared for pair in pairs]
    return Outcome(
        float("nan"), float(np.mean(covered)), float(np.mean([any(p.apart for p in pairs) for pairs in compared]))
    )


def _these(audits: np.ndarray, seed: int) -> Outcome:
    """The same as `compare` for each audit (audits, methods, rows, models); intervals of all are taken at once."""
    first, second = np.array(list(combinations(range(audits.shape[1]), 2))).T
    apart = audits[:, first] - audits[:, second]
    rows = without_rounding(rows_of(apart, None), audits)
    step = max(
        1, FLIPS // (FLIPS_PER_PAIR * len(first))
    )  # so many audits share their flips, and no more flips are needed
    p = np.concatenate([_p_values(rows[start : start + step], seed) for start in range(0, len(rows), step)])
    false = [holm(of_audit).min() < ALPHA for of_audit in p]
    means, differences = (_share_covering(values, seed) for values in (audits, apart))
    return Outcome(means, differences, float(np.mean(false)))


def _p_values(rows: np.ndarray, seed: int) -> np.ndarray:
    """The p-values (audits, pairs) of differences (audits, pairs, rows)."""
    return sign_flip_p(rows.reshape(-1, rows.shape[-1]), seed).reshape(rows.shape[:2])


def _share_covering(values: np.ndarray, seed: int) -> float:
    """How many intervals of values (audits, methods, rows, models) hold 0."""
    rounding = 1e-12
    ends = intervals(values.reshape(-1, *values.shape[2:]), seed=seed)
    return float(np.mean([end.low - rounding <= 0 <= end.high + rounding for end in ends]))
