"""Scenes with one thing changed: what is changed, what is not, and what the data could hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from an8flower import draw, interventions
from an8flower.factors import FACTORS, PARTS, part_of
from an8flower.render import render
from an8flower.scene import build
from an8flower.spec import DatasetSpec, from_mapping, load, presets

ROWS = np.arange(12)


def spec_of(classes: dict[str, Any], **more: Any) -> DatasetSpec:
    rows = {"train": 6, "val": 6, "test": 24}
    return from_mapping({"name": "x", "size": 32, "rows": rows, "classes": classes, **more}, "x")


def table_of(spec: DatasetSpec) -> np.ndarray:
    return draw.factors(spec, "test", 0, len(ROWS))


def changed_factors(before: np.ndarray, after: np.ndarray) -> set[str]:
    """The factors that differ in some row."""
    return {name for name in FACTORS if (before[name] != after[name]).any()}


def changed_pixels(before: np.ndarray, after: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where pictures (n, 40, 40) differ, where they lie on a part in one of them or next to it, and on the ground."""
    (old, _), (new, _) = render(build(before), 40), render(build(after), 40)
    # four times as fine, because thin leaves pass between the centres of pixels
    fine = np.stack([render(build(table), 160)[1] for table in (before, after)])
    coarse = fine.reshape(2, len(before), 40, 4, 40, 4)
    on_part = (coarse == PARTS.index(part)).any((0, 3, 5))
    return (old != new).any(-1), binary_dilation(on_part, np.ones((1, 3, 3), bool)), (coarse == 0).any((0, 3, 5))


@pytest.mark.parametrize("name", presets())
def test_each_change_changes_what_it_says(name: str) -> None:
    spec = load(name)
    table, labels = table_of(spec), draw.labels(spec, "test", 0, len(ROWS))
    others = (labels + 1) % spec.class_count
    assert changed_factors(table, interventions.as_class(spec, table, others)) <= set(spec.classes)
    assert not changed_factors(table, interventions.as_class(spec, table, labels))
    for part in interventions.parts_of(spec):
        swapped = changed_factors(table, interventions.as_class(spec, table, others, part))
        assert {part_of(factor) for factor in swapped} <= {part}
        assert changed_factors(table, interventions.without(table, part)) <= {f"{part}.count"}
        assert not interventions.has(interventions.without(table, part), part).any()
    for names in interventions.groups_of(spec).values():
        drawn = interventions.redraw(spec, "test", ROWS, table, names, 0)
        assert changed_factors(table, drawn) <= set(names)
        assert not set(names) & set(spec.classes)


@pytest.mark.parametrize("name", ["single-6c", "double-12c", "shortcut-6c", "absent-4c"])
def test_pixels_away_from_a_changed_part_stay_as_they_are(name: str) -> None:
    spec = load(name)
    table, labels = table_of(spec), draw.labels(spec, "test", 0, len(ROWS))
    others = (labels + 1) % spec.class_count
    changes = {part: interventions.as_class(spec, table, others, part) for part in interventions.parts_of(spec)}
    if spec.shortcut:
        changes["tag"] = interventions.with_shortcut(spec, table, others)
    seen = 0
    for part, after in changes.items():
        differs, near, ground = changed_pixels(table, after, part)
        near |= ground & (part == "pot")  # which throws its shadow there
        assert not (differs & ~near).any(), part
        seen += differs.sum()
    assert seen > 100


def test_redrawing_a_part_leaves_the_pixels_of_the_others() -> None:
    spec = load("single-6c")
    table = table_of(spec)
    drawn = interventions.redraw(spec, "test", ROWS, table, interventions.groups_of(spec)["leaves"], 0)
    differs, near, _ = changed_pixels(table, drawn, "leaves")
    assert differs.any()
    assert not (differs & ~near).any()


