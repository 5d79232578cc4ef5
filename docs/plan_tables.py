"""Tables about plans: every key with its default, and the plans that are shipped."""

from __future__ import annotations

import json
from typing import Any

from markup import code, plain, table
from pydantic import BaseModel


def plan() -> str:
    """Every key of a plan, table by table."""
    from an8flower.evaluate.audits import plan as plans

    titles = {"Plan": "The plan itself"}
    titles |= {"data": "`[[data]]`, one for each data set", "models": "`[[models]]`, one for each kind of model"}
    return "\n\n".join(
        f"### {titles.get(key, f'`[{key}]`')}\n\n{_keys(key, kind)}" for key, kind in plans.tables().items()
    )


def _keys(key: str, kind: type[BaseModel]) -> str:
    """The keys of one table of a plan."""
    words = {name: KEYS[f"{key}.{name}"] for name in kind.model_fields}
    rows = [[code(name), _default(field), words[name]] for name, field in kind.model_fields.items()]
    return table(["key", "default", "what it is"], rows)


def _default(field: Any) -> str:
    """The default of a key; a table has defaults of its own, further down."""
    if field.is_required():
        return "has to be given"
    if field.default is None:
        return "none"
    return "see below" if isinstance(field.default, BaseModel) else code(json.dumps(field.default))


