"""One data set of an audit, as all sections of the page see it: its methods, their looks, its leading metric."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from ..results.wording import is_lower_better, model_words
from .numbers import DASH, join_names
from .plots import Look, choose_looks

CONTROLS = "baselines"  # the family of methods that explain nothing: what a method has to beat
LEADING = "iou"  # in documents that do not say which metrics lead


class MethodView(NamedTuple):
    """One method that was scored, with its number on the page, its look and its results."""

    place: int
    text: str  # its name with the options that the plan sets
    control: bool
    look: Look
    result: Mapping[str, Any]


class StudyView:
    """One data set of an audit, with everything that the audit measured on it."""

    def __init__(self, index: int, document: Mapping[str, Any]) -> None:
        self.index, self.document = index, document

    @property
    def key(self) -> str:
        """The name of the data set in the page's HTML, unique on the page."""
        return f"study{self.index}"

    @property
    def name(self) -> str:
        """The name of the data set."""
        return str(self.document["dataset"]["name"])

    @property
    def scores(self) -> Mapping[str, Any]:
        """The document of `an8flower score` on the data set; empty if nothing was scored."""
        return self.document.get("scores") or {}

    @cached_property
    def methods(self) -> list[MethodView]:
        """All methods that were scored, in the order of the plan."""
        results = self.scores.get("results", [])
        controls = [is_control(result) for result in results]
        rows = zip(results, controls, choose_looks(controls), strict=True)
        return [MethodView(i, result["text"], control, look, result) for i, (result, control, look) in enumerate(rows)]

    @cached_property
    def by_text(self) -> dict[str, MethodView]:
        """The methods by their text."""
        return {method.text: method for method in self.methods}

    @cached_property
    def metrics(self) -> list[str]:
        """The names of all metrics, in the order of the plan."""
        return list(dict.fromkeys(name for method in self.methods for name in method.result["metrics"]))

    @property
    def leading(self) -> str | None:
        """The metric that ranks the methods, and that the verdict speaks of; None without any metric."""
        return next(iter(self.all_leading), None)

    @cached_property
    def all_leading(self) -> list[str]:
        """The leading metrics, as the plan named them; in older documents IoU if it was scored, else the first."""
        said = [name for name in self.scores.get("leading") or () if name in self.metrics]
        return said or ([LEADING] if LEADING in self.metrics else self.metrics[:1])

    @property
    def leading_sentence(self) -> str:
        """A sentence on the leading metrics and who named them; empty in documents that do not say."""
        if not self.scores.get("leading"):
            return ""
        first, *others = self.all_leading
        also = f", and {join_names(others)} beside it" if others else ""
        return f"Methods are ranked by {first}{also}: the plan says so, or its default, before anything is run."

    def lower_is_better(self, metric: str) -> bool:
        """Whether lower values of a metric are better."""
        card = next((card for card in self.scores.get("cards") or () if card.get("name") == metric), None)
        if card is not None and "higher_is_better" in card:
            return not card["higher_is_better"]
        return any(is_lower_better(method.result["metrics"].get(metric, {})) for method in self.methods)

    @property
    def digests(self) -> list[tuple[str, str]]:
        """The data and the models that were scored, each with the digest of its content."""
        data = self.document["dataset"]
        models = [(model_words(m), str(m["digest"])) for m in self.scores.get("models") or ()]
        return [(f"{self.name} ({data.get('path') or 'data'})", str(data.get("digest") or DASH)), *models]

    def class_name(self, label: int) -> str:
        """The name of a class; "class" and its number if it has no name."""
        names = self.document["dataset"].get("class_names") or []
        return str(names[label]) if 0 <= label < len(names) else f"class {label}"


def is_control(result: Mapping[str, Any]) -> bool:
    """Whether a method is a control: it explains nothing, and every other method has to beat it."""
    return bool(result.get("family") == CONTROLS)
