"""Opti-CAM against its closed form and torch's Adam on one image at a time; when it stops, and what it costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers import opticam
from an8flower.evaluate.explainers.activation_map import ActivationMap
from an8flower.evaluate.explainers.attribution.activations import activations
from an8flower.evaluate.explainers.opticam import OptiCam, combine, is_time_to_look, normalise_by_maximum
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.streamlined import Streamlined

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


class TwoPixels(nn.Module):
    """A_k = relu(x_k) of two channels, y = mean(A_1) - mean(A_2)."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.linear = nn.ReLU(), nn.Linear(2, 2, bias=False)
        self.linear.weight.data = torch.tensor([[1.0, -1.0], [0.0, 0.0]])

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.relu(images[:, :2]).mean((2, 3)))


@pytest.fixture
def two_pixels() -> tuple[Classifier, Query]:
    """The network, an image whose channels are 2 at the first pixel and 1 at the last, and a black one."""
    classifier = wrap(TwoPixels(), "ab", 2, "relu", mean=(0, 0, 0), std=(0.5, 0.5, 0.5)).eval()
    images = torch.zeros(2, 3, 2, 2)
    images[0, 0, 0, 0], images[0, 1, 1, 1] = 1.0, 0.5
    return classifier, Query(images, torch.tensor([0, 0]), torch.tensor([0, 1]))


def test_the_closed_form(two_pixels: tuple[Classifier, Query]) -> None:
    """A hundred steps from equal weights: the objective goes from 0.375 to 0.49904."""
    classifier, asked = two_pixels
    weights = OptiCam().weights(activations(classifier, asked))
    torch.testing.assert_close(weights[0].flatten(), torch.tensor([0.99234, 0.00766]), rtol=0, atol=1e-5)
    maps = explain(classifier, OptiCam(), asked).maps
    torch.testing.assert_close(maps[0], torch.tensor([[1.0, 0.0], [0.0, 0.00386]]), rtol=0, atol=1e-5)
    objective = classifier(asked.images[:1] * maps[:1, None]).detach()[0, 0]
    assert float(objective) == pytest.approx(0.49904, abs=1e-5)
    equal = explain(classifier, OptiCam(iterations=0), asked).maps
    torch.testing.assert_close(equal[0], torch.tensor([[1.0, 0.0], [0.0, 0.5]]))
    assert float(classifier(asked.images[:1] * equal[:1, None]).detach()[0, 0]) == pytest.approx(0.375)


def test_an_image_whose_objective_stands_still_costs_nothing_more(two_pixels: tuple[Classifier, Query]) -> None:
    classifier, asked = two_pixels
    explanation = explain(classifier, OptiCam(iterations=10), asked)
    # Head and tail of both; of one image, ten steps and the last look; of the black one, two looks.
    assert explanation.cost.forwards == 2 + 11 + 2
    assert explanation.cost.backwards == 10 + 2
    assert not explanation.maps[1].any()
    alone = explain(classifier, OptiCam(iterations=10), Query(*(tensor[:1] for tensor in asked)))
    torch.testing.assert_close(explanation.maps[:1], alone.maps)


@pytest.mark.parametrize(("objective", "terms"), [("mask", 1), ("diff", 1), ("iomask", 2), ("iodiff", 2)])
def test_costs(make: Make, query: MakeQuery, objective: str, terms: int) -> None:
    classifier = make("inplace")
    cost = explain(classifier, OptiCam(objective=objective, iterations=4), query(classifier)).cost
    assert cost.forwards == pytest.approx(5 * (1 + 5 * terms))
    assert cost.backwards == pytest.approx(5 * 4 * terms)


# The slow second version.


def slow_mask(explainer: OptiCam, variables: Tensor, channels: Tensor, image: Tensor) -> Tensor:
    combined = sum(weight * channel for weight, channel in zip(variables.softmax(0), channels, strict=True))
    wide = F.interpolate(combined[None, None], image.shape[1:], mode="bilinear")[0, 0]
    if explainer.normalisation == "sigmoid":
        return 1 / (1 + torch.exp(-wide))
    if explainer.normalisation == "max":
        return wide / wide.max()
    return (wide - wide.min()) / (wide.max() - wide.min())


