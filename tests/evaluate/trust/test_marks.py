"""Marks exchanged, maps judged: closed forms, slow second counts, networks that are known to go by the mark or not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from an8flower import spec as specs
from an8flower.errors import NotApplicable, Refusal
from an8flower.evaluate.data.marked import MarkRegions, PlantedRows, TaggedRows, marked_rows
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.results.mark_words import describe_detection, goes_by, judge_method
from an8flower.evaluate.trust.detection import LEVEL, MapDecisions, auroc_of, decide_maps, excess_of, sum_up
from an8flower.evaluate.trust.innocent import write_innocent_data
from an8flower.evaluate.trust.mark_use import MarkUse, certify_marks, measure_mark_use
from an8flower.generate import generate
from an8flower.planted import NONE, count_agreeing, planting_of
from an8flower.planting import Wish, plan_marks, plant_rows
from an8flower.splits import SPLITS
from an8flower.store import FlowerStore
from an8flower.writing import Block, WritingPlan, write

CPU = torch.device("cpu")
GREYS = (60, 110, 160)  # the pictures of the three classes


def plant_greys(path: Path, wish: Wish, rows: int = 90) -> FlowerStore:
    """Grey pictures of 32 px, a level for each class, with marks."""
    planting = plan_marks(wish, "abc")
    splits = {"train": rows, "val": rows, "test": rows}

    def make(block: Block) -> object:
        labels = np.arange(block.start, block.stop) % 3
        images = np.broadcast_to(np.array(GREYS, np.uint8)[labels, None, None, None], (len(labels), 32, 32, 3))
        return plant_rows(images, labels, planting, block)

    attributes = {"name": path.stem, "class_names": [*"abc"], "part_names": [], "size": 32}
    write(WritingPlan(path, {**attributes, "planting": planting.to_json()}, splits, "greys", make), 1)
    return FlowerStore(path)


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    return plant_greys(tmp_path_factory.mktemp("greys") / "greys.h5", Wish(test=0.0))


class ByMark(nn.Module):
    """Goes by the colour that stands out: red, blue or yellow, as the marks of three classes are."""

    def __init__(self, weight: float = 40.0) -> None:
        super().__init__()
        self.weight, self.layer = weight, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = self.layer(images).unbind(1)
        colours = [
            (red - torch.maximum(green, blue)),
            (blue - torch.maximum(red, green)),
            torch.minimum(red, green) - blue,
        ]
        return self.weight * torch.stack([colour.clamp(min=0).mean((1, 2)) for colour in colours], 1)


class ByPicture(nn.Module):
    """Goes by the level of grey of the median pixel, which no mark reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        level = self.layer(images).mean(1).flatten(1).median(1).values
        return -40 * (level[:, None] - torch.tensor(GREYS) / 255).abs()


