"""The requirements of a plan held against its own names, before anything is rendered."""

from __future__ import annotations

from ..explaining.methods import expand as expand_methods
from ..metrics.naming import expand as expand_metrics
from ..results.requirements import refuse_unknown_names
from .plan import Plan


def check_requirements(plan: Plan, compares: bool = False) -> None:
    """Raise WrongUsage for a requirement about a method, a metric, a check or an architecture that the plan lacks.

    Nothing of a stranger's is imported for it, unless the plan has a pattern that does.

    Args:
        compares: whether there is an earlier run to compare with.
    """
    requirements = plan.requirements()
    if not requirements:
        return
    methods = [name for text in plan.methods for name in expand_methods(text)]
    refuse_unknown_names(
        requirements,
        methods=methods,
        metrics=[name for text in plan.metrics for name in expand_metrics(text)],
        sane=_methods_of(plan, "sanity"),
        stable=_methods_of(plan, "agreement"),
        certifies=_has_table(plan, "certificate"),
        architectures=_architectures(plan),
        compares=compares,
    )


def _has_table(plan: Plan, key: str) -> bool:
    """Whether a plan has the table of a stage."""
    return getattr(plan, key) is not None


def _methods_of(plan: Plan, key: str) -> list[str]:
    """The methods of a table of the plan: its own or, where it names none, the plan's; none without the table."""
    table = getattr(plan, key)
    texts = (table.methods or plan.methods) if table else ()
    return [name for text in texts for name in expand_methods(text)]


def _architectures(plan: Plan) -> list[str] | None:
    """The architectures of a plan; None if a model's is not known before it is opened."""
    archs = [model.variant for model in plan.models]
    return [arch for arch in archs if arch] if all(arch and ":" not in arch for arch in archs) else None
