"""Runs: what is there is not made again, what changes is, and one method's failure is its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from skimage.transform import downscale_local_mean, resize
from sklearn.metrics import average_precision_score
from torch import Tensor

from an8flower.errors import NotApplicable, Refusal
from an8flower.evaluate import registry
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.methods import Method, parse_methods
from an8flower.evaluate.metrics.interventions import effect_map
from an8flower.evaluate.metrics.metric import Metric
from an8flower.evaluate.metrics.naming import expand, parse_metric
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.statistics.scores import AT_GRID, OTHER_ROWS
from an8flower.evaluate.scoring import run as scoring
from an8flower.evaluate.scoring.references import other_rows
from an8flower.evaluate.scoring.run import ScoringOutcome, ScoringPlan, score
from an8flower.generate import generate
from an8flower.spec import from_mapping
from an8flower.store import FlowerStore

CPU = Resources(torch.device("cpu"), batch=7)


@pytest.fixture(scope="module")
def model(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained classifier for the small data set."""
    store = FlowerStore(small_file)
    path = tmp_path_factory.mktemp("models") / "flowernet-seed3.safetensors"
    build("flowernet", store.class_names, store.size, seed=3).save(path)
    return str(path)


@pytest.fixture
def plan(small_file: Path, model: str) -> ScoringPlan:
    methods = tuple(parse_methods(["gradcam", "random"]))
    return ScoringPlan(small_file, (model,), methods, ("iou", "iou_best", "pointing"))


def numbers(outcome: ScoringOutcome) -> Any:
    """The results without their cost, which no two runs share."""
    return [{key: value for key, value in entry.items() if key != "cost"} for entry in outcome.document["results"]]


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several cells for the small data set."""
    monkeypatch.setattr(scoring, "CELL_ROWS", 10)


@pytest.mark.usefixtures("small_cells")
def test_what_is_there_is_not_made_again(plan: ScoringPlan, tmp_path: Path) -> None:
    first = score(plan, CPU, tmp_path)
    assert (first.done, first.reused) == (12, 0)  # 24 rows in three cells: two methods, the references, the reliance
    again = score(plan, CPU, tmp_path)
    assert (again.done, again.reused) == (0, 12)
    assert numbers(first) == numbers(again)
    next((tmp_path / "scores").glob("*gradcam*")).unlink()
    mended = score(plan, CPU, tmp_path)
    assert (mended.done, mended.reused) == (1, 11)
    assert numbers(mended) == numbers(first)


@pytest.mark.usefixtures("small_cells")
def test_how_it_is_done_does_not_change_what_comes_out(plan: ScoringPlan, tmp_path: Path) -> None:
    one = score(plan, CPU, tmp_path / "one")
    other = score(plan, replace(CPU, batch=64), tmp_path / "other")
    for a, b in zip(numbers(one), numbers(other), strict=True):
        for metric in a["metrics"]:
            for key, value in a["metrics"][metric].items():
                assert b["metrics"][metric][key] == pytest.approx(value, abs=1e-5)


def test_what_is_asked_decides_what_is_reused(plan: ScoringPlan, tmp_path: Path) -> None:
    score(plan, CPU, tmp_path)
    assert score(replace(plan, rows=12), CPU, tmp_path).done == 4
    assert score(replace(plan, seed=1), CPU, tmp_path).done == 3  # what the model relies on asks no seed, nor a metric
    assert score(replace(plan, split="val"), CPU, tmp_path).done == 4
    assert score(replace(plan, metrics=("iou",)), CPU, tmp_path).done == 3
    assert score(replace(plan, target="predicted"), CPU, tmp_path).done == 2  # the references ask no model
    fewer = replace(plan, methods=plan.methods[:1])
    assert score(fewer, CPU, tmp_path).done == 0


def test_another_version_counts_as_missing(plan: ScoringPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score(plan, CPU, tmp_path)
    monkeypatch.setattr("an8flower.__version__", "9.9.9")
    assert score(plan, CPU, tmp_path).reused == 0


def test_the_rows_that_lie_on_disk(plan: ScoringPlan, tmp_path: Path) -> None:
    score(plan, CPU, tmp_path)
    asked = json.loads((tmp_path / "plan.json").read_text())
    assert len(asked["parts"]) == 4
    assert [card["name"] for card in asked["metrics"]] == list(plan.metrics)
    (part,) = (name for name in asked["parts"] if "gradcam" in name)
    frame = pq.read_table(tmp_path / "scores" / f"{part}.parquet").to_pandas()
    others, at_grid = (frame[frame.explainer.str.startswith(start)] for start in (OTHER_ROWS, AT_GRID))
    frame = frame.drop(others.index).drop(at_grid.index)
    assert len(frame) == len(others) == len(at_grid) == 24 * 3
    assert others[["seconds", "forwards", "backwards"]].isna().all(axis=None)
    assert (frame.groupby("metric").row.apply(list).map(len) == 24).all()
    assert frame[frame.metric == "iou_best"].curve.map(len).unique() == [100]
    iou = frame[frame.metric == "iou"]
    assert (iou.value.isna() == iou.reason.notna()).all()
    assert set(iou.reason.dropna()) <= {"the mask is empty or the map is constant"}
    assert iou.value.notna().any()
    assert frame.predicted.between(0, 5).all()
    assert frame.forwards.unique() == pytest.approx([1.0])


def test_the_truth_scores_one_and_chance_nothing(plan: ScoringPlan, tmp_path: Path) -> None:
    unbounded = {"sm"}  # what the model makes of the truth's crop has no fixed best
    every = tuple(name for name in expand("family:localisation") if name not in unbounded)
    outcome = score(replace(plan, metrics=every, split="train"), CPU, tmp_path)
    random = next(entry for entry in outcome.document["results"] if entry["method"] == "random")
    wrong = 1 - outcome.document["models"][0]["accuracy"]  # om is 1 where the prediction is
    for name, found in random["metrics"].items():
        best = registry.metrics[name].item.higher_is_better
        assert found["oracle"] == pytest.approx(1 if best else wrong if name == "om" else 0), name
        scale = found["oracle"] - found["chance"]
        spread = (found["high"] - found["low"]) / abs(scale)
        assert abs(found["calibrated"]) <= max(1.5 * spread, 0.002), name


@dataclass(frozen=True)
class RowNumber:
    """A map of a single pixel, which lies where the seed of the row says."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        maps = torch.zeros_like(query.images[:, 0])
        for drawn, seed in zip(maps, query.seeds.tolist(), strict=True):
            drawn.flatten()[seed % drawn.numel()] = 1
        return maps