def classifier_of(network: nn.Module) -> Classifier:
    return wrap(network, "abc", 32, "layer", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def test_a_network_that_reads_the_mark_goes_by_it(greys: FlowerStore) -> None:
    rows = marked_rows(greys["test"], CPU)
    assert isinstance(rows, PlantedRows)
    use = measure_mark_use(classifier_of(ByMark()), rows, np.arange(60))
    assert (use.predicted == use.shown).all()
    assert use.uses.all()
    assert not use.ignores.any()
    assert (use.exchanged == use.donors)[use.donors != NONE].all()
    document = certify_marks("m", rows.name, use, 0).to_document()
    assert goes_by(document) == "mark"
    assert "m goes by the tag, and not by the picture" in document["verdict"]
    assert [document[key]["mean"] for key in ("accuracy", "follows", "by_mark", "by_picture", "uses")] == [
        0,
        1,
        1,
        0,
        1,
    ]


def test_a_network_that_reads_the_picture_ignores_the_mark(greys: FlowerStore) -> None:
    rows = marked_rows(greys["test"], CPU)
    use = measure_mark_use(classifier_of(ByPicture()), rows, np.arange(60))
    assert (use.predicted == use.labels).all()
    assert use.ignores.all()
    assert not use.uses.any()
    assert np.abs(use.effect_bare).max() == 0
    document = certify_marks("m", rows.name, use, 0).to_document()
    assert goes_by(document) == "picture"
    assert document["by_picture"]["mean"] == document["bare_accuracy"]["mean"] == 1


def test_a_mark_that_moves_the_output_and_not_the_prediction_is_neither_used_nor_ignored(greys: FlowerStore) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.mark, self.picture = nn.Identity(), ByMark(weight=25), ByPicture()

        def forward(self, images: Tensor) -> Tensor:
            images = self.layer(images)
            return 0.1 * self.picture(images) + 0.5 * self.mark(images)

    use = measure_mark_use(classifier_of(Both()), marked_rows(greys["test"], CPU), np.arange(60))
    stays = (use.bare == use.predicted) & (use.exchanged == use.predicted).all(0)
    assert stays.any()
    assert not use.uses[stays].any()
    assert not use.ignores[stays & (np.abs(use.effect_bare) > 0.05)].any()


def test_a_row_without_a_logo_is_given_one(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((12, 12, 4), np.uint8)
    pixels[2:10, 2:10] = (255, 0, 0, 255)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "logo.png")
    store = plant_greys(tmp_path / "x.h5", Wish(mark=str(tmp_path / "logo.png"), agreement=1.0, test=0.5))
    rows = marked_rows(store["test"], CPU)
    use = measure_mark_use(classifier_of(ByMark()), rows, np.arange(90))
    there = use.shown == 0
    assert 20 < there.sum() < 70
    assert (use.donors[0] == np.where(there, NONE, 0)).all()
    assert (use.exchanged[0][~there] == 0).all()
    assert not use.uses[~there].any()
    assert not use.ignores[~there].any()
    assert np.isnan(use.effect_bare[~there]).all()
    regions = rows.regions(np.arange(90))
    assert (regions.marked.any((1, 2)) == there).all()


def test_marks_that_cannot_be_are_refused(tmp_path: Path) -> None:
    import h5py

    path = plant_greys(tmp_path / "x.h5", Wish(), rows=6).path
    with h5py.File(path, "r+") as file:
        file["test/placed"][2, 0] = 3
    with pytest.raises(Refusal, match="has marks of kinds that cannot be"):
        marked_rows(FlowerStore(path)["test"], CPU).mark_numbers(np.arange(6))


# --- maps -------------------------------------------------------------------------------------------------------------


def slow_excess(values: np.ndarray, marked: np.ndarray, counted: np.ndarray) -> float:
    """The mean over all ways to break ties, by counting, of the share of the top pixels on the mark."""
    pixels = [i for i in range(len(values)) if counted[i]]
    count, hits = int(marked.sum()), Fraction(0)
    for i in pixels:
        if marked[i]:
            above = sum(values[j] > values[i] for j in pixels)
            level = sum(values[j] == values[i] for j in pixels)
            hits += min(Fraction(1), max(Fraction(0), Fraction(count - above, level)))
    return float(hits / count - Fraction(count, len(pixels)))


@settings(max_examples=40)
@given(
    values=st.lists(st.integers(0, 4), min_size=6, max_size=24),
    data=st.data(),
)
def test_the_excess_is_what_counting_gives(values: list[int], data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from("mov"), min_size=len(values), max_size=len(values)))
    marked, counted = (np.array([kind in wanted for kind in kinds]) for wanted in ("m", "mo"))
    if not marked.any():
        return
    scores = np.array(values, float)
    (excess,) = excess_of(scores, marked[None], counted[None])
    assert excess == pytest.approx(slow_excess(scores, marked, counted))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_the_area_is_that_of_mann_and_whitney(positives: list[int], negatives: list[int]) -> None:
    statistic = mannwhitneyu(positives, negatives).statistic if len({*positives, *negatives}) > 1 else None
    expected = 0.5 if statistic is None else statistic / (len(positives) * len(negatives))
    assert auroc_of(np.array(positives, float), np.array(negatives, float)) == pytest.approx(expected)
    assert np.isnan(auroc_of(np.array(positives, float), np.empty(0)))


