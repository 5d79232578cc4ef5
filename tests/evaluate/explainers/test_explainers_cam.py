"""Class activation maps of one pass, against closed forms and slow second versions; layers, and how they are fused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.activation_map import ActivationMap
from an8flower.evaluate.explainers.attribution.activations import activations, gradcam_pp_weights, linear_after_mean
from an8flower.evaluate.explainers.cam import (
    Cam,
    EigenCam,
    GradCam,
    GradCamPlusPlus,
    HiResCam,
    LayerCam,
    UpsamAct,
    XGradCam,
)
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.maps import normalise_range
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.registry import explainers

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


def test_the_mean_of_cam_is_the_logit_without_its_bias(closed: Classifier, query: MakeQuery) -> None:
    asked = query(closed)
    maps = explain(closed, Cam(), asked).maps
    logits = closed(asked.images) - closed.network.linear.bias
    torch.testing.assert_close(maps.mean((1, 2)), logits.gather(1, asked.targets[:, None])[:, 0].detach())
    assert (maps < 0).any()
    torch.testing.assert_close(explain(closed, Cam(relu=True), asked).maps, maps.relu())


@pytest.mark.parametrize("explainer", [GradCam(), XGradCam(), HiResCam()])
def test_where_the_gradient_is_constant_all_are_cam(
    closed: Classifier, query: MakeQuery, explainer: ActivationMap
) -> None:
    """Rectified, and by the number of positions."""
    asked = query(closed)
    torch.testing.assert_close(explain(closed, explainer, asked).maps, explain(closed, Cam(), asked).maps.relu() / 64)


def closed_sum(closed: Classifier, query: Query, weights: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The sum of the channels by weights (B, 3) that are a function of W (B, 3) and of the means (B, 3)."""
    channels = (query.images - 0.5).relu()
    found = weights(closed.network.linear.weight.detach()[query.targets], channels.mean((2, 3)))
    return torch.einsum("bk,bkhw->bhw", found, channels).relu()


CLOSED_FORMS = [
    (GradCamPlusPlus(), lambda w, mean: w.relu() / (2 + w * mean)),
    (GradCamPlusPlus(renorm=True), lambda w, mean: w.relu() / 64),
    (LayerCam(), lambda w, mean: w.relu() / 64),
    (UpsamAct(), lambda w, mean: torch.full_like(w, 1 / 3)),
]


@pytest.mark.parametrize(("explainer", "weights"), CLOSED_FORMS)
def test_closed_forms(
    closed: Classifier, query: MakeQuery, explainer: ActivationMap, weights: Callable[[Tensor, Tensor], Tensor]
) -> None:
    asked = query(closed)
    torch.testing.assert_close(explain(closed, explainer, asked).maps, closed_sum(closed, asked, weights))


def test_eigencam_finds_the_pattern_that_all_channels_share(closed: Classifier, query: MakeQuery) -> None:
    pattern = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    strengths = torch.tensor([0.1, 0.4, 0.2])
    images = 0.5 + (strengths[:, None, None] * pattern)[None].expand(5, 3, 8, 8)
    asked = query(closed)._replace(images=images.contiguous())
    maps = explain(closed, EigenCam(), asked).maps
    torch.testing.assert_close(maps, (strengths.norm() * pattern).expand(5, 8, 8))
    centred = strengths.norm() * (pattern - pattern.mean())
    centred = centred if centred.max() > -centred.min() else -centred
    torch.testing.assert_close(explain(closed, EigenCam(centre=True), asked).maps, centred.expand(5, 8, 8))


@pytest.mark.parametrize("explainer", [Cam(), GradCam(), XGradCam(), LayerCam(gamma=2), EigenCam(), UpsamAct()])
def test_channels_of_zeros_give_maps_of_zeros(closed: Classifier, query: MakeQuery, explainer: ActivationMap) -> None:
    asked = query(closed)._replace(images=torch.zeros(5, 3, 8, 8))
    assert not explain(closed, explainer, asked).maps.any()


def test_the_coefficients_of_gradcam_pp() -> None:
    """Gradients whose square underflows, are zero, or meet a denominator of zero."""
    values = torch.tensor([[[[1.0, 1.0]], [[1.0, 1.0]], [[-1.0, -3.0]]]])
    gradient = torch.tensor([[[[1e-30, 0.0]], [[-1.0, 2.0]], [[0.5, 1.0]]]])
    torch.testing.assert_close(gradcam_pp_weights(values, gradient).flatten(), torch.tensor([5e-31, 2 / 6, -0.5]))
    renormed = gradcam_pp_weights(values, gradient, renorm=True).flatten()
    torch.testing.assert_close(renormed, torch.tensor([1e-30, 2.0, 1.0]))


