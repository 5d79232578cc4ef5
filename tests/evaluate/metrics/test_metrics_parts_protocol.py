"""The protocol of FunnyBirds: closed forms on models that are additive in parts, and how its threshold is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case, Query
from an8flower.evaluate.explaining.methods import parse_methods
from an8flower.evaluate.metrics.interventions import part_threshold
from an8flower.evaluate.metrics.interventions.effects import Interventions
from an8flower.evaluate.metrics.interventions.important_parts import REACH, RELEVANCE, ImportantParts
from an8flower.evaluate.metrics.interventions.part_threshold import THRESHOLDS, choose_thresholds, missing_needs
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring import run as scoring
from an8flower.evaluate.scoring import thresholds
from an8flower.evaluate.scoring.references import evidence, evidence_for, noise
from an8flower.evaluate.scoring.run import ScoringPlan, score
from an8flower.factors import PARTS
from an8flower.store import FlowerStore

MakeCase = Callable[..., Case]
PETALS, DISC, STEM, LEAVES, POT = 1, 2, 3, 4, 5
NAMES = ("completeness_parts", "preservation", "deletion_check", "distractibility")
LOW = {"excess": 0.05, "sum": 0.05}


def on(case: Case, *parts: int) -> Tensor:
    """Maps that are 1 on the pixels of some parts."""
    return torch.isin(case.truth.parts, torch.tensor(parts, dtype=torch.uint8)).float()


def scored(name: str, maps: Tensor, case: Case, thresholds: dict[str, float] = LOW) -> Tensor:
    return parse_metric(name).score(maps, case._replace(thresholds=thresholds))


@pytest.fixture(scope="module")
def petals(coded: MakeCase) -> Case:
    """Every row is of class 0 where petals are seen, of class 1 elsewhere."""
    return coded("single-6c", {(0, "petals"): 2.0}, {1: 1.0})


@pytest.fixture(scope="module")
def pair(coded: MakeCase) -> Case:
    """All classes are equally likely to a model that sees no colours; it takes the first one."""
    return coded("pair-12c", {(k, part): 1.0 for k in range(12) for part in ("petals", "stem")})


def test_a_model_that_reads_one_part(petals: Case) -> None:
    right, wrong = on(petals, PETALS), on(petals, STEM)
    assert (scored("preservation", right, petals) == 1).all()
    assert (scored("deletion_check", right, petals) == 1).all()
    assert (scored("preservation", wrong, petals) == 0).all()
    assert (scored("deletion_check", wrong, petals) == 0).all()
    every = torch.ones_like(right)
    assert (scored("preservation:relevance=sum", every, petals, {"sum": 1e-4}) == 1).all()


def test_a_model_that_reads_nothing(coded: MakeCase) -> None:
    blind = coded("single-6c", {}, {2: 1.0})
    maps = on(blind, PETALS)
    assert (scored("preservation", maps, blind) == 1).all()
    assert (scored("deletion_check", maps, blind) == 0).all()
    seen = torch.tensor([len(each.unique()) - (0 in each) for each in blind.truth.parts])  # all are irrelevant
    assert torch.allclose(scored("distractibility", maps, blind), 1 - 1 / seen)
    right = blind.truth.labels == 2
    assert torch.equal(scored("completeness_parts", maps, blind).isnan(), ~right)
    assert (scored("completeness_parts", maps, blind)[right] == 1).all()


def test_distractibility_is_the_share_of_irrelevant_parts_left_alone(petals: Case) -> None:
    own = petals._replace(query=petals.query._replace(targets=torch.zeros(24, dtype=torch.int64)))
    others = torch.tensor([len(each.unique()) - 2 for each in own.truth.parts])
    assert (scored("distractibility", on(own, PETALS), own) == 1).all()
    maps = on(own, PETALS, LEAVES)
    marked = (own.truth.parts == LEAVES).flatten(1).any(1)
    assert marked.any()
    assert torch.allclose(scored("distractibility", maps, own, {"excess": 0.0})[marked], (1 - 1 / others)[marked])
    assert scored("distractibility", torch.zeros_like(maps), own).isnan().all()  # nothing is important


def test_a_part_is_irrelevant_below_a_twentieth_of_the_logit(coded: MakeCase) -> None:
    case = coded("single-6c", {(0, "petals"): 90.0, (0, "stem"): 6.0, (0, "disc"): 4.0, (0, "leaves"): -1.0})
    case = case._replace(query=case.query._replace(targets=torch.zeros(24, dtype=torch.int64)))
    found = ImportantParts(Interventions(torch.zeros(24, 32, 32), case), THRESHOLDS).irrelevant
    seen = torch.stack([(case.truth.parts == part).flatten(1).any(1) for part in range(len(PARTS))], 1)
    full = seen[:, [PETALS, DISC, STEM, LEAVES]].all(1)
    assert full.any()
    assert not found[full][:, PETALS].any()
    assert not found[full][:, STEM].any()
    assert found[full][:, DISC].all()
    assert found[full][:, LEAVES].all()


def test_completeness_is_the_share_of_a_sufficient_set(pair: Case) -> None:
    right = pair.classifier(pair.query.images).argmax(1) == pair.truth.labels
    assert right.any()
    for parts, expected in (((PETALS,), 0.5), ((STEM,), 0.5), ((PETALS, STEM), 1.0), ((LEAVES,), 0.0)):
        found = scored("completeness_parts", on(pair, *parts), pair, {"excess": 0.0})
        assert torch.equal(found.isnan(), ~right)
        assert (found[right] == expected).all()


def test_evidence_by_absence_is_taken_away_by_putting_the_part_there(coded: MakeCase) -> None:
    """Class 3 has neither leaves nor pot: the model sees that it has none, and the map marks where they would be."""
    case = coded("absent-4c", {(0, "leaves"): 2.0, (0, "pot"): 2.0}, {3: 1.0})
    rows = case.truth.labels == 3
    assert rows.any()
    truth = evidence(case.truth)
    assert (scored("deletion_check", truth, case)[rows] == 1).all()
    assert (scored("preservation", truth, case)[rows] == 1).all()
    assert (scored("completeness_parts", truth, case, {"excess": 0.0})[rows] == 1).all()
    nothing = torch.zeros_like(truth)
    assert (scored("deletion_check", nothing, case)[rows] == 0).all()
    assert (scored("preservation", nothing, case)[rows] == 0).all()


def test_relevance_is_summed_over_a_little_more_than_the_part(petals: Case) -> None:
    assert round(REACH * 256) == 2
    maps = torch.zeros(24, 32, 32)
    for rows, size in ((maps, 32), (torch.zeros(24, 256, 256), 256)):
        parts = torch.zeros_like(rows, dtype=torch.uint8)
        parts[:, 10, 10] = STEM
        around = torch.ones_like(rows)
        case = petals._replace(truth=petals.truth._replace(parts=parts))
        areas = ImportantParts(Interventions(around, case), THRESHOLDS).regions.areas
        assert areas[0, STEM] * size**2 == pytest.approx(1 if size == 32 else 25)


def test_a_uniform_map_marks_nothing_but_by_its_sum(petals: Case) -> None:
    even = torch.full((24, 32, 32), 0.7)
    marked = {
        relevance: ImportantParts(Interventions(even, petals), THRESHOLDS[:1], relevance).important
        for relevance in RELEVANCE
    }
    assert not marked["excess"].any()
    assert marked["sum"][..., PETALS].all()


FEW = torch.linspace(0.01, 0.50, 15, dtype=torch.float64)


def slow_threshold(maps: Tensor, case: Case, relevance: str) -> list[float]:
    """All best thresholds, each metric being asked at each; nothing important counts as not distracted."""
    worth = []
    metrics = [parse_metric(f"{name}:relevance={relevance}") for name in NAMES]
    for threshold in FEW.tolist():
        values = score_all(metrics, maps, case._replace(thresholds={relevance: threshold}))
        complete, kept, changed, calm = (values[metric.name] for metric in metrics)
        parts = ImportantParts(Interventions(maps, case), torch.tensor([threshold], dtype=torch.float64), relevance)
        calm = torch.where(parts.important.any(2)[:, 0], calm, 1.0)
        known = [float(each.nanmean().nan_to_num(0)) for each in (complete, kept, changed, calm)]
        worth.append(sum(known[:3]) / 3 + known[3])
    best = max(worth)
    return [t for t, each in zip(FEW.tolist(), worth, strict=True) if each > best - 1e-6]


@pytest.mark.parametrize("relevance", RELEVANCE)
def test_the_threshold_is_the_middle_one_of_the_best(
    coded: MakeCase, relevance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_threshold, "THRESHOLDS", FEW)
    few = coded("single-6c", {(0, "petals"): 2.0}, {1: 1.0}, range(4))
    maps = on(few, PETALS) + 0.3 * noise(few.truth, 0)
    best = slow_threshold(maps, few, relevance)
    assert 1 < len(best) < len(FEW)
    assert choose_thresholds(maps, few)[relevance] == pytest.approx(best[len(best) // 2])


def test_all_thresholds_together_see_each_picture_once(petals: Case) -> None:
    with petals.classifier.counting() as cost:
        choose_thresholds(noise(petals.truth, 0), petals)
    # the row, each part alone, and the nested sets of at most five parts and of what they leave, in two orders
    assert cost.forwards <= 24 * (1 + 5 + 4 * 6)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), threshold=st.floats(0.01, 0.5), scale=st.sampled_from([0.5, 64.0]))
def test_bounds_and_scale(petals: Case, seed: int, threshold: float, scale: float) -> None:
    maps = torch.rand(24, 32, 32, generator=torch.Generator().manual_seed(seed)) ** 8 - 0.01
    case = petals._replace(thresholds={"excess": threshold, "sum": threshold})
    metrics = [parse_metric(f"{name}{more}") for name in NAMES for more in ("", ":relevance=sum")]
    found, again = score_all(metrics, maps, case), score_all(metrics, scale * maps, case)
    for name, values in found.items():
        known = values[~values.isnan()]
        assert ((known >= 0) & (known <= 1)).all()
        assert torch.equal(again[name].nan_to_num(-1), values.nan_to_num(-1))


def test_rows_do_not_depend_on_each_other(petals: Case, coded: MakeCase) -> None:
    maps = noise(petals.truth, 0) ** 8
    some = coded("single-6c", {(0, "petals"): 2.0}, {1: 1.0}, range(3, 8))
    for name in NAMES:
        few = scored(f"{name}:relevance=sum", maps[3:8], some)
        assert torch.equal(few.nan_to_num(-1), scored(f"{name}:relevance=sum", maps, petals)[3:8].nan_to_num(-1))


# --- target sensitivity -----------------------------------------------------------------------------------------------


def rival_model(coded: MakeCase, flip: bool = False) -> Case:
    """pair-12c is petals (4) by stem (3), so class 3 p + s shares the petals with the others of p, the stem with s.

    Row by row the model cannot see colours here, so only rows of class 0 are kept, for which it is written: classes of
    the same petals (1, 2) rest on the petals, classes of the same stem (3, 6, 9) on the stem; flipped, the reverse.
    """
    ways = ("stem", "petals") if flip else ("petals", "stem")
    weights = {(k, ways[0]): 1.0 for k in (1, 2)} | {(k, ways[1]): 1.0 for k in (3, 6, 9)}
    case = coded("pair-12c", weights)
    rows = (case.truth.labels == 0).nonzero()[0, 0].item()
    return coded("pair-12c", weights, None, range(rows, rows + 1))


def sensitivity(case: Case, again: Callable[[Query], Tensor]) -> float:
    maps = evidence(case.truth)
    return float(parse_metric("target_sensitivity").score(maps, case._replace(explain=again))[0])


def test_the_truth_tells_targets_apart(coded: MakeCase) -> None:
    case = rival_model(coded)
    assert sensitivity(case, partial(evidence_for, case)) == 1


def test_maps_of_the_wrong_part_score_nothing_and_equal_ones_half(coded: MakeCase) -> None:
    case = rival_model(coded)

    def reversed_(query: Query) -> Tensor:
        return on(case, STEM if int(query.targets[0]) in (1, 2) else PETALS)

    assert sensitivity(case, reversed_) == 0
    assert sensitivity(case, lambda query: noise(case.truth, 0)) == 0.5
    assert sensitivity(case, lambda query: torch.zeros(1, 32, 32)) == 0.5


def test_a_model_that_breaks_the_premise_is_not_asked(coded: MakeCase) -> None:
    case = rival_model(coded, flip=True)
    assert np.isnan(sensitivity(case, partial(evidence_for, case)))


def test_without_rivals_there_is_no_value_and_nobody_is_asked(petals: Case) -> None:
    assert parse_metric("target_sensitivity").score(evidence(petals.truth), petals).isnan().all()


# --- within a run -----------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(small_file: Path, tmp_path: Path) -> ScoringPlan:
    store = FlowerStore(small_file)
    path = tmp_path / "flowernet-seed3.safetensors"
    build("flowernet", store.class_names, store.size, seed=3).save(path)
    return ScoringPlan(small_file, (str(path),), tuple(parse_methods(["gradient", "random"])), ("iou", "preservation"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Case]:
    """Every case that a threshold was chosen on."""
    cases: list[Case] = []

    def watched(maps: Tensor, case: Case) -> Any:
        cases.append(case)
        return part_threshold.choose_thresholds(maps, case)

    monkeypatch.setattr(thresholds, "choose_thresholds", watched)
    return cases


CPU = Resources(torch.device("cpu"), batch=32)


def test_thresholds_are_chosen_on_validation_rows_once_for_each_method_and_reference(
    plan: ScoringPlan, asked: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "CELL_ROWS", 10)  # three cells for each
    outcome = score(plan, CPU, tmp_path / "run")
    assert not outcome.document["failed"]
    assert [case.world.split.name for case in asked] == ["val"] * 4  # truth, chance, two methods
    assert all(len(case.truth.rows) == 12 for case in asked)  # all that there are
    assert {entry["metrics"]["preservation"]["n"] for entry in outcome.document["results"]} == {24}
    score(plan, CPU, tmp_path / "run")
    assert len(asked) == 4  # nothing is missing, so nothing is chosen


def test_no_threshold_is_chosen_where_none_is_asked_for(plan: ScoringPlan, asked: list[Case], tmp_path: Path) -> None:
    score(replace(plan, metrics=("iou",)), CPU, tmp_path / "run")
    assert not asked


def test_without_validation_rows_the_metrics_are_left_out(
    small_file: Path, plan: ScoringPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FlowerStore(small_file)
    assert missing_needs(store, "test") == {}
    assert "score another split" in missing_needs(store, "val")["threshold"]
    monkeypatch.setattr(FlowerStore, "splits", property(lambda self: ["train", "test"]))
    outcome = score(plan, CPU, tmp_path / "run")
    (left,) = outcome.document["left_out"]
    assert left["metric"] == "preservation"
    assert "no validation rows" in left["reason"]


def test_unknown_relevance_is_refused() -> None:
    with pytest.raises(WrongUsage, match="unknown relevance"):
        parse_metric("preservation:relevance=mean")
