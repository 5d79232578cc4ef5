"""Scores against scikit-learn, TorchCAM, pytorch-grad-cam and Captum on identical maps, images and network.

Where definitions differ, the peer is fed so that they meet, or ours is: each difference is tested to be all there is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import captum.metrics
import numpy as np
import pytest
import sklearn.metrics
import torch
import torchcam.metrics
from pytorch_grad_cam.metrics import arcc, cam_mult_image, perturbation_confidence
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import Tensor, nn

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.maps import normalise_range
from an8flower.evaluate.metrics import masking
from an8flower.evaluate.metrics.masking import Masking
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.metrics.robustness import uniform
from an8flower.evaluate.models.classifier import Classifier

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]

NOISES = 4


@pytest.fixture
def case(make: Make, query: MakeQuery) -> Case:
    """Five images, half of a disc each for a mask, and a method that says where an image is red rather than green."""
    classifier = make("inplace").eval()
    asked = query(classifier)
    down, right = torch.meshgrid(torch.arange(classifier.size), torch.arange(classifier.size), indexing="ij")
    disc = ((down - 7) ** 2 + (right - 7) ** 2 < 30) & (down > right)
    masks = torch.stack([disc.roll(row, 0) for row in range(len(asked.images))]).to(torch.uint8)
    return Case(classifier, asked, Truth(torch.arange(5), asked.targets, masks, None), explain=redness)


def redness(query: Query) -> Tensor:
    """Maps (B, H, W) of both signs."""
    return query.images[:, 0] - query.images[:, 1]


@pytest.fixture(params=["distinct", "tied"])
def maps(request: pytest.FixtureRequest, case: Case) -> Tensor:
    """What the method says; tied: rounded to five values."""
    found = redness(case.query)
    return found if request.param == "distinct" else (2 * found).round() / 2


def ours(metric: str, maps: Tensor, case: Case) -> np.ndarray:
    """The scores of a metric, as the judge asks for them."""
    with torch.no_grad():
        return parse_metric(metric).score(maps, case).numpy()


def classifier_of(case: Case) -> Classifier:
    assert case.classifier is not None
    return case.classifier


def belief(case: Case) -> np.ndarray:
    """The probability of each row's target."""
    with torch.no_grad():
        shares = classifier_of(case)(case.query.images).softmax(1)
    return shares.gather(1, case.query.targets[:, None])[:, 0].numpy()


def in_our_order(maps: Tensor, case: Case) -> Tensor:
    """Maps without ties, whose pixels are in the order that ours takes."""
    return -Masking.of(maps, case).ranks.float()


# scikit-learn


def above_mean(maps: Tensor) -> Tensor:
    return maps > maps.double().mean((1, 2), keepdim=True)


def ranged_both(score: Callable[..., float]) -> Callable[[np.ndarray, np.ndarray], float]:
    """Foreground and background ranked together, as TIBAV does."""
    return lambda mask, values: score(np.concatenate([mask, ~mask]), np.concatenate([values, 1 - values]))


SKLEARN: dict[str, tuple[Callable[[np.ndarray, np.ndarray], float], Callable[[Tensor], Tensor]]] = {
    "auroc": (sklearn.metrics.roc_auc_score, torch.clone),
    "average_precision": (sklearn.metrics.average_precision_score, torch.clone),
    "average_precision:classes=both": (ranged_both(sklearn.metrics.average_precision_score), normalise_range),
    "pixel_accuracy": (sklearn.metrics.accuracy_score, above_mean),
    "miou": (partial(sklearn.metrics.jaccard_score, average="macro"), above_mean),
    "iou_mean": (sklearn.metrics.jaccard_score, above_mean),
}


@pytest.mark.parametrize("metric", SKLEARN)
def test_scikit_learn(metric: str, maps: Tensor, case: Case) -> None:
    score, change = SKLEARN[metric]
    rows = zip((case.truth.masks > 0).flatten(1).numpy(), change(maps).flatten(1).numpy(), strict=True)
    assert ours(metric, maps, case) == pytest.approx([score(*row) for row in rows], abs=1e-6)


