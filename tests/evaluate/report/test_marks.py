"""What the page says of marks, from documents that are written by hand."""

from __future__ import annotations

from typing import Any, cast

import pytest

from an8flower.evaluate.report.mark_verdict import mark_verdict
from an8flower.evaluate.report.marks import show_marks
from an8flower.evaluate.report.reading import AuditFolder
from an8flower.evaluate.report.study import StudyView
from an8flower.evaluate.results.mark_words import SHARES


def share(mean: float | None, half: float = 0.05) -> dict[str, Any]:
    low, high = (None, None) if mean is None else (mean - half, mean + half)
    return {"mean": mean, "low": low, "high": high, "n": 9, "undefined": 0}


def method(name: str, outcome: str, shown: float) -> dict[str, Any]:
    rates = {key: share(shown) for key in ("detection", "shown", "auroc", "map_auroc", "excess")}
    numbers = {**rates, "false_alarm": share(None), "used": 5, "ignored": 0}
    return {"method": name, "outcome": outcome, "sentence": f"{name} says <so>.", **numbers}


def entry(by_mark: float | None, *methods: dict[str, Any], agreement: float = 0.98) -> dict[str, Any]:
    shares = dict.fromkeys(SHARES.values(), share(by_mark)) | {"by_picture": share(None if by_mark is None else 0.1)}
    about = {"model": "net", "mark": "the tag", "verdict": "net goes by the tag.", "innocent": None}
    return {**shares, **about, "agreement": {"train": agreement}, "methods": list(methods)}


YES, NO = method("gradcam", "yes", 0.9), method("center", "no", 0.1)


@pytest.mark.parametrize(
    ("marks", "sentences"),
    [
        (
            [entry(0.9, YES, NO)],
            "There is a mark to be found, and the model goes by the mark. gradcam would have told you; of center this "
            "is not shown.",
        ),
        (
            [entry(0.9, YES)],
            "There is a mark to be found, and the model goes by the mark. gradcam would have told you.",
        ),
        (
            [entry(0.9, NO), entry(0.2, YES), entry(None, YES)],
            "There is a mark to be found: of 3 models, 1 goes by the mark, 1 goes by neither alone, of 1 this cannot "
            "be told. Of no method it is shown that it would have told you.",
        ),
        ([entry(0.2, YES)], "There is a mark to be found, and the model goes by neither alone."),
    ],
)
def test_the_verdict_names_who_told(marks: list[dict[str, Any]], sentences: str) -> None:
    assert mark_verdict(marks) == sentences


def studies(*entries: dict[str, Any]) -> list[StudyView]:
    results = [{"text": name, "method": name, "family": family, "metrics": {}} for name, family in FAMILIES.items()]
    documents = [{"dataset": {"name": "x"}, "scores": {"results": results}, "marks": [marks]} for marks in entries]
    return [StudyView(i, document) for i, document in enumerate(documents)]


FAMILIES = {"gradcam": "cam", "center": "baselines"}


NO_FOLDER = cast(AuditFolder, None)  # nothing is read of it


def test_doses_are_drawn_where_there_are_several() -> None:
    """The lines pass through what the documents say, and the grey one through what the models use."""
    one = show_marks(studies(entry(0.9, YES, NO)), {}, NO_FOLDER)
    assert one is not None
    assert not one.drawings
    weak = entry(0.3, method("gradcam", "open", 0.4), method("center", "no", 0.2), agreement=0.6)
    section = show_marks(studies(entry(0.9, YES, NO), weak), {}, NO_FOLDER)
    assert section is not None
    (drawing,) = section.drawings
    assert drawing.table.rows == [[60.0, 0.3, 0.4, 0.2], [98.0, 0.9, 0.9, 0.1]]
    assert [line.name for line in drawing.legend] == ["the model uses it", "gradcam", "center"]


def test_there_is_no_section_without_marks() -> None:
    assert show_marks([StudyView(0, {"dataset": {"name": "x"}})], {}, NO_FOLDER) is None
    assert show_marks([StudyView(0, {"dataset": {"name": "x"}, "marks": []})], {}, NO_FOLDER) is None
