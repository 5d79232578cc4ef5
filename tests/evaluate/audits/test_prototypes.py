"""The stage that judges prototypes: what a plan asks for, what the summary holds, and what is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import Refusal
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import AuditOutcome, How, audit
from an8flower.evaluate.metrics.prototypes.judging import PrototypeTest, judge_models
from an8flower.evaluate.models.prototypes.network import PrototypeNetwork
from an8flower.evaluate.models.sources import Source
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.prototype_results import KEY, PrototypesDocument
from an8flower.evaluate.results.summary_schema import summary_schema
from an8flower.evaluate.trust.by_hand.networks import detect_colours
from an8flower.evaluate.trust.by_hand.scenes import spec_of
from an8flower.generate import generate
from an8flower.store import FlowerStore

PLAN: dict[str, Any] = {
    "name": "parts",
    "methods": ["center"],
    "metrics": ["pointing"],
    "rows": 6,
    "certificate": None,
    "pictures": None,
    "prototypes": {"rows": 12},
}


class ColourPrototypes(PrototypeNetwork):
    """A prototype for the colour of each class, found pixel by pixel in the petals."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = detect_colours(primary=True, secondary=False)
        self.register_buffer("table", torch.eye(3))

    @property
    def weights(self) -> Tensor:
        return self.table

    def locate(self, images: Tensor) -> Tensor:
        return self.backbone(images)


def build_prototypes() -> nn.Module:
    return ColourPrototypes()


def build_plain() -> nn.Module:
    """The same network without prototypes."""
    return nn.Sequential(detect_colours(primary=True, secondary=False), nn.AdaptiveMaxPool2d(1), nn.Flatten())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("parts") / "backdrop.h5"
    generate(spec_of("backdrop"), place, workers=1)
    return place


@pytest.fixture(scope="module")
def done(data: Path) -> AuditOutcome:
    names = ("build_prototypes", "build_plain")
    models = [{"source": f"{__name__}:{name}", "normalise": "none"} for name in names]
    plan = plans.from_mapping({**PLAN, "data": [{"file": str(data)}], "models": models}, "parts")
    return audit(plan, data.parent / "runs" / "parts", How(engine="inline", device="cpu"), warn=lambda sentence: None)


def test_a_plan_asks_for_prototypes() -> None:
    values = {**PLAN, "data": [{"spec": "single-6c"}], "models": [{"arch": "flowernet"}]}
    assert plans.from_mapping(values, "parts").document()[KEY] == {"rows": 12, "published": False}
    assert plans.from_mapping({**values, KEY: None}, "parts").document()[KEY] is None
    smaller = plans.from_mapping({**values, "reduced": {"prototypes_rows": 4}}, "parts").at_reduced_size()
    assert smaller.document()[KEY]["rows"] == 4
    with pytest.raises(Refusal, match="rows"):
        plans.from_mapping({**values, KEY: {"rows": 0}}, "parts")


def test_the_summary_says_what_the_command_says(done: AuditOutcome, data: Path) -> None:
    assert not done.failed
    (study,) = done.summary["studies"]
    judged = PrototypesDocument.model_validate(study[KEY])
    (model,) = judged.results
    assert (judged.rows, judged.split, model.scores["purity"].mean) == (12, "test", 1.0)
    source = Source(f"{__name__}:build_prototypes", normalisation=((0, 0, 0), (1, 1, 1)))
    test = PrototypeTest(FlowerStore(data)["test"], 12)
    by_command = judge_models([source], test, Resources(torch.device("cpu")))["prototypes"]["results"][0]
    assert {**study[KEY]["results"][0], "pictures": ""} == by_command
    with np.load(done.folder / model.pictures) as pictures:
        assert pictures["numbers"].tolist() == [0, 1, 2]


def test_a_model_without_prototypes_is_skipped_with_the_reason(done: AuditOutcome) -> None:
    (skipped,) = done.summary["studies"][0][KEY]["skipped"]
    assert "has no prototypes; train with --pool protopnet or --pool pipnet" in skipped["reason"]


def test_the_summary_has_the_form_of_the_schema(done: AuditOutcome) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(summary_schema()).validate(done.summary)


@pytest.mark.slow
def test_the_same_audit_again_does_nothing_unless_pictures_are_gone(done: AuditOutcome) -> None:
    plan, how = plans.from_mapping(done.summary["plan"], "parts"), How(engine="inline", device="cpu")
    again = audit(plan, done.folder, how, warn=lambda sentence: None)
    assert again.done == 0
    assert again.summary["studies"] == done.summary["studies"]
    (model,) = again.summary["studies"][0][KEY]["results"]
    (done.folder / model["pictures"]).unlink()
    mended = audit(plan, done.folder, how, warn=lambda sentence: None)
    assert mended.done == 1
    assert (done.folder / model["pictures"]).is_file()