def slow_score(explainer: OptiCam, classifier: Classifier, image: Tensor, target: int) -> Tensor:
    logits = classifier(image[None])[0]
    others = torch.cat([logits[:target], logits[target + 1 :]])
    return {
        "logit": logits[target],
        "margin": logits[target] - others.max(),
        "probability": logits.softmax(0)[target],
        "cross_entropy": -F.cross_entropy(logits[None], torch.tensor([target])),
    }[explainer.selector]


def slow_opticam(classifier: Classifier, explainer: OptiCam, image: Tensor, target: int) -> Tensor:
    channels = classifier.spatial(classifier.head(image[None]).values)[0].detach()
    variables = torch.full((len(channels),), 0.5, requires_grad=True)
    optimiser = torch.optim.Adam([variables], lr=explainer.learning_rate)
    whole, best, map_of_best = slow_score(explainer, classifier, image, target).detach(), -torch.inf, image[0]
    for _ in range(explainer.iterations + 1):
        mask = slow_mask(explainer, variables, channels, image)
        kept = slow_score(explainer, classifier, image * mask, target)
        cut = slow_score(explainer, classifier, image * (1 - mask), target)
        objective = {
            "mask": kept,
            "diff": -(whole - kept).abs(),
            "iomask": kept - cut,
            "iodiff": -(whole - kept).abs() + (whole - cut).abs(),
        }[explainer.objective]
        if objective > best:
            best, map_of_best = float(objective.detach()), mask.detach()
        optimiser.zero_grad()
        (-objective).backward()
        optimiser.step()
    return map_of_best


VARIANTS = [
    *(OptiCam(iterations=8, objective=objective) for objective in ("mask", "diff", "iomask", "iodiff")),
    *(OptiCam(iterations=8, normalisation=normalisation) for normalisation in ("max", "sigmoid")),
    *(OptiCam(iterations=8, selector=selector) for selector in ("margin", "probability", "cross_entropy")),
    OptiCam(iterations=8, learning_rate=0.5),
]


@pytest.mark.parametrize("explainer", VARIANTS, ids=str)
def test_equals_the_slow_version(make: Make, query: MakeQuery, explainer: OptiCam) -> None:
    classifier = make("reuse" if explainer.normalisation == "range" else "inplace").eval()
    asked = query(classifier)
    maps = explain(classifier, explainer, asked).maps
    assert maps.any()
    for row, image in enumerate(asked.images):
        expected = slow_opticam(classifier, explainer, image, int(asked.targets[row]))
        torch.testing.assert_close(maps[row], expected, rtol=1e-3, atol=1e-3)


def test_transformers(make: Make, query: MakeQuery) -> None:
    classifier = make("vit").eval()
    nn.init.uniform_(classifier.network.get_submodule(classifier.target_layer).weight)
    asked = Query(*(tensor[:2] for tensor in query(classifier)))
    explainer = OptiCam(iterations=3)
    maps = explain(classifier, explainer, asked).maps
    expected = [slow_opticam(classifier, explainer, image, row) for row, image in enumerate(asked.images)]
    torch.testing.assert_close(maps, torch.stack(expected), rtol=1e-3, atol=1e-3)


def test_rounding_does_not_become_a_mask() -> None:
    """What cancels at equal weights is no map, yet it has a gradient."""
    half = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    channels = torch.cat([half, -half / 3, -half / 3, -half / 3], 1)
    weights = torch.full((1, 12, 1, 1), 1 / 12, requires_grad=True)
    maps = combine(weights, channels)
    assert (maps == maps[0, 0, 0]).all()
    assert (weights * channels).sum(1).any()
    assert torch.autograd.grad(maps.sum(), weights)[0].abs().min() > 0.1


