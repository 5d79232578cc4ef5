"""The section of the page about what the plan requires, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..results.pull_request import count_outcomes
from .reading import AuditFolder
from .sections import PageSection, add_section
from .study import StudyView


@add_section
def show_requirements(
    studies: Sequence[StudyView], summary: Mapping[str, Any], source: AuditFolder
) -> PageSection | None:
    """Each requirement with its outcome and the numbers that decide it; None if nothing was required."""
    requirements = summary.get("requirements")
    if not requirements:
        return None
    rows = [[entry["text"], entry["outcome"], entry["reason"]] for entry in requirements]
    return PageSection(
        "requirements",
        "What was required",
        {"rows": rows, "sentence": count_outcomes(requirements)},
        "requirements",
    )
