"""The page in a browser: what can be done with it, that nothing leaves it, and that everybody can use it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from an8flower.evaluate.report.page import write_page
from tests.evaluate.report import test_report_sample as sample

api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUIET += ["--disable-sync", "--no-first-run"]
PHONE, DESK = {"width": 375, "height": 812}, {"width": 1280, "height": 900}


def _executable() -> str | None:
    """Where a Chromium lies: told by the environment, or found on the path."""
    told = os.environ.get("AN8FLOWER_CHROMIUM")
    return told or next(filter(None, map(shutil.which, NAMES)), None)


pytestmark = pytest.mark.skipif(_executable() is None, reason="no Chromium here (AN8FLOWER_CHROMIUM can name one)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=_executable(), args=QUIET)
        yield found
        found.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(sample.write_folder(tmp_path_factory.mktemp("audit")))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = sample.summary(sample.HOSTILE, sample.HOSTILE[:3], sample.HOSTILE[0])
    return write_page(sample.write_folder(tmp_path_factory.mktemp("hostile"), document))


@pytest.fixture(scope="module")
def concluding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    document = sample.with_verdicts(sample.summary())
    return write_page(sample.write_folder(tmp_path_factory.mktemp("concluding"), document))


Visit = Callable[..., Any]


@contextmanager
def visits(browser: Any) -> Iterator[Visit]:
    """Opens pages, and closes them in the end; whatever one complained about, asked for or popped up is an error."""
    contexts, heard = [], []

    def open_page(place: Path, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": DESK, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda request: heard.append(f"request: {request.url}") if _leaves(request.url, place) else None
        )
        page.goto(place.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached")
        return page

    open_page.heard = heard  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Opens a page; whatever it complains about, asks for or pops up fails the test."""
    with visits(browser) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def unchanged(plain: Path, browser: Any) -> Iterator[Any]:
    """The plain page, opened once for all tests that change nothing in it."""
    with visits(browser) as open_page:
        yield open_page(plain)


def _leaves(url: str, place: Path) -> bool:
    return not url.startswith(("data:", "blob:")) and url.partition("#")[0] != place.as_uri()


def methods_of(page: Any) -> list[str]:
    """The methods of the first leaderboard as they stand."""
    names: list[str] = page.locator("#board-study0 tbody th.name code").all_inner_texts()
    return names


def column(page: Any, number: int) -> list[str]:
    """A column of the first leaderboard as it stands."""
    found: list[str] = page.locator(f"#board-study0 tbody tr > :nth-child({number + 2}) .text").all_inner_texts()
    return found


