"""Maps against the effects of parts: closed forms of additive models, and a slow second version of every change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from an8flower import draw
from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Case
from an8flower.evaluate.metrics.intervention import spearman, top_shared
from an8flower.evaluate.metrics.interventions import swaps
from an8flower.evaluate.metrics.interventions.effects import Interventions, Memo, part_sums
from an8flower.evaluate.metrics.metric import Metric, score_all
from an8flower.evaluate.metrics.naming import parse_metric
from an8flower.evaluate.models.classifier import build as untrained
from an8flower.evaluate.scoring.references import evidence
from an8flower.factors import PARTS
from an8flower.interventions import another_draw, nuisance_of, parts_of
from an8flower.render import render
from an8flower.scene import build

MakeCase = Callable[..., Case]
STEM, PETALS, LEAVES, DISC, POT = (PARTS.index(part) for part in ("stem", "petals", "leaves", "disc", "pot"))
ADDITIVE = {(k, part): weight for k in range(6) for part, weight in {"petals": 4, "stem": 2, "leaves": 1}.items()}


def metric(text: str) -> Metric:
    return parse_metric(text)


def says(case: Case, images: Tensor) -> Tensor:
    assert case.classifier is not None
    return case.classifier(images)


def slow_removals(case: Case) -> Tensor:
    """The fall of the target's logit by part and row, each rendered on its own; NaN for parts that are not seen."""
    drops = torch.full((len(case.truth.rows), len(PARTS)), torch.nan, dtype=torch.float64)
    for row, (index, target) in enumerate(zip(case.truth.rows.tolist(), case.query.targets.tolist(), strict=True)):
        for part in parts_of(case.world.spec):
            if (case.truth.parts[row] == PARTS.index(part)).any():
                table = draw.factors(case.world.spec, "test", index, index + 1)
                _, parts = render(build(draw.override(table, {f"{part}.count": 0})), 32, threads=1)
                coded = torch.from_numpy(parts / 8).float().expand(1, 3, -1, -1)
                fall = says(case, case.query.images[row : row + 1])[0, target] - says(case, coded)[0, target]
                drops[row, PARTS.index(part)] = fall
    return drops


def spread(case: Case, values: Tensor) -> Tensor:
    """Maps whose sum over each part is that part's value (B, P); NaN counts as nothing."""
    each = values.nan_to_num() / part_sums(torch.ones(case.truth.parts.shape), case.truth.parts).clamp(min=1)
    return each.gather(1, case.truth.parts.flatten(1).long()).view(case.truth.parts.shape).float()


@pytest.fixture(scope="module")
def additive(coded: MakeCase) -> Case:
    """A model whose logit is the sum of weights of the parts that are seen."""
    return coded("single-6c", ADDITIVE)


def test_relevance_equal_to_the_effects_scores_one_and_its_inverse_minus_one(additive: Case) -> None:
    drops = slow_removals(additive)
    score = metric("effect_correlation:by=remove").score
    assert torch.allclose(score(spread(additive, drops), additive), torch.ones(24))
    assert torch.allclose(score(-spread(additive, drops), additive), -torch.ones(24))


def test_removals_are_those_of_one_row_and_one_part_at_a_time(additive: Case) -> None:
    found = swaps.measure_removals(Interventions(torch.zeros(24, 32, 32), additive)).drops
    assert torch.allclose(found, slow_removals(additive), equal_nan=True, atol=1e-3)
    assert found[:, PETALS].unique().tolist() != [0]


def test_the_correlation_is_that_of_scipy(additive: Case) -> None:
    maps = torch.rand(24, 32, 32, generator=torch.Generator().manual_seed(0))
    drops, sums = slow_removals(additive), part_sums(maps, additive.truth.parts)
    found = metric("effect_correlation:by=remove").score(maps, additive)
    for row in range(24):
        known = ~drops[row].isnan()
        assert found[row] == pytest.approx(spearmanr(sums[row][known], drops[row][known].round(decimals=3))[0])


def test_mean_relevance_forgets_the_size_of_parts(additive: Case) -> None:
    drops = slow_removals(additive)
    sizes = part_sums(torch.ones(24, 32, 32), additive.truth.parts)
    maps = spread(additive, drops * sizes)  # its mean over a part is the effect
    assert torch.allclose(metric("effect_correlation:by=remove,relevance=mean").score(maps, additive), torch.ones(24))
    assert metric("effect_correlation:by=remove").score(maps, additive).mean() < 1


