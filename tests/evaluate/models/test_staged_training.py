"""Training in stages: what each stage trains and leaves alone, the epochs of all, the card, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.models.archs.flowernet import flowernet
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.gradient_penalty import GradientPenalty
from an8flower.evaluate.models.staged_training import (
    StagedRecipe,
    StagedWork,
    TrainedGroup,
    TrainingStage,
    share_out,
)
from an8flower.evaluate.models.training import EpochReport, train
from an8flower.evaluate.models.training_loss import loss_of
from an8flower.evaluate.registry import archs
from an8flower.store import FlowerStore


@dataclass(frozen=True)
class TimesTwo:
    """Twice the cross entropy."""

    def __call__(self, classifier: Classifier, images: Tensor, labels: Tensor, source: torch.Generator) -> Tensor:
        return 2 * loss_of(classifier, images, labels)

    def words(self) -> str:
        return "twice the cross entropy"


@dataclass(frozen=True)
class Shout:
    """A stage that trains nothing, and says so."""

    name: str = "shout"
    epochs: int = 0

    def words(self) -> str:
        return "shout"

    def check(self, work: StagedWork) -> None:
        if len(work.training) < 10:
            raise Refusal("too few rows to shout about")

    def run(self, work: StagedWork) -> None:
        work.note(f"{len(work.history)} epochs so far")


def clamp(network: nn.Module) -> None:
    with torch.no_grad():
        network.get_submodule("classifier").get_parameter("weight").clamp_(min=0)


FIRST = TrainingStage("first", 2, (TrainedGroup("classifier", 1e-2, 0.0),), TimesTwo(), after_step=clamp)
SECOND = TrainingStage("second", 1, (TrainedGroup("features", 1e-3), TrainedGroup("classifier", 1e-4)), TimesTwo())
STAGED = StagedRecipe((FIRST, Shout(), SECOND))


@pytest.fixture
def staged() -> Iterator[str]:
    """An architecture of the name `staged`, trained by the recipe above, for one test."""
    about = {**archs["flowernet"].about, "recipe": STAGED}
    archs.register("staged", **about)(flowernet)
    yield "staged"
    del archs._entries["staged"]


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


def test_stages_follow_each_other_and_the_card_tells_them(store: FlowerStore, staged: str) -> None:
    reports: list[EpochReport] = []
    trained = train(store, staged, on_epoch=reports.append)
    assert [(report.epoch, report.epochs) for report in reports] == [(0, 3), (1, 3), (2, 3)]
    assert trained.notes == ("2 epochs so far",)
    assert trained.epochs == 3
    assert trained.classifier.card.data["epochs"] == "3"
    assert trained.classifier.card.data["recipe"] == (
        "AdamW, one cycle, decay 0.01, batches of 32 images flipped and shifted: "
        "first 2 epochs (classifier 0.01 without decay; twice the cross entropy; best); shout; "
        "second 1 epochs (features 0.001, classifier 0.0001; twice the cross entropy; best)"
    )
    assert not trained.classifier.training


def test_what_a_stage_refuses_is_refused_before_the_first_one(
    store: FlowerStore, staged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(SECOND, groups=(TrainedGroup("featurse", 1e-3),))
    monkeypatch.setitem(archs["staged"].about, "recipe", StagedRecipe((FIRST, wrong)))
    reports: list[EpochReport] = []
    with pytest.raises(WrongUsage, match=r'unknown layer "featurse"; did you mean "features"'):
        train(store, staged, on_epoch=reports.append)
    assert not reports


def test_a_stage_trains_its_groups_alone(store: FlowerStore, staged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norms outside the groups keep their statistics, and what follows each step is done after the last one."""
    monkeypatch.setitem(archs["staged"].about, "recipe", StagedRecipe((FIRST,)))
    before = build(staged, store.class_names, store.size, 0).network.state_dict()
    network = train(store, staged).classifier.network
    for name, values in network.state_dict().items():
        assert torch.equal(values, before[name]) == name.startswith("features"), name
    assert network.get_parameter("classifier.weight").min() == 0
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_what_is_frozen_stays_in_every_stage(store: FlowerStore, staged: str) -> None:
    before = build(staged, store.class_names, store.size, 0).network.state_dict()
    trained = train(store, staged, freeze="features")
    for name, values in trained.classifier.network.state_dict().items():
        assert torch.equal(values, before[name]) == name.startswith("features"), name


def test_a_stage_without_anything_to_train_is_left_out(
    store: FlowerStore, staged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = replace(SECOND, name="only", groups=(TrainedGroup("features", 1e-3),))
    monkeypatch.setitem(archs["staged"].about, "recipe", StagedRecipe((only, FIRST)))
    trained = train(store, staged, freeze="features")
    assert trained.notes[-1] == "the stage only is left out, since all that it trains is frozen"
    assert [report.epoch for report in trained.history] == [1, 2]


def test_epochs_are_shared_out(store: FlowerStore, staged: str) -> None:
    assert [stage.epochs for stage in STAGED.spread(9).stages] == [6, 0, 3]
    assert STAGED.spread(3) == STAGED
    with pytest.raises(WrongUsage, match=r"1 epochs came, and 2 stages train \(first, second\); give at least one"):
        train(store, staged, epochs=1)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 60))
def test_every_share_is_there_and_the_sum_is_right(shares: list[int], more: int) -> None:
    counts = share_out(len(shares) + more, shares)
    assert sum(counts) == len(shares) + more
    assert min(counts) >= 1
    assert share_out(sum(shares), shares) == shares


def test_settings_that_the_stages_decide_are_refused(store: FlowerStore, staged: str) -> None:
    with pytest.raises(WrongUsage, match=r"--learning-rate came for staged, which is trained in stages .*first, shout"):
        train(store, staged, learning_rate=0.1)
    with pytest.raises(WrongUsage, match=r"--gradient-penalty came for staged"):
        train(store, staged, penalty=GradientPenalty("cosine"))
