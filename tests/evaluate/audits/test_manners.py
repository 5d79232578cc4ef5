"""What an audit says of itself: a title that is true, how far it is, and rows that a small data set has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.plan import from_mapping
from an8flower.evaluate.audits.progress_log import LOG, LoggingReporter
from an8flower.evaluate.audits.run import AuditOutcome, How, SilentReporter, audit
from an8flower.pace import Pace

pytestmark = pytest.mark.usefixtures("undrawn")

PLAN: dict[str, Any] = {
    "name": "small",
    "data": [{"spec": "single-6c", "rows": 60, "size": 32}],
    "models": [{"arch": "flowernet", "epochs": 1}],
    "methods": ["center"],
    "metrics": ["iou_best"],
    "rows": 60,
    "pictures": {"rows": 1, "extremes": 1},
}


class Listening(SilentReporter):
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.counts: list[tuple[str, int, int]] = []

    @contextmanager
    def stage(self, what: str) -> Iterator[Any]:
        yield lambda done, total: self.counts.append((what, done, total))

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


class Small:
    """A finished audit of more rows than there are, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.listening, self.folder = Listening(), folder / "runs" / "small"
        how = How(engine="inline", device="cpu", data_folder=folder / "data")
        self.outcome: AuditOutcome = audit(from_mapping(PLAN, "small"), self.folder, how, reporter=self.listening)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(tmp_path_factory.mktemp("small"))


def test_a_plan_may_ask_for_more_rows_than_there_are(small: Small) -> None:
    (study,) = small.outcome.summary["studies"]
    assert study["dataset"]["rows"] == 12
    (sentence,) = (text for text in small.listening.sentences if "rows" in text)
    assert sentence.endswith("all 12 rows of test are scored; 60 were asked for")


def test_the_log_says_what_is_done_and_what_remains(small: Small) -> None:
    log = (small.folder / LOG).read_text().splitlines()
    assert all(line.partition(" ")[0].endswith("+00:00") for line in log)
    texts = [line.partition(" ")[2] for line in log]
    for what in ("rendering single-6c", "training 1 model", "explaining, scoring and checking", "writing the page"):
        assert texts.index(f"{what}: begins") < next(
            place for place, text in enumerate(texts) if text.startswith(f"{what}: through after ")
        )
    assert any(text.startswith("explaining, scoring and checking: 4 of 4 done, ") for text in texts)
    assert any("all 12 rows of test are scored" in text for text in texts)
    assert ("explaining, scoring and checking", 4, 4) in small.listening.counts


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    listening = Listening()
    reporter = LoggingReporter(listening, tmp_path / "nowhere")
    with reporter.stage("scoring") as progress:
        progress(1, 2)
    reporter.say("something")
    assert listening.counts == [("scoring", 1, 2)]
    assert listening.sentences == ["something"]


def test_the_rest_is_estimated_from_what_was_done_now() -> None:
    now = [0.0]
    pace = Pace("scoring", lambda: now[0])
    assert pace.describe(4, 10) == "scoring: 4 of 10 done, 0 s so far"
    now[0] = 20.0
    assert pace.describe(6, 10) == "scoring: 6 of 10 done, 20 s so far, about 40 s left"
    now[0] = 60.0
    assert pace.describe(10, 10) == "scoring: 10 of 10 done, 60 s so far"


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        (
            {"data": ["mine.h5"], "models": ["mine.nets:factory"], "methods": ["gradcam", "lrp"]},
            "gradcam and lrp on mine.nets:factory, with mine.h5",
        ),
        ({"methods": ["gradcam"]}, "gradcam on flowernet and flowervit_tiny, with single-6c"),
        ({"data": ["a.h5", "b.h5"]}, "23 methods on flowernet and flowervit_tiny, with a.h5 and b.h5"),
        ({"rows": 4}, plans.load("quick").title),
    ],
)
def test_a_changed_plan_has_a_title_of_its_own(changes: dict[str, Any], title: str) -> None:
    assert plans.load("quick").instead(**changes).title == title


def test_the_quick_plan_counts_its_methods_as_its_title_does() -> None:
    plan = plans.load("quick")
    controls = {"random", "center", "edges", "mean_mask"} & set(plan.methods)
    assert (len(plan.methods) - len(controls), len(controls)) == (19, 4)
    assert "nineteen methods and four controls on two architectures" in plan.title
