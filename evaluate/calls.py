"""The words of the command line as Python calls: explain a picture, score methods, audit by a plan.

Nothing is made that is not there: data and models have to be named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.picture import as_rgb, read_picture
from an8flower.store import FlowerStore

from .case import Explainer
from .explaining.methods import Method, at_precision, parse_method, parse_methods
from .explaining.single_picture import Explanation, explain_picture, explain_row
from .metrics.naming import USUAL, parse_metrics
from .models.labels import read_labels
from .models.networks.guard import evaluating
from .models.sources import Source, normalisation_of, with_weights
from .resources import Resources, device_named
from .results.folder import Run
from .results.notebook import AuditResult, ScoreResult
from .scoring.judge import Target
from .scoring.run import ScoringPlan
from .scoring.run import score as judge

if TYPE_CHECKING:
    from .audits.plan import Plan

Place = str | Path
Model = str | Path | nn.Module
Picture = str | Path | Image.Image | np.ndarray


def explain(
    *,
    method: str | Explainer,
    model: Model,
    image: Picture | None = None,
    data: Place | FlowerStore | None = None,
    row: int | None = None,
    split: str = "test",
    weights: Place | None = None,
    labels: Place | Sequence[str] | None = None,
    size: int | None = None,
    normalise: str | None = None,
    layer: str | None = None,
    target: int | None = None,
    device: str = "auto",
) -> Explanation:
    """Explain one picture, or one row of a data set, as `an8flower explain` does.

    >>> found = explain(method="gradcam", model=network, image="cat.png", target=283)  # doctest: +SKIP
    >>> found.map, found.overlay, found.predicted_name  # doctest: +SKIP

    Args:
        method: as for --method, or an explainer itself.
        model: a file, package.module:factory, a network or a Classifier. It is given back in the mode that it came in.
        image: a file, a PIL image or an array (H, W, 3) uint8.
        labels: a file of class names, or the names.
        normalise: imagenet, none, or M,M,M:S,S,S; of a network that is no Classifier.
        device: auto is where the network is that was given, else a GPU where there is one.

    Raises:
        WrongUsage, Refusal: with one sentence that says what came, what was expected and the remedy.
    """
    if (image is None) == (row is None):
        raise WrongUsage("give either image, or row (with data)")
    asked, place = _method(method), _device(device, [model])
    source = Source(
        model,
        None if weights is None else Path(weights),
        _names(labels),
        size,
        None if normalise is None else normalisation_of(normalise),
        layer,
    )
    store = data if isinstance(data, FlowerStore) or data is None else FlowerStore(data)
    with _as_it_was([model]):
        if image is not None:
            return explain_picture(_picture(image), _name(image), source, asked, target, place, store)
        if store is None:
            raise WrongUsage(f"row {row} of which data set? give data as well")
        return explain_row(store, split, cast(int, row), source, asked, target, place)


def score(
    *,
    data: Place | FlowerStore,
    models: Model | Sequence[Model],
    methods: str | Explainer | Sequence[str | Explainer],
    metrics: str | Sequence[str] = (USUAL,),
    weights: Place | Sequence[Place] = (),
    split: str = "test",
    rows: int | None = None,
    target: Target = "label",
    seed: int = 0,
    batch: int | None = None,
    precision: str = "float32",
    device: str = "auto",
    output: Place | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Explain and score methods against the truth, as `an8flower score` does.

    >>> found = score(data="data/single-6c.h5", models=network, methods=["gradcam", "random"])  # doctest: +SKIP
    >>> found.frame  # doctest: +SKIP

    Args:
        models: files, package.module:factory, networks or Classifiers, which are given back in the mode they came in.
        methods: as for --method, or explainers themselves.
        weights: safetensors files for the factories among the models, one each, in the same order.
        output: the folder of the results; `runs/DATA` where None. What lies there already is not computed again.
        progress: told how many cells are through, of how many.

    Raises:
        WrongUsage, Refusal: with one sentence that says what came, what was expected and the remedy.
    """
    store = data if isinstance(data, FlowerStore) else FlowerStore(data)
    given = [models] if isinstance(models, Model) else list(models)
    files = _texts(weights)
    names = tuple(metric.name for metric in parse_metrics(_texts(metrics)))
    asked = tuple(at_precision(_methods(methods), precision))
    plan = ScoringPlan(
        data=store.path,
        models=with_weights(given, files),
        methods=asked,
        metrics=names,
        split=split,
        rows=rows,
        target=target,
        seed=seed,
    )
    folder = Path("runs") / store.path.stem if output is None else Path(output)
    with _as_it_was(given):
        found = judge(plan, Resources(_device(device, given), batch), folder, progress or (lambda done, total: None))
    refuse_if_nothing_was_scored(found.document)
    return ScoreResult(found.document, Run(folder).table(found.filed), folder)


