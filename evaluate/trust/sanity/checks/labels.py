"""A model of the same architecture that memorised permuted labels: what it has learnt is not what classes look like.

Source: Adebayo et al., NeurIPS 2018, section 4.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from an8flower.errors import NotApplicable

from ..check import CheckOfModel, Findings, Setting, Subject, implements
from ..label_randomisation import MemorisingModel, Memory, memorise_once
from ..similarity import ComparedMaps, similarities

MEMORY = Memory()


@implements("labels")
class PermutedLabels(CheckOfModel):
    """How alike the maps of a model are that has memorised labels which say nothing of the images.

    A model is dear to train, so there is one, and one model gives no verdict: its numbers describe it alone.
    """

    def __init__(self, setting: Setting, value: Any) -> None:
        super().__init__(setting, value)
        self.memory = replace(MEMORY, seed=setting.seed) if value else None
        self.memorised, self.reason = self._memorise()

    def _memorise(self) -> tuple[MemorisingModel | None, str]:
        """The model of permuted labels, or why there is none."""
        if self.memory is None:
            return None, "not asked for"
        setting = self.setting
        try:
            return memorise_once(setting.classifier, setting.split.store, self.memory, setting.folder), ""
        except NotApplicable as reason:
            return None, str(reason)

    def examine(self, subject: Subject) -> Findings:
        """The similarities to the maps of the model of permuted labels, where there is one."""
        if self.memorised is None:
            return Findings()
        maps = ComparedMaps(subject.explain(self.memorised.classifier, subject.query))
        return Findings(single={"labels": similarities(subject.original, maps)})

    def describe_plan(self) -> dict[str, Any]:
        """How labels are memorised; None where that was not asked for."""
        return {"memory": None if self.memory is None else asdict(self.memory)}

    def describe_model(self) -> dict[str, Any]:
        """The model of permuted labels, or why there is none."""
        return {"labels": {"reason": self.reason} if self.memorised is None else self.memorised.to_document()}
