"""The leading metrics of a run: named before anything is scored, and the first of them ranks the methods."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from an8flower.errors import Refusal
from an8flower.names import unknown

from ..metrics.naming import expand, parse_metric

DEFAULT = ("iou_area", "counterfactual_deletion")
"""Does the map find the designed evidence? Does it order pixels as the model uses them? See `docs/ruler.md`."""


def check_leading(leading: Sequence[str], metrics: Sequence[str]) -> None:
    """Raise a Refusal if a leading metric is not among the metrics that are scored, both written as users write them.

    Nothing of a stranger's is imported for it, unless `metrics` has a pattern that does.
    """
    scored = [text for pattern in metrics for text in expand(pattern)]
    if missing := [text for text in leading if text not in scored]:
        raise Refusal(f"leading: {unknown('metric', missing[0], scored)}; a leading metric has to be among `metrics`")


def choose_leading(leading: Sequence[str], names: Collection[str]) -> list[str]:
    """The names of the leading metrics, of those that have scores; `names` are all of these in their order.

    If nobody says which, or none of them has scores, it is DEFAULT, those of it that have scores, whatever their
    options; if none has, the first metric. Empty if nothing has scores.
    """
    wanted = [name for name in (parse_metric(text).name for text in leading) if name in names]
    usual = [name for default in DEFAULT for name in names if name.partition(":")[0] == default]
    return list(dict.fromkeys(wanted)) or usual or list(names)[:1]