# Slow second versions.


def hooked(classifier: Classifier, layer: str, image: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Values and gradient (K, h, w) at a layer, with a hook and a pass backwards through the whole network."""
    kept: list[Tensor] = []
    module = classifier.network.get_submodule(layer)
    with module.register_forward_hook(lambda _m, _i, output: kept.append(output) or output.clone()):
        logit = classifier(image[None])[0, target]
    gradient = torch.autograd.grad(logit, kept[-1])[0][0].detach()
    values = kept[-1][0].detach()
    if values.ndim == 2:  # tokens
        return values[1:].T.unflatten(1, (14, 14)), gradient[1:].T.unflatten(1, (14, 14))
    return values, gradient


def slow_gradcam(values: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return sum(own.mean() * channel for own, channel in zip(gradient, values, strict=True)).clip(0)


def slow_gradcam_pp(values: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    total = np.zeros(values.shape[1:])
    for own, channel in zip(gradient, values, strict=True):
        weight = 0.0
        for g in own.flat:
            if g != 0:
                weight += g**2 / (2 * g**2 + channel.sum() * g**3) * max(g, 0)
        total += weight * channel
    return total.clip(0)


def slow_xgradcam(values: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    pairs = zip(gradient, values, strict=True)
    return sum((own * channel).sum() / channel.sum() * channel for own, channel in pairs if channel.any()).clip(0)


def slow_layercam(values: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return sum(own.clip(0) * channel for own, channel in zip(gradient, values, strict=True)).clip(0)


def slow_hirescam(values: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return sum(own * channel for own, channel in zip(gradient, values, strict=True)).clip(0)


def slow_eigencam(values: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    matrix = values.reshape(len(values), -1).T
    projection = matrix @ np.linalg.svd(matrix)[2][0]
    flip = abs(projection.min()) > abs(projection.max())
    return (-projection if flip else projection).reshape(values.shape[1:])


SLOW = {
    "gradcam": slow_gradcam,
    "gradcam_pp": slow_gradcam_pp,
    "xgradcam": slow_xgradcam,
    "layercam": slow_layercam,
    "hirescam": slow_hirescam,
    "eigencam": slow_eigencam,
    "upsam_act": lambda values, gradient: values.mean(0),
}
LAYERS = [
    ("inplace", "features"),
    ("inplace", "features.2"),
    ("reuse", "bn2"),
    ("reuse", "relu"),
    ("reuse", "conv1"),
    ("vit", "encoder.layers.encoder_layer_3.ln_1"),
    ("vit", "encoder.layers.encoder_layer_1"),
    ("untraceable", "features"),
]


@pytest.mark.parametrize(("kind", "layer"), LAYERS)
def test_equal_the_slow_versions(make: Make, query: MakeQuery, kind: str, layer: str) -> None:
    classifier = make(kind).eval()
    if kind == "vit":  # otherwise the channels of a layer norm have a mean of 0
        nn.init.uniform_(classifier.network.get_submodule(classifier.target_layer).weight)
    asked = Query(*(tensor[1:4] for tensor in query(classifier)))
    maps = {name: explain(classifier, explainers[name].item(layer=layer), asked).maps for name in SLOW}
    for row, image in enumerate(asked.images):
        values, gradient = hooked(classifier, layer, image, int(asked.targets[row]))
        for name, slow in SLOW.items():
            coarse = torch.tensor(slow(values.double().numpy(), gradient.double().numpy()))
            expected = F.interpolate(coarse[None, None], image.shape[1:], mode="bilinear")[0, 0].float()
            # Where channels have negative values, denominators come near 0.
            tolerance = 1e-2 if kind == "vit" and name in ("gradcam_pp", "xgradcam") else 1e-4
            limit = tolerance * float(expected.abs().max()) + 1e-6
            torch.testing.assert_close(maps[name][row], expected, rtol=0, atol=limit, msg=name)
    assert all(each.any() for each in maps.values())


# Which networks CAM holds for.


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


@pytest.mark.parametrize("name", [*SLOW, "cam"])
def test_half_precision_is_near(make: Make, query: MakeQuery, name: str) -> None:
    classifier = make("inplace")
    expected = explain(classifier, explainers[name].item(), query(classifier)).maps
    maps = explain(classifier.bfloat16(), explainers[name].item(), query(classifier)).maps
    torch.testing.assert_close(maps, expected, rtol=0, atol=0.05 * float(expected.abs().max()))


def test_a_class_independent_map_is_registered_as_one(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    other = asked._replace(targets=(asked.targets + 1) % 4)
    for name in (*SLOW, "cam"):
        maps, others = (explain(classifier, explainers[name].item(), each).maps for each in (asked, other))
        assert torch.equal(maps, others) != explainers[name].about.get("class_sensitive", True), name


# Layers.


@pytest.mark.parametrize(("fuse", "fusion"), [("mean", lambda maps: maps.mean(0)), ("max", lambda maps: maps.amax(0))])
def test_several_layers_are_normalised_and_fused(
    make: Make, query: MakeQuery, fuse: str, fusion: Callable[[Tensor], Tensor]
) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    single = [explain(classifier, GradCam(layer=layer), asked).maps for layer in ("features.1", "features")]
    fused = explain(classifier, GradCam(layer="features.1 + features", fuse=fuse), asked).maps
    expected = []
    for maps in single:
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        expected.append((maps - low) / (high - low))
    torch.testing.assert_close(fused, fusion(torch.stack(expected)))


def test_layercam_saturates_where_asked_to(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    seen = activations(classifier.eval(), query(classifier), "features.1")
    maps, saturated = LayerCam().coarse(seen), LayerCam(gamma=2).coarse(seen)
    torch.testing.assert_close(saturated, torch.tanh(2 * maps / maps.amax((1, 2), keepdim=True)))


BAD_PARAMETERS = [
    (lambda: GradCam(fuse="means"), 'unknown fusion "means"; did you mean "mean"?'),
    (lambda: GradCam(layer="features+"), 'layer is "features+"; expected the path of a submodule, or several'),
    (lambda: GradCam(layer=""), 'layer is ""; expected the path'),
    (lambda: LayerCam(gamma=0), "layercam: gamma is 0; expected a positive number, or none"),
]


@pytest.mark.parametrize(("bad", "says"), BAD_PARAMETERS)
def test_bad_parameters(bad: Callable[[], ActivationMap], says: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        bad()
    assert says in str(caught.value)


@pytest.mark.parametrize("layer", ["featurs", "features+featurs"])
def test_layers_that_do_not_exist(make: Make, query: MakeQuery, layer: str) -> None:
    classifier = make("inplace")
    with pytest.raises(WrongUsage, match='unknown layer "featurs"; did you mean "features"'):
        explain(classifier, GradCam(layer=layer), query(classifier))


def test_layers_without_extent(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    with pytest.raises(Refusal, match='layer "linear" gives .* which has no spatial extent'):
        explain(classifier, GradCam(layer="linear"), query(classifier))


# Shared maths, and what it costs.


def test_normalised_maps_have_gradients_even_where_they_are_constant() -> None:
    maps = torch.tensor([[[2.0, 2.0]], [[1.0, 3.0]]], requires_grad=True)
    normalised = normalise_range(maps)
    assert normalised.tolist() == [[[0, 0]], [[0, 1]]]
    assert torch.autograd.grad(normalised.sum(), maps)[0].isfinite().all()


def test_the_linear_layer_after_the_mean(make: Make, query: MakeQuery) -> None:
    for kind, layer, found in (("inplace", "features", True), ("inplace", "features.2", False), ("vit", None, False)):
        classifier = make(kind).eval()
        linear = linear_after_mean(activations(classifier, query(classifier), layer))
        assert (linear is not None) == found


@pytest.mark.parametrize("name", [*SLOW, "cam"])
def test_costs(make: Make, query: MakeQuery, name: str) -> None:
    classifier = make("inplace")
    layer = "features" if name == "cam" else "features.1"
    head, tail = classifier.share(layer)
    assert 0 < head < 1 or name == "cam"
    cost = explain(classifier, explainers[name].item(layer=layer), query(classifier)).cost
    values_only = name in ("eigencam", "upsam_act")
    assert cost.forwards == pytest.approx(5 * (head if values_only else head + tail))
    assert cost.backwards == pytest.approx(0 if values_only or name == "cam" else 5 * tail)
