"""The sheets of prototypes: where the frame lies, that every prototype has its picture, and what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from an8flower.evaluate.metrics.prototypes import sheet
from an8flower.evaluate.results.prototype_results import Box, JudgedModel
from tests.evaluate.report import test_prototype_sample as made_up


@pytest.fixture(scope="module")
def model() -> JudgedModel:
    return made_up.model(count=27)


def test_the_frame_lies_around_the_box_and_hides_nothing_of_it() -> None:
    """A picture of 32 px becomes four times as large: the box [8, 16) is [32, 64) there."""
    tile = np.asarray(sheet.frame(np.full((32, 32, 3), 90, np.uint8), Box(8, 8, 16, 16)))
    assert (tile[32:64, 32:64] == 90).all()
    for edge in (31, 30, 64, 65):
        assert (tile[edge, 32:64] == sheet.FRAME).all()
        assert (tile[32:64, edge] == sheet.FRAME).all()
    outside = np.ones((128, 128), bool)
    outside[29:67, 29:67] = False
    assert (tile[outside] == 90).all()


def test_each_prototype_has_a_card_and_each_class_a_heading(model: JudgedModel) -> None:
    rows = sheet.list_cards(model, made_up.arrays(model))
    assert [row.heading for row in rows if row.heading][1:] == [f"{name}: 9 prototypes" for name in made_up.CLASSES]
    words = [lines for row in rows for _, lines in row.tiles]
    assert len(words) == 27
    assert max(len(row.tiles) for row in rows) == sheet.ACROSS
    assert words[0] == ["0: petals", "weight 1.50", "here petals 90%", "purity 0.75 (0.25)"]
    assert words[-1] == ["26: found nowhere", "weight 1.24"]
    silent = [tile for row in rows for tile, lines in row.tiles if lines[0] == "26: found nowhere"]
    assert (np.asarray(silent[0]) == 255).all()


def test_this_looks_like_that_names_the_parts_and_the_sum(model: JudgedModel) -> None:
    rows = sheet.list_comparisons(model, made_up.arrays(model))
    assert [len(row.tiles) for row in rows if row.tiles] == [2, 2, 2, 2]
    beside = [row.beside for row in rows if row.tiles]
    assert beside[0][1] == "similarity 3.00 x weight 1.50 = 4.50"
    assert beside[0][2:] == ["petals 80% here", "petals 90% in training row 0: the same part"]
    assert beside[1][3].endswith("leaves 90% in training row 3: another part")
    assert "with 0.25 of 4 more, the sum for red is 8.50, its logit 8.50" in [row.heading for row in rows]


def test_sheets_are_written_beside_each_other(model: JudgedModel, tmp_path: Path) -> None:
    sheet.write_sheets(model, made_up.arrays(model), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"net-seed0-prototypes.png", "net-seed0-looks-like-that.png"}
    with Image.open(tmp_path / "net-seed0-prototypes.png") as picture:
        assert picture.width == sheet.GAP + sheet.ACROSS * (sheet.SIDE + sheet.GAP)
