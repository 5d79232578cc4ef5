"""The Swin transformer of timm, version 1."""

from __future__ import annotations

from torch import nn

from .description import Transformer, is_instance_of, transformers
from .torchvision_swin import WINDOWS


def gives_channels_last(path: str) -> bool:
    """Whether a layer gives (B, h, w, K): all but the first convolution do."""
    return path != "patch_embed.proj" and path.partition(".")[0] in ("patch_embed", "layers", "norm")


@transformers.register("timm_swin")
def describe_timm_swin(network: nn.Module) -> Transformer | None:
    """Describe timm's SwinTransformer: maps (B, h, w, K) in all stages; None for others. timm is not imported."""
    if not is_instance_of(network, "timm.models.swin_transformer.SwinTransformer"):
        return None
    return Transformer(
        "timm's Swin transformer",
        target_layer="norm",
        obstacle=WINDOWS,
        channels_last=gives_channels_last,
    )
