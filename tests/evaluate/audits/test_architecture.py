"""The stage of canvases and its section of the page: verdicts as of the check, reasons, controls, and the pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import Refusal
from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.baselines import Edges
from an8flower.evaluate.explainers.gradients import Gradient
from an8flower.evaluate.explainers.mean_mask import MeanMask
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.report.canvases import canvas_tables, conclude, read_strips
from an8flower.evaluate.report.reading import AuditFolder, Missing
from an8flower.evaluate.results import answers
from an8flower.evaluate.results.summary_schema import summary_schema
from an8flower.evaluate.trust.by_architecture.judge import (
    Canvases,
    CanvasVerdict,
    judge_if_applicable,
    judge_on_canvases,
    judge_scores,
    lay_canvases,
)
from an8flower.evaluate.trust.by_architecture.networks import CELLS, SETTINGS
from an8flower.evaluate.trust.by_architecture.sheet import EDGES, FRAME, SMALL, draw_tiles
from an8flower.evaluate.trust.by_hand.networks import handset
from an8flower.evaluate.trust.by_hand.scenes import spec_of
from an8flower.generate import generate
from an8flower.store import FlowerStore

METHODS = ("gradient", "edges", "random", "mean_mask")
PLAN: dict[str, Any] = {
    "name": "canvases",
    "methods": list(METHODS),
    "metrics": ["pointing"],
    "rows": 6,
    "certificate": None,
    "pictures": None,
    "architecture": {"canvases": 8},
}


def verdicts(*scores: float) -> list[dict[str, Any]]:
    """The verdicts of a method on canvases that all have the same score, a score for each setting."""
    by_setting = zip(SETTINGS, scores, strict=True)
    return [judge_scores(np.full(8, score), setting).document() for setting, score in by_setting]


def entry(method: str, *scores: float, family: str = "cam", model: str = "net") -> dict[str, Any]:
    about = {"method": method, "family": family, "architecture": "net", "model": model, "pictures": "canvases/none.npz"}
    return {**about, "verdicts": verdicts(*scores)}


def control(*scores: float) -> dict[str, Any]:
    return entry("edges", *scores, family="baselines")


def test_a_plan_asks_for_as_many_canvases_of_each_cell() -> None:
    values = {**PLAN, "data": [{"spec": "single-6c"}], "models": [{"arch": "flowernet"}]}
    assert plans.from_mapping(values, "canvases").document()["architecture"] == {"methods": None, "canvases": 8}
    for count in (0, 6):
        with pytest.raises(Refusal, match="canvases"):
            plans.from_mapping({**values, "architecture": {"canvases": count}}, "canvases")
    smaller = plans.from_mapping({**values, "reduced": {"architecture_canvases": 4}}, "canvases").at_reduced_size()
    assert smaller.document()["architecture"]["canvases"] == 4


def test_what_a_method_raises_is_raised_unless_it_does_not_apply() -> None:
    classifier = build("flowernet", "abc", 16, 0).eval()
    canvases = Canvases(torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64), torch.arange(4) % CELLS)

    class Broken:
        def __call__(self, classifier: Classifier, query: Query) -> Tensor:
            raise ZeroDivisionError("it divides by zero")

    with pytest.raises(ZeroDivisionError):
        judge_if_applicable(Broken(), classifier, canvases, "difull")
    assert judge_on_canvases(Broken(), classifier, canvases, "difull").verdict.status == "FAILED"
    verdict = judge_if_applicable(MeanMask(), classifier, canvases, "difull").verdict
    assert verdict.status == "not applicable"
    one, many = (judge_if_applicable(Gradient(), classifier, canvases, "dipart", batch).verdict for batch in (1, 16))
    assert one.score is not None
    assert many.score is not None
    assert one.score.mean == pytest.approx(many.score.mean, abs=1e-5)


def test_tiles_have_the_frame_of_the_cell() -> None:
    maps = torch.zeros(4, 8, 8)
    maps[:, 5, 5] = 1.0  # in the last cell
    tiles = draw_tiles(maps, torch.full((4,), 3))
    assert tiles.shape == (len(EDGES) - 1, SMALL, SMALL, 3)
    assert {tuple(tile[0, 0]) for tile in tiles} == {FRAME}
    assert tiles[0, : SMALL // 2, : SMALL // 2].sum() > tiles[0, SMALL // 2 :, SMALL // 2 :].sum()


def test_the_sentence_names_what_is_forbidden() -> None:
    assert conclude([]) == ""
    good, bad, fair = entry("hirescam", 0.9, 1.0, 1.0), entry("gradcam", 0.9, 1.0, 0.3), control(0.25, 0.25, 0.25)
    assert "No method is shown" in conclude([good])
    text = conclude([good, bad, fair])
    assert "gradcam (dipart)" in text
    assert "hirescam" not in text
    assert "edges" not in text  # that a control fails is no finding
    assert "The controls fail, as they must." in text
    assert "edges, which looks at no model, does not fail" in conclude([good, control(0.9, 0.9, 0.9)])
    assert "gradcam (dipart)" not in conclude([entry("gradcam", 0.1, 1.0, 1.0)])  # gridpg alone forbids nothing


class NoFolder(AuditFolder):
    """The folder of an audit in which no file is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


