"""Class activation maps against pytorch-grad-cam and TorchCAM, where these implement the same definition.

Compared are raw maps at the layer's resolution: what peers do to them afterwards differs from ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.activation_map import ActivationMap
from an8flower.evaluate.explainers.attribution.activations import activations
from an8flower.evaluate.explainers.cam import Cam, EigenCam, GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from an8flower.evaluate.explainers.cam_contrast import FinerCam
from an8flower.evaluate.explainers.cam_refined import RefineCam
from an8flower.evaluate.explainers.cam_scores import AblationCam, ScoreCam
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, build, wrap

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


class VggLike(nn.Module):
    """A layer at the images' resolution, one at half of it, and behind them what is neither mean nor affine."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, 1, 1), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.second(self.first(images)))


@functools.cache
def trained() -> Classifier:
    """Trained for a moment to tell squares of four colours apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = wrap(VggLike(), "abcd", 16, "second")
        images, labels = squares(256)
        optimiser = torch.optim.Adam(classifier.parameters(), 1e-2)
        for step in range(40):
            some = torch.arange(64) + step % 4 * 64
            optimiser.zero_grad()
            F.cross_entropy(classifier(images[some]), labels[some]).backward()
            optimiser.step()
    return classifier.eval().requires_grad_(True)


def squares(count: int) -> tuple[Tensor, Tensor]:
    """Noise with a square of the class's colour somewhere, and the classes."""
    source = torch.Generator().manual_seed(1)
    images = 0.5 * torch.rand(count, 3, 16, 16, generator=source)
    labels = torch.arange(count) % 4
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    for row, (top, left) in enumerate(torch.randint(0, 11, (count, 2), generator=source).tolist()):
        images[row, :, top : top + 5, left : left + 5] = colours[labels[row], :, None, None]
    return images, labels


@functools.cache
def resnet() -> Classifier:
    """A ResNet-18 whose batch norms know what passes through them, so that every layer matters."""
    classifier = build("resnet18", "abcd", 64, seed=0)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        classifier.train()(torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(3)))
    return classifier.eval()


NETWORKS = {"trained": (trained, ("second", "first")), "resnet18": (resnet, ("layer4", "layer3"))}
PLACES = [(name, layer) for name, (_, layers) in NETWORKS.items() for layer in layers]


def asked_of(classifier: Classifier) -> Query:
    if classifier.size == 16:
        images, targets = squares(5)
        assert (classifier(images).argmax(1) == targets).all()
        return Query(images, targets, targets)
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    return Query(images, torch.arange(4), torch.arange(4))


