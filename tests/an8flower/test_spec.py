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
from an8flower.spec import from_json, from_mapping, load, presets
from an8flower.splits import split_sizes
from an8flower.terms import Range

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
        ({"size": "big"}, r'size: expected a whole number, came "big"'),
        ({"rows": {"train": -1, "val": 0, "test": 0}}, r"rows\.train: expected at least 0, came -1"),
        ({"rows": {"train": 0, "val": 0, "test": 0}}, r"all splits are empty"),
        ({"rows": {"train": 5, "test": 0}}, r"rows\.val: missing; add a line such as val = 600 to \[rows\]"),
        ({"colour": "red"}, r'spec: unknown key "colour"; known are: background, class_names, classes'),
        ({"name": "../x"}, r'name: "\.\./x" came; .* use letters a to z, digits'),
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"classes": {"petals": {"colour": ["red", "blue"]}}},
            'classes.petals: put the name of the factor in quotes: "petals.colour" = ...',
        ),
        (
            {"classes": {"product": {"petals": {"colour": ["red", "blue"]}}}},
            'classes.product.petals: put the name of the factor in quotes: "petals.colour" = ...',
        ),
        (
            {"nuisance": {"petals": {"count": 5}}},
            'nuisance.petals: put the name of the factor in quotes: "petals.count" = ...',
        ),
        (
            {"nuisance": {"view.azimuth": {"form": 4, "to": 5}}},
            'nuisance."view.azimuth": unknown key "form"; did you mean "from"? '
            "(a range is written { from = 0, to = 90 })",
        ),
        (
            {"nuisance": {"view.azimuth": {"to": 5}}},
            'nuisance."view.azimuth": a range without "from" came; a range is written { from = 0, to = 90 }',
        ),
        (
            {"nuisance": {"view.azimuth": {"from": "a", "to": 5}}},
            'nuisance."view.azimuth".from: expected a number, came "a"; a range is written { from = 0, to = 90 }',
        ),
        (
            {"classes": {"petals.colour": "red"}},
            'classes."petals.colour": expected a list with an entry for each class, as ["red", "blue"]; came "red"',
        ),
        (
            {"classes": {"petals.phase": {"from": 0, "to": 90}}},
            'classes."petals.phase": expected a list with an entry for each class, as ["red", "blue"]; '
            "came { from = 0, to = 90 }",
        ),
        (
            {"classes": {"petals.colour": ["red", True]}},
            'classes."petals.colour"[1]: expected text or a number, came true',
        ),
        (
            {"nuisance": {"leaves.count": False}},
            'nuisance."leaves.count": expected text, a number, a list of these or a range { from = 0, to = 90 }; '
            "came false",
        ),
        (
            {"name": "blümchen"},
            'name: "blümchen" came; it also names files, so use letters a to z, digits, ".", "_" and "-" alone, '
            "and begin with a letter or a digit",
        ),
        (
            {"classes": {"petals.colour": ["#BF84A8", "blue"]}},
            'classes."petals.colour"[0]: colour "#BF84A8" came; write it in small letters, "#bf84a8"',
        ),
        (
            {"classes": {"petals.colour": ["#fff", "blue"]}},
            'classes."petals.colour"[0]: colour "#fff" came; write # and six digits from 0 to f, as "#bf84a8"',
        ),
        (
            {"classes": {"petals.colour": ["red", "blue", "red"]}, "rows": {"train": 3, "val": 0, "test": 3}},
            "classes: entries 0 and 2 look the same (petals.colour = red), "
            "so neither has a sufficient set of parts; change or remove one",
        ),
        (
            {"classes": {"pot.colour": ["slate", "cream"]}},
            'classes."pot.colour": tells the classes, but no row has the part "pot"; set "pot.count" = 1 in [nuisance]',
        ),
        ({"rows": {"trian": 7, "train": 7, "val": 1, "test": 2}}, 'rows: unknown key "trian"; did you mean "train"?'),
        ({"nuisanse": {}}, 'spec: unknown key "nuisanse"; did you mean "nuisance"?'),
        ({"title": 5}, "title: expected text, came 5"),
    ],
)
def test_the_commonest_slips_get_a_sentence_that_helps(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal) as refusal:
        made(**changes)
    assert str(refusal.value) == f"x.toml: {words}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"classes": {"petals.colour": ["red", "#e0202c"]}},
            r"entries 0 and 1 look the same \(petals\.colour = red and #e0202c\)",
        ),
        (
            {"classes": {"petals.phase": [0, 360]}},
            r"entries 0 and 1 look the same \(petals\.phase = 0 and 360\)",
        ),
        (
            {"classes": {"leaves.count": [0, 0], "leaves.colour": ["red", "blue"]}},
            r"entries 0 and 1 look the same \(leaves\.count = 0\)",
        ),
        (
            {"shortcut": {"factor": "tag.colour", "values": ["red", "blue"], "train": 1.0, "test": 0.0}},
            r'"tag\.colour" cannot be seen, since no row has the part "tag"; set "tag\.count" = 1 in \[nuisance\]',
        ),
        (
            {
                "shortcut": {"factor": "tag.colour", "values": ["red", "#e0202c"], "train": 1.0, "test": 0.0},
                "nuisance": {"tag.count": 1},
            },
            r"shortcut\.values: all look alike",
        ),
        (
            {
                "shortcut": {"factor": "tag.colour", "values": ["red", "blue"], "train": 1.0, "test": 0.0},
                "nuisance": {"tag.count": 1, "tag.colour": "white"},
            },
            r'nuisance\."tag\.colour": is set by the shortcut; remove it from one of the two',
        ),
        ({"classes": {"petals.colour": ["red"]}}, r"classes: one class alone leaves nothing to tell"),
        (
            {"rows": {"train": 7, "val": 1, "test": 1}},
            r"rows\.test: 1 for 2 classes, so some class would have none; give at least 2, or 0",
        ),
        ({"class_names": ["a", " "]}, r"class_names\[1\]: empty; give the class a name"),
        ({"class_names": ["a\nb", "c"]}, r"class_names\[0\]: 'a\\nb' holds a control character"),
    ],
)
def test_a_spec_that_cannot_serve_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        made(**changes)


