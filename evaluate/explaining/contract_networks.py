"""The three small networks that the contract is checked on; between them they hold what methods stumble over."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from ..models.classifier import Classifier, wrap
from ..models.cross_attention import BackboneStages, CrossAttentionPooled
from ..models.networks.random_state import preserve_random_state
from ..models.prototypes.protopnet import ProtoPNet

CLASSES = ("rose", "lily", "aster", "iris")
SIZE = 16  # pixels


class InPlaceNet(nn.Module):
    """Convolutions with in-place ReLUs, then the mean and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 6, 3, 2, 1)
        self.features = nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))
        self.linear = nn.Linear(6, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 4) of normalised images (B, 3, 16, 16)."""
        return self.linear(self.features(x).mean((2, 3)))


class ReuseNet(nn.Module):
    """A residual block with batch norm, dropout, one ReLU module that is used three times, and a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(8, len(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 4) of normalised images (B, 3, 16, 16)."""
        x = self.relu(self.stem(x))
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        x = F.relu(self.relu(inner + x) - 0.1)
        return self.linear(self.drop(F.adaptive_avg_pool2d(x, 1).flatten(1)))


def randomise_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, and running statistics, that let every class and channel matter; changed in place."""
    source = torch.Generator().manual_seed(seed)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=source) - 0.4)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            module.running_var.data.abs_().add_(0.5)
    return network


def build_in_place() -> Classifier:
    """A CNN with in-place ReLUs, in training mode."""
    return wrap(randomise_weights(InPlaceNet()), CLASSES, SIZE, "features")


def build_reuse() -> Classifier:
    """A CNN with batch norm, a reused module and a functional ReLU, in training mode."""
    return wrap(randomise_weights(ReuseNet()), CLASSES, SIZE, "bn2")


def build_vit() -> Classifier:
    """A vision transformer of 4 x 4 patches, two blocks and two heads, in training mode."""
    with preserve_random_state():  # its layers draw weights when they are made
        network = VisionTransformer(SIZE, SIZE // 4, 2, 2, hidden_dim=16, mlp_dim=32, num_classes=len(CLASSES))
    return wrap(randomise_attention(network), CLASSES, SIZE, "encoder.layers.encoder_layer_1.ln_1")


def build_pooled() -> Classifier:
    """A CNN that is pooled by cross-attention, in training mode; for the methods that need one."""
    stages = BackboneStages((("features",),), "classifier")
    with preserve_random_state():
        backbone = nn.Sequential()
        backbone.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        backbone.classifier = nn.Linear(8, len(CLASSES))
        network = CrossAttentionPooled(backbone, stages, (8,))
    return wrap(randomise_weights(network), CLASSES, SIZE, "backbone.features")


def build_prototypes() -> Classifier:
    """A CNN that looks for two prototypes of each class, in training mode; for the methods that need one."""
    with preserve_random_state():
        backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        network = ProtoPNet(backbone, 8, len(CLASSES), per_class=2)
    return wrap(randomise_weights(network), CLASSES, SIZE, "backbone")


def randomise_attention(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights with which tokens attend to some more than to others, and every class matters; changed in place."""
    source = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, tensor in module.named_parameters(recurse=False):
            middle = float(isinstance(module, nn.LayerNorm) and name == "weight")
            spread = 0.3 if tensor.ndim == 1 else 1.5 / tensor[0].numel() ** 0.5
            tensor.data.copy_(middle + spread * torch.randn(tensor.shape, generator=source))
    return network


NETWORKS: dict[str, Callable[[], Classifier]] = {"in-place": build_in_place, "reuse": build_reuse, "vit": build_vit}
SPECIAL = {
    "cross-attention": build_pooled,
    "prototypes": build_prototypes,
}  # for explainers that name one as an attribute, `checked_on`


def networks_for(explainer: object) -> tuple[str, ...]:
    """The names of the networks that an explainer is put through the contract on."""
    return (*NETWORKS, *getattr(explainer, "checked_on", ()))
