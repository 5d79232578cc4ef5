"""The two cards in Markdown: what they say agrees with the summary, nothing that they show is markup."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from an8flower.errors import Refusal
from an8flower.evaluate.report.markdown import code, escape_markdown, table
from an8flower.evaluate.report.summary_cards import ANNEX, write_cards
from an8flower.evaluate.results.manifest import CARDS
from tests.evaluate.report import test_report_sample as sample


def write(folder: Path, document: dict[str, Any] | None = None) -> tuple[str, str]:
    """The texts of both cards."""
    places = write_cards(sample.write_folder(folder, document))
    assert [path.name for path in places] == list(CARDS)
    model, explanation = (path.read_text(encoding="utf-8") for path in places)
    return model, explanation


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write(tmp_path_factory.mktemp("cards"))


def test_the_same_summary_gives_the_same_cards(cards: tuple[str, str], tmp_path: Path) -> None:
    assert write(tmp_path) == cards


def test_each_card_has_its_sections(cards: tuple[str, str]) -> None:
    for text in cards:
        titles = re.findall("^## (.*?)(?: \\(Annex.*)?$", text, re.MULTILINE)
        for title in (
            "What was asked",
            "What the numbers support",
            "What they do not support",
            "Limits",
            "Intended use",
        ):
            assert titles.count(title) == 1, title
    model, explanation = cards
    assert "flowernet" in model
    assert "(explanation_card.md)" in model
    assert "(model_card.md)" in explanation
    assert "## Metrics (Annex IV, 4)" in explanation


def test_the_model_card_tells_the_recipe_that_a_file_states(tmp_path: Path, cards: tuple[str, str]) -> None:
    assert "recipe, as its file states it" not in cards[0]  # no file states one
    document = sample.summary()
    for study in document["studies"]:
        study["scores"]["models"][0]["recipe"] = "AdamW: all 10 epochs (0.02; cross entropy)"
    model, _ = write(tmp_path, document)
    assert model.count("| `flowernet` | AdamW: all 10 epochs (0.02; cross entropy) |") == 1


def test_the_points_of_the_annex_are_named_without_a_claim(cards: tuple[str, str]) -> None:
    """Annex IV has nine points, the first with (a) to (h), the second with (a) to (h)."""
    known = {str(point) for point in range(1, 10)}
    for text in cards:
        assert "Whether the regulation applies, and whether this is enough, is not said here." in text
        assert not re.search("complian|conform(s|ing) |fulfil|certified under", text)
        for group in re.findall(r"\(Annex IV, ([^\n]*)\)$", text, re.MULTILINE):
            for point in group.split(", "):
                assert re.fullmatch(r"(\d)(\([a-h]\))?", point), point
                assert point[0] in known
    named = "".join(ANNEX) + "".join(cards)
    assert all(re.search(rf"\b{point}\b", named) for point in known)


def test_what_is_supported_is_what_was_told_from_the_best_control(tmp_path: Path) -> None:
    """The third and the fourth method of the sample are above both controls on a board that says so."""
    document = sample.summary()
    scores = document["studies"][0]["scores"]
    metrics = {
        metric: {
            "results": {result["text"]: result["metrics"][metric] for result in scores["results"]},
            "pairs": scores["comparisons"][metric]["pairs"],
            "groups": [],
            "better_than": {"gradcam": {"control": True, "next": False}, "gradcam_pp": {"control": True, "next": None}},
            "trained_anew": {"sentence": "For models trained anew nothing can be said."},
        }
        for metric in scores["families"]
    }
    board = {
        "architectures": {"flowernet": 1},
        "methods": [{"text": result["text"], "equal": []} for result in scores["results"]],
        "missing": {},
        "metrics": metrics,
    }
    document["studies"] = [document["studies"][0] | {"scores": scores | {"boards": [board], "leading": ["iou"]}}]
    _, text = write(tmp_path, document)
    supported, rest = text.split("## What they do not support")
    supported = supported.split("## What the numbers support")[1]
    line = "by `iou`: `gradcam_pp` is first (0.62 on the scale from chance, 0, to the truth, 1; 95 %: 0.59 to 0.65)"
    assert line in supported
    assert "Better than the best control: `gradcam_pp`, `gradcam`." in supported
    assert "`gradcam` cannot be told from it" in supported
    assert "that the maps of `layercam` are better than the best control" in rest
    assert "For models trained anew nothing can be said." in rest


def test_a_model_that_does_not_rely_is_not_supported(tmp_path: Path) -> None:
    document = sample.summary()
    document["studies"] = document["studies"][:1]
    certificate = document["studies"][0]["certificates"][0]
    certificate |= {"flip_rate": sample.interval(0.05), "stability": sample.interval(0.99)}
    document["studies"][0]["certificates"] = [certificate]
    model, _ = write(tmp_path, document)
    supported, rest = model.split("## What they do not support")
    assert "Nothing about what the models rely on." in supported
    assert f"That {certificate['model']} relies on the designed evidence: it does not." in rest


def tokens(text: str) -> list[Any]:
    """The tokens of a text, as CommonMark with tables and links that make themselves reads it."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").enable("strikethrough")
    return [inner for token in markdown.parse(text) for inner in (token, *(token.children or ()))]


def test_hostile_names_are_no_markup(tmp_path: Path, cards: tuple[str, str]) -> None:
    names = (*sample.HOSTILE[:3], "a|b `c` *d* [e](http://f.g) ![h](i) # j", *sample.HOSTILE[4:])
    document = sample.summary(names, names[:3], names[3])
    document["studies"][0]["scores"]["warnings"] = ["# a heading", "<script>alert(1)</script>", "1. [x](y)"]
    document["versions"] = {names[0]: names[3]}
    document["plan"] = {"models": [{"arch": names[3], "epochs": 3}, {"source": names[1], "weights": names[3]}]}
    document["requirements"] = [{"text": names[3], "outcome": "holds", "reason": names[0]}]
    for text in write(tmp_path, document):
        read = tokens(text)
        kinds = {token.type for token in read}
        assert not kinds & {"html_block", "html_inline", "image", "s_open", "em_open", "strong_open", "fence"}
        links = {token.attrs["href"] for token in read if token.type == "link_open"}
        assert links <= {"model_card.md", "explanation_card.md", "report.html"}
        assert {token.tag for token in read if token.type == "heading_open"} == {"h1", "h2"}
        assert sum(token.type == "heading_open" for token in read) in range(8, 14)


@settings(max_examples=60)
@given(st.text("ab_*`|[](){}<>&#!~\\-+.1: \n", max_size=24))
def test_any_text_is_read_back_as_it_is(text: str) -> None:
    """The text of one list item, and of one cell of a table, comes back but for white space."""
    expected = " ".join(text.split())
    read = tokens(f"- x {escape_markdown(text)}\n")
    (inline,) = (token for token in read if token.type == "inline")
    assert {child.type for child in inline.children} <= {"text", "text_special"}
    shown = "".join(child.content for child in inline.children).replace("\N{WORD JOINER}", "")
    assert shown == f"x {expected}".strip()
    cells = [token for token in tokens(table(["a", "b"], [[text, code(text)]])) if token.type == "inline"]
    assert len(cells) == 4
    plain = "".join(child.content for child in cells[2].children).replace("\N{WORD JOINER}", "")
    assert plain == expected


def test_a_damaged_summary_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"studies": [{}]}))
    with pytest.raises(Refusal, match="not a summary that this version can read"):
        write_cards(tmp_path)
    assert not [tmp_path / name for name in CARDS if (tmp_path / name).exists()]
