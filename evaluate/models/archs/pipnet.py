"""PIP-Net over the convolutional networks: `flowernet+pipnet` and its like.

The last two strides of the larger networks are taken away, as in the publication, so that maps stay fine: 14 x 14
positions for images of 112 px in place of 4 x 4. `flowernet` has 28 x 28 already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from ..prototypes.backbone_stage import BackboneStage
from ..prototypes.pipnet import PipNet
from ..prototypes.pipnet_loss import PipNetLoss
from ..staged_training import StagedRecipe, TrainedGroup, TrainingStage
from .flowernet import flowernet
from .torchvision_cnns import convnext_tiny, mobilenet_v2, resnet18, resnet50
from .with_prototypes import register_staged

PROTOTYPES = 64


class Backbone(NamedTuple):
    """A network whose features PIP-Net takes: its function, the channels it ends in, and the strides taken away."""

    make: Callable[[int, int], nn.Module]
    channels: int
    strided: tuple[str, ...] = ()  # the paths of convolutions whose stride becomes 1


BACKBONES = {
    "flowernet": Backbone(flowernet, 64),
    "resnet18": Backbone(
        resnet18, 512, tuple(f"layer{i}.0.{name}" for i in (3, 4) for name in ("conv1", "downsample.0"))
    ),
    "resnet50": Backbone(
        resnet50, 2048, tuple(f"layer{i}.0.{name}" for i in (3, 4) for name in ("conv2", "downsample.0"))
    ),
    "mobilenet_v2": Backbone(mobilenet_v2, 1280, ("features.7.conv.1.0", "features.14.conv.1.0")),
    "convnext_tiny": Backbone(convnext_tiny, 768, ("features.4.1", "features.6.1")),
}
HEADS = ("avgpool", "fc")  # what is not taken of a network without `features`


@dataclass(frozen=True)
class PipNetOver:
    """A part-prototype network (PIP-Net) over the features of a convolutional network."""

    backbone: Backbone

    def __call__(self, classes: int, size: int) -> nn.Module:
        """A network for so many classes; any size."""
        features = take_features(self.backbone.make(classes, size), self.backbone.strided)
        return PipNet(features, self.backbone.channels, PROTOTYPES, classes)


def take_features(network: nn.Module, strided: tuple[str, ...]) -> nn.Sequential:
    """The layers of a network before its pooling, without the strides of some convolutions."""
    for path in strided:
        convolution = network.get_submodule(path)
        assert isinstance(convolution, nn.Conv2d), "what has a stride is a convolution"
        convolution.stride = (1, 1)
    features = getattr(network, "features", None)
    if isinstance(features, nn.Sequential):
        return features
    layers = nn.Sequential()
    for name, module in network.named_children():
        if name not in HEADS:
            layers.add_module(name, module)
    return layers


def drop_small_weights(network: nn.Module) -> None:
    """Set small weights of a PIP-Net to 0."""
    assert isinstance(network, PipNet), "this is for PIP-Net"
    network.evidence.drop_small()


def recipe_over(epochs: int, rate: float) -> StagedRecipe:
    """The stages of PIP-Net: the plain network, in place of pretrained weights; pairs of views; then classes as well.

    Args:
        epochs: of the plain network.
        rate: its learning rate; a tenth of that afterwards.
    """
    body = (TrainedGroup("backbone", rate / 10), TrainedGroup("prototypes", 1e-2))
    return StagedRecipe(
        (
            BackboneStage(epochs, rate),
            TrainingStage("pretraining", 2, body, PipNetLoss(), keep="last"),
            TrainingStage(
                "classes",
                6,
                (*body, TrainedGroup("evidence", 0.05, 0.0)),
                PipNetLoss(classification=2.0),
                after_step=drop_small_weights,
            ),
        )
    )


for _name, _backbone in BACKBONES.items():
    register_staged(
        _name, "pipnet", PipNetOver(_backbone), recipe_over, layer="backbone", source="Nauta et al., CVPR 2023"
    )