def deviation(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    assert theirs.abs().max() > 0
    return float((ours - theirs).abs().max() / theirs.abs().max())


def pytorch_grad_cam(name: str, classifier: Classifier, layer: str, query: Query) -> Tensor:
    """The peer's map before its ReLU, its resizing and its normalisation."""
    import pytorch_grad_cam as peers
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    kept: list[np.ndarray] = []
    targets: list[Any] = [ClassifierOutputTarget(target) for target in query.targets.tolist()]
    with getattr(peers, name)(classifier, [classifier.network.get_submodule(layer)]) as peer:
        draw = peer.get_cam_image
        peer.get_cam_image = lambda *arguments: kept.append(draw(*arguments)) or kept[-1]
        peer(query.images, targets)
    return torch.as_tensor(kept[0])


SAME = [("GradCAM", GradCam), ("XGradCAM", XGradCam), ("LayerCAM", LayerCam), ("HiResCAM", HiResCam)]


@pytest.mark.parametrize(("name", "layer"), PLACES)
@pytest.mark.parametrize(("peer", "kind"), SAME)
def test_pytorch_grad_cam(name: str, layer: str, peer: str, kind: type[ActivationMap]) -> None:
    classifier = NETWORKS[name][0]()
    asked = asked_of(classifier)
    theirs = pytorch_grad_cam(peer, classifier, layer, asked).relu()
    assert deviation(kind().coarse(activations(classifier, asked, layer)), theirs) < 1e-4


@pytest.mark.parametrize(("name", "layer"), PLACES)
def test_pytorch_grad_cam_on_eigencam(name: str, layer: str) -> None:
    """It centres; the sign is that of the function which corrects it."""
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

    classifier = NETWORKS[name][0]()
    seen = activations(classifier, asked_of(classifier), layer)
    theirs = torch.tensor(get_2d_projection_with_sign_correction(seen.channels.detach().numpy()))
    assert deviation(EigenCam(centre=True).coarse(seen), theirs) < 1e-3


@pytest.mark.parametrize(("name", "layer"), PLACES)
def test_pytorch_grad_cam_on_gradcam_pp(name: str, layer: str) -> None:
    """Its epsilon vanishes against large gradients, which a scale on the logits makes."""
    classifier = NETWORKS[name][0]()
    linear = next(module for module in reversed(list(classifier.modules())) if isinstance(module, nn.Linear))
    asked = asked_of(classifier)
    weight = linear.weight.data.clone()
    try:
        linear.weight.data *= 1e4
        theirs = pytorch_grad_cam("GradCAMPlusPlus", classifier, layer, asked).relu()
        ours = GradCamPlusPlus().coarse(activations(classifier, asked, layer)).detach()
    finally:
        linear.weight.data.copy_(weight)
    assert deviation(ours, theirs) < 1e-3


@pytest.mark.parametrize(("name", "layer", "rows"), [("trained", "second", 3), ("resnet18", "layer3", 1)])
def test_pytorch_grad_cam_on_ablationcam(name: str, layer: str, rows: int) -> None:
    """It divides by the logit itself, and takes 0 for a missing channel where a layer has no negative values."""
    classifier = NETWORKS[name][0]()
    asked = Query(*(tensor[:rows] for tensor in asked_of(classifier)))
    theirs = pytorch_grad_cam("AblationCAM", classifier, layer, asked)
    seen = activations(classifier, asked, layer)
    logits = seen.logits().gather(1, asked.targets[:, None])[:, :, None]
    weights = AblationCam(relative=True).weights(seen)
    assert deviation((weights * seen.channels).sum(1) * logits.sign(), theirs) < 1e-3


def torchcam(name: str, classifier: Classifier, layer: str, query: Query, **options: Any) -> Tensor:
    """The peer's map, not normalised."""
    import torchcam.methods as peers

    with getattr(peers, name)(classifier, f"network.{layer}", input_shape=query.images.shape[1:], **options) as peer:
        scores = classifier(query.images)
        return peer(query.targets.tolist(), scores, normalized=False)[0].detach()


@pytest.mark.parametrize(("name", "layer"), PLACES)
@pytest.mark.parametrize(("peer", "kind"), [("GradCAM", GradCam), ("XGradCAM", XGradCam)])
def test_torchcam(name: str, layer: str, peer: str, kind: type[ActivationMap]) -> None:
    classifier = NETWORKS[name][0]()
    asked = asked_of(classifier)
    theirs = torchcam(peer, classifier, layer, asked)
    assert deviation(kind().coarse(activations(classifier, asked, layer)), theirs.relu()) < 1e-4


def test_torchcam_on_cam() -> None:
    classifier = resnet()
    asked = asked_of(classifier)
    theirs = torchcam("CAM", classifier, "layer4", asked, fc_layer="network.fc")
    assert deviation(Cam(relu=True).coarse(activations(classifier, asked)), theirs.relu()) < 1e-4


def test_torchcam_on_scorecam() -> None:
    """It normalises masks before it upsamples them, we afterwards; at the images' resolution that is the same."""
    classifier = trained()
    asked = asked_of(classifier)
    theirs = torchcam("ScoreCAM", classifier, "first", asked)
    assert deviation(ScoreCam(layer="first").coarse(activations(classifier, asked, "first")), theirs.relu()) < 1e-3


@pytest.mark.parametrize("references", ["closest", "b+d"])
@pytest.mark.parametrize(("base", "peer"), [("gradcam", "GradCAM"), ("layercam", "LayerCAM")])
def test_torchcam_on_finercam(references: str, base: str, peer: str) -> None:
    """TorchCAM refuses the target among given references; its Grad-CAM++ is another one."""
    import torchcam.methods as peers

    for classifier, layer in ((trained(), "second"), (resnet(), "layer3")):
        asked = asked_of(classifier)
        asked = asked._replace(targets=asked.targets % 2 * 2)
        options = {} if references == "closest" else {"comparison_idx": [1, 3]}
        kind = getattr(peers, peer)
        with peers.FinerCAM(classifier, f"network.{layer}", asked.images.shape[1:], base_method=kind) as finer:
            theirs = finer(asked.targets.tolist(), classifier(asked.images), normalized=False, **options)[0].detach()
        ours = FinerCam(base=base, references=references)
        assert deviation(ours.coarse(ours.look(classifier, asked, layer)), theirs.relu()) < 1e-4


@pytest.mark.parametrize(("base", "peer"), [("gradcam", "GradCAM"), ("layercam", "LayerCAM")])
def test_torchcam_on_refinecam(base: str, peer: str) -> None:
    """TorchCAM keeps the image out of its maps' scale where a map is constant; these are none."""
    import torchcam.methods as peers

    classifier = trained()
    asked, layers = asked_of(classifier), ["first", "second"]
    names = [f"network.{layer}" for layer in layers]
    kind = getattr(peers, peer)
    with peers.RefineCAM(classifier, names, asked.images.shape[1:], base_method=kind) as refined:
        theirs = refined(asked.targets.tolist(), classifier(asked.images))[0].detach()
    ours = RefineCam("+".join(layers), base)
    maps = explain(classifier, ours, asked).maps
    assert maps.shape == theirs.shape  # the first layer has the images' resolution
    assert deviation(maps, theirs) < 1e-3


def to_grid(tokens: Tensor) -> Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (14, 14))


@pytest.mark.parametrize(("kind", "layer"), [("inplace", "features"), ("reuse", "bn2"), ("vit", "ln_1")])
def test_whole_maps_agree_with_pytorch_grad_cam(make: Make, query: MakeQuery, kind: str, layer: str) -> None:
    """Normalised as the peer does it, on networks with in-place ReLUs, reused modules and tokens."""
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
