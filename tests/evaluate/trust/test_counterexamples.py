"""The certificate of each network with weights set by hand says what that network reads."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from an8flower.evaluate.data.world import World
from an8flower.evaluate.results.wording import reliance
from an8flower.evaluate.trust.certificate import Certificate, certify
from an8flower.evaluate.trust.questions import rows_of
from an8flower.evaluate.trust.twins import portions_of_twins
from an8flower.evaluate.trust.use import measure_use
from an8flower.generate import generate
from an8flower.spec import from_mapping
from an8flower.store import COVERED, FlowerStore, StoredRows


def load_neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


by_hand = load_neighbour("counterexamples")
READS_VOID = "It reads the void pixels, the rim of the evidence and what else changes with it, which no metric counts"
ROWS = 40  # 36 rows without an exception are the fewest that put a lower limit above 90 %


def world_of(words: dict[str, Any], places: pytest.TempPathFactory) -> World:
    path = places.mktemp("world") / "x.h5"
    generate(from_mapping(by_hand.spec_words(words, ROWS), "x"), path, workers=1)
    return World.of(FlowerStore(path)["test"], torch.device("cpu"))


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world_of(by_hand.FLOWERS, tmp_path_factory)


def certify_all(network: by_hand.Handmade, world: World) -> Certificate:
    return certify(by_hand.wrapped(network, world.spec.class_count), world, np.arange(ROWS))


def outcome(certificate: Certificate) -> str:
    return reliance(certificate.document())


def test_one_pixel_uses_a_small_part_of_the_evidence(flowers: World) -> None:
    certificate = certify_all(by_hand.OnePixel(), flowers)
    assert outcome(certificate) == "yes"
    assert certificate.use.area.high < 0.02
    assert certificate.use.pieces.mean < 1.5
    assert "It reads the evidence: no pixel beside it is needed." in certificate.verdict
    assert "It uses a small part of the evidence: 90% of the effect" in certificate.verdict


@pytest.mark.parametrize("network", [by_hand.Rim, by_hand.StrongEdges])
def test_rim_and_edges_are_part_of_the_evidence(flowers: World, network: type[by_hand.Handmade]) -> None:
    certificate = certify_all(network(), flowers)
    assert (certificate.evidence_alone.mean, certificate.rim_alone.mean) == (1, 0)
    assert outcome(certificate) == "yes"
    assert 0.4 < certificate.use.area.mean < 0.65
    assert "It uses part of the evidence: 90% of the effect" in certificate.verdict


@pytest.fixture
def rimless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that call no pixel beside the mask void, as if nothing there changed with the evidence."""
    monkeypatch.setattr(StoredRows, "void", property(lambda rows: (rows.masks > 0) & (rows.coverage != COVERED)))


@pytest.mark.usefixtures("rimless")
def test_what_surrounds_evidence_and_rim_is_neither(flowers: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Networks that read pixels beside the mask, where none of them is void, read the surroundings."""
    for network, world in ((by_hand.Halo(), flowers), (by_hand.Shadow(), world_of(by_hand.POTS, tmp_path_factory))):
        certificate = certify_all(network, world)
        shares = (certificate.evidence_alone.mean, certificate.rim_alone.mean, certificate.rest_alone.mean)
        assert shares == (0, 0, 1)
        assert outcome(certificate) == "no"
        assert "It reads what surrounds the evidence, not the evidence itself." in certificate.verdict


def test_pixels_of_mixed_colour_are_the_rim(flowers: World) -> None:
    """A network of mixed pixels reads some within the mask and some beside it: the rim alone turns it, nothing else."""
    certificate = certify_all(by_hand.Mixed(), flowers)
    assert certificate.flip_rate.mean == certificate.rim_alone.mean == 1
    assert certificate.rest_alone.mean == 0
    assert outcome(certificate) == "no"
    assert f"{READS_VOID}, not the evidence itself." in certificate.verdict


def test_without_coverage_nothing_is_said_of_the_rim(flowers: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of an early schema know no void pixels; all that is not evidence is then all else, as it was before."""
    monkeypatch.setattr(StoredRows, "void", None)
    certificate = certify_all(by_hand.Halo(), flowers)
    assert np.isnan(certificate.rim_alone.mean)
    assert certificate.document()["rim_alone"]["mean"] is None
    assert certificate.rest_alone.mean == 1
    assert "rim" not in certificate.verdict
    assert "It reads what surrounds the evidence, not the evidence itself." in certificate.verdict


def test_three_hybrids_part_the_picture_and_cost_a_pass_each(flowers: World) -> None:
    (twins,) = portions_of_twins(rows_of(flowers, np.arange(ROWS), 0))
    stored = flowers.split.take(np.arange(ROWS))
    assert (twins.rim.numpy() == stored.void).all()
    assert not (twins.rest & (twins.evidence | twins.rim)).any()
    assert (twins.rest | twins.evidence | twins.rim).all()
    network = CountedPasses()
    measure_use(network, rows_of(flowers, np.arange(ROWS), 0), np.full(ROWS, 2), ROWS)
    assert network.pictures == 3 * ROWS  # nothing follows, so that no row is asked for more


class CountedPasses:
    """A network that calls every picture the same class, which is no twin's, and counts the pictures."""

    in_flight = ROWS
    pictures = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.pictures += len(images)
        return torch.tensor([[0.0, 0.0, 0.0, 1.0]]).expand(len(images), 4)


def test_the_halo_is_not_the_evidence(flowers: World) -> None:
    certificate = certify_all(by_hand.Halo(), flowers)
    assert certificate.accuracy.mean == certificate.flip_rate.mean == certificate.stability.mean == 1
    assert (certificate.evidence_alone.mean, certificate.rim_alone.mean, certificate.rest_alone.mean) == (0, 1, 0)
    assert outcome(certificate) == "no"
    assert READS_VOID in certificate.verdict
    assert "of the evidence:" not in certificate.verdict  # how much of it is used has no answer


def test_the_mean_colour_uses_the_whole_evidence(flowers: World) -> None:
    certificate = certify_all(by_hand.MeanColour(), flowers)
    assert outcome(certificate) == "yes"
    assert certificate.use.area.low > 0.8
    assert certificate.use.error.high < 0.01
    assert "It reads the evidence: no pixel beside it is needed. 90% of the effect" in certificate.verdict


def test_the_disc_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    certificate = certify_all(by_hand.Disc(), world_of(by_hand.DISCS, tmp_path_factory))
    assert outcome(certificate) == "no"
    assert "It reads something else: its prediction changes most often if the disc is drawn again" in (
        certificate.verdict
    )


def test_the_shadow_is_not_the_evidence(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whether or not the renderer lets the shadow follow the pot, a network that reads it does not rely on the pot."""
    certificate = certify_all(by_hand.Shadow(), world_of(by_hand.POTS, tmp_path_factory))
    assert outcome(certificate) == "no"
    assert certificate.evidence_alone.mean == 0
    if certificate.flip_rate.mean > 0.5:
        assert READS_VOID in certificate.verdict
