"""The words of the command line as Python calls: explain a picture, score methods, carry out the plan of an audit.

Unlike the commands, these calls render and train nothing by default: data and models have to be named. What only one of
them needs is imported when it is called: to explain a picture takes no pandas, no scipy and no statistics.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from an8flower.errors import DoubtfulModel, Refusal, WrongUsage
from an8flower.picture import as_rgb, read_picture
from an8flower.store import FlowerStore

from .case import Explainer
from .explaining.methods import Method, parse_method, parse_methods, set_precisions
from .explaining.single_picture import Explanation, explain_picture, explain_row
from .models.classifier import Classifier
from .models.elsewhere.opening import fetch
from .models.labels import read_labels
from .models.networks.arithmetic import FULL, TF32, multiplying_as, preserve_arithmetic
from .models.networks.guard import evaluating
from .models.normalisation import parse_normalisation
from .models.sources import NetworkSettings, Source, pair_with_weights
from .options import USUAL
from .resources import Resources, parse_device, refuse_single_precision

if TYPE_CHECKING:
    from .audits.plan import Plan
    from .results.notebook import AuditResult, ScoreResult, TuningResult
    from .scoring.judge import Target, TruthKind
    from .scoring.run import ScoringPlan

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
    trust: bool = False,
    download: bool = False,
) -> Explanation:
    """Explain one picture, or one row of a data set, as `an8flower explain` does.

    >>> explanation = explain(method="gradcam", model=network, image="cat.png", target=283)  # doctest: +SKIP
    >>> explanation.map, explanation.overlay, explanation.predicted_name  # doctest: +SKIP

    Args:
        method: a text as `--method` takes it (`gradcam:layer=layer3`), or an explainer.
        model: a safetensors file, `package.module:factory`, `timm:NAME` and its like, a torch network or a Classifier.
            A network comes back in the mode (train or eval) that it had.
        image: a picture's file, a PIL image or an array (H, W, 3) uint8. Give either this, or `row` with `data`.
        data: an HDF5 file of an8flower, or a FlowerStore.
        row: the row of `data` to explain, counted from 0 within the split.
        split: train, val or test.
        weights: a safetensors file for the network that a factory makes.
        labels: a file of class names, or the names in the order of the logits.
        size: the side in pixels of what the model sees; the model's own where None, else 224.
        normalise: imagenet, none, or M,M,M:S,S,S (means and standard deviations). Only for a bare network, which gets
            imagenet where this is None; a Classifier normalises by itself.
        layer: the layer that CAM-like methods look at; where None, the last one with spatial extent, or of a known
            vision transformer the last norm.
        target: the index of the class to explain; the row's label where None, or what is predicted of a picture.
        device: auto takes the device of the network where one was given, else a GPU if there is one, else the CPU.
        trust: import the module that a model's file names, which runs its code.
        download: download the weights of `timm:NAME`, `torchvision:NAME` or `hf:NAME`, unless they are there.

    Raises:
        WrongUsage: a name or an option is wrong.
        Refusal: the model, the picture or the data set cannot be used.
    """
    if (image is None) == (row is None):
        raise WrongUsage("give either image, or row (with data)")
    if download:
        fetch([model])
    named, place = _name_method(method), _choose_device(device, [model])
    source = Source(
        model,
        None if weights is None else Path(weights),
        _read_names(labels),
        size,
        None if normalise is None else parse_normalisation(normalise),
        layer,
        trust,
    )
    store = data if isinstance(data, FlowerStore) or data is None else FlowerStore(data)
    with _restore_modes([model]), multiplying_as(FULL, place):
        if image is not None:
            return explain_picture(_open_picture(image), _picture_name(image), source, named, target, place, store)
        if store is None:
            raise WrongUsage(f"row {row} of which data set? give data as well")
        return explain_row(store, split, cast(int, row), source, named, target, place)


def score(
    *,
    data: Place | FlowerStore,
    models: Model | Sequence[Model],
    methods: str | Explainer | Sequence[str | Explainer],
    metrics: str | Sequence[str] = (USUAL,),
    weights: Place | Sequence[Place] = (),
    labels: Place | Sequence[str] | None = None,
    normalise: str | None = None,
    layer: str | None = None,
    trust: bool = False,
    download: bool = False,
    split: str = "test",
    rows: int | None = None,
    target: Target = "label",
    truth: TruthKind = "association",
    seed: int = 0,
    require: str | Sequence[str] = (),
    batch: int | None = None,
    precision: str = "float32",
    device: str = "auto",
    output: Place | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScoreResult:
    """Explain and score methods against the truth, as `an8flower score` does.

    >>> result = score(data="data/single-6c.h5", models=network, methods=["gradcam", "random"])  # doctest: +SKIP
    >>> result.frame  # doctest: +SKIP

    Args:
        data: an HDF5 file of an8flower, or a FlowerStore.
        models: safetensors files, `package.module:factory`, `timm:NAME` and its like, torch networks or Classifiers.
            They come back in the mode that they had. Of one that is at chance, or far below what its file states, a
            warning tells.
        methods: texts as `--method` takes them, or explainers.
        metrics: texts as `--metric` takes them; `usual` stands for those that need maps and masks alone.
        weights: safetensors files for the factories among the models, one each, in the same order.
        labels: for factories and networks: a file of class names, or the names, in the order of the logits; those of
            the data where None.
        normalise: for factories and networks: imagenet, none, or M,M,M:S,S,S; imagenet where None.
        layer: for factories and networks: the layer that CAM-like methods look at; the last one with spatial extent
            where None.
        trust: import the modules that models' files name, which runs their code.
        download: download the weights of `timm:NAME`, `torchvision:NAME` or `hf:NAME`, unless they are there.
        split: train, val or test.
        rows: how many rows, spread evenly over the classes; all where None.
        target: explain the `label` or the `predicted` class.
        truth: of data with a suppressor, whether masks mark what goes along with the class (`association`) or all that
            the best classifier uses (`use`).
        seed: of the choice of rows, of stochastic methods and of resampling.
        require: what has to hold, as `--require` takes it; `document["requirements"]` says whether it does.
        batch: images in the network at once; what suits the device where None.
        precision: float32; bf16 for methods that mask, whose error stands in the result; or tf32 for a GPU that is to
            multiply so, which moves maps. Whatever torch was set to, a GPU multiplies in full otherwise.
        device: auto takes the device of the first network that was given, else a GPU if there is one, else the CPU.
        output: the folder of the results; `runs/DATA` where None. What lies there already is not computed again.
        progress: a function that is called with the number of cells done and the number of all cells.

    Raises:
        WrongUsage: a name or an option is wrong.
        Refusal: a model or the data set cannot be used, or no method could be scored.
    """
    from .results.files import refuse_audit
    from .results.folder import RunFolder
    from .results.notebook import ScoreResult
    from .scoring.required import decide_scores, read_requirements
    from .scoring.run import score as judge

    store = data if isinstance(data, FlowerStore) else FlowerStore(data)
    networks = _list_models(models, download)
    normalisation = None if normalise is None else parse_normalisation(normalise)
    settings = NetworkSettings(_read_names(labels), normalisation, layer, trust)
    named = set_precisions(_name_methods(methods), FULL if precision == TF32 else precision)
    sources, choices = pair_with_weights(networks, _to_texts(weights), settings), (split, rows, target, truth, seed)
    plan = _plan_scores(store, sources, named, _to_texts(metrics), choices)
    requirements = read_requirements(_to_texts(require), named, plan.metrics)
    resources = Resources(_choose_device(device, networks), batch)
    refuse_single_precision(resources.device)
    folder = Path("runs") / store.path.stem if output is None else Path(output)
    refuse_audit(folder)
    arithmetic = TF32 if precision == TF32 else FULL
    with _restore_modes(networks), multiplying_as(arithmetic, resources.device):
        scored = judge(plan, resources, folder, progress or (lambda done, total: None), warn=_warn)
    refuse_if_nothing_was_scored(scored.document)
    return ScoreResult(decide_scores(requirements, scored.document), RunFolder(folder).table(scored.filed), folder)


def _plan_scores(
    store: FlowerStore,
    sources: tuple[str | Source, ...],
    methods: Sequence[Method],
    metrics: Sequence[str],
    choices: tuple[str, int | None, Target, TruthKind, int],
) -> ScoringPlan:
    """The plan of what is scored, with the metrics that texts name; `choices` are the split and all that follows."""
    from .metrics.naming import parse_metrics
    from .scoring.run import ScoringPlan

    names = tuple(metric.name for metric in parse_metrics(metrics))
    return ScoringPlan(store.path, sources, tuple(methods), names, *choices)


def tune(
    *,
    data: Place | FlowerStore,
    model: Model,
    method: str | Explainer,
    metric: str = "iou_area",
    parameters: Sequence[str] = (),
    trials: int = 20,
    rows: int | None = 120,
    test_rows: int | None = 300,
    weights: Place | None = None,
    labels: Place | Sequence[str] | None = None,
    normalise: str | None = None,
    layer: str | None = None,
    trust: bool = False,
    download: bool = False,
    target: Target = "label",
    truth: TruthKind = "association",
    seed: int = 0,
    batch: int | None = None,
    device: str = "auto",
    output: Place | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TuningResult:
    """Tune the parameters of a method against the truth on validation rows, as `an8flower tune` does.

    >>> result = tune(data="data/single-6c.h5", model=network, method="finercam")  # doctest: +SKIP
    >>> result.method, result.gain, result.frame  # doctest: +SKIP

    Args:
        data: an HDF5 file of an8flower, or a FlowerStore.
        model: a safetensors file, `package.module:factory`, `timm:NAME` and its like, a torch network or a Classifier.
        method: a text as `--method` takes it, whose parameters stay as they are, or an explainer.
        metric: the metric that is tuned for, as `--metric` takes it.
        parameters: those that are tuned; all that have a range where empty.
        trials: how many combinations of values are tried, the method's own among them.
        rows: how many validation rows each trial is scored on, spread evenly over the classes; all where None.
        test_rows: how many test rows the gain is measured on; all where None.
        weights, labels, normalise, layer, trust, download: of the model, as in `score`.
        target: explain the `label` or the `predicted` class.
        truth: of data with a suppressor, what masks mark, as in `score`.
        seed: of the search, of the choice of rows and of methods that draw.
        batch: images in the network at once; what suits the device where None.
        device: auto takes the device of a network that was given, else a GPU if there is one, else the CPU.
        output: the folder of the cells; `runs/DATA/tuning` where None. What lies there is not computed again.
        progress: a function that is called with the number of trials done and the number of all trials.

    Raises:
        WrongUsage: a name or an option is wrong.
        NotApplicable: the method leaves no choice on this network.
        Refusal: the model or the data set cannot be used, no trial has a score, or Optuna is wanted and not installed.
    """
    from .results.files import refuse_audit
    from .results.notebook import TuningResult
    from .scoring.tuning import TuningPlan
    from .scoring.tuning import tune as search

    store = data if isinstance(data, FlowerStore) else FlowerStore(data)
    normalisation = None if normalise is None else parse_normalisation(normalise)
    settings = NetworkSettings(_read_names(labels), normalisation, layer, trust)
    sources = pair_with_weights(_list_models(model, download), [] if weights is None else [str(weights)], settings)
    plan = TuningPlan(
        store.path, sources, _name_method(method), metric, trials, tuple(parameters), rows, target, truth, seed
    )
    resources = Resources(_choose_device(device, [model]), batch)
    refuse_single_precision(resources.device)
    folder = Path("runs") / store.path.stem / "tuning" if output is None else Path(output)
    refuse_audit(folder)
    tell = progress or (lambda done, total: None)
    with _restore_modes([model]), multiplying_as(FULL, resources.device):
        return TuningResult(search(plan, resources, folder, tell, test_rows=test_rows, warn=_warn).document)


def audit(
    plan: Plan | Place = "quick",
    *,
    data: Place | Sequence[Place] = (),
    models: Place | Sequence[Place] = (),
    weights: Place | Sequence[Place] = (),
    labels: Place | None = None,
    normalise: str | None = None,
    layer: str | None = None,
    methods: str | Sequence[str] = (),
    metrics: str | Sequence[str] = (),
    rows: int | None = None,
    require: str | Sequence[str] = (),
    against: Place | None = None,
    reduced: bool = False,
    output: Place | None = None,
    fresh: bool = False,
    trust: bool = False,
    download: bool = False,
    **how: Any,
) -> AuditResult:
    """Carry out the plan of an audit, as `an8flower audit` does, and read the results.

    >>> result = audit("plan.toml", output="runs/mine")  # doctest: +SKIP
    >>> result.frame, result.page  # doctest: +SKIP

    Args:
        plan: the name of a shipped plan, a .toml file, or a plan that was read.
        data, models, weights, methods, metrics, rows: each stands in for what the plan says of it. Worker processes
            get texts alone, so models are safetensors files or `package.module:factory`.
        labels, normalise, layer: of the factories among `models`, as in `score`; `labels` is a file.
        require: what has to hold, as `--require` takes it; `summary["requirements"]` says whether it does.
        against: the folder of a finished audit that every cell is compared with; `summary["against"]` has the changes.
        reduced: do the small version of the plan, which its table `[reduced]` describes.
        output: the folder of the run; `runs/NAME` where None. What is done there is not done again.
        fresh: do everything anew.
        trust: import the modules that a .toml file, or a model's file, names, which runs their code.
        download: download the weights of `timm:NAME`, `torchvision:NAME` or `hf:NAME`, unless they are there.
        how: further options of `an8flower audit`: engine, workers, threads, device, precision, batch, time_limit,
            memory_limit, ray_address, keep_maps.

    Raises:
        WrongUsage: a name or an option is wrong.
        Refusal: the plan names code of your own and `trust` is not set, or data or models cannot be used.
    """
    from .audits import plan as plans
    from .audits.run import How
    from .audits.run import audit as carry_out
    from .results.notebook import AuditResult

    wanted = plan if isinstance(plan, plans.Plan) else plans.load(str(plan))
    if not isinstance(plan, plans.Plan):
        refuse_untrusted(str(plan), wanted.own_code(), trust, "trust=True")
    wanted = (wanted.at_reduced_size() if reduced else wanted).instead(
        data=_to_texts(data),
        models=_to_texts(models),
        weights=_to_texts(weights),
        settings={"labels": None if labels is None else str(labels), "normalise": normalise, "layer": layer},
        methods=_to_texts(methods),
        metrics=_to_texts(metrics),
        rows=rows,
        require=_to_texts(require),
    )
    _fetch_sources(wanted, download)
    with preserve_arithmetic():
        done = carry_out(
            wanted,
            None if output is None else Path(output),
            How(**how, trust=trust),
            fresh=fresh,
            warn=_warn,
            against=None if against is None else Path(against),
        )
    return AuditResult.read(done.folder)


def _warn(sentence: str) -> None:
    """Warn of a model whose scores mean little, at the place of the user's call."""
    warnings.warn(sentence, DoubtfulModel, stacklevel=4)


