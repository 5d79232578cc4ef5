"""Class activation maps whose weights come from one pass: from values or gradient of a layer, or from the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from an8flower.errors import NotApplicable, WrongUsage

from ..models.networks.features import at_least_single
from ..registry import explainers
from .activation_map import FAMILY, ActivationMap, GradientMap
from .attribution.activations import Activations, gradcam_pp_weights, gradcam_weights, linear_after_mean
from .ranges import SWITCH, Choices, Ranges


@explainers.register(
    "cam", family="cam", source="Zhou et al., CVPR 2016", needs="a layer, its mean, one linear layer", sign="signed"
)
@dataclass(frozen=True)
class Cam(ActivationMap):
    """The class's own weights in the linear layer: the mean of the map at the layer is the logit without its bias."""

    relu: bool = False  # not in the paper

    ranges: ClassVar[Ranges] = {"layer": Choices((None,)), "relu": SWITCH}

    def weights(self, seen: Activations) -> Tensor:
        """A row of the linear layer's matrix, (B, K, 1, 1); raises NotApplicable where there is no such layer."""
        linear = linear_after_mean(seen)
        if linear is None:
            name = seen.layer or seen.classifier.target_layer
            raise NotApplicable(
                f'cam: behind "{name}", {seen.classifier.arch} does not go on with the mean and one linear layer; '
                "use gradcam"
            )
        return at_least_single(linear.weight.detach()[seen.query.targets, :, None, None])

    def rectify(self, maps: Tensor) -> Tensor:
        """Keep evidence against the class, unless `relu` drops it."""
        return maps.relu() if self.relu else maps


@explainers.register("gradcam", **FAMILY, source="Selvaraju et al., ICCV 2017", sign="positive")
@dataclass(frozen=True, repr=False)
class GradCam(GradientMap):
    """The mean, over all positions, of the logit's gradient with respect to the channel."""

    def weights(self, seen: Activations) -> Tensor:
        """The mean gradient of each channel (B, K, 1, 1)."""
        return gradcam_weights(seen.gradient())


@explainers.register("gradcam_pp", **FAMILY, source="Chattopadhay et al., WACV 2018", sign="positive")
@dataclass(frozen=True, repr=False)
class GradCamPlusPlus(GradientMap):
    """The channel's positive gradients, summed with coefficients that grow where few positions speak for the class.

    The coefficients are meant for channels without negative values; elsewhere their denominators may come near 0.
    There is no epsilon in them: that of pytorch-grad-cam takes out of the map what has gradients below about 1e-3.
    """

    renorm: bool = False  # coefficients that sum to 1 in every channel: in the authors' code, not in their paper

    ranges: ClassVar[Ranges] = {"renorm": SWITCH}

    def weights(self, seen: Activations) -> Tensor:
        """The weighted sum of positive gradients (B, K, 1, 1)."""
        return gradcam_pp_weights(seen.channels, seen.gradient(), self.renorm)


@explainers.register("xgradcam", **FAMILY, source="Fu et al., BMVC 2020", sign="positive")
@dataclass(frozen=True, repr=False)
class XGradCam(GradientMap):
    """The mean gradient over all positions, each weighted by its share of the channel's activation ("Axiom-CAM").

    A channel whose activations sum to 0 has no such shares and gets weight 0; there is no epsilon.
    """

    def weights(self, seen: Activations) -> Tensor:
        """The activation-weighted mean gradient (B, K, 1, 1)."""
        total = seen.channels.sum((2, 3), keepdim=True)
        weighted = (seen.gradient() * seen.channels).sum((2, 3), keepdim=True)
        return torch.where(total != 0, weighted / total, 0.0)


