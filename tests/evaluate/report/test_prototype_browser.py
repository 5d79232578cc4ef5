"""The section on prototypes in a browser: on a phone, on paper, in the dark, without the script, and for everybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from an8flower.evaluate.report.page import write_page
from tests.evaluate.report import test_prototype_sample as made_up
from tests.evaluate.report import test_report_browser as browsing
from tests.evaluate.report import test_report_sample as sample

pytestmark = browsing.pytestmark
browser, visit = browsing.browser, browsing.visit
OPEN = "() => document.querySelectorAll('details').forEach((each) => { each.open = true; })"


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the prototypes of two architectures, one of whose names is hostile, and the gallery of methods."""
    folder = tmp_path_factory.mktemp("judged")
    models = [made_up.model(), made_up.model(sample.HOSTILE[2], 24, architecture="other")]
    models[1] = models[1].model_copy(update={"pictures": "prototypes/two.npz"})
    document = sample.summary()
    fewer: dict[str, Any] = {"curves": {}, "slices": {}, "sanity": [], "filters": []}
    document["studies"] = [document["studies"][0] | fewer | {"prototypes": made_up.document(*models)}]
    sample.write_folder(folder, document)
    made_up.write_arrays(folder, *models)
    return write_page(folder)


def test_a_model_and_a_class_are_opened(judged: Path, visit: browsing.Visit) -> None:
    page = visit(judged)
    section = page.locator("#prototypes")
    assert section.locator(".prototype-cards:visible").count() == 0
    shown = section.locator("details.prototypes:visible")
    assert shown.count() == 3
    shown.first.locator("summary").click()
    assert section.locator(".prototype-cards > li:visible").count() == 3
    section.locator("select").select_option(label=sample.HOSTILE[2])
    assert section.locator(".prototype-cards > li:visible").count() == 0
    section.locator("details.prototypes:visible summary").first.click()
    assert section.locator(".prototype-cards > li:visible").count() == 8


def test_the_box_lies_over_its_patch(judged: Path, visit: browsing.Visit) -> None:
    """Where the browser draws it: the share of the picture that the document says."""
    page = visit(judged)
    line = made_up.example(4, "typical", 0, 0, [0, 3]).resembles[1]
    picture = page.locator("#prototypes .likenesses tbody tr").nth(1).locator(".boxed").first
    image, box = picture.locator("img").bounding_box(), picture.locator(".box").bounding_box()
    assert (box["x"] - image["x"]) / image["width"] == pytest.approx(line.box.left / made_up.SIZE, abs=0.01)
    assert (box["y"] - image["y"]) / image["height"] == pytest.approx(line.box.top / made_up.SIZE, abs=0.01)
    assert box["width"] / image["width"] == pytest.approx(8 / made_up.SIZE, abs=0.01)


def test_nothing_is_wider_than_a_phone_and_a_card_fits_it(judged: Path, visit: browsing.Visit) -> None:
    page = visit(judged, viewport=browsing.PHONE)
    page.evaluate(OPEN)
    assert page.evaluate("() => document.documentElement.scrollWidth") == browsing.PHONE["width"]
    for card in page.locator("#prototypes .prototype-cards > li:visible").all()[:3]:
        assert card.evaluate("(card) => card.scrollWidth <= card.clientWidth")


def test_on_paper_the_chosen_model_is_whole(judged: Path, visit: browsing.Visit) -> None:
    page = visit(judged)
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("#prototypes .prototype-cards > li:visible").count() == 9
    assert page.locator("#prototypes select:visible").count() == 0
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.locator("#prototypes details[open]").count() == 0


def test_without_the_script_all_models_can_be_read(judged: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(judged.as_uri())
    assert page.locator("#prototypes details.prototypes:visible").count() == 6
    assert page.locator("#prototypes select:visible").count() == 0
    page.locator("#prototypes details.prototypes summary").first.click()
    assert page.locator("#prototypes .prototype-cards > li:visible").count() == 3
    context.close()


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(browsing.DESK, "light"), (browsing.PHONE, "dark")], ids=["desk", "phone"]
)
def test_everybody_can_read_it(judged: Path, visit: browsing.Visit, viewport: dict[str, int], scheme: str) -> None:
    """axe-core finds nothing but what is minor, with everything open."""
    sync = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = visit(judged, viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page.evaluate(OPEN)
    violations = sync.Axe().run(page, context={"include": [["#prototypes"]]}).response["violations"]
    found = [(v["id"], v["help"], [n["html"] for n in v["nodes"]][:3]) for v in violations if v["impact"] != "minor"]
    assert not found, json.dumps(found, indent=1)