def places(count: int, size: int = 32, side: int = 6, seed: int = 0) -> MarkRegions:
    """Squares at places of their own, with a void rim."""
    marked, around = np.zeros((2, count, size, size), bool)
    for row, (top, left) in enumerate(np.random.default_rng(seed).integers(1, size - side - 1, (count, 2)).tolist()):
        marked[row, top : top + side, left : left + side] = True
        around[row, top - 1 : top + side + 1, left - 1 : left + side + 1] = True
    return MarkRegions(marked, around & ~marked)


def test_maps_of_the_mark_show_it_and_maps_beside_it_do_not() -> None:
    regions = places(60)
    inside, outside = regions.marked.astype(np.float32), (~regions.marked).astype(np.float32)
    shown, hidden, nothing = (decide_maps(maps, regions, 0) for maps in (inside, outside, np.zeros_like(inside)))
    assert (shown.shows == 1).all()
    assert (shown.auroc == 1).all()
    assert shown.excess == pytest.approx(1 - 36 / (32 * 32 - 28))
    assert (hidden.shows == 0).all()
    assert (hidden.auroc == 0).all()
    assert (nothing.shows == 0).all()
    assert (nothing.excess == 0).all()
    assert (nothing.p == 1).all()


@pytest.mark.parametrize("kind", ["noise", "centre", "blobs", "sparse"])
def test_maps_that_do_not_depend_on_the_place_show_it_in_one_row_of_twenty_at_most(kind: str) -> None:
    """Whatever they prefer: over 200 rows the share stays below the level and three standard errors."""
    rows, chance = 200, np.random.default_rng(3)
    y, x = np.mgrid[0:32, 0:32]
    maps = chance.random((rows, 32, 32))
    if kind == "centre":
        maps = -np.broadcast_to(np.hypot(y - 16, x - 16), (rows, 32, 32))
    elif kind == "blobs":
        maps = maps[:, ::8, ::8].repeat(8, 1).repeat(8, 2)
    elif kind == "sparse":
        maps = np.where(maps > 0.97, maps, 0)
    decisions = decide_maps(maps, places(rows), 0)
    assert np.nanmean(decisions.shows) <= LEVEL + 3 * (LEVEL * (1 - LEVEL) / rows) ** 0.5


def test_few_rows_decide_nothing() -> None:
    regions = places(19)
    decisions = decide_maps(regions.marked.astype(np.float32), regions, 0)
    assert all(np.isnan(values).all() for values in decisions)


def use_with(uses: np.ndarray, ignores: np.ndarray) -> MarkUse:
    """A use whose rows are as they are said to be."""
    rows = len(uses)
    predicted = np.zeros(rows, int)
    effect = np.where(ignores, 0.0, 0.5)
    return MarkUse(
        np.arange(rows),
        np.ones(rows, int),
        predicted.copy(),
        predicted,
        np.where(uses, 1, 0),
        np.full((1, rows), NONE),
        predicted[None],
        effect,
        np.full((1, rows), np.nan),
        np.arange(2),
    )


def test_rates_are_counted_over_rows_of_either_kind() -> None:
    """Of 200 rows 100 use the mark, of which 75 are shown, and 50 ignore it, of which 5 are; the rest is open."""
    rows = np.arange(200)
    use = use_with(rows < 100, rows >= 150)
    shows = ((rows < 75) | (rows >= 195) | (rows == 120)).astype(float)
    decisions = MapDecisions(shows, np.full(200, 0.5), shows, np.full(200, 0.75))
    summed = sum_up([(decisions, use)], 0)
    assert summed.detection.mean == 0.75
    assert summed.false_alarm.mean == 0.1
    assert summed.shown.mean == 81 / 200
    assert (summed.used, summed.ignored) == (100, 50)
    assert summed.auroc.mean == (75 * 45 + 0.5 * (75 * 5 + 25 * 45)) / 5000
    assert summed.map_auroc.mean == 0.75
    document = summed.to_document("gradcam", "the tag")
    assert document["outcome"] == "yes"
    assert document["sentence"].startswith("gradcam would have told you: it shows the tag in 75.0%")
    twice = sum_up([(decisions, use), (decisions, use_with(rows < 0, rows < 200))], 0)
    assert twice.detection.mean == 0.75
    assert twice.false_alarm.mean == pytest.approx(81 / 200)
    nothing = sum_up([(decisions, use_with(rows < 100, rows < 0))], 0).to_document("m", "the tag")
    assert nothing["false_alarm"]["mean"] is None
    assert nothing["auroc"]["mean"] is None
    assert nothing["outcome"] == "open"
    assert "false alarms are not known" in nothing["sentence"]


