"""Class activation maps against closed forms, a slow second version and pytorch-grad-cam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import NotApplicable
from an8flower.evaluate.case import Query
from an8flower.evaluate.classifier import Classifier, build, wrap
from an8flower.evaluate.explain import explain
from an8flower.evaluate.explainers.cam import Cam, GradCam

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


class MeanLinear(nn.Module):
    """The closed form: A_k = relu(x_k), y = W mean(A) + b."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.linear = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(F.adaptive_avg_pool2d(self.relu(images.clone()), 1).flatten(1))


@pytest.fixture
def closed() -> Classifier:
    torch.manual_seed(0)
    return wrap(MeanLinear(), "abcd", 8, "relu", mean=(0.5, 0.5, 0.5), std=(1, 1, 1)).eval()


def test_the_mean_of_cam_is_the_logit_without_its_bias(closed: Classifier, query: MakeQuery) -> None:
    asked = query(closed)
    maps = explain(closed, Cam(), asked).maps
    logits = closed(asked.images) - closed.network.linear.bias
    torch.testing.assert_close(maps.mean((1, 2)), logits.gather(1, asked.targets[:, None])[:, 0].detach())
    assert (maps < 0).any()
    torch.testing.assert_close(explain(closed, Cam(relu=True), asked).maps, maps.relu())


def test_gradcam_is_the_rectified_cam_by_the_number_of_positions(closed: Classifier, query: MakeQuery) -> None:
    asked = query(closed)
    cam, gradcam = (explain(closed, explainer, asked).maps for explainer in (Cam(), GradCam()))
    torch.testing.assert_close(gradcam, cam.relu() / 64)


@pytest.mark.parametrize("arch", ["flowernet", "resnet18", "mobilenet_v2"])
def test_cam_holds_for_networks_that_end_with_mean_and_linear(arch: str, query: MakeQuery) -> None:
    classifier = build(arch, "abcd", 64, seed=0)
    asked = query(classifier)
    cam, gradcam = (explain(classifier, explainer, asked).maps for explainer in (Cam(relu=True), GradCam()))
    height, width = classifier.eval().head(asked.images).values.shape[2:]
    torch.testing.assert_close(cam, gradcam * height * width, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arch", "layer"),
    [("convnext_tiny", None), ("flowervit", None), ("resnet18", "layer3"), ("resnet18", "layer4.1.bn2")],
)
def test_cam_does_not_apply_to_others(arch: str, layer: str | None, query: MakeQuery) -> None:
    classifier = build(arch, "abcd", 56 if arch == "flowervit" else 64, seed=0)
    with pytest.raises(NotApplicable, match=f"{arch} does not go on with the mean and one linear layer; use gradcam"):
        explain(classifier, Cam(layer=layer), query(classifier))


def slow_gradcam(classifier: Classifier, layer: str, query: Query) -> Tensor:
    """Image by image, with a hook and a backward pass through the whole network, on channels in a loop."""
    maps = []
    for image, target in zip(query.images, query.targets.tolist(), strict=True):
        kept: list[Tensor] = []
        module = classifier.network.get_submodule(layer)
        with module.register_forward_hook(lambda _m, _i, output, kept=kept: kept.append(output) or output.clone()):
            logit = classifier(image[None])[0, target]
        gradient = torch.autograd.grad(logit, kept[-1])[0][0].detach()
        values = kept[-1][0].detach()
        if values.ndim == 2:  # tokens
            values, gradient = (each[1:].T.unflatten(1, (14, 14)) for each in (values, gradient))
        total = sum(alpha.mean() * channel for alpha, channel in zip(gradient, values, strict=True))
        maps.append(F.interpolate(total.relu()[None, None], image.shape[1:], mode="bilinear")[0, 0])
    return torch.stack(maps)


LAYERS = [
    ("inplace", "features", "features.2"),
    ("reuse", "bn2", "relu", "conv1"),
    ("vit", "encoder.layers.encoder_layer_3.ln_1", "encoder.layers.encoder_layer_1"),
    ("untraceable", "features"),
]


@pytest.mark.parametrize(("kind", "layer"), [(kind, layer) for kind, *layers in LAYERS for layer in layers])
def test_gradcam_equals_the_slow_version(make: Make, query: MakeQuery, kind: str, layer: str) -> None:
    classifier = make(kind).eval()
    maps = explain(classifier, GradCam(layer=layer), query(classifier)).maps
    torch.testing.assert_close(maps, slow_gradcam(classifier, layer, query(classifier)))
    assert maps.any()


def to_grid(tokens: Tensor) -> Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (14, 14))


@pytest.mark.parametrize(("kind", "layer"), [("inplace", "features"), ("reuse", "bn2"), ("vit", "ln_1")])
def test_pytorch_grad_cam_agrees(make: Make, query: MakeQuery, kind: str, layer: str) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    classifier = make(kind).eval()
    asked = query(classifier)
    ours = explain(classifier, GradCam(), asked).maps.numpy()
    module = classifier.network.get_submodule(classifier.target_layer)
    options: dict[str, Any] = {"reshape_transform": to_grid} if kind == "vit" else {}
    with GradCAM(classifier, [module], **options) as theirs:
        expected = theirs(asked.images, [ClassifierOutputTarget(target) for target in asked.targets.tolist()])
    low, high = ours.min((1, 2), keepdims=True), ours.max((1, 2), keepdims=True)
    assert (high > low).any()
    np.testing.assert_allclose((ours - low) / np.maximum(high - low, 1e-12), expected, atol=2e-3)
