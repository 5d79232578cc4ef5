"""The faithfulness metrics against closed forms, a slow second version, TorchCAM and pytorch-grad-cam."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pytorch_grad_cam.metrics.arcc import Coherency, Complexity
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from scipy.integrate import trapezoid
from scipy.stats import pearsonr
from torch import Tensor, nn
from torchcam.metrics import ClassificationMetric, DeletionInsertionMetric

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.explaining.contract_networks import InPlaceNet, randomise_weights
from an8flower.evaluate.metrics.masking import blur_like_rise
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models.classifier import Classifier, wrap

SIDE, PIXELS = 10, 100
FADED = ("average_drop", "average_increase", "average_gain")
CURVES = ("deletion", "insertion")
TOP1 = ("perturbation_positive", "perturbation_negative")
NAMES = (*FADED, "adcc", *CURVES, *TOP1)


class Seeing(nn.Module):
    """A network that tells two classes, with a layer that CAMs can look at."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Identity()


class Told(Seeing, ABC):
    """Two classes; the probability of the first is what a subclass says."""

    def forward(self, images: Tensor) -> Tensor:
        told = self.share(self.eye(images).double())
        return torch.stack([told, 1 - told], 1).clamp(min=1e-320).log()

    @abstractmethod
    def share(self, images: Tensor) -> Tensor:
        """Of images (B, 3, H, W) float64: (B,)."""


class Line(Told):
    """intercept + slope * the image's mean: of a white image half masked in black, intercept + slope / 2."""

    def __init__(self, intercept: float, slope: float) -> None:
        super().__init__()
        self.intercept, self.slope = intercept, slope

    def share(self, images: Tensor) -> Tensor:
        return self.intercept + self.slope * images.mean((1, 2, 3))


class Key(Told):
    """Whether one pixel is there."""

    def share(self, images: Tensor) -> Tensor:
        return (images[:, :, 3, 4].mean(1) > 0.5).double()


class Constant(Told):
    """Whatever comes, the second class is likelier."""

    def share(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3)) * 0 + 0.3


def classifier_of(network: nn.Module, mean: float = 0.0, std: float = 1.0) -> Classifier:
    layer, names = ("eye", "ab") if isinstance(network, Seeing) else ("features", ["rose", "lily", "aster", "iris"])
    return wrap(network, names, SIDE, layer, mean=(mean,) * 3, std=(std,) * 3).eval()


def lively_classifier() -> Classifier:
    """A small network whose answers depend on the image."""
    return classifier_of(randomise_weights(InPlaceNet()), 0.4, 0.05)


def case_of(
    classifier: Classifier, images: Tensor, targets: Tensor | None = None, labels: Tensor | None = None
) -> Case:
    every = torch.arange(len(images))
    targets = every * 0 if targets is None else targets
    labels = targets if labels is None else labels
    masks = torch.ones(len(images), SIDE, SIDE, dtype=torch.uint8)
    case = Case(classifier, Query(images, targets, every + 20), Truth(every, labels, masks, None))
    return case._replace(explain=lambda query: explained(query.images))


def explained(images: Tensor) -> Tensor:
    """A method that asks no network."""
    return images[:, 0] - images[:, 1].square()


def white(rows: int = 1) -> Tensor:
    return torch.ones(rows, 3, SIDE, SIDE)


def noise(rows: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 3, SIDE, SIDE, generator=source), torch.randn(rows, SIDE, SIDE, generator=source)


def scores(names: tuple[str, ...] | list[str], maps: Tensor, case: Case) -> dict[str, Tensor]:
    with torch.no_grad():
        return score_all([parse_metric(name) for name in names], maps, case)


def score(name: str, maps: Tensor, case: Case) -> list[float]:
    return scores([name], maps, case)[name].tolist()


def half() -> Tensor:
    one_map = torch.zeros(1, SIDE, SIDE)
    one_map[:, :5] = 1
    return one_map


