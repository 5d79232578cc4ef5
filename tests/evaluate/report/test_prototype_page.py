"""What the page says of prototypes: conclusions, measures, a card for each, and this looks like that."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from an8flower.errors import Refusal
from an8flower.evaluate.report.looks_like import _compare_parts
from an8flower.evaluate.report.page import write_page
from an8flower.evaluate.report.prototype_gallery import read_pictures
from an8flower.evaluate.report.prototypes import conclude
from an8flower.evaluate.report.reading import AuditFolder, Missing
from an8flower.evaluate.report.thumbnails import box_picture, encode_small
from an8flower.evaluate.results.prototype_places import Box
from an8flower.evaluate.results.prototype_results import JudgedModel, ModelScore
from an8flower.evaluate.results.prototype_words import compare_parts
from tests.evaluate.report import test_prototype_sample as made_up
from tests.evaluate.report import test_report_sample as sample
from tests.evaluate.report.test_report import Page


def write_folder(folder: Path, *models: JudgedModel, name: str = "flowers") -> Path:
    """A folder with a summary of nothing but judged prototypes, and their pictures."""
    study = {"dataset": {"name": name}, "prototypes": made_up.document(*models)}
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({"studies": [study]}), encoding="utf-8")
    made_up.write_arrays(folder, *models)
    return folder


def section_of(page: Page) -> str:
    """The text of the section."""
    return page.text.partition("These networks find prototypes")[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(write_page(folder).read_text(encoding="utf-8"))


# ---- Sentences -------------------------------------------------------------------------------------------------


def purity(mean: float | None, low: float | None, high: float | None, chance: float | None) -> JudgedModel:
    score = ModelScore(mean=mean, low=low, high=high, n=8, over="prototypes", chance=chance)
    return made_up.model().model_copy(update={"scores": {"purity": score}})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (purity(0.6, 0.5, 0.7, 0.4), "stand for single parts more than chance does"),
        (purity(0.6, 0.5, 0.7, 0.5), "cannot be told from chance"),
        (purity(0.3, 0.2, 0.35, 0.4), "stand for single parts less than chance does"),
        (purity(0.3, None, None, 0.2), "too few prototypes"),
        (purity(None, None, None, None), "not known: none of them is found"),
        (purity(0.6, 0.5, 0.7, None), "is one and the same part (95 % interval 50 % to 70 %)."),
    ],
)
def test_the_interval_is_held_against_chance(model: JudgedModel, words: str) -> None:
    assert words in conclude(model, 60)[0]


def test_parts_are_counted_and_the_background_is_named() -> None:
    assert conclude(made_up.model(), 60)[1:] == [
        "They stand for: petals (4), disc (2), background (1) and leaves (1).",
        "1 of 8 lies on the background, which is no part of a plant.",
        "The network has 12 prototypes, of which 3 have no weight for any class and are left out here; 1 with a weight "
        "is silent: found in none of the 60 rows.",
    ]


@pytest.mark.parametrize(
    ("low", "end"),
    [(0.6, "changes as well: most of what makes it respond lies beside the part."), (0.3, "changes as well.")],
)
def test_what_lies_beside_the_box_is_said(low: float, end: str) -> None:
    change = ModelScore(mean=0.7, low=low, high=0.8, n=8, over="prototypes", chance=0.9)
    model = made_up.model()
    sentences = conclude(model.model_copy(update={"scores": {**model.scores, "misalignment": change}}), 60)
    assert "changes by 70 % on average, and by 90 % if that part changes as well" in sentences[3]
    assert sentences[3].endswith(end)


# ---- The section -----------------------------------------------------------------------------------------------


def test_measures_stand_beside_interval_and_chance(page: Page) -> None:
    text = "".join(section_of(page).split())
    assert "measurevalue95%intervalchanceoverundefinedbetter" in text
    assert "purity0.620.55to0.700.258prototypes1more" in text
    assert "locality3.202.90to3.50-60rows0less" in text
    assert "Chance:theshareofthatpartamongthepixelsofallrows" in text


def test_each_prototype_has_a_card_with_its_patch_and_where_else_it_is_found(page: Page) -> None:
    text = section_of(page)
    assert "Prototype 1: disc" in text
    assert "is a patch of training row 1, blue: 90 % of the patch is disc" in text
    assert "purity 0.75 (chance 0.25)" in text
    assert "weight 1.49; also for white (0.25)" in text
    words = {image["alt"] for image in page.all("img")}
    for number in range(8):
        assert any(f"with the patch of prototype {number}" in (alt or "") for alt in words)
        places = {f"row {10 * number + place}, where prototype {number} is found" for place in range(3)}
        assert places <= words
    assert "Prototype 8: found nowhere" in text
    assert "silent: it is found in no row that was looked at" in text
    assert "Not judged (it has no prototypes): plain-seed0." in text


def test_classes_are_closed_until_they_are_opened(page: Page) -> None:
    classes = [attributes for attributes in page.all("details") if attributes.get("class") == "prototypes"]
    assert len(classes) == 3
    assert all("open" not in attributes for attributes in classes)


def test_this_looks_like_that_adds_up(page: Page) -> None:
    """4.5 and 3.75 of the first two prototypes and 0.25 of the others make 8.5, the logit."""
    text = section_of(page)
    assert "Row 4: red, rightly predicted as red Shown as a typical row: of those that are predicted rightly" in text
    assert "Row 5: blue, taken for white Shown as the surest mistake" in text
    assert "petals (80 %) looks like petals (90 %)the same part3.001.504.50" in text
    assert "stem (80 %) looks like leaves (90 %)another part2.501.503.75" in text
    assert "4 further prototypes0.25 sum for red8.50" in text
    assert "This sum is the logit of red; that of the next class, blue, is 7.50." in text
    assert "that of the true class, blue, is 7.50" in text
    assert "the network abstains" in text


def test_a_logit_that_is_a_function_of_the_sum_is_said(tmp_path: Path) -> None:
    model = made_up.model()
    examples = [example.model_copy(update={"logit": 4.29}) for example in model.examples]
    folder = write_folder(tmp_path, model.model_copy(update={"examples": tuple(examples)}))
    text = section_of(Page(write_page(folder).read_text(encoding="utf-8")))
    assert "Of this sum is made the logit, 4.29 of red" in text


def test_the_gallery_of_one_seed_stands_for_its_architecture(tmp_path: Path) -> None:
    models = [made_up.model("net-seed0"), made_up.model("net-seed1"), made_up.model("other-seed0", architecture="x")]
    page = Page(write_page(write_folder(tmp_path, *models)).read_text(encoding="utf-8"))
    text = section_of(page)
    assert "Pictures are not shown: the gallery of net-seed0 stands for the seeds of its architecture." in text
    assert text.count("Prototype 0: petals") == 2
    assert "".join(text.split()).count("0.6200.550to0.7000.250") == 3  # in the table of all models
    assert len([box for box in page.all("select") if box.get("data-chooser") == "gallery-prototypes-study0"]) == 1


# ---- Pictures --------------------------------------------------------------------------------------------------


def pixels_of(address: str) -> np.ndarray:
    """The pixels of a `data:` address."""
    content = base64.b64decode(address.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_small_pictures_are_kept_to_the_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (17, 17, 3), np.uint8)
    assert (pixels_of(encode_small(pixels, 48)) == pixels).all()


def test_large_pictures_become_small_and_keep_their_colours() -> None:
    pixels = np.full((300, 200, 3), (200, 40, 90), np.uint8)
    pixels[:150] = (10, 160, 60)
    small = pixels_of(encode_small(pixels, 96)).astype(int)
    assert small.shape == (96, 64, 3)
    assert np.abs(small[:40].reshape(-1, 3).mean(0) - (10, 160, 60)).max() < 6
    assert np.abs(small[-40:].reshape(-1, 3).mean(0) - (200, 40, 90)).max() < 6


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9), st.integers(0, 5))
def test_the_rectangle_lies_where_the_box_lies(top: int, left: int, side: int, margin: int) -> None:
    """In per cent of the picture, from the pixels of the window: read back, it gives the box again."""
    box = Box(top, left, top + side, left + side)
    window = Box(max(0, top - margin), max(0, left - margin), top + side + margin, left + side + margin)
    height, width = window.bottom - window.top, window.right - window.left
    boxed = box_picture(np.zeros((height, width, 3), np.uint8), box, "words", within=window)
    shares = {name: float(share[:-1]) / 100 for name, share in (part.split(":") for part in boxed.style.split(";"))}
    assert window.top + shares["top"] * height == pytest.approx(top, abs=0.02)
    assert window.left + shares["left"] * width == pytest.approx(left, abs=0.02)
    assert shares["height"] * height == pytest.approx(side, abs=0.02)
    assert shares["width"] * width == pytest.approx(side, abs=0.02)


def test_pictures_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    model = made_up.model()
    folder = write_folder(tmp_path, model)
    place = folder / model.pictures
    arrays = made_up.arrays(model)
    for name, wrong in [("sources", arrays["sources"][:, :5]), ("crops", arrays["crops"].astype(float))]:
        np.savez(place, **arrays | {name: wrong})  # type: ignore[arg-type]
        missing = read_pictures(model, AuditFolder(folder))
        assert isinstance(missing, Missing)
        assert missing.reason == "prototypes/one.npz: its arrays do not fit each other"
    place.unlink()
    text = section_of(Page(write_page(folder).read_text(encoding="utf-8")))
    assert "Pictures are not shown: prototypes/one.npz is missing." in text
    assert "Prototype 1: disc" in text
    assert "is a patch of training row 1, blue" in text


def test_sixty_prototypes_make_a_small_page(tmp_path: Path) -> None:
    """Pictures of 128 px whose noise no encoder likes: the section adds less than a megabyte."""
    model = made_up.model(count=60).model_copy(update={"size": 128})
    written = write_page(write_folder(tmp_path, model))
    assert section_of(Page(written.read_text(encoding="utf-8"))).count("Prototype ") == 60
    assert written.stat().st_size < 1_200_000


def test_a_page_of_many_prototypes_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("an8flower.evaluate.report.prototypes.ROOM", 60_000)
    text = section_of(Page(write_page(write_folder(tmp_path, made_up.model(count=30))).read_text(encoding="utf-8")))
    assert "more, with smaller weights, are left out to keep the page small" in text
    assert 0 < text.count("Prototype ") < 30


# ---- What may come ---------------------------------------------------------------------------------------------


def test_hostile_names_are_text(tmp_path: Path) -> None:
    plain = Page(write_page(write_folder(tmp_path / "plain")).read_text(encoding="utf-8"))
    model = made_up.model(sample.HOSTILE[0], classes=sample.HOSTILE[:3], architecture=sample.HOSTILE[2])
    folder = write_folder(tmp_path / "hostile", model, name=sample.HOSTILE[2])
    page = Page(write_page(folder).read_text(encoding="utf-8"))
    for tag in ("script", "style", "img", "table", "details"):
        assert len(page.all(tag)) == len(plain.all(tag)), tag
    for name in sample.HOSTILE[:3]:
        assert name in section_of(page)


def test_without_the_table_of_the_plan_there_is_no_section(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"studies": [{"dataset": {"name": "mine"}}]}')
    assert "prototype" not in Page(write_page(tmp_path).read_text(encoding="utf-8")).text


def test_a_damaged_document_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    document = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    del document["studies"][0]["prototypes"]["results"][0]["size"]
    (folder / "summary.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(Refusal, match=r"summary\.json: not a summary that this version can read"):
        write_page(folder)


def test_two_patches_on_the_background_are_not_praised_as_one_part() -> None:
    assert compare_parts("background", "background") == "both on the background, which is no part"
    assert [_compare_parts(here, "petals")[0] for here in ("petals", "stem")] == ["yes", "no"]
    assert _compare_parts("background", "background")[0] == "part"
