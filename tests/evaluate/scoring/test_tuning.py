"""Tuning: a known optimum is found on validation rows, no test row is read for it, and the gain is that of a score."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from an8flower.__main__ import main
from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.evaluate import Between, Choices, score, tune
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.methods import Method
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.report.tuning_curve import draw_search
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.tuned import gain_words, with_best
from an8flower.evaluate.scoring.tuning import Tuning, TuningPlan, settle_here
from an8flower.evaluate.seeds import generator, row_seed
from an8flower.store import FlowerSplit, FlowerStore

CPU = Resources(torch.device("cpu"), batch=7)
OPTIMUM = 0.3
TRUTH: dict[int, Tensor] = {}  # the masks of all rows by the rows' seeds


@dataclass(frozen=True)
class Peeking:
    """The truth, hidden in the more noise the farther a parameter is from 0.3, and upside down if so wanted."""

    place: float = 0.9
    sign: str = "minus"
    ranges: ClassVar = {"place": Between(0.0, 1.0), "sign": Choices(("minus", "plus", "broken"))}

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        if self.sign == "broken":
            raise RuntimeError("this one always fails")
        if self.sign == "none":
            raise NotApplicable("this one never runs")
        masks = torch.stack([TRUTH[seed] for seed in query.seeds.tolist()])
        noise = torch.stack([torch.rand(masks.shape[1:], generator=generator(seed)) for seed in query.seeds.tolist()])
        far = min(1.0, 2 * abs(self.place - OPTIMUM))
        return ((1 - far) * masks + far * noise) * (1 if self.sign == "plus" else -1)


@pytest.fixture(scope="module")
def model(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained classifier for the small data set, and the truth for those who peek."""
    store = FlowerStore(small_file)
    for split in ("val", "test"):
        masks = store[split].take(np.arange(len(store[split]))).masks
        for row, mask in enumerate(masks):
            TRUTH[row_seed(0, store.digest, split, row)] = torch.from_numpy(mask).float().clamp(max=1)
    path = tmp_path_factory.mktemp("models") / "flowernet-seed3.safetensors"
    build("flowernet", store.class_names, store.size, seed=3).save(path)
    return path


@pytest.fixture
def plan(small_file: Path, model: Path) -> TuningPlan:
    pytest.importorskip("optuna")
    return TuningPlan(small_file, (str(model),), Method("peeking", "peeking", Peeking()), trials=24)


def values_of(document: dict[str, Any]) -> list[Any]:
    return [(trial["values"], trial["calibrated"]) for trial in document["trials"]]