KEYS = {
    "Plan.name": "letters, digits, `.`, `_`, `-`; the results lie in `runs/NAME`",
    "Plan.title": "a line for people; the heading of the page",
    "Plan.data": "the data sets",
    "Plan.models": "the classifiers; each is trained on each data set",
    "Plan.methods": "as `--method` takes them: names with parameters, `family:cam`, `all`; "
    '`{ method = "attnlrp", tune = true }` is scored as it is, and tuned',
    "Plan.metrics": "as `--metric` takes them; `usual` are those that need maps and masks alone",
    "Plan.leading": "of the metrics, those that the page leads with, written as in `metrics`; the first one ranks the "
    "methods. By default `iou_area` and `counterfactual_deletion`, those of them that are scored, else the "
    "first metric",
    "Plan.split": "the split whose rows are scored",
    "Plan.rows": "how many rows are scored, spread evenly over the classes; by default all",
    "Plan.target": "explain the `label` or what is `predicted`",
    "Plan.truth": "of data with a [suppressor](spec.md#suppressor), what masks mark: what goes along with the class "
    "(`association`), or all that the best classifier uses (`use`)",
    "Plan.seed": "seed of the choice of rows, of methods that draw, and of resampling",
    "Plan.certificate": "what the models rely on",
    "Plan.derivations": "whether two derivations of what a model uses agree, where a metric asks for effect maps",
    "Plan.roar": "networks trained anew without the pixels that a method calls important; skipped if it is left out",
    "Plan.agreement": "whether a method's maps agree where models and evidence do; skipped if it is left out",
    "Plan.architecture": "whether maps stay where a network can look, on "
    "[canvases](known.md#networks-that-can-look-at-one-place-only); skipped if it is left out",
    "Plan.prototypes": "what [prototypes](model.md#what-prototypes-stand-for) stand for, of networks that have some; "
    "skipped if it is left out",
    "Plan.sanity": "whether methods notice that a model is randomised; skipped if it is left out",
    "Plan.meta": "which metric may be believed: maps of known worth, scored by every metric on the models that rely on "
    "the evidence; skipped if it is left out",
    "Plan.marks": "whether models go by a mark, and methods show it; only for data with planted marks or a shortcut",
    "Plan.tune": "methods that are [tuned](tuning.md) on validation rows first, and scored as further methods; skipped "
    "if it is left out",
    "Plan.pictures": "what is shown in the gallery",
    "Plan.printed": "tables from the literature that the page sets ours beside",
    "Plan.require": "what has to hold, as lists of conditions by their subject, a method or `certificate`; see "
    "[Gates](ci.md)",
    "Plan.verdict": "when a method is trusted, and when it is to be avoided; see [the rules](report.md#the-rules)",
    "verdict.skill": "what a bound of skill has to exceed; 0 is the best control that sees no model",
    "verdict.best": "in how many of the two questions *trust* takes a place among the best",
    "verdict.rows": "with fewer rows, nothing is decided",
    "verdict.silent": "a method with a larger share of maps that say nothing is not trusted",
    "verdict.shortcut": "a model goes by a planted shortcut if it decides at least this share of the cases",
    "verdict.insane": "the sanity tests of which one failure means *avoid*",
    "verdict.checked": "whether *trust* takes a passed sanity check; with `false`, one that was not made does as well",
    "Plan.reduced": "a small version of the plan, for two cores; a key that is left out keeps its value",
    "data.spec": "a preset, or a `.toml` file; rendered if the data set does not exist yet",
    "data.file": "an HDF5 file; either this or `spec`",
    "data.rows": "rows in all, as `generate --rows`",
    "data.size": "side of the pictures in pixels",
    "data.seed": "another seed gives other rows",
    "data.agreement": "of the spec's shortcut: in which share of the training and validation rows it agrees",
    "models.arch": "an architecture, trained once for each seed: a name, `timm:NAME`, `package.module:factory`",
    "models.seeds": "the seeds of the trainings",
    "models.epochs": "epochs at most; by default as the architecture says",
    "models.learning_rate": "at the top of the cycle; by default as the architecture says",
    "models.init": "a safetensors file: pretrained weights that the training starts from",
    "models.starts_from": "another architecture of this plan (`flowernet`, `resnet18+cosine`): training starts from "
    "its model of the same data and seed",
    "models.freeze": "the layer up to which nothing is trained",
    "models.gradient_penalty": "`cosine`, `mae`, `mse` or `histogram`: "
    "a [penalty](model.md#with-gradients-that-can-be-read) in the loss",
    "models.strength": "the weight of that penalty; by default 0.0075",
    "models.gradient_of": "`loss` (the default) or `logit`: whose gradient the penalty is about",
    "models.source": "a safetensors file, or `package.module:factory`; either this or `arch`",
    "models.weights": "a safetensors file for the network that a factory makes",
    "models.labels": "a file of the class names in the order of the outputs of a factory's network",
    "models.normalise": "`imagenet`, `none`, or means and deviations, `M,M,M:S,S,S`",
    "models.layer": "the layer that CAMs look at; by default the last one with spatial extent",
    "certificate.rows": "how many rows are tested, or all if there are fewer",
    "derivations.rows": "rows of which regions are swapped, or all if there are fewer",
    "derivations.orders": "orders in which the regions of a row come in, each with its reverse: two passes each, for "
    "each region and other class",
    "roar.methods": "the methods by whose maps pixels are removed; by default those of the plan",
    "roar.shares": "the shares of the pixels that are removed, each between 0 and 1; a network is trained for each",
    "roar.epochs": "epochs of each training; by default those of the architecture",
    "agreement.methods": "the methods that are asked; by default those of the plan",
    "agreement.rows": "rows that are explained, twice on each model, or all if there are fewer",
    "architecture.methods": "the methods to judge; by default those of the plan",
    "architecture.canvases": "canvases of four pictures for each model: a multiple of 4, a quarter for each cell",
    "prototypes.rows": "rows that prototypes are looked for in, or all if there are fewer",
    "prototypes.published": "whether the published definitions are computed as well",
    "sanity.methods": "the methods to check; by default those of the plan",
    "sanity.rows": "rows whose maps are compared",
    "sanity.steps": "steps of the walk from the logits down, at most",
    "sanity.draws": "how often the network is drawn anew; rows are dealt among the draws, and verdicts want 5",
    "sanity.recalibrate": "whether batch norms take new statistics from the rows; else they keep theirs",
    "sanity.smooth": "noisy images of smooth MPRT, which costs as many times as much; not done where it is left out",
    "sanity.labels": "whether a model is trained on permuted labels as well, which takes minutes",
    "meta.rows": "rows on which the maps are scored, or all if there are fewer",
    "marks.rows": "how many rows are asked about, or all if there are fewer",
    "marks.innocent": "whether a twin of each trained model is trained with marks that say nothing, for false alarms",
    "tune.methods": "the methods that are tuned, for each data set; by default those of the plan",
    "tune.metric": "the metric that they are tuned by, one of the plan's",
    "tune.trials": "how many combinations of values are tried for each method, its own among them",
    "tune.rows": "validation rows that a trial is scored on, or all if there are fewer",
    "pictures.rows": "rows in the gallery, the same for all methods",
    "pictures.extremes": "the best and the worst rows of each method",
    "reduced.rows": "rows that are scored",
    "reduced.data_rows": "rows of the data sets, in all",
    "reduced.size": "side of the pictures in pixels",
    "reduced.seeds": "the seeds of the trainings",
    "reduced.epochs": "epochs at most",
    "reduced.archs": 'architectures that stand in for others: `{ resnet50 = "flowernet" }`',
    "reduced.meta_rows": "rows of the maps of known worth",
    "reduced.architecture_canvases": "canvases of four pictures for each model",
    "reduced.prototypes_rows": "rows that prototypes are looked for in",
    "reduced.roar_shares": "shares of the pixels that are removed before networks are trained anew",
    "reduced.roar_epochs": "epochs of each training of removing and retraining",
    "reduced.sanity_rows": "rows of the sanity checks",
    "reduced.tune_trials": "combinations of values that are tried",
    "reduced.tune_rows": "validation rows that a trial is scored on",
    "reduced.mark_rows": "rows that are asked about marks",
    "reduced.labels": "whether the sanity checks train a model on permuted labels",
}
"""What each key of a plan is; a key that is not here breaks the build."""


def plans() -> str:
    """The plans that are shipped, as a table."""
    from an8flower.evaluate.audits import plan as known

    shipped = [known.load(name) for name in known.shipped_plans()]
    return table(["plan", "what it asks"], [[code(shown.name), plain(shown.title)] for shown in shipped])