class TestClosedForms:
    @pytest.mark.parametrize(
        ("p", "o", "expected"),
        [(0.8, 0.6, (0.25, 0, 0)), (0.5, 0.75, (0, 1, 0.5)), (0.7, 0.7, (0, 0, 0)), (0.2, 0.0, (1, 0, 0))],
    )
    def test_drop_increase_and_gain(self, p: float, o: float, expected: tuple[float, ...]) -> None:
        intercept = 2 * o - p  # so that half of a white image gives o
        case = case_of(classifier_of(Line(intercept, p - intercept)), white())
        assert [score(name, half(), case)[0] for name in FADED] == pytest.approx(expected, abs=1e-6)

    def test_a_map_that_shows_everything_changes_nothing(self) -> None:
        images, _ = noise(3)
        images[:, :, 0, 0] = 0  # a range-normalised map is 0 somewhere: here nothing is to be lost
        maps = torch.ones(3, SIDE, SIDE)
        maps[:, 0, 0] = 0
        case = case_of(lively_classifier(), images)
        assert [score(name, maps, case) for name in FADED] == [[0, 0, 0]] * 3

    @pytest.mark.parametrize(("baseline", "expected"), [("black", 1.0), ("mean", 0.0), ("blur", 0.0)])
    def test_a_constant_map_shows_nothing(self, baseline: str, expected: float) -> None:
        case = case_of(classifier_of(Line(0, 1)), white() * 0.8)
        assert score(f"average_drop:baseline={baseline}", torch.ones(1, SIDE, SIDE), case) == pytest.approx(
            [expected], abs=1e-6
        )

    @pytest.mark.parametrize("steps", [1, 7, 10, 100, 224])
    def test_any_order_gives_a_half_where_the_remaining_share_is_the_probability(self, steps: int) -> None:
        maps, case = noise(4)[1], case_of(classifier_of(Line(0, 1)), white(4))
        for name in ("deletion", "insertion:baseline=black,"):
            text = f"{name}{'' if name.endswith(',') else ':'}steps={steps}"
            assert score(text, maps, case) == pytest.approx([0.5] * 4, abs=1e-6)
        assert score("insertion", maps, case) == pytest.approx([1.0] * 4)  # a white image blurs to itself

    @pytest.mark.parametrize(("steps", "points"), [(10, 10), (25, 25), (100, 100), (224, 100)])
    def test_one_pixel_that_counts(self, steps: int, points: int) -> None:
        first = torch.zeros(1, SIDE, SIDE)
        first[0, 3, 4] = 1
        case = case_of(classifier_of(Key()), white())
        found = {
            name: [score(f"{name},steps={steps}", maps, case)[0] for maps in (first, -first)]
            for name in ("deletion:baseline=black", "insertion:baseline=black")
        }
        early, late = 0.5 / points, 1 - 0.5 / points
        assert found["deletion:baseline=black"] == pytest.approx([early, late], abs=1e-6)
        assert found["insertion:baseline=black"] == pytest.approx([late, early], abs=1e-6)
        assert score("perturbation_positive", first, case) == [0]
        assert score("perturbation_negative", first, case) == [1]

    def test_a_classifier_that_does_not_look_keeps_its_accuracy(self) -> None:
        maps, labels = noise(4)[1], torch.tensor([1, 0, 1, 1])
        case = case_of(classifier_of(Constant()), white(4), labels=labels)
        for name in TOP1:
            assert score(name, maps, case) == [1, 0, 1, 1]
        assert score("deletion", maps, case) == pytest.approx([0.3] * 4)
        assert score("deletion:target=predicted", maps, case) == pytest.approx([0.7] * 4)

    def test_constant_maps_are_ordered_by_chance(self) -> None:
        maps, case = torch.zeros(60, SIDE, SIDE), case_of(classifier_of(Key()), white(60))
        found = torch.tensor(score("deletion:steps=100", maps, case))
        # The key's place is uniform in 0, ..., 99, and the area is the place plus a half, in hundredths.
        assert float(found.mean()) == pytest.approx(0.5, abs=4 * 0.2887 / math.sqrt(60))
        assert len(set(found.tolist())) > 30

    def test_adcc_is_the_harmonic_mean(self) -> None:
        # Coherency 1: the method sees nothing but the map's own pattern. Complexity 1/2, drop 1/4.
        case = case_of(classifier_of(Line(0.4, 0.4)), white())._replace(explain=lambda query: half() * 3 - 1)
        assert score("adcc", half(), case)[0] == pytest.approx(3 / (1 + 2 + 1 / 0.75))
        assert score("adcc", half(), case._replace(explain=lambda query: -half()))[0] == 0
        all_lost = case_of(classifier_of(Line(-1, 2)), white())._replace(explain=case.explain)
        assert score("adcc", half(), all_lost)[0] == 0

    def test_gain_keeps_its_digits_where_the_network_is_sure(self) -> None:
        class Sure(Seeing):
            def forward(self, images: Tensor) -> Tensor:
                logit = 60 - 20 * self.eye(images).double().mean((1, 2, 3))
                return torch.stack([logit, logit * 0], 1)

        # 1 - p = exp(-40), 1 - o = exp(-50): both probabilities are 1 in double precision
        found = [score(name, half(), case_of(classifier_of(Sure()), white()))[0] for name in FADED]
        assert found == pytest.approx([0, 1, 1 - math.exp(-10)])


