"""Differences of two kinds of models, paired by row and seed: against closed forms, slow loops and scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from an8flower.evaluate.results.statistics.differences import describe_differences, describe_paired_means

ROWS, SEEDS = 10, 4
RANDOM = np.random.default_rng(7)
PLAIN = RANDOM.normal(size=(3, ROWS, SEEDS))
WITH = PLAIN + RANDOM.normal(0.3, 0.5, size=(3, ROWS, SEEDS))


def slow_sign_flips(rows: np.ndarray) -> float:
    """The share of all choices of signs whose mean is at least as large as that of the rows."""
    means = [abs(np.mean(rows * np.array(signs))) for signs in product((1, -1), repeat=len(rows))]
    return float(np.mean(np.array(means) >= abs(rows.mean()) - 1e-9))


def slow_holm(p: list[float]) -> list[float]:
    order, adjusted, largest = sorted(range(len(p)), key=p.__getitem__), [0.0] * len(p), 0.0
    for place, number in enumerate(order):
        largest = max(largest, min(1.0, p[number] * (len(p) - place)))
        adjusted[number] = largest
    return adjusted


def test_these_models_are_tested_by_all_flips_of_the_signs_of_rows_and_corrected_by_holm() -> None:
    documents = describe_differences(WITH, PLAIN, seed=0)
    rows = (WITH - PLAIN).mean(2)
    p = [slow_sign_flips(of_method) for of_method in rows]
    assert [document["these"]["p"] for document in documents] == pytest.approx(p)
    assert [document["these"]["p_holm"] for document in documents] == pytest.approx(slow_holm(p))
    assert [document["difference"] for document in documents] == pytest.approx(rows.mean(1))
    assert all(d["these"]["low"] < d["difference"] < d["these"]["high"] and d["n"] == ROWS for d in documents)


def test_rows_that_agree_leave_the_paired_t_test_over_seeds() -> None:
    apart = np.array([0.1, 0.2, 0.25, 0.4])
    inside = np.broadcast_to(apart, (1, ROWS, SEEDS)) + PLAIN[:1]
    (document,) = describe_differences(inside, PLAIN[:1], seed=0)
    test = ttest_rel(inside[0].mean(0), PLAIN[0].mean(0))
    assert document["anew"]["p"] == pytest.approx(test.pvalue)
    assert [document["anew"][key] for key in ("low", "high")] == pytest.approx([*test.confidence_interval(0.95)])


def test_seeds_that_agree_leave_the_paired_t_test_over_rows() -> None:
    apart = RANDOM.normal(0.2, 0.3, ROWS)
    inside = PLAIN[:1] + apart[None, :, None]
    (document,) = describe_differences(inside, PLAIN[:1], seed=0)
    test = ttest_rel(inside[0].mean(1), PLAIN[0].mean(1))
    assert document["anew"]["p"] == pytest.approx(test.pvalue)
    assert [document["anew"][key] for key in ("low", "high")] == pytest.approx([*test.confidence_interval(0.95)])


def test_seeds_and_rows_that_differ_have_satterthwaites_interval() -> None:
    (document,) = describe_differences(WITH[:1], PLAIN[:1], seed=0)
    apart = (WITH - PLAIN)[0]
    of_rows, of_seeds = apart.mean(1).var(ddof=1) / ROWS, apart.mean(0).var(ddof=1) / SEEDS
    freedom = (of_rows + of_seeds) ** 2 / (of_rows**2 / (ROWS - 1) + of_seeds**2 / (SEEDS - 1))
    reach = t.ppf(0.975, freedom) * np.sqrt(of_rows + of_seeds)
    limits = [apart.mean() - reach, apart.mean() + reach]
    assert [document["anew"][key] for key in ("low", "high")] == pytest.approx(limits)


def test_each_method_has_its_own_spread_over_seeds() -> None:
    alone = [describe_differences(WITH[[i]], PLAIN[[i]], seed=0)[0]["anew"]["p"] for i in range(3)]
    assert [document["anew"]["p"] for document in describe_differences(WITH, PLAIN, seed=0)] == pytest.approx(alone)


def test_with_and_without_exchanged_turns_the_sign() -> None:
    for one, other in zip(describe_differences(WITH, PLAIN, 0), describe_differences(PLAIN, WITH, 0), strict=True):
        assert one["difference"] == pytest.approx(-other["difference"])
        for scope in ("these", "anew"):
            assert one[scope]["p"] == pytest.approx(other[scope]["p"])
        assert one["anew"]["low"] == pytest.approx(-other["anew"]["high"])


def test_two_seeds_say_nothing_of_models_trained_anew_and_equal_scores_differ_nowhere() -> None:
    assert describe_differences(WITH[:, :, :2], PLAIN[:, :, :2], 0)[0]["anew"] is None
    (same,) = describe_differences(PLAIN[:1], PLAIN[:1], 0)
    assert (same["difference"], same["these"]["p"], same["anew"]["p"]) == (0, 1, 1)


def test_undefined_places_are_left_out_with_their_pair() -> None:
    holes = PLAIN.copy()
    holes[0, :2] = np.nan
    (kept,) = describe_differences(WITH[:1], holes[:1], 0)
    (fewer,) = describe_differences(WITH[:1, 2:], PLAIN[:1, 2:], 0)
    assert (kept["n"], kept["difference"]) == (ROWS - 2, pytest.approx(fewer["difference"]))
    for key in ("low", "high", "p"):
        assert kept["anew"][key] == pytest.approx(fewer["anew"][key])
    holes[:] = np.nan
    nothing = describe_differences(WITH, holes, 0)[0]
    assert (nothing["difference"], nothing["n"]) == (None, 0)
    assert not nothing["these"]["apart"]
    assert not nothing["anew"]["apart"]


def test_paired_means_in_closed_form() -> None:
    """Differences of 1, 2 and 3: mean 2, standard error 1 / sqrt(3), two degrees of freedom."""
    document = describe_paired_means(np.array([2.0, 4.0, 6.0, np.nan]), np.array([1.0, 2.0, 3.0, 0.0]))
    reach = 4.302652729911275 / 3**0.5
    assert (document["difference"], document["with"], document["without"], document["seeds"]) == (2, 4, 2, 3)
    assert [document["low"], document["high"]] == pytest.approx([2 - reach, 2 + reach])
    assert document["p"] == pytest.approx(1 - (12 / 14) ** 0.5)  # of Student's t with two degrees: 1 - |t|/sqrt(2 + t²)


@pytest.mark.parametrize("values", [[0.5, 0.6], [0.5, 0.6, 0.7]])
def test_too_few_or_equal_differences_have_no_interval(values: list[float]) -> None:
    document = describe_paired_means(np.array(values), np.array(values) - 0.25)
    assert document["difference"] == pytest.approx(0.25)
    assert [document[key] for key in ("low", "high", "p")] == [None] * 3
