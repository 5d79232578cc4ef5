"""Metrics of Quantus as ours: its own numbers row by row, a card that says whose they are, and what is refused."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest
import torch

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.audits.plan import is_own_code
from an8flower.evaluate.case import Case, Query, Truth
from an8flower.evaluate.metrics.guarded import score_guarded
from an8flower.evaluate.metrics.naming import find_metric, parse_metric, stranger_of
from an8flower.evaluate.metrics.quantus_metrics import KINDS
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.models.elsewhere.ready import mute_toolkit
from an8flower.evaluate.models.networks.random_state import seed_global_state
from tests.evaluate.conftest import make_classifier

quantus: Any = pytest.importorskip("quantus")
ARGUMENTS = {
    "TopKIntersection": "k=20",
    "PixelFlipping": "features_in_step=16",
    "FaithfulnessEstimate": "features_in_step=16",
    "Monotonicity": "features_in_step=16",
    "MonotonicityCorrelation": "features_in_step=16, nr_samples=2",
    "FaithfulnessCorrelation": "nr_runs=4, subset_size=20",
    "Infidelity": "n_perturb_samples=2, perturb_patch_sizes=[4]",
}


@pytest.fixture(scope="module")
def case() -> Case:
    """Four rows of a small network at 16 px; the last mask is empty."""
    classifier: Classifier = make_classifier("inplace").eval()
    source = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 16, 16, generator=source)
    masks = torch.zeros(4, 16, 16, dtype=torch.uint8)
    for row in range(3):
        masks[row, 2 + row : 9, 3:12] = 1 + row
    numbers = torch.arange(4)
    return Case(classifier, Query(images, numbers % 3, numbers + 5), Truth(numbers % 3, numbers, masks, None))


@pytest.fixture(scope="module")
def maps() -> torch.Tensor:
    return torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_of_quantus(case: Case, maps: torch.Tensor, kind: str) -> None:
    """As a user of Quantus gets them, row by row: by its own call, with a seed before each row."""
    arguments = ARGUMENTS.get(kind, "")
    metric = parse_metric(f"quantus:{kind}({arguments})")
    values = metric.score(maps, case)
    assert values.shape == (4,)
    typed = eval(f"dict({arguments})")
    for row in range(4):
        one = slice(row, row + 1)
        if KINDS[kind].asks_mask and row == 3:
            assert values[row].isnan()
            continue
        with mute_toolkit(), seed_global_state(row + 5):
            (expected,) = getattr(quantus, kind)(**typed, disable_warnings=True, display_progressbar=False)(
                model=case.classifier,
                x_batch=case.query.images[one].numpy(),
                y_batch=case.query.targets[one].numpy(),
                a_batch=maps[one, None].numpy(),
                s_batch=(case.truth.masks[one, None] > 0).numpy(),
                device="cpu",
            )
        if kind == "PixelFlipping":
            expected = np.trapezoid(expected)
        assert values[row].item() == pytest.approx(float(expected), rel=1e-5, abs=1e-6, nan_ok=True)
    low, high = metric.bounds
    defined = values[~values.isnan()]
    assert ((defined >= low - 1e-6) & (defined <= high + 1e-6)).all()


def test_rows_do_not_depend_on_their_batch(case: Case, maps: torch.Tensor) -> None:
    for text in ("quantus:AUC", "quantus:FaithfulnessCorrelation(nr_runs=4, subset_size=20)"):
        metric = parse_metric(text)
        halves = [
            metric.score(
                maps[half],
                case._replace(
                    query=Query(*(x[half] for x in case.query)),
                    truth=Truth._make(None if x is None else x[half] for x in case.truth),
                ),
            )
            for half in (slice(0, 1), slice(1, 4))
        ]
        assert torch.equal(torch.cat(halves).nan_to_num(-9), metric.score(maps, case).nan_to_num(-9))


def test_what_quantus_refuses_is_undefined(case: Case, maps: torch.Tensor) -> None:
    """A map of zeros, and one without positive value for the pointing game; the other rows have their numbers."""
    changed = maps.clone()
    changed[0], changed[1] = 0, -1
    done = score_guarded([parse_metric("quantus:PointingGame"), parse_metric("pointing")], changed, case)
    assert done.values["quantus:PointingGame"].isnan().tolist() == [True, True, False, True]
    assert not done.failed


def test_arguments_that_do_not_fit_the_pictures(case: Case, maps: torch.Tensor) -> None:
    text = "quantus:PixelFlipping(features_in_step=7)"
    done = score_guarded([parse_metric(text), parse_metric("quantus:AUC")], maps, case)
    assert "refuses every map" in done.failed[text]
    assert not done.values["quantus:AUC"][:3].isnan().any()


def test_the_card_says_whose_it_is() -> None:
    card = parse_metric("quantus:PixelFlipping(features_in_step=16, abs=True)").card()
    assert card["name"] == "quantus:PixelFlipping(features_in_step=16, abs=True)"
    assert card["family"] == "quantus"
    assert card["whose"] == f"Quantus {quantus.__version__}: the code and the definition are its own"
    assert card["arguments"] == "abs=True, features_in_step=16"
    assert (card["higher_is_better"], card["needs"]) == (False, ["model"])
    assert find_metric("quantus:AUC") == parse_metric("quantus:AUC")
    assert stranger_of("quantus:AUC") == "quantus"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("quantus:PointingGam", 'unknown metric of quantus "PointingGam"; did you mean "PointingGame"?'),
        ("quantus:AUC(normalize=True)", 'unknown argument "normalize"; did you mean "normalise"?'),
        ("quantus:MPRT", "quantus:MPRT gives no number for each row"),
        ("quantus:AUC(", "cannot be read"),
        ("quantus:", "cannot be read"),
        ("quantus:AUC(abs=open('x'))", "cannot be read"),
    ],
)
def test_what_cannot_be_understood(text: str, says: str) -> None:
    with pytest.raises(WrongUsage, match=re.escape(says)):
        parse_metric(text)


def test_quantus_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "quantus", None)
    with pytest.raises(Refusal, match=r"quantus cannot be imported .*install it with pip install quantus"):
        parse_metric("quantus:AUC")


def test_a_plan_with_it_needs_no_trust() -> None:
    from an8flower.evaluate.audits.plan import load

    assert is_own_code("mine:METRIC")
    assert load("quick").instead(metrics=["quantus:AUC", "iou"]).own_code() == []
