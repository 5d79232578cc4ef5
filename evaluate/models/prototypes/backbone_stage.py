"""The first stage of networks with prototypes: their backbone is trained as a plain network, whose head is left."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..classifier import Classifier
from ..frozen import Frozen
from ..staged_training import StagedWork
from ..training import fit
from .network import PrototypeNetwork


@dataclass(frozen=True)
class BackboneStage:
    """Train the backbone under the mean over positions and a linear layer, which is thrown away afterwards."""

    epochs: int
    rate: float
    name: str = "backbone"

    def words(self) -> str:
        """The stage with all its settings, in a few words."""
        return f"{self.name} {self.epochs} epochs ({self.rate:g}; mean and linear layer; cross entropy; best)"

    def check(self, work: StagedWork) -> None:
        """Raise nothing: a backbone can always be trained."""

    def run(self, work: StagedWork) -> None:
        """Train what is not frozen of the backbone; the stage is left out, and a note says so, if all is."""
        network = work.classifier.network
        assert isinstance(network, PrototypeNetwork), "the stage is of recipes for these alone"
        if set(network.backbone.parameters()) <= set(work.frozen.parameters):
            work.note(f"the stage {self.name} is left out, since all that it trains is frozen")
            return
        plain = self._put_under_mean(work.classifier, network.backbone)
        modules = set(network.backbone.modules())
        frozen = Frozen(work.frozen.parameters, tuple(module for module in work.frozen.modules if module in modules))
        recipe = work.recipe._replace(epochs=self.epochs, learning_rate=self.rate)
        fit(plain, work.training, work.validation, recipe, work.file, frozen)

    def _put_under_mean(self, classifier: Classifier, backbone: nn.Module) -> Classifier:
        """A plain classifier of the backbone itself, whose weights are shared."""
        with torch.no_grad():
            channels = backbone(classifier.probe(1)).shape[1]
        head = nn.Linear(channels, len(classifier.class_names))
        plain = nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
        mean, std = classifier.mean.flatten().tolist(), classifier.std.flatten().tolist()
        return Classifier(plain, classifier.card, "0", mean, std).to(classifier.device)
