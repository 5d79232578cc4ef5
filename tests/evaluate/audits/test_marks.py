"""From photographs to a page: planted, trained on, certified, scored, and told which methods would have told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import AuditOutcome, How, audit
from an8flower.evaluate.results.summary_schema import summary_schema
from an8flower.planting import Wish, plant

PLAN = {
    "name": "told",
    "models": [{"arch": "flowernet", "epochs": 6}],
    "methods": ["gradient", "center"],
    "metrics": ["pointing"],
    "target": "predicted",
    "rows": 6,
    "pictures": None,
    "marks": {"rows": 60},
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of 24 px of one picture of scikit-image, in three classes that nothing but a mark can tell apart."""
    from skimage import data

    root, chance, picture = tmp_path_factory.mktemp("photos"), np.random.default_rng(0), data.coffee()
    for name in "abc":
        (root / name).mkdir()
        for i in range(150):
            top, left = (int(chance.integers(0, side - 24)) for side in picture.shape[:2])
            Image.fromarray(picture[top : top + 24, left : left + 24]).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def done(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> AuditOutcome:
    folder = tmp_path_factory.mktemp("told")
    plant(photographs, folder / "planted.h5", Wish(agreement=1.0, scale=(0.3, 0.4)), workers=1)
    plan = plans.from_mapping({**PLAN, "data": [{"file": str(folder / "planted.h5")}]}, "told")
    warnings: list[str] = []
    outcome = audit(plan, folder / "runs" / "told", How(engine="inline", device="cpu"), warn=warnings.append)
    assert not warnings, "where marks contradict labels, few right answers are no reason to doubt a model"
    return outcome


def test_the_model_goes_by_the_mark_and_its_twin_does_not(done: AuditOutcome) -> None:
    assert not done.failed
    (study,) = done.summary["studies"]
    (marks,) = study["marks"]
    assert marks["agreement"] == {"train": 1.0, "val": 1.0, "test": 0.0}
    assert "goes by the tag, and not by the picture" in marks["verdict"]
    assert marks["uses"]["mean"] > 0.5
    assert marks["innocent"]["ignores"]["mean"] > 0.5
    gradient, center = marks["methods"]
    assert gradient["detection"]["mean"] > center["detection"]["mean"]
    assert center["outcome"] == "no"
    assert center["ignored"] > 20


def test_the_page_answers_and_the_summary_has_its_form(done: AuditOutcome) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert not list(jsonschema.Draft202012Validator(summary_schema()).iter_errors(done.summary))
    text = done.page.read_text()
    assert "Would this method have told you?" in text
    assert "center would not have told you: it shows the tag in" in text
    assert "Its innocent twin:" in text


def test_the_same_audit_again_does_nothing(done: AuditOutcome) -> None:
    plan = plans.from_mapping(done.summary["plan"], "told")
    again = audit(plan, done.folder, How(engine="inline", device="cpu"))
    assert again.done == 0
    assert again.summary["studies"] == done.summary["studies"]


def test_planted_data_are_audited_by_the_plan_for_them(done: AuditOutcome, small_file: Path) -> None:
    from an8flower.commands.audit import _choose_plan

    planted = str(done.folder.parents[1] / "planted.h5")
    assert _choose_plan(quick=False, data=(planted,)) == "planted"
    assert _choose_plan(quick=True, data=(planted,)) == "quick"
    assert _choose_plan(quick=False, data=(planted, str(small_file))) == "quick"
    assert _choose_plan(quick=False, data=("single-6c",)) == "quick"
    assert _choose_plan(quick=False, data=("missing.h5",)) == "quick"
    assert _choose_plan(quick=False, data=()) == "quick"


def test_a_model_that_is_named_has_no_twin(done: AuditOutcome) -> None:
    """What is not trained here is asked all the same; its false alarms are those of its own rows."""
    (model,) = (done.folder / "models").glob("planted-*.safetensors")
    data = [{"file": str(done.folder.parents[1] / "planted.h5")}]
    changes = {"data": data, "models": [{"source": str(model)}], "methods": ["center"]}
    plan = plans.from_mapping({**PLAN, **changes}, "told")
    outcome = audit(plan, done.folder.parent / "named", How(engine="inline", device="cpu"), fresh=True)
    (marks,) = outcome.summary["studies"][0]["marks"]
    assert marks["innocent"] is None
    assert marks["methods"][0]["used"] == done.summary["studies"][0]["marks"][0]["methods"][1]["used"]
    assert "Its innocent twin:" not in outcome.page.read_text()
