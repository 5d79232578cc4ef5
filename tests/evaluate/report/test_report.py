"""The page as a file: what it says, what it escapes, what it leaves out; the same folder gives the same bytes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from an8flower.errors import Refusal
from an8flower.evaluate.report.certificates import certificate_rows
from an8flower.evaluate.report.leaderboard import COLUMNS
from an8flower.evaluate.report.numbers import DASH, MINUS, calibrated_interval
from an8flower.evaluate.report.page import to_script_json, write_page
from an8flower.evaluate.report.pictures import levels
from an8flower.evaluate.report.plots import choose_looks
from an8flower.evaluate.report.study import StudyView
from an8flower.evaluate.report.verdict import reliance, verdict
from an8flower.evaluate.results.manifest import CARDS
from an8flower.evaluate.results.verdict_words import QUESTIONS
from an8flower.evaluate.results.verdicts import verdicts
from tests.evaluate.report import test_report_sample as sample

VOID = {"meta", "input", "img", "br", "wbr", "link", "hr"}
LOADS = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")


class Page(HTMLParser):
    """The elements of a page; fails where one is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        tag, attributes = self.open[-1] if self.open else ("", {})
        key = f"{tag}#{attributes.get('id')}" if attributes.get("id") else tag
        self.texts.setdefault(key, []).append(data)
        if tag not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """What is read, with single spaces."""
        return " ".join("".join(self.words).split())

    @property
    def data(self) -> Any:
        """What the script gets."""
        return json.loads("".join(self.texts["script#data"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = sample.write_folder(tmp_path_factory.mktemp("audit"))
    write_page(found)
    return found


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    names = sample.HOSTILE
    document = sample.summary(names, names[:3], names[0])
    document["studies"][0]["scores"]["warnings"] = [names[2]]
    document["studies"][0]["dataset"]["path"] = names[0]
    document["studies"][0]["slices"]["iou"][0]["value"] = names[2]
    document["studies"][0]["curves"]["iou"] |= {"title": names[2], "x_title": names[3], "y_title": names[4]}
    document["studies"][0]["sanity"][0]["results"][0]["curves"]["cascading"][0]["layer"] = names[2]
    document["versions"] = {names[0]: names[1]}
    place = write_page(sample.write_folder(tmp_path_factory.mktemp("hostile"), document))
    return Page(place.read_text(encoding="utf-8"))


def study(**changes: Any) -> StudyView:
    """The first data set of the sample, changed."""
    return StudyView(0, sample.summary()["studies"][0] | changes)


def small() -> dict[str, Any]:
    """The summary of the sample with one data set and no plots."""
    document: dict[str, Any] = sample.summary()
    document["studies"] = [document["studies"][0] | {"curves": {}, "slices": {}, "sanity": []}]
    return document


# ---- The file --------------------------------------------------------------------------------------------------


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = write_page(sample.write_folder(tmp_path))
    assert again == tmp_path / "report.html"
    assert again.read_bytes() == (folder / "report.html").read_bytes()
    assert {each.name for each in tmp_path.iterdir()} == {"summary.json", "report.html", "pictures", "filters"}


def test_what_has_changed_is_told_with_the_worst_first(page: Page, hostile: Page) -> None:
    sentence = "6 cells: 1 worse, 1 gone, 1 better, 1 new, 1 cannot be told, 1 equal"
    assert f"Beside the audit in runs/flowers, made by an8flower 0.0.9: {sentence}." in page.text
    text = "".join(page.text.split())  # cells of a table follow each other without a blank
    worse, better = (f"{sample.METHODS[place]}iouflowernetseed{place}flowers" for place in (0, 2))
    numbers = f"0.5000.400{MINUS}0.100{MINUS}0.150to{MINUS}0.0500.01060"
    assert f"{worse}worse{numbers}{better}better{numbers}" in text
    others = [f"{sample.METHODS[place % 5]}iouflowernetseed{place}flowers" for place in (4, 5)]
    assert f"{others[0]}cannotbetold{numbers}{others[1]}equal{numbers}" in text
    assert f"Gone: {sample.METHODS[1]} (1 cell)." in page.text
    assert "A note about" in hostile.text


def test_no_torch_is_loaded(folder: Path) -> None:
    code = (
        "import sys, pathlib; from an8flower.evaluate.report.page import write_page; "
        "write_page(pathlib.Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, folder], check=False).returncode == 0


@pytest.mark.parametrize("which", ["page", "hostile"])
def test_nothing_is_loaded_and_nothing_else_may_run(which: str, request: pytest.FixtureRequest) -> None:
    page: Page = request.getfixturevalue(which)
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in LOADS:
            value = attributes.get(name) or "#"
            if (tag, name) != ("a", "href") or value not in CARDS:  # the cards that lie beside the page
                assert value.startswith(("#", "data:image/")), (tag, name, value)
    assert not {"iframe", "object", "embed", "link", "base"} & {tag for tag, _ in page.elements}


def test_the_policy_names_our_own_script_and_style(page: Page) -> None:
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for name, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = page.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"


def test_names_are_unique_and_references_lead_somewhere(page: Page) -> None:
    names = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(names) == len(set(names))
    links = {
        attributes[name] for _, attributes in page.elements for name in ("href", "xlink:href") if name in attributes
    }
    assert set(CARDS) <= links
    assert {link[1:] for link in links if link and link not in CARDS} <= set(names)
    clips = {path["clip-path"] for _, path in page.elements if path.get("clip-path")}
    assert {clip[5:-1] for clip in clips if clip} <= set(names)


def test_headings_are_in_order(page: Page) -> None:
    depths = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert depths[0] == 1
    assert depths.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(depths))


def test_two_derivations_stand_side_by_side_with_what_is_undefined(page: Page) -> None:
    """The sample has a model whose derivations agree, and one without a gradient."""
    assert "Is the truth of the model sure?" in page.text
    assert "0.8 or more for 1 of 2 models, and its lower limit for 0" in page.text
    assert "8: the model gives no gradient" in page.text


# ---- Hostile names ---------------------------------------------------------------------------------------------


def test_hostile_names_add_no_element(page: Page, hostile: Page) -> None:
    """The same page but for its words: as many elements of each kind that could do harm."""
    for tag in ("script", "style", "img", "canvas", "meta", "form"):
        assert len(hostile.all(tag)) == len(page.all(tag)), tag
    assert len(hostile.texts["script"]) == 1


def test_hostile_names_are_there_as_text(hostile: Page) -> None:
    for name in (*sample.HOSTILE[:4], "Blüte \ufffd"):
        assert " ".join(name.split()) in hostile.text
    assert "{{ 7*7 }}" in hostile.text
    assert hostile.all("tr")
    boards = [label for label in (each.get("aria-label") for each in hostile.all("canvas")) if label]
    assert any(sample.HOSTILE[3] in label for label in boards)


@given(st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
def test_data_for_the_script_cannot_leave_their_element(data: Any) -> None:
    text = to_script_json(data)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == data


def test_the_summary_travels_whole(folder: Path, page: Page) -> None:
    packed = gzip.decompress(base64.b64decode(page.data["summary"]))
    assert json.loads(packed) == json.loads((folder / "summary.json").read_text(encoding="utf-8"))


# ---- Numbers ---------------------------------------------------------------------------------------------------


def by_title(row: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The texts of a row of the leaderboard, and what it is sorted by, by the titles of the columns."""
    titles = [column.title for column in COLUMNS]
    texts, sorts = zip(*row["cells"], strict=True)
    return dict(zip(titles, texts, strict=True)), dict(zip(titles, sorts, strict=True))


def test_what_a_score_is_worth_stands_beside_it(tmp_path: Path) -> None:
    document = small()
    scores = document["studies"][0]["scores"]
    scores |= {"leading": ["le", "iou"]}
    third, fourth = (result["metrics"]["le"] for result in scores["results"][2:4])
    third |= {"ceiling": 0.7, "skill": 0.31, "skill_low": 0.2, "skill_high": 0.4, "skill_control": "center"}
    third |= {"of_this_picture": 0.5, "of_this_picture_low": 0.45, "of_this_picture_high": 0.55}
    fourth |= {"skill": None, "skill_reason": "no control", "skill_low": None, "skill_high": None}
    text = write_page(sample.write_folder(tmp_path, document)).read_text(encoding="utf-8")
    rows = Page(text).data["boards"]["study0"]["le"]["rows"]
    texts, sorts = by_title(rows["2"])
    assert (texts["ceiling"], texts["skill"]) == ("0.70", "0.31 (0.20 to 0.40)")
    assert (texts["of this picture"], sorts["skill"]) == ("0.50 (0.45 to 0.55)", 0.31)
    assert by_title(rows["3"])[0]["skill"] == DASH
    assert "Methods are ranked by le, and iou beside it: the plan says so, or its default, before anything is" in text
    assert "y le, gradcam_pp explains best" in text.replace("<wbr>", "")
    assert "by iou, it is first as well" in text


def test_the_leaderboard_tells_the_numbers_of_the_summary(page: Page) -> None:
    for metric, (chance, oracle) in sample.REFERENCES.items():
        board = page.data["boards"]["study0"][metric]
        undefined = {len(sample.QUALITY) - 1} if metric == "average_drop" else set()
        assert board["lower"] == (oracle < chance)
        for index, quality in enumerate(sample.QUALITY):
            texts, sorts = by_title(board["rows"][str(index)])
            mean = chance + quality * (oracle - chance)
            if index in undefined:
                assert {texts[title] for title in ("calibrated", "95 % interval", "mean", "skill")} == {DASH}
                assert texts["undefined"] == "60"
                continue
            assert sorts["mean"] == pytest.approx(mean)
            assert texts["mean"] == f"{mean:.3f}"
            if oracle == chance:
                assert texts["calibrated"] == texts["95 % interval"] == DASH
                assert board["rows"][str(index)]["bar"] is None
            else:
                assert texts["calibrated"] == f"{quality:.2f}"
                assert sorts["calibrated"] == pytest.approx(quality)
                assert texts["95 % interval"] == f"{quality - 0.03:.2f} to {quality + 0.03:.2f}".replace("-", MINUS)


def test_intervals_of_metrics_where_less_is_more_are_turned() -> None:
    place = calibrated_interval(sample.numbers("le", 0.6))
    assert place
    assert place == pytest.approx((0.6, 0.57, 0.63))


def test_nothing_is_calibrated_where_chance_and_the_truth_are_alike() -> None:
    assert calibrated_interval(sample.numbers("flat", 0.6)) is None
    near = sample.numbers("iou", 0.6) | {"chance": 0.5, "oracle": 0.5001}
    assert calibrated_interval(near) is None


def test_the_download_has_every_number(page: Page) -> None:
    table = page.data["tables"]["all-numbers"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert len(rows) == 2 * len(sample.METHODS) * len(sample.METRICS)
    (one,) = [r for r in rows if (r["dataset"], r["method"], r["metric"]) == ("flowers", "gradcam", "le")]
    assert (one["mean"], one["calibrated"], one["tied"], one["n"]) == (pytest.approx(0.32), 0.6, "a", 60)


def test_every_plot_has_its_numbers(page: Page) -> None:
    plots = [each for each in page.all("figure") if each.get("class") == "plot"]
    keys = {(each["id"] or "").removeprefix("figure-") for each in plots}
    assert keys == set(page.data["tables"]) - {"all-numbers"}
    assert {"iou-study0", "deletion-study1", "cost-study0", "slice-class-study0", "ablation0-study0"} <= keys
    table = page.data["tables"]["iou-study0"]
    assert table["rows"][3] == ["random", 0.15, None, -0.02, 0.02]
    assert len(table["rows"]) == 21 * len(sample.METHODS)


def test_plots_take_their_colours_from_the_page(page: Page) -> None:
    shapes = [attributes for tag, attributes in page.elements if tag in ("path", "use", "text", "line")]
    assert not [each for each in shapes if re.search("#[0-9a-f]{6}", each.get("style") or "")]
    assert not [each for each in page.all("text") if "font-family" in (each.get("style") or "")]


def test_28_methods_are_told_apart_in_a_plot() -> None:
    assert len(set(choose_looks([False] * 28))) == 28
    assert len({(look.hue, look.dash) for look in choose_looks([False] * 28)}) == 28


@given(arrays(np.float16, (5, 7), elements=st.floats(-100, 100, width=16)))
def test_levels_keep_every_threshold_of_the_iou(values: np.ndarray) -> None:
    span = values.astype(float) - values.astype(float).min()
    normal = span / span.max() if span.max() else span
    for k in range(100):
        np.testing.assert_array_equal(levels(values) > k, normal > k / 100)


def test_values_that_are_no_numbers_are_above_no_threshold() -> None:
    assert levels(np.array([[np.nan, 0.0], [np.inf, 1.0]])).tolist() == [[0, 0], [0, 100]]
    assert not levels(np.full((2, 2), np.nan)).any()


# ---- The verdict -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flip", "stability", "word"), [(0.97, 0.98, "yes"), (0.97, 0.8, "part"), (0.3, 0.99, "no"), (None, 0.9, "unknown")]
)
def test_reliance(flip: float | None, stability: float, word: str) -> None:
    assert reliance(sample.certificate("m", flip, stability)) == word
    assert reliance(sample.early_certificate("m", flip, stability)) == word


@pytest.mark.parametrize(
    ("alone", "rest", "word"), [(0.97, 0.02, "yes"), (0.97, 0.3, "part"), (0.7, 0.02, "part"), (0.2, 0.6, "no")]
)
def test_reliance_asks_either_half_of_the_change(alone: float, rest: float, word: str) -> None:
    assert reliance(sample.certificate("m", alone=alone, rest=rest)) == word


def test_limits_decide_and_not_shares() -> None:
    few = {"mean": 1.0, "low": 0.86, "high": 1.0, "n": 24, "undefined": 0}
    assert reliance({**sample.certificate("m"), "flip_rate": few}) == "part"
    half = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 90, "undefined": 0}
    assert reliance({**sample.certificate("m"), "flip_rate": half}) == "unknown"


def test_early_certificates_stand_beside_later_ones() -> None:
    early, later = certificate_rows(study(certificates=[sample.early_certificate("a"), sample.certificate("b")]))
    assert [column for column, _, _ in early.key_numbers] == [column for column, _, _ in later.key_numbers]
    halves = {column: share for column, share, _ in early.key_numbers}
    assert halves["its pixels alone"] == halves["all other pixels alone"] == DASH
    assert len(later.shares) == len(early.shares) + 8
    assert ["follows the petals alone", "90.0 %"] in [share[:2] for share in later.shares]


def test_the_page_warns_of_redundant_data_where_scores_are(tmp_path: Path) -> None:
    document = small()
    document["studies"][0]["scores"]["redundant"] = "x is redundant: told by the disc alone or by the petals alone"
    document["studies"][0]["certificates"] = [sample.early_certificate("early")]
    place = write_page(sample.write_folder(tmp_path, document))
    text = Page(place.read_text(encoding="utf-8")).text
    assert "Redundant. x is redundant: told by the disc alone or by the petals alone." in text.split("Leaderboard")[-1]


def test_three_sentences_of_a_sound_audit() -> None:
    truth, best, care = verdict([study()], {"failed": [{"cell": "c"}]})
    assert truth.startswith("There is a truth to score against: all 3 models rely on the designed evidence")
    assert "97.0 %" in truth
    assert "gradcam_pp explains best (calibrated 0.62, 95 % 0.59 to 0.65" in best
    assert "cannot be told from gradcam;" in best
    assert "the best of the controls, which explain nothing, is center (0.20)" in best
    fails = "layercam hardly notices that all layers are random (1 of 1 model, 6 draws each)"
    assert care == f"Be careful: {fails}; 1 part of the audit failed."


def test_models_that_rely_on_something_else() -> None:
    found = [sample.certificate("a"), sample.certificate("b", 0.1), sample.certificate("c", None)]
    truth, _, care = verdict([study(certificates=found)], {})
    assert "only in part: of 3 models" in truth
    assert "1 on it, 1 on something else, 1 on what cannot be told" in truth
    assert "what is scored for b and c is not what they rely on" in care
    truth, *_ = verdict([study(certificates=found[1:2])], {})
    assert truth.startswith("There is no truth to score against")


def test_no_certificate() -> None:
    truth, *_ = verdict([study(certificates=[])], {})
    assert truth == "Whether there is a truth to score against is not known: no model has a certificate."


def test_a_control_that_wins_is_named() -> None:
    scores = sample.scores(("gradcam", "layercam", "random", "center", "gradient"))
    _, best, care = verdict([study(scores=scores, sanity=[])], {})
    assert "gradient scores highest of the methods (" in best
    assert "but the control center, which explains nothing, scores more (0.62)" in best
    assert "gradcam is not shown to be above chance" in care


def test_a_control_that_cannot_be_told_is_named() -> None:
    scores = sample.scores(("random", "edges", "center", "gradcam", "gradient"))
    _, best, _ = verdict([study(scores=scores)], {})
    assert "but the control center, which explains nothing, cannot be told from it" in best


def test_nothing_to_be_careful_about() -> None:
    scores = sample.scores(sample.METHODS)
    *_, care = verdict([study(scores=scores, sanity=[])], {})
    assert care.startswith("Be careful nonetheless")


def test_values_that_are_missing_are_spoken_of() -> None:
    scores = sample.scores(sample.METHODS)
    scores["results"][2]["metrics"]["iou"]["undefined"] = 30
    *_, care = verdict([study(scores=scores, sanity=[])], {})
    assert "gradcam has no value in more than 5 % of the rows" in care


# ---- Boards ----------------------------------------------------------------------------------------------------


def test_each_board_has_a_sentence_and_one_is_on_models_trained_anew() -> None:
    scores = sample.with_boards(sample.scores(sample.METHODS))
    _, best, _ = verdict([study(scores=scores)], {})
    first, second, anew = best.split(". ")
    assert first.startswith(
        "On three models of flowernet, by iou, gradcam_pp explains best (calibrated 0.62, 95 % 0.51 to"
    )
    assert second.startswith("On all architectures (flowernet, vit), no method but controls has a value of iou")
    assert anew == "For models trained anew, 1 of 3 pairs of methods can be told apart (flowernet has three)."


def test_each_board_is_a_table_of_its_own(tmp_path: Path) -> None:
    document = small()
    document["studies"][0]["scores"] = sample.with_boards(document["studies"][0]["scores"])
    text = write_page(sample.write_folder(tmp_path, document)).read_text(encoding="utf-8")
    page = Page(text)
    assert {"board-study0", "board-study0-1"} <= {each.get("id") for each in page.all("table")}
    first, second = (page.data["boards"][key]["iou"]["rows"] for key in ("study0", "study0-1"))
    assert len(first) == 5
    assert len(second) == 2
    texts, _ = by_title(first["2"])
    assert texts["95 % interval"] == "0.51 to 0.69"
    assert (texts["tied"], texts["better than"]) == (DASH, "best control")  # ten sets are too many for letters
    assert texts["no map"] == "7"
    assert by_title(second["1"])[0]["tied"] == "b"
    assert "gradcam = hirescam" in text.replace("<wbr>", "")
    assert "Not ranked here, since not run on all of these models, is gradcam." in text
    assert "Pairs of methods on models trained anew" in text


def test_pairs_that_were_never_compared_are_not_tied() -> None:
    """Not even in documents that were written before pairs said so."""
    scores = sample.scores(sample.METHODS)
    for pair in scores["comparisons"]["iou"]["pairs"]:
        pair |= {"apart": False, "difference": None}
    _, best, _ = verdict([study(scores=scores)], {})
    assert "cannot be told from" not in best


# ---- Verdicts on methods ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def concluding(tmp_path_factory: pytest.TempPathFactory) -> Page:
    document = sample.with_verdicts(sample.summary())
    place = write_page(sample.write_folder(tmp_path_factory.mktemp("concluding"), document))
    return Page(place.read_text(encoding="utf-8"))


def test_the_page_begins_with_an_answer_to_each_question(concluding: Page) -> None:
    first = concluding.text.split("A verdict on each method One line")[0]
    for question in QUESTIONS.values():
        assert question in first
    assert "Grad-CAM++; not told from it: Grad-CAM" in first
    assert "The verdict in three sentences" not in first
    assert "Be careful: 1 part of the audit failed." in first


def test_every_verdict_leads_to_its_evidence(concluding: Page) -> None:
    names = {attributes["id"] for _, attributes in concluding.elements if attributes.get("id")}
    links = [link for link in concluding.all("a") if (link.get("href") or "").startswith("#")]
    assert {(link["href"] or "")[1:] for link in links} <= names
    shown = {(link["href"], link["data-show"]) for link in links if link.get("data-show")}
    assert shown == {(f"#board-study{n}", metric) for n in (0, 1) for metric in ("iou", "average_drop")}
    assert len([name for name in names if name.startswith("verdicts-study0-0-")]) == len(sample.METHODS)


def test_methods_stand_with_their_verdict_and_controls_without(concluding: Page) -> None:
    section = concluding.text.split("A verdict on each method")[-1].split("The rules")[0]
    assert re.search(r"Grad-CAM gradcam = HiResCAM hirescam ?trust ?is among the best at finding", section)
    assert re.search(r"LayerCAM layercam ?avoid ?its maps hardly change", section)
    assert f"Center center control {DASH}" in section


def test_the_page_says_what_the_summary_says(tmp_path: Path) -> None:
    """What an audit filed is shown as it is; it is not decided again."""
    document = sample.with_verdicts(sample.summary())
    for entry in document["studies"]:
        entry["verdicts"] = verdicts(entry)
    document["studies"][0]["verdicts"][0]["methods"][0]["reason"] = "as it was filed"
    text = Page(write_page(sample.write_folder(tmp_path, document)).read_text(encoding="utf-8")).text
    assert text.count("as it was filed") == 1


# ---- What is missing -------------------------------------------------------------------------------------------


def test_a_folder_without_summary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="summary.json: no such file.*run `an8flower audit"):
        write_page(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"studies": 3}', '{"studies": [{}]}', '{"studies": [3]}', "\xff"])
def test_a_damaged_summary_is_refused_and_the_old_page_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "summary.json").write_bytes(text.encode("latin-1"))
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(Refusal, match="summary.json: .*run `an8flower audit"):
        write_page(tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_are_missing_damaged_or_elsewhere_are_named(tmp_path: Path) -> None:
    document = small()
    document["studies"][0]["pictures"][3]["file"] = "../outside.npz"
    folder = sample.write_folder(tmp_path / "in", document)
    (folder / "pictures/a0.npz").unlink()
    whole = (folder / "pictures/a1.npz").read_bytes()
    (folder / "pictures/a1.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(folder / "pictures/a2.npz", rows=np.array([{}], dtype=object))
    np.savez(folder / "filters/one.npz", classes=np.zeros(2))
    sample.write_pictures(tmp_path / "outside.npz", 3)
    text = Page(write_page(folder).read_text(encoding="utf-8")).text
    assert "random: pictures/a0.npz is missing" in text
    assert "center: pictures/a1.npz cannot be read" in text
    assert "gradcam: pictures/a2.npz cannot be read" in text
    assert "gradcam_pp: ../outside.npz lies outside the folder of the audit" in text
    assert "flowernet-seed0-1a2b3c4d: filters/one.npz cannot be read" in text


def test_pictures_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = sample.write_folder(tmp_path, small())
    with np.load(folder / "pictures/a0.npz") as stored:
        found = dict(stored)
    np.savez(folder / "pictures/a0.npz", **found | {"maps": found["maps"][:, :5]})
    assert "pictures/a0.npz: its arrays do not fit each other" in write_page(folder).read_text(encoding="utf-8")


def test_the_gallery_says_what_lies_behind_the_flowers(tmp_path: Path) -> None:
    folder = sample.write_folder(tmp_path, small())
    for place in folder.glob("pictures/*.npz"):
        with np.load(place) as stored:
            arrays = dict(stored)
        names = ["coffee.png", "<b>.png, scrambled", "", "leaves", "noise", "noise"]
        np.savez(place, **arrays, grounds=np.array(names))
    page = Page(write_page(folder).read_text(encoding="utf-8"))
    captions = page.text
    assert "on coffee.png" in captions
    assert "on <b>.png, scrambled" in captions
    assert "row 7: " in captions
    with np.load(folder / "pictures/a0.npz") as stored:
        arrays = dict(stored)
    np.savez(folder / "pictures/a0.npz", **arrays | {"grounds": np.array([["x"]])})
    assert "pictures/a0.npz: grounds has another shape" in write_page(folder).read_text(encoding="utf-8")


def test_an_audit_of_little_has_a_page(tmp_path: Path) -> None:
    """Imported data, one metric: no certificate, no curves, no pictures; and what is optional is left out."""
    whole = sample.summary()["studies"][0]
    scores = {key: whole["scores"][key] for key in ("dataset", "models", "results")}
    document = {"studies": [{"dataset": {"name": "mine"}, "scores": scores, "no_certificate": "the data have no spec"}]}
    (tmp_path / "summary.json").write_text(json.dumps(document))
    page = Page(write_page(tmp_path).read_text(encoding="utf-8"))
    assert "No certificate: the data have no spec." in page.text
    assert {each.get("id") for each in page.all("section")} == {
        *("verdict", "certificates", "leaderboard", "heat", "cost", "trouble", "reproduce")
    }


def test_an_audit_of_nothing_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"studies": []}')
    assert "No method was scored." in Page(write_page(tmp_path).read_text(encoding="utf-8")).text


def test_a_large_gallery_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("an8flower.evaluate.report.gallery.ROOM", 20_000)
    text = write_page(sample.write_folder(tmp_path, small())).read_text(encoding="utf-8")
    assert "Some rows were left out to keep the page small" in text
    galleries = Page(text).data["galleries"].values()
    assert galleries
    assert all(len(gallery["pictures"]) < sample.ROWS for gallery in galleries)
