"""A metric and its card: what is needed to compute a score, and what is needed to read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..case import Case, Truth
from ..results.metric_values import MetricKind

Score = Callable[[Tensor, Case], Tensor]
"""(maps (B, H, W) float32, case) -> (B,) float32; NaN where undefined; never aggregates."""

Need = Literal["model", "method", "parts", "renderer", "threshold", "training"]
"""What a score asks besides maps and masks: `model` the classifier, `method` the explainer once more, `parts` the part
maps, `renderer` the same scenes with something changed, `threshold` the share of a map that makes a part important, as
it was chosen on validation rows, `training` the model fine-tuned on training rows."""

FULL = "the mask covers the whole image"
ALL_VOID = "the evidence covers no pixel whole, so that all of its mask is void"
MEASURED = "measured by scoring random maps on the same masks"

# Larger parts leave the cache, and the allocator returns their memory to the system and faults it in again each time.
_PIXELS_AT_ONCE = 2**17


@runtime_checkable
class Tracer(Protocol):
    """The reading side of a score that can also give the curve behind each row's value."""

    def trace(self, prepared: Any) -> Tensor:
        """The curves (B, T) float32 behind the values (B,) of what was prepared; NaN in rows without a value."""
        ...

    def levels(self, pixels: int) -> list[float]:
        """Where the T points of the curve of a map of so many pixels lie."""
        ...


@runtime_checkable
class Ideal(Protocol):
    """The reading side of a score that maps of the mask do not reach, but other maps do."""

    def ideal_maps(self, case: Case) -> Tensor:
        """The maps (B, H, W) float32 that score best for the model and the rows of a case."""
        ...


@runtime_checkable
class RowReasons(Protocol):
    """The reading side of a score that knows of each row why it would have no value."""

    def why_undefined(self, prepared: Any) -> list[str]:
        """The reason of each row of what was prepared, whether the row has a value or not."""
        ...


@dataclass(frozen=True)
class Metric:
    """A score per row with everything that a reader of its numbers has to know.

    `chance` gives the expected score of a map of independent uniform noise from the masks (B, H, W) alone; None where
    it has to be measured. If the card has an entry `void`, masks are -1 in pixels that do not count. A curve metric
    scores a curve per row, (B, T), and `select` turns the curves of *all* rows of a data set, (n, T), into the rows'
    values, (n,); `chance` then gives curves too.
    """

    name: str
    family: str
    score: Score
    unit: str
    bounds: tuple[float, float]
    higher_is_better: bool
    sign: str  # how negative values of a map are read
    ties: str  # how equal values are read
    undefined: str  # when a row has no value
    source: str
    version: int
    definition: str = ""
    chance: Callable[[Tensor], Tensor] | None = None
    select: Callable[[np.ndarray], np.ndarray] | None = None
    needs: tuple[Need, ...] = ()
    further: Mapping[str, str] = field(default_factory=dict, hash=False)  # oracle, threshold, resize, quirks, ...
    beside: str = ""  # the metric that is always scored with it, with the same options; none where empty

    @property
    def kind(self) -> MetricKind:
        """What a summary has to know of the metric."""
        return MetricKind(self.select, self.family, self.higher_is_better, self.bounds)

    @property
    def options(self) -> Any:
        """The frozen dataclass that holds what a user may choose of the definition; None where there is no choice."""
        read = self._reader
        return read if is_dataclass(read) and fields(read) else None

    @property
    def tracer(self) -> Tracer | None:
        """What gives the curves behind the metric's values; None if the metric has no such curves."""
        read = self._reader
        return read if isinstance(self.score, Asking) and isinstance(read, Tracer) else None

    @property
    def row_reasons(self) -> RowReasons | None:
        """What knows why a row has no value; None if the mask and the card tell."""
        read = self._reader
        return read if isinstance(self.score, Asking) and isinstance(read, RowReasons) else None

    @property
    def ideal(self) -> Ideal | None:
        """What gives the maps that score best; None if those are the maps of the mask."""
        return self._reader if isinstance(self._reader, Ideal) else None

    @property
    def _reader(self) -> Any:
        return self.score.read if isinstance(self.score, Reading | Asking) else self.score

    @property
    def leaves_void_out(self) -> bool:
        """Whether the metric counts no pixel that is void, as its card then says."""
        return "void" in self.further

    @property
    def asks_model(self) -> bool:
        """Whether the score of a map depends on the model; then those of chance and truth do as well."""
        return "model" in self.needs or "method" in self.needs

    @property
    def asks_for_each_map(self) -> bool:
        """Whether each further map of a row takes further passes through the model."""
        return self.asks_model and not (isinstance(self.score, Asking) and self.score.once_for_all)

    def card(self) -> dict[str, Any]:
        """The description that travels with every result: ready for JSON, without any number that depends on data."""
        return {
            "name": self.name,
            "family": self.family,
            "definition": self.definition,
            "unit": self.unit,
            "bounds": [bound if math.isfinite(bound) else None for bound in self.bounds],  # JSON has no infinity
            "higher_is_better": self.higher_is_better,
            "chance": sentence(self.chance) if self.chance else MEASURED,
            "sign": self.sign,
            "ties": self.ties,
            "undefined": self.undefined,
            "level": "data set" if self.select else "row",
            "needs": list(self.needs),
            "parameters": {option.name: getattr(self.options, option.name) for option in fields(self.options)}
            if self.options
            else {},
            "source": self.source,
            "version": self.version,
            **self.further,
        }


