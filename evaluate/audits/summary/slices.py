"""The slices of a summary: how methods score by class, size of the evidence, camera, clutter and background."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from an8flower.backgrounds import ground_kinds, photograph_names
from an8flower.occlusion import occlusion
from an8flower.scenery import BACKDROPS
from an8flower.store import FlowerSplit, StoredRows

from ...metrics.metric import Metric
from ...results.files import without_nan
from ...results.statistics.intervals import calibrate, intervals
from ...results.statistics.scores import ScoreArrays
from ...results.summary import CHANCE, ORACLE
from ...seeds import seed_of

AT_ONCE = 256  # rows read at a time
BINS = 3
MOST_PHOTOGRAPHS = 12  # more of them are no slices: each would have few rows


def row_properties(split: FlowerSplit, indices: np.ndarray, threads: int = 1) -> pd.DataFrame:
    """The properties that rows are sliced by, a line for each of the sorted indices, which are the frame's index.

    `class` (its name), `part size` (the mask's share of the picture), `elevation` (of the camera, degrees),
    `occlusion` (the share of the evidence's silhouette that other parts hide) and `clutter` (how many balls, or the
    share of the picture that they cover if nobody counted them). NaN if it is not known, for example without a spec.
    Rows on several kinds of ground have a `background` as well, and rows on 2 to 12 photographs a `photograph`, which
    is unknown for a row that lies on none.
    """
    portions = np.split(indices, range(AT_ONCE, len(indices), AT_ONCE))
    frame = pd.concat([_properties(split, portion, threads) for portion in portions])
    return _name_grounds(frame).set_index(pd.Index(indices, name="row"))


def _name_grounds(frame: pd.DataFrame) -> pd.DataFrame:
    """The same properties with the grounds as categories, and without those that tell no rows apart."""
    for name, most in (("background", len(BACKDROPS)), ("photograph", MOST_PHOTOGRAPHS)):
        names = sorted({*frame[name]} - {""})
        if 1 < len(names) <= most:
            codes = [names.index(value) if value else -1 for value in frame[name]]
            frame[name] = pd.Categorical.from_codes(codes, names)
        else:
            frame = frame.drop(columns=name)
    return frame


def _properties(split: FlowerSplit, indices: np.ndarray, threads: int) -> pd.DataFrame:
    rows, names = split.take(indices), split.store.class_names
    return pd.DataFrame(
        {
            "class": pd.Categorical.from_codes(rows.labels, names),
            "part size": (rows.masks > 0).mean((1, 2)),
            "elevation": _factor(rows, "view.elevation"),
            "occlusion": _hidden(split, rows, threads),
            "clutter": _clutter(split, rows),
            "background": ground_kinds(rows),
            "photograph": photograph_names(split, rows),
        }
    )


def _hidden(split: FlowerSplit, rows: StoredRows, threads: int) -> np.ndarray:
    spec = split.store.spec
    if spec is None or rows.factors is None or rows.parts is None:
        return np.full(len(rows.labels), np.nan)
    return occlusion(spec, rows.factors, rows.labels, rows.parts, threads)


def _factor(rows: StoredRows, name: str) -> np.ndarray:
    """The values (n,) float64 of a factor that is a number; NaN where nobody filed it."""
    if rows.factors is None or name not in (rows.factors.dtype.names or ()):
        return np.full(len(rows.labels), np.nan)
    return rows.factors[name].astype(np.float64)


def _clutter(split: FlowerSplit, rows: StoredRows) -> np.ndarray:
    counted, names = _factor(rows, "distractors.count"), split.store.part_names
    if not np.isnan(counted).all() or rows.parts is None or "distractors" not in names:
        return counted
    return (rows.parts == names.index("distractors")).mean((1, 2))


def slices(
    table: pa.Table, methods: Mapping[str, str], metrics: Iterable[Metric], properties: pd.DataFrame, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """How every method scores on each slice of the rows, by each metric of localisation, ready for JSON.

    A numeric property is cut into three slices of as many rows each; where rows tie there are fewer, and a property
    that is the same in all rows is left out. Chance and the truth are those of the same rows. A metric that chooses a
    threshold over the whole data set keeps it in every slice.

    Args:
        table: the long rows of a run.
        methods: the names of the methods in the result, by the repr of their explainers.
        properties: as `row_properties` gives them, for the rows of the table at least.
    """
    wanted = {metric.name: metric for metric in metrics if metric.family == "localisation"}
    scores = ScoreArrays(table, {name: metric.select for name, metric in wanted.items()})
    known = properties.loc[scores.rows]
    by_metric: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for kind in known.columns:
        for value, where in _cut(known[kind]):
            about = {"slice": kind, "value": value, "rows": int(where.sum())}
            for name, metric in wanted.items():
                by_metric[name].append({**about, "methods": _numbers(scores, metric, methods, where, seed)})
    return by_metric


def _cut(column: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    """Cut a property into slices: the name of each, and its rows (n,) bool."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = column.cat.remove_unused_categories().cat.categories
        yield from ((str(name), (column == name).to_numpy()) for name in present)
        return
    values = column.to_numpy(np.float64)
    places = assign_bins(values)
    members = [values[places == place] for place in range(BINS)]
    filled = [place for place, values_there in enumerate(members) if len(values_there)]
    if len(filled) > 1:
        spans = [(members[place].min(), members[place].max()) for place in filled]
        yield from ((name, places == place) for place, name in zip(filled, name_spans(spans), strict=True))


def assign_bins(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Assign each value (n,) to one of the bins: (n,) int64 from 0, -1 for NaN. Equal values share a bin.

    The mean rank of equal values decides their bin, so that values that vary at all fall into two bins at least.
    """
    known = values[~np.isnan(values)]
    _, back, counts = np.unique(known, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - counts / 2
    places = np.full(len(values), -1)
    places[~np.isnan(values)] = (bins * middles / max(len(known), 1)).astype(np.int64)[back]
    return places


def name_spans(spans: list[tuple[float, float]]) -> list[str]:
    """Names for ranges of values, with as many digits as it takes to tell them apart, but two at least.

    >>> name_spans([(0.0201, 0.0503), (0.0511, 0.2)])
    ['0.02 to 0.05', '0.051 to 0.2']
    """
    for digits in range(2, 17):
        texts = [[_digits(limit, digits) for limit in dict.fromkeys(span)] for span in spans]
        limits = [limit for span in texts for limit in span]
        if len(set(limits)) == len(limits):
            break
    return [" to ".join(limits) for limits in texts]


def _digits(value: float, digits: int) -> str:
    return np.format_float_positional(value, precision=digits, fractional=False, trim="-")


def _numbers(
    scores: ScoreArrays, metric: Metric, methods: Mapping[str, str], where: np.ndarray, seed: int
) -> dict[str, dict[str, float | None]]:
    """Mean, interval and calibrated mean of every method over the rows (n,) bool of a slice."""
    values = scores.all_of(metric.name, list(methods))[:, where]
    summaries = intervals(values, seed=seed_of(seed, "resampling"), architectures=scores.architectures)
    by_method = {}
    for text, summary, of_rows in zip(methods.values(), summaries, values, strict=True):
        counted = np.zeros((len(where), values.shape[2]), bool)
        counted[where] = ~np.isnan(of_rows)
        chance, oracle = (scores.reference(metric.name, name, counted) for name in (CHANCE, ORACLE))
        low, high = (float(np.clip(limit, *metric.bounds)) for limit in (summary.low, summary.high))
        numbers = {"mean": summary.mean, "low": low, "high": high}
        numbers["calibrated"] = calibrate(summary.mean, chance, oracle)
        by_method[text] = without_nan(numbers)
    return by_method