def test_a_model_that_sees_nothing_has_no_effects(coded: MakeCase) -> None:
    blind = coded("single-6c", {}, {2: 1.0}, range(6))
    maps = evidence(blind.truth)
    for name in ("effect_correlation", "effect_correlation:by=remove", "top_part", "top_part:by=remove"):
        assert metric(name).score(maps, blind).isnan().all()


def test_a_constant_map_orders_nothing(additive: Case) -> None:
    assert metric("effect_correlation:relevance=mean").score(torch.ones(24, 32, 32), additive).isnan().all()
    # every part has the largest relevance, one of five or six the largest effect
    shared = metric("top_part:by=remove").score(torch.ones(24, 32, 32), additive)
    assert ((shared > 0) & (shared <= 1 / 3)).all()


def test_the_top_part(additive: Case) -> None:
    on = {part: (additive.truth.parts == part).float() for part in (PETALS, STEM)}
    score = metric("top_part:by=remove").score
    strongest = slow_removals(additive).nan_to_num(-1).argmax(1)
    for part, maps in on.items():
        assert score(maps, additive).tolist() == (strongest == part).float().tolist()
    assert score(on[PETALS], additive).mean() > 0.5


def test_a_swap_gives_evidence_another_class_and_draws_anything_else_again(coded: MakeCase) -> None:
    case = coded("pair-12c", {})
    asked = Interventions(torch.zeros(24, 32, 32), case)
    changes = swaps.list_swaps(asked)
    before = asked.table[changes.rows.numpy()]
    for part, name in ((PETALS, "petals.colour"), (STEM, "stem.colour")):
        own = (changes.parts == part).numpy()
        assert own.sum() == 24  # one change each
        assert (changes.table[name][own] != before[name][own]).all()
        others = [each for each in before.dtype.names if each != name]
        assert all((changes.table[each][own] == before[each][own]).all() for each in others)
    for part, owner in ((LEAVES, "leaves"), (0, "background")):
        own = (changes.parts == part).numpy()
        assert own.sum() == 24 * swaps.DRAWS
        touched = {each for each in before.dtype.names if (changes.table[each][own] != before[each][own]).any()}
        assert touched
        assert all(each.startswith(f"{owner}.") for each in touched)


def test_what_is_drawn_again_is_what_another_data_set_of_the_same_spec_has(coded: MakeCase) -> None:
    case = coded("pair-12c", {}, None, range(5, 9))
    asked = Interventions(torch.zeros(4, 32, 32), case)
    changes = swaps.list_swaps(asked)
    own = (changes.parts == LEAVES).numpy()
    again = [draw.factors(another_draw(case.world.spec, repeat), "test", 5, 9) for repeat in range(swaps.DRAWS)]
    for name in nuisance_of(case.world.spec, "leaves"):
        expected = np.concatenate([table[name] for table in again])
        assert (changes.table[name][own] == expected).all()


def test_the_effect_of_a_swap_is_the_mean_over_its_draws(coded: MakeCase) -> None:
    case = coded("pair-12c", {}, None, range(6))
    classifier = untrained("flowernet", case.classifier.class_names, 32, seed=1).eval()
    case = case._replace(classifier=classifier)
    with torch.no_grad():
        asked = Interventions(torch.zeros(6, 32, 32), case)
        changes, found = swaps.list_swaps(asked), swaps.measure_swaps(asked).drops
        falls: dict[tuple[int, int], list[float]] = {}
        for i, (row, part) in enumerate(zip(changes.rows.tolist(), changes.parts.tolist(), strict=True)):
            target = case.query.targets[row]
            after = classifier(case.world.photograph(changes.table[i : i + 1]).images)[0, target]
            falls.setdefault((row, part), []).append(float(classifier(case.query.images)[row, target] - after))
    assert {len(each) for each in falls.values()} == {1, swaps.DRAWS}
    known = [(row, part) for row, part in falls if not found[row, part].isnan()]
    assert len(known) > 20
    for row, part in known:
        assert float(found[row, part]) == pytest.approx(np.mean(falls[row, part]), abs=1e-4)


def test_a_shortcut_takes_a_value_that_it_does_not_show(coded: MakeCase) -> None:
    case = coded("shortcut-6c", {})
    asked = Interventions(torch.zeros(24, 32, 32), case)
    changes = swaps.list_swaps(asked)
    own = (changes.parts == PARTS.index("tag")).numpy()
    before = asked.table[changes.rows.numpy()[own]]
    assert own.sum() == 24
    assert (changes.table["tag.colour"][own] != before["tag.colour"]).all()
    assert (changes.table["tag.x"][own] == before["tag.x"]).all()


