"""The walk up the network with maps that are means over noisy images.

Source: Hedström et al., Sanity Checks Revisited, XAI in Action workshop, NeurIPS 2023 (smooth).
"""

from __future__ import annotations

from typing import Any

from ..check import CheckOfModel, Findings, Subject, implements, over_steps
from ..mprt import walk_smoothly


@implements("smooth")
class Smooth(CheckOfModel):
    """How alike smoothed maps still are at each step from the input up."""

    def examine(self, subject: Subject) -> Findings:
        """The walk, where it was asked for with a number of noisy images."""
        if not self.value:
            return Findings()
        points = walk_smoothly(subject.quiet, subject.explain, subject.query, self.value)
        return Findings(scores={"smprt": over_steps(points)}, curves={"bottom_up_smooth": points})

    def describe_plan(self) -> dict[str, Any]:
        """The number of noisy images; None where the walk was not asked for."""
        return {"smooth": self.value or None}
