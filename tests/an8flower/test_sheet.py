"""Contact sheets: where pictures and marks lie, and what the marks say."""

from __future__ import annotations

import numpy as np
import pytest

from an8flower.sheet import ABSENCE, GAP, MARGIN, PRESENCE, contact_sheet, mark_evidence

SIZE = 20


@pytest.mark.parametrize(("rows", "columns", "lines"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (5, 1, 5)])
def test_every_picture_lies_on_the_sheet_unchanged(rows: int, columns: int, lines: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (rows, SIZE, SIZE, 3), np.uint8)
    sheet = np.asarray(contact_sheet(images, np.zeros((rows, SIZE, SIZE), np.uint8), columns))
    across, down = SIZE + MARGIN, 2 * SIZE + GAP + MARGIN
    assert sheet.shape == (lines * down + MARGIN, min(rows, columns) * across + MARGIN, 3)
    for row, image in enumerate(images):
        top, left = MARGIN + row // columns * down, MARGIN + row % columns * across
        assert (sheet[top : top + SIZE, left : left + SIZE] == image).all()


def test_evidence_keeps_its_colours_within_an_outline() -> None:
    image = np.full((SIZE, SIZE, 3), (10, 200, 30), np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[5:9, 5:9] = 1
    shown = mark_evidence(image, mask)
    assert (shown[5:9, 5:9] == image[5:9, 5:9]).all()
    assert (shown[4, 5:9] == PRESENCE).all()
    assert (shown[5:9, 9] == PRESENCE).all()
    assert shown[0, 0].min() > 200


def test_absent_evidence_has_a_colour_of_its_own() -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[5:9, 5:9] = 2
    shown = mark_evidence(np.full((SIZE, SIZE, 3), 128, np.uint8), mask)
    assert (shown[4, 5:9] == ABSENCE).all()
    assert shown[6, 6, 2] > shown[6, 6, 0] + 50
    assert not (shown == PRESENCE).all(axis=2).any()
