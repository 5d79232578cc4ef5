"""Declared ranges: their ends make explainers that run, every parameter has one, and they depend on the network."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar

import pytest

from an8flower.errors import NotApplicable
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.ranges import (
    BLOCKS,
    Between,
    Choices,
    Layers,
    Pixels,
    ranges_of,
    resolve_ranges,
    to_text,
)
from an8flower.evaluate.explaining.contract import Trial, hasten, make_query
from an8flower.evaluate.explaining.contract_networks import NETWORKS, SPECIAL, networks_for
from an8flower.evaluate.explaining.explain import check_maps, explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.registry import explainers

NAMES = [name for name in explainers.names() if name not in explainers.plug_ins()]
# Other questions to the network, more of the same work, or how numbers are stored: nothing that truth would choose.
NOT_TUNED = {"contrast", "references", "precision", "rows", "steps", "method", "iterations", "fuse", "stride", "layers"}


@cache
def network(name: str) -> Classifier:
    return {**NETWORKS, **SPECIAL}[name]().eval()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_range(name: str) -> None:
    """Every parameter is declared, but for those that stand above, and refinecam's layers, which are sets."""
    kind = explainers[name].item
    parameters = {field.name for field in fields(kind)}
    assert ranges_of(kind).keys() <= parameters
    missing = parameters - ranges_of(kind).keys() - NOT_TUNED
    assert missing == ({"layer"} if name == "refinecam" else set())


@pytest.mark.parametrize("name", NAMES)
def test_the_ends_of_ranges_make_explainers_that_run(name: str) -> None:
    """Every end of every range, as users write it, is read, and gives maps on the first network that is suited."""
    for place in networks_for(parse_method(name).explainer):
        ends = {key: value.resolve(network(place)).ends for key, value in ranges_of(explainers[name].item).items()}
        try:
            for turn in range(max(map(len, ends.values()), default=0)):
                _run({key: values[turn % len(values)] for key, values in ends.items()}, name, place)
        except NotApplicable:
            continue
        return
    pytest.fail(f"{name} ran on no network")


def _run(values: dict[str, Any], name: str, place: str) -> None:
    """Read a method with these values, and see that it gives maps."""
    explainer: Any = parse_method(f"{name}:{to_text(values)}").explainer
    assert {key: getattr(explainer, key) for key in values} == values
    query = Query(*(tensor[:1] for tensor in make_query(2)))
    fast = replace(hasten(explainer), **values)  # quick in all that has no range
    check_maps(fast, explain(network(place), Trial(fast, place).explainer, query).maps, query)


def test_layers_are_those_that_maps_make_sense_at(make: Any) -> None:
    resnet = build("resnet18", "abcd", 64, seed=0).eval()
    assert Layers().resolve(resnet).values == (None, "relu", "layer1", "layer2", "layer3")
    assert Layers().resolve(make("vit").eval()).values[:2] == (None, "encoder.layers.encoder_layer_0.ln_1")
    assert BLOCKS.resolve(make("vit")) == Between(0, 3)
    assert BLOCKS.resolve(resnet) == Between(0, 0)
    assert Pixels(1 / 16, 1 / 4).resolve(resnet) == Between(4, 16, log=True)


def test_ranges_are_inherited_and_replaced() -> None:
    @dataclass(frozen=True)
    class Plain:
        power: float = 1.0
        kind: str = "a"
        ranges: ClassVar = {"power": Between(0.5, 2.0), "kind": Choices(("a", "b"))}

    @dataclass(frozen=True)
    class Sharp(Plain):
        floor: int = 0
        ranges: ClassVar = {"floor": Between(0, 3), "power": Choices((2.0,))}

    assert list(ranges_of(Sharp)) == ["power", "kind", "floor"]
    assert list(resolve_ranges(Sharp, network("in-place"))) == ["kind", "floor"]  # one value is no choice
    assert Between(0, 3).count == 4
    assert Between(0.0, 3.0).count == float("inf")
