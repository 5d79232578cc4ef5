"""After a method that leaves the model or the process changed, no number of any other method differs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from an8flower import spec as specs
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring.run import ScoringOutcome, ScoringPlan, score
from an8flower.generate import generate
from an8flower.store import FlowerStore

sys.path.insert(0, str(Path(__file__).parents[1] / "audits"))
import faulty_explainers as faulty

CPU = Resources(torch.device("cpu"), batch=8)
OTHERS = ("gradcam", "smoothgrad:samples=3")
METRICS = ("iou", "pointing", "deletion:steps=4")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ScoringPlan:
    folder = tmp_path_factory.mktemp("faults")
    generate(specs.load("single-6c").with_changes(rows=80, size=32), folder / "flowers.h5", workers=1)
    store = FlowerStore(folder / "flowers.h5")
    build("flowernet", store.class_names, store.size, seed=0).save(folder / "net.safetensors")
    return ScoringPlan(store.path, (str(folder / "net.safetensors"),), OTHERS, METRICS, rows=12)


@pytest.fixture(scope="module")
def undisturbed(plan: ScoringPlan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return numbers(score(plan, CPU, tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    """Whatever a method does to the current folder is undone."""
    before = os.getcwd()
    yield
    os.chdir(before)


def numbers(outcome: ScoringOutcome) -> dict[str, Any]:
    """The numbers of the good methods, of the model, and of chance and truth."""
    results = {entry["text"]: entry["metrics"] for entry in outcome.document["results"] if entry["text"] in OTHERS}
    return {"results": results, "models": outcome.document["models"]}


def after(plan: ScoringPlan, folder: Path, *texts: str) -> ScoringOutcome:
    """The outcome with bad methods before the good ones."""
    return score(replace(plan, methods=(*map(parse_method, texts), *plan.methods)), CPU, folder)


@pytest.mark.parametrize("some", [[*faulty.LEAVES][i::4] for i in range(4)], ids="-".join)
def test_what_methods_leave_changed_changes_no_other_number(
    plan: ScoringPlan, undisturbed: dict[str, Any], tmp_path: Path, some: list[str]
) -> None:
    """Several a run: what one leaves is seen in the next, in what is scored last, or in a run that follows."""
    reasons = {f"faulty_explainers:Leaves:what={what}": faulty.LEAVES[what][0] for what in some}
    outcome = after(plan, tmp_path, *reasons)
    assert numbers(outcome) == undisturbed
    failed = {failure["method"]: failure["reason"] for failure in outcome.document["failed"]}
    # Halves that a stranger had in its hands are not used again anyway.
    assert failed.keys() | {"faulty_explainers:Leaves:what=halves"} >= reasons.keys() >= failed.keys()
    for text, reason in failed.items():
        assert reasons[text] in reason, text
    later = score(plan, CPU, tmp_path)
    assert later.done == 0
    assert numbers(later) == undisturbed


def test_a_thread_that_goes_on_changes_no_other_number(
    plan: ScoringPlan, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    disturbed = after(plan, tmp_path, "faulty_explainers:LeavesThread")
    for text, metrics in numbers(disturbed)["results"].items():
        assert metrics == undisturbed["results"][text]
    assert disturbed.document["failed"]
    time.sleep(2.5)  # until the thread is through
    assert numbers(score(plan, CPU, tmp_path)) == undisturbed


def test_one_buffer_for_all_maps_gives_each_row_its_own(plan: ScoringPlan, tmp_path: Path) -> None:
    texts = ("faulty_explainers:SameBuffer", "faulty_explainers:Well")
    outcome = score(replace(plan, methods=texts, metrics=("iou_mean", "pointing")), CPU, tmp_path)
    buffered, fresh = (entry["metrics"] for entry in outcome.document["results"])
    assert buffered == fresh
