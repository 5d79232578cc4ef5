"""What certificates say of networks whose reasons are known, because they were written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower import draw, interventions
from an8flower.commands.certificate_table import show_certificates
from an8flower.errors import WrongUsage
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.interventions.reliance import (
    donors_of,
    measure_reliance,
    shares,
    shortcut_rivals,
    warnings,
)
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.training import train
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.trust import certificate as certifying
from an8flower.evaluate.trust import questions
from an8flower.evaluate.trust.certificate import Certificate, Effect, certify, certify_models
from an8flower.generate import generate
from an8flower.spec import DatasetSpec, from_mapping, load
from an8flower.store import FlowerStore

CPU = torch.device("cpu")
PRIMARY = ["#e01010", "#10e010", "#1010e0"]
GREY = {f"{part}.colour": "#808080" for part in ("disc", "stem", "leaves", "background")}
# the flower in the upper part of the picture, the tag below it
PLACES = {"view.scale": 0.6, "view.y": 0.2, "view.x": 0, "tag.x": 0.5, "tag.y": -0.85, "tag.size": 1.5, "tag.count": 1}
ROWS = 40


def spec_of(classes: dict[str, Any], nuisance: dict[str, Any], **more: Any) -> DatasetSpec:
    rows = {"train": 6, "val": 6, "test": ROWS}
    given = {"name": "x", "size": 24, "rows": rows, "classes": classes, "nuisance": nuisance, **more}
    return from_mapping(given, "x")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three classes of coloured petals, all else grey but for a tag that has the colour of another class."""
    shortcut = {"factor": "tag.colour", "values": PRIMARY, "train": 1.0, "test": 0.0}
    return world_of(spec_of({"petals.colour": PRIMARY}, {**GREY, **PLACES}, shortcut=shortcut), tmp_path_factory)