def save_maps(
    path: Place,
    maps: np.ndarray | torch.Tensor,
    *,
    data: Place | FlowerStore,
    model: Classifier | None,
    rows: Sequence[int] | np.ndarray | None = None,
    split: str = "test",
    target: Target = "label",
    method: str = "",
) -> Path:
    """Write saliency maps of any program with a manifest, so that `score --maps` and plans can score them.

    >>> save_maps("mine.h5", maps, data="data/single-6c.h5", model=classifier, method="mine")  # doctest: +SKIP

    Args:
        path: the file to write, .h5 or .npz; beside the latter lies its manifest, PATH.json.
        maps: (n, S, S) floats, larger = more evidence for the target; kept as float32.
        data: the data set whose pictures were explained.
        model: the classifier that was explained (`load` and `wrap` give one); None of maps that ask no model.
        rows: the rows (n,) of the maps within the split, in any order; None if there is a map for each row, in order.
        split: train, val or test.
        target: whether the class that was explained is the row's `label`, or what was `predicted`.
        method: what made the maps, in any words.

    Raises:
        WrongUsage: a name of another ending.
        Refusal: the maps are not those of the rows: another count or shape, NaN.
    """
    from .results.kept_maps import write_map_file
    from .results.map_files import MapsManifest

    store = data if isinstance(data, FlowerStore) else FlowerStore(data)
    values = maps.detach().cpu().numpy() if isinstance(maps, torch.Tensor) else np.asarray(maps)
    digest = None if model is None else model.digest
    manifest = MapsManifest(store.digest, split, digest, target, method)
    return write_map_file(Path(path), values, rows, manifest, store[split])