def test_a_table_has_marks_intervals_and_reasons(tmp_path: Path) -> None:
    flat = {**entry("flat", 0.9, 1.0, 1.0), "verdicts": verdicts(float("nan"), float("nan"), 0.9)}
    flat["verdicts"][2] = CanvasVerdict("dipart", "not applicable", "it cannot").document()
    skipped = [{"method": name, "model": "vit", "reason": "one size only"} for name in ("gradcam", "edges")]
    results = [entry("gradcam", 0.9, 1.0, 0.3), control(0.25, 0.25, 0.25), flat]
    document = json.loads(json.dumps({"results": results, "skipped": skipped}))
    net, vit = canvas_tables(document, NoFolder(tmp_path))
    (name, is_control, cells), (_, edges_is_control, _), (_, _, (_, no_score, no_setting)) = net.rows
    assert (name, is_control, edges_is_control) == ("gradcam", False, True)
    assert [cell.outcome for cell in cells] == ["", "pass", "fail"]
    assert (cells[2].score, cells[2].interval) == ("0.30", "0.30 to 0.30")
    assert no_score.note == "8 of 8 without positive attribution"
    assert no_score.outcome == "fail"
    assert (no_setting.outcome, no_setting.note) == ("not applicable", "")  # reasons are long, and stand below
    assert net.skipped == [("it cannot", "flat (dipart)")]
    assert net.missing[0] == "gradcam: canvases/none.npz is missing"
    assert (vit.rows, vit.skipped) == ([], [("one size only", "gradcam, edges")])


def test_strips_are_those_of_the_file(tmp_path: Path) -> None:
    place = tmp_path / "canvases" / "none.npz"
    place.parent.mkdir()
    tiles = np.random.default_rng(0).integers(0, 255, (1, 2, 5, 5, 3)).astype(np.uint8)
    arrays = {"tiles": tiles, "settings": np.array(["difull"]), "bins": np.array(["0 to 2", "2 to 5"])}
    answers.write_sealed_arrays(place, arrays)
    strips = read_strips(entry("gradcam", 0.9, 1.0, 1.0), NoFolder(tmp_path))
    assert not isinstance(strips, Missing)
    assert [(strip.setting, [bin_ for bin_, _ in strip.frames]) for strip in strips] == [
        ("difull", ["0 to 2", "2 to 5"])
    ]
    assert len({picture for _, picture in strips[0].frames}) == 2
    answers.write_sealed_arrays(place, {**arrays, "bins": np.array(["0 to 2"])})
    assert isinstance(read_strips(entry("gradcam", 0.9, 1.0, 1.0), NoFolder(tmp_path)), Missing)


def build_colour() -> nn.Module:
    """A network of single pixels that counts a class's colour: what it reads is known."""
    return handset("colour").build()


def build_attention() -> nn.Module:
    """A network that cuts pictures into patches and attends to them: it cannot be laid over a canvas."""
    return handset("attention").build()


@pytest.mark.slow
def test_an_audit_says_what_the_check_says(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    data = tmp_path / "by-hand.h5"
    generate(spec_of("petals"), data, workers=1)
    source = {"source": f"{__name__}:build_colour", "normalise": "none", "layer": "features"}
    blind = {"source": f"{__name__}:build_attention", "normalise": "none", "layer": handset("attention").layer}
    plan = plans.from_mapping({**PLAN, "data": [{"file": str(data)}], "models": [source, blind]}, "canvases")
    how = How(engine="inline", device="cpu", data_folder=tmp_path / "data")
    outcome = audit(plan, tmp_path / "runs" / "canvases", how)
    assert not outcome.failed
    (study,) = outcome.summary["studies"]
    document = study["canvases"]
    by_method = {result["method"]: result for result in document["results"]}
    colour, store = handset("colour").classifier(), FlowerStore(data)
    canvases = lay_canvases(colour, store["test"], 8)
    for name, explainer in (("gradient", Gradient()), ("edges", Edges())):
        expected = [judge_on_canvases(explainer, colour, canvases, setting).verdict.document() for setting in SETTINGS]
        assert by_method[name]["verdicts"] == expected
    statuses = {name: [verdict["status"] for verdict in by_method[name]["verdicts"]] for name in METHODS[:3]}
    forbidden = ["scored", "FAILED", "FAILED"]
    assert statuses == {"gradient": ["scored", "pass", "pass"], "edges": forbidden, "random": forbidden}
    skipped = [(item["method"], item["reason"]) for item in document["skipped"]]
    assert [name for name, _ in skipped] == ["mean_mask", *METHODS]  # of the one model, then all on the other
    assert "is fitted on pictures" in skipped[0][1]
    assert all("reads more than maps" in reason for _, reason in skipped[1:])
    jsonschema.Draft202012Validator(summary_schema()).validate(outcome.summary)
    assert (outcome.folder / by_method["gradient"]["pictures"]).is_file()
    text = outcome.page.read_text()
    for words in ("Does the map stay where the network can look?", "The controls fail, as they must.", "Not judged"):
        assert words in text, words
    again = audit(plan, outcome.folder, how)
    assert again.done == 0
