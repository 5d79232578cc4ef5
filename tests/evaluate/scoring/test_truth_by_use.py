"""Data with a suppressor have two truths, and metrics can be asked for either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from an8flower.errors import Refusal
from an8flower.evaluate import score
from an8flower.evaluate.results.certificate_words import describe_suppressor
from an8flower.evaluate.scoring.truth_by_use import mark_use
from an8flower.factors import PARTS
from an8flower.generate import generate
from an8flower.spec import load
from an8flower.store import FlowerStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FlowerStore:
    path = tmp_path_factory.mktemp("suppressor") / "s.h5"
    return FlowerStore(generate(load("suppressor-4c").with_changes(rows=80, size=24), path, workers=1).path)


class Network(nn.Module):
    """A convolution and a mean: enough to be explained."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).mean((2, 3))


def test_use_marks_the_background_as_well(store: FlowerStore) -> None:
    rows = store["test"].rows(0, 16)
    assert rows.parts is not None
    used = mark_use(store, rows)
    for row in range(16):
        for i, j in np.ndindex(24, 24):
            marked = rows.masks[row, i, j] > 0 or PARTS[rows.parts[row, i, j]] in ("petals", "background")
            assert used[row, i, j] == marked
    assert 0 < (rows.masks > 0).mean() < (used > 0).mean() < 1


def test_metrics_are_asked_for_either_truth(store: FlowerStore, tmp_path: Path) -> None:
    """The chance of relevance_mass is the share of the counted pixels that the mask marks."""
    rows = store["test"].rows(0, 16)
    counted = ~rows.void if rows.void is not None else None
    assert counted is not None
    masks = {"association": rows.masks, "use": mark_use(store, rows)}
    torch.manual_seed(0)
    for truth in ("association", "use", "association"):  # in one folder: no cell of the other is taken
        result = score(
            data=store, models=Network(), methods="center", metrics="relevance_mass", truth=truth, output=tmp_path
        )
        values = result.document["results"][0]["metrics"]["relevance_mass"]
        shares = ((masks[truth] > 0) & counted).sum((1, 2)) / counted.sum((1, 2))
        assert values["chance"] == pytest.approx(shares.mean(), abs=1e-5)
        assert values["oracle"] == pytest.approx(1)
        assert result.document.get("truth", "association") == truth


def test_data_without_a_suppressor_have_one_truth(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"has no suppressor, so what goes along with the class is what is used for it"):
        score(data=small_file, models=Network(), methods="center", truth="use", output=tmp_path)


def test_the_certificate_says_which_truth_a_model_follows() -> None:
    def sentence(alone: float, shared: float) -> str:
        shares = {"background": alone, "suppressor": shared}
        groups = {
            name: {"mean": share, "low": share - 0.02, "high": min(1, share + 0.02), "n": 100}
            for name, share in shares.items()
        }
        return " ".join(describe_suppressor({"stability_by_group": groups}))

    assert sentence(0.4, 0.99) == (
        "It changes its mind in 60.0% of the cases if the background alone is drawn again, in 1.0% if evidence and "
        "background change by the same: it uses the background, which tells no class, to read the evidence."
    )
    assert sentence(0.98, 0.6).endswith("it goes by the evidence alone, as association has it.")
    assert sentence(0.8, 0.8).endswith("whether it uses the background is open.")
    assert not list(describe_suppressor({"stability_by_group": {"background": {"mean": 1, "low": 1, "high": 1}}}))
