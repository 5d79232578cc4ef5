"""An earlier run is compared with only if it is finished, whole, and of the same data, rows and metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from an8flower.errors import Refusal
from an8flower.evaluate.results.baseline import Baseline, open_baseline
from an8flower.evaluate.results.manifest import OF_RUN, write_manifest


def summary(**changes: Any) -> dict[str, Any]:
    dataset = {"name": "flowers", "digest": "a" * 64, "split": "test"} | changes.pop("dataset", {})
    card = {"name": "iou", "version": 2, "parameters": {"strict": False}}
    model, method = {"arch": "net", "seed": 0, "digest": "d"}, {"text": "a", "metrics": {"iou": {}}}
    scores = {"target": "label", "families": {"iou": "localisation"}, "cards": [card]}
    scores |= {"models": [model], "results": [method], **changes}
    return {"studies": [{"dataset": dataset, "scores": scores}]}


def baseline(**changes: Any) -> Baseline:
    return Baseline(Path("old"), summary(**changes), "", ())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a finished audit, with its data, weights and scores."""
    for name in (*OF_RUN.values(), "data.h5", "net.safetensors", "scores/a.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(summary()))
    paths = [tmp_path / name for name in ("data.h5", "net.safetensors", "scores/a.parquet")]
    write_manifest(tmp_path, paths[:1], paths[1:2], {}, paths[2:])
    return tmp_path


def test_a_whole_run_is_opened_also_without_data_and_weights(run: Path) -> None:
    assert open_baseline(run).missing == []
    for name in ("data.h5", "net.safetensors", "scores/a.parquet"):
        (run / name).unlink()
    assert open_baseline(run).missing == ["data.h5", "net.safetensors"]


@pytest.mark.parametrize("name", ["summary.json", "manifest.json"])
def test_a_run_that_is_not_finished_is_refused(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(Refusal, match="no finished audit is there"):
        open_baseline(run)


@pytest.mark.parametrize("name", [*OF_RUN.values(), "data.h5", "net.safetensors", "scores/a.parquet"])
def test_a_run_that_was_changed_is_refused_with_the_file(run: Path, name: str) -> None:
    (run / name).write_text((run / name).read_text() + " ")
    with pytest.raises(Refusal, match=f"not as its audit left it: {name} \\(changed\\)"):
        open_baseline(run)


def test_a_run_without_its_plan_is_refused(run: Path) -> None:
    (run / "plan.json").unlink()
    with pytest.raises(Refusal, match=r"plan\.json \(missing\)"):
        open_baseline(run)


@pytest.mark.parametrize(
    "change",
    [
        {"studies": {}},
        {"studies": [1]},
        {"studies": [{}]},
        summary(models=[{"arch": "net"}]),
        summary(models=[{"arch": "net", "seed": "0", "digest": "d"}]),
        summary(results=[{"text": 1, "metrics": {}}]),
        summary(families=["iou"]),
        summary(cards=[1]),
        summary(boards=[{"architectures": {"net": 1}, "methods": [], "metrics": {"iou": {}}}]),
        summary(dataset={"digest": None}),
        {"studies": [{**summary()["studies"][0], "long_rows": {"parts": [1], "explainers": {}}}]},
    ],
)
def test_a_summary_of_another_form_is_refused_with_the_place(run: Path, change: dict[str, Any]) -> None:
    (run / "summary.json").write_text(json.dumps(change))
    write_manifest(run, [], [], {})
    with pytest.raises(Refusal, match="cannot|can compare with|no finished audit") as refused:
        open_baseline(run)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": {"name": "trees"}}, r"scored other data \(trees\)"),
        ({"dataset": {"digest": "b" * 64}}, "another digest of flowers"),
        ({"dataset": {"split": "val"}}, r"another split of flowers \(val, and not test\)"),
        ({"target": "predicted"}, r"another target of flowers \(predicted, and not label\)"),
    ],
)
def test_a_run_of_other_data_is_refused(changes: dict[str, Any], words: str) -> None:
    data = [("flowers", "a" * 64)]
    baseline().refuse_other_data([*data, ("more", "c" * 64)], "test", "label")
    with pytest.raises(Refusal, match=words):
        baseline(**changes).refuse_other_data(data, "test", "label")


def test_a_run_of_other_metric_options_is_refused() -> None:
    baseline().refuse_other_metrics(["iou", "pointing"])
    with pytest.raises(Refusal, match="scored iou, and not iou:strict=true: other options"):
        baseline().refuse_other_metrics(["iou:strict=true"])
    with pytest.raises(Refusal, match=r"scored other metrics \(iou\)"):
        baseline().refuse_other_metrics(["pointing"])


@pytest.mark.parametrize("changes", [{"version": 3}, {"parameters": {"strict": True}}])
def test_a_metric_that_was_computed_in_another_way_is_refused(changes: dict[str, Any]) -> None:
    card = {"name": "iou", "version": 2, "parameters": {"strict": False}}
    baseline().refuse_other_cards([card, {"name": "pointing", "version": 1}])
    with pytest.raises(Refusal, match="computed iou in another way"):
        baseline().refuse_other_cards([card | changes])