def downloaded(page: Any, button: Any) -> tuple[str, bytes]:
    """The name and the content of what a button gives."""
    with page.expect_download() as waiting:
        button.click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def read_csv(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


# ---- The leaderboard -------------------------------------------------------------------------------------------


def test_the_leaderboard_is_sorted_by_any_column(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    best = ["gradcam_pp", "gradcam", "layercam", "center", "random"]
    assert methods_of(page) == best
    head = page.locator("#board-study0 thead")
    head.get_by_role("button", name="calibrated", exact=True).click()
    assert methods_of(page) == best[::-1]
    assert head.locator("th[aria-sort]").all_inner_texts() == ["calibrated"]
    assert head.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    head.get_by_role("button", name="ms", exact=True).press("Enter")
    assert methods_of(page) == list(sample.METHODS)
    head.get_by_role("button", name="method", exact=True).click()
    assert methods_of(page) == sorted(sample.METHODS)
    assert head.locator("th[aria-sort]").count() == 1


def test_what_has_no_value_is_sorted_last_either_way(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    page.select_option("#metric", "average_drop")
    assert methods_of(page) == ["gradcam_pp", "gradcam", "center", "random", "layercam"]
    page.locator("#board-study0 thead").get_by_role("button", name="calibrated").click()
    assert methods_of(page) == ["random", "center", "gradcam", "gradcam_pp", "layercam"]


def test_a_metric_is_chosen(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    page.select_option("#metric", "le")
    assert column(page, 0) == ["0.62", "0.60", "0.40", "0.20", "0.00"]
    assert column(page, 9) == [f"{0.8 - 0.8 * quality:.3f}" for quality in sorted(sample.QUALITY, reverse=True)]
    assert "lower raw values are better" in page.locator("#board-study0 caption").inner_text()
    page.select_option("#metric", "flat")
    assert set(column(page, 0)) == {"\N{EN DASH}"}
    assert page.locator("#board-study0 .bar:visible").count() == 0
    page.select_option("#metric", "iou")
    assert "raw" not in page.locator("#board-study0 caption").inner_text()
    assert page.locator("#board-study0 .bar:visible").count() == len(sample.METHODS)


def test_bars_stand_where_the_numbers_say(unchanged: Any) -> None:
    bar = unchanged.locator("#board-study0 tbody tr").first.locator(".bar")
    outer, reach = bar.bounding_box(), bar.locator(".reach").bounding_box()
    assert (reach["x"] - outer["x"]) / outer["width"] == pytest.approx((0.59 + 0.5) / 1.5, abs=0.01)
    assert reach["width"] / outer["width"] == pytest.approx(0.06 / 1.5, abs=0.01)


def test_a_data_set_is_chosen(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    assert page.locator("#board-study0").is_visible()
    assert not page.locator("#board-study1").is_visible()
    page.select_option("select[data-chooser=study]", "study1")
    assert not page.locator("#board-study0").is_visible()
    assert page.locator("#board-study1").is_visible()


def test_lines_come_and_go(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    plot = page.locator("#figure-iou-study0")
    lines = plot.locator(".drawing .series[data-series='2']")
    assert lines.first.is_visible()
    plot.get_by_label("Grad-CAM", exact=True).uncheck()
    assert not lines.first.is_visible()
    assert plot.locator(".drawing .series[data-series='3']").first.is_visible()


# ---- The gallery -----------------------------------------------------------------------------------------------


def expected_iou(method: int, row: int, threshold: float) -> float | None:
    """IoU of the pixels strictly above a threshold of the range-normalised map, by numpy."""
    if row == 2:
        return None
    values = sample.maps_of(method, [*range(sample.ROWS), 7, 8 + method])[row].astype(np.float64)
    span = values - values.min()
    mask = (span / span.max() if span.max() else span) > threshold
    truth = sample.truth() > 0
    return float((mask & truth).sum() / (mask | truth).sum())


def test_the_slider_recomputes_the_overlap(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    for level in (0, 37, 99, 50):
        page.locator("#threshold").fill(str(level))
        page.wait_for_selector(f"html[data-drawn='{level} overlay']", state="attached")
        assert page.locator("#threshold-shown").inner_text() == f"{level / 100:.2f}"
        for number, method in enumerate(sample.METHODS):
            for row in range(sample.ROWS):
                canvas = page.locator(f"td canvas[data-method='{method}'][data-row='{row}']:visible").first
                assert_overlap(canvas, expected_iou(number, row, level / 100), level)


def assert_overlap(canvas: Any, expected: float | None, level: int) -> None:
    """A picture says the overlap at a threshold in hundredths, or that there is none."""
    told = canvas.get_attribute("data-iou")
    if expected is None:
        assert told == ""
        assert "undefined" in canvas.get_attribute("aria-label")
    else:
        assert float(told) == pytest.approx(expected)
        assert f"IoU {expected:.2f} at threshold {level / 100:.2f}" in canvas.get_attribute("aria-label")
        assert canvas.locator("xpath=..").locator(".overlap").first.inner_text() == f"IoU {expected:.2f}"


def test_map_overlay_and_mask_are_different_pictures(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    canvas = page.locator("td canvas[data-method='gradcam']").first
    seen = set()
    for layer in ("overlay", "map", "mask"):
        page.get_by_role("radio", name=layer).check()
        page.wait_for_selector(f"html[data-drawn='50 {layer}']", state="attached")
        seen.add(canvas.evaluate("canvas => canvas.toDataURL()"))
    assert len(seen) == 3


def test_the_best_and_the_worst_rows_of_a_method_are_chosen(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    chooser = page.locator("select[data-chooser^=extremes]:visible").first
    chooser.select_option(label="LayerCAM")
    shown = page.locator(".extremes:visible")
    assert shown.count() == 1
    assert "best rows of LayerCAM" in shown.inner_text()
    assert {each.get_attribute("data-row") for each in shown.locator("canvas").all()} == {"7", "12"}
    api.expect(shown.locator("canvas").last).to_have_attribute("data-iou", re.compile(r"0\.\d+"))


# ---- The first screen ------------------------------------------------------------------------------------------

LAPTOP, SMALL_PHONE = {"width": 1366, "height": 768}, {"width": 360, "height": 740}


def test_the_answers_fit_a_laptop_and_lead_to_their_evidence(concluding: Path, visit: Visit) -> None:
    page = visit(concluding, viewport=LAPTOP)
    answers = page.locator(".answers:visible")
    assert answers.count() == 1
    box = answers.bounding_box()
    assert box["y"] + box["height"] <= LAPTOP["height"]
    assert page.locator("nav.contents").bounding_box()["x"] + 100 < box["x"]
    page.locator(".answers:visible a", has_text="Grad-CAM++").click()
    line = page.locator("#verdicts-study0-0-1")
    api.expect(line).to_be_in_viewport()
    line.locator("a[data-show=average_drop]").click()
    api.expect(page.locator("#board-study0")).to_be_in_viewport()
    names = page.locator(".board .metric-name").all_text_contents()
    assert set(names) == {page.locator("#metric").input_value()} == {"average_drop"}


@pytest.mark.parametrize(("viewport", "scheme"), [(LAPTOP, "light"), (SMALL_PHONE, "dark")], ids=["laptop", "phone"])
def test_everybody_can_read_the_answers(concluding: Path, visit: Visit, viewport: dict[str, int], scheme: str) -> None:
    page = visit(concluding, viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("() => document.documentElement.scrollWidth") == viewport["width"]
    sync = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    violations = sync.Axe().run(page, context={"include": [["header"], ["nav"], ["#verdict"], ["#methods"]]}).response
    assert [(v["id"], v["nodes"][0]["html"]) for v in violations["violations"] if v["impact"] != "minor"] == []


# ---- Downloads -------------------------------------------------------------------------------------------------


def test_all_numbers_are_downloaded(unchanged: Any) -> None:
    name, content = downloaded(unchanged, unchanged.get_by_role("button", name="Download all numbers as CSV"))
    head, *rows = read_csv(content)
    assert name == "quick-all-numbers.csv"
    assert len(rows) == 2 * len(sample.METHODS) * len(sample.METRICS)
    first = dict(zip(head, rows[0], strict=True))
    assert (first["dataset"], first["method"], first["metric"]) == ("flowers", "random", "iou")
    assert float(first["mean"]) == pytest.approx(0.1)
    flat = next(row for row in rows if row[3] == "flat")
    assert dict(zip(head, flat, strict=True))["calibrated"] == ""


def test_the_numbers_of_a_plot_are_downloaded(unchanged: Any) -> None:
    name, content = downloaded(unchanged, unchanged.locator("button[data-csv=iou-study0]"))
    rows = read_csv(content)
    assert name == "quick-iou-study0.csv"
    assert rows[0] == ["method", "threshold", "mean", "low", "high"]
    assert rows[4] == ["random", "0.15", "", "-0.02", "0.02"]
    assert len(rows) == 1 + 21 * len(sample.METHODS)


def test_the_summary_is_downloaded(plain: Path, unchanged: Any) -> None:
    name, content = downloaded(unchanged, unchanged.get_by_role("button", name="Download the summary as JSON"))
    assert name == "quick.json"
    assert json.loads(content) == json.loads((plain.parent / "summary.json").read_text(encoding="utf-8"))


def test_hostile_names_do_nothing_and_come_whole(hostile: Path, visit: Visit) -> None:
    """No dialog, no request, no complaint (see `visit`), no element of theirs; no formula in a spreadsheet."""
    page = visit(hostile)
    assert page.locator("img[src='x'], script:not(:nth-last-of-type(-n+2))").count() == 0
    assert page.locator("svg img, svg script, [onerror]").count() == 0
    _, content = downloaded(page, page.get_by_role("button", name="Download all numbers as CSV"))
    methods = list(dict.fromkeys(row[1] for row in read_csv(content)[1:]))
    assert methods[0] == sample.HOSTILE[0]
    assert methods[1] == "'" + sample.HOSTILE[1]
    assert methods[2:4] == list(sample.HOSTILE[2:4])
    page.select_option("#metric", "le")
    page.locator("#threshold").fill("20")
    page.wait_for_selector("html[data-drawn='20 overlay']", state="attached")
    assert page.locator("#board-study0 tbody th.name").first.inner_text().split() == sample.HOSTILE[3].split()


# ---- Theme, paper, phone ---------------------------------------------------------------------------------------


def _paper(page: Any) -> str:
    found: str = page.locator("html").evaluate("element => getComputedStyle(element).backgroundColor")
    return found


def test_the_theme_follows_the_system_until_the_reader_says_otherwise(plain: Path, visit: Visit) -> None:
    page = visit(plain, color_scheme="dark")
    dark = _paper(page)
    button = page.get_by_role("button", name="Dark")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    light = _paper(page)
    assert button.get_attribute("aria-pressed") == "false"
    assert sum(map(int, re.findall(r"\d+", light)[:3])) > 600 > sum(map(int, re.findall(r"\d+", dark)[:3]))
    page.reload()
    assert _paper(page) == light
    page.emulate_media(color_scheme="light")
    button.click()
    assert _paper(page) == dark


@pytest.mark.parametrize("which", ["plain", "hostile"])
def test_nothing_is_wider_than_a_phone(which: str, request: pytest.FixtureRequest, visit: Visit) -> None:
    page = visit(request.getfixturevalue(which), viewport=PHONE)
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]


def test_on_paper_everything_is_open_and_there_are_no_controls(plain: Path, visit: Visit) -> None:
    page = visit(plain)
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("button:not(thead button):visible, select:visible, input:visible").count() == 0
    assert _paper(page) == "rgb(255, 255, 255)"
    assert page.locator("#board-study0").is_visible()
    assert page.locator("#board-study1").is_visible()
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0


def test_without_the_script_the_page_can_be_read(plain: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(plain.as_uri())
    assert page.locator("#board-study0").is_visible()
    assert page.locator("#board-study1").is_visible()
    assert "drawn by the page" in page.locator("noscript .warning").inner_text()
    assert page.get_by_text("best IoU 0.50").first.is_visible()
    assert page.locator("button:visible:not(thead button), select:visible").count() == 0
    context.close()


# ---- Policy and access -----------------------------------------------------------------------------------------


def test_the_policy_is_in_force(plain: Path, visit: Visit) -> None:
    """A script that gets into the page does not run, and a picture from elsewhere is not asked for."""
    page = visit(plain)
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken'";
            document.body.append(script);
            const spy = "<img src='http://127.0.0.1:9/spy.png' onerror='document.title = 1'>";
            document.body.insertAdjacentHTML("beforeend", spy);
        }"""
    )
    page.wait_for_timeout(200)
    assert page.title() == "A quick audit of flowers: audit of explanations"
    told = [each for each in visit.heard if "Content Security Policy" in each]  # type: ignore[attr-defined]
    assert [any(word in each for each in told) for word in ("inline script", "img-src", "event handler")] == [True] * 3
    visit.heard.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_everybody_can_use_it(plain: Path, visit: Visit, viewport: dict[str, int], scheme: str) -> None:
    """axe-core finds nothing serious; its script only gets in where the policy is switched off for it."""
    sync = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page = visit(plain, viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = sync.Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, json.dumps(
        [(e["id"], e["help"], [n["html"] for n in e["nodes"]][:3]) for e in serious], indent=1
    )
