"""Explainers judged on canvases of a model's pictures: in this process, or with a stranger's code in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from an8flower.errors import WrongUsage
from an8flower.store import FlowerSplit, FlowerStore

from ..explaining.methods import parse_method, stranger_of
from ..metrics.naming import find_metric
from ..models.classifier import Classifier
from ..models.sources import open_judged
from ..trust.by_architecture.judge import CanvasVerdict, ExaminedCanvases, judge_on_canvases, lay_canvases
from ..trust.by_architecture.networks import SETTINGS, Setting
from .checked_apart import is_metric
from .engines.task import Engine, Task
from .strangers import parse_methods_apart


def examine_on_canvases(text: str, model: str, data: Path, engine: Engine | None = None) -> Iterator[ExaminedCanvases]:
    """Judge an explainer in every setting, on canvases of the test rows that a model gets right.

    Args:
        engine: does the work where the code is a stranger's; None: this process does.

    Raises WrongUsage and Refusal as `parse_method` and `open_judged` do, WrongUsage for a metric, and NotApplicable as
    `lay_canvases` does.
    """
    if engine is None:
        _refuse_metric(text, find_metric(text) is not None)
        method = parse_method(text)
        classifier, split = _open(model, data)
        canvases = lay_canvases(classifier, split)
        return (judge_on_canvases(method.explainer, classifier, canvases, setting) for setting in SETTINGS)
    (answer,) = engine.run([Task(text, is_metric, (text,), stranger=stranger_of(text))])
    _refuse_metric(text, answer.error is None and answer.value)
    parse_methods_apart([text], "float32", engine)
    lay_canvases(*_open(model, data))  # so that what is wrong with the model is said here
    return (_examine_stranger(text, model, data, setting, engine) for setting in SETTINGS)


def _open(model: str, data: Path) -> tuple[Classifier, FlowerSplit]:
    """The model, and the test rows that its canvases are made of."""
    store = FlowerStore(data)
    return open_judged(model, store, torch.device("cpu")), store["test"]


def _examine_stranger(text: str, model: str, data: Path, setting: Setting, engine: Engine) -> ExaminedCanvases:
    """Have a worker judge a stranger's explainer; if its process dies or runs for too long, that is the verdict."""
    task = Task(text, judge_stranger_on_canvases, (text, model, data, setting), stranger=stranger_of(text))
    (done,) = engine.run([task])
    failure = ExaminedCanvases(CanvasVerdict(setting, "FAILED", f"{text}: {done.error}"))
    return done.value if done.error is None else failure


def judge_stranger_on_canvases(text: str, model: str, data: Path, setting: Setting) -> ExaminedCanvases:
    """Judge a stranger's explainer in one setting, in a worker."""
    classifier, split = _open(model, data)
    return judge_on_canvases(parse_method(text).explainer, classifier, lay_canvases(classifier, split), setting)


def _refuse_metric(text: str, is_one: bool) -> None:
    if is_one:
        raise WrongUsage(f"{text} is a metric; expected an explainer, since --architecture judges maps")