def test_a_missing_part_is_where_it_would_be(coded: MakeCase) -> None:
    case = coded("absent-4c", {(k, "pot"): 3.0 for k in range(4)})
    lacking = case.truth.labels == 1  # leaves, no pot
    effects = swaps.measure_swaps(Interventions(torch.zeros(24, 32, 32), case))
    assert torch.allclose(effects.drops[lacking, POT], torch.tensor(-3.0, dtype=torch.float64), atol=1e-3)
    sums = effects.relevance((case.truth.masks == 2).float(), case.truth.parts)
    assert (sums[lacking, POT] == (case.truth.masks[lacking] == 2).flatten(1).sum(1)).all()
    assert (sums[lacking, DISC] == 0).all()


def test_effects_do_not_depend_on_who_else_is_in_the_batch(additive: Case, coded: MakeCase) -> None:
    maps = torch.rand(24, 32, 32, generator=torch.Generator().manual_seed(1))
    metrics = [metric(name) for name in ("effect_correlation", "top_part", "effect_correlation:by=remove")]
    whole = score_all(metrics, maps, additive)
    part = score_all(metrics, maps[5:9], coded("single-6c", ADDITIVE, None, range(5, 9)))
    scaled = score_all(metrics, 8 * maps, additive)
    for name, values in part.items():
        assert torch.allclose(values, whole[name][5:9], equal_nan=True)
        assert torch.allclose(scaled[name], whole[name], equal_nan=True)


def test_every_picture_passes_through_the_network_once(additive: Case) -> None:
    names = ("effect_correlation", "effect_correlation:relevance=mean", "top_part")
    maps = evidence(additive.truth)
    with additive.classifier.counting() as one:
        score_all([metric(names[0])], maps, additive)
    with additive.classifier.counting() as all_three:
        score_all([metric(name) for name in names], maps, additive)
    assert all_three.forwards == one.forwards
    changes = swaps.list_swaps(Interventions(maps, additive))
    assert one.forwards == len(changes.rows) + 24


def test_a_memo_asks_for_each_pair_once() -> None:
    asked: list[tuple[int, int]] = []

    def ask(rows: Tensor, keys: Tensor) -> Tensor:
        asked.extend(zip(rows.tolist(), keys.tolist(), strict=True))
        return (10 * rows + keys)[:, None]

    memo = Memo(ask)
    assert memo(torch.tensor([1, 2, 1]), torch.tensor([3, 3, 3])).tolist() == [[13], [23], [13]]
    assert memo(torch.tensor([2, 2]), torch.tensor([3, 4])).tolist() == [[23], [24]]
    assert asked == [(1, 3), (2, 3), (2, 4)]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=8), st.integers(0, 8))
def test_spearman_is_that_of_scipy(pairs: list[tuple[int, int]], unknown: int) -> None:
    values, others = (torch.tensor([pair[k] for pair in pairs], dtype=torch.float64) for k in (0, 1))
    others[unknown:] = torch.nan
    known = ~others.isnan()
    found = float(spearman(values[None], others[None])[0])
    few = known.sum() < 3 or values[known].unique().numel() < 2 or others[known].unique().numel() < 2
    if few:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(values[known], others[known])[0])


def test_top_shared() -> None:
    values = torch.tensor([[1.0, 3, 3, 9], [5, 1, 1, 0], [1, 1, 1, 1], [1, 2, 3, 4]])
    others = torch.tensor([[2.0, 7, 0, torch.nan], [0, 4, 4, 1], [2, 2, 2, 2], [1, *[torch.nan] * 3]])
    assert torch.equal(top_shared(values, others).nan_to_num(-1), torch.tensor([0.5, 0, -1, -1], dtype=torch.float64))


@pytest.mark.parametrize(
    "text", ["effect_correlation:by=delete", "effect_correlation:relevance=max", "top_part:by=blur"]
)
def test_unknown_options_are_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="unknown"):
        metric(text)


def test_absence_mass(coded: MakeCase) -> None:
    case = coded("absent-4c", {})
    masks = case.truth.masks
    absence = metric("absence_mass")
    known = (masks == 2).flatten(1).any(1)
    assert known.any()
    assert not known.all()
    missing = (masks == 2).float()
    assert torch.equal(absence.score(missing, case).isnan(), ~known)
    assert (absence.score(missing, case)[known] == 1).all()
    assert (absence.score(1 - missing, case)[known] == 0).all()
    assert (absence.score(missing - 2 * (1 - missing), case)[known] == 1).all()  # negative values are no relevance
    assert absence.score(-torch.ones_like(missing), case).isnan().all()
    uniform = absence.score(torch.ones_like(missing), case)
    assert torch.allclose(uniform, absence.chance(masks), equal_nan=True)
