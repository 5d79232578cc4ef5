"""PIP-Net: closed forms, slow second versions of its loss, views that correspond, training in stages, files."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import WrongUsage
from an8flower.evaluate.models.archs.pipnet import BACKBONES, PROTOTYPES
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.factories import find_arch
from an8flower.evaluate.models.prototypes import pipnet_loss
from an8flower.evaluate.models.prototypes.pipnet import EvidenceLayer, PipNet, to_logits
from an8flower.evaluate.models.prototypes.pipnet_loss import PipNetLoss, align, spread_out
from an8flower.evaluate.models.prototypes.views import JITTER, Shifted, jitter, shift, shift_back
from an8flower.evaluate.models.training import SHIFT, train
from an8flower.evaluate.trust.sanity.randomisation import redraw
from an8flower.store import FlowerStore

Run = Callable[..., CompletedProcess[str]]
CLASSES = ("a", "b", "c")


class Plain(nn.Module):
    """A backbone whose features are the means of squares of four pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, 4)


def hand_set() -> PipNet:
    """Three prototypes, red, green and blue, and a class for each of the first two."""
    network = PipNet(Plain(), 3, 3, 2)
    with torch.no_grad():
        network.prototypes.weight.copy_(10 * torch.eye(3)[:, :, None, None])
        network.evidence.values.copy_(torch.tensor([[2.0, 0, 0], [0, 3.0, 0]]))
    return network.eval()


def pictures(size: int = 24, count: int = 2) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def bytes_of(size: int = 24, count: int = 3) -> Tensor:
    return (pictures(size, count) * 255).to(torch.uint8)


def pipnet_of(classifier: Classifier) -> PipNet:
    assert isinstance(classifier.network, PipNet)
    return classifier.network


def one_hot(*numbers: int, prototypes: int = 4) -> Tensor:
    """Shares (1, K, 1, w): each position belongs to one prototype."""
    return nn.functional.one_hot(torch.tensor([[numbers]]), prototypes).permute(0, 3, 1, 2).float()


def test_a_picture_of_one_colour_finds_its_prototype() -> None:
    """All by hand: shares e^10 / (e^10 + 2), and log(1 + s^2) of the weighted sum."""
    images = torch.zeros(1, 3, 8, 8)
    images[:, 0] = 1
    share = math.exp(10) / (math.exp(10) + 2)
    network = hand_set()
    assert torch.allclose(network.find(images), torch.tensor([[share, 0, 0]]))
    assert torch.allclose(network(images), torch.tensor([[math.log(1 + (2 * share) ** 2), 0.0]]))


def test_shares_below_a_tenth_count_in_training_alone() -> None:
    images = torch.zeros(1, 3, 8, 8)
    images[:, 0] = 0.25  # e^2.5 against 1 and 1: shares of 0.86, 0.07 and 0.07
    network = hand_set()
    assert torch.count_nonzero(network.locate(images)) == 4  # the first prototype at four positions
    network.train()
    shares = network.locate(images)
    assert torch.allclose(shares.sum(1), torch.ones(1, 2, 2))
    assert torch.allclose(shares[0, 1], torch.full((2, 2), 1 / (math.exp(2.5) + 2)))


def test_an_image_in_which_nothing_of_weight_is_found_gets_equal_logits() -> None:
    """A blue picture: its prototype speaks for no class, and the network abstains."""
    images = torch.zeros(1, 3, 8, 8)
    images[:, 2] = 1
    logits = hand_set()(images)
    assert torch.equal(logits, torch.zeros(1, 2))
    assert torch.equal(logits.softmax(1), torch.full((1, 2), 0.5))
    assert logits.argmax(1).tolist() == [0]


def test_probabilities_are_those_of_the_publication() -> None:
    """(1 + s_c^2) over the sum of the same for each class; the order of classes is that of the sums."""
    sums = torch.tensor([[0.0, 1.0, 3.0]])
    assert torch.allclose(to_logits(sums).softmax(1), torch.tensor([[1.0, 2.0, 10.0]]) / 13)
    expected = torch.log_softmax(torch.log1p(sums**2), 1)[0, 2]
    assert torch.allclose(-nn.functional.cross_entropy(to_logits(sums), torch.tensor([2])), expected)


def test_negative_weights_count_as_none_and_small_ones_are_dropped() -> None:
    layer = EvidenceLayer(3, 1)
    with torch.no_grad():
        layer.values.copy_(torch.tensor([[-1.0, 9e-4, 1.1e-3]]))
    assert torch.equal(layer.weights, torch.tensor([[0.0, 9e-4, 1.1e-3]]))
    assert torch.allclose(layer(torch.ones(1, 3)), torch.tensor([[9e-4 + 1.1e-3]]))
    layer.drop_small()
    assert torch.equal(layer.values, torch.tensor([[0.0, 0.0, 1.1e-3]]))


