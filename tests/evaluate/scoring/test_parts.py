"""What is filed is what its name says: the rows, the model, the method and the metrics of the cell."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from an8flower import spec as specs
from an8flower.errors import Refusal
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results import ledger
from an8flower.evaluate.results.folder import RunFolder
from an8flower.evaluate.results.ledger import Cell, Content, Ledger
from an8flower.evaluate.scoring import judge
from an8flower.evaluate.scoring.run import ScoringOutcome, ScoringPlan, score
from an8flower.generate import generate
from an8flower.store import FlowerStore, verify

CPU = Resources(torch.device("cpu"), batch=8)


@pytest.fixture
def plan(tmp_path_factory: pytest.TempPathFactory) -> ScoringPlan:
    folder = tmp_path_factory.mktemp("parts")
    generate(specs.load("single-6c").with_changes(rows=80, size=32), folder / "flowers.h5", workers=1)
    store = FlowerStore(folder / "flowers.h5")
    build("flowernet", store.class_names, store.size, seed=0).save(folder / "net.safetensors")
    return ScoringPlan(store.path, (str(folder / "net.safetensors"),), ("gradcam", "edges"), ("iou_mean",), rows=12)


def numbers(outcome: ScoringOutcome) -> list[Any]:
    return [entry["metrics"] for entry in outcome.document["results"]]


def roll_masks(path: Path, renew: bool) -> None:
    """Edit the masks of a file, with or without their checksum."""
    edited = shutil.copy(path, path.with_suffix(".edited"))  # since the file is open here
    with h5py.File(edited, "r+") as file:
        data = file["test/masks"]
        data[:] = np.roll(data[:], 11, axis=2)
        if renew:
            data.attrs["sha256"] = hashlib.sha256(np.ascontiguousarray(data[:]).data).hexdigest()
    os.replace(edited, path)


def test_edited_masks_are_refused(plan: ScoringPlan, tmp_path: Path) -> None:
    score(plan, CPU, tmp_path)
    roll_masks(plan.data, renew=False)
    with pytest.raises(Refusal, match="test/masks damaged: not what was recorded"):
        score(plan, CPU, tmp_path)


def test_edited_masks_with_a_new_checksum_give_new_numbers(plan: ScoringPlan, tmp_path: Path) -> None:
    before = score(plan, CPU, tmp_path)
    roll_masks(plan.data, renew=True)
    assert all(whole for _, whole in verify(plan.data))
    after = score(plan, CPU, tmp_path)
    assert after.reused == 0
    assert numbers(after) != numbers(before)
    assert numbers(after) == numbers(score(plan, CPU, tmp_path / "afresh"))


def test_data_that_are_exchanged_in_a_run_give_no_mixture(
    plan: ScoringPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = score(plan, CPU, tmp_path / "undisturbed")
    other = tmp_path / "other.h5"
    shutil.copy(plan.data, other)
    roll_masks(other, renew=True)
    scored, explain = [], judge.explain

    def exchange(*arguments: Any) -> Any:
        scored.append(arguments[1])
        if len(scored) == 2:
            os.replace(other, plan.data)
        return explain(*arguments)

    shutil.copy(plan.data, tmp_path / "kept.h5")
    monkeypatch.setattr(judge, "explain", exchange)
    with pytest.raises(Refusal, match="changed while the run went on"):
        score(plan, CPU, tmp_path / "run")  # the model is described at the end
    monkeypatch.undo()
    shutil.copy(tmp_path / "kept.h5", plan.data)
    assert numbers(score(plan, CPU, tmp_path / "run")) == numbers(undisturbed)


def other_metric(rows: pa.Table) -> pa.Table:
    return rows.set_column(5, "metric", pa.array(["pointing"] * rows.num_rows))


def other_model(rows: pa.Table) -> pa.Table:
    return rows.set_column(3, "model", pa.array(["flowernet-seed0-deadbeef"] * rows.num_rows))


def other_method(rows: pa.Table) -> pa.Table:
    return rows.set_column(4, "explainer", pa.array(["Edges()"] * rows.num_rows))


def other_rows(rows: pa.Table) -> pa.Table:
    return rows.set_column(0, "row", pa.array(range(rows.num_rows), pa.int64()))


def half_the_rows(rows: pa.Table) -> pa.Table:
    return rows.slice(0, rows.num_rows // 2)


def no_rows(rows: pa.Table) -> pa.Table:
    return rows.slice(0, 0)


@pytest.mark.parametrize("change", [other_metric, other_model, other_method, other_rows, half_the_rows, no_rows])
def test_a_whole_part_of_something_else_counts_as_missing(
    plan: ScoringPlan, tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    before = score(plan, CPU, tmp_path)
    (place,) = (tmp_path / "scores").glob("*gradcam*")
    rows = pq.read_table(place)
    pq.write_table(change(rows), place, write_page_checksum=True)
    again = score(plan, CPU, tmp_path)
    assert (again.done, again.reused) == (1, before.done - 1)
    assert numbers(again) == numbers(before)


def test_rows_of_something_else_are_not_filed(tmp_path: Path) -> None:
    cell = Cell("one", (), np.arange(3), {"method": "m"}, content=Content("net", ("M()",), ("iou",)))
    account = Ledger(RunFolder(tmp_path))
    account.settle(cell, RunFolder(tmp_path).table(()).slice)
    assert "other numbers of rows came than this cell is about" in account.failed[0]["reason"]
    assert not RunFolder(tmp_path).part(cell.name).exists()


def test_parts_of_before_the_guard_are_done_again(
    plan: ScoringPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "VERSION", ledger.VERSION - 1)
    former = score(plan, CPU, tmp_path)
    monkeypatch.undo()
    assert score(replace(plan), CPU, tmp_path).done == former.done