def _list_models(models: Model | Sequence[Model], download: bool) -> list[Model]:
    """A list of the models, with their weights downloaded where they may be."""
    networks = [models] if isinstance(models, Model) else list(models)
    if download:
        fetch(networks)
    return networks


def _fetch_sources(plan: Plan, download: bool) -> None:
    """Download the weights of a plan's networks from elsewhere, where they may be."""
    if download:
        fetch(entry.source for entry in plan.models if entry.source)


def refuse_if_nothing_was_scored(document: Mapping[str, Any]) -> None:
    """Raise a Refusal with the first reason if no method could be scored."""
    if not document["results"]:
        raise Refusal((document["failed"] or document["skipped"])[0]["reason"])


def refuse_untrusted(plan: str, modules: Sequence[str], trusted: bool, consent: str) -> None:
    """Raise a Refusal if a plan names code of the user's own and nobody said that it may run.

    Args:
        plan: how the message calls the plan.
        modules: what would be imported.
        consent: what to add to let it run, as in `--trust`.
    """
    if modules and not trusted:
        raise Refusal(
            f"{plan} names {', '.join(modules)}, and importing a module runs its code; "
            f"read the modules, and add {consent} if you trust them"
        )


def _to_texts(words: Place | Sequence[Place]) -> list[str]:
    """One text or path, or several, as a list of texts."""
    return [str(words)] if isinstance(words, Place) else list(map(str, words))