# Quantus 0.6.0, its definitions typed anew: the toolkit itself is compared in benchmarks/metric_conformance.py


def quantus_mass(values: np.ndarray, mask: np.ndarray) -> float:
    return (values * mask).sum() / values.sum()


def quantus_rank(values: np.ndarray, mask: np.ndarray) -> float:
    return mask[np.argsort(-values)][: mask.sum()].sum() / mask.sum()


def quantus_pointing(values: np.ndarray, mask: np.ndarray) -> float:
    return float((mask & (values == values.max())).any())


def quantus_gini(values: np.ndarray, _: np.ndarray) -> float:
    ascending, count = np.sort(np.abs(values) + 1e-7), len(values)
    return ((2 * np.arange(1, count + 1) - count - 1) * ascending).sum() / (count * ascending.sum())


def quantus_entropy(values: np.ndarray, _: np.ndarray) -> float:
    shares = np.abs(values) / np.abs(values).sum()
    return -(shares * np.log(shares + 1e-12)).sum()


QUANTUS = {
    "pointing": quantus_pointing,
    "relevance_rank": quantus_rank,
    "sparseness": quantus_gini,
    "complexity": quantus_entropy,
}


def typed(definition: Callable[[np.ndarray, np.ndarray], float], maps: Tensor, case: Case) -> list[float]:
    """A definition of Quantus, row by row."""
    rows = zip(maps.flatten(1).double().numpy(), (case.truth.masks > 0).flatten(1).numpy(), strict=True)
    return [definition(*row) for row in rows]


@pytest.mark.parametrize("metric", QUANTUS)
def test_quantus_where_no_pixels_are_equal(metric: str, case: Case) -> None:
    maps = redness(case.query)
    assert ours(metric, maps, case) == pytest.approx(typed(QUANTUS[metric], maps, case), abs=1e-5)


def test_quantus_does_not_rectify(maps: Tensor, case: Case) -> None:
    found = ours("relevance_mass", maps, case)
    assert found == pytest.approx(typed(quantus_mass, maps.relu(), case), abs=1e-6)
    assert np.abs(found - typed(quantus_mass, maps, case)).max() > 0.1


@pytest.mark.parametrize("metric", ["pointing", "relevance_rank"])
def test_ours_is_quantus_mean_over_the_orders_of_equal_pixels(metric: str, case: Case) -> None:
    maps = (2 * redness(case.query)).round() / 2
    shuffles = [case._replace(query=case.query._replace(seeds=torch.arange(5) + 5 * draw)) for draw in range(300)]
    found = [typed(QUANTUS[metric], in_our_order(maps, each), case) for each in shuffles]
    assert ours(metric, maps, case) == pytest.approx(np.mean(found, 0), abs=4 * 0.5 / 300**0.5)
    assert np.abs(ours(metric, maps, case) - typed(QUANTUS[metric], maps, case)).max() > 0.05


# TorchCAM


