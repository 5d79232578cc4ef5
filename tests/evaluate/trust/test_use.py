"""How much of the evidence is used: closed forms, and what black boxes and redundant data make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.interventions.reliance import redundancy_warnings
from an8flower.evaluate.models.classifier import wrap
from an8flower.evaluate.trust import questions
from an8flower.evaluate.trust.certificate import Certificate, certify
from an8flower.evaluate.trust.twins import Twins, portions_of_twins
from an8flower.evaluate.trust.use import area_of, count_pieces, integrate_effects, share_inside
from an8flower.generate import generate
from an8flower.spec import from_mapping
from an8flower.store import FlowerStore

ROWS, SIZE = 40, 32
PRIMARY = ["#e01010", "#10e010", "#1010e0"]
GREY = {f"{part}.colour": "#808080" for part in ("stem", "leaves", "background")}
FIXED = {"view.scale": 1.1, "view.x": 0, "view.y": 0}


class Halves:
    """A network on pictures of 1 x 2 pixels: the red of the first pixel speaks for class 0, the second is ignored."""

    in_flight = 8

    def __call__(self, images: Tensor) -> Tensor:
        first = images[:, 0, 0, 0]
        return torch.stack([first, 1 - first], dim=1)


def twins_of(images: Tensor, others: Tensor, pieces: Tensor) -> Twins:
    known = torch.ones(len(images), dtype=torch.bool)
    return Twins(images, others, known.long(), pieces > 0, pieces, pieces < 0, known)


def test_effects_of_a_linear_network_are_exact() -> None:
    images, others = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    images[0, 0], others[0, 1] = 1.0, 1.0
    pieces = torch.tensor([[[1, 2]]])
    maps = integrate_effects(Halves(), twins_of(images, others, pieces), torch.zeros(1, dtype=torch.int64))
    assert maps.effects.tolist() == [[[2.0, 0.0]]]  # from a lead of -1 to one of 1, all by the first pixel
    assert maps.error.tolist() == [0.0]
    swapped, count = count_pieces(Halves(), twins_of(images, others, pieces), maps.effects)
    assert (swapped.tolist(), count.tolist()) == ([1.0], [2.0])
    swapped, _ = count_pieces(Halves(), twins_of(images, others, pieces), -maps.effects)
    assert swapped.tolist() == [2.0]  # in the reverse order it takes both


def test_area_is_the_smallest_set_of_pixels() -> None:
    effects = torch.tensor([[[5.0, -4.0, 0.5], [0.5, 0.0, 90.0]]])
    evidence = torch.tensor([[[True, True, True], [True, True, False]]])
    assert area_of(effects, evidence).tolist() == [2 / 5]  # 9 of 10
    assert area_of(torch.ones(1, 2, 3), torch.ones(1, 2, 3, dtype=torch.bool)).tolist() == [1.0]
    assert area_of(torch.zeros(1, 2, 3), evidence).isnan().all()
    assert share_inside(effects, evidence).tolist() == [0.1]


def world_of(classes: dict[str, Any], places: pytest.TempPathFactory, **nuisance: Any) -> World:
    rows = {"train": 6, "val": 6, "test": ROWS}
    words = {"name": "x", "size": SIZE, "rows": rows, "classes": classes, "nuisance": {**GREY, **FIXED, **nuisance}}
    path = places.mktemp("world") / "x.h5"
    generate(from_mapping(words, "x"), path, workers=1)
    return World.of(FlowerStore(path)["test"], torch.device("cpu"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world_of({"petals.colour": PRIMARY}, tmp_path_factory, **{"disc.colour": "#808080", "petals.count": [5, 8]})


@pytest.fixture(scope="module")
def redundant(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Petals and pot have the colour of the class, either of which gives it away."""
    classes = {"petals.colour": PRIMARY, "pot.colour": PRIMARY}
    return world_of(classes, tmp_path_factory, **{"disc.colour": "#808080", "pot.count": 1})


