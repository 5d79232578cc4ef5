"""Score-CAM and Ablation-CAM against closed forms and slow second versions, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers import cam_scores
from an8flower.evaluate.explainers.activation_map import ActivationMap
from an8flower.evaluate.explainers.attribution.activations import activations
from an8flower.evaluate.explainers.cam_scores import AblationCam, ScoreCam, drops_by_passes, first_equal
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.streamlined import Streamlined

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


class TwoPixels(nn.Module):
    """A_k = relu(x_k), y = W mean(A) with W = (1, -1, 0) for the first class."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.linear = nn.ReLU(), nn.Linear(3, 2, bias=False)
        self.linear.weight.data = torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]])

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.relu(images).mean((2, 3)))


@pytest.fixture
def two_pixels() -> tuple[Classifier, Query]:
    """The network, and an image whose channels are 2 at the first pixel, 1 at the last, 0 everywhere."""
    classifier = wrap(TwoPixels(), "ab", 2, "relu", mean=(0, 0, 0), std=(0.5, 0.5, 0.5)).eval()
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0, 0, 0], images[0, 1, 1, 1] = 1.0, 0.5
    return classifier, Query(images, torch.tensor([0]), torch.tensor([0]))


def test_the_closed_form_of_scorecam(two_pixels: tuple[Classifier, Query]) -> None:
    classifier, asked = two_pixels
    weights = ScoreCam().weights(activations(classifier, asked)).flatten()
    torch.testing.assert_close(weights, torch.tensor([0.679179, 0.320821, 0.0]), rtol=0, atol=1e-6)
    maps = explain(classifier, ScoreCam(), asked).maps
    torch.testing.assert_close(maps[0], torch.tensor([[1.358357, 0.0], [0.0, 0.320821]]), rtol=0, atol=1e-6)
    scores = ScoreCam(channel_softmax=False).weights(activations(classifier, asked)).flatten()
    torch.testing.assert_close(scores, torch.tensor([0.5, -0.25, 0.0]))


def test_the_closed_form_of_ablationcam(two_pixels: tuple[Classifier, Query]) -> None:
    classifier, asked = two_pixels
    seen = activations(classifier, asked)
    torch.testing.assert_close(AblationCam().weights(seen).flatten(), torch.tensor([0.5, -0.25, 0.0]))
    torch.testing.assert_close(AblationCam(relative=True).weights(seen).flatten(), torch.tensor([2.0, -1.0, 0.0]))
    torch.testing.assert_close(drops_by_passes(seen).flatten(), torch.tensor([0.5, -0.25, 0.0]))


def test_a_negative_logit_does_not_turn_the_map_around(two_pixels: tuple[Classifier, Query]) -> None:
    classifier, asked = two_pixels
    asked.images[0, 1] *= 2
    asked.images[0, 0] *= 0.25
    assert classifier(asked.images)[0, 0] < 0
    weights = AblationCam(relative=True).weights(activations(classifier, asked)).flatten()
    assert weights[0] > 0 > weights[1]


# Slow second versions.


@given(st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=5))
def test_every_mask_has_the_place_of_the_first_that_it_equals(numbers: list[list[int]]) -> None:
    """Among the masks of its own image; compared one by one."""
    masks = torch.tensor(numbers).float()[:, :, None, None].expand(-1, -1, 2, 3)
    expected = [[row.index(number) for number in row] for row in numbers]
    assert first_equal(masks).tolist() == expected


def slow_scorecam(classifier: Classifier, explainer: ScoreCam, query: Query) -> Tensor:
    """Image by image and channel by channel."""
    maps = []
    for image, target in zip(query.images, query.targets.tolist(), strict=True):
        channels = classifier.spatial(classifier.head(image[None], explainer.layer).values)[0].detach()
        scores = {}
        for number, channel in enumerate(channels):
            wide = F.interpolate(channel[None, None], image.shape[1:], mode="bilinear")[0, 0]
            if channel.max() > channel.min():
                logits = classifier((image * (wide - wide.min()) / (wide.max() - wide.min()))[None])[0].detach()
                scores[number] = (logits.softmax(0) if explainer.score == "probability" else logits)[target]
        weights = torch.stack(list(scores.values()))
        weights = weights.softmax(0) if explainer.channel_softmax else weights
        total = sum(weight * channels[number] for number, weight in zip(scores, weights, strict=True)).relu()
        maps.append(F.interpolate(total[None, None], image.shape[1:], mode="bilinear")[0, 0])
    return torch.stack(maps)