def score_others(plan: ScoringPlan, folder: Path, rows: range, batch: int) -> pa.Table:
    """The long rows of what maps of other rows score by `pointing`."""
    opened = scoring.Scoring(replace(plan, metrics=("pointing",)), replace(CPU, batch=batch), folder)
    indices = np.array(rows)
    method = Method("number", "number", RowNumber())
    table = opened.judge.score(opened.models[0].classifier, method, indices, np.zeros_like(indices))
    return table.filter(pc.starts_with(table["explainer"], OTHER_ROWS))


def test_the_maps_of_other_rows_are_scored_as_well(plan: ScoringPlan, tmp_path: Path) -> None:
    """Each row gets the map of one other row, and each map is taken once; batches change nothing."""
    table = score_others(plan, tmp_path, range(20), batch=3)
    opened = scoring.Scoring(plan, CPU, tmp_path)
    case = opened.judge.case(opened.models[0].classifier, np.arange(20), np.zeros(20, np.int64))
    places = other_rows(case.truth.rows, opened.judge.seed).tolist()
    assert sorted(places) == list(range(20))
    assert all(place != stranger for place, stranger in enumerate(places))
    masks = case.truth.counted.flatten(1)
    brightest = case.query.seeds[torch.tensor(places)] % masks.shape[1]
    counted = masks.gather(1, brightest[:, None])[:, 0]
    # A map whose only bright pixel is void has the same value in all that count, and points at any of them.
    by_chance = (masks > 0).sum(1) / (masks >= 0).sum(1)
    expected = torch.where(counted < 0, by_chance.double(), (counted > 0).double())
    assert table["value"].to_pylist() == pytest.approx(expected.tolist())
    assert 0 < expected.sum() < 20
    assert set(table["explainer"].to_pylist()) == {f"{OTHER_ROWS}RowNumber()"}
    assert score_others(plan, tmp_path, range(20), batch=64) == table