def _name_methods(methods: str | Explainer | Sequence[str | Explainer]) -> list[Method]:
    """The methods of a call, each once, under the first name that it came with."""
    several: Sequence[Any] = methods if isinstance(methods, list | tuple) else [methods]
    named = [method for item in several for method in _expand(item)]
    return list({repr(method.explainer): method for method in reversed(named)}.values())[::-1]


def _expand(method: str | Explainer) -> list[Method]:
    """The methods behind a text, which may name a family; an explainer is one method."""
    return parse_methods([method]) if isinstance(method, str) else [_name_method(method)]


def _name_method(method: str | Explainer) -> Method:
    """A method by its text; an explainer is called as its repr says."""
    return parse_method(method) if isinstance(method, str) else Method(repr(method), type(method).__name__, method)


def _read_names(labels: Place | Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is None:
        return None
    return read_labels(Path(labels)) if isinstance(labels, Place) else tuple(labels)


def _open_picture(picture: Picture) -> Image.Image:
    if isinstance(picture, Place):
        return read_picture(Path(picture))
    if isinstance(picture, Image.Image):
        return as_rgb(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise WrongUsage(f"image is {picture.dtype} of shape {picture.shape}; expected uint8 (H, W, 3), sRGB")
    return Image.fromarray(picture)


def _picture_name(picture: Picture) -> str:
    """The name of a picture that seeds depend on: the file's name without its folder, so that the file may move."""
    return Path(picture).name if isinstance(picture, Place) else "picture"


def _choose_device(name: str, models: Sequence[Model]) -> torch.device:
    """The device to work on: `auto` is that of the first model that came as a network."""
    networks = [model for model in models if isinstance(model, nn.Module)]
    if name != "auto" or not networks:
        return parse_device(name)
    return next((parameter.device for parameter in networks[0].parameters()), torch.device("cpu"))


def _restore_modes(models: Sequence[Model]) -> ExitStack:
    """A block in which the networks among the models are in eval mode; after it they have the modes they came with."""
    modes = ExitStack()
    for model in models:
        if isinstance(model, nn.Module):
            modes.enter_context(evaluating(model))
    return modes
