"""The contracts of explainers and metrics: in this process, or with a stranger's code in a worker, under limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from ..explaining.contract import CHECKS, ContractVerdict, check_explainer, check_on
from ..explaining.contract_networks import NETWORKS
from ..explaining.methods import parse_method, stranger_of
from ..metrics.naming import find_metric, parse_metric
from ..scoring.metric_contract import METRIC_CHECKS, check_metric
from .engines.task import Engine, Task
from .strangers import parse_methods_apart

Kind = Literal["method", "metric"]


class Checked(NamedTuple):
    """What a name stands for, and the verdicts on it."""

    kind: Kind
    verdicts: list[ContractVerdict]


def promises_of(kind: Kind) -> dict[str, str]:
    """The sentence of each promise of a contract, by the name of its check."""
    return {check.name: check.promise for check in (METRIC_CHECKS if kind == "metric" else CHECKS)}


def check_here(text: str) -> Checked:
    """Put an explainer or a metric through its contract in this process.

    Raises WrongUsage and Refusal as `parse_method` does.
    """
    metric = find_metric(text)
    if metric:
        return Checked("metric", list(check_metric(metric)))
    method = parse_method(text)
    return Checked("method", list(check_explainer(method.explainer, method.class_sensitive)))


def check_apart(text: str, engine: Engine) -> Checked:
    """Put a stranger's explainer or metric through its contract in a worker; nothing of it is imported here.

    If its process dies or runs for too long, that is the last verdict.

    Raises WrongUsage and Refusal as `parse_method` does.
    """
    (answer,) = engine.run([Task(text, is_metric, (text,), stranger=stranger_of(text))])
    if answer.error is None and answer.value:
        (done,) = engine.run([Task(text, check_strange_metric, (text,), stranger=stranger_of(text))])
        failure = ContractVerdict(next(iter(NETWORKS)), METRIC_CHECKS[0].name, "FAILED", f"{text}: {done.error}")
        return Checked("metric", done.value if done.error is None else [failure])
    return Checked("method", list(_check_method(text, engine)))


def _check_method(text: str, engine: Engine) -> Iterator[ContractVerdict]:
    parse_methods_apart([text], "float32", engine)
    for network in NETWORKS:
        (done,) = engine.run([Task(text, check_stranger_on, (text, network), stranger=stranger_of(text))])
        if done.error is not None:
            yield ContractVerdict(network, CHECKS[0].name, "FAILED", f"{text}: {done.error}")
            return
        yield from done.value


def is_metric(text: str) -> bool:
    """Whether a text names a metric, asked in a worker, since that imports the stranger's code."""
    return find_metric(text) is not None


def check_strange_metric(text: str) -> list[ContractVerdict]:
    """Put a stranger's metric through its contract, in a worker."""
    return list(check_metric(parse_metric(text)))


def check_stranger_on(text: str, network: str) -> list[ContractVerdict]:
    """Put a stranger's explainer through the table on one network, in a worker."""
    method = parse_method(text)
    return list(check_on(method.explainer, network, method.class_sensitive))