class Tints(nn.Module):
    """One logit a class: how much of its primary colour there is in some lines of the picture."""

    def __init__(self, lines: slice) -> None:
        super().__init__()
        self.seen = nn.Identity()
        self.lines = lines

    def forward(self, images: Tensor) -> Tensor:
        looked_at = self.seen(images)[:, :, self.lines]
        return 100 * (looked_at - looked_at.mean(1, keepdim=True)).mean((2, 3))


class BlackBox(Tints):
    """The same without a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach()


def certify_all(network: nn.Module, world: World, rows: int = ROWS) -> Certificate:
    model = wrap(network, "abc", SIZE, "seen", mean=(0, 0, 0), std=(1, 1, 1)).eval()
    return certify(model, world, np.arange(rows))


ALL, TOP, BOTTOM = slice(0, SIZE), slice(0, 20), slice(23, SIZE)


def test_twins_differ_in_the_evidence_and_pieces_are_petals(world: World) -> None:
    rows = questions.rows_of(world, np.arange(ROWS), 0)
    (twins,) = portions_of_twins(rows)
    stored = world.split.take(np.arange(ROWS))
    assert (twins.evidence.numpy() == (stored.masks == 1)).all()
    assert torch.equal(twins.images, world.photograph(rows.table).images)
    assert ((twins.images != twins.others).any(1) & twins.evidence).sum() == twins.evidence.sum()
    counts = np.array([len(set(pieces[pieces > 0].tolist())) for pieces in twins.pieces])
    assert (counts <= rows.table["petals.count"] * rows.table["petals.whorls"]).all()
    assert (counts >= 3).all()
    assert torch.equal(twins.pieces > 0, twins.evidence)


def test_a_network_without_a_gradient_has_hybrids_alone(world: World) -> None:
    certificate = certify_all(BlackBox(ALL), world)
    assert certificate.evidence_alone.mean == 1
    assert np.isnan([certificate.use.area.mean, certificate.use.pieces.mean, certificate.use.error.mean]).all()
    assert "% of the effect" not in certificate.verdict


def test_only_some_rows_are_asked_for_details(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("an8flower.evaluate.trust.use.DETAILED", 5)
    certificate = certify_all(Tints(ALL), world, 12)
    assert (certificate.evidence_alone.n, certificate.use.area.n, certificate.use.pieces.n) == (12, 5, 5)


def test_few_rows_do_not_reach_the_limits(world: World) -> None:
    few, enough = certify_all(Tints(ALL), world, 12), certify_all(Tints(ALL), world)
    assert "relies in part on the designed evidence, the petals" in few.verdict
    assert "a limit of 12 rows lies beyond 90% or 10%: certify more rows" in few.verdict
    assert " relies on the designed evidence, the petals" in enough.verdict
    assert "certify more rows" not in enough.verdict


def test_redundant_data_have_a_flip_rate_for_each_set(redundant: World) -> None:
    by_set = {part: certify_all(Tints(lines), redundant) for part, lines in (("petals", TOP), ("pot", BOTTOM))}
    for part, certificate in by_set.items():
        rates = {way.parts: way.flip_rate.mean for way in certificate.sufficient_sets}
        assert rates == {("petals",): float(part == "petals"), ("pot",): float(part == "pot")}
        assert certificate.best_set == (part,)
        assert certificate.document()["best_set"] == [part]
        assert "a class can be told by the petals alone or by the pot alone" in certificate.verdict
        assert f"most often the {part}" in certificate.verdict


def test_data_that_are_not_redundant_say_nothing_of_it(world: World, redundant: World) -> None:
    certificate = certify_all(Tints(ALL), world, 4)
    assert (certificate.sufficient_sets, certificate.best_set) == ((), None)
    assert "redundant" not in certificate.verdict
    assert redundancy_warnings(world.spec) == []
    (warning,) = redundancy_warnings(redundant.spec)
    assert warning.startswith("x is redundant: a class can be told by the petals alone or by the pot alone")