class Given:
    """Stands for TorchCAM's CAM extractors, and hands out maps that are there already."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *_: Any) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def torchcam_(name: str, maps: Tensor, case: Case, normalised: bool = False, **arguments: Any) -> dict[str, np.ndarray]:
    """What a metric of TorchCAM says of each row, by the names in its summary."""
    network, images = entered(case, normalised)
    found = []
    for row in range(len(maps)):
        given = Given(network, maps[row : row + 1])
        metric = getattr(torchcam.metrics, name)(given, partial(torch.softmax, dim=-1), **arguments)
        metric.update(images[row : row + 1], [int(case.query.targets[row])])
        found.append(metric.summary())
    return {key: np.array([each[key] for each in found]) for key in found[0]}


def entered(case: Case, normalised: bool) -> tuple[nn.Module, Tensor]:
    """Our classifier and images in [0, 1]; or the network alone and normalised images, as these toolkits document."""
    model, images = classifier_of(case), case.query.images
    return (model.network, model.normalise(images)) if normalised else (model, images)


def test_torchcam_drop_and_increase(maps: Tensor, case: Case) -> None:
    found = torchcam_("ClassificationMetric", normalise_range(maps), case)
    assert ours("average_drop", maps, case) == pytest.approx(found["avg_drop"], abs=1e-5)
    assert ours("average_increase", maps, case).tolist() == found["conf_increase"].tolist()
    assert 0 < found["conf_increase"].mean() < 1, "both cases occur"


def test_torchcam_increase_where_hardly_anything_is_masked(case: Case) -> None:
    maps = torch.ones(5, 16, 16)
    maps[:, 8, 8] = 0  # probabilities before and after differ by little, up and down
    found = torchcam_("ClassificationMetric", maps, case)["conf_increase"]
    assert ours("average_increase", maps, case).tolist() == found.tolist()
    assert 0 < found.mean() < 1, "both cases occur"


def grey(classifier: Classifier, images: Tensor) -> Tensor:
    """The colour that a normalised image shows where it is 0."""
    return classifier.mean.expand_as(images)


def test_masking_normalised_images_turns_pixels_grey_and_changes_nothing_else(
    maps: Tensor, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(masking.BASELINES, "grey", partial(grey, classifier_of(case)))
    shown = normalise_range(maps)
    found = torchcam_("ClassificationMetric", shown, case, normalised=True)["avg_drop"]
    raw = grad_cam(cam_mult_image.DropInConfidence, shown, case, normalised=True)
    assert ours("average_drop:baseline=grey", maps, case) == pytest.approx(found, abs=1e-5)
    assert ours("average_drop:baseline=grey", maps, case) * belief(case) == pytest.approx(raw, abs=1e-5)
    assert np.abs(ours("average_drop", maps, case) - found).max() > 0.01


@pytest.mark.parametrize("steps", [3, 16, 100])
def test_torchcam_deletion_and_insertion(steps: int, maps: Tensor, case: Case) -> None:
    ordered = in_our_order(maps, case)
    found = torchcam_("DeletionInsertionMetric", ordered, case, steps=steps, batch_size=256)
    blurred = torchcam_(
        "DeletionInsertionMetric", ordered, case, steps=steps, batch_size=256, baseline=masking.blur_like_rise
    )
    assert ours(f"deletion:steps={steps}", maps, case) == pytest.approx(found["deletion_auc"], abs=1e-5)
    assert ours(f"insertion:baseline=black,steps={steps}", maps, case) == pytest.approx(
        found["insertion_auc"], abs=1e-5
    )
    assert ours(f"insertion:steps={steps}", maps, case) == pytest.approx(blurred["insertion_auc"], abs=1e-5)


def test_torchcam_orders_equal_pixels_by_place(case: Case) -> None:
    maps = (2 * redness(case.query)).round() / 2
    found = torchcam_("DeletionInsertionMetric", maps, case, steps=16)["deletion_auc"]
    assert np.abs(ours("deletion:steps=16", maps, case) - found).max() > 1e-3


# pytorch-grad-cam


def grad_cam(metric: Callable[[], Any], maps: Tensor, case: Case, normalised: bool = False) -> np.ndarray:
    """What a metric of pytorch-grad-cam says of the softmax."""
    network, images = entered(case, normalised)
    targets = [ClassifierOutputSoftmaxTarget(target) for target in case.query.targets.tolist()]
    return metric()(images, maps.numpy(), targets, network)


def test_grad_cam_drop_and_increase(maps: Tensor, case: Case) -> None:
    shown = normalise_range(maps)
    drops = grad_cam(cam_mult_image.DropInConfidence, shown, case)
    rises = grad_cam(cam_mult_image.IncreaseInConfidence, shown, case)
    assert ours("average_drop", maps, case) * belief(case) == pytest.approx(drops, abs=1e-5)
    assert ours("average_increase", maps, case).tolist() == rises.tolist()


def test_grad_cam_coherency_and_complexity_make_adcc(maps: Tensor, case: Case) -> None:
    shown = normalise_range(maps).numpy()
    again = lambda input_tensor, targets: redness(case.query._replace(images=input_tensor)).numpy()  # noqa: E731
    coherency = arcc.Coherency()(case.query.images, shown, [], classifier_of(case), again)
    drops = torchcam_("ClassificationMetric", normalise_range(maps), case)["avg_drop"]
    expected = 3 / (1 / coherency + 1 / (1 - arcc.Complexity()(shown)) + 1 / (1 - drops))
    assert ours("adcc", maps, case) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", ["perturbation_positive", "perturbation_negative"])
def test_grad_cam_perturbation(metric: str, maps: Tensor, case: Case) -> None:
    pixels, labels = maps[0].numel(), classifier_of(case)(case.query.images).argmax(1)
    case = case._replace(truth=case.truth._replace(labels=labels))  # so that some guesses are right
    kept = [pixels - pixels * tenth // 10 for tenth in range(1, 10)]
    # Between the values of as many pixels: plain tenths take a pixel more or less.
    average = perturbation_confidence.AveragerAcrossThresholds(right, [100 * (k - 0.5) / (pixels - 1) for k in kept])
    targets = [lambda logits, label=label: logits.argmax() == label for label in labels]
    with torch.no_grad():
        found = average(case.query.images, ordered(metric, maps, case), targets, case.classifier)
    assert ours(metric, maps, case) == pytest.approx(found, abs=1e-6)
    assert 0 < found.mean() < 1, "both cases occur"


def ordered(metric: str, maps: Tensor, case: Case) -> np.ndarray:
    """The order in which pixels go."""
    order = in_our_order(maps, case)
    return (order if metric == "perturbation_positive" else -order).numpy()


def right(percentile: float) -> Callable[..., np.ndarray]:
    """pytorch-grad-cam's perturbation with black above a percentile, and without the difference."""
    black = perturbation_confidence.RemoveMostRelevantFirst(percentile, torch.mul)
    return partial(perturbation_confidence.PerturbationConfidenceMetric(black), return_diff=False)