SCORECAMS = [
    ("inplace", ScoreCam()),
    ("inplace", ScoreCam(layer="features.1", score="probability", channel_softmax=False)),
    ("reuse", ScoreCam()),
    ("inplace", ScoreCam(channel_softmax=False)),
    ("reuse", ScoreCam(score="probability")),
    ("untraceable", ScoreCam()),
    ("vit", ScoreCam()),
]


@pytest.mark.parametrize(("kind", "explainer"), SCORECAMS)
def test_scorecam_equals_the_slow_version(make: Make, query: MakeQuery, kind: str, explainer: ScoreCam) -> None:
    classifier = make(kind).eval()
    asked = Query(*(tensor[: 1 if kind == "vit" else 3] for tensor in query(classifier)))
    maps = explain(classifier, explainer, asked).maps
    assert maps.any()
    torch.testing.assert_close(maps, slow_scorecam(classifier, explainer, asked), rtol=1e-3, atol=1e-5)


def slow_ablation(classifier: Classifier, layer: str, image: Tensor, target: int) -> Tensor:
    """The drops (K,) of the whole network's logit while a hook takes out a channel, one at a time."""
    module = classifier.network.get_submodule(layer)
    calls: list[int] = []
    with module.register_forward_hook(lambda *_: calls.append(1)):
        whole = classifier(image[None])[0, target]
    width = classifier.spatial(classifier.head(image[None], layer).values).shape[1]
    drops = []
    for channel in range(width):
        count = iter(range(1, len(calls) + 1))

        def take_out(_m: nn.Module, _i: Any, output: Tensor, channel: int = channel, count: Any = count) -> Tensor:
            output = output.clone()
            if next(count) == len(calls):
                output.movedim(-1 if output.ndim == 3 else 1, 0)[channel] = 0
            return output

        with module.register_forward_hook(take_out):
            drops.append(whole - classifier(image[None])[0, target])
    return torch.stack(drops)


ABLATIONS = [
    ("inplace", "features"),
    ("inplace", "features.1"),
    ("inplace", "features.2"),
    ("reuse", "bn2"),
    ("reuse", "relu"),
    ("vit", "encoder.layers.encoder_layer_3.ln_1"),
    ("untraceable", "features.2"),
]


@pytest.mark.parametrize(("kind", "layer"), ABLATIONS)
@torch.no_grad()
def test_ablationcam_equals_the_slow_version(make: Make, query: MakeQuery, kind: str, layer: str) -> None:
    classifier = make(kind).eval()
    count = 1 if kind == "vit" else 2
    asked = Query(*(tensor[:count] for tensor in query(classifier)))
    weights = AblationCam(layer=layer).weights(activations(classifier, asked, layer))[:, :, 0, 0]
    expected = torch.stack([slow_ablation(classifier, layer, asked.images[row], row) for row in range(count)])
    assert expected.any()
    torch.testing.assert_close(weights, expected, rtol=1e-3, atol=2e-5 * float(expected.abs().max()))


def test_the_closed_form_and_the_passes_of_ablationcam_agree(query: MakeQuery) -> None:
    classifier = build("resnet18", "abcd", 64, seed=0).eval()
    asked = Query(*(tensor[:1] for tensor in query(classifier)))
    seen = activations(classifier, asked)
    fast = AblationCam().weights(seen)[:, :, 0, 0]
    torch.testing.assert_close(fast, drops_by_passes(seen), rtol=1e-3, atol=1e-6)


# Costs, and how much is in the network at once.


