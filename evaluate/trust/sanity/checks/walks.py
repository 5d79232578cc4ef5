"""The walks down the network: layer after layer drawn anew from the logits on, and each layer alone.

Source: Adebayo et al., NeurIPS 2018 (cascading, independent).
"""

from __future__ import annotations

from ..check import CheckOfModel, Findings, Subject, implements, over_steps


@implements("walks")
class Walks(CheckOfModel):
    """How alike maps still are at each step, and the verdict where only the last layer is random."""

    def examine(self, subject: Subject) -> Findings:
        """Both walks, and the first step of the cascade."""
        walks = subject.walks
        scores = {"mprt": over_steps(walks["cascading"]), "mprt_independent": over_steps(walks["independent"])}
        return Findings({"logits": walks["cascading"][0].likeness}, scores, walks)
