"""Tables at 80 and 60 columns, and piped: every name whole, nothing wider than the terminal, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from an8flower.commands.fitting import GOES_ON, fitting, least_width, show
from an8flower.commands.tables import show_scores
from an8flower.evaluate.results.wording import model_words

METHODS = ["gradcam", "integrated_gradients:steps=20", "guided_gradcam", "random"]
COLUMNS = ["method", "mean", "95 % interval", "skill", "of this picture", "tied", "rank", "95 % of ranks", "first"]
ROWS = [[name, "0.251", "0.201 to 0.299", "0.12", "0.31", "ab", "1.5", "1 to 3", "52%"] for name in METHODS]


def printed(capsys: pytest.CaptureFixture[str], width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    show(
        COLUMNS, ROWS, title="iou: methods with a common letter are tied (Holm over 6 pairs; these models, other rows)"
    )
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_names_and_numbers_are_whole_at_any_width(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(capsys, width, monkeypatch)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for wanted in (*METHODS, *COLUMNS, "0.201 to 0.299", "52%"):
        assert wanted in words


def test_what_does_not_fit_goes_on_below_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert GOES_ON not in printed(capsys, 140, monkeypatch)
    assert printed(capsys, 60, monkeypatch).count(GOES_ON) == 3


def test_the_title_is_as_wide_as_the_terminal_and_not_as_the_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show(["a"], [["b"]], title="one title of more than the two letters that its table has")
    assert "one title of more than the two letters that its table has" in capsys.readouterr().out


def test_a_name_wider_than_the_terminal_goes_on_in_the_next_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "package.module:AVeryLongNameOfAMethod:first=1,second=2,third=3"
    show(["method", "mean"], [[name, "0.5"]])
    lines = capsys.readouterr().out.splitlines()
    assert name in "".join(line.strip() for line in lines[2:]).replace("0.5", "").replace(" ", "")
    assert max(map(len, lines)) <= 40


def test_sentences_are_wrapped_and_no_word_is_lost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    sentence = "every pixel of the map is held against the mask of the designed evidence in this row"
    show(["name", "what it is"], [["iou_area", sentence]])
    text = capsys.readouterr().out
    assert all(word in text for word in sentence.split())
    assert GOES_ON not in text


@given(
    st.lists(st.text("abc ", min_size=1, max_size=30), min_size=1, max_size=8),
    st.integers(20, 200),
    st.integers(0, 3),
)
def test_every_column_stands_in_one_table_and_the_first_in_all(columns: list[str], width: int, count: int) -> None:
    rows = [[column[::-1] for column in columns] for _ in range(count)]
    parts = list(fitting(columns, rows, width))
    assert all(part[0] == 0 for part in parts)
    assert [place for part in parts for place in part[1:]] == list(range(1, len(columns)))
    for part in parts:
        alone = len(part) <= 2
        assert alone or 2 + sum(least_width(columns, rows, place) for place in part) <= width


def test_a_model_without_a_seed_is_called_by_its_architecture() -> None:
    assert model_words({"arch": "mine:net", "seed": None}) == "mine:net"


def test_no_number_of_rows_is_proposed_that_has_failed_already(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"mean": 0.5, "low": 0.4, "high": 0.6, "chance": 0.0, "oracle": 1.0, "calibrated": 0.5, "n": 9}
    cost = {"seconds": 0.002, "forwards": 1.0, "backwards": 0.25}
    results = [
        {"method": name, "text": name, "parameters": {}, "metrics": {"iou": numbers}, "cost": cost} for name in "ab"
    ]
    pair = {"a": "a", "b": "b", "apart": False}
    standing = {"rank": 1.5, "low": 1, "high": 2, "first": 0.5}
    document = {
        "dataset": {"name": "x", "digest": "d", "split": "test", "rows": 6},
        "target": "label",
        "leading": ["iou"],
        "models": [],
        "results": results,
        "skipped": [],
        "comparisons": {"iou": {"pairs": [pair], "groups": [["a", "b"]]}},
        "ranks": {"iou": {"methods": {"a": standing, "b": standing}}},
    }
    show_scores({**document, "power": {"iou": [{**pair, "rows": 2}]}})
    assert "The nearest to being told apart" not in capsys.readouterr().out
    show_scores({**document, "power": {"iou": [{**pair, "rows": 40}]}})
    assert "The nearest to being told apart: a and b, with 40 rows" in " ".join(capsys.readouterr().out.split())