def test_a_row_alone_has_no_other(plan: ScoringPlan, tmp_path: Path) -> None:
    table = score_others(plan, tmp_path, range(1), batch=3)
    assert np.isnan(table["value"].to_numpy()).all()
    assert table["reason"].to_pylist() == ["there is no other row in this cell"]


def test_the_ceiling_is_the_truth_at_the_grid_of_the_method(plan: ScoringPlan, tmp_path: Path) -> None:
    """Against means over blocks of pixels that are scaled up by scikit-image's bilinear rule."""
    metrics = ("average_precision",)
    outcome = score(replace(plan, metrics=metrics), CPU, tmp_path)
    gradcam, random = (result["metrics"]["average_precision"] for result in outcome.document["results"])
    assert "ceiling" not in random
    opened = scoring.Scoring(replace(plan, metrics=metrics), CPU, tmp_path)
    case = opened.judge.case(opened.models[0].classifier, opened.chosen, np.zeros(24, np.int64))
    grid = opened.methods[0].explainer.map_grid(case.classifier, case.query)
    side = case.truth.masks.shape[1]
    assert side % grid[0] == 0
    masks = (case.truth.masks > 0).double().numpy()
    maps = [
        resize(downscale_local_mean(mask, side // grid[0]), mask.shape, order=1, mode="edge", anti_aliasing=False)
        for mask in masks
    ]
    triples = zip(masks, maps, ~case.truth.void.numpy(), strict=True)
    expected = np.mean(
        [average_precision_score(mask[counts] > 0, drawn[counts].round(6)) for mask, drawn, counts in triples]
    )
    chance = gradcam["chance"]
    assert gradcam["ceiling"] == pytest.approx((expected - chance) / (1 - chance), abs=0.01)
    assert 0.3 < gradcam["ceiling"] < 0.99


def test_what_sees_no_picture_says_nothing_of_this_one(plan: ScoringPlan, tmp_path: Path) -> None:
    """The mean mask is the map of every row; it has the skill 0, and the other control is measured against it."""
    methods = tuple(parse_methods(["center", "mean_mask"]))
    document = score(replace(plan, methods=methods, metrics=("average_precision",)), CPU, tmp_path).document
    center, mean_mask = (result["metrics"]["average_precision"] for result in document["results"])
    assert (mean_mask["of_this_picture"], center["of_this_picture"]) == (0, 0)
    assert (mean_mask["skill"], mean_mask["skill_low"], mean_mask["skill_control"]) == (0, 0, "mean_mask")
    expected = (center["mean"] - mean_mask["mean"]) / (1 - mean_mask["mean"])
    assert center["skill"] == pytest.approx(expected)
    assert center["skill"] < 0
    (board,) = document["boards"]
    assert board["metrics"]["average_precision"]["results"]["center"]["skill"] == center["skill"]


@dataclass(frozen=True)
class Broken:
    """Fails in the middle of the work."""

    error: str = "broken"

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        if self.error == "unsuitable":
            raise NotApplicable("not for this kind of model")
        raise ValueError(self.error)


def test_the_effect_map_is_the_truth_of_effect_metrics(
    plan: ScoringPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It scores 1 without a method of its own, is measured once for all methods, and lies in the run's folder."""
    deletion = "counterfactual_deletion:steps=4"
    metric = parse_metric(deletion)  # which loads the cards, and they name the bound
    monkeypatch.setattr(effect_map, "BOUND", 10.0)  # the model is not trained
    monkeypatch.setattr(effect_map, "_MEMORY", type(effect_map._MEMORY)())
    names = ("effect_rank", "effect_mass", "iou")
    opened = scoring.Scoring(plan, CPU, tmp_path)
    (model,) = opened.models
    case = opened.judge.case(model.classifier, rows := np.arange(24), opened.judge.split.labels[rows])
    with torch.no_grad():
        expected = float(metric.score(metric.ideal.ideal_maps(case), case).mean())
    outcome = score(replace(plan, metrics=(*names, deletion)), CPU, tmp_path)
    for entry in outcome.document["results"]:
        for name in names:
            assert entry["metrics"][name]["oracle"] == pytest.approx(1)
        assert entry["metrics"][deletion]["oracle"] == pytest.approx(expected, abs=1e-5)
        assert entry["metrics"][deletion]["of_this_picture"] is None
    assert len(list((tmp_path / "effects").glob("effects-*"))) == 1


def test_a_failure_is_its_own(plan: ScoringPlan, tmp_path: Path) -> None:
    broken = Method("broken", "broken", Broken())
    outcome = score(replace(plan, methods=(broken, *plan.methods)), CPU, tmp_path)
    assert [entry["method"] for entry in outcome.document["results"]] == ["gradcam", "random"]
    assert outcome.document["failed"][0]["reason"] == "ValueError: broken"
    (told,) = (tmp_path / "failed").glob("*.json")
    assert "raise ValueError(self.error)" in json.loads(told.read_text())["traceback"]


@pytest.mark.usefixtures("small_cells")
def test_what_does_not_apply_is_skipped_once_and_for_all(plan: ScoringPlan, tmp_path: Path) -> None:
    unsuitable = Method("unsuitable", "unsuitable", Broken("unsuitable"))
    outcome = score(replace(plan, methods=(*plan.methods, unsuitable)), CPU, tmp_path)
    assert len(outcome.document["results"]) == 2
    assert not outcome.document["failed"]
    assert len(outcome.document["skipped"]) == 1


def test_a_metric_without_a_formula_for_chance_is_measured(
    plan: ScoringPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = registry.metrics["iou_mean"]
    bare: Metric = replace(exact.item, chance=None)
    monkeypatch.setitem(registry.metrics._entries, "bare", registry.Entry("bare", replace(bare, name="bare"), {}))
    found = score(replace(plan, metrics=("iou_mean", "bare")), CPU, tmp_path).document["results"][0]["metrics"]
    assert found["bare"]["chance"] == pytest.approx(found["iou_mean"]["chance"], rel=0.02)
    assert found["bare"]["chance"] != found["iou_mean"]["chance"]


def test_several_models_are_told_apart_and_pooled(plan: ScoringPlan, tmp_path: Path, small_file: Path) -> None:
    store = FlowerStore(small_file)
    other = tmp_path / "other.safetensors"
    build("flowernet", store.class_names, store.size, seed=4).save(other)
    outcome = score(replace(plan, models=(*plan.models, str(other))), CPU, tmp_path / "run")
    assert [entry["seed"] for entry in outcome.document["models"]] == [3, 4]
    alone = [score(replace(plan, models=(each,)), CPU, tmp_path / "run") for each in (*plan.models, str(other))]
    means = [numbers(each)[0]["metrics"]["iou"]["mean"] for each in alone]
    assert numbers(outcome)[0]["metrics"]["iou"]["mean"] == pytest.approx(np.mean(means))
    assert numbers(outcome)[0]["metrics"]["iou"]["n"] == 24


def test_a_model_must_fit_the_data(plan: ScoringPlan, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    build("flowernet", ["a", "b"], 40, seed=0).save(path)
    with pytest.raises(Refusal, match="has 2 classes and the data have 6"):
        score(replace(plan, models=(str(path),)), CPU, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_reaches_the_end(plan: ScoringPlan, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    score(plan, CPU, tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_error_of_a_lower_precision_is_told(plan: ScoringPlan, tmp_path: Path) -> None:
    (exact,) = score(plan, CPU, tmp_path).document["models"]
    assert "precision_error" not in exact
    coarse = replace(plan, methods=tuple(parse_methods(["occlusion:precision=bf16"])))
    (told,) = score(coarse, CPU, tmp_path).document["models"]
    error = told["precision_error"]["bf16"]
    assert 0 < error["mean"] < error["max"] < 0.05


def test_whether_the_model_relies_on_the_evidence_is_filed(plan: ScoringPlan, tmp_path: Path) -> None:
    document = score(plan, CPU, tmp_path).document
    asked = json.loads((tmp_path / "plan.json").read_text())
    (part,) = (name for name in asked["parts"] if "-reliance-" in name)
    frame = pq.read_table(tmp_path / "scores" / f"{part}.parquet").to_pandas()
    assert set(frame.explainer) == {"reliance"}
    assert set(frame.model) == {part.partition("-reliance-")[0]}
    assert frame.metric.value_counts().to_dict() == {"relies": 24, "follows": 24}
    relies = frame[frame.metric == "relies"].set_index("row").value
    assert set(relies) <= {0, 1}
    assert document["models"][0]["reliance"]["share"] == relies.mean()
    undefined = frame[frame.value.isna()]
    assert set(undefined.reason) <= {"the model predicts that class without the change already"}
    assert frame[frame.value.notna()].reason.isna().all()
    doubt, warning, few = document["warnings"]  # nobody has trained it
    assert "flowernet seed 3 is right in 4 of 24 rows of test (17%), which chance gives as well (17%)" in doubt
    assert "flowernet seed 3 relies on the designed evidence in 0% of the rows" in warning
    assert "rows are few" in few


def test_rows_that_nobody_can_render_have_no_reliance(plan: ScoringPlan, tmp_path: Path) -> None:
    shutil.copy(plan.data, tmp_path / "foreign.h5")
    with h5py.File(tmp_path / "foreign.h5", "r+") as file:
        del file.attrs["spec"]
    outcome = score(replace(plan, data=tmp_path / "foreign.h5"), CPU, tmp_path / "run")
    assert outcome.done == 3
    assert "reliance" not in outcome.document["models"][0]
    known = ("which chance gives as well", "rows are few")
    assert [text for text in outcome.document["warnings"] if not any(words in text for words in known)] == []
    assert outcome.document["redundant"] is None


def test_redundant_data_come_with_a_warning(tmp_path: Path) -> None:
    classes = {"petals.colour": ["red", "blue"], "disc.colour": ["gold", "moss"]}
    rows = {"train": 2, "val": 2, "test": 2}
    spec = from_mapping({"name": "two-ways", "size": 32, "rows": rows, "classes": classes}, "two-ways")
    data = generate(spec, tmp_path / "x.h5", workers=1).path
    build("flowernet", spec.class_names, 32, seed=0).save(tmp_path / "m.safetensors")
    plan = ScoringPlan(data, (str(tmp_path / "m.safetensors"),), tuple(parse_methods(["random"])), ("iou",))
    document = score(plan, CPU, tmp_path).document
    assert document["warnings"][0] == document["redundant"]
    assert (
        "two-ways is redundant: a class can be told by the disc alone or by the petals alone" in document["redundant"]
    )
    assert "best_set" in document["redundant"]


def test_void_pixels_reach_the_metrics(plan: ScoringPlan, tmp_path: Path) -> None:
    """The judge hands the file's void pixels on: what the truth and chance score is that of the pixels that count."""
    opened = scoring.Scoring(plan, CPU, tmp_path)
    indices = np.arange(6)
    rows = opened.judge.split.take(indices)
    truth = opened.judge._truth(rows, indices)
    assert truth.void is not None
    assert (truth.void.numpy() == rows.void).all()
    table = opened.judge.score_references(indices).to_pandas()
    pointing = table[(table.metric == "pointing") & (table.explainer == "chance")].value
    shares = ((rows.masks > 0) & ~rows.void).sum((1, 2)) / (~rows.void).sum((1, 2))
    np.testing.assert_allclose(pointing, shares, rtol=1e-5)


def test_files_without_coverage_are_scored_with_a_sentence(tmp_path: Path) -> None:
    path = Path(shutil.copy(Path(__file__).parents[2] / "an8flower" / "written-before.hdf5", tmp_path / "old.h5"))
    store = FlowerStore(path)
    build("flowernet", store.class_names, store.size, seed=3).save(tmp_path / "m.safetensors")
    plan = ScoringPlan(path, (str(tmp_path / "m.safetensors"),), tuple(parse_methods(["random"])), ("iou", "pointing"))
    warnings = score(plan, CPU, tmp_path / "run").document["warnings"]
    assert [sentence for sentence in warnings if "written before files had coverage" in sentence] == [store.lack]
