"""Deletion and insertion between two classes of one scene, against loops that do it pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.counterfactual import Counterfactual
from an8flower.evaluate.metrics.interventions import effect_map
from an8flower.evaluate.metrics.interventions.effect_map import effects_of
from an8flower.evaluate.metrics.interventions.effects import Interventions
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.scoring.references import noise
from an8flower.factors import COLOURS
from an8flower.interventions import as_class
from an8flower.store import FlowerStore

MakeCase = Callable[..., Case]
NAMES = ("counterfactual_deletion", "counterfactual_insertion")
ROWS = 6


class ColourReader(nn.Module):
    """For each class how much of the picture has nearly its colour of petals: a logit that is a sum over pixels."""

    def __init__(self, colours: Tensor, gain: float) -> None:
        super().__init__()
        self.eyes, self.gain = nn.Identity(), gain
        self.register_buffer("colours", colours)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.eyes(images)
        both = torch.einsum("bchw,kc->bkhw", seen, self.colours)
        away = seen.square().sum(1, keepdim=True) - 2 * both + self.colours.square().sum(1).view(-1, 1, 1)
        return self.gain * torch.exp(-20 * away).sum((2, 3))


def colour_reader(store: FlowerStore, gain: float) -> Classifier:
    codes = [COLOURS[name].lstrip("#") for name in store.class_names]
    colours = torch.tensor([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in codes])
    reader = ColourReader(colours, gain)
    return wrap(reader, store.class_names, store.size, "eyes", mean=(0, 0, 0), std=(1, 1, 1)).eval()


def case_of(store: FlowerStore, classifier: Classifier, rows: range = range(ROWS)) -> Case:
    found = store["test"].take(np.array(rows))
    images = torch.from_numpy(found.images).permute(0, 3, 1, 2).contiguous().float() / 255
    labels, masks, parts = (torch.from_numpy(each) for each in (found.labels, found.masks, found.parts))
    query = Query(images, labels, torch.tensor(list(rows)) + 3)
    world = World(store.spec, store["test"], torch.device("cpu"))
    return Case(classifier, query, Truth(torch.tensor(list(rows)), labels, masks, parts), None, world)


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def case(store: FlowerStore) -> Case:
    """Six rows of 40 px, and a model that reads colours."""
    return case_of(store, colour_reader(store, 0.005))


def other_pictures(case: Case) -> Tensor:
    """The same scenes as the near class."""
    near = case.world.near_classes(case.truth.rows, case.truth.labels).numpy()
    return case.world.photograph(as_class(case.world.spec, case.world.factors(case.truth.rows), near)).images


def slow(case: Case, maps: Tensor, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """The area by loops; the maps' values have to be distinct."""
    areas = []
    for row, target in enumerate(case.query.targets.tolist()):
        order = np.argsort(-maps[row].flatten().numpy())
        chances = []
        for step in range(steps + 1):
            picture = start[row].clone().flatten(1)
            first = order[: round(step * len(order) / steps)]
            picture[:, first] = end[row].flatten(1)[:, first]
            logits = case.classifier(picture.view(1, *start[row].shape))
            chances.append(float(logits.softmax(1)[0, target]))
        areas.append(np.trapezoid(chances) / steps if hasattr(np, "trapezoid") else np.trapz(chances) / steps)
    return torch.tensor(areas, dtype=torch.float32)


@pytest.mark.parametrize("steps", [28, 7, 1])
def test_the_curves_are_those_of_a_loop(case: Case, steps: int) -> None:
    maps, other, images = noise(case.truth, 0), other_pictures(case), case.query.images
    deletion = parse_metric(f"{NAMES[0]}:steps={steps}").score(maps, case)
    insertion = parse_metric(f"{NAMES[1]}:steps={steps}").score(maps, case)
    assert torch.allclose(deletion, slow(case, maps, images, other, steps), atol=1e-5)
    assert torch.allclose(insertion, slow(case, maps, other, images, steps), atol=1e-5)


def differing(case: Case) -> Tensor:
    """1 where the two pictures differ, 0 elsewhere: (B, H, W)."""
    return (case.query.images != other_pictures(case)).any(1).float()


def test_the_best_map_marks_what_differs_and_reaches_the_bound_of_the_card(store: FlowerStore) -> None:
    case = case_of(store, colour_reader(store, 0.005))
    maps = differing(case)
    steps = 4
    assert (maps.mean((1, 2)) < 1 / steps).all()
    targets = case.query.targets[:, None]
    p, q = (
        case.classifier(images).softmax(1).gather(1, targets)[:, 0]
        for images in (case.query.images, other_pictures(case))
    )
    deletion, insertion = (parse_metric(f"{name}:steps={steps}").score(maps, case) for name in NAMES)
    assert torch.allclose(deletion, (p / 2 + (steps - 0.5) * q) / steps, atol=1e-5)
    assert torch.allclose(insertion, (q / 2 + (steps - 0.5) * p) / steps, atol=1e-5)
    worst = [parse_metric(f"{name}:steps={steps}").score(-maps, case) for name in NAMES]
    assert (deletion < worst[0]).all()
    assert (insertion > worst[1]).all()


