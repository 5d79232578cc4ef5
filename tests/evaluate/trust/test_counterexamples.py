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
from an8flower.generate import generate
from an8flower.spec import from_mapping
from an8flower.store import FlowerStore


def load_neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


by_hand = load_neighbour("counterexamples")
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
    assert outcome(certificate) == "yes"
    assert 0.4 < certificate.use.area.mean < 0.65
    assert "It uses part of the evidence: 90% of the effect" in certificate.verdict


def test_the_halo_is_not_the_evidence(flowers: World) -> None:
    certificate = certify_all(by_hand.Halo(), flowers)
    assert certificate.accuracy.mean == certificate.flip_rate.mean == certificate.stability.mean == 1
    assert (certificate.evidence_alone.mean, certificate.rest_alone.mean) == (0, 1)
    assert outcome(certificate) == "no"
    assert "It reads what surrounds the evidence, not the evidence itself." in certificate.verdict
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
        assert "It reads what surrounds the evidence, not the evidence itself." in certificate.verdict
