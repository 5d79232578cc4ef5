"""Measures of prototypes: closed forms, prototypes whose truth is known by construction, and slow second versions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower.errors import NotApplicable, Refusal
from an8flower.evaluate.data.batches import ResidentRows, split_tensors
from an8flower.evaluate.data.images import as_images
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.prototypes import changes, measures
from an8flower.evaluate.metrics.prototypes.describing import Description, describe_prototypes
from an8flower.evaluate.metrics.prototypes.judge import PrototypeJudge, patch_boxes
from an8flower.evaluate.metrics.prototypes.locating import (
    DECIMALS,
    Locations,
    box_of,
    cell_edges,
    find_peaks,
    square_around,
    strongest_rows,
)
from an8flower.evaluate.metrics.prototypes.parts import NOWHERE, PartMaps, lie_in, row_keypoints
from an8flower.evaluate.metrics.prototypes.training_patches import find_training_patches
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.prototypes.network import PrototypeNetwork
from an8flower.evaluate.models.prototypes.protopnet import ProtoPNet
from an8flower.evaluate.models.prototypes.pushing import push
from an8flower.evaluate.results.prototype_cards import MEASURES, NEVER, NO_OUTSIDE, NO_RENDERER, PUBLISHED, find_measure
from an8flower.evaluate.results.prototype_results import Box, JudgedModel
from an8flower.evaluate.trust.by_hand.networks import detect_colours
from an8flower.evaluate.trust.by_hand.scenes import SIZE, spec_of
from an8flower.factors import PARTS
from an8flower.generate import generate
from an8flower.store import FlowerStore

PETALS, DISC = PARTS.index("petals"), PARTS.index("disc")
CLASSES = ("red", "green", "blue")


class ColourPrototypes(PrototypeNetwork):
    """Prototypes 0 to 2 are colours of petals, pixel by pixel; 3 to 5 are colours of the background.

    In the scene `backdrop` the petals have a colour of the first three, which is that of the class; the background has
    one of the others, by chance; everything else is grey.
    """

    def __init__(self, weights: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.backbone = detect_colours(primary=True, secondary=True)
        self.register_buffer("table", torch.tensor(weights))

    @property
    def weights(self) -> Tensor:
        return self.table

    def locate(self, images: Tensor) -> Tensor:
        return self.backbone(images)


class AllSeeing(ColourPrototypes):
    """Prototypes of colours that are found the more strongly the brighter the whole image is: none is local."""

    def locate(self, images: Tensor) -> Tensor:
        return super().locate(images) * images.mean((1, 2, 3), keepdim=True)


class RandomPrototypes(PrototypeNetwork):
    """Untrained: K channels of random convolutions with a grid of 11 x 11 cells for 42 px."""

    def __init__(self, prototypes: int, classes: int, seed: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(16, prototypes, 1), nn.Softplus()),
        )
        source = torch.Generator().manual_seed(seed)
        for parameter in self.backbone.parameters():
            parameter.data.normal_(0, 0.5, generator=source)
        self.register_buffer("table", torch.eye(classes).repeat(1, -(-prototypes // classes))[:, :prototypes])

    @property
    def weights(self) -> Tensor:
        return self.table

    def locate(self, images: Tensor) -> Tensor:
        return self.backbone(images)


PETALS_ONLY = [[1.0, 0, 0, 0.5, 0, 0], [0, 1.0, 0, 0, 0.5, 0], [0, 0, 1.0, 0, 0, 0.5]]


def as_classifier(network: PrototypeNetwork, classes: Sequence[str] = CLASSES) -> Classifier:
    return wrap(network, classes, SIZE, "backbone", (0, 0, 0), (1, 1, 1)).eval()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    """48 rows of a scene in which petals and backgrounds have bright colours, and all else is grey."""
    path: Path = tmp_path_factory.mktemp("prototypes") / "backdrop.h5"
    generate(spec_of("backdrop"), path, workers=1)
    return FlowerStore(path)


MakeJudge = Callable[..., PrototypeJudge]


@pytest.fixture(scope="module")
def judge(store: FlowerStore) -> MakeJudge:
    def make(network: PrototypeNetwork, rows: int = 24, **options: object) -> PrototypeJudge:
        split = store["test"]
        world = World.of(split, torch.device("cpu"))
        return PrototypeJudge(as_classifier(network), split, np.arange(rows), world, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def coloured(judge: MakeJudge) -> Description:
    """The description of prototypes whose truth is known."""
    return describe_prototypes(judge(ColourPrototypes(PETALS_ONLY), published=True))


def value(model: JudgedModel, number: int, measure: str) -> float | None:
    return next(entry for entry in model.prototypes if entry.number == number).scores[measure].value


# Cells, boxes and part maps.


@given(st.integers(1, 60), st.integers(1, 30))
def test_cells_divide_an_image_up(size: int, cells: int) -> None:
    edges = cell_edges(size, min(cells, size))
    assert (edges[0], edges[-1]) == (0, size)
    assert (np.diff(edges) >= 1).all()
    assert np.ptp(np.diff(edges)) <= 1


def test_a_box_is_the_share_of_its_cell() -> None:
    assert box_of(5, (2, 4), 8) == Box(4, 2, 8, 4)
    covered = np.zeros((42, 42), int)
    for cell in range(4 * 5):
        box = box_of(cell, (4, 5), 42)
        covered[box.top : box.bottom, box.left : box.right] += 1
    assert (covered == 1).all()


@given(st.integers(0, 13), st.integers(0, 13), st.integers(1, 42))
def test_a_window_lies_in_the_image_and_holds_the_box(row: int, column: int, more: int) -> None:
    box = box_of(row * 14 + column, (14, 14), 42)
    window = square_around(box, 3 + more, 42)
    assert window.bottom - window.top == window.right - window.left == min(42, 3 + more)
    assert 0 <= window.top <= box.top < box.bottom <= window.bottom <= 42
    assert 0 <= window.left <= box.left < box.right <= window.right <= 42


def random_parts(rows: int = 5, size: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, len(PARTS), (rows, size, size)).astype(np.uint8)


def test_shares_of_parts_are_those_of_counting_pixels() -> None:
    parts = random_parts()
    maps = PartMaps(parts, (3, 4))
    for row, cell, part in product(range(5), range(12), range(len(PARTS))):
        box = box_of(cell, (3, 4), 10)
        inside = parts[row, box.top : box.bottom, box.left : box.right]
        assert maps.shares[row, cell, part] == pytest.approx((inside == part).mean())
    assert maps.shares.sum(2) == pytest.approx(np.ones((5, 12)))
    assert maps.frequencies.sum(1) == pytest.approx(np.ones(5))
    with pytest.raises(NotApplicable, match="a cell has no pixel"):
        _ = PartMaps(parts, (11, 4)).shares


def test_a_keypoint_lies_on_its_part_near_the_centre() -> None:
    parts = np.zeros((9, 9), np.uint8)
    parts[2:7, 2:7] = PETALS  # a ring around the disc: its mean place is on the disc
    parts[4, 4] = DISC
    points = row_keypoints(parts)
    assert points[DISC].tolist() == [4, 4]
    assert parts[tuple(points[PETALS])] == PETALS
    assert np.abs(points[PETALS] - 4).sum() == 1
    assert points[PARTS.index("stem")].tolist() == [-1, -1]
    assert lie_in(points[[DISC, PARTS.index("stem")]], Box(0, 0, 5, 5)).tolist() == [True, False]


def test_published_patches_go_from_border_to_border() -> None:
    boxes = patch_boxes((26, 26), 224)
    assert boxes[0] == Box(0, 0, 32, 32)
    assert boxes[-1] == Box(192, 192, 224, 224)
    assert len(boxes) == 26**2
    assert patch_boxes((1, 1), 224) == [Box(96, 96, 128, 128)]


def test_peaks_are_those_of_each_upsampled_map() -> None:
    maps = torch.rand(3, 40, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    peaks = find_peaks(maps, 15)
    for row, prototype in product(range(3), range(40)):
        one = nn.functional.interpolate(maps[row, prototype][None, None], size=(15, 15), mode="bicubic")[0, 0]
        assert one[tuple(peaks[row, prototype])] >= one.max() - 10**-DECIMALS
    assert strongest_rows(np.zeros(4), 3).tolist() == []


# Formulas.


def locations(values: np.ndarray, cells: np.ndarray, grid: tuple[int, int] = (3, 4)) -> Locations:
    return Locations(values, cells, None, np.zeros((len(values), 2)), grid)


def test_purity_is_that_of_a_double_loop() -> None:
    random, parts = np.random.default_rng(3), random_parts(rows=14, seed=4)
    where = locations(random.random((14, 2)).round(1), random.integers(0, 12, (14, 2)))
    maps = PartMaps(parts, (3, 4))
    for prototype in range(2):
        order = sorted(range(14), key=lambda row: (-where.values[row, prototype], row))[:10]
        shares = dict.fromkeys(range(len(PARTS)), 0.0)
        for row in (row for row in order if where.values[row, prototype] > 0):
            box = box_of(where.cells[row, prototype], (3, 4), 10)
            pixels = [
                int(parts[row, down, across])
                for down in range(box.top, box.bottom)
                for across in range(box.left, box.right)
            ]
            for part in shares:
                shares[part] += pixels.count(part) / len(pixels) / 10
        measured = measures.purity(where, maps, prototype)
        assert measured.value == pytest.approx(max(shares.values()))
        assert measured.part == max(shares, key=lambda part: shares[part])
        assert measures.on_object(where, maps, prototype).value == pytest.approx(sum(shares.values()) - shares[0])
        cells = [maps.shares[row, cell, measured.part] for row in range(14) for cell in range(12)]
        assert measured.chance == pytest.approx(sum(cells) / len(cells))


def test_keypoint_purity_counts_patches_with_the_keypoint() -> None:
    parts = np.zeros((4, 8, 8), np.uint8)
    for row, place in enumerate(((1, 1), (1, 6), (6, 1), (1, 1))):
        parts[(row, *place)] = DISC
    boxes = [box_of(cell, (2, 2), 8) for cell in range(4)]
    where = locations(np.array([[4.0], [3.0], [2.0], [0.0]]), np.array([[0], [1], [0], [0]]), (2, 2))
    measured = measures.keypoint_purity(where, PartMaps(parts, (2, 2)), 0, boxes, 10)
    assert measured == pytest.approx((2 / 3, 1 / 4, DISC))  # two of three patches; each row's point is in one of four
    nowhere = locations(np.zeros((4, 1)), np.zeros((4, 1), int), (2, 2))
    assert math.isnan(measures.keypoint_purity(nowhere, PartMaps(parts, (2, 2)), 0, boxes, 10).value)
    assert math.isnan(measures.purity(nowhere, PartMaps(parts, (2, 2)), 0).value)
    assert math.isnan(measures.on_object(nowhere, PartMaps(parts, (2, 2)), 0).value)


def test_consistency_wants_four_of_five() -> None:
    frequencies = np.zeros((5, len(PARTS)))
    frequencies[:, 0], frequencies[:, PETALS] = 0.5, 0.5
    on_petals = np.array([PETALS] * 4 + [0])
    assert measures.same_part(on_petals, frequencies) == (0.8, 0.5, PETALS)
    verdict = measures.consistency(on_petals, frequencies)
    assert verdict[0::2] == (1.0, PETALS)
    assert verdict.chance == pytest.approx(2 * 6 / 32)  # four or five of five coins alike, on either part
    assert measures.consistency(np.array([PETALS] * 3 + [0, DISC]), frequencies).value == 0.0
    lost = measures.consistency(np.full(5, NOWHERE), frequencies)
    assert lost[0::2] == (0.0, NOWHERE)
    assert math.isnan(measures.consistency(np.zeros(0, int), frequencies[:0]).value)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.integers(0, 7))
def test_the_tail_is_that_of_all_outcomes(probabilities: list[float], count: int) -> None:
    expected = 0.0
    for outcome in product((0, 1), repeat=len(probabilities)):
        if sum(outcome) >= count:
            expected += math.prod(p if happens else 1 - p for p, happens in zip(probabilities, outcome, strict=True))
    assert measures.tail_probability(np.array(probabilities), count) == pytest.approx(expected, abs=1e-12)


def test_stability_leaves_out_rows_without_the_prototype() -> None:
    first = np.eye(len(PARTS))[[1, 1, 2, 0]]
    measured = measures.stability(np.array([1, 1, 2, NOWHERE]), np.array([1, NOWHERE, 3, NOWHERE]), first, first)
    assert measured[:2] == (pytest.approx(1 / 3), 1.0)
    assert math.isnan(measures.stability(np.full(2, NOWHERE), np.ones(2, int), first[:2], first[:2]).value)


def test_misalignment_is_a_relative_change() -> None:
    before, after = np.array([2.0, 4.0]), np.array([1.0, 4.0])
    assert measures.misalignment(before, after, np.zeros(2))[:2] == (0.25, 1.0)
    assert math.isnan(measures.misalignment(before[:0], after[:0], after[:0]).value)


def test_published_consistency_counts_rows_in_which_the_part_is_visible() -> None:
    keypoints = np.full((4, len(PARTS), 2), -1)
    keypoints[:2, DISC] = 10  # visible in two rows
    keypoints[:, PETALS] = [[0, 0], [0, 0], [10, 16], [0, 0]]
    peaks = np.array([[10, 10], [12, 10], [10, 10], [10, 10]])
    vectors = measures.box_vectors(peaks, keypoints, half=2, size=20)
    assert vectors[:, DISC - 1].tolist() == [True, True, False, False]
    verdict = measures.published_consistency(vectors, keypoints[:, 1:, 0] >= 0)
    assert verdict[0::2] == (1.0, DISC)
    assert measures.published_consistency(vectors[1:], np.ones((3, len(PARTS) - 1))).value == 0.0
    assert measures.published_stability(vectors, vectors[[0, 1, 2, 0]]).value == 0.75
    assert measures.box_around(np.array([1, 19]), 2, 20) == Box(0, 17, 4, 20)


def test_counts_of_a_row() -> None:
    values = np.array([[0.5, 0.0, 0.05], [0.2, 0.9, 0.9], [0.0, 0.0, 0.7]])
    logits = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    where = Locations(values, np.zeros((3, 3), int), None, logits, (1, 1))
    weights = np.array([[True, True, False], [False, True, True]])
    assert measures.locality(where, weights, np.full(3, 0.1)).tolist() == [1, 2, 0]
    assert measures.abstention(where, weights).tolist() == [0, 0, 0]
    assert measures.abstention(where, weights & [True, True, False]).tolist() == [0, 0, 1]  # the third speaks for none


# Prototypes whose truth is known by construction.


def test_prototypes_of_petals_are_pure_stable_and_aligned(coloured: Description) -> None:
    model = coloured.model
    for number in range(3):
        for measure in ("purity", "on_object", "same_part", "consistency", "redraw_stability", "stability"):
            assert value(model, number, measure) == 1.0, measure
        assert value(model, number, "misalignment") == 0.0
        prototype = model.prototypes[number]
        assert (prototype.part, prototype.class_name) == ("petals", CLASSES[number])
        assert prototype.scores["misalignment"].chance == 1.0  # petals of another class have nothing of the colour
        assert {patch.part for patch in prototype.patches} == {"petals"}
        assert {patch.label for patch in prototype.patches} == {number}
        assert {patch.share for patch in prototype.patches} == {1.0}
        assert [(entry.label, entry.weight) for entry in prototype.classes] == [(number, 1.0)]


def test_prototypes_of_the_background_are_named_so(coloured: Description, store: FlowerStore) -> None:
    parts = store["test"].take(np.arange(24)).parts
    assert parts is not None
    for prototype in coloured.model.prototypes[3:]:
        assert prototype.part == "background"
        assert prototype.scores["purity"].value == 1.0
        assert prototype.scores["purity"].chance == pytest.approx((parts == 0).mean())
        assert prototype.scores["on_object"].value == 0.0
        assert prototype.scores["on_object"].chance == pytest.approx((parts != 0).mean())
        assert prototype.scores["consistency"].value == 0.0  # its colour is there in some of the rows of its class
        assert prototype.scores["misalignment"].value == 0.0


def test_a_model_has_means_and_counts(coloured: Description) -> None:
    scores = coloured.model.scores
    assert (scores["purity"].mean, scores["purity"].n, scores["purity"].over) == (1.0, 6, "prototypes")
    assert (scores["consistency"].mean, scores["size"].mean, scores["sparsity"].mean) == (0.5, 6, 12 / 18)
    assert scores["abstention"].mean == 0.0
    names = {name.removesuffix(PUBLISHED) for name in scores}
    assert names == {measure.name for measure in MEASURES}
    assert coloured.model.total == 6
    assert coloured.model.grid == (SIZE, SIZE)


def test_patches_and_pictures_fit_together(coloured: Description, store: FlowerStore) -> None:
    pictures, model = coloured.pictures, coloured.model
    stored = store["test"].take(np.arange(24))
    for page, prototype in enumerate(model.prototypes):
        assert pictures["numbers"][page] == prototype.number
        first = prototype.patches[0]
        assert (pictures["strongest"][page] == stored.images[first.row]).all()
        for number, patch in enumerate(prototype.patches):
            window = patch.window
            crop = stored.images[patch.row, window.top : window.bottom, window.left : window.right]
            assert (pictures["crops"][page, number] == crop).all()
        values = [patch.value for patch in prototype.patches]
        assert values == sorted(values, reverse=True)
        assert len({patch.row for patch in prototype.patches}) == len(values)
        assert prototype.source is not None
        assert prototype.source.part == prototype.part
        assert (pictures["sources"][page] == store["train"].take(np.array([prototype.source.row])).images[0]).all()


def test_an_example_says_what_looks_like_what(coloured: Description) -> None:
    examples = coloured.model.examples
    assert [example.label for example in examples] == [0, 1, 2]
    for page, example in enumerate(examples):
        assert example.predicted == example.label
        assert example.resembles[0].number == example.label
        assert sum(entry.contribution for entry in example.resembles) == pytest.approx(example.logit, abs=1e-3)
        maps = coloured.pictures["example_maps"][page]
        for entry, similarities in zip(example.resembles, maps, strict=False):
            assert similarities[entry.cell] == pytest.approx(entry.similarity, abs=1e-4)
            assert similarities.max() == similarities[entry.cell]


def test_prototypes_that_see_everything_are_misaligned(judge: MakeJudge, coloured: Description) -> None:
    everywhere = judge(AllSeeing(PETALS_ONLY), rows=12)
    aligned, misaligned = judge(ColourPrototypes(PETALS_ONLY), rows=12), everywhere.measure()["misalignment"]
    assert [measured.value for measured in aligned.measure()["misalignment"]] == [0.0] * 6
    assert all(measured.value > 0.001 for measured in misaligned)
    # The same by hand for one prototype: render, lay the part over it, and look at the cell.
    where, maps = everywhere.usual
    network, ratios = everywhere.classifier.network, []
    for place in everywhere.patches[0].tolist():
        cell = where.cells[place, 0]
        part = maps.parts[place].reshape(-1)[cell]
        assert everywhere.world is not None
        table = changes.change_others(everywhere.world, np.array([place]), np.array([part]), 0)
        photograph = everywhere.world.photograph(table).images
        stays = torch.from_numpy(maps.parts[place] == part)
        before = as_images(everywhere.split.take(np.array([place])).images, torch.device("cpu"))
        after = network.locate(torch.where(stays, before, photograph))[0, 0].flatten()[cell].item()
        ratios.append(abs(after - where.values[place, 0]) / where.values[place, 0])
    assert misaligned[0].value == pytest.approx(np.mean(ratios), abs=1e-3)


def test_what_changes_is_all_but_the_part(judge: MakeJudge) -> None:
    subject = judge(ColourPrototypes(PETALS_ONLY))
    assert subject.world is not None
    rows, parts = np.array([3, 3, 7]), np.array([PETALS, NOWHERE, 0])
    before = subject.world.factors(torch.from_numpy(rows))
    after = changes.change_others(subject.world, rows, parts, 0)
    colours = before["petals.colour"], after["petals.colour"]
    assert (colours[0] == colours[1]).tolist() == [True, False, False]
    assert after["background.colour"][2] == before["background.colour"][2]
    for name in ("view.x", "view.scale", "light.azimuth", "head.tilt"):
        assert (after[name] == before[name]).all()
    labels = subject.split.labels[rows]
    assert all(changes.other_class(3, int(label), seed, 5) != label for label in labels for seed in range(9))


class Brightness(ColourPrototypes):
    """A prototype that lies at one place whatever the image is, and is as strong as the image is bright."""

    def locate(self, images: Tensor) -> Tensor:
        place = torch.zeros(6, SIZE, SIZE)
        place[:, 8:18, 20:32] = 1.0
        return place * images.mean((1, 2, 3))[:, None, None, None] + 0 * super().locate(images)


def test_an_attack_outside_of_the_box_goes_as_far_as_it_may(judge: MakeJudge) -> None:
    subject = judge(Brightness(PETALS_ONLY), rows=2)
    images = torch.cat(list(subject.read()))
    (similarity, _), margin = subject.classifier.network.locate(images)[:, 0], round(10 / 224 * SIZE)
    box = changes.high_box(similarity, SIZE)
    assert (box.top, box.left, box.bottom, box.right) == (8, 20, 18, 32)
    inside = (box.bottom - box.top + 2 * margin) * (box.right - box.left + 2 * margin)
    before, after = changes.attack_outside(subject.classifier, images, np.array([0, 0]))
    fall = changes.EPSILON * (1 - inside / SIZE**2)
    assert before == pytest.approx(images.mean((1, 2, 3)).numpy(), abs=1e-4)
    assert before - after == pytest.approx(np.full(2, fall), abs=2e-4)
    local = changes.attack_outside(as_classifier(ColourPrototypes(PETALS_ONLY)), images, subject.labels)
    assert (local[0] == local[1]).all()


class Everywhere(Brightness):
    """A prototype that is found equally at all places."""

    def locate(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None, None, None] + 0 * self.backbone(images)


def test_an_attack_with_nothing_outside_is_undefined(judge: MakeJudge) -> None:
    """0 would say that the prototype is aligned, where nothing was attacked."""
    model = describe_prototypes(judge(Everywhere(PETALS_ONLY), rows=3, published=True)).model
    score = model.prototypes[0].scores["misalignment:published"]
    assert (score.value, score.reason) == (None, NO_OUTSIDE)
    assert model.scores["misalignment:published"].undefined == 6


def test_noise_belongs_to_its_row(judge: MakeJudge) -> None:
    classifier, images = as_classifier(ColourPrototypes(PETALS_ONLY)), torch.zeros(3, 3, SIZE, SIZE)
    classifier.std.fill_(0.5)
    noise = changes.add_noise(classifier, images, np.array([4, 9, 4]), 0) / 0.5
    assert (noise[0] == noise[2]).all()
    assert (noise[0] != noise[1]).any()
    assert noise.abs().max() <= changes.LARGEST_NOISE
    cut = (noise.abs() >= changes.LARGEST_NOISE - 1e-6).double().mean()
    assert cut == pytest.approx(math.erfc(0.25 / 0.2 / math.sqrt(2)), abs=0.02)


# What a slow second version finds, row by row and prototype by prototype.


def part_at(network: PrototypeNetwork, image: Tensor, parts: np.ndarray, number: int) -> int:
    """The part that most pixels show under the strongest cell of a prototype in one image (3, S, S), or NOWHERE."""
    similarity = network.locate(image[None])[0, number].double().round(decimals=DECIMALS)
    if similarity.max() <= 0:
        return NOWHERE
    box = box_of(int(similarity.flatten().argmax()), tuple(similarity.shape), SIZE)
    return int(np.bincount(parts[box.top : box.bottom, box.left : box.right].ravel()).argmax())


def test_measures_over_a_class_are_those_of_a_loop_over_rows(judge: MakeJudge) -> None:
    subject = judge(RandomPrototypes(5, 3, 2), rows=14, batch=4)
    measured, network, rows = subject.measure(), subject.classifier.network, subject.split.take(np.arange(14))
    assert subject.world is not None
    again = changes.redraw_nuisance(subject.world, np.arange(14), 0)
    for number in range(5):
        parts, noisy, redrawn = [], [], []
        for row in np.flatnonzero(rows.labels == number % 3).tolist():
            image = as_images(rows.images[row][None], torch.device("cpu"))
            parts.append(part_at(network, image[0], rows.parts[row], number))
            noise = changes.add_noise(subject.classifier, image, np.array([row]), 0)
            noisy.append(part_at(network, noise[0], rows.parts[row], number))
            scene = subject.world.photograph(again[row : row + 1])
            redrawn.append(part_at(network, scene.images[0], scene.parts[0].numpy(), number))
        best = max(set(parts), key=parts.count)
        share = parts.count(best) / len(parts)
        assert measured["same_part"][number].value == pytest.approx(share)
        assert measured["consistency"][number].value == float(share >= 0.8)
        for name, after in (("stability", noisy), ("redraw_stability", redrawn)):
            same = [first == second for first, second in zip(parts, after, strict=True)]
            assert measured[name][number].value == pytest.approx(sum(same) / len(same)), name


def published_vector(network: PrototypeNetwork, image: Tensor, parts: np.ndarray, number: int) -> set[int]:
    """The parts whose keypoint is at most 36 px, of 224, down and across, from the maximum of the upsampled map."""
    similarity = network.locate(image[None])[0, number].double().round(decimals=DECIMALS)
    upsampled = nn.functional.interpolate(similarity[None, None], size=(SIZE, SIZE), mode="bicubic")[0, 0]
    down, across = divmod(int(upsampled.round(decimals=DECIMALS).flatten().argmax()), SIZE)
    points, reach = row_keypoints(parts), round(36 * SIZE / 224)
    near = [max(abs(y - down), abs(x - across)) <= reach for y, x in points.tolist()]
    return {part for part in range(1, len(PARTS)) if points[part, 0] >= 0 and near[part]}


def test_published_measures_are_those_of_a_loop_over_rows(judge: MakeJudge) -> None:
    subject = judge(RandomPrototypes(4, 3, 5), rows=14, batch=4, published=True)
    measured, network, rows = subject.measure(), subject.classifier.network, subject.split.take(np.arange(14))
    for number in range(4):
        before, after, visible = [], [], []
        for row in np.flatnonzero(rows.labels == number % 3).tolist():
            image = as_images(rows.images[row][None], torch.device("cpu"))
            before.append(published_vector(network, image[0], rows.parts[row], number))
            noise = changes.add_noise(subject.classifier, image, np.array([row]), 0)
            after.append(published_vector(network, noise[0], rows.parts[row], number))
            visible.append(set(np.unique(rows.parts[row]).tolist()))
        same = [first == second for first, second in zip(before, after, strict=True)]
        assert measured["stability:published"][number].value == pytest.approx(sum(same) / len(same))
        seen = {part: sum(part in row for row in visible) for part in range(1, len(PARTS))}
        rates = [sum(part in row for row in before) / seen[part] for part in seen if seen[part]]
        assert measured["consistency:published"][number].value == float(max(rates) >= 0.8)


# The training patch that a prototype is.


def test_a_pushed_prototype_is_its_training_patch(judge: MakeJudge, store: FlowerStore) -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU())
    subject = judge(ProtoPNet(backbone, 8, 3, 2), rows=6)
    network = subject.classifier.network
    push(subject.classifier, ResidentRows(split_tensors(store["train"])))
    patches = [entry for entry in find_training_patches(subject) if entry is not None]
    assert all(entry.pushed for entry in patches)
    assert [[entry.patch.row, *entry.patch.cell] for entry in patches] == network.source.tolist()
    assert all(entry.patch.value == pytest.approx(math.log(1e4), abs=1e-3) for entry in patches)
    assert [entry.patch.label for entry in patches] == network.class_identity.tolist()
    network.source[0, 0] = (network.source[0, 0] + 1) % len(store["train"])  # as with data of other rows
    network.source[1, 0] = len(store["train"])
    others = find_training_patches(subject)
    assert [entry is not None and entry.pushed for entry in others] == [False, False, True, True, True, True]
    assert others[0] is not None
    assert others[0].patch == patches[0].patch


# Controls and promises.


class Chance(RandomPrototypes):
    """Prototypes that are found at places which have nothing to do with the image: fixed noise, shifted by its sum."""

    def locate(self, images: Tensor) -> Tensor:
        seeds = (images.double().sum((1, 2, 3)) * 1e6).long().tolist()
        noise = [torch.rand(48, 11, 11, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(noise) + 0 * super().locate(images)


def test_places_drawn_at_random_are_at_chance(judge: MakeJudge) -> None:
    drawn = describe_prototypes(judge(Chance(48, 3, 0), rows=48)).model
    for measure in ("purity", "same_part", "stability", "redraw_stability"):
        score = drawn.scores[measure]
        assert abs(score.mean - score.chance) < 0.05, measure
    consistency = drawn.scores["consistency"]
    assert consistency.low <= consistency.chance <= consistency.high


def test_an_untrained_network_is_nearer_to_chance_than_to_one(judge: MakeJudge) -> None:
    """Ten strongest patches of any filter look alike, so that even filters of random weights are a little purer."""
    scores = [describe_prototypes(judge(RandomPrototypes(48, 3, seed), rows=48)).model.scores for seed in (0, 1)]
    for score in (of_seed["purity"] for of_seed in scores):
        assert 0 <= (score.mean - score.chance) / (1 - score.chance) < 0.5


def test_batches_change_no_number(judge: MakeJudge) -> None:
    network = RandomPrototypes(12, 3, 0)
    one, many = (describe_prototypes(judge(network, rows=6, batch=batch, published=True)) for batch in (2, 64))
    assert one.model.model_dump_json() == many.model.model_dump_json()
    assert all((one.pictures[name] == many.pictures[name]).all() for name in ("crops", "strongest", "examples"))


def test_without_a_renderer_there_are_reasons(judge: MakeJudge, store: FlowerStore) -> None:
    silent = ColourPrototypes([[1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0], [0, 0, 0, 1.0, 0, 0]])
    silent.backbone[0].bias.data[0] = -9.0  # the first prototype is never found
    split = store["test"]
    model = describe_prototypes(PrototypeJudge(as_classifier(silent), split, np.arange(9), None)).model
    scores = model.prototypes[1].scores
    assert (scores["misalignment"].value, scores["misalignment"].reason) == (None, NO_RENDERER)
    assert scores["redraw_stability"].reason == NO_RENDERER
    never = model.prototypes[0]
    assert (never.scores["purity"].value, never.scores["purity"].reason) == (None, NEVER)
    assert (never.part, never.patches, never.source) == (None, (), None)
    assert model.scores["purity"].undefined == 1
    assert [entry.number for entry in model.prototypes] == [0, 1, 3]  # those with a weight


def test_networks_that_cannot_be_judged_are_refused(judge: MakeJudge, store: FlowerStore) -> None:
    plain = wrap(nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), CLASSES, SIZE, "0")
    with pytest.raises(NotApplicable, match="has no prototypes; train with --pool protopnet"):
        describe_prototypes(PrototypeJudge(plain, store["test"], np.arange(3), None))
    with pytest.raises(NotApplicable, match="no prototype has a weight"):
        describe_prototypes(judge(ColourPrototypes([[0.0] * 6] * 3)))
    broken = judge(ColourPrototypes(PETALS_ONLY), rows=3)
    broken.classifier.network.backbone[0].bias.data[:] = math.nan
    with pytest.raises(Refusal, match="infinite, NaN or below 0"):
        describe_prototypes(broken)


def test_cards_are_complete() -> None:
    for measure in MEASURES:
        card = measure.card()
        assert card["family"] == "prototypes"
        assert card["definition"].endswith(".")
        assert all(card[key] for key in ("chance", "source", "undefined", "unit", "scores"))
    assert find_measure("purity:published") is find_measure("purity") is MEASURES[0]
    assert find_measure("iou") is None