@given(st.lists(st.integers(0, 23), min_size=1, max_size=6, unique=True), st.integers(0, 3))
def test_a_redraw_depends_on_its_row_alone(chosen: list[int], repeat: int) -> None:
    spec = load("shape-6c")
    rows = np.array(chosen)  # in any order
    table = draw.factors(spec, "test", 0, 24)
    names = interventions.nuisance_of(spec)
    every = interventions.redraw(spec, "test", np.arange(24), table, names, repeat)
    assert (interventions.redraw(spec, "test", rows, table[rows], names, repeat) == every[rows]).all()
    other = interventions.redraw(spec, "test", rows, table[rows], names, repeat + 1)
    assert (other["view.azimuth"] != every[rows]["view.azimuth"]).all()


def test_groups_hold_what_varies_and_can_be_seen() -> None:
    groups = interventions.groups_of(load("shortcut-6c"))
    assert set(groups) == {"petals", "disc", "head", "stem", "leaves", "tag", "view", "light", "background"}
    assert "tag.colour" in groups["tag"]
    assert "petals.colour" not in groups["petals"]
    assert "tag.count" not in groups["tag"]  # the same in every row
    assert "pot" not in interventions.groups_of(load("single-6c"))
    assert "pot" in interventions.groups_of(load("absent-4c"))


def test_a_part_that_no_row_lacks_is_there_in_all() -> None:
    table = table_of(load("absent-4c"))
    assert (interventions.has(table, "pot") == (table["pot.count"] == 1)).all()
    assert 0 < interventions.has(table, "pot").sum() < len(ROWS)
    assert interventions.has(table, "background").all()


def test_what_looks_apart() -> None:
    spec = load("double-12c")
    petals, stem = interventions.apart(spec, "petals"), interventions.apart(spec, "stem")
    assert not petals.diagonal().any()
    assert (petals == petals.T).all()
    assert petals[:6, :6].sum() == 30
    assert not petals[6:, 6:].any()
    assert not stem[:6, :6].any()
    assert not interventions.apart(spec, "disc").any()


def test_what_the_data_could_hold() -> None:
    pair, double, absent = load("pair-12c"), load("double-12c"), load("absent-4c")
    assert interventions.occurs(pair, 0, "petals", 4)  # any two colours go together
    assert interventions.occurs(double, 0, "petals", 1)
    assert not interventions.occurs(double, 0, "petals", 7)  # neutral petals on a neutral stem are no class
    assert not interventions.occurs(double, 0, "stem", 7)  # nor are two colours
    assert interventions.can_lack(absent, 0, "pot")
    assert not interventions.can_lack(absent, 0, "petals")
    assert not interventions.can_lack(pair, 0, "petals")
    sometimes = spec_of({"petals.colour": ["red", "blue"]}, nuisance={"pot.count": [0, 1]})
    assert interventions.can_lack(sometimes, 0, "pot")


def test_the_shortcut_of_a_scene() -> None:
    spec = load("shortcut-6c")
    assert spec.shortcut
    table, labels = table_of(spec), draw.labels(spec, "test", 0, len(ROWS))
    apart = interventions.shortcut_apart(spec, table)
    assert (apart.sum(1) == 5).all()  # every class but the one whose value the row has
    assert apart[np.arange(len(ROWS)), labels].all()  # which is never its own in the test split
    own = interventions.with_shortcut(spec, table, labels)
    assert not interventions.shortcut_apart(spec, own)[np.arange(len(ROWS)), labels].any()
    assert not interventions.shortcut_apart(load("single-6c"), table).any()
    assert interventions.shows_shortcut(spec, table).all()
    assert not interventions.shows_shortcut(spec, interventions.without(table, "tag")).any()
    assert not interventions.shows_shortcut(load("single-6c"), table).any()


def test_near_classes_differ_in_the_fewest_parts() -> None:
    pair = load("pair-12c")
    near = {interventions.near_class(pair, 0, chance) for chance in np.linspace(0, 0.999, 50)}
    first, *others = zip(*pair.classes.values(), strict=True)
    apart = [sum(one != other for one, other in zip(first, look, strict=True)) for look in others]
    assert near == {label for label, parts in enumerate(apart, 1) if parts == 1}
