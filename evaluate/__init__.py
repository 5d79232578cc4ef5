"""The judging side: classifiers, explainers, metrics, audits. This module is its one door.

Everything that the manual names is imported from here, and is loaded when it is used: `from an8flower.evaluate import
score` brings torch along, `import an8flower.evaluate` does not. The rooms behind the door may be rebuilt; these names
stay. No name of the door is that of a room or a file beside it, since importing a room would put the room in its place.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same table once more, for editors and mypy; a test compares the two
    from .audits.comparison import compare
    from .calls import audit, explain, save_maps, score, tune
    from .case import Case, Explainer, Query, Truth
    from .data.pictures import dataset
    from .explainers.ranges import Between, Choices, Layers, Numbered, Pixels
    from .explaining.contract import check_explainer, outcome
    from .explaining.explain import explain as explain_batch
    from .explaining.methods import Method, parse_method
    from .explaining.single_picture import Explanation
    from .metrics.metric import Asking, Metric, Reading, score_all
    from .metrics.naming import parse_metric
    from .models.classifier import Card, Classifier, build, wrap
    from .models.files import load
    from .models.gradient_penalty import GradientPenalty
    from .models.several_seeds import SeedsResult, train_seeds
    from .models.training import TrainingResult, train
    from .registry import register_arch, register_explainer, register_metric
    from .results.exports.read import read_scores
    from .results.exports.write import export_run
    from .results.notebook import AuditResult, ScoreResult, TuningResult
    from .results.summary_schema import summary_schema
    from .seeds import generator, seed_of

PLACES = {
    "Asking": "metrics.metric",
    "AuditResult": "results.notebook",
    "Between": "explainers.ranges",
    "Card": "models.classifier",
    "Case": "case",
    "Choices": "explainers.ranges",
    "Classifier": "models.classifier",
    "Explainer": "case",
    "Explanation": "explaining.single_picture",
    "GradientPenalty": "models.gradient_penalty",
    "Layers": "explainers.ranges",
    "Method": "explaining.methods",
    "Metric": "metrics.metric",
    "Numbered": "explainers.ranges",
    "Pixels": "explainers.ranges",
    "Query": "case",
    "Reading": "metrics.metric",
    "ScoreResult": "results.notebook",
    "SeedsResult": "models.several_seeds",
    "TrainingResult": "models.training",
    "Truth": "case",
    "TuningResult": "results.notebook",
    "audit": "calls",
    "build": "models.classifier",
    "check_explainer": "explaining.contract",
    "compare": "audits.comparison",
    "dataset": "data.pictures",
    "explain": "calls",
    "explain_batch": "explaining.explain:explain",
    "export_run": "results.exports.write",
    "generator": "seeds",
    "load": "models.files",
    "outcome": "explaining.contract",
    "parse_method": "explaining.methods",
    "parse_metric": "metrics.naming",
    "read_scores": "results.exports.read",
    "register_arch": "registry",
    "register_explainer": "registry",
    "register_metric": "registry",
    "save_maps": "calls",
    "score": "calls",
    "score_all": "metrics.metric",
    "seed_of": "seeds",
    "summary_schema": "results.summary_schema",
    "train": "models.training",
    "train_seeds": "models.several_seeds",
    "tune": "calls",
    "wrap": "models.classifier",
}
"""Where each name of the door is defined: `module`, or `module:name` where it is called otherwise there."""

__all__ = [
    "Asking",
    "AuditResult",
    "Between",
    "Card",
    "Case",
    "Choices",
    "Classifier",
    "Explainer",
    "Explanation",
    "GradientPenalty",
    "Layers",
    "Method",
    "Metric",
    "Numbered",
    "Pixels",
    "Query",
    "Reading",
    "ScoreResult",
    "SeedsResult",
    "TrainingResult",
    "Truth",
    "TuningResult",
    "audit",
    "build",
    "check_explainer",
    "compare",
    "dataset",
    "explain",
    "explain_batch",
    "export_run",
    "generator",
    "load",
    "outcome",
    "parse_method",
    "parse_metric",
    "read_scores",
    "register_arch",
    "register_explainer",
    "register_metric",
    "save_maps",
    "score",
    "score_all",
    "seed_of",
    "summary_schema",
    "train",
    "train_seeds",
    "tune",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, inner = PLACES[name].partition(":")
    return getattr(import_module(f".{module}", __name__), inner or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *PLACES})
