"""The copy with one module a call: its layers by name, its batch norms folded."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import NotApplicable
from an8flower.evaluate.explaining.contract_networks import ReuseNet, randomise_weights
from an8flower.evaluate.models.networks.unrolled import fold_batch_norms, module_of, unroll


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def kinds(network: nn.Module) -> list[str]:
    return sorted(type(module).__name__ for module in network.children())


def test_every_call_has_a_module_of_its_own(images: Tensor) -> None:
    network = randomise_weights(ReuseNet())
    twin = unroll(network)
    assert kinds(twin).count("ReLU") == 4  # one module three times, and one function
    torch.testing.assert_close(twin(images), network.eval()(images))


def test_the_copy_is_its_own(images: Tensor) -> None:
    network = randomise_weights(ReuseNet()).eval()
    twin = unroll(network)
    before = twin(images)
    with torch.no_grad():
        network.linear.weight.zero_()
    assert torch.equal(twin(images), before)
    assert not {id(tensor) for tensor in twin.parameters()} & {id(tensor) for tensor in network.parameters()}


def test_modes_are_kept() -> None:
    network = ReuseNet()
    network.bn1.eval()
    modes = [module.training for module in network.modules()]
    assert not any(module.training for module in unroll(network).modules())
    assert [module.training for module in network.modules()] == modes


def test_nodes_know_the_layers_that_they_stand_for(images: Tensor) -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
            self.again = self.body[0]

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.body(x))

    twin = fold_batch_norms(unroll(Nested()))
    (convolution,) = (node for node in twin.graph.nodes if isinstance(module_of(twin, node), nn.Conv2d))
    assert sorted(convolution.meta["layers"]) == ["again", "body", "body.0", "body.1"]


def test_batch_norms_fold_into_convolutions_and_linear_layers(images: Tensor) -> None:
    convolutions = nn.Conv2d(3, 4, 3, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    network = randomise_weights(nn.Sequential(*convolutions, nn.Linear(196, 5), nn.BatchNorm1d(5))).eval()
    network[5].running_var.abs_()
    twin = fold_batch_norms(unroll(network))
    assert kinds(twin) == ["Conv2d", "Flatten", "Linear", "ReLU"]
    torch.testing.assert_close(twin(images), network(images), rtol=1e-4, atol=1e-4)


class Branching(nn.Module):
    """A convolution that is read besides its batch norm, and a batch norm without one."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.norm, self.lone = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.convolution(self.lone(x))
        return self.norm(inner) * inner


@pytest.mark.parametrize(
    ("network", "norms"),
    [
        (Branching(), 2),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)), 1),
        (nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8, affine=False)), 1),
        (nn.Sequential(nn.Linear(16, 8), nn.Flatten(0, 1), nn.BatchNorm1d(16)), 1),
    ],
)
def test_batch_norms_that_stay(network: nn.Module, norms: int, images: Tensor) -> None:
    twin = fold_batch_norms(unroll(network))
    assert sum("BatchNorm" in kind for kind in kinds(twin)) == norms
    if norms == 2:
        torch.testing.assert_close(twin(images), copy.deepcopy(network).eval()(images))


def test_what_cannot_be_traced() -> None:
    class Choosy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(NotApplicable, match="Choosy cannot be traced by torch.fx"):
        unroll(Choosy())
