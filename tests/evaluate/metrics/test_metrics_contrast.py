"""Why this class and not that one: closed forms, the truth, and chance."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from an8flower.evaluate.case import Case, Query
from an8flower.evaluate.metrics.contrast import scale
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.scoring.references import evidence, evidence_for, noise, noise_for

MakeCase = Callable[..., Case]
PETALS, STEM, LEAVES, POT = 1, 3, 4, 5


@pytest.fixture(scope="module")
def pair(coded: MakeCase) -> Case:
    """Rows whose near class differs in the petals or in the stem."""
    return coded("pair-12c", {})


def near_of(case: Case) -> Tensor:
    return case.world.near_classes(case.truth.rows, case.truth.labels)


def differing(case: Case) -> Tensor:
    """Where the part lies in which a row's class and its near class differ, (B, H, W) bool."""
    told = case.world.differing_parts(case.truth.labels, near_of(case))
    return torch.stack([told[row][case.truth.parts[row].long()] for row in range(len(told))])


def contrast(maps: Tensor, others: Tensor, case: Case) -> Tensor:
    """The score where the method gives other maps for another class."""

    def again(query: Query) -> Tensor:
        assert torch.equal(query.targets, near_of(case))
        assert torch.equal(query.images, case.query.images)
        return others

    return parse_metric("contrast").score(maps, case._replace(explain=again))


@pytest.mark.parametrize("preset", ["pair-12c", "single-6c", "double-12c"])
def test_the_truth_scores_one(coded: MakeCase, preset: str) -> None:
    case = coded(preset, {})
    knowing = case._replace(explain=partial(evidence_for, case))
    assert (parse_metric("contrast").score(evidence(case.truth), knowing) == 1).all()


def test_chance_is_the_area_of_what_differs(pair: Case) -> None:
    found = []
    for repeat in range(20):
        guessing = pair._replace(explain=partial(noise_for, pair.truth, repeat))
        found.append(parse_metric("contrast").score(noise(pair.truth, repeat), guessing))
    area = differing(pair).flatten(1).float().mean(1)
    assert torch.stack(found).mean() == pytest.approx(float(area.mean()), rel=0.06)


def test_the_share_of_the_positive_difference_on_what_differs(pair: Case) -> None:
    where = differing(pair).float()
    elsewhere, count = 1 - where, where.flatten(1).sum(1)
    nothing = torch.zeros_like(where)
    assert torch.allclose(contrast(where, nothing, pair), torch.ones(24))
    assert torch.allclose(contrast(elsewhere, nothing, pair), torch.zeros(24))
    # the map for b takes away all that is elsewhere, whatever its scale
    both = where + elsewhere
    assert torch.allclose(contrast(both, 50 * elsewhere, pair), torch.ones(24))
    # an even map less nothing: the area
    assert torch.allclose(contrast(both, nothing, pair), count / 1024)
    # negative values of the map for b speak for a: each value v of |where| and 3 v elsewhere
    weights = where + 3 * elsewhere
    expected = count / (count + 3 * (1024 - count))
    assert torch.allclose(contrast(weights, nothing, pair), expected)


def test_what_is_negative_for_the_other_class_counts_for_this_one(pair: Case) -> None:
    where = differing(pair).float()
    corner = torch.zeros_like(where)
    corner[:, 0, 0] = 1
    # scaled, b is 1 in the corner and -1 over what differs: a - b is positive there alone
    assert torch.allclose(contrast(corner, corner - where, pair), torch.ones(24))


def test_equal_maps_tell_nothing(pair: Case) -> None:
    maps = noise(pair.truth, 0)
    assert contrast(maps, maps, pair).isnan().all()
    assert contrast(maps, 4 * maps, pair).isnan().all()
    assert contrast(-maps, -maps - 1, pair).isnan().all()  # without a positive value a map says nothing


def test_a_part_that_tells_by_its_absence_is_where_it_would_be(coded: MakeCase) -> None:
    case = coded("absent-4c", {})
    told = case.world.differing_parts(case.truth.labels, near_of(case))
    lacking = {POT: {1, 3}, LEAVES: {2, 3}}
    nothing = torch.zeros(24, 32, 32)
    found = contrast((case.truth.masks == 2).float(), nothing, case)
    for row, label in enumerate(case.truth.labels.tolist()):
        missing = [part for part, labels in lacking.items() if label in labels and told[row, part]]
        if label in (1, 2):  # one part is missing, and the mask marks where it would be
            assert found[row] == (1.0 if missing else 0.0)
    seen = contrast(evidence(case.truth), nothing, case)
    assert (seen[case.truth.labels == 3] > 0).all()


def test_what_cannot_be_seen_has_no_contrast(pair: Case) -> None:
    hidden = pair._replace(truth=pair.truth._replace(parts=torch.zeros_like(pair.truth.parts)))
    assert contrast(noise(pair.truth, 0), torch.zeros(24, 32, 32), hidden).isnan().all()


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.25, 4.0, 1024.0]), signed=st.booleans())
def test_it_is_a_share_and_knows_no_scale_and_no_batch(pair: Case, seed: int, scale: float, signed: bool) -> None:
    source = torch.Generator().manual_seed(seed)
    maps, others = (torch.rand(24, 32, 32, generator=source) - 0.5 * signed for _ in range(2))
    found = contrast(maps, others, pair)
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.allclose(contrast(scale * maps, others, pair), found, atol=1e-6)
    assert torch.allclose(contrast(maps, scale * others, pair), found, atol=1e-6)


def test_rows_do_not_depend_on_each_other(pair: Case, coded: MakeCase) -> None:
    maps, others = noise(pair.truth, 0), noise(pair.truth, 1)
    some = coded("pair-12c", {}, None, range(4, 9))
    assert torch.equal(contrast(maps[4:9], others[4:9], some), contrast(maps, others, pair)[4:9])


def test_scaled() -> None:
    maps = torch.tensor([[[1.0, 3], [-2, 0]], [[-1, -1], [-1, 0]]])
    assert scale(maps).tolist() == [[[0.25, 0.75], [-0.5, 0]], [[0, 0], [0, 0]]]
