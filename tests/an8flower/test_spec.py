"""Specs: what is accepted, what is refused and in which words, and that a spec survives the trip to disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from an8flower import spec as specs
from an8flower.errors import Refusal, WrongUsage
from an8flower.factors import FACTORS
from an8flower.spec import Range, from_json, from_mapping, load, presets

MINIMAL = {"name": "x", "rows": {"train": 7, "val": 1, "test": 2}, "classes": {"petals.colour": ["red", "blue"]}}


def made(**changes: Any) -> specs.DatasetSpec:
    return from_mapping({**MINIMAL, **changes}, "x.toml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"classes": {"petals.colour": ["red", "bleu"]}},
            r'classes\."petals\.colour"\[1\]: unknown colour "bleu"; did you mean "blue"\?',
        ),
        ({"classes": {"petal.colour": ["red", "blue"]}}, r'unknown part "petal"; did you mean "petals"\?'),
        (
            {"classes": {"petals.color": ["red", "blue"]}},
            r'unknown factor "petals.color"; did you mean "petals.colour"\?',
        ),
        ({"classes": {"view.azimuth": [1, 2]}}, r"belongs to no part"),
        ({"classes": {}}, r"classes: empty"),
        ({"classes": {"petals.colour": []}}, r"classes: empty"),
        ({"classes": {"petals.colour": ["red", "blue"], "stem.colour": ["red"]}}, r"lists of equal length expected"),
        ({"classes": {"petals.colour": ["red", "red"]}}, r"entries 0 and 1 look the same"),
        ({"classes": {"leaves.count": [0, 0], "leaves.colour": ["red", "blue"]}}, r"neither has a sufficient set"),
        ({"nuisance": {"petals.count": [0, 5]}}, r"a class would have no sufficient set"),
        ({"nuisance": {"petals.count": {"from": 0, "to": 5}}}, r"a class would have no sufficient set"),
        ({"nuisance": {"petals.colour": "red"}}, r"defines the classes already"),
        ({"nuisance": {"leaves.count": 99}}, r'nuisance\."leaves\.count": expected 0 to 4, came 99'),
        ({"nuisance": {"leaves.count": 1.5}}, r"expected a whole number, came 1.5"),
        ({"nuisance": {"leaves.shape": "square"}}, r'unknown value "square"; known are: long, oval, round'),
        ({"nuisance": {"leaves.count": []}}, r"an empty list"),
        ({"nuisance": {"view.azimuth": {"from": 9, "to": 1}}}, r"the range runs backwards"),
        ({"nuisance": {"view.azimuth": {"from": 0, "too": 1}}}, r"nuisance"),
        ({"size": -4}, r"size: expected 16 to 1024 pixels, came -4"),
        ({"size": 100_000}, r"size: expected 16 to 1024 pixels, came 100000; 10 rows of it would take 500\.0 GB"),
        ({"size": "big"}, r"size: input should be a valid integer \(came: 'big'\)"),
        ({"rows": {"train": -1, "val": 0, "test": 0}}, r"rows\.train: input should be greater than or equal to 0"),
        ({"rows": {"train": 0, "val": 0, "test": 0}}, r"all splits are empty"),
        ({"rows": {"train": 5, "test": 0}}, r"rows\.val: field required"),
        ({"colour": "red"}, r"colour: extra inputs are not permitted"),
        ({"name": "../x"}, r"name: string should match pattern"),
        ({"class_names": ["a", "a"]}, r"two classes have the same name"),
        ({"class_names": ["a"]}, r"class_names: expected 2, came 1"),
        (
            {"shortcut": {"factor": "tag.colour", "values": ["red"], "train": 1.0, "test": 0.0}},
            r"one value per class, 2",
        ),
        (
            {"shortcut": {"factor": "petals.colour", "values": ["red", "blue"], "train": 1.0, "test": 0.0}},
            r"any other factor",
        ),
        (
            {"shortcut": {"factor": "tag.colour", "values": ["red", "blue"], "train": 2.0, "test": 0.0}},
            r"shortcut\.train",
        ),
        ({"classes": {"product": {"petals.colour": ["red", "blue"]}, "stem.colour": ["red", "blue"]}}, r"not both"),
    ],
)
def test_a_bad_spec_is_refused_with_place_and_remedy(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words) as refusal:
        made(**changes)
    assert str(refusal.value).startswith("x.toml: ")
    assert "\n" not in str(refusal.value)


def test_each_preset_says_what_it_is_for() -> None:
    shipped = {"single-6c", "double-12c", "pair-12c", "shape-6c", "thin-4c", "absent-4c", "shortcut-6c", "clutter-6c"}
    assert set(presets()) == shipped
    for name in presets():
        preset = load(name)
        assert preset.name == name
        assert preset.title
        assert preset.purpose
        assert preset.rows.total == 6000


@pytest.mark.parametrize("name", presets())
def test_a_spec_survives_json(name: str) -> None:
    spec = load(name)
    assert from_json(spec.to_json(), "json") == spec
    assert from_json(spec.to_json(), "json").digest == spec.digest


def test_digests_tell_specs_apart() -> None:
    digests = {load(name).digest for name in presets()} | {load("single-6c").with_changes(seed=1).digest}
    assert len(digests) == len(presets()) + 1


def test_the_order_of_writing_does_not_matter() -> None:
    one = made(nuisance={"leaves.count": 1, "stem.colour": "moss"})
    other = made(nuisance={"stem.colour": "moss", "leaves.count": 1})
    assert one.digest == other.digest


def test_every_factor_has_a_say() -> None:
    spec = made()
    assert {*spec.classes, *spec.nuisance} == set(FACTORS)


def test_products_run_the_last_factor_fastest() -> None:
    spec = made(classes={"product": {"petals.colour": ["red", "blue"], "stem.colour": ["green", "violet"]}})
    assert spec.classes == {
        "petals.colour": ("red", "red", "blue", "blue"),
        "stem.colour": ("green", "violet", "green", "violet"),
    }
    assert spec.class_names[1] == "red petals, violet stem"


@pytest.mark.parametrize("rows", [1, 2, 9, 10, 6000, 50_001])
def test_rows_are_shared_out_without_loss(rows: int) -> None:
    shared = made().with_changes(rows=rows).rows
    assert shared.total == rows
    assert shared.train == round(0.7 * rows)


def test_own_toml_files(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\n[rows]\ntrain = 7\nval = 1\ntest = 2\n[classes]\n"stem.colour" = ["red", "#12ab34"]\n'
    )
    assert load(str(path)).class_names == ("red", "#12ab34")


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("name = ", "not TOML"), ("\xff", "not TOML"), ('name = "x"', "rows: field required")],
)
def test_files_that_are_no_spec(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "own.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Refusal, match=words):
        load(str(path))


def test_unknown_preset() -> None:
    with pytest.raises(WrongUsage, match=re.escape('unknown preset "double-12"; did you mean "double-12c"?')):
        load("double-12")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FACTORS][:6]) | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(specs.DatasetSpec.model_fields)), junk))
def test_anything_else_is_a_spec_or_one_sentence(changes: dict[str, Any]) -> None:
    try:
        spec = made(**changes)
    except Refusal as refusal:
        assert str(refusal).startswith("x.toml: ")
    else:
        assert from_json(spec.to_json(), "json") == spec


def test_ranges_read_as_written() -> None:
    assert made(nuisance={"view.azimuth": {"from": 0, "to": 90}}).nuisance["view.azimuth"] == Range(
        **{"from": 0, "to": 90}
    )
