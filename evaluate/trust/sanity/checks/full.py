"""All parameters drawn anew: how alike the maps are, and how much their entropy rises.

Source: Hedström et al., Sanity Checks Revisited, XAI in Action workshop, NeurIPS 2023 (efficient).
"""

from __future__ import annotations

from ..check import CheckOfModel, Findings, Subject, implements


@implements("full")
class AllRandom(CheckOfModel):
    """The verdict where the whole network is random."""

    def examine(self, subject: Subject) -> Findings:
        """The similarities to the maps of random networks, and the rise of the entropy."""
        full = subject.full
        return Findings({"model": full.likeness}, {"mprt_full": full.likeness["spearman_abs"], "emprt": full.rise})