def test_no_evaluation_changes_the_weights() -> None:
    """The published code takes 0.001 off each weight at every batch that it evaluates."""
    classifier = build("flowernet+pipnet", CLASSES, 24, 0).eval()
    with torch.no_grad():
        pipnet_of(classifier).evidence.values[0, 0] = 5e-4
        before = classifier.digest
        for _ in range(3):
            classifier(pictures())
    assert classifier.digest == before


def test_views_that_agree_lose_nothing_and_views_that_share_nothing_lose_most() -> None:
    everywhere = torch.ones(1, 1, 2, dtype=torch.bool)
    assert align(one_hot(0, 1), one_hot(0, 1), everywhere).abs() < 1e-6
    assert torch.isclose(align(one_hot(0, 1), one_hot(1, 0), everywhere), torch.tensor(-math.log(1e-8)))
    uniform = torch.full((1, 4, 1, 2), 0.25)
    assert torch.isclose(align(uniform, uniform, everywhere), torch.tensor(math.log(4)))
    first_alone = torch.tensor([[[True, False]]])
    assert align(one_hot(0, 1), one_hot(0, 3), first_alone).abs() < 1e-6


def test_each_view_learns_from_the_other_held_still() -> None:
    """The gradient at one view is that of half of -log <a, b>, b a constant: -b / (2 <a, b> n)."""
    a, b = (torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(i)).softmax(1) for i in (1, 2))
    a.requires_grad_()
    b.requires_grad_()
    align(a, b, torch.ones(2, 3, 3, dtype=torch.bool)).backward()
    dot = (a * b).sum(1, keepdim=True)
    assert a.grad is not None
    assert b.grad is not None
    assert torch.allclose(a.grad, -(b / dot).detach() / 2 / 18, atol=1e-6)
    assert torch.allclose(b.grad, -(a / dot).detach() / 2 / 18, atol=1e-6)


def test_a_prototype_that_is_never_found_costs_most() -> None:
    found = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = (-math.log(math.tanh(2) + 1e-8) - math.log(1e-8)) / 2
    assert torch.isclose(spread_out(found), torch.tensor(expected))


@pytest.mark.parametrize(("down", "right"), [(0, 0), (4, 0), (0, -4), (-4, 4), (2, -2)])
def test_maps_of_a_moved_view_are_laid_back(down: int, right: int) -> None:
    """A ramp is linear, so that half a position further is half a step: nothing but the edges may differ."""
    ramp = torch.arange(24.0).expand(1, 3, 24, 24) + 3 * torch.arange(24.0)[:, None]
    rows, columns = ((torch.arange(24) + moves).clamp(0, 23) for moves in (down, right))
    moved = Shifted(ramp[:, :, rows][..., columns], torch.tensor([down]), torch.tensor([right]))
    maps, expected = Plain()(moved.images), Plain()(ramp)
    laid, inside = shift_back(maps, moved)
    assert torch.allclose(laid[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-4)
    assert inside[..., 1:-1, 1:-1].all()
    outside = {(0, 0): 0, (4, 0): 6, (0, -4): 6, (-4, 4): 11}.get((down, right))
    if outside is not None:
        assert (~inside).sum() == outside  # the row or the column of positions that left the picture


def test_shifts_are_drawn_apart_and_repeat() -> None:
    images = bytes_of(24, 200)
    moved, again = (shift(torch.Generator().manual_seed(1), images) for _ in range(2))
    assert torch.equal(moved.images, again.images)
    assert set(moved.down.tolist()) == set(moved.right.tolist()) == set(range(-SHIFT, SHIFT + 1))
    i = int(moved.down.eq(2).logical_and(moved.right.eq(-3)).nonzero()[0])
    assert torch.equal(moved.images[i][:, :-2, 3:], images[i][:, 2:, :-3])


def test_jitter_keeps_hue_and_saturation_nearly() -> None:
    """Brightness scales all channels alike; contrast moves them towards a grey. The order of channels stays."""
    images = bytes_of(8, 20)
    changed = jitter(torch.Generator().manual_seed(1), images)
    plain = images.float() / 255
    assert (changed - plain).abs().max() < 2.2 * JITTER
    assert (changed - plain).abs().max() > JITTER / 2
    assert torch.equal(changed.argmax(1)[plain.amax(1) < 0.8], plain.argmax(1)[plain.amax(1) < 0.8])


def slow_loss(classifier: Classifier, images: Tensor, labels: Tensor, seed: int, weights: tuple[float, ...]) -> float:
    """Position by position and prototype by prototype, in the words of the publication."""
    network, source = pipnet_of(classifier), torch.Generator().manual_seed(seed)
    moved = shift(source, images)
    views = [jitter(source, view) for view in (images, moved.images)]
    shares = [network.compare(classifier.normalise(view)) for view in views]  # each view apart: no batch norm here
    for maps in shares:
        for i in range(len(maps)):
            for y in range(maps.shape[2]):
                for x in range(maps.shape[3]):
                    powers = [math.exp(float(value)) for value in maps[i, :, y, x]]
                    maps[i, :, y, x] = torch.tensor([power / sum(powers) for power in powers])
    laid, inside = shift_back(shares[1], moved)
    apart = [
        -math.log(sum(float(a) * float(b) for a, b in zip(shares[0][i, :, y, x], laid[i, :, y, x], strict=True)))
        for i, y, x in inside.nonzero().tolist()
    ]
    total = weights[0] * sum(apart) / len(apart)
    for maps in shares:
        found = [[float(maps[i, k].max()) for k in range(maps.shape[1])] for i in range(len(maps))]
        sums = [sum(row[k] for row in found) for k in range(maps.shape[1])]
        total += weights[1] * sum(-math.log(math.tanh(value)) for value in sums) / len(sums) / 2
        for row, label in zip(found, labels.tolist(), strict=True):
            outputs = [sum(float(w) * f for w, f in zip(line, row, strict=True)) for line in network.weights]
            terms = [1 + output**2 for output in outputs]
            total += weights[2] * -math.log(terms[label] / sum(terms)) / len(found) / 2
    return total


@pytest.mark.parametrize("weights", [(5.0, 2.0, 0.0), (5.0, 2.0, 2.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)])
def test_the_loss_equals_the_slow_version(weights: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipnet_loss, "precision", lambda device: None)
    classifier = build("flowernet+pipnet", CLASSES, 24, 0).train()
    classifier.network = hand_set().train()
    with torch.no_grad():
        images, labels = bytes_of(), torch.tensor([0, 1, 1])
        loss = PipNetLoss(*weights)(classifier, images, labels, torch.Generator().manual_seed(7))
        assert float(loss) == pytest.approx(slow_loss(classifier, images, labels, 7, weights), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "side"),
    [("flowernet", 16), ("resnet18", 8), ("resnet50", 8), ("mobilenet_v2", 8), ("convnext_tiny", 6)],
)
def test_maps_are_finer_than_those_of_the_backbone(name: str, side: int) -> None:
    """The larger networks end in 2 x 2 positions for 64 px; without the last two strides, in 8 x 8 or 6 x 6."""
    classifier = build(f"{name}+pipnet", CLASSES, 64, 0).eval()
    with torch.no_grad():
        shares = pipnet_of(classifier).locate(classifier.normalise(pictures(64, 1)))
    assert shares.shape == (1, PROTOTYPES, side, side)
    assert name in BACKBONES


