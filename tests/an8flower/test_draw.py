"""Rows by chance: the same whoever asks, balanced, within what the spec says, and without any word on the label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, kruskal

from an8flower import draw
from an8flower.errors import WrongUsage
from an8flower.factors import FACTORS
from an8flower.spec import DatasetSpec, load, presets
from an8flower.terms import Range

GOLDEN_NUMBERS = [0.5614217567150055, 0.6152877327681457]
GOLDEN_LABELS = [1, 4, 2, 3, 0, 5, 2, 0, 1, 4, 3, 5]


@settings(max_examples=30)
@given(st.integers(0, 5000), st.integers(1, 40), st.integers(0, 39))
def test_rows_are_the_same_whoever_asks(start: int, count: int, offset: int) -> None:
    spec = load("clutter-6c")
    many = draw.factors(spec, "train", start, start + count)
    one = draw.factors(spec, "train", start + offset % count, start + offset % count + 1)
    assert (many[offset % count] == one[0]).all()


def test_splits_and_seeds_differ() -> None:
    spec = load("single-6c")
    azimuth = draw.factors(spec, "train", 0, 50)["view.azimuth"]
    assert not np.isin(azimuth, draw.factors(spec, "test", 0, 50)["view.azimuth"]).any()
    assert not np.isin(azimuth, draw.factors(spec.with_changes(seed=1), "train", 0, 50)["view.azimuth"]).any()


def test_another_factor_does_not_shift_the_others() -> None:
    """What a spec says of one factor leaves the numbers of all others as they were."""
    spec = load("single-6c")
    changed = spec.model_copy(update={"nuisance": {**spec.nuisance, "leaves.count": 4}})
    one, other = draw.factors(spec, "train", 0, 100), draw.factors(changed, "train", 0, 100)
    assert [name for name in FACTORS if (one[name] != other[name]).any()] == ["leaves.count"]


@given(st.integers(1, 100), st.integers(0, 100))
def test_labels_are_balanced_within_one_row(rows: int, start: int) -> None:
    counts = np.bincount(draw.labels(load("single-6c"), "train", 0, rows), minlength=6)
    assert counts.max() - counts.min() <= 1
    assert (
        draw.labels(load("single-6c"), "train", start, start + rows)
        == draw.labels(load("single-6c"), "train", 0, 200)[start : start + rows]
    ).all()


@pytest.mark.parametrize("name", presets())
def test_values_are_those_of_the_spec(name: str) -> None:
    spec = load(name)
    table, label = draw.factors(spec, "train", 0, 500), draw.labels(spec, "train", 0, 500)
    for factor, values in spec.classes.items():
        assert (table[factor] == np.array(values).astype(table[factor].dtype)[label]).all()
    for factor, given_value in spec.nuisance.items():
        column = table[factor]
        if (spec.shortcut and factor == spec.shortcut.factor) or (
            spec.suppressor and factor in spec.suppressor.factors
        ):
            continue
        if isinstance(given_value, Range):
            assert column.min() >= given_value.low
            assert column.max() <= given_value.high
        else:
            allowed = given_value if isinstance(given_value, tuple) else (given_value,)
            assert set(np.unique(column)) == set(np.array(allowed).astype(column.dtype))


def _columns(table: np.ndarray) -> dict[str, np.ndarray]:
    """Each number or word that a row has, items of a factor one by one."""
    flat = {}
    for name in table.dtype.names or ():
        if table[name].ndim == 1:
            flat[name] = table[name]
        else:
            flat |= {f"{name}[{i}]": table[name][:, i] for i in range(table[name].shape[1])}
    return flat


def _says_of_the_label(values: np.ndarray, label: np.ndarray) -> float:
    """p-value of the hypothesis that a column is independent of the label; 1 for a constant."""
    kinds, index = np.unique(values, return_inverse=True)
    if len(kinds) == 1:
        return 1.0
    if len(kinds) > 20:
        return float(kruskal(*(values[label == k] for k in range(label.max() + 1))).pvalue)
    counts = np.zeros((len(kinds), label.max() + 1))
    np.add.at(counts, (index, label), 1)
    return float(chi2_contingency(counts).pvalue)


def _nuisance_pvalues(spec: DatasetSpec, split: str) -> dict[str, float]:
    table, label = draw.factors(spec, split, 0, 4200), draw.labels(spec, split, 0, 4200)
    return {
        name: _says_of_the_label(values, label) for name, values in _columns(table).items() if name not in spec.classes
    }


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", presets())
def test_nuisance_says_nothing_of_the_label(name: str, split: str) -> None:
    spec = load(name)
    pvalues = _nuisance_pvalues(spec, split)
    if spec.shortcut:
        assert pvalues.pop(spec.shortcut.factor) < 1e-9  # the test can fail: here it must
    assert min(pvalues.values()) > 0.01 / len(pvalues)  # Bonferroni; the draws are fixed, so this never flickers


def test_the_shortcut_agrees_as_often_as_it_should() -> None:
    spec = load("shortcut-6c")
    assert spec.shortcut
    for split, share in (("train", 0.98), ("val", 0.98), ("test", 0.0)):
        own = np.array(spec.shortcut.values).astype("S16")[draw.labels(spec, split, 0, 4200)]
        agreed = (draw.factors(spec, split, 0, 4200)["tag.colour"] == own).mean()
        assert abs(agreed - share) < 0.01 if share else agreed == 0


def test_overrides_change_what_they_name() -> None:
    table = draw.factors(load("clutter-6c"), "test", 0, 20)
    changed = draw.override(table, {"petals.colour": "blue", "distractors.x": 0.5})
    assert (changed["petals.colour"] == b"blue").all()
    assert (changed["distractors.x"] == 0.5).all()
    assert [name for name in FACTORS if (table[name] != changed[name]).any()] == ["petals.colour", "distractors.x"]
    with pytest.raises(WrongUsage, match='did you mean "petals.colour"'):
        draw.override(table, {"petals.color": "blue"})


def test_the_draws_are_those_of_the_first_release() -> None:
    """The generator is part of the contract: a change of these numbers changes every data set."""
    spec = load("single-6c")
    assert draw.uniform(spec, "test", "view.azimuth", 1000, 1002).tolist() == GOLDEN_NUMBERS
    assert draw.labels(spec, "test", 0, 12).tolist() == GOLDEN_LABELS
