"""Runs side by side: the same is paired row by row, and what cannot be compared is named with the reason."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from statsmodels.stats.multitest import multipletests

from an8flower.__main__ import main
from an8flower.errors import Refusal
from an8flower.evaluate.audits.comparison import compare, kind_of
from an8flower.evaluate.explaining.methods import parse_methods
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.report.comparison import render_comparison
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.comparison_words import cell_columns, cell_rows, remarks
from an8flower.evaluate.results.exports.read import open_results
from an8flower.evaluate.results.exports.write import export_run
from an8flower.evaluate.results.finished import FinishedRun
from an8flower.evaluate.results.side_by_side import NO_KIND, compare_side_by_side
from an8flower.evaluate.scoring.run import ScoringPlan, score
from an8flower.store import FlowerStore

CPU = Resources(torch.device("cpu"))
METRICS = ("iou_best", "pointing", "auroc")


@pytest.fixture(scope="module")
def folders(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs on one data set: the second of a model with other weights, the third of fewer rows; not to change."""
    place = tmp_path_factory.mktemp("runs")
    store = FlowerStore(small_file)
    classifier = build("flowernet", store.class_names, store.size, seed=3)
    classifier.save(place / "first.safetensors")
    with torch.no_grad():
        for weights in classifier.network.parameters():
            weights.add_(0.05 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)))
    classifier.save(place / "second.safetensors")
    asked = (
        ("a", "first", ("gradient", "random"), METRICS, None),
        ("b", "second", ("gradient", "center"), METRICS, None),
        ("c", "first", ("gradient", "random"), METRICS[:2], 12),
    )
    for name, model, methods, metrics, rows in asked:
        source = str(place / f"{model}.safetensors")
        score(ScoringPlan(small_file, (source,), tuple(parse_methods(methods)), metrics, rows=rows), CPU, place / name)
    return [place / name for name, *_ in asked]


@pytest.fixture(scope="module")
def document(folders: list[Path]) -> dict[str, Any]:
    """The three runs side by side."""
    return compare(*folders)


def filed(folder: Path, explainer: str, metric: str, rows: list[int]) -> np.ndarray:
    """The values of a method of a run, read with pandas from its parts."""
    parts = json.loads((folder / "plan.json").read_text())["parts"]
    lines = pd.concat([pq.read_table(folder / "scores" / f"{part}.parquet").to_pandas() for part in parts])
    lines = lines[lines.explainer.str.startswith(explainer) & (lines.metric == metric)].set_index("row")
    return lines.loc[rows]["value"].to_numpy(np.float64)


def cell_of(document: dict[str, Any], method: str, metric: str) -> dict[str, Any]:
    (cell,) = (c for c in document["studies"][0]["cells"] if (c["method"], c["metric"]) == (method, metric))
    return cell


def test_cells_hold_the_means_and_differences_of_common_rows(folders: list[Path], document: dict[str, Any]) -> None:
    (study,) = document["studies"]
    rows = json.loads((folders[2] / "plan.json").read_text())["rows"]
    assert (study["rows"], study["rows_of_runs"], study["runs"]) == (12, [24, 24, 12], [0, 1, 2])
    cell = cell_of(document, "gradient", "pointing")
    values = [filed(folder, "Gradient(", "pointing", rows) for folder in folders]
    for mean, expected in zip(cell["means"], values, strict=True):
        assert mean["mean"] == pytest.approx(expected.mean(), abs=1e-9)
        assert (mean["n"], mean["low"] <= mean["mean"] <= mean["high"]) == (12, True)
    for change, expected in zip(cell["changes"], values[1:], strict=True):
        assert change["difference"] == pytest.approx((expected - values[0]).mean(), abs=1e-9)
    assert cell["changes"][1]["outcome"] == "equal"


def test_what_a_run_lacks_has_no_number(document: dict[str, Any]) -> None:
    center, random = (cell_of(document, method, "pointing") for method in ("center", "random"))
    assert [mean is None for mean in center["means"]] == [True, False, True]
    assert [mean is None for mean in random["means"]] == [False, True, False]
    assert center["changes"] == [None, None]
    assert random["changes"][0] is None
    auroc = cell_of(document, "gradient", "auroc")  # the third run has not asked for it
    assert [mean is None for mean in auroc["means"]] == [False, False, True]


def test_p_values_are_corrected_over_all_runs(document: dict[str, Any]) -> None:
    changes = [c for cell in document["studies"][0]["cells"] for c in cell["changes"] if c and c["p"] is not None]
    assert len(changes) == 3  # by three metrics, the second run; of the third no row differs
    corrected = multipletests([change["p"] for change in changes], method="holm")[1]
    assert [change["p_holm"] for change in changes] == pytest.approx(corrected.tolist())
    for change in changes:
        better = "better" if change["difference"] > 0 else "worse"
        assert change["outcome"] == (better if change["p_holm"] < 0.05 else "cannot be told")


def test_counts_and_remarks(document: dict[str, Any]) -> None:
    assert sum(document["counts"][0].values()) == 3
    assert document["counts"][1]["equal"] == sum(document["counts"][1].values()) == 4
    assert not document["studies"][0]["same_models"]
    words = " ".join(remarks(document))
    assert "other weights in other runs" in words
    assert "(A 24, B 24, C 12): common ones are compared" in words


def test_an_export_is_compared_as_its_run(folders: list[Path], document: dict[str, Any], tmp_path: Path) -> None:
    exports = [export_run(folder, tmp_path / folder.name).folder for folder in folders]
    again = compare(*exports)
    assert {**again, "runs": []} == {**document, "runs": []}