@pytest.mark.parametrize("name", ["flowernet", "resnet18"])
def test_it_can_be_cut_at_its_layer_and_drawn_anew(name: str) -> None:
    classifier = build(f"{name}+pipnet", CLASSES, 32, 0).eval()
    with torch.no_grad():
        halves = classifier.tail(classifier.head(pictures(32)))
        assert torch.allclose(halves, classifier(pictures(32)), atol=1e-5)
    assert type(classifier.split(classifier.target_layer)).__name__ == "GraphSplit"  # not the whole network twice
    assert redraw(classifier, 1).keys() == dict(classifier.network.named_parameters()).keys()


def test_a_training_keeps_weights_sparse_and_its_file_gives_the_same_in_another_process(
    small_file: Path, tmp_path: Path
) -> None:
    store = FlowerStore(small_file)
    classifier = train(store, "flowernet+pipnet", epochs=3, seed=1).classifier
    network = pipnet_of(classifier)
    stored = network.evidence.values
    assert ((stored == 0) | (stored >= 1e-3)).all()
    assert "5 alignment + 2 tanh + 2 class" in classifier.card.data["recipe"]
    place, images = tmp_path / "model.safetensors", pictures(store.size)
    classifier.save(place)
    code = f"""
import torch
from an8flower.evaluate.models.files import load
torch.set_num_threads(1)
images = torch.rand(2, 3, {store.size}, {store.size}, generator=torch.Generator().manual_seed(3))
model = load({str(place)!r})
with torch.no_grad():
    shares = model.network.locate(model.normalise(images))
    torch.save([model(images), shares, model.network.weights], {str(tmp_path / "out.pt")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    logits, shares, weights = torch.load(tmp_path / "out.pt", weights_only=True)
    with torch.no_grad():
        assert torch.equal(logits, classifier(images))
        assert torch.equal(shares, network.locate(classifier.normalise(images)))
        assert torch.equal(weights, network.weights)


def test_a_network_that_does_not_fit_and_too_few_epochs_are_refused(small_file: Path) -> None:
    with pytest.raises(WrongUsage, match="vgg16 cannot be pooled by pipnet; it fits .*flowernet"):
        find_arch("vgg16+pipnet")
    with pytest.raises(WrongUsage, match="1 epochs came, and 3 stages train"):
        train(FlowerStore(small_file), "flowernet+pipnet", epochs=1)
