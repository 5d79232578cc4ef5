"""Fine-tuning on images that lack something: what it learns, that it repeats itself, and that it leaves no traces."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from an8flower.evaluate.data.batches import Batch, ResidentRows
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.fine_tuning import RemovingRows, TunedClassifier, rate_of, tune

SIDE, ROWS = 8, 64


class TwoCorners(nn.Module):
    """Logits from two corners of an image; all that the network looks at is the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.eye = nn.Identity()
        self.weights = nn.Parameter(torch.tensor([[2.0, 0.0], [-2.0, 0.0]]))
        self.scale = nn.BatchNorm1d(2, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        values = self.eye(images).mean(1)
        corners = torch.stack([values[:, :4, :4].mean((1, 2)), values[:, 4:, 4:].mean((1, 2))], 1)
        return self.scale(corners) @ self.weights.T


@dataclass(frozen=True)
class FirstCorner:
    """The first corner becomes grey in half of the images."""

    def __call__(self, images: Tensor, source: torch.Generator) -> Tensor:
        changed = images.clone()
        changed[torch.rand(len(images), generator=source) < 0.5, :, :4, :4] = 128
        return changed


def rows(seed: int) -> ResidentRows:
    """Both corners are bright in one class, and dark in the other; what is between them is noise."""
    labels = torch.arange(ROWS) % 2
    images = torch.randint(256, (ROWS, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    for corner in (slice(4), slice(4, None)):
        images[:, :, corner, corner] = torch.where(labels == 0, 200, 50)[:, None, None, None]
    return ResidentRows(Batch(images.to(torch.uint8), labels, torch.ones(ROWS, SIDE, SIDE, dtype=torch.uint8)))


def classifier() -> Classifier:
    network = TwoCorners()
    network.scale.running_mean.fill_(0.5)
    return wrap(network, "ab", SIDE, "eye", mean=(0.0,) * 3, std=(1.0,) * 3).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tuned() -> TunedClassifier:
    with torch.no_grad():
        return tune(classifier(), rows(1), rows(2), FirstCorner(), epochs=8)


def test_it_learns_what_is_left(tuned: TunedClassifier) -> None:
    (loss, accuracy), (new_loss, new_accuracy) = tuned.before, tuned.after
    assert accuracy < 0.9
    assert new_accuracy >= accuracy
    assert new_loss < loss
    assert float(tuned.classifier.network.weights.detach().diff(dim=0)[0, 1]) < 0  # the second corner is looked at


def test_the_classifier_and_the_process_are_left_alone(tuned: TunedClassifier) -> None:
    original = classifier()
    digest, state = original.digest, torch.get_rng_state()
    again = tune(original, rows(1), rows(2), FirstCorner(), epochs=8)
    assert original.digest == digest
    assert torch.equal(torch.get_rng_state(), state)
    assert not original.network.weights.requires_grad
    assert again.classifier.digest == tuned.classifier.digest != digest
    assert not again.classifier.training


def test_training_rows_lack_something_else_at_each_pass_and_validation_rows_do_not() -> None:
    for augmented in (True, False):
        source = RemovingRows(rows(1), FirstCorner(), 7, augmented)
        passes = [torch.cat([batch.images for batch in source.batches(torch.arange(ROWS), 16)]) for _ in range(2)]
        assert torch.equal(*passes) is not augmented
        assert len(source) == ROWS


def test_the_rate_is_that_of_the_training() -> None:
    one = classifier()
    assert rate_of(one) == pytest.approx(1e-3 / 3)
    one.card.data["learning_rate"] = "0.06"
    assert rate_of(one) == pytest.approx(0.02)
