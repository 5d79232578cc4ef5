"""What maps of one value score, by every metric of localisation and of effects, is what the metric's card says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.data.images import as_images
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.effects import NO_MASS, NO_ORDER, WHY_UNDEFINED
from an8flower.evaluate.metrics.guarded import score_guarded
from an8flower.evaluate.metrics.interventions import effect_map
from an8flower.evaluate.metrics.localisation import LIKE_CHANCE, POSITIVE, SILENT
from an8flower.evaluate.metrics.metric import Metric
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models.classifier import wrap
from an8flower.evaluate.registry import metrics
from an8flower.evaluate.results.statistics.scores import NO_MAP
from an8flower.evaluate.scoring.long_rows import rows_of_metrics
from an8flower.store import FlowerStore

ROWS = 3
FAMILIES = ("localisation", "effect")
NAMES = [name for name in metrics.names() if metrics[name].item.family in FAMILIES]
VALUES = (-1.5, 0.0, 0.25)


class Colours(nn.Module):
    """Logits that are weighted sums of the mean colours in the picture's quarters."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.eyes = nn.AdaptiveAvgPool2d(2)
        self.weights = nn.Parameter(torch.randn(12, classes, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        return self.eyes(images).flatten(1) @ self.weights


@pytest.fixture(scope="module")
def case(small_file) -> Case:
    store = FlowerStore(small_file)
    stored = store["test"].take(np.arange(ROWS))
    labels, masks, parts, void = map(torch.from_numpy, (stored.labels, stored.masks, stored.parts, stored.void))
    names = store.class_names
    model = wrap(Colours(len(names)), names, store.size, "eyes", mean=(0, 0, 0), std=(1, 1, 1)).eval()
    query = Query(as_images(stored.images, torch.device("cpu")), labels, torch.arange(ROWS))
    truth = Truth(torch.arange(ROWS), labels, masks, parts, void)
    return Case(model, query, truth, None, World(store.spec, store["test"], torch.device("cpu")))


def score(metric: Metric, maps: Tensor, case: Case) -> tuple[Tensor, list[str | None]]:
    """The value of each row, (B,) or (B, T), and the reason why it has none, as a run files it."""
    with torch.no_grad():
        values = score_guarded([metric], maps, case)
    table = rows_of_metrics((metric,), values, case.truth, {"explainer": "x"})
    return values.values[metric.name], table["reason"].to_pylist()


def chance_of(metric: Metric, case: Case) -> Tensor:
    """The exact chance of each row, (B,)."""
    assert metric.chance
    marked = case.truth.counted if metric.leaves_void_out else case.truth.masks
    return metric.chance(marked)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_a_map_of_one_value_scores(case: Case, name: str, value: float) -> None:
    metric = parse_metric(name)
    words = metric.card()["constant"]
    values, reasons = score(metric, torch.full_like(case.query.images[:, 0], value), case)
    if words.endswith(SILENT) and not (words.startswith("if positive") and value > 0):
        assert values.isnan().all()
        assert all(reason.endswith(NO_MAP) for reason in reasons), "so that it counts as chance"
        return
    assert not values.isnan().any()
    assert reasons == [None] * ROWS
    if words in (LIKE_CHANCE, POSITIVE) and metric.chance:
        assert values.tolist() == pytest.approx(chance_of(metric, case).tolist(), abs=1e-6)
    elif metric.chance:  # a little less, as the card says
        pixels = float((case.truth.counted >= 0).flatten(1).sum(1).min())
        lacking = chance_of(metric, case) - values
        assert (lacking > 0).all()
        assert (lacking < (1 + np.log(pixels)) / pixels).all() or name == "iou_area"
        assert (lacking < 0.02).all()


@pytest.mark.parametrize("name", [*NAMES, "average_precision:classes=both", "le:overlap=hard", "best_set:metric=f1"])
def test_a_map_that_varies_among_void_pixels_alone_is_constant(case: Case, name: str) -> None:
    """Where a metric leaves void pixels out, what a map shows there makes no difference, nor does its size."""
    metric = parse_metric(name)
    if not metric.leaves_void_out or name in ("le", "om", "le:overlap=hard", "box_accuracy"):  # boxes look everywhere
        return
    flat = torch.full_like(case.query.images[:, 0], 0.25)
    spotted = torch.where(case.truth.void, 5.0, flat)
    first, second = score(metric, flat, case), score(metric, spotted, case)
    assert first[1] == second[1]
    torch.testing.assert_close(first[0], second[0], equal_nan=True)


def test_both_classes_of_average_precision_say_nothing_of_a_constant_map(case: Case) -> None:
    values, reasons = score(
        parse_metric("average_precision:classes=both"), torch.ones_like(case.query.images[:, 0]), case
    )
    assert values.isnan().all()
    assert all(reason.endswith(NO_MAP) for reason in reasons)


def test_rows_without_an_effect_map_are_not_blamed_on_the_map(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row has no effect map, the second a map of one value, the third a map with order and mass."""
    effects = effect_map.measure_effects(case)
    effects.maps[0] = torch.nan
    effects.maps[1:, 0, 0] = 1.0  # so that there is a positive effect in any case
    monkeypatch.setattr("an8flower.evaluate.metrics.effects.effects_of", lambda case, points: effects)
    maps = torch.stack([torch.zeros_like(effects.maps[0]), torch.zeros_like(effects.maps[0]), effects.maps[2]])
    for name, why in (("effect_rank", NO_ORDER), ("effect_mass", NO_MASS), ("effect_share", None)):
        values, reasons = score(parse_metric(name), maps, case)
        assert reasons == [WHY_UNDEFINED, why, None], name
        assert values.isnan().tolist() == [True, why is not None, False]
    empty = replace_masks(case)
    assert score(parse_metric("effect_rank"), maps, empty)[1][1:] == ["the mask is empty"] * 2


def replace_masks(case: Case) -> Case:
    """The same case with masks that mark nothing."""
    return case._replace(truth=case.truth._replace(masks=torch.zeros_like(case.truth.masks)))
