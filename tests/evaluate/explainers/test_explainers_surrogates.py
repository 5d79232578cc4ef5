"""LIME and KernelSHAP against closed forms, the authors' loops, scikit-learn and Captum; and the segments they need."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.attribution import segments as cutting
from an8flower.evaluate.explainers.attribution.segments import (
    SEGMENTATIONS,
    check_segments,
    cut_into_segments,
    mean_colours,
)
from an8flower.evaluate.explainers.surrogates import KernelShap, Lime, Surrogate
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.seeds import generator

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]
GRIDS: dict[str, Any] = {"segments": "grid", "count": 16}


class Additive(nn.Module):
    """The closed form: y = w.x + b is the logit of class 0, or its probability."""

    def __init__(self, side: int, probability: bool) -> None:
        super().__init__()
        self.maps = nn.Identity()
        self.weights = nn.Parameter((torch.rand(3 * side**2, generator=generator(3)) - 0.5) / side**2)
        self.probability = probability

    def forward(self, images: Tensor) -> Tensor:
        value = 0.5 + self.maps(images).flatten(1) @ self.weights
        return torch.stack([value, 1 - value], 1).log() if self.probability else torch.stack([value, -value], 1)


def additive(probability: bool, side: int = 12) -> Classifier:
    return wrap(Additive(side, probability), "ab", side, "maps", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def two(classifier: Classifier, query: MakeQuery, **changes: Any) -> Query:
    asked = query(classifier)
    return Query(asked.images[:2], torch.tensor([0, 1]), asked.seeds[:2])._replace(**changes)


# Segments


@pytest.mark.parametrize("kind", SEGMENTATIONS)
@pytest.mark.parametrize("side", [1, 5, 40])
def test_segments_are_numbered_without_gaps(kind: str, side: int) -> None:
    images = torch.rand(2, 3, side, side, generator=generator(0))
    images[1] = 0.5
    labels = cut_into_segments(images, kind, 9)
    assert labels.shape == (2, side, side)
    assert labels.dtype == torch.int64
    for row in labels:
        assert row.unique().tolist() == list(range(int(row.max()) + 1))
        assert len(row.unique()) >= min(8, side**2)
    assert torch.equal(cut_into_segments(images[1:], kind, 9), labels[1:])


def test_superpixels_follow_colours() -> None:
    image = torch.full((1, 3, 48, 48), 0.2)
    image[0, 0, 10:30, 12:36] = 0.9
    labels = cut_into_segments(image, "slic", 30)[0]
    inside = image[0, 0] > 0.5
    assert not set(labels[inside].tolist()) & set(labels[~inside].tolist())


def test_an_image_is_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again for other settings, other images, and where too many came between; nobody can change what is kept."""
    cut: list[int] = []

    def halves(image: np.ndarray, count: int) -> np.ndarray:
        cut.append(count)
        return (np.arange(image[..., 0].size) % count).reshape(image.shape[:2])

    monkeypatch.setitem(SEGMENTATIONS, "grid", halves)
    monkeypatch.setattr(cutting, "MEMORY", 2 * 2 * 64)  # two images of 8 x 8 pixels
    images = torch.rand(3, 3, 8, 8, generator=generator(1))
    first = cut_into_segments(images[:2], "grid", 4)
    first_again = cut_into_segments(images[:2], "grid", 4)
    assert cut == [4, 4]
    first_again.fill_(9)
    assert torch.equal(cut_into_segments(images[:2], "grid", 4), first)
    cut_into_segments(images[:1], "grid", 5)
    cut_into_segments(images[2:], "grid", 4)
    assert cut == [4, 4, 5, 4]
    cut_into_segments(images[:2], "grid", 4)
    assert cut == [4, 4, 5, 4, 4, 4]


def test_where_quickshift_finds_too_few_slic_does() -> None:
    image = torch.full((1, 3, 28, 28), 0.3)
    assert len(np.unique(SEGMENTATIONS["quickshift"](image[0].permute(1, 2, 0).double().numpy(), 50))) < 8
    assert torch.equal(cut_into_segments(image, "quickshift", 50), cut_into_segments(image, "slic", 50))


