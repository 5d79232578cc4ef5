"""Training in stages: the recipe that an architecture brings along, as data that can be shown and kept in a card."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from an8flower.errors import WrongUsage

from ..data.batches import RowSource
from .classifier import Classifier
from .frozen import NOTHING, Frozen, holding_still
from .networks.split import submodule
from .recipe import WEIGHT_DECAY, Recipe
from .training import (
    Best,
    EpochReport,
    measure,
    repeating_convolutions,
    run_epoch,
)


class StageLoss(Protocol):
    """The loss of a stage: a frozen dataclass of its weights, whose `words` a card tells."""

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, source: torch.Generator) -> Tensor:
        """The loss of images (B, 3, H, W) uint8, which are augmented already, with their labels (B,) int64: a scalar.

        Args:
            source: a generator on the CPU, for further views of the images and whatever else is drawn.
        """
        ...

    def words(self) -> str:
        """The loss with its weights, in a few words."""
        ...


@dataclass
class StagedWork:
    """A training in stages under way: what all stages work on, and the epochs that are behind it."""

    classifier: Classifier
    training: RowSource
    validation: RowSource
    recipe: Recipe
    frozen: Frozen
    epochs: int  # of all stages
    on_epoch: Callable[[EpochReport], None]
    note: Callable[[str], None]
    began: float = field(default_factory=time.perf_counter)
    history: list[EpochReport] = field(default_factory=list)
    planned: int = 0  # epochs of the stages that are over, whether they were run or not

    def file(self, report: EpochReport) -> None:
        """File the report of an epoch that counts from the beginning of its stage, counted from that of the whole."""
        whole = report._replace(
            epoch=self.planned + report.epoch, epochs=self.epochs, seconds=time.perf_counter() - self.began
        )
        self.history.append(whole)
        self.on_epoch(whole)


class RecipeStage(Protocol):
    """One stage of a recipe: epochs of training, or something that is done to the network between them."""

    @property
    def name(self) -> str:
        """The name of the stage, one word or two."""
        ...

    @property
    def epochs(self) -> int:
        """For how many epochs the stage trains at most; 0 if it does something else."""
        ...

    def words(self) -> str:
        """The stage with all its settings, in a few words."""
        ...

    def check(self, work: StagedWork) -> None:
        """Raise a Refusal, before any stage begins, if this one could not be carried out."""
        ...

    def run(self, work: StagedWork) -> None:
        """Carry the stage out on the classifier, which is in eval mode before and after."""
        ...


class TrainedGroup(NamedTuple):
    """A module that a stage trains, and how."""

    path: str  # of the module in the network
    rate: float  # learning rate at the top of the cycle
    decay: float = WEIGHT_DECAY

    def words(self) -> str:
        """The module and its learning rate, and how its weights decay if not as usual."""
        decay = "" if self.decay == WEIGHT_DECAY else " without decay" if not self.decay else f" decay {self.decay:g}"
        return f"{self.path} {self.rate:g}{decay}"


TrainedParameters = tuple[TrainedGroup, list[nn.Parameter]]


@dataclass(frozen=True)
class TrainingStage:
    """Epochs in which some modules of a network are trained by one loss, and all others stay as they are.

    Batch norms outside the modules keep their running statistics. Each group goes through one cycle of its rate.
    """

    name: str
    epochs: int
    groups: tuple[TrainedGroup, ...]
    loss: StageLoss
    keep: Literal["best", "last"] = "best"  # the weights of which epoch stay; the best one by the validation rows
    after_step: Callable[[nn.Module], None] | None = None  # what is done to the network after each step

    def words(self) -> str:
        """The stage with all its settings, in a few words."""
        groups = ", ".join(group.words() for group in self.groups)
        return f"{self.name} {self.epochs} epochs ({groups}; {self.loss.words()}; {self.keep})"

    def check(self, work: StagedWork) -> None:
        """Raise WrongUsage if the network has no module of a group."""
        for group in self.groups:
            submodule(work.classifier.network, group.path)

    def run(self, work: StagedWork) -> None:
        """Train the modules that are not frozen; the stage is left out, and a note says so, if all are."""
        groups = self._divide(work.classifier.network, work.frozen)
        if not groups:
            work.note(f"the stage {self.name} is left out, since all that it trains is frozen")
            return
        still = self._leave_alone(work.classifier.network, work.frozen, groups)
        with holding_still(still):
            self._train(work, groups, still)

    def _divide(self, network: nn.Module, frozen: Frozen) -> list[TrainedParameters]:
        """The groups that train anything, each with the parameters of its module that are not frozen."""
        still = set(frozen.parameters)
        modules = [(group, network.get_submodule(group.path)) for group in self.groups]
        divided = [(group, [p for p in module.parameters() if p not in still]) for group, module in modules]
        return [(group, parameters) for group, parameters in divided if parameters]

    def _leave_alone(self, network: nn.Module, frozen: Frozen, groups: Sequence[TrainedParameters]) -> Frozen:
        """All that a stage does not train, and the modules outside its groups, which stay in eval mode."""
        trained = {values for _, parameters in groups for values in parameters}
        within = {module for group in self.groups for module in network.get_submodule(group.path).modules()}
        outside = [module for module in network.modules() if within.isdisjoint(module.modules())]
        still = tuple(values for values in network.parameters() if values not in trained)
        return Frozen(still, (*outside, *frozen.modules))

    def _train(self, work: StagedWork, groups: Sequence[TrainedParameters], still: Frozen) -> None:
        classifier, best = work.classifier, Best(work.classifier)
        classifier.to(memory_format=torch.channels_last)
        steps = self.epochs * math.ceil(len(work.training) / work.recipe.batch)
        optimiser, schedule = work.recipe.start(
            [{"params": params, "lr": group.rate, "weight_decay": group.decay} for group, params in groups], steps
        )
        if (after := self.after_step) is not None:
            optimiser.register_step_post_hook(lambda *_: after(classifier.network))
        for epoch in range(self.epochs):
            place = work.planned + epoch
            loss = run_epoch(
                classifier, work.training, optimiser, schedule, work.recipe, place, still, self._loss(classifier)
            )
            report = EpochReport(epoch, self.epochs, loss, *measure(classifier, work.validation), 0.0)
            work.file(report)
            age = best.age_after(report)
            if self.keep == "best" and age >= work.recipe.patience:
                break
        if self.keep == "best":
            best.restore()
        classifier.to(memory_format=torch.contiguous_format).eval()

    def _loss(self, classifier: Classifier) -> Callable[[Tensor, Tensor, torch.Generator], Tensor]:
        return lambda images, labels, source: self.loss(classifier, images, labels, source)


@dataclass(frozen=True)
class StagedRecipe:
    """The stages that an architecture is trained in; it is registered with one, as `recipe`."""

    stages: tuple[RecipeStage, ...]

    @property
    def epochs(self) -> int:
        """The epochs of all stages together, at most."""
        return sum(stage.epochs for stage in self.stages)

    def words(self) -> str:
        """The stages with all their settings, in order, as a card tells them."""
        return "; ".join(stage.words() for stage in self.stages)

    def spread(self, epochs: int) -> StagedRecipe:
        """The recipe with so many epochs in all, shared out among the stages as before, one at least for each.

        Raises:
            WrongUsage: there are fewer epochs than stages that train.
        """
        trains = [stage for stage in self.stages if stage.epochs]
        if epochs < len(trains):
            names = ", ".join(stage.name for stage in trains)
            raise WrongUsage(
                f"{epochs} epochs came, and {len(trains)} stages train ({names}); give at least one epoch for each"
            )
        shares = iter(share_out(epochs, [stage.epochs for stage in trains]))
        stages = (replace(stage, epochs=next(shares)) if stage.epochs else stage for stage in self.stages)  # type: ignore[type-var]
        return replace(self, stages=tuple(stages))

    def fit(
        self,
        classifier: Classifier,
        training: RowSource,
        validation: RowSource,
        recipe: Recipe,
        on_epoch: Callable[[EpochReport], None] = lambda report: None,
        frozen: Frozen = NOTHING,
        note: Callable[[str], None] = lambda sentence: None,
    ) -> tuple[EpochReport, ...]:
        """Carry out all stages, with as many epochs in all as `recipe` says; leaves the classifier in eval mode.

        Of `recipe`, the learning rate and the penalty are not read: the stages have their own.
        """
        staged = self.spread(recipe.epochs)
        work = StagedWork(classifier, training, validation, recipe, frozen, staged.epochs, on_epoch, note)
        classifier.eval()
        for stage in staged.stages:
            stage.check(work)
        with repeating_convolutions():
            for stage in staged.stages:
                stage.run(work)
                classifier.eval()
                work.planned += stage.epochs
        return tuple(work.history)


def share_out(total: int, shares: Sequence[int]) -> list[int]:
    """A whole number divided in proportion to shares, at least 1 for each: the largest remainders are rounded up.

    >>> share_out(10, [10, 2, 5, 3]), share_out(4, [10, 2, 5, 3]), share_out(20, [10, 2, 5, 3])
    ([5, 1, 3, 1], [1, 1, 1, 1], [10, 2, 5, 3])
    """
    counts = [1] * len(shares)
    for _ in range(total - len(shares)):
        behind = [share * total / sum(shares) - count for share, count in zip(shares, counts, strict=True)]
        counts[behind.index(max(behind))] += 1
    return counts
