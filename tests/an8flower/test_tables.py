"""What the terminal and the CSV show."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

import numpy as np
import pytest

from an8flower.commands.fitting import show
from an8flower.commands.tables import show_scores, write_csv
from an8flower.evaluate.explaining.panel import colour, draw_panel

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
LOWER = NUMBERS | {"chance": 0.75, "oracle": 0.25}
COST = {"seconds": 0.002, "forwards": 1.0, "backwards": 0.25}


@pytest.fixture(autouse=True)
def of_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the width that whoever runs the tests may have set."""
    monkeypatch.delenv("COLUMNS", raising=False)


def document(*methods: str) -> dict[str, object]:
    metrics = {"auroc": UNDEFINED, "iou": NUMBERS, "deletion": LOWER}
    result = {"parameters": {"layer": None, "[b]": 2}, "metrics": metrics, "cost": COST}
    return {
        "dataset": {"name": "[red]x", "digest": "d", "split": "test", "rows": 9},
        "target": "label",
        "leading": ["iou"],
        "models": [{"arch": "flowernet", "seed": 0, "digest": "d", "accuracy": 1.0}],
        "results": [{"method": method, "text": method, **result} for method in methods],
        "skipped": [{"method": "cam", "model": "vit", "reason": "no GAP"}],
        "failed": [],
    }


def test_one_method_shows_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    show_scores(document("gradcam"))
    text = capsys.readouterr().out
    assert "gradcam:[b]=2   (2.00 ms, 1 forward, 0.25 backward passes per image)" in text
    assert " ".join(text.split()).find("iou 0.500 0.400 to 0.600 0.250 0.750 0.500 - - - 9 1") > 0
    assert " ".join(text.split()).find("auroc - - to - - - - - - - 9 9") > 0
    assert "deletion (lower is better) 0.500" in " ".join(text.split())
    assert "skipped cam on vit: no GAP" in text


def test_several_methods_show_calibrated_scores(capsys: pytest.CaptureFixture[str]) -> None:
    show_scores(document("gradcam", "random"))
    text = capsys.readouterr().out
    assert text.count("0.50±0.20") == 4
    assert "tied" not in text  # where nothing was compared


def contrasted(*methods: str) -> dict[str, object]:
    """Three or more methods, of which neighbours are tied, and of which the last has no value by `iou`."""
    *ranked, last = methods
    standings = {name: {"rank": float(i), "low": 1.0, "high": 2.5, "first": 0.25} for i, name in enumerate(ranked, 1)}
    pairs = [{"a": a, "b": b, "apart": False} for a, b in pairwise(ranked)]
    power = [{"a": a, "b": b, "rows": rows} for rows, (a, b) in enumerate(pairwise(ranked), 90)]
    shares = {"rows": 0.25, "models": 0.5, "residual": 0.25, "clipped": False}
    return document(*methods) | {
        "comparisons": {"iou": {"groups": [list(pair) for pair in pairwise(ranked)], "pairs": pairs}},
        "ranks": {"iou": {"methods": {**standings, last: None}, "agreement": 0.9, "tau_seeds": 0.5}},
        "variance": {"iou": {**dict.fromkeys(ranked, shares), last: None}},
        "power": {"iou": [{"a": ranked[0], "b": ranked[-1], "rows": 5}, *power]},
    }


def test_how_methods_compare_is_shown_for_one_metric(capsys: pytest.CaptureFixture[str]) -> None:
    show_scores(contrasted("x", "y", "z", "none"))
    text = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "iou: methods with a common letter are tied (Holm over 2 pairs; these models, other rows)" in lines
    assert "method mean 95 % interval tied rank 95 % of ranks first rows models residual" in lines
    assert "x 0.500 0.400 to 0.600 a 1.0 1 to 2.5 25% 25% 50% 25%" in lines
    assert "y 0.500 0.400 to 0.600 a b 2.0 1 to 2.5 25% 25% 50% 25%" in lines
    assert "none 0.500 0.400 to 0.600 - - - - - -" in lines
    assert "over redrawn rows: Kendall's W 0.90; seeds: tau 0.50" in text
    assert "x and y, with 90 rows" in text  # x and z are apart already
    assert text.count("tied") == 2


def test_one_method_shows_where_its_scores_differ(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"rows": 0.25, "models": 0.5, "residual": 0.25, "clipped": True}
    show_scores(document("x") | {"comparisons": {}, "ranks": {}, "power": {}, "variance": {"iou": {"x": shares}}})
    text = capsys.readouterr().out
    assert "iou: shares of the variance" in text
    assert "x 25% 50% 25%" in " ".join(text.split())


def test_a_wide_table_is_cut_by_family(capsys: pytest.CaptureFixture[str]) -> None:
    """No heading and no number is cut short, and every metric is there once."""
    families = {f"{family}_{i:02}": family for i in range(18) for family in ("faithfulness", "localisation")}
    told = document("gradcam", "random") | {"families": families}
    for result in told["results"]:
        result["metrics"] = dict.fromkeys(families, NUMBERS)
    show_scores(told)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 200
    assert "…" not in text
    assert all(text.count(name) == 1 for name in families)
    headings = [line for line in text.splitlines() if line.startswith("  method")]
    assert len(headings) > 2
    assert not any("faithfulness_" in line and "localisation_" in line for line in headings)
    assert [text.count(f"{family}, likewise") for family in ("faithfulness", "localisation")] == [1, 2]


def test_a_score_that_cannot_be_calibrated_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    """Chance and the truth differ by less than a hundredth of the interval."""
    told = document("gradcam", "random")
    for result in told["results"]:
        result["metrics"] = {"iou": NUMBERS | {"oracle": 0.251}}
    show_scores(told)
    assert "±" not in capsys.readouterr().out.split("interval")[1]


def test_markup_in_names_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(["[bold]"], [["[red]a"]])
    assert "[bold]" in (text := capsys.readouterr().out)
    assert "[red]a" in text


def test_csv_reads_back() -> None:
    out = io.StringIO()
    write_csv(document("gradcam"), out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["metric"] for row in rows] == ["auroc", "iou", "deletion"]
    assert rows[0]["mean"] == ""
    assert float(rows[1]["calibrated"]) == 0.5


def test_colours_run_from_dark_to_bright() -> None:
    shown = colour(np.linspace(-3, 5, 64).reshape(8, 8))
    luminance = shown @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance.reshape(-1)) >= 0).all()
    assert (colour(np.full((4, 4), 7.0)) == colour(np.zeros((4, 4)))).all()


def test_a_panel_of_any_shape() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    narrow = draw_panel(image, np.random.default_rng(0).random((20, 40)))
    wide = draw_panel(image, np.zeros((20, 40)), np.ones((20, 40), np.uint8))
    assert wide.height == narrow.height
    assert wide.width > narrow.width
