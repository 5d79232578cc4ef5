"""What the terminal and the CSV show."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from an8flower.panel import colours, panel
from an8flower.tables import show, show_scores, write_csv

NUMBERS = {
    "mean": 0.5,
    "low": 0.4,
    "high": 0.6,
    "n": 9,
    "undefined": 1,
    "chance": 0.25,
    "oracle": 0.75,
    "calibrated": 0.5,
}
UNDEFINED = dict.fromkeys(NUMBERS) | {"n": 9, "undefined": 9}
COST = {"seconds": 0.002, "forwards": 1.0, "backwards": 0.25}


def document(*methods: str) -> dict[str, object]:
    result = {"parameters": {"layer": None, "[b]": 2}, "metrics": {"iou": NUMBERS, "auroc": UNDEFINED}, "cost": COST}
    return {
        "dataset": {"name": "[red]x", "digest": "d", "split": "test", "rows": 9},
        "target": "label",
        "models": [{"arch": "flowernet", "seed": 0, "digest": "d", "accuracy": 1.0}],
        "results": [{"method": method, **result} for method in methods],
        "skipped": [{"method": "cam", "model": "vit", "reason": "no GAP"}],
        "failed": [],
    }


def test_one_method_shows_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    show_scores(document("gradcam"))
    text = capsys.readouterr().out
    assert "gradcam:[b]=2   (2.00 ms, 1 forward, 0.25 backward passes per image)" in text
    assert " ".join(text.split()).find("iou 0.500 0.400 to 0.600 0.250 0.750 0.500 9 1") > 0
    assert " ".join(text.split()).find("auroc - - to - - - - 9 9") > 0
    assert "skipped cam on vit: no GAP" in text


def test_several_methods_show_calibrated_scores(capsys: pytest.CaptureFixture[str]) -> None:
    show_scores(document("gradcam", "random"))
    assert capsys.readouterr().out.count("0.50±0.20") == 2


def test_markup_in_names_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(["[bold]"], [["[red]a"]])
    assert "[bold]" in (text := capsys.readouterr().out)
    assert "[red]a" in text


def test_csv_reads_back() -> None:
    out = io.StringIO()
    write_csv(document("gradcam"), out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["metric"] for row in rows] == ["iou", "auroc"]
    assert float(rows[0]["calibrated"]) == 0.5
    assert rows[1]["mean"] == ""


def test_colours_run_from_dark_to_bright() -> None:
    shown = colours(np.linspace(-3, 5, 64).reshape(8, 8))
    luminance = shown @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance.reshape(-1)) >= 0).all()
    assert (colours(np.full((4, 4), 7.0)) == colours(np.zeros((4, 4)))).all()


def test_a_panel_of_any_shape() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    narrow = panel(image, np.random.default_rng(0).random((20, 40)))
    wide = panel(image, np.zeros((20, 40)), np.ones((20, 40), np.uint8))
    assert wide.height == narrow.height
    assert wide.width > narrow.width