def test_where_slic_finds_too_few_the_grid_does() -> None:
    image = torch.rand(1, 3, 112, 112, generator=generator(0))
    assert len(np.unique(SEGMENTATIONS["slic"](image[0].permute(1, 2, 0).double().numpy(), 50))) < 8
    assert torch.equal(cut_into_segments(image, "slic", 50), cut_into_segments(image, "grid", 50))


def test_the_grid() -> None:
    labels = cut_into_segments(torch.zeros(1, 3, 6, 6), "grid", 10)[0]
    assert torch.equal(labels, torch.arange(9).view(3, 3).repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert cut_into_segments(torch.zeros(1, 3, 112, 112), "grid", 50).max() == 48


def test_mean_colours() -> None:
    image = torch.rand(3, 12, 12, generator=generator(0))
    labels = cut_into_segments(torch.zeros(1, 3, 12, 12), "grid", 9)[0]
    for segment, channel in itertools.product(range(9), range(3)):
        place = labels == segment
        colours = mean_colours(image, labels)[channel][place]
        torch.testing.assert_close(colours, image[channel][place].mean().expand_as(colours))


@pytest.mark.parametrize(
    ("kind", "count", "says"),
    [("slick", 50, 'unknown segments "slick"; did you mean "slic"'), ("grid", 3, "count is 3; expected at least 4")],
)
def test_bad_segments(kind: str, count: int, says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        check_segments(kind, count)
    with pytest.raises(WrongUsage, match=says):
        Lime(segments=kind, count=count)


# LIME


def every_way(count: int) -> np.ndarray:
    return np.array(list(itertools.product((0.0, 1.0), repeat=count)))


@pytest.mark.parametrize(("alpha", "shrinkage"), [(0, 1), (1, 0.8), (3, 0.571429)])
def test_a_ridge_shrinks_the_coefficients_of_all_combinations(alpha: float, shrinkage: float) -> None:
    coefficients = np.array([1.0, -4, 3, 1.5])
    said = every_way(4) @ coefficients + 0.3
    fitted = Lime(alpha=alpha, kernel_width=1e6).fit(every_way(4), said)
    np.testing.assert_allclose(fitted, shrinkage * coefficients, rtol=1e-6)


def contributions(classifier: Classifier, query: Query, hidden: Tensor) -> Tensor:
    """What each segment of a grid of 4 x 4 adds to y = w.x + b when it is shown: (B, H, W), signed by the target."""
    weights = classifier.network.weights.detach().view(3, 12, 12)
    tiles = (weights * (query.images - hidden)).sum(1).unflatten(2, (4, 3)).unflatten(1, (4, 3)).sum((2, 4))
    return (1 - 2 * query.targets)[:, None, None] * tiles.repeat_interleave(3, 1).repeat_interleave(3, 2)


@pytest.mark.parametrize("hide", ["mean", "black"])
@pytest.mark.parametrize("method", [Lime, KernelShap])
def test_what_segments_add_is_found_again(query: MakeQuery, method: type[Surrogate], hide: str) -> None:
    classifier = additive(probability=method is Lime)
    asked = two(classifier, query)
    labels = cut_into_segments(asked.images, "grid", 16)
    means = torch.stack([mean_colours(image, row) for image, row in zip(asked.images, labels, strict=True)])
    exactly = {"alpha": 0} if method is Lime else {}
    maps = explain(classifier, method(100, hide=hide, **GRIDS, **exactly), asked).maps
    expected = contributions(classifier, asked, means if hide == "mean" else torch.zeros_like(means))
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=2e-6)


def test_samples_count_the_more_the_more_they_show() -> None:
    """As in the authors' code, with scikit-learn; the sample that shows nothing included."""
    from sklearn.linear_model import Ridge
    from sklearn.metrics import pairwise_distances

    shown = Lime(60).draw(7, generator(0)).double().numpy()
    shown[5] = 0
    said = np.sin(np.arange(60))
    distances = pairwise_distances(shown, shown[:1], metric="cosine").ravel()
    weights = np.sqrt(np.exp(-(distances**2) / 0.4**2))
    expected = Ridge(alpha=2, fit_intercept=True).fit(shown, said, sample_weight=weights).coef_
    np.testing.assert_allclose(Lime(kernel_width=0.4, alpha=2).fit(shown, said), expected, rtol=1e-9)


def test_samples_are_drawn_by_a_coin() -> None:
    shown = Lime(5000).draw(11, generator(0))
    assert shown.shape == (5000, 11)
    assert shown[0].all()
    assert shown.double().mean(0).sub(0.5).abs().max() < 0.03


@torch.no_grad()
def slow_lime(classifier: Classifier, query: Query, lime: Lime) -> Tensor:
    """Sample by sample, segment by segment, as in the authors' code."""
    from sklearn.linear_model import Ridge

    maps = []
    labels = cut_into_segments(query.images, lime.segments, lime.count)
    for image, segments, target, seed in zip(query.images, labels, query.targets, query.seeds, strict=True):
        count = int(segments.max()) + 1
        shown, said = lime.draw(count, generator(int(seed))), []
        for sample in shown:
            masked = image.clone()
            for segment in range(count):
                if not sample[segment]:
                    place = segments == segment
                    black = torch.zeros(3, 1)
                    masked[:, place] = image[:, place].mean(1, keepdim=True) if lime.hide == "mean" else black
            said.append(classifier(masked[None]).softmax(1)[0, target].item())
        cosines = nn.functional.cosine_similarity(shown.double(), torch.ones(1, count).double(), eps=1e-12)
        weights = torch.sqrt(torch.exp(-((1 - cosines) ** 2) / lime.kernel_width**2)).numpy()
        fitted = Ridge(alpha=lime.alpha).fit(shown.double().numpy(), said, sample_weight=weights)
        maps.append(torch.from_numpy(fitted.coef_).float()[segments])
    return torch.stack(maps)


@pytest.mark.parametrize("lime", [Lime(60), Lime(40, "grid", 16, hide="black", kernel_width=0.5, alpha=0.1)])
def test_lime_equals_the_slow_version(make: Make, query: MakeQuery, lime: Lime) -> None:
    classifier = make("reuse").eval()
    asked = two(classifier, query)
    expected = slow_lime(classifier, asked, lime)
    maps = explain(classifier, lime, asked, batch=7).maps
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert (maps.amax((1, 2)) > maps.amin((1, 2))).all()


def as_captum_takes_it(shown: Tensor) -> Callable[..., Iterator[Tensor]]:
    """The same samples, in place of Captum's own draw."""

    def samples(*_inputs: Tensor, **_options: Any) -> Iterator[Tensor]:
        for sample in shown:
            yield sample[None].long()

    return samples


def test_lime_agrees_with_captum(make: Make, query: MakeQuery) -> None:
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import Lime as Peer

    classifier, lime = make("inplace").eval(), Lime(80, hide="black", **GRIDS)
    asked = two(classifier, query)
    maps = explain(classifier, lime, asked).maps

    def similarity(_image: Tensor, _masked: Tensor, sample: Tensor, **_options: Any) -> Tensor:
        distance = 1 - nn.functional.cosine_similarity(sample.float(), torch.ones(1, 16))
        return torch.exp(-(distance**2) / (2 * 0.25**2))

    for row, image in enumerate(asked.images):
        shown = lime.draw(16, generator(int(asked.seeds[row])))
        peer = Peer(
            lambda images: classifier(images).softmax(1),
            interpretable_model=SkLearnRidge(alpha=1.0),
            similarity_func=similarity,
            perturb_func=as_captum_takes_it(shown),
        )
        labels = cut_into_segments(image[None], "grid", 16)[:, None]
        expected = peer.attribute(image[None], target=int(asked.targets[row]), feature_mask=labels, n_samples=80)[0, 0]
        torch.testing.assert_close(maps[row], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


# KernelSHAP


@torch.no_grad()
def slow_shapley(classifier: Classifier, query: Query, count: int) -> Tensor:
    """The mean, over all orders in which segments may appear, of what each adds to the logit when it does."""
    labels = cut_into_segments(query.images, "grid", count)
    maps = torch.zeros_like(query.images[:, 0])
    orders = list(itertools.permutations(range(count)))
    for row, (image, target) in enumerate(zip(query.images, query.targets.tolist(), strict=True)):
        for order in orders:
            masked = torch.zeros_like(image)
            before = classifier(masked[None])[0, target]
            for segment in order:
                place = labels[row] == segment
                masked[:, place] = image[:, place]
                after = classifier(masked[None])[0, target]
                maps[row][place] += (after - before) / len(orders)
                before = after
    return maps


def test_shapley_values_are_exact_where_all_combinations_are_asked(make: Make, query: MakeQuery) -> None:
    classifier = make("reuse").eval()
    asked = two(classifier, query)
    explanation = explain(classifier, KernelShap(16, "grid", 4, hide="black"), asked)
    torch.testing.assert_close(explanation.maps, slow_shapley(classifier, asked, 4), rtol=1e-3, atol=1e-4)
    assert explanation.cost.forwards == 2 * 16


@pytest.mark.parametrize("samples", [5, 100, 512, 600])
def test_they_sum_to_what_all_segments_make(make: Make, query: MakeQuery, samples: int) -> None:
    """Also where there are fewer samples than segments, and where they are all there are."""
    classifier = make("inplace").eval()
    asked = two(classifier, query)
    maps = explain(classifier, KernelShap(samples, "grid", 9, hide="black"), asked).maps
    labels = cut_into_segments(asked.images, "grid", 9)
    sums = [sum(row[each == segment][0] for segment in range(9)) for row, each in zip(maps, labels, strict=True)]
    with torch.no_grad():
        worth = classifier(asked.images) - classifier(torch.zeros_like(asked.images))
    torch.testing.assert_close(torch.stack(sums), worth.gather(1, asked.targets[:, None])[:, 0], rtol=1e-3, atol=1e-4)


def test_samples_estimate_the_exact_values(make: Make, query: MakeQuery) -> None:
    classifier = make("reuse").eval()
    asked = two(classifier, query)
    exact, some, more = (explain(classifier, KernelShap(each, "grid", 9), asked).maps for each in (512, 60, 500))
    errors = [float((each - exact).norm() / exact.norm()) for each in (some, more)]
    assert errors[1] < errors[0] < 0.5
    assert errors[1] < 0.1


def test_sizes_are_drawn_by_their_weights_in_pairs() -> None:
    shown = KernelShap(20001).draw(16, generator(0))
    assert shown.shape == (20001, 16)
    assert shown[0].all()
    assert not shown[1].any()
    assert torch.equal(shown[3:-1:2], ~shown[2:-1:2])
    sizes = torch.arange(1, 16)
    expected = 1 / (sizes * (16 - sizes))
    frequency = shown[2:].sum(1).bincount(minlength=17)[1:16] / 19999
    torch.testing.assert_close(frequency, expected / expected.sum(), rtol=0, atol=0.01)
    assert shown.double().mean(0).sub(0.5).abs().max() < 0.02


def test_kernelshap_agrees_with_captum(make: Make, query: MakeQuery) -> None:
    """Which only weights the condition on the sum heavily, and reckons in single precision."""
    from captum.attr import KernelShap as Peer

    classifier, kernelshap = make("inplace").eval(), KernelShap(120, hide="black", **GRIDS)
    asked = two(classifier, query)
    maps = explain(classifier, kernelshap, asked).maps
    for row, image in enumerate(asked.images):
        peer = Peer(classifier)
        peer.perturb_func = as_captum_takes_it(kernelshap.draw(16, generator(int(asked.seeds[row]))))
        labels = cut_into_segments(image[None], "grid", 16)[:, None]
        expected = peer.attribute(image[None], target=int(asked.targets[row]), feature_mask=labels, n_samples=120)[0, 0]
        torch.testing.assert_close(maps[row], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("method", "expected"), [(Lime(10, alpha=0), 2), (KernelShap(10), 2), (Lime(10), 0)])
def test_one_segment(method: Surrogate, expected: float) -> None:
    """The sample without it weighs next to nothing in LIME, so that the penalty wins."""
    shown = method.draw(1, generator(0)).double().numpy()
    assert method.fit(shown, 2 * shown[:, 0] + 1).item() == pytest.approx(expected, abs=0.01)


# Both


@pytest.mark.parametrize("method", [Lime, KernelShap])
def test_one_pass_for_each_sample_that_differs(make: Make, query: MakeQuery, method: type[Surrogate]) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    for count, samples in ((16, 40), (4, 100)):
        explainer = method(samples, "grid", count)
        draws = [explainer.draw(count, generator(seed)) for seed in asked.seeds.tolist()]
        distinct = sum(len({tuple(sample) for sample in each.tolist()}) for each in draws)
        assert explain(classifier, explainer, asked, batch=2).cost.forwards == distinct
        assert distinct <= 5 * min(samples, 2**count)


@pytest.mark.parametrize("method", [Lime(40, **GRIDS), KernelShap(40, **GRIDS)])
def test_each_row_draws_from_its_own_seed(make: Make, query: MakeQuery, method: Surrogate) -> None:
    classifier = make("inplace")
    asked = two(classifier, query)
    maps = explain(classifier, method, asked).maps
    others = explain(classifier, method, asked._replace(seeds=asked.seeds + torch.tensor([0, 50]))).maps
    torch.testing.assert_close(others[0], maps[0])
    assert not torch.allclose(others[1], maps[1], rtol=1e-2)


@pytest.mark.parametrize("method", [Lime(50), KernelShap(50)])
def test_never_more_images_than_may_be_in_flight(
    make: Make, query: MakeQuery, monkeypatch: pytest.MonkeyPatch, method: Surrogate
) -> None:
    classifier, sizes, count = make("inplace"), [], Classifier.count
    monkeypatch.setattr(Classifier, "count", lambda *call: sizes.append(len(call[1])) or count(*call))
    explain(classifier, method, query(classifier), batch=3)
    assert max(sizes) == 3
    assert sizes.count(3) > 0.9 * len(sizes)


@pytest.mark.parametrize("method", [Lime, KernelShap])
def test_half_precision(make: Make, query: MakeQuery, method: type[Surrogate]) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    exact = explain(classifier, method(100, **GRIDS), asked).maps
    coarse = explain(classifier, method(100, **GRIDS, precision="bf16"), asked).maps
    halved = explain(classifier.bfloat16(), method(100, **GRIDS), asked).maps
    for maps in (coarse, halved):
        assert float((maps - exact).norm() / exact.norm()) < 0.25
        assert not torch.equal(maps, exact)


@pytest.mark.parametrize(
    ("method", "parameters", "says"),
    [
        (Lime, {"samples": -1}, "samples is -1; expected at least 2"),
        (KernelShap, {"samples": 3}, "samples is 3; expected at least 4"),
        (Lime, {"hide": "grey"}, 'unknown hide "grey"; known are: black, mean'),
        (KernelShap, {"segments": "gird"}, 'unknown segments "gird"; did you mean "grid"'),
        (Lime, {"kernel_width": 0.0}, "kernel_width is 0.0; expected more than 0"),
        (Lime, {"kernel_width": math.nan}, "kernel_width is nan"),
        (Lime, {"alpha": -1.0}, "alpha is -1.0; expected 0 or more"),
        (KernelShap, {"precision": "double"}, 'unknown precision "double"'),
    ],
)
def test_bad_parameters(method: type[Surrogate], parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        method(**parameters)
