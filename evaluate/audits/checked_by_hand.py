"""Explainers judged on networks set by hand: in this process, or with a stranger's code in a worker, under limits."""

from __future__ import annotations

from collections.abc import Iterator

from an8flower.errors import WrongUsage

from ..explaining.methods import parse_method, stranger_of
from ..metrics.naming import find_metric
from ..trust.by_hand.judge import ExaminedByHand, HandVerdict, judge_by_hand
from ..trust.by_hand.networks import HANDSET, handset
from .checked_apart import is_metric
from .engines.task import Engine, Task
from .strangers import parse_methods_apart


def examine_by_hand(text: str, engine: Engine | None = None) -> Iterator[ExaminedByHand]:
    """Judge an explainer on every network whose weights are set, one after the other.

    Args:
        engine: does the work where the code is a stranger's; None: this process does.

    Raises WrongUsage and Refusal as `parse_method` does, and WrongUsage for a metric.
    """
    return _examine_apart(text, engine) if engine else _examine_here(text)


def _examine_here(text: str) -> Iterator[ExaminedByHand]:
    _refuse_metric(text, find_metric(text) is not None)
    method = parse_method(text)
    return (judge_by_hand(method.explainer, network) for network in HANDSET)


def _examine_apart(text: str, engine: Engine) -> Iterator[ExaminedByHand]:
    (answer,) = engine.run([Task(text, is_metric, (text,), stranger=stranger_of(text))])
    _refuse_metric(text, answer.error is None and answer.value)
    parse_methods_apart([text], "float32", engine)
    return (_examine_stranger(text, network.name, engine) for network in HANDSET)


def _examine_stranger(text: str, network: str, engine: Engine) -> ExaminedByHand:
    """Have a worker judge a stranger's explainer; if its process dies or runs for too long, that is the verdict."""
    (done,) = engine.run([Task(text, judge_stranger, (text, network), stranger=stranger_of(text))])
    failure = ExaminedByHand(HandVerdict(network, "FAILED", f"{text}: {done.error}"))
    return done.value if done.error is None else failure


def judge_stranger(text: str, network: str) -> ExaminedByHand:
    """Judge a stranger's explainer on one network, in a worker."""
    return judge_by_hand(parse_method(text).explainer, handset(network))


def _refuse_metric(text: str, is_one: bool) -> None:
    if is_one:
        raise WrongUsage(f"{text} is a metric; expected an explainer, since --by-hand judges maps")