@dataclass(frozen=True)
class Reading:
    """A score of maps and truth alone, read off a value that is computed once for every score sharing `prepare`.

    It is called like any other score; `score_all` is what saves the work.
    """

    prepare: Callable[[Tensor, Truth], Any]
    read: Callable[[Any], Tensor]

    def __call__(self, maps: Tensor, case: Case) -> Tensor:
        """The score (B,) of maps (B, H, W), computed without any other score."""
        return self.read(self.prepare(maps, case.truth))


@dataclass(frozen=True)
class Asking:
    """A score that asks the model, the method or the renderer, read off what every score sharing `prepare` shares.

    What `prepare` returns answers lazily and remembers: whatever asks twice for the same masked image or the same
    intervention has it pass through the network once.
    """

    prepare: Callable[[Tensor, Case], Any]
    read: Callable[[Any], Tensor]
    once_for_all: bool = False  # whether a further map of a row costs no further pass through the model

    def __call__(self, maps: Tensor, case: Case) -> Tensor:
        """The score (B,) of maps (B, H, W), computed without any other score."""
        return self.read(self.prepare(maps, case))


class MetricValues(NamedTuple):
    """The values of one batch, and the curves behind some of them, by the metrics' names."""

    values: dict[str, Tensor]  # (B,), or (B, T) of a curve metric
    traces: dict[str, Tensor]  # (B, T) of those metrics that can tell the curve behind a value
    failed: Mapping[str, str] = {}  # by the names of the metrics that failed, why
    undefined: Mapping[str, str | list[str]] = {}  # why rows have no value, of all or of each: by the metrics' names


def score_all(metrics: Iterable[Metric], maps: Tensor, case: Case) -> dict[str, Tensor]:
    """The scores of one batch by the metrics' names, with all that they share computed once."""
    return score_and_trace(metrics, maps, case, tracing=False).values


def score_and_trace(metrics: Iterable[Metric], maps: Tensor, case: Case, tracing: bool = True) -> MetricValues:
    """Score one batch as `score_all` does, and read the curves behind the values off what is computed anyway."""
    metrics = list(metrics)
    readings = {metric.name: metric.score for metric in metrics if isinstance(metric.score, Reading)}
    parts = [_read_scores(readings, *part) for part in _portions(maps, case.truth)]
    shared = cache(lambda prepare: prepare(maps, case))

    def score_metric(metric: Metric) -> Tensor:
        if metric.name in readings:
            return torch.cat([part[metric.name] for part in parts])
        score = metric.score
        return score.read(shared(score.prepare)) if isinstance(score, Asking) else score(maps, case)

    def trace_metric(metric: Metric) -> Tensor | None:
        tracer = metric.tracer if tracing else None
        return tracer.trace(shared(metric.score.prepare)) if tracer and isinstance(metric.score, Asking) else None

    def why_undefined(metric: Metric) -> list[str]:
        assert isinstance(metric.score, Asking)
        return list(metric.score.read.why_undefined(shared(metric.score.prepare)))  # type: ignore[attr-defined]

    values = {metric.name: score_metric(metric) for metric in metrics}
    lacking = [metric for metric in metrics if metric.row_reasons and values[metric.name].isnan().any()]
    undefined = {metric.name: why_undefined(metric) for metric in lacking}
    traces = {metric.name: trace_metric(metric) for metric in metrics}
    curves = {name: lines for name, lines in traces.items() if lines is not None}
    return MetricValues(values, curves, undefined=undefined)


def _read_scores(readings: Mapping[str, Reading], maps: Tensor, truth: Truth) -> dict[str, Tensor]:
    """The scores of one part, each `prepare` being called once."""
    prepared = {prepare: prepare(maps, truth) for prepare in {reading.prepare for reading in readings.values()}}
    return {name: reading.read(prepared[reading.prepare]) for name, reading in readings.items()}


def _portions(maps: Tensor, truth: Truth) -> Iterator[tuple[Tensor, Truth]]:
    """A batch in parts that a processor's cache holds; a GPU takes it whole."""
    rows = max(1, _PIXELS_AT_ONCE // maps[0].numel()) if maps.device.type == "cpu" else len(maps)
    for start in range(0, len(maps), rows):
        part = slice(start, start + rows)
        yield maps[part], Truth._make(None if values is None else values[part] for values in truth)


def reasons(metric: Metric, truth: Truth) -> list[str]:
    """Say why rows have no value of a metric: a sentence for each of them."""
    if metric.needs:  # then it is not the mask alone that decides
        return [metric.undefined] * len(truth.masks)
    masks = (truth.counted if metric.leaves_void_out else truth.masks).flatten(1)
    empty, full = (~(masks > 0).any(1)).tolist(), (~(masks == 0).any(1)).tolist()
    thin = (truth.masks > 0).flatten(1).any(1).tolist()
    return [
        (ALL_VOID if marked else "the mask is empty") if none else FULL if whole else metric.undefined
        for none, whole, marked in zip(empty, full, thin, strict=True)
    ]


def sentence(function: Callable[..., Any]) -> str:
    """The first paragraph of a function's docstring on one line, so that a card says what the code says."""
    return " ".join((function.__doc__ or "not described").split("\n\n")[0].split())