class Stripes(nn.Module):
    """Channels that are the same up to scale, constant, or different; then something other than mean and linear."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.linear = nn.Conv2d(3, 6, 1), nn.Linear(6, 2)
        self.layer.weight.data.zero_()
        self.layer.bias.data = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.5, 0.0])
        for channel, (colour, weight) in enumerate([(0, 1.0), (0, 2.0), (1, 1.0), (2, 0.0), (2, 0.0), (2, 1.0)]):
            self.layer.weight.data[channel, colour] = weight

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.layer(images).square().mean((2, 3)))


@pytest.fixture
def stripes() -> tuple[Classifier, Query]:
    torch.manual_seed(0)
    classifier = wrap(Stripes(), "ab", 4, "layer", mean=(0, 0, 0), std=(1, 1, 1)).eval()
    # Powers of two, with which scaling is exact.
    images = torch.randint(0, 5, (3, 3, 4, 4)) / 4
    images[:, :, 0, 0], images[:, :, 0, 1] = 0.0, 1.0
    return classifier, Query(images, torch.tensor([0, 1, 0]), torch.arange(3))


def test_equal_masks_pass_once_and_constant_ones_never(stripes: tuple[Classifier, Query]) -> None:
    classifier, asked = stripes
    head = classifier.share("layer").head
    explanation = explain(classifier, ScoreCam(), asked)
    assert explanation.cost.forwards == pytest.approx(3 * head + 3 * 3)
    torch.testing.assert_close(explanation.maps, slow_scorecam(classifier, ScoreCam(), asked))
    weights = ScoreCam().weights(activations(classifier, asked))[:, :, 0, 0]
    assert torch.equal(weights[:, 0], weights[:, 1])
    assert not weights[:, 3:5].any()
    assert weights[:, [2, 5]].all()


def test_images_without_any_mask(stripes: tuple[Classifier, Query]) -> None:
    classifier, asked = stripes
    asked = asked._replace(images=torch.full_like(asked.images, 0.5))
    explanation = explain(classifier, ScoreCam(), asked)
    assert not explanation.maps.any()
    assert explanation.cost.forwards == pytest.approx(3 * classifier.share("layer").head)


def test_the_tail_runs_once_for_every_channel_that_is_not_zero(stripes: tuple[Classifier, Query]) -> None:
    classifier, asked = stripes
    head, tail = classifier.share("layer")
    cost = explain(classifier, AblationCam(), asked).cost
    tried_in_vain = 1  # whether the mean and a linear layer follow
    assert cost.forwards == pytest.approx(3 * (head + (tried_in_vain + 1 + 5) * tail))
    assert cost.backwards == 0


def test_where_mean_and_linear_follow_ablationcam_costs_one_pass(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    cost = explain(classifier, AblationCam(), query(classifier)).cost
    assert cost.forwards == pytest.approx(5)


def test_scorecam_never_holds_more_than_the_images_in_flight(
    make: Make, query: MakeQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = make("reuse").eval()
    sizes: list[int] = []
    call = Streamlined.__call__
    monkeypatch.setattr(Streamlined, "__call__", lambda self, images: sizes.append(len(images)) or call(self, images))
    classifier.in_flight = 3
    ScoreCam()(classifier, query(classifier))
    assert max(sizes) == 3


@pytest.mark.parametrize(("elements", "largest"), [(1, 3), (2 * 2 * 128, 6), (2**30, 20)])
def test_ablationcam_holds_what_the_images_in_flight_weigh(
    make: Make, query: MakeQuery, monkeypatch: pytest.MonkeyPatch, elements: int, largest: int
) -> None:
    """Both by numbers in the features, 256 of `reuse` and as many carried around the layer, and by operations."""
    classifier = make("reuse").eval()
    classifier.in_flight = 3
    monkeypatch.setattr(cam_scores, "ELEMENTS", elements)
    seen = activations(classifier, query(classifier))
    carried = sum(tensor[0].numel() for tensor in seen.features.carried)
    assert seen.features.values[0].numel() + carried == 2 * 8 * 8 * 8
    rows = numbers = torch.arange(20)
    sizes = [len(some) for some, _ in cam_scores.portions(seen, rows, numbers)]
    assert max(sizes) == {3: 3, 6: 3, 20: 20}[largest]


BAD_PARAMETERS = [
    (lambda: ScoreCam(score="logits"), 'unknown score "logits"; did you mean "logit"?'),
    (lambda: ScoreCam(precision="bf61"), 'unknown precision "bf61"; did you mean "bf16"?'),
    (lambda: ScoreCam(fuse="sum"), 'unknown fusion "sum"'),
]


@pytest.mark.parametrize(("bad", "says"), BAD_PARAMETERS)
def test_bad_parameters(bad: Callable[[], ActivationMap], says: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        bad()
    assert says in str(caught.value)


@pytest.mark.parametrize("explainer", [ScoreCam(precision="bf16"), AblationCam()])
def test_half_precision_is_near(make: Make, query: MakeQuery, explainer: ActivationMap) -> None:
    classifier = make("inplace")
    expected = explain(classifier, type(explainer)(), query(classifier)).maps
    model = classifier if isinstance(explainer, ScoreCam) else classifier.bfloat16()
    maps = explain(model, explainer, query(classifier)).maps
    torch.testing.assert_close(maps, expected, rtol=0, atol=0.1 * float(expected.abs().max()))