@pytest.fixture(scope="module")
def potted(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two classes, with and without a red pot; all else grey."""
    spec = spec_of({"pot.count": [1, 0]}, {**GREY, "petals.colour": "#808080", "pot.colour": "#e01010"})
    return world_of(spec, tmp_path_factory)


def world_of(spec: DatasetSpec, places: pytest.TempPathFactory) -> World:
    path = places.mktemp("world") / "x.h5"
    generate(spec, path, workers=1)
    return World.of(FlowerStore(path)["test"], CPU)


class Tints(nn.Module):
    """One logit a class: how much of its primary colour there is in some lines of the picture; grey has none."""

    def __init__(self, lines: slice) -> None:
        super().__init__()
        self.seen = nn.Identity()
        self.lines = lines

    def forward(self, images: Tensor) -> Tensor:
        looked_at = self.seen(images)[:, :, self.lines]
        return 100 * (looked_at - looked_at.mean(1, keepdim=True)).mean((2, 3))


class Constant(nn.Module):
    """The same logits for every picture."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.seen = nn.Identity()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images: Tensor) -> Tensor:
        return 0 * self.seen(images).mean((1, 2, 3))[:, None] + self.logits


class Redness(nn.Module):
    """The first class where there is anything red."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        red = (self.seen(images)[:, 0] - images[:, 2]).amax((1, 2))
        return torch.stack([red, torch.full_like(red, 0.1)], dim=1)


def wrapped(network: nn.Module, classes: int = 3) -> Classifier:
    return wrap(network, "abcdef"[:classes], 24, "seen", mean=(0, 0, 0), std=(1, 1, 1)).eval()


PETALS, TAG = slice(0, 19), slice(20, 24)


def certify_all(network: nn.Module, world: World, **more: Any) -> Certificate:
    return certify(wrapped(network, world.spec.class_count), world, np.arange(ROWS), **more)


def effect(found: Certificate, part: str, change: str) -> Effect:
    (only,) = [each for each in found.effects if (each.part, each.change) == (part, change)]
    return only


def test_a_network_that_looks_at_the_petals(world: World) -> None:
    found = certify_all(Tints(PETALS), world)
    assert found.accuracy.mean == found.flip_rate.mean == found.stability.mean == 1
    assert found.flip_rate.n == ROWS
    assert {share.mean for share in found.stability_by_group.values()} == {1}
    assert found.shortcut
    assert (found.shortcut.by_shortcut.mean, found.shortcut.by_evidence.mean) == (0, 1)
    assert found.verdict.startswith("Tints-seedNone")
    # In 24 pixels every second pixel of the mask is void, and the rim of the petals outweighs the rest in some rows.
    assert "relies in part on the designed evidence, the petals" in found.verdict
    assert "It reads the evidence, and the void pixels" in found.verdict
    assert effect(found, "petals", "swapped").changed.mean == 1
    assert effect(found, "petals", "swapped").probability.mean < -0.5
    for change in ("redrawn", "swapped", "removed"):
        tag = effect(found, "tag", change)
        assert tag.logit.mean == tag.probability.mean == tag.changed.mean == 0  # no line of its own is looked at


def test_what_removing_takes_away_is_known(world: World) -> None:
    """Without petals everything is grey: each logit is 0, and the first class is predicted."""
    found = certify_all(Tints(PETALS), world)
    labels, table = world.split.labels[:], world.factors(torch.arange(ROWS))
    logits = wrapped(Tints(PETALS))(world.photograph(table).images)
    own = logits[np.arange(ROWS), labels]
    removed = effect(found, "petals", "removed")
    assert removed.logit.mean == pytest.approx(-float(own.mean()), rel=1e-4)
    assert removed.probability.mean == pytest.approx(1 / 3 - float(logits.softmax(1).amax(1).mean()), rel=1e-4)
    assert removed.changed.mean == pytest.approx((labels != 0).mean())
    assert removed.in_the_data == 0


def test_a_network_that_looks_at_the_tag_alone(world: World) -> None:
    found = certify_all(Tints(TAG), world)
    assert found.accuracy.mean == found.flip_rate.mean == 0  # the tag never agrees in the test split
    assert found.shortcut
    assert (found.shortcut.by_shortcut.mean, found.shortcut.by_evidence.mean) == (1, 0)
    assert found.stability_by_group["petals"].mean == found.stability_by_group["leaves"].mean == 1
    assert effect(found, "petals", "swapped").logit.mean == 0
    assert effect(found, "tag", "swapped").changed.mean == 1
    assert "does not rely on the designed evidence" in found.verdict
    assert "it decides 100.0% of the cases, the evidence 0.0%" in found.verdict


def test_the_tag_is_drawn_as_the_renderer_draws_it(world: World) -> None:
    """It stays where the drawn tag happens to have the colour that the row had."""
    table, rows = world.factors(torch.arange(ROWS)), np.arange(ROWS)
    same = [
        interventions.redraw(world.spec, "test", rows, table, ["tag.colour"], repeat)["tag.colour"]
        == table["tag.colour"]
        for repeat in range(questions.DRAWS)
    ]
    found = certify_all(Tints(TAG), world)
    assert found.stability_by_group["tag"].mean == pytest.approx(np.mean(same))
    assert found.stability.mean == pytest.approx(np.mean(same))
    assert 0 < np.mean(same) < 1


def test_a_network_that_looks_at_nothing(world: World) -> None:
    found = certify_all(Constant(0.0, 2.0, 1.0), world)
    labels = world.split.labels
    assert found.flip_rate.mean == 0  # a donor that is predicted anyway shows nothing, and does not count
    assert found.stability.mean == 1
    assert found.accuracy.mean == pytest.approx((labels == 1).mean())
    for each in found.effects:
        assert each.reason or each.logit.mean == each.changed.mean == 0
    decided = found.shortcut
    assert decided
    assert decided.by_evidence.mean == pytest.approx((labels == 1).mean())
    assert decided.by_shortcut.mean == pytest.approx((labels != 1).mean() / 2)  # one of its two rivals
    assert decided.by_neither.mean == pytest.approx((labels != 1).mean() / 2)


def test_parts_that_are_missing_in_a_class(potted: World) -> None:
    found = certify_all(Redness(), potted)
    assert found.accuracy.mean == found.flip_rate.mean == found.stability.mean == 1
    there = (potted.split.labels == 0).sum()
    swapped, removed = effect(found, "pot", "swapped"), effect(found, "pot", "removed")
    assert swapped.changed.mean == swapped.in_the_data == 1
    assert swapped.changed.n == ROWS  # taken away where it is there, added where it is missing
    assert removed.changed.mean == removed.in_the_data == 1
    assert (removed.changed.n, removed.changed.undefined) == (there, ROWS - there)
    assert effect(found, "pot", "redrawn").changed.n == there
    assert effect(found, "petals", "swapped").reason == "petals: tells no class"
    assert effect(found, "petals", "removed").in_the_data == 0
    assert found.shortcut is None


def test_rows_without_a_part_say_so(potted: World) -> None:
    without = np.flatnonzero(potted.split.labels == 1)
    found = certify(wrapped(Redness(), 2), potted, without)
    removed = effect(found, "pot", "removed")
    assert removed.reason == "pot: none of these rows has it"
    assert np.isnan(removed.logit.mean)
    told = found.document()
    json.dumps(told, allow_nan=False)
    assert next(each for each in told["effects"] if each["reason"])["logit"]["mean"] is None


def test_numbers_depend_neither_on_the_batch_nor_on_the_portions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3))
    model = wrap(network, "abc", 24, "1").eval()
    some = certify(model, world, np.arange(10), batch=7)
    monkeypatch.setattr("an8flower.evaluate.metrics.interventions.reliance.AT_ONCE", 3)
    other = certify(model, world, np.arange(10), batch=1)
    assert_alike(some.document(), other.document())
    assert certify(model, world, np.arange(10), seed=1).document() != some.document()


def assert_alike(some: Any, other: Any) -> None:
    if isinstance(some, dict):
        assert some.keys() == other.keys()
        for key in some:
            assert_alike(some[key], other[key])
    elif isinstance(some, list):
        for one, two in zip(some, other, strict=True):
            assert_alike(one, two)
    else:
        assert some == (pytest.approx(other, abs=1e-4) if isinstance(some, float) else other)


def test_the_model_is_given_back_as_it_was(world: World) -> None:
    model = wrapped(Tints(PETALS)).train()
    before = model.digest
    certify(model, world, np.arange(3))
    assert model.training
    assert model.digest == before


def test_progress_reaches_the_end(world: World) -> None:
    told: list[tuple[int, int]] = []
    certify_all(Constant(0.0, 1.0, 2.0), world, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, len(told)) for done in range(1, len(told) + 1)]


def test_never_more_images_than_allowed(world: World) -> None:
    sizes: list[int] = []

    class Watching(Constant):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            return super().forward(images)

    certify_all(Watching(0.0, 1.0, 2.0), world, batch=5)
    assert max(sizes) == 5


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8, unique=True), st.integers(1, 6), st.data())
@settings(max_examples=25)
def test_donors_are_allowed_different_and_the_rows_own(rows: list[int], count: int, data: st.DataObject) -> None:
    flags = st.lists(st.booleans(), min_size=4, max_size=4)
    candidates = np.array([data.draw(flags) for _ in rows])
    found = donors_of(candidates, np.array(rows), count, 3)
    assert found.shape == (count, len(rows))
    for i in range(len(rows)):
        given_to = found[:, i][found[:, i] >= 0].tolist()
        assert len(given_to) == len(set(given_to)) == min(count, candidates[i].sum())
        assert candidates[i, given_to].all()
    alone = donors_of(candidates[-1:], np.array(rows[-1:]), count, 3)
    assert (alone[:, 0] == found[:, -1]).all()


def test_classes_that_share_a_value_of_the_shortcut_are_no_rivals(tmp_path_factory: pytest.TempPathFactory) -> None:
    shortcut = {"factor": "tag.colour", "values": [PRIMARY[0], PRIMARY[0], PRIMARY[2]], "train": 1.0, "test": 1.0}
    world = world_of(spec_of({"petals.colour": PRIMARY}, {**GREY, **PLACES}, shortcut=shortcut), tmp_path_factory)
    table = world.factors(torch.tensor([0, 1]))
    assert shortcut_rivals(world, table, np.array([0, 2])).tolist() == [[False, False, True], [True, True, False]]
    assert not shortcut_rivals(world, interventions.without(table, "tag"), np.array([0, 2])).any()
    found = certify_all(Tints(TAG), world)
    assert found.shortcut
    assert found.shortcut.by_shortcut.mean == 1  # an answer with the same tag goes along with it


def rows_of_reliance(network: nn.Module, world: World) -> dict[str, np.ndarray]:
    model, rows, labels = wrapped(network), np.arange(ROWS), world.split.labels
    predicted = model(world.photograph(world.factors(torch.from_numpy(rows))).images).argmax(1).detach().numpy()
    return measure_reliance(model, world, rows, labels, predicted, batch=7)


@pytest.mark.parametrize(
    ("network", "relies", "follows", "by_tag"),
    [(lambda: Tints(PETALS), 1, 1, 0), (lambda: Tints(TAG), 0, 0, 1)],
    ids=["petals", "tag"],
)
def test_reliance_of_single_rows(
    world: World, network: Callable[[], nn.Module], relies: float, follows: float, by_tag: float
) -> None:
    found = rows_of_reliance(network(), world)
    assert (found["relies"] == relies).all()
    assert set(found["follows"][~np.isnan(found["follows"])]) == {follows}
    assert (found["shortcut"] == by_tag).all()


def test_a_donor_that_is_predicted_anyway_shows_nothing(world: World) -> None:
    found = rows_of_reliance(Constant(0.0, 1.0, 0.0), world)
    rows, labels = torch.arange(ROWS), torch.from_numpy(world.split.labels)
    donors = world.near_classes(rows, labels).numpy()
    assert (np.isnan(found["follows"]) == (donors == 1)).all()
    assert not found["relies"].any()


def test_warnings_name_what_is_wrong(world: World) -> None:
    assert not warnings("m", {"share": 0.9, "flip_rate": 0.9, "shortcut_share": 0.1}, world.spec)
    low, tagged = warnings("m", {"share": 0.25, "flip_rate": 0.2, "shortcut_share": 0.8}, world.spec)
    assert "m relies on the designed evidence in 25% of the rows" in low
    assert "m goes with tag.colour in 80% of the rows" in tagged
    assert not warnings("m", {"share": None, "flip_rate": None, "shortcut_share": None}, world.spec)


def test_shares_leave_out_what_is_undefined() -> None:
    filed = pd.DataFrame({"metric": ["relies", "relies", "follows", "follows"], "value": [1, 0, 1, np.nan]})
    assert shares(filed) == {"share": 0.5, "flip_rate": 1.0}
    assert shares(filed.assign(value=np.nan)) == {"share": None, "flip_rate": None}


def test_the_document_of_several_models(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"petals": wrapped(Tints(PETALS)), "tag": wrapped(Tints(TAG))}
    monkeypatch.setattr(certifying, "open_judged", lambda source, store, device: models[source])
    models["tag"].card = replace(models["tag"].card, accuracy=1.0)  # which it reaches where the tag tells the class
    heard: list[str] = []
    document = certify_models(["petals", "tag"], world, None, 0, Resources(CPU), warn=heard.append)
    assert document["warnings"] == heard
    assert len(heard) == 1
    assert "where its file states 100%" in heard[0]
    json.dumps(document, allow_nan=False)
    assert document["dataset"]["rows"] == ROWS  # fewer than the usual number are there
    assert [each["flip_rate"]["mean"] for each in document["certificates"]] == [1, 0]
    assert certify_models(["tag"], world, 6, 0, Resources(CPU))["dataset"]["rows"] == 6
    with pytest.raises(WrongUsage, match="--rows 99"):
        certify_models(["tag"], world, 99, 0, Resources(CPU))
    show_certificates(document)
    text = capsys.readouterr().out
    assert "the shortcut decides when tag.colour contradicts" in text
    assert " ".join(text.split()).count("petals swapped") == 2
    assert "disc swapped" not in " ".join(text.split())


def test_labels_of_rows_are_those_of_the_spec(world: World) -> None:
    rows = questions.rows_of(world, np.array([5, 2]), 0)
    assert rows.labels.tolist() == draw.labels(world.spec, "test", 0, 6)[[5, 2]].tolist()
    assert (rows.table == draw.factors(world.spec, "test", 0, 6)[[5, 2]]).all()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_certificate_of_trained_networks(tmp_path: Path) -> None:
    """A network for whose data the petals are the only cue relies on them; the planted shortcut is found."""
    found = {name: trained_and_certified(name, tmp_path) for name in ("single-6c", "double-12c", "shortcut-6c")}
    for name in ("single-6c", "double-12c"):
        assert min(found[name].flip_rate.low, found[name].stability.low) >= 0.95
    decided = found["shortcut-6c"].shortcut
    assert decided
    assert decided.by_shortcut.low > 0.5
    assert found["shortcut-6c"].flip_rate.high < 0.5


def trained_and_certified(name: str, folder: Path) -> Certificate:
    store = FlowerStore(generate(load(name), folder / f"{name}.h5").path)
    classifier = train(store, "flowernet", seed=0).classifier
    return certify(classifier, World.of(store["test"], CPU), np.arange(300))
