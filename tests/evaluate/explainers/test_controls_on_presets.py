"""What `center` and `edges` say of the shipped data sets: of two of them nothing, by design."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.baselines import Center, Edges
from an8flower.generate import make_rows
from an8flower.spec import load
from an8flower.writing import Block

ROWS = 240


def calibrated_precisions(name: str) -> dict[str, float]:
    """Average precision of both controls over pixels that are not void, 0 at chance and 1 for the truth."""
    rows = make_rows(load(name).with_changes(size=48), Block("test", 0, ROWS))
    images = torch.from_numpy(rows.images).permute(0, 3, 1, 2).float() / 255
    query = Query(images, torch.from_numpy(rows.labels), torch.arange(ROWS))
    values = {}
    for explainer in (Center(), Edges()):
        maps = explainer(None, query).numpy()  # type: ignore[arg-type]
        pairs = [precision(*case) for case in zip(maps, rows.masks > 0, rows.void, strict=True)]
        mean, chance = np.mean([pair for pair in pairs if pair is not None], axis=0)
        values[type(explainer).__name__] = float((mean - chance) / (1 - chance))
    return values


def precision(values: np.ndarray, mask: np.ndarray, void: np.ndarray) -> tuple[float, float] | None:
    """The average precision of a map and the share of its pixels that are evidence; None where no pixel is."""
    mask = mask[~void]
    hits = mask[np.argsort(-values[~void], kind="stable")]
    share = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return (float(share[hits].mean()), float(mask.mean())) if mask.any() else None


@pytest.mark.parametrize("name", ["photo-6c", "natural-12c"])
def test_controls_are_near_chance(name: str) -> None:
    values = calibrated_precisions(name)
    assert abs(values["Center"]) < 0.08
    assert abs(values["Edges"]) < 0.03


def test_elsewhere_they_are_not() -> None:
    values = calibrated_precisions("single-6c")
    assert values["Center"] > 0.2
    assert values["Edges"] > 0.05
