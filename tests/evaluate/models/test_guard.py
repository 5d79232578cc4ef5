"""What a careless borrower leaves behind is cleaned up and named."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from an8flower.errors import Refusal
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.networks.guard import NotWhole, Seal, guard
from an8flower.evaluate.models.networks.split import GraphSplit
from an8flower.evaluate.models.networks.unrolled import unroll

Make = Callable[[str], Classifier]


def swap_relu(network: nn.Module) -> None:
    network.network.features[1] = nn.Identity()


def rewrite(network: nn.Module) -> None:
    network.network.linear.weight.data.mul_(1.1)


def replace_parameter(network: nn.Module) -> None:
    network.network.linear.weight = nn.Parameter(network.network.linear.weight.detach().clone())


def replace_forward(network: nn.Module) -> None:
    network.network.features[1].forward = lambda images: images


def tamper_with_halves(network: nn.Module) -> None:
    network.split("features")._tail = nn.Identity()


CARELESS: dict[str, list[Callable[[nn.Module], Any]]] = {
    "hooks": [
        lambda network: network.network.linear.register_forward_hook(lambda *_: None),
        lambda network: network.network.linear.register_forward_hook(lambda *_, **__: None, with_kwargs=True),
        lambda network: network.network.linear.register_forward_pre_hook(lambda *_: None),
        lambda network: network.network.linear.register_full_backward_hook(lambda *_: None),
        lambda network: network.network.linear.weight.register_hook(lambda gradient: None),
    ],
    "training modes": [lambda network: network.train(), lambda network: network.network.linear.train()],
    "requires_grad of parameters": [lambda network: network.requires_grad_(False)],
    "submodules": [swap_relu],
    "weights or buffers": [rewrite, lambda network: network.mean.fill_(torch.nan)],
    "parameters": [replace_parameter],
    "attributes of modules": [
        replace_forward,
        lambda network: setattr(network.network.features[0], "stride", (1, 1)),
        lambda network: setattr(network, "note", 1),
        lambda network: network.card.data.update(name="other"),
    ],
    "classes of modules": [lambda network: setattr(network.network.features[1], "__class__", nn.Identity)],
    "halves of the network": [tamper_with_halves],
    "torch's global random state": [lambda network: torch.rand(1), lambda network: torch.manual_seed(0)],
    "numpy's global random state": [lambda network: np.random.rand()],
    "Python's global random state": [lambda network: random.random()],
}


@pytest.fixture
def network(make: Make) -> Classifier:
    """A network in a state of its own: mixed modes, a frozen weight, a gradient and a hook."""
    network = make("inplace").train()
    network.network.features[0].eval()
    network.network.linear.bias.requires_grad_(False)
    network.network.linear.weight.grad = torch.ones_like(network.network.linear.weight)
    network.network.features[1].register_forward_hook(lambda *_: None)
    network.split("features")
    return network


def state(network: nn.Module) -> list[Any]:
    modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
    return [
        list(modules.values()),
        [module.training for module in modules.values()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules.values()],
        [len(module._forward_hooks_with_kwargs) for module in modules.values()],
        [(p.requires_grad, len(p._backward_hooks or {})) for p in parameters.values()],
        [None if p.grad is None else p.grad.tolist() for p in parameters.values()],
        [(type(module), getattr(module, "stride", None)) for module in modules.values()],
        {name: tensor.tolist() for name, tensor in network.state_dict().items()},
        [id(parameter) for parameter in parameters.values()],
        ["forward" in vars(module) or "note" in vars(module) for module in modules.values()],
        dict(network.card.data),
        network(torch.full((1, 3, 16, 16), 0.3)).tolist(),
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        random.getstate(),
    ]


def cases() -> Iterator[Any]:
    for name, careless in CARELESS.items():
        yield from (pytest.param(name, act, id=f"{name} {index}") for index, act in enumerate(careless))


@pytest.mark.parametrize(("name", "act"), list(cases()))
def test_traces_are_named_and_removed(network: Classifier, name: str, act: Callable[[nn.Module], Any]) -> None:
    before = state(network)
    with pytest.raises(Refusal, match=f"clumsy changed {name} and did not change it back"), guard(network, "clumsy"):
        act(network)
    assert state(network) == before


def test_several_traces_are_named_together(network: Classifier) -> None:
    def act() -> None:
        with guard(network, "clumsy"):
            network.train()
            CARELESS["hooks"][0](network)

    with pytest.raises(Refusal, match="changed hooks, training modes and"):
        act()


def test_weights_of_a_network_that_the_caller_puts_back_are_not_looked_at(network: Classifier) -> None:
    before = network.network.linear.weight.detach().clone()
    with guard(network, "lender", weights=False):
        rewrite(network)
    assert torch.equal(network.network.linear.weight, before * 1.1)
    with pytest.raises(Refusal, match=r"lender changed training modes and"), guard(network, "lender", weights=False):
        network.train()


def test_everything_is_put_back_after_an_error(network: Classifier) -> None:
    def act() -> None:
        with guard(network, "clumsy"):
            for careless in CARELESS.values():
                careless[0](network)
            raise ZeroDivisionError

    before = state(network)
    with pytest.raises(ZeroDivisionError):
        act()
    assert state(network) == before


def test_autocast_that_was_never_left_keeps_no_weight_of_a_later_step(network: Classifier) -> None:
    """Autocast keeps what it has cast until its outermost context is left: that one must be left too."""
    with pytest.raises(Refusal, match="clumsy changed autocast"), guard(network, "clumsy"):
        torch.autocast("cpu", torch.bfloat16).__enter__()
    layer, ones = nn.Linear(4, 1, bias=False), torch.ones(2, 4)
    for value in (1.0, 2.0):
        nn.init.constant_(layer.weight, value)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(ones).tolist() == [[4 * value]] * 2
    with torch.autocast("cpu", torch.bfloat16), guard(network, "careful"):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_a_hook_that_was_removed_is_put_back(network: Classifier) -> None:
    before = state(network)
    with pytest.raises(Refusal, match="hooks"), guard(network, "clumsy"):
        network.network.features[1]._forward_hooks.clear()
    assert state(network) == before


def test_gradients_left_in_parameters_are_discarded_silently(network: Classifier) -> None:
    before = state(network)
    with guard(network, "clumsy"):
        network(torch.ones(1, 3, 16, 16)).sum().backward()
    assert state(network) == before


def test_inside_the_network_is_in_eval_mode_and_gradients_are_enabled(network: Classifier) -> None:
    with torch.inference_mode(), guard(network, "careful"):
        assert not any(module.training for module in network.modules())
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
    assert network.training


def test_whoever_restores_is_not_blamed(network: Classifier) -> None:
    with guard(network, "careful"):
        handle = CARELESS["hooks"][0](network)
        network.train()
        network.eval()
        handle.remove()


def test_the_random_states_of_all_gpus_count(network: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs of paper, so that the bookkeeping is tested on machines without one as well."""
    states = [torch.full((16,), number, dtype=torch.uint8) for number in (1, 2)]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state.clone() for state in states])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states[device].copy_(state))
    with guard(network, "careful"):
        pass
    with pytest.raises(Refusal, match="torch's global random state"), guard(network, "clumsy"):
        states[1] += 1
    assert [state.unique().tolist() for state in states] == [[1], [2]]