def audit(
    plan: Plan | Place = "quick",
    *,
    data: Place | Sequence[Place] = (),
    models: Place | Sequence[Place] = (),
    weights: Place | Sequence[Place] = (),
    methods: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    rows: int | None = None,
    reduced: bool = False,
    output: Place | None = None,
    fresh: bool = False,
    trust: bool = False,
    **how: Any,
) -> AuditResult:
    """Carry out the plan of an audit, as `an8flower audit` does, and read what it left.

    >>> found = audit("plan.toml", output="runs/mine")  # doctest: +SKIP
    >>> found.frame, found.page  # doctest: +SKIP

    Args:
        plan: a plan, a .toml file, or the name of a shipped one.
        data, models, weights, methods, metrics, rows: instead of the plan's. What travels to workers is words, so
            models are files and package.module:factory.
        reduced: the plan at the size that it calls reduced.
        output: the folder; `runs/NAME` where None. What is done there is not done again.
        fresh: do everything anew.
        trust: import the modules that a .toml file names.
        how: as in `audits.run.How`: engine, workers, device, batch, ...; none of it changes a number.

    Raises:
        WrongUsage, Refusal: with one sentence that says what came, what was expected and the remedy.
    """
    from .audits import plan as plans
    from .audits.run import How
    from .audits.run import audit as carry_out

    wanted = plan if isinstance(plan, plans.Plan) else plans.load(str(plan))
    if not isinstance(plan, plans.Plan):
        refuse_untrusted(str(plan), wanted.own_code(), trust, "trust=True")
    wanted = (wanted.at_reduced_size() if reduced else wanted).instead(
        data=_texts(data),
        models=_texts(models),
        weights=_texts(weights),
        methods=_texts(methods),
        metrics=_texts(metrics),
        rows=rows,
    )
    done = carry_out(wanted, None if output is None else Path(output), How(**how), fresh=fresh)
    return AuditResult.read(done.folder)


def refuse_if_nothing_was_scored(document: Mapping[str, Any]) -> None:
    """Raise a Refusal with the first reason where no method came through."""
    if not document["results"]:
        raise Refusal((document["failed"] or document["skipped"])[0]["reason"])


def refuse_untrusted(plan: str, modules: Sequence[str], trusted: bool, consent: str) -> None:
    """Raise a Refusal where a plan names code of the user's own and nobody said that it may run.

    Args:
        plan: how the message calls the plan.
        modules: what would be imported.
        consent: what to add to let it run, as in `--trust`.
    """
    if modules and not trusted:
        named = ", ".join(modules)
        raise Refusal(f"{plan} would have {named} imported, which runs code; read it, and add {consent} if it is meant")


def _texts(given: Place | Sequence[Place]) -> list[str]:
    """One or several as texts."""
    return [str(given)] if isinstance(given, Place) else list(map(str, given))


def _methods(given: str | Explainer | Sequence[str | Explainer]) -> list[Method]:
    """Every method that is asked for, each once, under the first name that it came with."""
    several: Sequence[Any] = given if isinstance(given, list | tuple) else [given]
    found = [each for one in several for each in (parse_methods([one]) if isinstance(one, str) else [_method(one)])]
    return list({repr(method.explainer): method for method in reversed(found)}.values())[::-1]


def _method(given: str | Explainer) -> Method:
    """A method by its text, or an explainer that is called as its repr says."""
    return parse_method(given) if isinstance(given, str) else Method(repr(given), type(given).__name__, given)


def _names(labels: Place | Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    return read_labels(Path(labels)) if isinstance(labels, Place) else tuple(labels)


def _picture(given: Picture) -> Image.Image:
    if isinstance(given, Place):
        return read_picture(Path(given))
    if isinstance(given, Image.Image):
        return as_rgb(given)
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
        raise WrongUsage(f"image is {given.dtype} of shape {given.shape}; expected uint8 (H, W, 3), sRGB")
    return Image.fromarray(given)


def _name(given: Picture) -> str:
    """What seeds depend on: the name of a file, so that it may move."""
    return Path(given).name if isinstance(given, Place) else "picture"


def _device(name: str, models: Sequence[Model]) -> torch.device:
    """Where work is done: `auto` is where the first network is that was given as itself."""
    networks = [model for model in models if isinstance(model, nn.Module)]
    if name != "auto" or not networks:
        return device_named(name)
    return next((parameter.device for parameter in networks[0].parameters()), torch.device("cpu"))


def _as_it_was(models: Sequence[Model]) -> ExitStack:
    """A block within which the networks among the models are in eval mode, and behind which as they came."""
    modes = ExitStack()
    for model in models:
        if isinstance(model, nn.Module):
            modes.enter_context(evaluating(model))
    return modes