def test_a_run_equals_itself(folders: list[Path]) -> None:
    (study,) = compare(folders[0], folders[0])["studies"]
    assert study["same_models"]
    for cell in study["cells"]:
        assert cell["means"][0] == cell["means"][1]
        (change,) = cell["changes"]
        assert (change["outcome"], change["difference"]) in (("equal", 0.0), ("cannot be told", None))


def changed(run: FinishedRun, change: Callable[[dict[str, Any]], None]) -> FinishedRun:
    """A run with another document of its data set."""
    (study,) = run.studies
    document = copy.deepcopy(dict(study.document))
    change(document)
    return run._replace(studies=(study._replace(document=document),))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("digest", "f" * 64, r"another digest \(ffffffffffff, and not "),
        ("name", "roses", r"another data set \(roses, and not single-6c\)"),
        ("split", "val", r"another split \(val, and not test\)"),
        ("target", "predicted", r"another target \(predicted, and not label\)"),
        ("truth", "use", r"another truth \(use, and not association\)"),
    ],
)
def test_what_cannot_be_paired_is_refused(key: str, value: str, sentence: str, folders: list[Path]) -> None:
    first = open_results(folders[0])

    def change(document: dict[str, Any]) -> None:
        if key == "name":
            document["dataset"]["digest"] = "e" * 64
        (document["dataset"] if key in ("digest", "name", "split") else document["scores"])[key] = value

    with pytest.raises(Refusal, match=sentence) as refusal:
        compare_side_by_side([first, changed(first, change)], kind_of)
    assert "leave it out, or score the same data, split and metrics" in str(refusal.value)


def test_a_metric_of_another_version_is_left_out_with_the_reason(folders: list[Path]) -> None:
    first = open_results(folders[0])

    def age(document: dict[str, Any]) -> None:
        for card in document["scores"]["cards"][:1]:
            card["version"] = 0

    compared = compare_side_by_side([first, changed(first, age)], kind_of)
    (entry,) = (entry for entry in compared["left_out"] if entry["run"] == 1)
    assert re.fullmatch(r"computed in another way: version 0, and not \d", entry["reason"])
    assert entry["what"] not in compared["studies"][0]["metrics"]
    assert len(compared["studies"][0]["metrics"]) == 2


def test_a_value_that_others_code_chooses_is_left_out(folders: list[Path]) -> None:
    compared = compare_side_by_side(
        [open_results(folder) for folder in folders[:2]],
        lambda card: None if card["level"] == "data set" else kind_of(card),
    )
    assert {"run": 0, "what": "iou_best", "reason": NO_KIND} in compared["left_out"]


def test_the_kind_of_a_metric_is_that_of_its_card() -> None:
    from an8flower.evaluate.metrics.naming import parse_metrics

    for metric in parse_metrics(["all"]):
        assert kind_of(json.loads(json.dumps(metric.card()))) == metric.kind
    card = {"name": "nobody.knows:it", "family": "", "level": "data set", "higher_is_better": True, "bounds": [0, None]}
    assert kind_of(card) is None
    assert kind_of({"name": "of_an_early_version"}) is None
    row = kind_of({**card, "level": "row"})
    assert row is not None
    assert row.bounds == (0, math.inf)


def test_too_few_runs_and_no_runs(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="1 run came; give two or more"):
        compare(folders[0])
    with pytest.raises(Refusal, match="no run is there"):
        compare(folders[0], tmp_path)
    early = Path(shutil.copytree(folders[0], tmp_path / "early"))
    summary = json.loads((early / "summary.json").read_text())
    for form in ({**summary, "models": [{"arch": 1}]}, {key: summary[key] for key in ("dataset", "results")}):
        (early / "summary.json").write_text(json.dumps(form))
        with pytest.raises(Refusal, match="not a summary that this version can compare with"):
            compare(folders[0], early)


def test_the_tables_have_a_cell_for_each_column(document: dict[str, Any]) -> None:
    (study,) = document["studies"]
    columns, rows = cell_columns(study), cell_rows(study, "pointing")
    assert columns == ["method", "model", "A", "B", "B - A", "outcome", "C", "C - A", "outcome"]
    assert {len(row) for row in rows} == {len(columns)}
    assert [row[0] for row in rows] == ["gradient", "random", "center"]


def test_the_page_shows_all_and_runs_nothing(document: dict[str, Any]) -> None:
    hostile = copy.deepcopy(document)
    hostile["runs"][0]["folder"] = "<script>alert(1)</script>"
    text = render_comparison(hostile)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    for words in ("3 runs side by side", "What is not compared" if document["left_out"] else "", "cannot be told"):
        assert words in text
    for metric in METRICS:
        assert f"By {metric}" in text


def test_the_command(folders: list[Path], tmp_path: Path) -> None:
    def call(*words: object) -> Any:
        return CliRunner().invoke(main, ["compare", *map(str, words)])

    page = tmp_path / "page.html"
    shown = call(*folders, "--metric", "pointing", "-o", page)
    assert (shown.exit_code, shown.exception) == (0, None)
    assert "pointing (higher is better)" in shown.stdout
    assert "beside the first" in shown.stdout
    assert page.read_text().startswith("<!doctype html>")
    assert len(json.loads(call(*folders, "--json").stdout)["runs"]) == 3
    assert 'unknown metric "pointin"; did you mean "pointing"' in call(*folders, "--metric", "pointin").output
    refused = call(folders[0], tmp_path)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