def test_channels_that_cancel_make_no_mask(make: Make, query: MakeQuery) -> None:
    classifier = make("vit")
    norm = classifier.network.get_submodule(classifier.target_layer)
    nn.init.ones_(norm.weight)
    nn.init.zeros_(norm.bias)
    asked = query(classifier)
    assert not explain(classifier, OptiCam(iterations=0), asked).maps.any()
    assert explain(classifier, OptiCam(iterations=2), asked).maps.any()


def test_several_layers_are_fused_as_masks(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    first, second, both = (
        explain(classifier, OptiCam(layer=layer, iterations=2), asked).maps
        for layer in ("features.1", "features", "features.1+features")
    )
    torch.testing.assert_close(both, (first + second) / 2)


def test_the_objective_climbs(make: Make, query: MakeQuery) -> None:
    classifier = make("reuse").eval()
    asked = query(classifier)
    scores = [
        classifier(asked.images * explain(classifier, OptiCam(iterations=iterations), asked).maps[:, None])
        .gather(1, asked.targets[:, None])
        .detach()
        for iterations in (0, 3, 20)
    ]
    assert (scores[0] < scores[1]).all()
    assert (scores[1] < scores[2]).all()


def test_never_more_images_at_once_than_in_flight(
    make: Make, query: MakeQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = make("inplace").eval()
    asked = query(classifier)
    explainer = OptiCam(objective="iomask", iterations=3)
    expected = explainer(classifier, asked)
    sizes: list[int] = []
    call = Streamlined.__call__
    monkeypatch.setattr(Streamlined, "__call__", lambda self, images: sizes.append(len(images)) or call(self, images))
    classifier.in_flight = 2
    torch.testing.assert_close(explainer(classifier, asked), expected, rtol=1e-4, atol=1e-5)
    assert max(sizes) == 2


def test_maps_without_a_positive_maximum_have_none_to_divide_by() -> None:
    maps = torch.tensor([[[-2.0, -1.0]], [[0.0, 0.0]], [[-1.0, 2.0]]])
    assert normalise_by_maximum(maps).tolist() == [[[0, 0]], [[0, 0]], [[-0.5, 1]]]


def test_half_precision_runs(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace").bfloat16()
    maps = explain(classifier, OptiCam(iterations=5), query(classifier)).maps
    torch.testing.assert_close(maps.amax((1, 2)), torch.ones(5))


BAD_PARAMETERS = [
    (lambda: OptiCam(objective="masks"), 'unknown objective "masks"; did you mean "mask"?'),
    (lambda: OptiCam(normalisation="rang"), 'unknown normalisation "rang"; did you mean "range"?'),
    (lambda: OptiCam(selector="logits"), 'unknown selector "logits"; did you mean "logit"?'),
    (lambda: OptiCam(iterations=-1), "opticam: iterations is -1; expected 0 or more"),
    (lambda: OptiCam(learning_rate=0.0), "opticam: learning_rate is 0.0; expected a positive number"),
    (lambda: OptiCam(fuse="sum"), 'unknown fusion "sum"'),
]


@pytest.mark.parametrize(("bad", "says"), BAD_PARAMETERS)
def test_bad_parameters(bad: Callable[[], ActivationMap], says: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        bad()
    assert says in str(caught.value)


def test_leaving_images_out_every_tenth_step_alone_changes_no_map(
    two_pixels: tuple[Classifier, Query], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the black image is done at the second step, and stays at work until the tenth."""
    classifier, asked = two_pixels
    explainer = OptiCam(iterations=37)
    expected = explain(classifier, explainer, asked)
    gpu = torch.device("cuda")
    monkeypatch.setattr(opticam, "is_time_to_look", lambda device, step: is_time_to_look(gpu, step))
    later = explain(classifier, explainer, asked)
    assert torch.equal(later.maps, expected.maps)
    assert later.cost.forwards > expected.cost.forwards