@explainers.register("layercam", **FAMILY, source="Jiang et al., IEEE TIP 2021", sign="positive")
@dataclass(frozen=True, repr=False)
class LayerCam(GradientMap):
    """The positive gradient at each position of each channel: sharp at shallow layers too."""

    gamma: float | None = None  # scales maps M to tanh(gamma * M / max M); the paper takes 2 at shallow layers

    ranges: ClassVar[Ranges] = {"gamma": Choices((None, 1.0, 2.0, 4.0))}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma is not None and not self.gamma > 0:
            raise WrongUsage(f"layercam: gamma is {self.gamma}; expected a positive number, or none")

    def weights(self, seen: Activations) -> Tensor:
        """The positive part of the gradient (B, K, h, w)."""
        return seen.gradient().relu()

    def rectify(self, maps: Tensor) -> Tensor:
        """Drop evidence against the class, and saturate the map if there is a `gamma`."""
        maps = maps.relu()
        if self.gamma is None:
            return maps
        high = maps.amax((1, 2), keepdim=True)
        return torch.tanh(self.gamma * maps / torch.where(high > 0, high, 1.0))


@explainers.register("hirescam", **FAMILY, source="Draelos and Carin, arXiv 2020", sign="positive")
@dataclass(frozen=True, repr=False)
class HiResCam(GradientMap):
    """The gradient at each position of each channel: before its ReLU, a map of what the logit is to first order."""

    def weights(self, seen: Activations) -> Tensor:
        """The gradient at each position, (B, K, h, w)."""
        return seen.gradient()


@explainers.register(
    "eigencam",
    **FAMILY,
    source="Muhammad and Yeasin, IJCNN 2020",
    sign="positive at layers behind a ReLU, signed elsewhere or with centre",
    class_sensitive=False,
)
@dataclass(frozen=True)
class EigenCam(ActivationMap):
    """The direction of greatest energy in the layer's channels, the same for every class.

    A singular vector has no sign of its own: the map's extreme of larger magnitude is made positive. Undefined where
    the two largest singular values are equal.
    """

    centre: bool = False  # subtract each channel's mean first: in pytorch-grad-cam, not in the paper

    ranges: ClassVar[Ranges] = {"centre": SWITCH}

    def channels(self, seen: Activations) -> Tensor:
        """The channels of the layer, centred if `centre` says so."""
        channels = seen.channels
        return channels - channels.mean((2, 3), keepdim=True) if self.centre else channels

    def weights(self, seen: Activations) -> Tensor:
        """The first right singular vector (B, K, 1, 1) of the matrix of positions by channels."""
        matrix = self.channels(seen).flatten(2).transpose(1, 2)
        vector = first_right_singular_vector(matrix)
        projection = (matrix @ vector[:, :, None])[:, :, 0]
        upside_down = projection.amin(1) + projection.amax(1) < 0
        return torch.where(upside_down[:, None], -vector, vector)[:, :, None, None]

    def rectify(self, maps: Tensor) -> Tensor:
        """Keep both signs of the projection."""
        return maps


@explainers.register(
    "upsam_act",
    **FAMILY,
    source="compared with in Oramas et al., ICLR 2019; drawn as in Bau et al., CVPR 2017",
    sign="as the layer's",
    class_sensitive=False,
)
@dataclass(frozen=True)
class UpsamAct(ActivationMap):
    """The upsampled activation of the layer: the mean of its channels, the same for every class.

    Behind a layer norm whose weights are those it starts with, that mean is 0 everywhere.
    """

    def weights(self, seen: Activations) -> Tensor:
        """The same weight for every channel (1, K, 1, 1)."""
        count = seen.channels.shape[1]
        return seen.channels.new_full((1, count, 1, 1), 1 / count)

    def rectify(self, maps: Tensor) -> Tensor:
        """Keep both signs of the mean."""
        return maps


def first_right_singular_vector(matrix: Tensor) -> Tensor:
    """The unit vector (B, K) along which the rows of each (B, N, K) matrix have most energy; its sign is arbitrary.

    From the smaller of the two Gram matrices, in double precision, so that rounding does not depend on the batch.
    Zeros where the matrix is zero.
    """
    tall = matrix.double()
    if tall.shape[1] > tall.shape[2]:
        vector = torch.linalg.eigh(tall.mT @ tall).eigenvectors[:, :, -1] * (tall != 0).any((1, 2))[:, None]
    else:
        left = torch.linalg.eigh(tall @ tall.mT).eigenvectors[:, :, -1]
        vector = torch.nn.functional.normalize((left[:, None] @ tall)[:, 0], dim=1, eps=torch.finfo(tall.dtype).tiny)
    return vector.to(matrix.dtype)