def test_whoever_is_the_first_on_a_gpu_is_not_blamed(network: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs have random states only once somebody uses one, which changes nothing for anybody."""
    in_use: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(in_use))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.zeros(16, dtype=torch.uint8)])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    with guard(network, "first"):
        in_use.append(True)
    with pytest.raises(Refusal, match="torch's global random state"), guard(network, "clumsy"):
        torch.rand(1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpus_random_state_counts(network: Classifier) -> None:
    torch.cuda.init()
    before = torch.cuda.get_rng_state()
    with pytest.raises(Refusal, match="torch's global random state"), guard(network, "clumsy"):
        torch.rand(1, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), before)


class Counting(nn.Module):
    """A network that notes how often it was called, and keeps its last features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.calls, self.last = 0, None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.last = self.conv(images)
        return self.last.mean((2, 3))


def test_what_a_network_notes_by_itself_is_no_reason_to_blame() -> None:
    network = wrap(Counting(), "abcd", 8, "conv").eval()
    with guard(network, "careful"):
        network(torch.ones(2, 3, 8, 8))
    with pytest.raises(Refusal, match="attributes of modules"), guard(network, "clumsy"):
        network(torch.ones(2, 3, 8, 8))
        network.network.conv.stride = (2, 2)
    assert network.network.conv.stride == (1, 1)


def test_nan_in_weights_is_equal_to_itself(network: Classifier) -> None:
    network.network.linear.weight.data.fill_(torch.nan)
    with guard(network, "careful"):
        pass


class Constant(nn.Module):
    """A network with a constant that torch.fx has to keep somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.conv(images) + torch.tensor([1.0])
        return self.linear(features.mean((2, 3)) * torch.tensor([2.0]))


def test_constants_of_traced_graphs_do_not_stay_on_the_network() -> None:
    """As torch.fx would leave 22 a call on a maxvit_t."""
    network = Constant()
    before = set(vars(network))
    classifier = wrap(network, "abcd", 8, "conv").eval()
    assert isinstance(classifier.split("conv"), GraphSplit)
    unroll(network)
    assert set(vars(network)) == before
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(classifier.tail(classifier.head(images)), classifier(images), atol=1e-6)


def test_a_seal_says_what_something_changed_and_gives_a_copy_that_is_whole(network: Classifier) -> None:
    network.eval()
    before, seal = state(network), Seal(network)
    rewrite(network)
    fresh = seal.renew()
    assert seal.mend() == ["weights or buffers"]
    assert state(network) == before
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), network.parameters(), strict=True))
    forgotten: list[str] = []
    with (
        pytest.raises(
            NotWhole, match="net was not the same at the end as at the beginning: the default dtype, weights"
        ),
        seal.watch("net", lambda: forgotten.append("all")),
    ):
        rewrite(network)
        torch.set_default_dtype(torch.float64)
    assert forgotten == ["all"]
    assert torch.get_default_dtype() == torch.float32
    assert state(network) == before