def test_a_file_is_taken_as_it_is() -> None:
    """What an earlier version accepted still opens, though nobody may write it any more."""
    text = made().to_json().replace('"blue"', '"#e0202c"')
    assert from_json(text, "file").class_count == 2


def test_many_classes_are_checked_in_no_time() -> None:
    shades = [f"#{shade:06x}" for shade in range(5000)]
    rows = {"train": 5000, "val": 0, "test": 5000}
    assert made(rows=rows, classes={"petals.colour": shades}).class_count == 5000


def test_each_preset_says_what_it_is_for() -> None:
    shipped = {"single-6c", "double-12c", "pair-12c", "shape-6c", "thin-4c", "absent-4c", "shortcut-6c", "clutter-6c"}
    assert set(presets()) == {*shipped, "suppressor-4c", "natural-12c", "photo-6c"}
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
    classes = {"product": {"petals.colour": ["red", "blue"], "stem.colour": ["green", "violet"]}}
    spec = made(classes=classes, rows={"train": 4, "val": 4, "test": 4})
    assert spec.classes == {
        "petals.colour": ("red", "red", "blue", "blue"),
        "stem.colour": ("green", "violet", "green", "violet"),
    }
    assert spec.class_names[1] == "red petals, violet stem"


@pytest.mark.parametrize("rows", [0, 1, 2, 9, 10, 6000, 50_001])
def test_rows_are_shared_out_without_loss(rows: int) -> None:
    sizes = split_sizes(rows)
    assert sum(sizes.values()) == rows
    assert sizes["train"] == round(0.7 * rows)


def test_changed_rows_are_shared_out() -> None:
    assert made().with_changes(rows=40).rows.model_dump() == split_sizes(40)


def test_own_toml_files(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\n[rows]\ntrain = 7\nval = 1\ntest = 2\n[classes]\n"stem.colour" = ["red", "#12ab34"]\n'
    )
    assert load(str(path)).class_names == ("red", "#12ab34")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    text = 'name = "own"\n[rows]\ntrain = 7\nval = 1\ntest = 2\n[classes]\n"stem.colour" = ["red", "blue"]\n'
    path = tmp_path / "notepad.toml"
    path.write_text(text, encoding="utf-8-sig")
    assert load(str(path)).name == "own"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("name = ", "not TOML"),
        ("\xff", "not UTF-8"),
        ('name = "x"', "rows: missing"),
    ],
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


def test_the_agreement_of_a_shortcut_is_changed_in_training_and_validation() -> None:
    changed = load("shortcut-6c").with_changes(agreement=0.6)
    assert changed.name == "shortcut-6c-60"
    assert changed.shortcut is not None
    assert (changed.shortcut.train, changed.shortcut.val, changed.shortcut.test) == (0.6, 0.6, 0.0)
    assert changed.digest != load("shortcut-6c").digest
    with pytest.raises(Refusal, match="single-6c: has no shortcut, so nothing can agree in 60% of the rows"):
        load("single-6c").with_changes(agreement=0.6)
