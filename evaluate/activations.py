"""What methods that read a layer share: its gradient, the weights of its channels, and the way back to pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .classifier import Classifier
from .split import Features


def layer_gradient(classifier: Classifier, features: Features, targets: Tensor, layer: str | None) -> Tensor:
    """The gradient (B, K, h, w) of each row's target logit with respect to the layer; only the tail is run."""
    values = features.values.detach().requires_grad_()
    logits = classifier.tail(features._replace(values=values), layer)
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), values)
    return classifier.spatial(gradient)


def gradcam_weights(gradient: Tensor) -> Tensor:
    """The weights (B, K, 1, 1) of Grad-CAM: the mean over all positions of the gradient (B, K, h, w).

    Source: Selvaraju et al., ICCV 2017, eq. 1.
    """
    return gradient.mean((2, 3), keepdim=True)


def upsampled(maps: Tensor, images: Tensor) -> Tensor:
    """Maps (B, h, w) at the images' resolution, bilinear between the centres of the cells."""
    return F.interpolate(maps[:, None], images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