def test_the_truth_beats_chance_on_a_model_that_reads_the_petals(case: Case) -> None:
    truth, chance = (case.truth.masks > 0).float(), noise(case.truth, 0)
    deletion, insertion = (parse_metric(name).score for name in NAMES)
    assert (deletion(truth, case) < deletion(chance, case)).all()
    assert (insertion(truth, case) > insertion(chance, case)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_what_the_model_uses(name: str, case: Case) -> None:
    """The mask leaves the order within the evidence to chance; the effect map, its truth, orders it as the model."""
    metric = parse_metric(f"{name}:steps=200")
    truths = (metric.ideal.ideal_maps(case), (case.truth.masks > 0).float())
    best, mask = (float(metric.score(maps, case).mean()) for maps in truths)
    assert torch.equal(metric.ideal.ideal_maps(case), effects_of(case).maps)
    assert best < mask if name == NAMES[0] else best > mask
    assert metric.asks_for_each_map  # so maps of other rows are not scored
    assert not parse_metric("effect_share").asks_for_each_map


def test_the_mask_stands_in_for_an_effect_map_that_does_not_close(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effect_map, "BOUND", -1.0)
    monkeypatch.setattr(effect_map, "_MEMORY", type(effect_map._MEMORY)())
    assert torch.equal(parse_metric(NAMES[0]).ideal.ideal_maps(case), (case.truth.masks > 0).float())


def test_a_model_that_sees_nothing_keeps_its_probability(store: FlowerStore) -> None:
    blind = case_of(store, colour_reader(store, 0.0))
    for name in NAMES:
        assert torch.allclose(parse_metric(name).score(noise(blind.truth, 0), blind), torch.full((ROWS,), 1 / 6))


def test_only_what_differs_passes_through_the_network_and_once(case: Case) -> None:
    metrics = [parse_metric(name) for name in NAMES]
    with case.classifier.counting() as cost:
        score_all([*metrics, parse_metric(f"{NAMES[0]}:steps=14")], noise(case.truth, 0), case)
    assert cost.forwards <= ROWS * (2 + 2 * 27)
    with case.classifier.counting() as cost:
        score_all([parse_metric(f"{name}:steps=4") for name in NAMES], differing(case), case)
    assert cost.forwards == ROWS * 2  # all that differs goes at the first step


def test_a_scene_that_looks_the_same_has_no_value(case: Case) -> None:
    class Alike(World):
        def near_classes(self, rows: Tensor, labels: Tensor) -> Tensor:
            return labels

    world = case.world
    alike = case._replace(world=Alike(world.spec, world.split, world.device))
    for name in NAMES:
        assert parse_metric(name).score(noise(case.truth, 0), alike).isnan().all()


def test_rows_do_not_depend_on_each_other_nor_values_on_scale(store: FlowerStore) -> None:
    classifier = build("flowernet", store.class_names, store.size, seed=1).eval()
    metrics = [parse_metric(name) for name in (*NAMES, "effect_correlation", "top_part")]
    whole = case_of(store, classifier)
    maps = noise(whole.truth, 0).round(decimals=1)  # with ties
    with torch.no_grad():
        all_rows = score_all(metrics, maps, whole)
        some = score_all(metrics, maps[2:5], case_of(store, classifier, range(2, 5)))
        scaled = score_all(metrics[:2], 4 * maps - 1, whole)
    for name, values in some.items():
        assert torch.allclose(values, all_rows[name][2:5], atol=1e-5, equal_nan=True)
    for name, values in scaled.items():
        assert torch.equal(values, all_rows[name])


def test_ties_are_broken_by_chance_and_not_by_position(case: Case) -> None:
    constant = torch.zeros_like(case.truth.masks, dtype=torch.float32)
    other_seeds = case._replace(query=case.query._replace(seeds=case.query.seeds + 100))
    score = parse_metric(NAMES[0]).score
    assert torch.equal(score(constant, case), score(constant + 5, case))
    assert not torch.equal(score(constant, case), score(constant, other_seeds))


@settings(max_examples=8)
@given(seed=st.integers(0, 99), levels=st.integers(1, 6), shift=st.floats(-5, 5))
def test_values_are_probabilities(case: Case, seed: int, levels: int, shift: float) -> None:
    maps = torch.randint(levels, case.truth.masks.shape, generator=torch.Generator().manual_seed(seed)) + shift
    for name in NAMES:
        values = parse_metric(f"{name}:steps=3").score(maps.float(), case)
        assert ((values >= 0) & (values <= 1)).all()


def test_pictures_on_the_way_are_made_of_the_two(case: Case) -> None:
    between = Counterfactual(Interventions(noise(case.truth, 0), case))
    rows = torch.arange(ROWS)
    for key in (0, 3, -1, -4):
        mixed = between.mix(rows, torch.full((ROWS,), key))
        changed = (mixed != case.query.images).any(1).flatten(1).sum(1)
        expected = torch.full((ROWS,), key) if key >= 0 else between.size - (-1 - key)
        assert torch.equal(changed, expected)
        assert ((mixed == case.query.images) | (mixed == other_pictures(case))).all()


def test_no_step_is_refused() -> None:
    with pytest.raises(WrongUsage, match="steps: came 0"):
        parse_metric("counterfactual_deletion:steps=0")
    assert replace(parse_metric(NAMES[0]).options, steps=3).steps == 3
