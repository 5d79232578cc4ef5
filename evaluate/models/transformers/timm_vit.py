"""The vision transformer of timm: ViT and DeiT, with and without class token, registers and distillation token."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .description import Transformer, is_instance_of, transformers


@transformers.register("timm_vit")
def describe_timm_vit(network: nn.Module) -> Transformer | None:
    """Describe timm's VisionTransformer and what derives from it; None for other networks. timm is not imported."""
    if not is_instance_of(network, "timm.models.vision_transformer.VisionTransformer"):
        return None
    vit: Any = network
    blocks = tuple(f"blocks.{name}" for name, _ in vit.blocks.named_children())

    def classify(tokens: Tensor) -> Tensor:
        logits: Tensor = vit.forward_head(vit.norm(tokens))
        return logits

    return Transformer(
        "timm's vision transformer",
        target_layer=f"{blocks[-1]}.norm1",
        blocks=blocks,
        prefix=vit.num_prefix_tokens,
        grid=tuple(vit.patch_embed.grid_size),
        class_token=vit.global_pool == "token",
        classify=classify,
    )
