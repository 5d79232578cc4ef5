"""The vision transformer of torchvision, which flowervit is too."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import VisionTransformer

from .description import Transformer, transformers


@transformers.register("torchvision_vit")
def describe_torchvision_vit(network: nn.Module) -> Transformer | None:
    """Describe torchvision's VisionTransformer: a class token, then the patches; None for other networks."""
    if not isinstance(network, VisionTransformer):
        return None
    side = network.image_size // network.patch_size
    blocks = tuple(f"encoder.layers.{name}" for name, _ in network.encoder.layers.named_children())

    def classify(tokens: Tensor) -> Tensor:
        return network.heads(network.encoder.ln(tokens)[:, 0])

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
