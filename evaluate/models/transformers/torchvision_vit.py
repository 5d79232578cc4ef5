"""The vision transformer of torchvision, which flowervit is too."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .description import Transformer, is_instance_of, transformers


@transformers.register("torchvision_vit")
def describe_torchvision_vit(network: nn.Module) -> Transformer | None:
    """Describe torchvision's VisionTransformer: a class token, then patches; None for others. Nothing is imported."""
    if not is_instance_of(network, "torchvision.models.vision_transformer.VisionTransformer"):
        return None
    vit: Any = network
    side = vit.image_size // vit.patch_size
    blocks = tuple(f"encoder.layers.{name}" for name, _ in vit.encoder.layers.named_children())

    def classify(tokens: Tensor) -> Tensor:
        logits: Tensor = vit.heads(vit.encoder.ln(tokens)[:, 0])
        return logits

    return Transformer(
        "torchvision's vision transformer",
        # What the last block's attention reads: behind the last block, the class does not depend on the patches at all.
        target_layer=f"{blocks[-1]}.ln_1",
        blocks=blocks,
        prefix=1,
        grid=(side, side),
        class_token=True,
        classify=classify,
    )
