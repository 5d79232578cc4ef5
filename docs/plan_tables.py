"""Tables about plans: every key with its default, and the plans that are shipped."""

from __future__ import annotations

import json
from typing import Any

from markup import code, plain, table
from pydantic import BaseModel


def plan() -> str:
    """Every key of a plan, table by table."""
    from an8flower.evaluate.audits import plan as plans

    titles = {
        plans.Plan: "The plan itself",
        plans.Data: "`[[data]]`, one for each data set",
        plans.Models: "`[[models]]`, one for each kind of model",
        plans.Certificate: "`[certificate]`",
        plans.Sanity: "`[sanity]`",
        plans.Pictures: "`[pictures]`",
        plans.Reduced: "`[reduced]`",
    }
    return "\n\n".join(f"### {title}\n\n{_keys(kind)}" for kind, title in titles.items())


def _keys(kind: type[BaseModel]) -> str:
    """The keys of one table of a plan."""
    words = {name: KEYS[f"{kind.__name__}.{name}"] for name in kind.model_fields}
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
    "Plan.methods": "as `--method` takes them: names with parameters, `family:cam`, `all`",
    "Plan.metrics": "as `--metric` takes them; `usual` are those that need maps and masks alone",
    "Plan.split": "the split whose rows are scored",
    "Plan.rows": "how many rows are scored, spread evenly over the classes; by default all",
    "Plan.target": "explain the `label` or what is `predicted`",
    "Plan.seed": "seed of the choice of rows, of methods that draw, and of resampling",
    "Plan.certificate": "what the models rely on",
    "Plan.sanity": "whether methods notice that a model is randomised; skipped if it is left out",
    "Plan.pictures": "what is shown in the gallery",
    "Plan.printed": "tables from the literature that the page sets ours beside",
    "Plan.reduced": "a small version of the plan, for two cores; a key that is left out keeps its value",
    "Data.spec": "a preset, or a `.toml` file; rendered if the data set does not exist yet",
    "Data.file": "an HDF5 file; either this or `spec`",
    "Data.rows": "rows in all, as `generate --rows`",
    "Data.size": "side of the pictures in pixels",
    "Data.seed": "another seed gives other rows",
    "Models.arch": "an architecture, trained once for each seed",
    "Models.seeds": "the seeds of the trainings",
    "Models.epochs": "epochs at most; by default as the architecture says",
    "Models.source": "a safetensors file, or `package.module:factory`; either this or `arch`",
    "Models.weights": "a safetensors file for the network that a factory makes",
    "Certificate.rows": "how many rows are tested, or all if there are fewer",
    "Sanity.methods": "the methods to check; by default those of the plan",
    "Sanity.rows": "rows whose maps are compared",
    "Sanity.steps": "steps of the walk from the logits down, at most",
    "Sanity.draws": "how often the whole network is drawn",
    "Sanity.labels": "whether a model is trained on permuted labels as well, which takes minutes",
    "Pictures.rows": "rows in the gallery, the same for all methods",
    "Pictures.extremes": "the best and the worst rows of each method",
    "Reduced.rows": "rows that are scored",
    "Reduced.data_rows": "rows of the data sets, in all",
    "Reduced.size": "side of the pictures in pixels",
    "Reduced.seeds": "the seeds of the trainings",
    "Reduced.epochs": "epochs at most",
    "Reduced.archs": 'architectures that stand in for others: `{ resnet50 = "flowernet" }`',
    "Reduced.sanity_rows": "rows of the sanity checks",
    "Reduced.labels": "whether the sanity checks train a model on permuted labels",
}
"""What each key of a plan is; a key that is not here breaks the build."""


def plans() -> str:
    """The plans that are shipped, as a table."""
    from an8flower.evaluate.audits import plan as known

    shipped = [known.load(name) for name in known.shipped()]
    return table(["plan", "what it asks"], [[code(shown.name), plain(shown.title)] for shown in shipped])
