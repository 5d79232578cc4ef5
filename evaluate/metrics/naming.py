"""Metrics as users write them: `iou`, `deletion:baseline=mean,steps=28`, `family:faithfulness`, `all`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from an8flower.errors import WrongUsage
from an8flower.names import unknown

from ..options import METHOD, USUAL, is_of_quantus, parse_parameters
from ..registry import explainers, metrics
from ..results.prototype_cards import SCORES_PROTOTYPES, find_measure
from .metric import Asking, Metric, Reading
from .quantus_metrics import FAMILY, parse_quantus


def parse_metrics(texts: Iterable[str]) -> list[Metric]:
    """All metrics that are asked for, each once; `usual`, `all` and `family:NAME` stand for several.

    A metric that is never scored alone brings along the one that belongs beside it.

    Raises WrongUsage as `parse_metric` does, and for an unknown family.
    """
    wanted = [text for pattern in texts for text in expand(pattern)]
    return list({metric.name: metric for text in wanted for metric in parse_with_control(text)}.values())


def parse_with_control(text: str) -> list[Metric]:
    """The metric that a text names, and with the same options the one that is always scored beside it."""
    metric = parse_metric(text)
    if not metric.beside:
        return [metric]
    _, _, options = text.partition(":")
    return [metric, parse_metric(f"{metric.beside}:{options}" if options else metric.beside)]


def parse_metric(text: str) -> Metric:
    """The metric that a text such as `deletion:steps=28` names, called by that text.

    Raises WrongUsage for an unknown name or option, or a value of another type than the option's.
    """
    if is_of_quantus(text):
        return parse_quantus(text)
    match = METHOD.fullmatch(text)
    if match is None:
        raise WrongUsage("an empty name of a metric came; see `an8flower metrics`")
    refuse_measure_of_prototypes(match["name"])
    metric = metrics[match["name"]].item
    if not isinstance(metric, Metric):
        raise WrongUsage(f"{match['name']} is {metric!r}; expected a Metric")
    if match["name"] != metric.name:
        refuse_another_name(match["name"], metric)
    return with_options(metric, match["parameters"]) if match["parameters"] else metric


def refuse_measure_of_prototypes(name: str) -> None:
    """Raise WrongUsage if a name is that of a measure of prototypes, unless somebody's metric is called so as well."""
    if find_measure(name) is not None and name not in metrics.names():
        raise WrongUsage(f"{name} scores {SCORES_PROTOTYPES}")


def refuse_another_name(text: str, metric: Metric) -> None:
    """Raise WrongUsage unless the name on a metric's card leads to this metric: results are filed by that name."""
    if metric.name not in metrics.names():
        raise WrongUsage(f'{text} is called "{metric.name}" and not registered; call register_metric on it where it is')
    if metrics[metric.name].item is not metric:
        raise WrongUsage(f'{text} is called "{metric.name}", as another metric is; give it a name of its own')


def find_metric(text: str) -> Metric | None:
    """The metric that a text names; None where it names none, or an explainer."""
    if is_of_quantus(text):
        return parse_quantus(text)
    match = METHOD.fullmatch(text)
    name = match["name"] if match else ""
    if name in explainers.names() or not (name in metrics.names() or ":" in name):
        return None
    try:
        item = metrics[name].item
    except WrongUsage:
        return None
    return parse_metric(text) if isinstance(item, Metric) else None


def stranger_of(text: str) -> str:
    """The name of a metric that is a third party's code, else an empty text; nothing is imported for it."""
    if is_of_quantus(text):
        return FAMILY
    match = METHOD.fullmatch(text)
    return metrics.stranger_of(match["name"]) if match else ""


def with_options(metric: Metric, text: str) -> Metric:
    """A metric with other options, written as `steps=28,baseline=mean`; its new name ends in them."""
    if metric.options is None:
        raise WrongUsage(f"{metric.name} has no parameters; came {text}")
    values = parse_parameters(metric.name, type(metric.options), text)
    options: Any = replace(metric.options, **values)
    score = replace(metric.score, read=options) if isinstance(metric.score, Reading | Asking) else options
    chance = metric.chance if options == metric.options else None  # a formula is that of the usual options
    return replace(metric, name=f"{metric.name}:{text}", score=score, chance=chance)


def expand(text: str) -> list[str]:
    """The names that `usual`, `all` or `family:NAME` stands for; anything else stands for itself."""
    kind, _, family = text.partition(":")
    if text not in (USUAL, "all") and kind != "family":
        return [text]
    known = {name: metrics[name].item for name in metrics.names()}
    if text == USUAL:
        return [name for name, metric in known.items() if metric.family == "localisation" and not metric.needs]
    families = {name: metric.family for name, metric in known.items()}
    if text != "all" and family not in families.values():
        raise WrongUsage(unknown("family", family, set(families.values())))
    return [name for name, its_family in families.items() if text == "all" or its_family == family]
