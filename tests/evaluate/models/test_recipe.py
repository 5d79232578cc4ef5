"""A recipe is data: what `archs` prints is what training reads, and what the model's card keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from torch import nn

from an8flower.evaluate.models.gradient_penalty import GradientPenalty
from an8flower.evaluate.models.recipe import Recipe
from an8flower.evaluate.models.training import describe_recipe, recipe_for, train
from an8flower.evaluate.registry import archs
from an8flower.store import FlowerStore

Run = Callable[..., CompletedProcess[str]]
MANNER = "AdamW, one cycle, decay 0.01, batches of 32 images flipped and shifted: "


def test_an_optimiser_is_what_the_recipe_says() -> None:
    """The top of the cycle is reached, for each group its own."""
    layer = nn.Linear(2, 2)
    groups = [{"params": [layer.weight]}, {"params": [layer.bias], "lr": 0.5, "weight_decay": 0.0}]
    optimiser, schedule = Recipe(1, 4, 0.1, 6, 0, decay=0.3).start(groups, 10)
    assert type(optimiser).__name__ == "AdamW"
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.3, 0.0]
    rates = []
    for _ in range(9):
        optimiser.step()
        schedule.step()
        rates.append([group["lr"] for group in optimiser.param_groups])
    assert torch.tensor(rates).amax(0).tolist() == pytest.approx([0.1, 0.5], rel=1e-6)


def test_the_card_keeps_the_recipe_that_archs_tells(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training reads it from where it is told: another registration changes both."""
    store = FlowerStore(small_file)
    monkeypatch.setitem(archs["flowernet"].about, "epochs", 1)
    monkeypatch.setitem(archs["flowernet"].about, "learning_rate", 0.0123)
    told = describe_recipe("flowernet", recipe_for("flowernet"))
    assert told == f"{MANNER}all 1 epochs (0.0123; cross entropy; best, no better one for 6 epochs ends it)"
    trained = train(store, "flowernet")
    assert (trained.classifier.card.data["recipe"], trained.epochs) == (told, 1)


def test_what_was_asked_besides_stands_in_the_recipe(small_file: Path) -> None:
    trained = train(
        FlowerStore(small_file), "flowernet+ca-stream", epochs=1, batch=16, learning_rate=0.004, freeze="backbone"
    )
    assert trained.classifier.card.data["recipe"] == (
        "AdamW, one cycle, decay 0.01, batches of 16 images flipped and shifted: all 1 epochs (0.004; cross entropy; "
        "best, no better one for 6 epochs ends it); pooled by ca-stream; frozen up to backbone"
    )
    penalised = recipe_for("flowernet")._replace(penalty=GradientPenalty("mse", 0.5, "logit"))
    assert "cross entropy + 0.5 mse to the guided gradient of the logit;" in describe_recipe("flowernet", penalised)


def test_the_command_lists_a_recipe_for_every_architecture(run: Run) -> None:
    entries = json.loads(run("archs", "--json").stdout)
    assert {entry["name"] for entry in entries} == set(archs.names())
    assert all(entry["recipe"].startswith(MANNER) and len(entry["recipe"]) <= 1000 for entry in entries)