# The slow second version: one image at a time, its pixels in a plain loop


def slow_baseline(image: Tensor, name: str) -> Tensor:
    whole = {"black": lambda x: x * 0, "mean": lambda x: x.mean((2, 3), keepdim=True) + x * 0, "blur": blur_like_rise}
    return whole[name](image[None])[0]


def slow_removed(image: Tensor, one_map: Tensor, count: int, baseline: str, largest: bool) -> Tensor:
    """The image without so many pixels."""
    changed, instead = image.clone(), slow_baseline(image, baseline)
    places = [(float(one_map[down, right]), down, right) for down in range(SIDE) for right in range(SIDE)]
    for _, down, right in sorted(places, reverse=largest)[:count]:
        changed[:, down, right] = instead[:, down, right]
    return changed


@torch.no_grad()
def believed(classifier: Classifier, image: Tensor) -> np.ndarray:
    logits = classifier(image[None])[0].double().numpy()
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def slow(
    classifier: Classifier, image: Tensor, one_map: Tensor, target: int, label: int, which: str
) -> dict[str, float]:
    shown = (one_map - one_map.min()) / (one_map.max() - one_map.min())
    masked = image * shown + slow_baseline(image, which) * (1 - shown)
    p, o = believed(classifier, image)[target], believed(classifier, masked)[target]
    drop = max(p - o, 0) / p
    coherency = (pearsonr(one_map.double().ravel(), explained(masked[None]).double().ravel())[0] + 1) / 2
    counts = [0, 13, 26, 39, 52, 65, 78, 91, 100]  # eight steps of 100 pixels
    shares = np.array(counts) / 100
    gone = [believed(classifier, slow_removed(image, one_map, count, which, True))[target] for count in counts]
    rest = [believed(classifier, slow_removed(image, one_map, 100 - count, which, False))[target] for count in counts]
    top1 = [
        np.mean(
            [
                believed(classifier, slow_removed(image, one_map, n, which, up)).argmax() == label
                for n in range(10, 100, 10)
            ]
        )
        for up in (True, False)
    ]
    return {
        "average_drop": drop,
        "average_increase": float(o > p),
        "average_gain": max(o - p, 0) / (1 - p),
        "adcc": 3 / (1 / coherency + 1 / (1 - float(shown.mean())) + 1 / (1 - drop)),
        "deletion": trapezoid(gone, shares),
        "insertion": trapezoid(rest, shares),
        "perturbation_positive": top1[0],
        "perturbation_negative": top1[1],
    }


@pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
def test_the_slow_version_finds_the_same(baseline: str) -> None:
    classifier, (images, maps) = lively_classifier(), noise(8)
    targets, labels = torch.arange(8) % 4, torch.arange(8) % 3
    case = case_of(classifier, images, targets, labels)
    texts = {name: f"{name}:baseline={baseline}{',steps=8' if name in CURVES else ''}" for name in NAMES}
    found = scores([*texts.values()], maps, case)
    for row in range(8):
        expected = slow(classifier, images[row], maps[row], int(targets[row]), int(labels[row]), baseline)
        for name, value in expected.items():
            assert float(found[texts[name]][row]) == pytest.approx(value, abs=2e-5), name


# Peers


class Given:
    """An extractor of TorchCAM that has the maps already."""

    def __init__(self, classifier: Classifier, maps: Tensor) -> None:
        self.model, self.maps = classifier, maps

    def __call__(self, classes: list[int], scores: Tensor) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