# Captum


def every(images: Callable[[int], Tensor]) -> Tensor:
    """All perturbed images, those of a row side by side: (B * NOISES, 3, H, W)."""
    return torch.stack([images(number) for number in range(NOISES)], 1).flatten(0, 1)


INFIDELITIES = ("", ",scaled=false", ",perturbation=noise,spread=0.2", ",output=probability")


@pytest.mark.parametrize("options", INFIDELITIES)
def test_captum_infidelity(options: str, maps: Tensor, case: Case) -> None:
    metric, rows = f"infidelity:samples={NOISES}{options}", torch.arange(len(maps))
    kinds = parse_metric(metric).options.perturbations()
    changed = every(lambda number: kinds[number].images(Masking.of(maps, case), rows))
    gone = every(lambda number: kinds[number].amounts(Masking.of(maps, case), rows)[:, None].expand(-1, 3, -1, -1) / 3)
    found = captum.metrics.infidelity(
        nn.Sequential(classifier_of(case), nn.Softmax(1)) if "probability" in options else classifier_of(case),
        lambda _: (gone, changed),
        case.query.images,
        maps[:, None].expand(-1, 3, -1, -1),
        target=case.query.targets,
        n_perturb_samples=NOISES,
        normalize="scaled" not in options,
    )
    assert ours(metric, maps, case) == pytest.approx(found.numpy(), rel=1e-3, abs=1e-6)


def test_captum_sensitivity(case: Case) -> None:
    query = case.query
    changed = every(lambda number: query.images + 0.02 * uniform(number, query.seeds.tolist(), query.images))
    again = lambda images: (redness(query._replace(images=images[0] if isinstance(images, tuple) else images)),)  # noqa: E731
    found = captum.metrics.sensitivity_max(again, query.images, lambda _: changed.clamp(0, 1), n_perturb_samples=NOISES)
    assert ours(f"max_sensitivity:samples={NOISES}", redness(query), case) == pytest.approx(found.numpy(), rel=1e-5)
