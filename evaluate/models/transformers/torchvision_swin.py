"""The Swin transformers of torchvision, versions 1 and 2."""

from __future__ import annotations

from torch import nn

from .description import Transformer, is_instance_of, transformers

WINDOWS = "each block attends within windows, and patches are merged between blocks"


@transformers.register("torchvision_swin")
def describe_torchvision_swin(network: nn.Module) -> Transformer | None:
    """Describe torchvision's SwinTransformer: no class token, maps (B, h, w, K) in all stages; None for others."""
    if not is_instance_of(network, "torchvision.models.swin_transformer.SwinTransformer"):
        return None
    return Transformer(
        "torchvision's Swin transformer",
        target_layer="permute",  # the last norm, its channels in front
        obstacle=WINDOWS,
        channels_last=lambda path: path != "features.0.0" and path.partition(".")[0] in ("features", "norm"),
    )
