"""The bounded lasso against closed forms, bisection, scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from an8flower.evaluate.explainers.filters.lasso import bounded_lasso, project, solve_by_projected_gradients


def columns(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


@pytest.mark.parametrize(
    ("wanted", "positive", "expected"),
    [
        ((0.8, 0.5, 0.1), True, (0.65, 0.35, 0.0)),
        ((0.8, 0.5, 0.1), False, (0.65, 0.35, 0.0)),
        ((0.8, -0.5, 0.1), False, (0.65, -0.35, 0.0)),
        ((0.8, -0.5, 0.1), True, (0.8, 0.0, 0.1)),
    ],
)
def test_orthonormal_features_are_projected(
    wanted: tuple[float, ...], positive: bool, expected: tuple[float, ...]
) -> None:
    weights = bounded_lasso(torch.eye(3), columns(*wanted), 1.0, positive)
    torch.testing.assert_close(weights, columns(*expected), rtol=0, atol=1e-8)
    assert (weights == 0).tolist() == [[value == 0] for value in expected]


def slow_projection(point: np.ndarray, bound: float, positive: bool) -> np.ndarray:
    """Bisection for the amount by which all magnitudes are lowered."""
    sizes = np.maximum(point, 0) if positive else np.abs(point)
    low, high = 0.0, float(sizes.max(initial=0))
    if sizes.sum() > bound:
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if np.maximum(sizes - middle, 0).sum() > bound else (low, middle)
        sizes = np.maximum(sizes - high, 0)
    return sizes if positive else sizes * np.sign(point)


POINTS = arrays(np.float64, st.integers(1, 12), elements=st.floats(-10, 10, width=16))


@given(POINTS, st.floats(0.01, 20), st.booleans())
def test_projection_equals_bisection(point: np.ndarray, bound: float, positive: bool) -> None:
    ours = project(torch.from_numpy(point.copy()), bound, positive).numpy()
    np.testing.assert_allclose(ours, slow_projection(point, bound, positive), atol=1e-9)


def problem(rows: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features that hang together, as response vectors do, and two wanted columns."""
    source = torch.Generator().manual_seed(seed)
    shared = torch.rand(rows, 1, generator=source, dtype=torch.float64)
    features = torch.rand(rows, width, generator=source, dtype=torch.float64) + shared
    return features, torch.rand(rows, 2, generator=source, dtype=torch.float64) - 0.3


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize(("rows", "width"), [(30, 6), (5, 9)])
def test_scipy_agrees(rows: int, width: int, positive: bool) -> None:
    from scipy.optimize import minimize

    features, wanted = (tensor.numpy() for tensor in problem(rows, width, seed=1))
    signs = [1.0] if positive else [1.0, -1.0]  # w = u - v with u, v >= 0
    spread = np.concatenate([sign * features for sign in signs], 1)
    for bound in (0.2, 1.0):
        for column in wanted.T:
            found = minimize(
                lambda w, column=column: ((spread @ w - column) ** 2).sum(),
                np.zeros(spread.shape[1]),
                jac=lambda w, column=column: 2 * spread.T @ (spread @ w - column),
                method="SLSQP",
                bounds=[(0, None)] * spread.shape[1],
                constraints={"type": "ineq", "fun": lambda w, bound=bound: bound - w.sum()},
                options={"ftol": 1e-14, "maxiter": 1000},
            )
            ours = bounded_lasso(torch.from_numpy(features), torch.from_numpy(column)[:, None], bound, positive)
            loss = ((features @ ours[:, 0].numpy() - column) ** 2).sum()
            assert loss == pytest.approx(found.fun, rel=1e-6)
            assert ours.abs().sum() <= bound * (1 + 1e-12)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("alpha", [0.001, 0.01])
def test_scikit_learn_agrees(positive: bool, alpha: float) -> None:
    """A penalty has the same solution as the bound that its solution keeps."""
    from sklearn.linear_model import Lasso

    features, wanted = problem(200, 15, seed=2)
    for column in wanted.T:
        lasso = Lasso(alpha, fit_intercept=False, positive=positive, tol=1e-12, max_iter=100_000)
        theirs = lasso.fit(features.numpy(), column.numpy()).coef_
        ours = bounded_lasso(features, column[:, None], float(np.abs(theirs).sum()), positive)[:, 0].numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert ((ours != 0) == (theirs != 0)).all()
        assert (theirs == 0).any()


@pytest.mark.parametrize("positive", [True, False])
def test_no_feature_is_forgotten(positive: bool) -> None:
    """More features than are let in at once: as if all were looked at in every step."""
    features, wanted = problem(150, 100, seed=4)
    ours = bounded_lasso(features, wanted, 2.0, positive)
    theirs = torch.stack([solve_by_projected_gradients(features, column, 2.0, positive) for column in wanted.T], 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert ours.count_nonzero() > 40 or positive


def test_columns_are_independent() -> None:
    features, wanted = problem(40, 10, seed=3)
    both = bounded_lasso(features, wanted, 1.0)
    alone = [bounded_lasso(features, wanted[:, column : column + 1], 1.0) for column in range(2)]
    assert torch.equal(both, torch.cat(alone, 1))


def test_silent_features_get_no_weight() -> None:
    assert not bounded_lasso(torch.zeros(4, 3), torch.ones(4, 2), 1.0).any()
