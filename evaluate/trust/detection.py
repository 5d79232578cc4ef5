"""Would a method have told of a mark? Whether a map shows it, decided row by row against marks in other places.

The place of each mark was drawn without looking at the picture. So if a map does not depend on where the mark lies, the
places of other rows' marks are as good a guess as the row's own: the row's own share is one of many that are alike, and
lies among the largest 5 % of them in at most 5 % of the rows. This is a randomisation test; it asks nothing of the
map's smoothness, of its grid, or of whether it prefers the centre.

Source: Fisher, The Design of Experiments (1935), section 21 (randomisation tests); Phipson, Smyth, Statistical
Applications in Genetics and Molecular Biology 9 (2010) (counting the row itself).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..data.marked import MarkRegions
from ..results.files import without_nan
from ..results.mark_words import describe_detection, judge_method
from ..results.statistics.intervals import RESAMPLES, Interval, interval, row_means, share_interval
from ..seeds import seed_of
from .mark_use import MarkUse

LEVEL = 0.05  # of the test in one row
CONTROLS = 99  # places of other rows' marks that a row is compared with, at most
ROUNDING = 1e-12  # of a share
FEWEST = 19  # ... at least: with fewer, no row can reach the level


class MapDecisions(NamedTuple):
    """What maps say of the marks of rows (n,); NaN in rows that cannot be decided."""

    excess: np.ndarray  # share of the map's top pixels that lie on the mark, less the mark's share of the picture
    p: np.ndarray  # of the randomisation test, in (0, 1]
    shows: np.ndarray  # 1 if the map shows the mark, else 0
    auroc: np.ndarray  # of the map as a score of which pixels are the mark's, in [0, 1]


@dataclass(frozen=True)
class Detection:
    """Whether a method shows the mark where a model uses it, and stays away where it does not; 95 % intervals."""

    detection: Interval  # share of the rows in which the model uses the mark, that the map shows it
    false_alarm: Interval  # share of the rows in which it demonstrably does not
    shown: Interval  # share of all rows with a mark in which the map of the model itself, not of its twin, shows it
    auroc: Interval  # how well the excess tells the former rows from the latter, in [0, 1]; of no threshold
    map_auroc: Interval  # mean over the former rows: how well the map tells the mark's pixels from all others
    excess: Interval  # mean over the former rows
    used: int  # rows in which the model uses the mark
    ignored: int  # rows in which it demonstrably does not

    def to_document(self, method: str, mark: str) -> dict[str, Any]:
        """The numbers ready for JSON, with the outcome and a sentence."""
        numbers = dict(without_nan(asdict(self)))
        sentence = describe_detection(method, mark, numbers)
        return {"method": method, **numbers, "outcome": judge_method(numbers), "sentence": sentence}


def decide_maps(maps: np.ndarray, regions: MarkRegions, seed: int) -> MapDecisions:
    """Decide for each map (n, S, S) if it shows the mark of its row.

    With k pixels of the mark, the share of the map's k largest values that lie on them is taken, ties by halves: each
    of several equal values counts as much as any other. Void pixels are left out. The excess of the row's own mark over
    its share of the picture is compared with that of up to `CONTROLS` other rows' marks on the same map. The map shows
    the mark if the excess is positive, and at most one in twenty places, its own counted, has as much.

    Args:
        regions: of the same rows; a row without a mark gets NaN.
        seed: which other rows lend their marks' places.
    """
    has_mark = regions.marked.any((1, 2))
    lenders = np.flatnonzero(has_mark)
    decisions = MapDecisions(*(np.full(len(maps), np.nan) for _ in MapDecisions._fields))
    if len(lenders) <= FEWEST:
        return decisions
    marked, counted = (values.reshape(len(maps), -1) for values in (regions.marked, ~regions.void))
    for row in lenders.tolist():
        values = maps[row].reshape(-1).astype(np.float64)
        others = np.random.default_rng(seed_of(seed, "places", row)).permutation(lenders[lenders != row])[:CONTROLS]
        places = np.append(row, others)
        excess, *rivals = excess_of(values, marked[places], counted[places]).tolist()
        decisions.excess[row] = excess
        decisions.p[row] = (1 + sum(rival >= excess - ROUNDING for rival in rivals)) / (1 + len(rivals))
        decisions.shows[row] = float(excess > ROUNDING and decisions.p[row] <= LEVEL + ROUNDING)
        decisions.auroc[row] = auroc_of(values[marked[row]], values[counted[row] & ~marked[row]])
    return decisions


def excess_of(values: np.ndarray, marked: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The share of a map's top pixels that lie on each of several marks, less the mark's share of the pixels: (m,).

    Args:
        values: (N,) of the map.
        marked: (m, N) bool, k > 0 pixels of each mark; the top pixels are as many.
        counted: (m, N) bool, the pixels that count, the marked ones among them.
    """
    order = np.argsort(-values, kind="stable")
    ranked, count = values[order], marked.sum(1)
    marked_sums, counted_sums = (_running_sums(regions[:, order]) for regions in (marked, counted))
    last = (counted_sums[:, 1:] >= count[:, None]).argmax(1)  # the k-th of the pixels that count
    first, after = (np.searchsorted(-ranked, -ranked[last], side) for side in ("left", "right"))
    rows = np.arange(len(marked))
    hits, above = marked_sums[rows, first], counted_sums[rows, first]
    level_hits, level = marked_sums[rows, after] - hits, counted_sums[rows, after] - above
    shares: np.ndarray = (hits + (count - above) * level_hits / level) / count - count / counted_sums[:, -1]
    return shares


