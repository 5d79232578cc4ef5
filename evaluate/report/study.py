"""One data set of an audit, as all parts of the page see it: its methods, their looks, its leading metric."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from ..results.wording import is_lower_better
from .numbers import DASH
from .plots import Look, looks

CONTROLS = "baselines"  # the family of methods that explain nothing: what a method has to beat
LEADING = "iou"


class Method(NamedTuple):
    """A method that was scored."""

    place: int
    text: str  # names it
    control: bool
    look: Look
    result: Mapping[str, Any]


class Study:
    """A data set with everything that was found on it."""

    def __init__(self, index: int, document: Mapping[str, Any]) -> None:
        self.index, self.document = index, document

    @property
    def key(self) -> str:
        """Names it within the page."""
        return f"study{self.index}"

    @property
    def name(self) -> str:
        """How the data set is called."""
        return str(self.document["dataset"]["name"])

    @property
    def scores(self) -> Mapping[str, Any]:
        """What `score` found; empty where nothing was scored."""
        return self.document.get("scores") or {}

    @cached_property
    def methods(self) -> list[Method]:
        """All that was scored, in the order of the plan."""
        results = self.scores.get("results", [])
        controls = [is_control(result) for result in results]
        rows = zip(results, controls, looks(controls), strict=True)
        return [Method(i, result["text"], control, look, result) for i, (result, control, look) in enumerate(rows)]

    @cached_property
    def by_text(self) -> dict[str, Method]:
        """The methods by what names them."""
        return {method.text: method for method in self.methods}

    @cached_property
    def metrics(self) -> list[str]:
        """The names of all metrics, in the order of the plan."""
        return list(dict.fromkeys(name for method in self.methods for name in method.result["metrics"]))

    @property
    def leading(self) -> str | None:
        """The metric that the verdict speaks of: IoU where it was asked for, else the first; None where none was."""
        return LEADING if LEADING in self.metrics else next(iter(self.metrics), None)

    def lower_is_better(self, metric: str) -> bool:
        """Whether less is more."""
        card = next((card for card in self.scores.get("cards") or () if card.get("name") == metric), None)
        if card is not None and "higher_is_better" in card:
            return not card["higher_is_better"]
        return any(is_lower_better(method.result["metrics"].get(metric, {})) for method in self.methods)

    @property
    def digests(self) -> list[tuple[str, str]]:
        """The data and the models that were scored, with what names their content."""
        data = self.document["dataset"]
        models = [(f"{m['arch']} seed {m['seed']}", str(m["digest"])) for m in self.scores.get("models") or ()]
        return [(f"{self.name} ({data.get('path') or 'data'})", str(data.get("digest") or DASH)), *models]

    def class_name(self, label: int) -> str:
        """The name of a class; its number where it has none."""
        names = self.document["dataset"].get("class_names") or []
        return str(names[label]) if 0 <= label < len(names) else f"class {label}"


def is_control(result: Mapping[str, Any]) -> bool:
    """Whether a method explains nothing, and is there to be beaten."""
    return bool(result.get("family") == CONTROLS)
