"""FinerCAM, contrast and RefineCAM: closed forms, slow second versions, what stays as it was. Peers: cam_peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower import spec as specs
from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.attention_relevance import AttnLrp, CpLrp
from an8flower.evaluate.explainers.attribution.activations import activations, differentiate_layers
from an8flower.evaluate.explainers.attribution.contrasts import closest_classes
from an8flower.evaluate.explainers.cam import GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam
from an8flower.evaluate.explainers.cam_contrast import BASES, FinerCam, paired_classes
from an8flower.evaluate.explainers.cam_refined import RefineCam, layers_to_refine, refine
from an8flower.evaluate.explainers.relevance import Lrp
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evidence import discriminative_parts

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]
GRADIENT_CAMS = [GradCam, GradCamPlusPlus, XGradCam, LayerCam, HiResCam]


def maps_of(closed: Classifier, asked: Query, weights: Tensor) -> Tensor:
    """The map of a network that is a mean and a linear layer, for weights (B, K) of its channels."""
    channels = closed.normalise(asked.images).relu()
    return (weights[:, :, None, None] / channels.shape[2:].numel() * channels).sum(1).relu()


def test_finercam_in_closed_form(closed: Classifier, query: MakeQuery) -> None:
    """Weights are (W_c - gamma mean W_d) / HW; the class itself does not count among references."""
    asked, weight = query(closed), closed.network.linear.weight.detach()  # type: ignore[union-attr]
    maps = explain(closed, FinerCam(references="b+d", gamma=0.5), asked).maps  # targets are 0, 1, 2, 3, 1
    means = [(weight[1] + weight[3]) / 2, weight[3], (weight[1] + weight[3]) / 2, weight[1], weight[3]]
    expected = maps_of(closed, asked, weight[asked.targets] - 0.5 * torch.stack(means))
    torch.testing.assert_close(maps, expected)
    assert maps.any()


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_references_are_the_closest_classes(closed: Classifier, query: MakeQuery, count: int) -> None:
    asked, weight = query(closed), closed.network.linear.weight.detach()  # type: ignore[union-attr]
    logits = closed(asked.images).detach()
    rows = []
    for row, target in zip(logits.tolist(), asked.targets.tolist(), strict=True):
        others = sorted((abs(value - row[target]), place) for place, value in enumerate(row) if place != target)
        rows.append(weight[[place for _, place in others[:count]]].mean(0))
    expected = maps_of(closed, asked, weight[asked.targets] - 0.6 * torch.stack(rows))
    torch.testing.assert_close(explain(closed, FinerCam(count=count), asked).maps, expected)
    assert closest_classes(logits, asked.targets, count).shape == (5, min(count, 3))


def test_paired_references_differ_in_one_part() -> None:
    """In double-12c, one of two parts has one of six colours: a class is paired with the five of its own part."""
    spec = specs.load("double-12c")
    classifier = build("flowernet", spec.class_names, 32, seed=0)
    with pytest.raises(NotApplicable, match="was trained on no preset; name them"):
        paired_classes(classifier)
    classifier.card = replace(classifier.card, data={"name": "double-12c"})
    table = paired_classes(classifier)
    assert not table.diagonal().any()
    assert torch.equal(table, table.T)
    for first, second in table.nonzero().tolist():
        assert len(discriminative_parts(spec, first, second)) == 1
    for first, second in (~table).nonzero().tolist():
        assert first == second or len(discriminative_parts(spec, first, second)) > 1
    asked = Query(torch.rand(2, 3, 32, 32), torch.tensor([0, 7]), torch.arange(2))
    maps = explain(classifier, FinerCam(references="paired"), asked).maps
    for row, target in enumerate(asked.targets.tolist()):
        names = "+".join(spec.class_names[other] for other in table[target].nonzero().flatten().tolist())
        named = explain(classifier, FinerCam(references=names), asked).maps
        torch.testing.assert_close(maps[row], named[row])
    classifier.card = replace(classifier.card, class_names=tuple("abcdefghijkl"))
    with pytest.raises(NotApplicable, match="was trained on no preset"):
        paired_classes(classifier)


@pytest.mark.parametrize("base", BASES)
def test_without_references_finercam_is_its_base(make: Make, query: MakeQuery, base: str) -> None:
    classifier = make("vit").eval()
    asked = query(classifier)
    torch.testing.assert_close(
        explain(classifier, FinerCam(base=base, gamma=0.0), asked).maps, explain(classifier, BASES[base](), asked).maps
    )


def test_finercam_costs_what_gradcam_costs(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace").eval()
    costs = [explain(classifier, method, query(classifier)).cost for method in (FinerCam(), GradCam())]
    assert costs[0].forwards == costs[1].forwards
    assert costs[0].backwards == costs[1].backwards


def test_contrast_in_closed_form(closed: Classifier, query: MakeQuery) -> None:
    asked, weight = query(closed), closed.network.linear.weight.detach()  # type: ignore[union-attr]
    maps = explain(closed, GradCam(contrast="b"), asked).maps
    torch.testing.assert_close(maps, maps_of(closed, asked, weight[asked.targets] - weight[1]))
    assert not maps[[1, 4]].any()  # of b over itself
    assert maps[[0, 2, 3]].any()
    torch.testing.assert_close(explain(closed, GradCam(contrast="1"), asked).maps, maps)


@pytest.mark.parametrize("kind", GRADIENT_CAMS)
def test_contrast_is_finercam_with_one_reference_and_no_discount(make: Make, query: MakeQuery, kind: Any) -> None:
    classifier = make("vit").eval()
    asked = query(classifier)._replace(targets=torch.tensor([0, 1, 2, 0, 1]))
    base = next(name for name, item in BASES.items() if item is kind)
    finer = explain(classifier, FinerCam(base=base, gamma=1.0, references="iris"), asked).maps
    maps = explain(classifier, kind(contrast="iris"), asked).maps
    torch.testing.assert_close(maps, finer)
    assert not torch.equal(maps, explain(classifier, kind(), asked).maps)


@pytest.mark.parametrize("explainer", [Lrp(), Lrp(composite="epsilon_gamma_box"), AttnLrp(), CpLrp()])
def test_relevance_of_a_lead_is_the_difference_of_relevances(make: Make, query: MakeQuery, explainer: Any) -> None:
    classifier = make("inplace").eval()
    asked = query(classifier)
    other = asked._replace(targets=torch.full_like(asked.targets, 2))
    both = [explain(classifier, explainer, each).maps for each in (asked, other)]
    contrasted = type(explainer)(**{**vars(explainer), "contrast": "aster"})
    maps = explain(classifier, contrasted, asked).maps
    torch.testing.assert_close(maps, both[0] - both[1], rtol=1e-3, atol=1e-5 * float(both[0].abs().max()))
    assert maps.any()


WITHOUT_CONTRAST = [
    (GradCam(), "GradCam(layer=None, fuse='mean')"),
    (GradCamPlusPlus("a"), "GradCamPlusPlus(layer='a', fuse='mean', renorm=False)"),
    (LayerCam(gamma=2.0), "LayerCam(layer=None, fuse='mean', gamma=2.0)"),
    (XGradCam(fuse="max"), "XGradCam(layer=None, fuse='max')"),
    (HiResCam(), "HiResCam(layer=None, fuse='mean')"),
    (Lrp(), "Lrp(pooling='sum', composite='epsilon_plus_flat', epsilon=1e-06, gamma=0.25)"),
    (GradCam(contrast="iris"), "GradCam(layer=None, fuse='mean', contrast='iris')"),
]


@pytest.mark.parametrize(("explainer", "identity"), WITHOUT_CONTRAST)
def test_methods_keep_their_identity(explainer: Any, identity: str) -> None:
    """What is on disk is filed under it: a new option shows where it is used alone."""
    assert repr(explainer) == identity


def test_positions_of_parameters_stay() -> None:
    assert GradCamPlusPlus(None, "mean", True).renorm is True
    assert LayerCam(None, "mean", 2.0).gamma == 2.0


@pytest.mark.parametrize("text", ["gradcam:contrast=irsi", "lrp:contrast=irsi", "finercam:references=rose+irsi"])
def test_classes_that_are_not_there(make: Make, query: MakeQuery, text: str) -> None:
    classifier = make("inplace").eval()
    with pytest.raises(WrongUsage, match='unknown class "irsi"; did you mean "iris"'):
        explain(classifier, parse_method(text).explainer, query(classifier))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("finercam:gamma=-1", "gamma is -1"),
        ("finercam:count=0", "count is 0; expected at least 1"),
        ("finercam:base=gradcan", 'base "gradcan"'),
        ("refinecam:base=cam", 'base "cam"'),
        ("refinecam:layer=a+", "expected the path of a submodule"),
    ],
)
def test_bad_parameters(text: str, says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        parse_method(text)


# RefineCAM.


def test_maps_are_multiplied() -> None:
    """By hand: [0, 1/3, 2/3, 1] x [1, 0.5, 0.5, 0] = [0, 1/6, 1/3, 0]; a map that is constant says nothing."""
    first, second = torch.tensor([[[0.0, 1], [2, 3]]]), torch.tensor([[[4.0, 3], [3, 2]]])
    torch.testing.assert_close(refine([first, second]), torch.tensor([[[0, 0.5], [1, 0]]]))
    torch.testing.assert_close(refine([first]), first / 3)
    assert not refine([first, torch.ones(1, 2, 2)]).any()


def test_refinecam_equals_the_slow_version(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace").eval()
    asked, product = query(classifier), np.float64(1)
    for layer in ("features.1", "features"):
        coarse = GradCamPlusPlus().coarse(activations(classifier, asked, layer)).detach().numpy()
        low, high = coarse.min((1, 2), keepdims=True), coarse.max((1, 2), keepdims=True)
        wide = F.interpolate(torch.from_numpy((coarse - low) / (high - low))[:, None], (8, 8), mode="bilinear")
        product = product * wide[:, 0].numpy()
    low, high = product.min((1, 2), keepdims=True), product.max((1, 2), keepdims=True)
    expected = F.interpolate(torch.from_numpy((product - low) / (high - low))[:, None], (16, 16), mode="bilinear")[:, 0]
    for method in (RefineCam(), RefineCam("features.1 + features")):
        maps = explain(classifier, method, asked).maps
        np.testing.assert_allclose(maps.numpy(), expected.numpy(), atol=1e-4)
    assert maps.std() > 0


@pytest.mark.parametrize("kind", ["inplace", "reuse", "untraceable", "vit"])
def test_layers_seen_in_one_pass_are_those_seen_one_by_one(kind: str, make: Make, query: MakeQuery) -> None:
    classifier = make(kind).eval()
    pictures, layers = query(classifier), layers_to_refine(classifier)
    for together, alone in zip(
        differentiate_layers(classifier, pictures, layers),
        (activations(classifier, pictures, layer) for layer in layers),
        strict=True,
    ):
        torch.testing.assert_close(together.channels, alone.channels)
        torch.testing.assert_close(together.gradient(), alone.gradient())
    with classifier.counting() as cost:
        differentiate_layers(classifier, pictures, layers)
    assert cost.forwards == len(pictures.images)
    assert 0 < cost.backwards <= len(pictures.images)


def test_which_layers_are_refined(make: Make) -> None:
    assert layers_to_refine(build("resnet18", "abcd", 64, seed=0)) == ["layer2", "layer3", "layer4"]
    assert layers_to_refine(make("vit")) == [f"encoder.layers.encoder_layer_{block}.ln_1" for block in (1, 2, 3)]
    assert layers_to_refine(make("inplace")) == ["features.1", "features"]
