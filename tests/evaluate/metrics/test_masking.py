"""The engine of masked images: what it makes, that it asks once, and that nothing else decides the answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.masking import (
    ORIGINAL,
    Faded,
    ImageChange,
    Masking,
    Removed,
    blur_like_rise,
    check_baseline,
    explain_images,
    remove_ranks,
    rise_kernel,
)
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metrics
from an8flower.evaluate.metrics.robustness import Noisy
from an8flower.evaluate.models.classifier import Classifier

Make = Callable[[str], Classifier]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
ROWS, SIDE = 4, 16
PIXELS = SIDE * SIDE
COUNTS = [*range(0, PIXELS, 2), PIXELS]  # at most 224 steps: of 2 pixels each
ALL = (
    "average_drop",
    "average_drop:baseline=mean",
    "average_increase",
    "average_gain",
    "adcc",
    "deletion",
    "deletion:target=predicted",
    "deletion:baseline=mean,steps=10",
    "insertion",
    "insertion:baseline=black",
    "insertion:baseline=mean,steps=10",
    "perturbation_positive",
    "perturbation_negative",
    "infidelity:samples=6",
    "sparseness",
    "complexity",
)


def case_of(classifier: Classifier | None, rows: int = ROWS, images: Tensor | None = None) -> Case:
    """Noise, never darker than a tenth; the method asks no network."""
    device = torch.device("cpu") if classifier is None else classifier.device
    source = torch.Generator().manual_seed(3)
    images = torch.rand(rows, 3, SIDE, SIDE, generator=source) * 0.9 + 0.1 if images is None else images
    every = torch.arange(rows, device=device)
    query = Query(images.to(device), every % 4, every + 20)
    truth = Truth(every, every % 4, torch.ones(rows, SIDE, SIDE, dtype=torch.uint8, device=device), None)
    return Case(classifier, query, truth, lambda asked: asked.images.square().mean(1))


def maps_of(rows: int = ROWS) -> Tensor:
    return torch.randn(rows, SIDE, SIDE, generator=torch.Generator().manual_seed(4))


# The slow second version: every changed image on its own


def slow_blur(image: np.ndarray) -> np.ndarray:
    radius = max(1, round(5 * image.shape[-1] / 224 + 1e-9))
    delta = np.zeros((2 * radius + 1,) * 2)
    delta[radius, radius] = 1
    kernel = gaussian_filter(delta, 5 * image.shape[-1] / 224)
    return np.stack([convolve(channel.astype(float), kernel, mode="nearest") for channel in image])


def slow_baseline(image: np.ndarray, name: str) -> np.ndarray:
    return {
        "black": lambda: np.zeros_like(image),
        "mean": lambda: np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape),
        "blur": lambda: slow_blur(image),
    }[name]()


def slow_removed(image: np.ndarray, one_map: np.ndarray, name: str, start: int, stop: int) -> np.ndarray:
    gone = np.zeros(one_map.size, dtype=bool)
    gone[np.argsort(-one_map.ravel(), kind="stable")[start:stop]] = True
    return np.where(gone.reshape(one_map.shape), slow_baseline(image, name), image)


def slow_faded(image: np.ndarray, one_map: np.ndarray, name: str) -> np.ndarray:
    shown = (one_map - one_map.min()) / (one_map.max() - one_map.min())
    return image * shown + slow_baseline(image, name) * (1 - shown)


class TestImages:
    @pytest.mark.parametrize("device", DEVICES)
    @pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
    @pytest.mark.parametrize(("start", "stop"), [(0, 37), (200, 256), (0, 256), (10, 11)])
    def test_removed(self, device: str, baseline: str, start: int, stop: int, make: Make) -> None:
        case, maps = case_of(make("inplace").to(device)), maps_of()
        found = Removed(baseline, start, stop).images(
            Masking.of(maps.to(device), case), torch.tensor([2, 0]).to(device)
        )
        for image, row in zip(found.cpu().numpy(), (2, 0), strict=True):
            expected = slow_removed(case.query.images[row].cpu().numpy(), maps[row].numpy(), baseline, start, stop)
            np.testing.assert_allclose(image, expected, atol=1e-6)

    @pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
    def test_faded(self, baseline: str) -> None:
        case, maps = case_of(None), maps_of()
        found = Faded(baseline).images(Masking.of(maps, case), torch.arange(ROWS))
        for image, before, one_map in zip(found, case.query.images, maps, strict=True):
            np.testing.assert_allclose(image, slow_faded(before.numpy(), one_map.numpy(), baseline), atol=1e-6)

    def test_pixels_are_the_images_own_or_the_baselines_to_the_last_bit(self) -> None:
        masking = Masking.of(maps_of(), case_of(None))
        gone = (masking.ranks < 100)[:, None]
        expected = torch.where(gone, masking.replacement("blur"), masking.query.images)
        assert torch.equal(Removed("blur", 0, 100).images(masking, torch.arange(ROWS)), expected)

    def test_nothing_removed_is_the_original(self) -> None:
        masking = Masking.of(maps_of(), case_of(None))
        assert remove_ranks("blur", 5, 5) == remove_ranks("black", 0, 0) == ORIGINAL
        assert torch.equal(ORIGINAL.images(masking, torch.tensor([1])), masking.query.images[1:2])

    @pytest.mark.parametrize("kind", [Faded("blur"), Faded("mean"), Noisy(0, 5.0), Removed("blur", 0, 256)])
    def test_images_stay_images(self, kind: ImageChange) -> None:
        white = torch.ones(ROWS, 3, SIDE, SIDE)
        low, high = kind.images(Masking.of(maps_of(), case_of(None, images=white)), torch.arange(ROWS)).aminmax()
        assert low >= 0
        assert high <= 1


def test_the_blur_is_rises_at_its_size() -> None:
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    line = rise_kernel(224)
    np.testing.assert_allclose(torch.outer(line, line).numpy(), gaussian_filter(delta, 5), rtol=1e-12)


@pytest.mark.parametrize("shape", [(16, 16), (30, 50), (7, 112)])
def test_the_blur_is_a_convolution(shape: tuple[int, int]) -> None:
    image = torch.rand(3, *shape, generator=torch.Generator().manual_seed(5))
    np.testing.assert_allclose(blur_like_rise(image[None])[0].numpy(), slow_blur(image.numpy()), atol=1e-6)


class TestRanks:
    @pytest.mark.parametrize("device", DEVICES)
    def test_decreasing_values(self, device: str) -> None:
        maps = maps_of().to(device)
        ranks = Masking.of(maps, case_of(None)).ranks.cpu().flatten(1).numpy()
        expected = np.argsort(np.argsort(-maps.cpu().flatten(1).numpy()))
        np.testing.assert_array_equal(ranks, expected)

    def test_ties_are_broken_by_chance_and_by_the_rows_seed_alone(self) -> None:
        maps = maps_of(40).round().mul(0.0)  # zeros of both signs
        whole = Masking.of(maps, case_of(None, 40))
        few = case_of(None, 40)
        few = few._replace(query=Query(*(each[[7, 3]] for each in few.query)))
        assert torch.equal(Masking.of(maps[:2], few).ranks, whole.ranks[[7, 3]])
        assert (whole.ranks.flatten(1).sort(1).values == torch.arange(PIXELS)).all()
        places = whole.ranks.double().mean(0) / PIXELS  # of 40 rows: 0.5 +- 0.046 a pixel
        assert (places - 0.5).abs().max() < 0.2
        assert places.std() == pytest.approx((1 / 12 / 40) ** 0.5, rel=0.2)

    def test_groups_of_equal_values_stay_in_order(self) -> None:
        maps = maps_of().sign()
        ranks = Masking.of(maps, case_of(None)).ranks
        for one_map, order in zip(maps, ranks, strict=True):
            assert order[one_map == 1].max() < order[one_map == -1].min()


class TestAnswers:
    @pytest.mark.parametrize("kind", ["inplace", "reuse", "vit", "untraceable"])
    def test_are_the_classifiers(self, kind: str, make: Make) -> None:
        classifier = make(kind).eval()
        images = torch.rand(ROWS, 3, classifier.size, classifier.size, generator=torch.Generator().manual_seed(6))
        maps = images.mean(1)
        masking = Masking.of(maps, case_of(classifier, images=images))
        kinds = [ORIGINAL, Removed("blur", 0, 50), Faded("mean"), remove_ranks("black", 9, 9)]
        found = masking.logits(kinds)
        for number, each in enumerate(kinds):
            expected = classifier(each.images(masking, torch.arange(ROWS)))
            torch.testing.assert_close(found[:, number], expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("in_flight", [1, 3, 64])
    def test_never_more_than_may_be_in_flight(self, in_flight: int, make: Make) -> None:
        classifier, sizes = make("untraceable"), []
        masking = Masking.of(maps_of(), case_of(classifier))
        masking.network.network.register_forward_pre_hook(lambda _, images: sizes.append(len(images[0])))
        with classifier.holding(in_flight):
            found = masking.logits([Removed("black", 0, count) for count in COUNTS[1:9]])
        assert max(sizes) == min(in_flight, 8 * ROWS)
        assert sum(sizes) == 8 * ROWS
        assert found.shape == (ROWS, 8, 4)

    def test_what_is_known_is_not_asked_again(self, make: Make) -> None:
        classifier = make("inplace")
        masking = Masking.of(maps_of(), case_of(classifier))
        with classifier.counting() as cost:
            first = masking.logits([ORIGINAL, Faded("black"), Faded("black"), Removed("black", 0, 3)])
            again = masking.logits([Removed("black", 0, 3), Faded("black"), ORIGINAL])
        assert cost.forwards == 3 * ROWS
        assert torch.equal(first[:, [3, 1, 0]], again)

    @pytest.mark.parametrize("first", [[Faded("black")], [Faded("black"), ORIGINAL], [ORIGINAL, Faded("black")]])
    def test_a_row_that_does_not_change_is_not_asked_twice(self, first: list[ImageChange], make: Make) -> None:
        classifier, maps = make("inplace"), torch.ones(ROWS, SIDE, SIDE)
        maps[:, 0, 0] = 0
        case = case_of(classifier)
        case.query.images[:2, :, 0, 0] = 0  # what is masked there was black before
        masking = Masking.of(maps, case)
        with classifier.counting() as cost:
            masking.logits(first)
            original, faded = masking.logits([ORIGINAL, Faded("black")]).unbind(1)
        assert cost.forwards == 2 * ROWS - 2
        assert (original == faded).all(1).tolist() == [True, True, False, False]

    def test_nothing_changes_anywhere(self, make: Make) -> None:
        classifier = make("inplace")
        masking = Masking.of(maps_of(), case_of(classifier, images=torch.zeros(ROWS, 3, SIDE, SIDE)))
        with classifier.counting() as cost:
            assert masking.logits([Faded("black")]).shape == (ROWS, 1, 4)
        assert cost.forwards == ROWS


def distinct(image: np.ndarray, one_map: np.ndarray) -> int:
    """How many different images all metrics together want of one, the six noises aside."""
    wanted = [image.astype(float), *(slow_faded(image, one_map, name) for name in ("black", "mean"))]
    tenths = [PIXELS * tenth // 10 for tenth in range(1, 10)]
    coarse = [*range(0, PIXELS, 26), PIXELS]
    for name, start, stop in (
        *(("black", 0, count) for count in (*COUNTS, *tenths)),
        *(("black", PIXELS - count, PIXELS) for count in tenths),
        *((name, count, PIXELS) for name in ("blur", "black") for count in COUNTS),
        *(("mean", 0, count) for count in coarse),
        *(("mean", count, PIXELS) for count in coarse),
    ):
        wanted.append(slow_removed(image, one_map, name, start, stop))
    return len({each.astype(np.float32).tobytes() for each in wanted})


class TestPasses:
    def test_all_metrics_together_show_every_distinct_image_once(self, make: Make) -> None:
        classifier = make("inplace").eval()
        case, maps = case_of(classifier), maps_of()
        expected = [distinct(*pair) + 6 for pair in zip(case.query.images.numpy(), maps.numpy(), strict=True)]
        with classifier.counting() as cost:
            score_all(parse_metrics(ALL), maps, case)
        assert cost.forwards == sum(expected)

    def test_the_cost_is_proportional_to_the_rows(self, make: Make) -> None:
        costs = []
        for rows in (2, 6):
            classifier = make("inplace").eval()
            with classifier.counting() as cost:
                score_all(
                    parse_metrics(["deletion:steps=8", "insertion:steps=8"]), maps_of(rows), case_of(classifier, rows)
                )
            costs.append(cost.forwards / rows)
        assert costs == [1 + 8 + 8] * 2

    @pytest.mark.parametrize(
        ("names", "passes"),
        [
            (["average_drop"], 2),
            (["average_drop", "average_increase", "average_gain", "adcc"], 2),
            (["deletion"], 129),
            (["deletion", "insertion"], 257),
            (["deletion", "insertion:baseline=black"], 256),  # both ends are shared
            (["deletion:target=predicted", "deletion"], 129),
            (["perturbation_positive", "perturbation_negative"], 18),
            (["perturbation_positive", "deletion"], 129 + 9 - 5),  # 76, 102, 128, 204 and 230 pixels are even
            (["sparseness", "complexity"], 0),
        ],
    )
    def test_metrics_share(self, names: list[str], passes: int, make: Make) -> None:
        classifier = make("inplace").eval()
        with classifier.counting() as cost:
            score_all(parse_metrics(names), maps_of(), case_of(classifier))
        assert cost.forwards == passes * ROWS


class TestRefused:
    def test_an_unknown_baseline(self) -> None:
        with pytest.raises(WrongUsage, match="blur"):
            check_baseline("blurr")

    def test_a_case_without_a_model(self) -> None:
        with pytest.raises(WrongUsage, match="classifier"):
            Masking.of(maps_of(), case_of(None)).logits([ORIGINAL])

    def test_a_case_without_a_method(self) -> None:
        with pytest.raises(WrongUsage, match="method"):
            explain_images(case_of(None)._replace(explain=None), torch.zeros(ROWS, 3, SIDE, SIDE))
