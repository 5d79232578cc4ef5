"""Suppressors: a number that evidence and background share, which tells no class and yet helps to tell them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from an8flower import draw, interventions
from an8flower.errors import Refusal
from an8flower.evidence import evidence_parts, used_parts
from an8flower.render import render
from an8flower.scene import build, linear_rgb, turn_hue
from an8flower.spec import DatasetSpec, from_mapping, load

GREY = np.array([0.213, 0.715, 0.072])


@pytest.fixture(scope="module")
def spec() -> DatasetSpec:
    return load("suppressor-4c").with_changes(rows=4000, size=32)


def test_evidence_and_background_share_a_value_that_tells_no_class(spec: DatasetSpec) -> None:
    table, labels = draw.factors(spec, "train", 0, 2800), draw.labels(spec, "train", 0, 2800)
    assert (table["petals.hue"] == table["background.hue"]).all()
    assert table["petals.hue"].min() < -59
    assert table["petals.hue"].max() > 59
    means = [table["background.hue"][labels == label].mean() for label in range(4)]
    assert np.abs(means).max() < 4 * 120 / np.sqrt(12 * 700)
    plain = spec.model_copy(update={"suppressor": None})
    for name in set(table.dtype.names or ()) - {"petals.hue", "background.hue"}:
        assert (draw.factors(plain, "train", 0, 100)[name] == table[name][:100]).all(), name


def test_petals_alone_tell_half_of_the_rows_and_the_difference_tells_all(spec: DatasetSpec) -> None:
    """The best guess from a sum of 40 k and a number even in -60 to 60 is right in 240 / 480 of the rows."""
    table, labels = draw.factors(spec, "train", 0, 2800), draw.labels(spec, "train", 0, 2800)
    seen = 40 * labels + table["petals.hue"]
    possible = np.abs(seen[:, None] - 40 * np.arange(4)) <= 60
    assert (1 / possible.sum(1)).mean() == pytest.approx(0.5, abs=0.02)
    assert (np.round((seen - table["background.hue"]) / 40) == labels).all()


def test_hues_are_turned_about_the_greys(spec: DatasetSpec) -> None:
    colours = np.random.default_rng(0).uniform(0.3, 0.5, (50, 3))
    for first, second in ((40, 50), (-170, 20)):
        both = turn_hue(turn_hue(colours, np.full(50, first)), np.full(50, second))
        assert both == pytest.approx(turn_hue(colours, np.full(50, first + second)), abs=2e-3)
    assert turn_hue(colours, np.full(50, 360)) == pytest.approx(colours, abs=1e-3)
    assert turn_hue(colours, np.full(50, 77)) @ GREY == pytest.approx(colours @ GREY, abs=1e-3)
    greys = np.repeat(np.linspace(0, 1, 5), 3).reshape(5, 3)
    assert turn_hue(greys, np.full(5, 77)) == pytest.approx(greys)
    assert (turn_hue(colours, np.zeros(50)) == colours).all()
    classes = np.array([linear_rgb(str(name)) for name in spec.classes["petals.colour"]])
    for step in (1, 2, 3):  # a class is another one turned: petals alone cannot tell turn and class apart
        assert turn_hue(classes[:-step], np.full(4 - step, 40 * step)) == pytest.approx(classes[step:], abs=6e-3)


def test_two_truths(spec: DatasetSpec) -> None:
    for label in range(4):
        assert evidence_parts(spec, label) == {"petals"}
        assert used_parts(spec, label) == {"petals", "background"}
    single = load("single-6c")
    assert used_parts(single, 0) == evidence_parts(single, 0)


def test_what_is_drawn_again_breaks_the_tie_or_keeps_it(spec: DatasetSpec) -> None:
    rows = np.arange(40)
    table = draw.factors(spec, "test", 0, 40)
    groups = interventions.groups_of(spec)
    assert groups["suppressor"] == ["petals.hue", "background.hue"]
    together = interventions.redraw(spec, "test", rows, table, groups["suppressor"], 0)
    assert (together["petals.hue"] == together["background.hue"]).all()
    assert (together["petals.hue"] != table["petals.hue"]).all()
    alone = interventions.redraw(spec, "test", rows, table, groups["background"], 0)
    assert (alone["petals.hue"] == table["petals.hue"]).all()
    assert (alone["background.hue"] != table["background.hue"]).all()
    before, after = (render(build(each), 32, threads=1)[0] for each in (table, alone))
    parts = render(build(table), 64, threads=1)[1].reshape(40, 32, 2, 32, 2)
    inside = (parts > 0).all(axis=(2, 4))
    assert (before[inside] == after[inside]).all()
    assert (before != after).any(axis=(1, 2, 3)).all()


def test_the_digest_knows_the_suppressor(spec: DatasetSpec) -> None:
    assert "suppressor" in spec.canonical_json()
    assert "suppressor" not in load("single-6c").canonical_json()
    wider = from_mapping({**TABLES, "suppressor": {**HUES, "from": -30, "to": 30}}, "x")
    assert wider.digest != from_mapping({**TABLES, "suppressor": {**HUES, "from": -31, "to": 30}}, "x").digest


HUES = {"evidence": "petals.hue", "background": "background.hue"}
TABLES: dict[str, Any] = {
    "name": "x",
    "rows": {"train": 2, "val": 2, "test": 2},
    "classes": {"petals.colour": ("red", "blue")},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"from": 30, "to": -30}, "expected from < to, came 30"),
        ({"from": -300, "to": 0}, "suppressor.from and to: expected -180 to 180, came -300"),
        ({"evidence": "petals.colour"}, '"petals.colour" came, expected one number that tells no class, as petals.hue'),
        ({"evidence": "stem.width", "from": 1.0, "to": 2.0}, "belongs to no part that tells the classes"),
        ({"background": "petals.size", "from": 0.5, "to": 1.5, "evidence": "petals.size"}, "to a part that tells"),
        ({"background": "background.hu"}, 'did you mean "background.hue"?'),
        ({"evidense": "x"}, 'unknown key "evidense"; did you mean "evidence"?'),
    ],
)
def test_what_is_wrong_with_a_suppressor_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Refusal) as refusal:
        from_mapping({**TABLES, "suppressor": {**HUES, "from": -30, "to": 30, **changes}}, "x")
    assert message in str(refusal.value)


def test_a_factor_has_one_cause(spec: DatasetSpec) -> None:
    with pytest.raises(Refusal, match=r'"petals.hue" is set elsewhere as well'):
        from_mapping({**TABLES, "nuisance": {"petals.hue": 3}, "suppressor": {**HUES, "from": -30, "to": 30}}, "x")