@pytest.fixture(scope="module")
def tuned(small_file: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a search of 24 trials says, with its gain on test rows."""
    pytest.importorskip("optuna")
    folder = tmp_path_factory.mktemp("tuned")
    return tune(data=small_file, model=model, method=Peeking(), trials=24, output=folder, device="cpu").document


def test_a_known_optimum_is_found(tuned: dict[str, Any]) -> None:
    """The chosen map has every pixel of the truth above all others: less than half noise, and the right sign."""
    assert tuned["search"] | {"space": None} == {"by": "tpe", "split": "val", "rows": 12, "space": None}
    assert abs(tuned["chosen"]["values"]["place"] - OPTIMUM) < 0.25
    assert tuned["chosen"]["values"]["sign"] == "plus"
    assert tuned["chosen"]["calibrated"] == max(filter(None, (trial["calibrated"] for trial in tuned["trials"])))
    assert tuned["test"]["rows"] == 24
    assert tuned["test"]["tuned"]["calibrated"] == pytest.approx(1)
    assert tuned["trials"][0]["values"] == {"place": 0.9, "sign": "minus"}
    reasons = {trial["values"]["sign"]: trial["reason"] for trial in tuned["trials"]}
    assert reasons["plus"] is None
    assert reasons["broken"] == "RuntimeError: this one always fails"


def test_the_gain_is_that_of_the_scores(tuned: dict[str, Any], small_file: Path, model: Path, tmp_path: Path) -> None:
    """`score` gives the same calibrated means for the two methods; its paired difference, on the scale from 0 to 1."""
    best = Peeking(**tuned["chosen"]["values"])
    scored = score(
        data=small_file, models=model, methods=[Peeking(), best], metrics="iou_area", output=tmp_path, device="cpu"
    )
    plain, better = (entry["metrics"]["iou_area"] for entry in scored.document["results"])
    test, gain = tuned["test"], tuned["test"]["gain"]
    assert (test["untuned"]["calibrated"], test["tuned"]["calibrated"]) == pytest.approx(
        (plain["calibrated"], better["calibrated"])
    )
    (pair,) = scored.document["comparisons"]["iou_area"]["pairs"]
    span = plain["oracle"] - plain["chance"]
    assert gain["calibrated"] == pytest.approx(pair["difference"] / span)
    assert gain["p"] == pair["p"]
    assert gain["low"] < gain["calibrated"] < gain["high"]
    assert gain_words(gain) == "better"
    rows = scored.rows[scored.rows.metric == "iou_area"].set_index(["explainer", "row"]).value
    spans = rows["oracle"] - rows["chance"]
    differences = rows[repr(best)] - rows[repr(Peeking())]
    assert gain["calibrated"] == pytest.approx(differences.mean() / spans.mean(), abs=1e-6)
    influence = (differences - gain["calibrated"] * spans) / spans.mean()
    spread = influence.std() / len(influence) ** 0.5
    assert gain["high"] - gain["low"] == pytest.approx(2 * 2.07 * spread, rel=0.25)


def test_no_test_row_is_read_while_tuning(
    plan: TuningPlan, tuned: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy whose test rows are all overwritten gives the same trials, and a split of test rows is never opened."""
    copy = shutil.copy(plan.data, tmp_path / "copy.h5")
    with h5py.File(copy, "r+") as file:
        for name in ("images", "masks", "labels"):
            file["test"][name][:] = 0
    real = FlowerSplit.__init__

    def refuse(self: FlowerSplit, store: FlowerStore, name: str) -> None:
        assert name == "val", f"the search reads {name} rows"
        real(self, store, name)

    monkeypatch.setattr(FlowerSplit, "__init__", refuse)
    outcome = Tuning(replace(plan, data=copy), CPU, tmp_path / "run", settle_here).run()
    assert values_of(outcome.document) == values_of(tuned)


def test_the_same_seed_gives_the_same_whatever_the_batch(
    plan: TuningPlan, tuned: dict[str, Any], tmp_path: Path
) -> None:
    """The first search had 16 images in the network at once, this one has 3."""
    outcome = Tuning(plan, replace(CPU, batch=3), tmp_path, settle_here).run()
    assert [trial["values"] for trial in outcome.document["trials"]] == [trial["values"] for trial in tuned["trials"]]
    assert outcome.document["chosen"]["values"] == tuned["chosen"]["values"]


def test_cells_of_trials_are_kept_and_used_again(plan: TuningPlan, tmp_path: Path) -> None:
    plan = replace(plan, trials=5)
    first = Tuning(plan, CPU, tmp_path, settle_here)
    once = first.run().document
    again = Tuning(plan, CPU, tmp_path, settle_here)
    assert again.run().document == once
    assert again.ledger.done == 0
    assert again.ledger.reused == first.ledger.done > 0


def test_a_small_space_is_tried_whole(plan: TuningPlan, model: Path, tmp_path: Path) -> None:
    """Progress is told in trials; without a better value the method stays as it is, and gains nothing."""
    calls: list[tuple[int, int]] = []
    result = tune(
        data=plan.data,
        model=model,
        method="gradcam",
        trials=20,
        output=tmp_path,
        device="cpu",
        progress=lambda done, total: calls.append((done, total)),
    )
    assert result.document["search"]["by"] == "grid"
    assert [trial["text"] for trial in result.document["trials"]] == ["gradcam", "gradcam:layer=features.2"]
    assert calls == [(2, 2)]
    assert list(result.frame["layer"])[1] == "features.2"
    if result.method == "gradcam":
        assert result.gain | {"n": 0} == {"calibrated": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "n": 0}
    assert "Chosen: gradcam" in result._repr_html_()


def test_what_cannot_be_tuned_is_one_sentence(plan: TuningPlan, tmp_path: Path) -> None:
    def refusing(**changes: Any) -> None:
        Tuning(replace(plan, **changes), CPU, tmp_path, settle_here).run()

    with pytest.raises(WrongUsage, match="trials is 1; expected at least 2"):
        refusing(trials=1)
    with pytest.raises(WrongUsage, match=r"usual stands for \d+ metrics; tune by one of them"):
        refusing(metric="usual")
    with pytest.raises(NotApplicable, match="random has no parameter that leaves a choice here"):
        refusing(method="random")
    with pytest.raises(Refusal, match="no trial has a score; the first: this one never runs"):
        refusing(method=Method("peeking", "peeking", Peeking(sign="none")), parameters=("place",), trials=3)


def test_the_curve_never_falls_and_is_drawn() -> None:
    trials = [{"calibrated": value} for value in (None, 0.2, 0.1, None, 0.4)]
    assert [trial["best"] for trial in with_best(trials)] == [None, 0.2, 0.2, 0.2, 0.4]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command(plan: TuningPlan, model: Path, folder: Path) -> None:
    """It prints trials, choice and gain, and writes the document and the picture that it tells of."""
    words = ["--data", str(plan.data), "--model", str(model), "--device", "cpu", "--trials", "4", "--rows", "6"]
    done = CliRunner().invoke(main, ["tune", "--method", "finercam", *words, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    place = folder / "runs" / plan.data.stem / "tuning" / "tuning-finercam-iou_area.json"
    assert json.loads(place.read_text()) == document
    assert place.with_suffix(".png").read_bytes() == draw_search(document)
    shown = CliRunner().invoke(main, ["tune", "--method", "finercam", *words])
    assert f"Chosen: {document['chosen']['text']}" in shown.stdout
    assert "On 24 test rows: " in shown.stdout
    strange = CliRunner().invoke(main, ["tune", "--method", "mine:Method", *words])
    assert strange.exit_code == 1
    assert "mine:Method is not ours, and tuning runs it in this process: add --in-process" in strange.output