def share(low: float, high: float) -> dict[str, float]:
    return {"mean": (low + high) / 2, "low": low, "high": high}


@pytest.mark.parametrize(
    ("detection", "false_alarm", "outcome"),
    [
        (share(0.5, 0.7), share(0.0, 0.49), "yes"),
        (share(0.5, 0.7), share(0.0, 0.5), "open"),
        (share(0.4, 0.7), share(0.0, 0.1), "open"),
        (share(0.1, 0.4), share(0.0, 0.1), "no"),
        (share(0.9, 1.0), share(0.5, 0.8), "always"),
        ({"mean": None, "low": None, "high": None}, share(0.0, 0.1), "open"),
    ],
)
def test_the_outcome_is_decided_by_the_limits(
    detection: dict[str, float], false_alarm: dict[str, float], outcome: str
) -> None:
    numbers = {"detection": detection, "false_alarm": false_alarm, "used": 5, "ignored": 1}
    assert judge_method(numbers) == outcome
    assert describe_detection("m", "the tag", numbers).startswith("m")


# --- rendered rows, and innocent data ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    path = tmp_path_factory.mktemp("tagged") / "tagged.h5"
    generate(specs.load("shortcut-6c").with_changes(rows=120, size=32), path, workers=1)
    return FlowerStore(path)


def test_rendered_tags_are_exchanged_as_the_renderer_would(tagged: FlowerStore) -> None:
    rows, indices = marked_rows(tagged["test"], CPU), np.arange(24)
    assert isinstance(rows, TaggedRows)
    shown, regions = rows.mark_numbers(indices), rows.regions(indices)
    stored = tagged["test"].rows(0, 24)
    assert (shown >= 0).all()
    assert (shown != stored.labels).all()
    same = rows.photograph(indices, shown)
    assert torch.equal(same, torch.from_numpy(stored.images.transpose(0, 3, 1, 2)) / 255)
    bare = rows.photograph(indices, np.full(24, NONE))
    changed = (bare != same).any(1).numpy()
    assert not (changed & ~regions.marked & ~regions.void).any()
    assert changed[regions.marked].mean() > 0.99


@pytest.mark.parametrize("kind", ["planted", "rendered"])
def test_innocent_data_have_the_same_pictures_with_marks_that_say_nothing(
    kind: str, greys: FlowerStore, tagged: FlowerStore, tmp_path: Path
) -> None:
    store = greys if kind == "planted" else tagged
    innocent = FlowerStore(write_innocent_data(store, tmp_path))
    assert write_innocent_data(store, tmp_path) == innocent.path
    for split in SPLITS:
        indices = np.arange(len(store[split]))
        first, second = (marked_rows(each[split], CPU) for each in (store, innocent))
        assert (store[split].labels == innocent[split].labels).all()
        none = np.full(len(indices), NONE)
        assert torch.equal(first.photograph(indices, none), second.photograph(indices, none))
    if kind == "planted":
        planting, rows = planting_of(innocent), innocent["train"]
        assert planting is not None
        share = count_agreeing(planting, rows.labels, rows.placed) / len(rows)
        assert abs(share - 1 / 3) < 4 * (2 / 9 / len(rows)) ** 0.5
    else:
        assert innocent.spec is not None
        assert innocent.spec.shortcut is not None
        assert innocent.spec.shortcut.train == pytest.approx(1 / 6)


def test_data_without_marks_have_none_to_exchange(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="its spec has no shortcut"):
        marked_rows(FlowerStore(small_file)["test"], CPU)
