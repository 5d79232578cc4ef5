"""ProtoPNet: prototypes are points in the space of features, found where features lie close to them.

Source: Chen, Li, Tao, Barnett, Su and Rudin, "This Looks Like That", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from .network import PrototypeNetwork

EPSILON = 1e-4  # what bounds the similarity of an exact match: log(1 / EPSILON) = 9.21
DEPTH = 128  # channels of a prototype, at most
OTHERS = -0.5  # the weight of a prototype for other classes than its own, before the last layer is trained
UNKNOWN = -1  # the source of a prototype that is no patch of any image


def squared_distances(features: Tensor, prototypes: Tensor) -> Tensor:
    """Squared Euclidean distances of features (B, d, h, w) to prototypes (K, d, 1, 1): (B, K, h, w), >= 0.

    By |z - p|^2 = |z|^2 - 2 z p + |p|^2, whose middle term is a 1 x 1 convolution. In double precision where the device
    has it, whatever the precision around: rounding of the three large terms would blur small distances.
    """
    wide = features.dtype if features.device.type == "mps" else torch.float64
    with torch.autocast(features.device.type, enabled=False):
        z, p = features.to(wide).flatten(2), prototypes.to(wide).flatten(1)
        distances = z.square().sum(1, keepdim=True) - 2 * (p @ z) + p.square().sum(1, keepdim=True)
        return distances.clamp(min=0).to(features.dtype).unflatten(2, features.shape[2:])


fx.wrap("squared_distances")  # one operation of the graph, since it switches autocast off


def similarity(distances: Tensor) -> Tensor:
    """How similar a squared distance d is: log((d + 1) / (d + 1e-4)), between 0 and 9.21, the same shape."""
    return torch.log((distances + 1) / (distances + EPSILON))


class PrototypeVectors(nn.Module):
    """The prototypes, points in the space of features; features lie in [0, 1], and so do prototypes at first."""

    def __init__(self, count: int, depth: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(count, depth, 1, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the prototypes anew, uniformly."""
        nn.init.uniform_(self.vectors)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, d, h, w) -> squared distances (B, K, h, w)."""
        return squared_distances(features, self.vectors)


class ProtoPNet(PrototypeNetwork):
    """A backbone, two 1 x 1 convolutions behind it, prototypes, and a linear layer without bias.

    Attributes:
        backbone: from images to features (B, channels, h, w).
        add_on: from these to features (B, d, h, w) in [0, 1].
        prototypes: from these to squared distances (B, K, h, w).
        last: from the similarity of the nearest position of each prototype to logits.
        class_identity: the class that each prototype stands for, (K,) int64.
        source: the training row that each prototype is a patch of, and the row and column of the cell in its features,
            (K, 3) int64; -1 for a prototype that was not pushed to a patch.
    """

    backbone: nn.Sequential
    class_identity: Tensor
    source: Tensor

    def __init__(self, backbone: nn.Sequential, channels: int, classes: int, per_class: int) -> None:
        """Take a backbone.

        Args:
            channels: of the backbone's features.
            per_class: the number of prototypes of each class.
        """
        super().__init__()
        self.backbone = backbone
        depth = min(DEPTH, channels)
        self.add_on = nn.Sequential(nn.Conv2d(channels, depth, 1), nn.ReLU(), nn.Conv2d(depth, depth, 1), nn.Sigmoid())
        self.prototypes = PrototypeVectors(classes * per_class, depth)
        self.last = nn.Linear(classes * per_class, classes, bias=False)
        self.register_buffer("class_identity", torch.arange(classes).repeat_interleave(per_class))
        self.register_buffer("source", torch.full((classes * per_class, 3), UNKNOWN))
        self.connect_classes()

    def connect_classes(self) -> None:
        """Give each prototype the weight 1 for its own class and -0.5 for all others."""
        with torch.no_grad():
            self.last.weight.copy_(torch.where(self.is_own_class, 1.0, OTHERS))

    @property
    def is_own_class(self) -> Tensor:
        """Whether a prototype (column) stands for a class (row), (C, K) bool."""
        classes = torch.arange(len(self.last.weight), device=self.class_identity.device)
        return self.class_identity[None] == classes[:, None]

    @property
    def weights(self) -> Tensor:
        """What each prototype (column) adds to the logit of each class (row) when it is found, (C, K) float32."""
        return self.last.weight

    def embed(self, images: Tensor) -> Tensor:
        """The features in which prototypes are looked for: normalised images (B, 3, H, W) -> (B, d, h, w) in [0, 1]."""
        features: Tensor = self.add_on(self.backbone(images))
        return features

    def measure(self, images: Tensor) -> Tensor:
        """Squared distances to the prototypes at each position: normalised images (B, 3, H, W) -> (B, K, h, w)."""
        distances: Tensor = self.prototypes(self.embed(images))
        return distances

    def locate(self, images: Tensor) -> Tensor:
        """How similar each position is to each prototype: images (B, 3, H, W) -> (B, K, h, w), between 0 and 9.21."""
        return similarity(self.measure(images))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> logits (B, C)."""
        logits: Tensor = self.last(self.find(images))
        return logits

    def keep_prototypes(self, indices: Tensor) -> None:
        """Keep the prototypes of these indices (k,) int64, in this order, with their weights; the others go."""
        vectors, weight = self.prototypes.vectors.detach()[indices], self.last.weight.detach()[:, indices]
        self._resize(len(indices))
        with torch.no_grad():
            self.prototypes.vectors.copy_(vectors)
            self.last.weight.copy_(weight)
        self.class_identity, self.source = self.class_identity[indices], self.source[indices]

    def take_prototypes(self, per_class: int) -> None:
        """Begin anew with so many prototypes of each class, drawn from the global random state."""
        classes = len(self.last.weight)
        self._resize(classes * per_class)
        self.prototypes.reset_parameters()
        self.class_identity = torch.arange(classes, device=self.source.device).repeat_interleave(per_class)
        self.source = self.source.new_full((classes * per_class, 3), UNKNOWN)
        self.connect_classes()

    def order_classes(self, order: Sequence[int]) -> None:
        """Have prototypes stand for classes of a new order, in which class i is class `order[i]` of before."""
        places = torch.tensor(order, device=self.class_identity.device).argsort()
        self.class_identity = places[self.class_identity]

    def _resize(self, count: int) -> None:
        """Make room for another number of prototypes; their values are undefined until they are set."""
        weight, vectors = self.last.weight, self.prototypes.vectors
        self.last.in_features = count
        self.last.weight = nn.Parameter(weight.new_empty(len(weight), count), weight.requires_grad)
        self.prototypes.vectors = nn.Parameter(vectors.new_empty(count, *vectors.shape[1:]), vectors.requires_grad)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Load as torch does, after making room for as many prototypes as there are: a pruned network has fewer.

        A class that the network does not have is an error, as a tensor of another shape is.
        """
        identity = state_dict.get(f"{prefix}class_identity")
        if isinstance(identity, Tensor) and identity.ndim == 1:
            if len(identity) != len(self.class_identity):
                self._resize(len(identity))
                self.class_identity = self.class_identity.new_empty(len(identity))
                self.source = self.source.new_empty(len(identity), 3)
            classes = len(self.last.weight)
            if ((identity < 0) | (identity >= classes)).any():
                errors: list[str] = others[-1]
                errors.append(f"class_identity names other classes than 0 to {classes - 1}")
        super()._load_from_state_dict(state_dict, prefix, *others)
