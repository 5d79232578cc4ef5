"""What an audit asks, in a title: for plans of which the command line has replaced data, models or methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plan import Plan

NAMED = 3  # so many are named; of more the number is said


def title_of(plan: Plan) -> str:
    """The title of a plan from what it asks: its methods, models and data sets."""
    models = [model.arch or str(model.source) for model in plan.models]
    data = [entry.file or str(entry.spec) for entry in plan.data]
    return f"{count(plan.methods, 'methods')} on {count(models, 'models')}, with {count(data, 'data sets')}"


def count(names: Sequence[str], what: str) -> str:
    """A few names one after the other, or how many there are.

    >>> count(["gradcam", "lrp"], "methods"), count(["a", "b", "c", "d"], "methods")
    ('gradcam and lrp', '4 methods')
    """
    names = list(dict.fromkeys(names))
    if len(names) > NAMED:
        return f"{len(names)} {what}"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
