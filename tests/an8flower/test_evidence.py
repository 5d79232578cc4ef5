"""Which parts tell a class: the presets by hand, any spec against a definition written out the slow way."""

from __future__ import annotations

import itertools

from hypothesis import assume, given
from hypothesis import strategies as st

from an8flower.errors import Refusal
from an8flower.evidence import (
    absent_evidence,
    discriminative_parts,
    evidence_parts,
    other_geometries,
    redundant,
    sufficient_sets,
)
from an8flower.spec import DatasetSpec, from_mapping, load

ROWS = {"train": 6, "val": 6, "test": 6}


def test_presets_by_hand() -> None:
    assert all(evidence_parts(load("single-6c"), label) == {"petals"} for label in range(6))
    assert [sorted(evidence_parts(load("double-12c"), label)) for label in (0, 5, 6, 11)] == [
        ["petals"],
        ["petals"],
        ["stem"],
        ["stem"],
    ]
    assert all(evidence_parts(load("pair-12c"), label) == {"petals", "stem"} for label in range(12))
    assert all(evidence_parts(load("absent-4c"), label) == {"leaves", "pot"} for label in range(4))
    assert all(evidence_parts(load("thin-4c"), label) == {"stem"} for label in range(4))
    assert not any(redundant(load(name)) for name in ("single-6c", "double-12c", "pair-12c", "absent-4c"))


def test_absent_evidence_is_what_a_class_lacks() -> None:
    spec = load("absent-4c")
    assert [absent_evidence(spec, label) for label in range(4)] == [
        {},
        {"pot": 1},
        {"leaves": 3},
        {"leaves": 3, "pot": 1},
    ]


def test_two_ways_of_telling_are_redundant() -> None:
    classes = {"petals.colour": ["red", "blue"], "stem.colour": ["green", "violet"]}
    spec = from_mapping({"name": "x", "rows": ROWS, "classes": classes}, "x")
    assert redundant(spec)
    assert set(sufficient_sets(spec, 0)) == {frozenset({"petals"}), frozenset({"stem"})}
    assert evidence_parts(spec, 0) == {"petals", "stem"}


def test_a_pair_of_classes_is_told_by_where_they_differ() -> None:
    spec = load("pair-12c")
    assert discriminative_parts(spec, 0, 1) == {"stem"}
    assert discriminative_parts(spec, 0, 3) == {"petals"}
    assert discriminative_parts(spec, 0, 4) == {"petals", "stem"}


looks = st.lists(st.tuples(*[st.sampled_from(["red", "blue"])] * 3), min_size=2, max_size=6, unique=True)


@given(looks)
def test_sufficient_sets_by_the_definition(classes: list[tuple[str, str, str]]) -> None:
    parts = ("petals", "stem", "leaves")
    columns = {f"{part}.colour": [row[i] for row in classes] for i, part in enumerate(parts)}
    spec = _spec(columns)
    for label, look in enumerate(classes):
        told = [
            {parts[i] for i in chosen}
            for size in range(4)
            for chosen in itertools.combinations(range(3), size)
            if all(any(other[i] != look[i] for i in chosen) for k, other in enumerate(classes) if k != label)
        ]
        minimal = {frozenset(one) for one in told if not any(other < one for other in told)}
        assert set(sufficient_sets(spec, label)) == minimal


def _spec(columns: dict[str, list[str]]) -> DatasetSpec:
    try:
        return from_mapping({"name": "x", "rows": ROWS, "classes": columns}, "x")
    except Refusal:
        assume(False)
        raise


def test_geometries_are_those_of_other_classes() -> None:
    assert other_geometries(load("single-6c"), 0) == []
    assert other_geometries(load("double-12c"), 7) == []
    ways = other_geometries(load("shape-6c"), 0)
    assert len(ways) == 5
    assert {"petals.shape": "round", "petals.count": 9} in ways
    assert other_geometries(load("absent-4c"), 3) == [
        {"leaves.count": 3, "pot.count": 1},
        {"leaves.count": 3, "pot.count": 0},
        {"leaves.count": 0, "pot.count": 1},
    ]
