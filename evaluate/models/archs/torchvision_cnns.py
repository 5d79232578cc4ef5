"""Well-known convolutional networks from torchvision, untrained; each with its last layer of spatial extent.

They take images of any size, so `size` is not read; the registry's factories share one signature.
"""

from __future__ import annotations

from torch import nn

from ...registry import archs


@archs.register("resnet18", family="cnn", layer="layer4", source="He et al., CVPR 2016")
def resnet18(classes: int, size: int) -> nn.Module:
    """A residual network of 18 layers."""
    from torchvision import models  # here, as it takes a while to load

    return models.resnet18(num_classes=classes)


@archs.register("resnet50", family="cnn", layer="layer4", source="He et al., CVPR 2016")
def resnet50(classes: int, size: int) -> nn.Module:
    """A residual network of 50 layers with bottlenecks."""
    from torchvision import models  # here, as it takes a while to load

    return models.resnet50(num_classes=classes)


@archs.register(
    "vgg16", family="cnn", layer="features.29", source="Simonyan and Zisserman, ICLR 2015", learning_rate=2e-4
)
def vgg16(classes: int, size: int) -> nn.Module:
    """Thirteen convolutions and three linear layers; the target layer is the last ReLU before the last pooling."""
    from torchvision import models  # here, as it takes a while to load

    return models.vgg16(num_classes=classes)


@archs.register("mobilenet_v2", family="cnn", layer="features.18", source="Sandler et al., CVPR 2018")
def mobilenet_v2(classes: int, size: int) -> nn.Module:
    """A network of inverted residuals with linear bottlenecks."""
    from torchvision import models  # here, as it takes a while to load

    return models.mobilenet_v2(num_classes=classes)


@archs.register("convnext_tiny", family="cnn", layer="features.7", source="Liu et al., CVPR 2022")
def convnext_tiny(classes: int, size: int) -> nn.Module:
    """A convolutional network built like a vision transformer: layer norm, GELU, large kernels."""
    from torchvision import models  # here, as it takes a while to load

    return models.convnext_tiny(num_classes=classes)