def ranged(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


class TestTorchCam:
    """Fed our classifier, which normalises inside, it masks in pixel space as we do."""

    softmax = partial(torch.softmax, dim=-1)

    def test_average_drop_and_increase(self) -> None:
        classifier, (images, maps) = lively_classifier(), noise(12)
        targets = torch.arange(12) % 4
        theirs = ClassificationMetric(Given(classifier, ranged(maps)), self.softmax)
        theirs.update(images, targets.tolist())
        found = scores(FADED, maps, case_of(classifier, images, targets))
        assert theirs.summary()["avg_drop"] == pytest.approx(float(found["average_drop"].mean()), abs=1e-5)
        assert theirs.summary()["conf_increase"] == pytest.approx(float(found["average_increase"].mean()))
        assert 0 < theirs.summary()["conf_increase"] < 1

    @pytest.mark.parametrize("baseline", ["black", "blur"])
    @pytest.mark.parametrize("steps", [10, 7])
    def test_deletion_and_insertion(self, baseline: str, steps: int) -> None:
        classifier, (images, maps) = lively_classifier(), noise(12)
        fill = {"black": None, "blur": blur_like_rise}[baseline]
        theirs = DeletionInsertionMetric(Given(classifier, maps), self.softmax, steps=steps, baseline=fill)
        theirs.update(images)
        options = f"baseline={baseline},steps={steps},target=predicted"
        for name in CURVES:
            ours = score(f"{name}:{options}", maps, case_of(classifier, images))
            assert theirs.summary()[f"{name}_auc"] == pytest.approx(np.mean(ours), abs=1e-5)


def believing(target: int) -> object:
    return lambda output: output.softmax(-1)[target]


class TestPytorchGradCam:
    def test_drop_in_confidence_is_ours_times_p(self) -> None:
        classifier, (images, maps) = lively_classifier(), noise(12)
        targets = torch.arange(12) % 4
        asked = (images, ranged(maps).numpy(), [believing(target) for target in targets.tolist()], classifier)
        found = scores(FADED, maps, case_of(classifier, images, targets))
        p = np.array([believed(classifier, image)[target] for image, target in zip(images, targets, strict=True)])
        np.testing.assert_allclose(DropInConfidence()(*asked), found["average_drop"].numpy() * p, atol=1e-5)
        np.testing.assert_array_equal(IncreaseInConfidence()(*asked), found["average_increase"].numpy())

    def test_fed_as_its_documentation_does_it_masks_with_the_normalisers_grey(self) -> None:
        classifier, (images, maps) = lively_classifier(), noise(12)
        shown = ranged(maps)
        targets = [believing(0)] * 12
        theirs = DropInConfidence()(classifier.normalise(images), shown.numpy(), targets, classifier.network)
        grey = images * shown[:, None] + classifier.mean * (1 - shown[:, None])
        drops = (classifier(images).softmax(1) - classifier(grey).softmax(1))[:, 0].clamp(min=0)
        np.testing.assert_allclose(theirs, drops.detach().numpy(), atol=1e-5)
        in_pixel_space = DropInConfidence()(images, shown.numpy(), targets, classifier)
        assert np.abs(theirs - in_pixel_space).max() > 0.05

    @pytest.mark.parametrize(
        ("name", "remove"),
        [("perturbation_positive", RemoveMostRelevantFirst), ("perturbation_negative", RemoveLeastRelevantFirst)],
    )
    def test_removal_by_percentile(self, name: str, remove: type) -> None:
        classifier, (images, maps) = lively_classifier(), noise(30)
        labels = torch.arange(30) % 4
        correct = [lambda output, label=label: (output.argmax() == label).float() for label in labels.tolist()]
        curve = [
            PerturbationConfidenceMetric(remove(percentile, lambda image, kept: image * kept))(
                images, ranged(maps).numpy(), correct, classifier, return_diff=False
            )
            for percentile in range(10, 100, 10)
        ]
        found = score(name, maps, case_of(classifier, images, labels=labels))
        assert found == pytest.approx(np.mean(curve, 0).tolist())
        assert len(set(found)) > 2

    def test_coherency_and_complexity_of_adcc(self) -> None:
        classifier, (images, maps) = lively_classifier(), noise(6)
        shown = ranged(maps).numpy()
        coherency = Coherency()(
            images, shown, [], classifier, lambda input_tensor, targets: explained(input_tensor).numpy()
        )
        case = case_of(classifier, images)
        kept = 1 - scores(FADED, maps, case)["average_drop"].numpy()
        expected = 3 / (1 / coherency + 1 / (1 - Complexity()(shown)) + 1 / kept)
        assert score("adcc", maps, case) == pytest.approx(expected.tolist(), abs=1e-5)


# What holds for any map

LEVELS = st.sampled_from([-2.5, -1.0, -1e-30, -0.0, 0.0, 1e-30, 0.25, 0.5, 1.0, 3.0])
ANY = hnp.arrays(np.float32, (3, SIDE, SIDE), elements=st.one_of(LEVELS, st.floats(-1e3, 1e3, width=32)))
SHORT = tuple(f"{name}:steps=4" if name in CURVES else name for name in NAMES)


class TestInvariance:
    CASE = case_of(lively_classifier(), noise(3)[0], torch.arange(3))

    @settings(max_examples=12, deadline=None)
    @given(ANY, st.integers(-3, 3))
    def test_bounds_and_positive_scale(self, maps: np.ndarray, power: int) -> None:
        first = scores(SHORT, torch.from_numpy(maps), self.CASE)
        second = scores(SHORT, torch.from_numpy(maps * np.float32(2.0**power)), self.CASE)
        for name, found in first.items():
            low, high = parse_metric(name).bounds
            assert ((found >= low) & (found <= high) | found.isnan()).all(), name
            torch.testing.assert_close(found, second[name], equal_nan=True, rtol=1e-4, atol=1e-5)

    @settings(max_examples=8, deadline=None)
    @given(hnp.arrays(np.int8, (3, SIDE, SIDE)), st.integers(-1000, 1000))
    def test_shift(self, maps: np.ndarray, shift: int) -> None:
        one = torch.from_numpy(maps).float()
        first, second = scores(SHORT, one, self.CASE), scores(SHORT, one + shift, self.CASE)
        for name, found in first.items():
            torch.testing.assert_close(found, second[name], equal_nan=True, rtol=1e-4, atol=1e-5)

    @settings(max_examples=8, deadline=None)
    @given(ANY)
    def test_each_row_is_scored_as_if_alone(self, maps: np.ndarray) -> None:
        together = scores(SHORT, torch.from_numpy(maps), self.CASE)
        alone = self.CASE._replace(
            query=Query(*(each[1:2] for each in self.CASE.query)),
            truth=Truth(*(None if each is None else each[1:2] for each in self.CASE.truth)),
        )
        for name, found in scores(SHORT, torch.from_numpy(maps[1:2]), alone).items():
            torch.testing.assert_close(found, together[name][1:2], equal_nan=True, rtol=1e-4, atol=1e-5)

    def test_nothing_given_is_changed(self) -> None:
        maps = noise(3)[1]
        before = maps.clone(), self.CASE.query.images.clone()
        scores(SHORT, maps, self.CASE)
        assert torch.equal(maps, before[0])
        assert torch.equal(self.CASE.query.images, before[1])


class TestUndefined:
    def test_exactly_where_the_cards_say(self) -> None:
        class Certain(Seeing):
            def forward(self, images: Tensor) -> Tensor:
                logit = 800 * (self.eye(images).double()[:, 0, 0, 0] - 0.5).sign() * (images[:, 1, 0, 0] > 0.5)
                return torch.stack([logit, logit * 0], 1)

        images = white(3) * 0.6
        images[0, 0] = 0.4  # p = 0
        images[1, 0] = 0.8  # p = 1
        images[2, 1] = 0.4  # p = 1/2
        found = scores(
            (*FADED, "adcc", *CURVES, *TOP1), half().expand(3, -1, -1), case_of(classifier_of(Certain()), images)
        )
        undefined = {name: values.isnan().tolist() for name, values in found.items() if values.isnan().any()}
        assert undefined == {
            "average_drop": [True, False, False],
            "average_gain": [False, True, False],
            "adcc": [True, False, False],
        }

    def test_constant_maps(self) -> None:
        images, maps = noise(3)
        maps[1] = -2
        found = scores(SHORT, maps, case_of(lively_classifier(), images))
        for name, values in found.items():
            assert values.isnan().tolist() == [False, name == "adcc", False], name

    def test_a_method_that_falls_silent(self) -> None:
        images, maps = noise(2)
        case = case_of(lively_classifier(), images)._replace(explain=lambda query: torch.zeros(2, SIDE, SIDE))
        assert all(map(math.isnan, score("adcc", maps, case)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("deletion:baseline=blakc", "black"),
        ("insertion:baseline=white", "baseline"),
        ("average_drop:baseline=meen", "mean"),
        ("perturbation_positive:baseline=x", "baseline"),
        ("deletion:steps=0", "at least 1"),
        ("insertion:target=label", "target"),
        ("adcc:steps=3", "steps"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, told: str) -> None:
    with pytest.raises(WrongUsage, match=told):
        parse_metric(text)


def test_the_options_travel_on_the_card() -> None:
    assert parse_metric("insertion").card()["parameters"] == {"baseline": "blur", "steps": 224, "target": "asked"}
    changed = parse_metric("deletion:baseline=mean,steps=28")
    assert changed.name == "deletion:baseline=mean,steps=28"
    assert changed.card()["parameters"] == {"baseline": "mean", "steps": 28, "target": "asked"}
    assert parse_metric("adcc").needs == ("model", "method")
    assert all(parse_metric(name).asks_model for name in NAMES)
