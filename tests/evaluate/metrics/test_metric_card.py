"""What a metric says of itself, and that scores which share work share it."""

import dataclasses
import json

import pytest
import torch
from torch import Tensor

from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.metric import MEASURED, Metric, Reading, reasons, score_all
from an8flower.evaluate.registry import metrics

PROMISED = {
    "name",
    "family",
    "definition",
    "unit",
    "bounds",
    "higher_is_better",
    "chance",
    "sign",
    "ties",
    "undefined",
    "level",
    "source",
    "version",
}
REGISTERED = [  # other tests register metrics that go wrong, and call them strange
    name for name in metrics.names() if isinstance(metrics[name].item, Metric) and not name.startswith("strange_")
]
ROWS = torch.arange(2)
CASE = Case(None, Query(torch.zeros(2, 3, 4, 4), ROWS, ROWS), Truth(ROWS, ROWS, torch.ones(2, 4, 4), None))
MAPS = torch.arange(32.0).view(2, 4, 4)


def brightest(maps: Tensor, case: Case) -> Tensor:
    return maps.flatten(1).amax(1)


def made(name: str, **changes: object) -> Metric:
    plain = Metric(
        name=name,
        family="made up",
        score=brightest,
        unit="brightness",
        bounds=(0.0, 255.0),
        higher_is_better=True,
        sign="as it is",
        ties="do not matter",
        undefined="never",
        source="here",
        version=1,
    )
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize("name", REGISTERED)
class TestEveryRegisteredMetric:
    def test_its_card_travels_as_json_and_is_complete(self, name: str) -> None:
        card = metrics[name].item.card()
        assert json.loads(json.dumps(card)) == card
        assert card.keys() >= PROMISED
        assert not [key for key, value in card.items() if value == ""]

    def test_its_entry_and_its_card_agree(self, name: str) -> None:
        entry = metrics[name]
        assert (entry.name, entry.about["family"]) == (entry.item.name, entry.item.family)

    def test_it_can_be_a_key(self, name: str) -> None:
        assert metrics[name].item in {metrics[name].item}


def test_localisation_cards_say_what_the_truth_scores() -> None:
    cards = [metrics[name].item.card() for name in REGISTERED if metrics[name].item.family == "localisation"]
    bounded = [card for card in cards if card["bounds"][1] is not None]
    assert all(card["oracle"].startswith("1" if card["higher_is_better"] else "0") for card in bounded)
    assert all(card["oracle"] and card["resize"] for card in cards)
    of_data_sets = {card["name"] for card in cards if card["level"] == "data set"}
    assert of_data_sets == {"iou_best", "box_accuracy", "miou_pooled"}


def test_chance_without_a_formula_is_measured() -> None:
    assert made("plain").card()["chance"] == MEASURED


def test_chance_is_told_by_the_first_paragraph_of_its_formula() -> None:
    def formula(masks: Tensor) -> Tensor:
        """exact: one
        half

        More that no card needs.
        """
        return masks

    assert made("plain", chance=formula).card()["chance"] == "exact: one half"


def test_further_fields_join_the_card() -> None:
    assert made("plain", further={"threshold": "none"}).card()["threshold"] == "none"


def test_scores_that_share_a_preparation_share_its_result() -> None:
    calls = []

    def prepare(maps: Tensor, truth: Truth) -> Tensor:
        calls.append(len(maps))
        return maps.flatten(1)

    low = made("low", score=Reading(prepare, lambda flat: flat.amin(1)))
    high = made("high", score=Reading(prepare, lambda flat: flat.amax(1)))
    found = score_all([low, high, made("plain")], MAPS, CASE)
    assert {name: values.tolist() for name, values in found.items()} == {
        "low": [0, 16],
        "high": [15, 31],
        "plain": [15, 31],
    }
    assert calls == [2]
    assert low.score(MAPS, CASE).tolist() == [0, 16]


def test_large_batches_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("an8flower.evaluate.metrics.metric._PIXELS_AT_ONCE", 16)
    sizes = []
    low = made(
        "low", score=Reading(lambda maps, truth: sizes.append(len(truth.masks)) or maps, lambda m: m.amin((1, 2)))
    )
    assert score_all([low], MAPS, CASE)["low"].tolist() == [0, 16]
    assert sizes == [1, 1]


def test_reason_names_the_mask_or_else_the_card() -> None:
    masks = torch.stack([torch.zeros(3, 4), torch.ones(3, 4), 2 * torch.eye(3, 4)]).to(torch.uint8)
    assert reasons(made("plain", undefined="the map is constant"), Truth(masks, masks, masks, None)) == [
        "the mask is empty",
        "the mask covers the whole image",
        "the map is constant",
    ]