def _running_sums(values: np.ndarray) -> np.ndarray:
    """How many of the first 0, 1, ..., N of values (m, N) bool are true: (m, N + 1) int32."""
    sums = np.zeros((len(values), values.shape[1] + 1), np.int32)
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def auroc_of(positives: np.ndarray, negatives: np.ndarray) -> float:
    """The share of pairs in which the positive is larger, ties by halves; NaN if there are none of either kind."""
    if not len(positives) or not len(negatives):
        return float("nan")
    ordered = np.sort(negatives)
    below, up_to = (np.searchsorted(ordered, positives, side) for side in ("left", "right"))
    return float((below + up_to).sum() / (2 * len(positives) * len(negatives)))


def sum_up(decided: Sequence[tuple[MapDecisions, MarkUse]], seed: int) -> Detection:
    """Sum up decisions about the same rows by the maps of one or several models, such as a model and its innocent twin.

    Rows are the unit: one that several models use, or ignore, counts by the mean of these models.
    """
    uses, ignores = (np.stack([getattr(use, name) for _, use in decided]) for name in ("uses", "ignores"))
    shows, excess, auroc = (
        np.stack([getattr(decisions, name) for decisions, _ in decided]) for name in ("shows", "excess", "auroc")
    )

    def over(values: np.ndarray, chosen: np.ndarray, estimate: IntervalEstimate) -> Interval:
        by_row = row_means(np.where(chosen, values, np.nan).T)
        return estimate(by_row[chosen.any(0)], seed=seed_of("detection", seed))

    return Detection(
        detection=over(shows, uses, share_interval),
        false_alarm=over(shows, ignores, share_interval),
        shown=share_interval(shows[0], seed=seed_of("detection", seed)),
        auroc=_auroc_interval(excess[uses], excess[ignores], seed_of("detection", seed)),
        map_auroc=over(auroc, uses, interval),
        excess=over(excess, uses, interval),
        used=int(uses.any(0).sum()),
        ignored=int(ignores.any(0).sum()),
    )


class IntervalEstimate(Protocol):
    """A function from values (n,) to their mean with its interval."""

    def __call__(self, values: np.ndarray, /, *, seed: int) -> Interval:
        """The mean of values (n,) with its interval."""
        ...


def _auroc_interval(positives: np.ndarray, negatives: np.ndarray, seed: int) -> Interval:
    """The AUROC with the percentile interval of a bootstrap that draws rows of either kind anew."""
    known = [values[~np.isnan(values)] for values in (positives, negatives)]
    rows = len(known[0]) + len(known[1])
    undefined = len(positives) + len(negatives) - rows
    value = auroc_of(*known)
    if np.isnan(value):
        return Interval(value, value, value, 0, undefined + rows)
    random = np.random.default_rng(seed)
    drawn = [auroc_of(*(random.choice(values, len(values)) for values in known)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high), rows, undefined)
