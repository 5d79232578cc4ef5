"""What a model uses, pixel by pixel: closed forms of linear and additive models, and slow second versions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.data.images import as_images
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.effects import common_mass, share_of_top
from an8flower.evaluate.metrics.interventions import effect_map
from an8flower.evaluate.metrics.interventions.effect_map import (
    BUDGET,
    effects_of,
    measure_effects,
    mix_colour,
    points_within,
    twins_of,
)
from an8flower.evaluate.metrics.interventions.region_effects import (
    agreement,
    average_over_regions,
    cut_regions,
    measure_region_effects,
    shapley_values,
)
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric, parse_metrics
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.registry import metrics
from an8flower.evaluate.scoring.references import noise
from an8flower.interventions import as_class
from an8flower.store import FlowerStore

ROWS = 5
NAMES = ("effect_rank", "effect_share", "effect_mass")


class Linear(nn.Module):
    """Logits that are weighted sums of the pixels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.eyes, self.weights = nn.Identity(), nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("bchw,kchw->bk", self.eyes(images), self.weights)


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


def linear(store: FlowerStore) -> Classifier:
    size, classes = store.size, store.class_names
    weights = torch.randn(len(classes), 3, size, size, generator=torch.Generator().manual_seed(0))
    return wrap(Linear(weights), classes, size, "eyes", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def case_of(store: FlowerStore, classifier: Classifier, rows: tuple[int, ...] = tuple(range(ROWS))) -> Case:
    stored = store["test"].take(np.array(rows))
    images = as_images(stored.images, torch.device("cpu"))
    labels, masks, parts = (torch.from_numpy(array) for array in (stored.labels, stored.masks, stored.parts))
    world = World(store.spec, store["test"], torch.device("cpu"))
    return Case(
        classifier,
        Query(images, labels, torch.tensor(rows)),
        Truth(torch.tensor(rows), labels, masks, parts),
        None,
        world,
    )


def twin_pictures(case: Case, others: Tensor) -> Tensor:
    world = case.world
    return world.photograph(as_class(world.spec, world.factors(case.truth.rows), others.numpy())).images


@pytest.mark.parametrize("points", [1, 4])
def test_the_effect_of_a_linear_model_is_its_weights_times_the_difference(store: FlowerStore, points: int) -> None:
    classifier = linear(store)
    case = case_of(store, classifier)
    weights = classifier.network.weights.detach()
    expected = torch.zeros_like(case.query.images[:, 0])
    for other in range(6):
        others = torch.full((ROWS,), other)
        change = case.query.images - twin_pictures(case, others)
        expected += ((weights[case.query.targets] - weights[others]) * change).sum(1) / 5  # 0 for the class itself
    effects = measure_effects(case, points=points)
    assert torch.allclose(effects.maps, expected, atol=1e-5)
    assert (effects.errors < 1e-5).all()
    assert torch.allclose(effects.maps.sum((1, 2)), effects.gaps, atol=1e-3)


def test_an_effect_map_is_that_of_a_loop(store: FlowerStore) -> None:
    """A slow second version: row by row, scene by scene, each rendered alone, gradients of a plain pass."""
    classifier = build("flowernet", store.class_names, store.size, 3).eval()
    case, points = case_of(store, classifier), 3
    twins = twins_of(case.world, case.truth.rows, case.truth.labels)[:, :2]
    fast = measure_effects(case, twins, points)
    world, names = case.world, store.class_names
    for row in range(2):
        table, label = world.factors(case.truth.rows[row : row + 1]), int(case.truth.labels[row])
        total = torch.zeros(3, store.size, store.size)
        for other in twins[row].tolist():

            def picture(place: float, other: int = other, table: np.ndarray = table, label: int = label) -> Tensor:
                changed = table.copy()
                changed["petals.colour"] = mix_colour(names[other], names[label], place).encode()
                return world.photograph(changed).images

            for step in range(points):
                middle = picture((step + 0.5) / points).requires_grad_()
                logits = classifier(middle)[0]
                (logits[label] - logits[other]).backward()
                total += (middle.grad * (picture((step + 1) / points) - picture(step / points)))[0] / 2
        assert torch.allclose(total.sum(0), fast.maps[row], atol=1e-5)


def test_more_points_close_better_and_what_does_not_close_has_no_map(
    store: FlowerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of(store, build("flowernet", store.class_names, store.size, 3).eval())
    assert measure_effects(case, points=12).errors.mean() < measure_effects(case, points=1).errors.mean()
    monkeypatch.setattr(effect_map, "BOUND", 0.0)
    assert measure_effects(case, points=1).maps.isnan().all()


def test_a_model_that_tells_nothing_apart_has_no_effect(store: FlowerStore) -> None:
    classifier = linear(store)
    nn.init.zeros_(classifier.network.weights)
    case = case_of(store, classifier)
    assert measure_effects(case).maps.isnan().all()
    assert all(values.isnan().all() for values in score_all(parse_metrics(NAMES), noise(case.truth, 0), case).values())


def test_rows_do_not_depend_on_their_batch_nor_on_portions(store: FlowerStore) -> None:
    classifier = build("flowernet", store.class_names, store.size, 3).eval()
    whole = measure_effects(case_of(store, classifier))
    with classifier.holding(2):
        alone = [measure_effects(case_of(store, classifier, (row,))).maps for row in (4, 0)]
    assert torch.allclose(torch.cat(alone), whole.maps[[4, 0]], atol=1e-5)


def test_the_budget_holds(store: FlowerStore) -> None:
    classifier = linear(store)
    with classifier.counting() as cost:
        measure_effects(case_of(store, classifier))
    assert 0.7 * BUDGET * ROWS < cost.backwards <= BUDGET * ROWS
    assert cost.forwards <= BUDGET * ROWS
    for twins in range(1, effect_map.MOST_TWINS + 1):
        assert 3 <= points_within(BUDGET, twins) <= BUDGET // twins


def test_a_classifier_of_half_precision_is_asked_in_single(store: FlowerStore) -> None:
    classifier = linear(store)
    whole = measure_effects(case_of(store, classifier))
    half = linear(store).bfloat16()
    effects = measure_effects(case_of(store, half))
    assert half.dtype == torch.bfloat16
    assert torch.allclose(effects.maps, whole.maps, atol=0.1)  # the weights are coarser
    assert (effects.errors < 1e-4).all()  # what is asked of them is not


def test_effect_maps_are_measured_once_and_kept(
    store: FlowerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(case: Case, points: int | None = None) -> effect_map.EffectMaps:
        calls.append(points)
        return measure_effects(case, points=points)

    monkeypatch.setattr(effect_map, "measure_effects", counted)
    monkeypatch.setattr(effect_map, "_MEMORY", type(effect_map._MEMORY)())
    classifier = linear(store)
    case = case_of(store, classifier)
    case = case._replace(world=replace(case.world, folder=tmp_path))
    first = effects_of(case)
    assert effects_of(case).maps.equal(first.maps)
    effect_map._MEMORY.clear()  # as in another process
    assert effects_of(case).maps.equal(first.maps)
    assert len(calls) == 1
    with torch.no_grad():
        classifier.network.weights += 1e-3 * torch.randn_like(classifier.network.weights)
    assert not effects_of(case).maps.equal(first.maps)  # another model
    (path, *_) = sorted(tmp_path.iterdir())
    path.write_bytes(b"damaged")
    effect_map._MEMORY.clear()
    effects_of(case)
    assert len(list(tmp_path.iterdir())) == 2


@given(st.integers(1, 6), st.integers(0, 100))
def test_shapley_values_of_a_sum_are_its_terms(count: int, seed: int) -> None:
    worth = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert torch.allclose(shapley_values(lambda sets: sets.double() @ worth, count, seed, orders=1), worth)


def test_shapley_values_of_a_pair_share_what_only_both_reach() -> None:
    def both(sets: Tensor) -> Tensor:
        return (sets[:, 0] & sets[:, 1]).double() + sets[:, 2]

    assert torch.allclose(shapley_values(both, 3, 0, orders=1), torch.tensor([0.5, 0.5, 1]).double())


def test_regions_are_pieces_cut_by_a_grid() -> None:
    changed = np.zeros((6, 6), bool)
    changed[0, 0] = changed[0, 2] = changed[4:, 4:] = True
    regions = cut_regions(changed, cells=2)
    assert sorted(np.unique(regions)) == [-1, 0, 1, 2]  # two pieces in one cell, one piece in another
    assert ((regions >= 0) == changed).all()
    maps = torch.arange(36.0).view(1, 6, 6)
    means = average_over_regions(maps, torch.from_numpy(regions)[None])[0]
    assert (means[4:, 4:] == maps[0, 4:, 4:].mean()).all()
    assert means[0, 0] == 0
    assert means[0, 2] == 2
    assert means[3, 3] == 0


def test_the_two_derivations_agree_where_the_model_is_additive(store: FlowerStore) -> None:
    case = case_of(store, linear(store), (0, 1))
    regions, values = measure_region_effects(case, orders=1)
    maps = measure_effects(case).maps
    assert torch.allclose(average_over_regions(maps, regions), values, atol=1e-4)
    assert (agreement(maps, regions, values, case.truth.masks) > 0.99).all()


def test_the_region_effects_sum_to_the_gap(store: FlowerStore) -> None:
    case = case_of(store, build("flowernet", store.class_names, store.size, 3).eval(), (0, 1))
    _, values = measure_region_effects(case, orders=1)
    assert torch.allclose(values.sum((1, 2)), measure_effects(case).gaps, atol=1e-4)


@pytest.fixture(scope="module")
def case(store: FlowerStore) -> Case:
    return case_of(store, build("flowernet", store.class_names, store.size, 3).eval())


def score(name: str, maps: Tensor, case: Case) -> Tensor:
    return parse_metric(name).score(maps, case)


@pytest.mark.parametrize("name", NAMES)
def test_the_effect_map_scores_best(name: str, case: Case) -> None:
    ideal = metrics[name].item.ideal.ideal_maps(case)
    best = score(name, ideal, case)
    if name != "effect_share":
        assert torch.allclose(best, torch.ones(ROWS))
    for other in (noise(case.truth, 0), (case.truth.masks > 0).float() + 0.1 * noise(case.truth, 1), -ideal):
        assert not (score(name, other, case) > best).any()


def test_the_rank_is_spearmans(case: Case) -> None:
    maps, effects = noise(case.truth, 0), effects_of(case).maps
    expected = [
        spearmanr(first[mask], second[mask]).statistic
        for first, second, mask in zip(maps.numpy(), effects.numpy(), (case.truth.masks > 0).numpy(), strict=True)
    ]
    assert score("effect_rank", maps, case).numpy() == pytest.approx(expected, abs=1e-5)
    assert score("effect_rank", maps.exp(), case).numpy() == pytest.approx(expected, abs=1e-5)


def test_share_and_mass_by_hand() -> None:
    effects, mask = np.array([3.0, 1, 0, -2]), np.array([True, True, False, False])
    assert share_of_top(np.array([9.0, 0, 8, 0]), effects, mask) == 0.75
    assert share_of_top(np.array([9.0, 5, 5, 0]), effects, mask) == 0.875  # half of the tied pixel
    assert share_of_top(np.zeros(4), effects, mask) == 0.5  # two of four pixels, whichever
    assert common_mass(np.array([1.0, 1, -5, 0]), effects, mask) == 0.75
    assert common_mass(np.array([0.0, 0, 1, 0]), effects, mask) == 0
    assert np.isnan(common_mass(np.zeros(4), effects, mask))
    assert np.isnan(share_of_top(effects, effects, np.zeros(4, bool)))


@pytest.mark.parametrize("name", ["effect_rank", "effect_share"])
def test_chance_is_what_noise_scores(name: str, case: Case) -> None:
    scores = torch.stack([score(name, noise(case.truth, repeat), case) for repeat in range(40)])
    assert scores.mean().item() == pytest.approx(metrics[name].item.chance(case.truth.masks).mean().item(), abs=0.02)


def test_points_are_an_option(case: Case) -> None:
    metric = parse_metric("effect_mass:points=2")
    assert metric.score(metric.ideal.ideal_maps(case), case).tolist() == pytest.approx([1] * ROWS)
    with pytest.raises(WrongUsage, match="points"):
        parse_metric("effect_mass:points=-1")
