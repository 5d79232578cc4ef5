"""The settings that a network is trained with, as data: training reads them, `an8flower archs` and cards tell them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from .gradient_penalty import GradientPenalty

EPOCHS = 12
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
BATCH = 32
PATIENCE = 6
OPTIMISERS = {"AdamW": AdamW}
SCHEDULES = {"one cycle": OneCycleLR}


class Recipe(NamedTuple):
    """The settings that a network is trained with."""

    epochs: int
    batch: int
    learning_rate: float  # at the top of the cycle
    patience: int  # epochs without a better one after which training ends
    seed: int
    augmented: bool = True
    enough: float = math.inf  # validation accuracy at which training ends
    penalty: GradientPenalty | None = None
    decay: float = WEIGHT_DECAY
    optimiser: Literal["AdamW"] = "AdamW"
    schedule: Literal["one cycle"] = "one cycle"

    def start(self, groups: Iterable[dict[str, Any]], steps: int) -> tuple[AdamW, OneCycleLR]:
        """The optimiser and the schedule for groups of parameters, as torch takes them, and so many steps.

        A group without `lr` or `weight_decay` has those of the recipe.
        """
        optimiser = OPTIMISERS[self.optimiser](groups, self.learning_rate, weight_decay=self.decay)
        tops = [group["lr"] for group in optimiser.param_groups]
        return optimiser, SCHEDULES[self.schedule](optimiser, tops, steps)

    def words(self) -> str:
        """How a plain network is trained, in a few words: its one stage, as those of other recipes are told."""
        penalty = f" + {self.penalty.words()}" if self.penalty else ""
        best = f"best, no better one for {self.patience} epochs ends it"
        return f"all {self.epochs} epochs ({self.learning_rate:g}; cross entropy{penalty}; {best})"

    def manner(self) -> str:
        """What all stages of a training share, in a few words."""
        moves = "flipped and shifted" if self.augmented else "as they are"
        return f"{self.optimiser}, {self.schedule}, decay {self.decay:g}, batches of {self.batch} images {moves}"
