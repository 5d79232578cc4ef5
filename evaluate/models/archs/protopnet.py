"""ProtoPNet over the convolutional networks that cross-attention pools as well: `flowernet+protopnet` and its like."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import nn

from ..prototypes.backbone_stage import BackboneStage
from ..prototypes.protopnet import ProtoPNet
from ..prototypes.protopnet_loss import ProtoPNetLoss
from ..prototypes.pushing import Prune, Push
from ..staged_training import StagedRecipe, TrainedGroup, TrainingStage
from .cross_attention_pooled import BASES, Base
from .with_prototypes import register_staged

PER_CLASS = 5  # prototypes


def cut_backbone(base: Base, classes: int, size: int) -> nn.Sequential:
    """The layers of a network from images to its last features, each named by the last word of its path there."""
    network = base.make(classes, size)
    paths = [path for stage in base.stages.parts for path in stage]
    return nn.Sequential(OrderedDict((path.rpartition(".")[2], network.get_submodule(path)) for path in paths))


def recipe_over(epochs: int, rate: float) -> StagedRecipe:
    """The stages of ProtoPNet over a backbone, which is trained as the plain network first: it starts from scratch."""
    loss = ProtoPNetLoss()
    behind = (TrainedGroup("add_on", 3e-3), TrainedGroup("prototypes", 3e-3, 0.0))
    return StagedRecipe(
        (
            BackboneStage(epochs, rate),
            TrainingStage("warm-up", 2, behind, loss),
            TrainingStage("joint", 4, (TrainedGroup("backbone", 1e-4), *behind), loss),
            Push(),
            Prune(),
            TrainingStage("last layer", 3, (TrainedGroup("last", 1e-3, 0.0),), ProtoPNetLoss(0.0, 0.0)),
        )
    )


@dataclass(frozen=True)
class ProtoPNetBase:
    """A convolutional network that looks for prototypes, patches of training images, in its features."""

    base: Base

    def __call__(self, classes: int, size: int) -> nn.Module:
        """A network for so many classes; any size."""
        return ProtoPNet(cut_backbone(self.base, classes, size), self.base.widths[-1], classes, PER_CLASS)


for _name, _base in BASES.items():
    register_staged(
        _name,
        "protopnet",
        ProtoPNetBase(_base),
        recipe_over,
        layer=f"backbone.{_base.stages.parts[-1][-1].rpartition('.')[2]}",
        source="Chen et al., NeurIPS 2019",
    )
