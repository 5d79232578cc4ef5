"""The contract of metrics: a table of checks on small made-up maps and masks that anybody can run.

`an8flower check NAME` runs it for a metric, as it runs that of explainers for a method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from an8flower.errors import NotApplicable, Refusal
from an8flower.factors import PARTS

from ..case import Case, Query, Truth
from ..explaining.contract import ContractVerdict, name_changes, watching
from ..explaining.contract_networks import CLASSES, NETWORKS, SIZE
from ..metrics.guarded import check_scores, check_values, copy_case
from ..metrics.metric import Metric, MetricValues
from ..models.networks.random_state import preserve_random_state

ROWS = 6
EMPTY, FULL = 4, 5  # the row whose mask is empty, and that whose mask covers the image
TOLERANCE = 1e-4  # of the largest magnitude
NO_MODEL = "no model"  # stands for the network where a metric asks none


class Sample(NamedTuple):
    """Maps to be scored, and the case that they are scored in."""

    maps: Tensor
    case: Case


class Call(NamedTuple):
    """The scores that a call of a metric gave, and all that the call left changed."""

    scores: Tensor
    changed: list[str]  # aspects of the model and of the process
    inputs: list[str]  # tensors that it was given


class MetricTrial:
    """One metric on one of the networks; every call gets new maps and a new classifier."""

    def __init__(self, metric: Metric, network: str) -> None:
        self.metric, self.network = metric, network

    @cached_property
    def reference(self) -> Call:
        """The first call, with which the others are compared."""
        return self.call(make_sample(self.network))

    def call(self, sample: Sample) -> Call:
        """Score copies of maps in a copy of their case, and note what that leaves behind."""
        maps, case = sample.maps.clone(), copy_case(sample.case)
        changed: list[str] = []
        with preserve_random_state(), watching(case.classifier or torch.nn.Identity(), changed), torch.no_grad():
            before = torch.get_rng_state()
            scores = self.metric.score(maps, case)
            if not torch.equal(before, torch.get_rng_state()):
                changed.append("torch's global random state")
        return Call(scores, changed, changed_inputs(sample, maps, case))

    def scores(self, sample: Sample) -> Tensor:
        """The scores (B,), or (B, T), of a sample."""
        return self.call(sample).scores


class MetricCheck(NamedTuple):
    """One promise of the contract, and the function that judges it."""

    name: str
    promise: str
    judge: Callable[[MetricTrial], None]  # raises a Refusal that says what was broken, or NotApplicable


def make_sample(network: str, rows: int = ROWS) -> Sample:
    """Random maps, some with negative values and one constant, masks and parts; fewer rows are the first of more."""
    draws = [torch.Generator().manual_seed(11 + row) for row in range(rows)]
    maps = torch.stack([torch.rand(SIZE, SIZE, generator=draw) - 0.3 * (row % 2) for row, draw in enumerate(draws)])
    images = torch.stack([torch.rand(3, SIZE, SIZE, generator=draw) for draw in draws])
    parts = torch.stack([torch.randint(len(PARTS), (SIZE, SIZE), generator=draw) for draw in draws]).to(torch.uint8)
    masks = torch.zeros(rows, SIZE, SIZE, dtype=torch.uint8)
    for row in range(rows):
        masks[row, 2 + row : 6 + row, 3:9] = 1 + row % 2
    masks[EMPTY:FULL], masks[FULL:] = 0, 1
    maps[2:3] = 0.5
    numbers = torch.arange(rows)
    query, truth = Query(images, numbers % len(CLASSES), numbers + 7), Truth(numbers, numbers % 4, masks, parts)
    classifier = None if network == NO_MODEL else NETWORKS[network]().eval()
    return Sample(maps, Case(classifier, query, truth, explain=lambda query: query.images.mean(1)))


def pick(sample: Sample, rows: Tensor) -> Sample:
    """Some rows of a sample, in another order."""
    case = sample.case
    query = Query(*(tensor[rows] for tensor in case.query))
    truth = Truth._make(None if values is None else values[rows] for values in case.truth)
    return Sample(sample.maps[rows], case._replace(query=query, truth=truth))


def changed_inputs(sample: Sample, maps: Tensor, case: Case) -> list[str]:
    """The names of the tensors that are not what they were."""
    pairs: dict[str, tuple[Any, Any]] = {"maps": (sample.maps, maps)}
    pairs |= {name: (getattr(sample.case.query, name), getattr(case.query, name)) for name in Query._fields}
    pairs |= {name: (getattr(sample.case.truth, name), getattr(case.truth, name)) for name in Truth._fields}
    return [name for name, (before, now) in pairs.items() if before is not None and not torch.equal(before, now)]


# The promises.


def gives_scores(trial: MetricTrial) -> None:
    """A finite value, or a curve, a row, within the bounds of the card; NaN where there is none."""
    sample = make_sample(trial.network)
    check_scores(trial.metric, MetricValues({trial.metric.name: trial.reference.scores}, {}), sample.maps)


def leaves_undefined(trial: MetricTrial) -> None:
    """Where the card says that a row has no value, it is NaN; elsewhere there are values."""
    undefined = trial.reference.scores.reshape(ROWS, -1).isnan().all(1)
    if undefined.all():
        raise Refusal(f"{trial.metric.name} gives NaN in every row; have it give values where the card does not say so")
    if "mask is empty" in trial.metric.undefined and not undefined[EMPTY]:
        raise Refusal(
            f"{trial.metric.name} gives a value for a row whose mask is empty, and its card says that there is none; "
            "give NaN there"
        )


def knows_rows_apart(trial: MetricTrial) -> None:
    """Splitting, permuting or enlarging the batch changes no value."""
    remedy = "score each row by itself, and give values in the order of the maps"
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    apart = difference(trial.scores(pick(make_sample(trial.network), order))[order.argsort()], trial.reference.scores)
    if apart > TOLERANCE:
        raise Refusal(f"{trial.metric.name} gives other values when rows are permuted, by {apart:.1g}; {remedy}")
    portions = [trial.scores(pick(make_sample(trial.network), rows)) for rows in torch.arange(ROWS).split(2)]
    apart = difference(torch.cat(portions), trial.reference.scores)
    if apart > TOLERANCE:
        raise Refusal(f"{trial.metric.name} gives other values when the batch is split, by {apart:.1g}; {remedy}")


def gives_the_same_again(trial: MetricTrial) -> None:
    """Called again, whatever the global random state is, it gives the same values."""
    with preserve_random_state():
        torch.manual_seed(99)
        again = trial.scores(make_sample(trial.network))
    if difference(again, trial.reference.scores) > TOLERANCE:
        raise Refusal(
            f"{trial.metric.name} gives other values when it is called again; draw from "
            "`an8flower.evaluate.seeds.generator(seed)` of seeds that are made from the row"
        )


def leaves_inputs(trial: MetricTrial) -> None:
    """Maps, masks, pictures and all else in the case are the same after the call as before."""
    if trial.reference.inputs:
        changed = " and ".join(trial.reference.inputs)
        raise Refusal(f"{trial.metric.name} changed {changed} in place; have it work on a copy")


def gives_model_back(trial: MetricTrial) -> None:
    """Model and process are the same after the call as before."""
    if trial.reference.changed:
        raise Refusal(
            f"{trial.metric.name} leaves {name_changes(trial.reference.changed)} changed; "
            "have it put back what it borrows, or work on a copy"
        )


def knows_chance(trial: MetricTrial) -> None:
    """Where chance has a formula, it gives a value a row from the masks alone."""
    if trial.metric.chance is None:
        raise NotApplicable(f"{trial.metric.name} has no formula for chance, which is measured then")
    masks = make_sample(trial.network).case.truth.masks
    check_values(trial.metric, f"the chance of {trial.metric.name}", trial.metric.chance(masks.clone()), ROWS)


METRIC_CHECKS = (
    MetricCheck("scores", "a value a row, float, within the bounds of the card", gives_scores),
    MetricCheck("undefined", "NaN where the card says that there is no value", leaves_undefined),
    MetricCheck("rows", "splitting and permuting the batch changes no value", knows_rows_apart),
    MetricCheck("again", "called again, it gives the same values", gives_the_same_again),
    MetricCheck("inputs", "maps, masks and pictures are left as they were", leaves_inputs),
    MetricCheck("model", "the model and the process are given back as they were", gives_model_back),
    MetricCheck("chance", "the formula of chance gives a value a row", knows_chance),
)


def difference(scores: Tensor, expected: Tensor) -> float:
    """The largest difference of scores, as a share of their largest magnitude, at least 1; NaN is equal to NaN."""
    if scores.shape != expected.shape or not torch.equal(scores.isnan(), expected.isnan()):
        return float("inf")
    scale = max(1.0, float(expected.nan_to_num().abs().max()))
    return float((scores - expected).nan_to_num().abs().max()) / scale


def check_metric(metric: Metric) -> Iterator[ContractVerdict]:
    """Put a metric through the table, on every network if it asks the model; nothing that it raises comes through."""
    for network in NETWORKS if metric.asks_model else (NO_MODEL,):
        trial = MetricTrial(metric, network)
        first = judge(trial, METRIC_CHECKS[0])
        yield first
        if first.status == "ok":
            yield from (judge(trial, check) for check in METRIC_CHECKS[1:])


def judge(trial: MetricTrial, check: MetricCheck) -> ContractVerdict:
    """The verdict of one check; whatever the metric raises is part of it."""
    lacking = {"renderer", "threshold", "training"} & {*trial.metric.needs}
    try:
        if lacking:
            what = "a data set with training rows" if lacking == {"training"} else "a rendered data set"
            raise NotApplicable(f"{trial.metric.name} needs {what}; score it on one")
        check.judge(trial)
    except NotApplicable as reason:
        return ContractVerdict(trial.network, check.name, "not applicable", str(reason))
    except Refusal as reason:
        return ContractVerdict(trial.network, check.name, "FAILED", str(reason))
    except Exception as error:  # foreign code raises whatever it likes
        said = f"{trial.metric.name} raised {type(error).__name__}: {' '.join(str(error).split())}"
        return ContractVerdict(trial.network, check.name, "FAILED", said)
    return ContractVerdict(trial.network, check.name, "ok")
