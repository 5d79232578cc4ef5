"""Masks and coverage: held against pictures of twice the size, and against the same rows rendered as other classes."""

from __future__ import annotations

import numpy as np
import pytest

from an8flower import interventions
from an8flower.album import open_album
from an8flower.evidence import evidence_parts
from an8flower.factors import PARTS
from an8flower.generate import make_rows
from an8flower.marking import locate_evidence, marked_parts
from an8flower.render import render, render_marked
from an8flower.scene import build
from an8flower.spec import DatasetSpec, load, presets
from an8flower.store import StoredRows
from an8flower.writing import Block

SIZE = 42
COLOURS_ALONE = [name for name in presets() if name not in ("shape-6c", "absent-4c")]


def rows_of(name: str, count: int = 24) -> StoredRows:
    return make_rows(load(name).with_changes(size=SIZE), Block("test", 0, count))


def changes(name: str, rows: StoredRows) -> np.ndarray:
    """Where the picture of a row changes when the row has another class, whichever: (n, S, S) bool."""
    spec = load(name)
    album = open_album(spec.with_changes(size=SIZE), "test")
    classes = [np.full(len(rows.labels), other) for other in range(spec.class_count)]
    pictures = [
        render(build(interventions.as_class(spec, rows.factors, other), album), SIZE, threads=1)[0] for other in classes
    ]
    return np.any([(picture != rows.images).any(3) for picture in pictures], axis=0)


@pytest.mark.parametrize("name", COLOURS_ALONE)
def test_coverage_counts_samples_that_show_evidence(name: str) -> None:
    """The samples of a pixel are the centres of the pixels of a picture twice as large."""
    spec, rows = load(name), rows_of(name)
    fine = render(build(rows.factors, open_album(spec, "test")), 2 * SIZE, threads=1)[1]
    for label, parts, coverage in zip(rows.labels, fine, rows.coverage, strict=True):
        shown = np.isin(parts, [PARTS.index(part) for part in evidence_parts(spec, label)])
        share = shown.reshape(SIZE, 2, SIZE, 2).mean((1, 3))
        assert (np.abs(coverage / 255 - share) < 0.003).all()


@pytest.mark.parametrize("name", sorted({*presets()} - {"double-12c", "natural-12c"}))
def test_nothing_but_evidence_and_void_changes_with_the_class(name: str) -> None:
    """In the two left out the neutral part, which is no evidence by itself, changes as well."""
    rows = rows_of(name)
    assert not (changes(name, rows) & (rows.masks == 0) & ~rows.void).any()


@pytest.mark.parametrize("name", presets())
def test_void_is_a_rim(name: str) -> None:
    """What is void is covered in part, or a shadow: only absent-4c has shadows that follow its classes."""
    rows = rows_of(name)
    partly = (rows.coverage > 1) & (rows.coverage < 255)
    odd = (
        rows.void & ~partly & (rows.coverage != 1)
    )  # a centre that shows evidence which no sample does, or the reverse
    assert odd.mean() < 0.001
    assert (rows.coverage == 1).any() == (name == "absent-4c")
    assert (rows.void & (rows.coverage != 1)).mean() < 0.15


def test_gaps_are_where_petals_of_other_classes_would_be() -> None:
    spec, rows = load("shape-6c"), rows_of("shape-6c")
    petals = np.zeros(rows.masks.shape, bool)
    for other in range(spec.class_count):
        table = interventions.as_class(spec, rows.factors, np.full(len(rows.labels), other))
        petals |= render(build(table), SIZE, threads=1)[1] == PARTS.index("petals")
    assert (petals == (rows.masks > 0)).all()
    assert ((rows.masks == 1) == (rows.parts == PARTS.index("petals"))).all()
    assert (rows.masks == 3).any((1, 2)).all()


def test_evidence_by_absence_leaves_no_gaps() -> None:
    assert set(np.unique(rows_of("absent-4c").masks)) == {0, 1, 2}


def test_where_the_evidence_may_be_tells_no_class() -> None:
    """The marked and void pixels are the same whichever class a scene is given, if all classes share their parts."""
    for name in ("shape-6c", "absent-4c"):
        spec = load(name).with_changes(size=SIZE)
        block = Block("test", 0, 12)
        rows = make_rows(spec, block)
        regions = []
        for other in range(spec.class_count):
            labels = np.full(len(rows.labels), other)
            regions.append(region_of(spec, labels, interventions.as_class(spec, rows.factors, labels)))
        assert all((region == regions[0]).all() for region in regions)


def region_of(spec: DatasetSpec, labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Pixels (n, S, S) bool that are evidence or void."""
    rendering = render_marked(build(table), spec.size, marked_parts(spec)[labels], threads=1)
    located = locate_evidence(spec, labels, table, rendering)
    return (located.masks > 0) | (located.coverage > 0)
