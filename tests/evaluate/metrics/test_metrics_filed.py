"""What depends on no map is rendered and asked once for all methods of a run, and gives the same scores to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from an8flower.evaluate.case import Case
from an8flower.evaluate.data.world import World
from an8flower.evaluate.metrics.counterfactual import pack, unpack
from an8flower.evaluate.metrics.metric import score_all
from an8flower.evaluate.metrics.naming import parse_metric

MakeCase = Callable[..., Case]
NAMES = ("effect_correlation", "top_part", "counterfactual_deletion", "counterfactual_insertion")
REMOVING = ("effect_correlation:by=remove", "deletion_check", "preservation", "distractibility")
WEIGHTS = {(k, part): weight for k in range(6) for part, weight in {"petals": 4, "stem": 2, "leaves": 1}.items()}


@pytest.fixture
def case(coded: MakeCase) -> Case:
    """Twelve rows, and thresholds for the metrics that want some."""
    return coded("single-6c", WEIGHTS, rows=range(12))._replace(thresholds={"excess": 0.05, "sum": 0.1})


def in_folder(case: Case, folder: Path) -> Case:
    return case._replace(world=replace(case.world, folder=folder))


def score(case: Case, seed: int, names: tuple[str, ...]) -> dict[str, Tensor]:
    maps = torch.rand(case.truth.masks.shape, generator=torch.Generator().manual_seed(seed))
    return score_all([parse_metric(name) for name in names], maps, case)


def check_equal(values: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert values.keys() == others.keys()
    for name in values:
        torch.testing.assert_close(values[name], others[name], rtol=0, atol=0, equal_nan=True)


def test_a_second_method_renders_nothing_and_scores_the_same(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [score(case, seed, NAMES) for seed in (0, 1)]
    check_equal(score(in_folder(case, tmp_path), 0, NAMES), expected[0])
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"logits", "near", "swaps"}
    monkeypatch.setattr(World, "photograph", lambda *_: pytest.fail("a second method rendered something"))
    monkeypatch.setattr(type(case.world), "photograph", lambda *_: pytest.fail("a second method rendered something"))
    check_equal(score(in_folder(case, tmp_path), 1, NAMES), expected[1])


def test_sets_of_parts_are_taken_away_once(case: Case, tmp_path: Path) -> None:
    filed, passes = in_folder(case, tmp_path), []
    for seed in (0, 0, 1):
        with filed.classifier.counting() as cost:
            values = score(filed, seed, REMOVING)
        passes.append(cost.forwards)
        check_equal(values, score(case, seed, REMOVING))
    assert passes[0] > 0
    assert passes[1] == 0
    assert passes[2] < passes[0]


def test_other_rows_targets_and_weights_are_measured_anew(case: Case, coded: MakeCase, tmp_path: Path) -> None:
    score(in_folder(case, tmp_path), 0, NAMES)
    before = len([*tmp_path.iterdir()])
    other = {key: weight + key[0] for key, weight in WEIGHTS.items()}
    for changed in (
        coded("single-6c", WEIGHTS, rows=range(12, 24)),
        case._replace(query=case.query._replace(targets=(case.query.targets + 1) % 6)),
        coded("single-6c", other, rows=range(12)),
    ):
        check_equal(score(in_folder(changed, tmp_path), 0, NAMES), score(changed, 0, NAMES))
        assert len([*tmp_path.iterdir()]) > before
        before = len([*tmp_path.iterdir()])


def test_a_damaged_file_is_made_anew(case: Case, tmp_path: Path) -> None:
    expected = score(in_folder(case, tmp_path), 0, NAMES + REMOVING)
    for path in tmp_path.iterdir():
        content = bytearray(path.read_bytes())
        content[-1] ^= 255
        path.write_bytes(content)
    check_equal(score(in_folder(case, tmp_path), 0, NAMES + REMOVING), expected)


def test_pictures_are_packed_without_loss() -> None:
    rendered = torch.arange(256).float().view(1, 1, 16, 16) / 255
    assert pack(rendered).dtype == torch.uint8
    assert torch.equal(unpack(pack(rendered)), rendered)
    others = rendered / 3
    assert torch.equal(unpack(pack(others)), others)
