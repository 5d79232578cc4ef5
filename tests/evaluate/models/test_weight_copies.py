"""Weights are compared with their copies to the byte, whatever wrote to them; copies that still hold are lent again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import Refusal
from an8flower.evaluate.models.networks import weight_copies
from an8flower.evaluate.models.networks.guard import guard
from an8flower.evaluate.models.networks.weight_copies import equal_bytes, hold_copies, read_weights, write_weights

NAN_OF_ANOTHER_KIND = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)
TENSORS = {
    "plain": torch.arange(24.0).view(2, 3, 4),
    "channels last": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "with holes": torch.rand(4, 6)[:, ::2],
    "expanded": torch.rand(1, 3).expand(4, 3),
    "bfloat16": torch.rand(7).bfloat16(),
    "counts": torch.tensor(3),
    "complex": torch.rand(3, dtype=torch.complex64),
    "conjugate": torch.rand(3, dtype=torch.complex64).conj(),
    "empty": torch.empty(0, 3),
}


@pytest.fixture
def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("name", TENSORS)
def test_every_single_element_counts(name: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(weight_copies, "load_memcmp", lambda: None)
    tensor = TENSORS[name]
    assert equal_bytes(tensor, tensor.clone())
    for place in range(tensor.numel()):
        other = tensor.clone()
        other[tuple(int(i) for i in torch.unravel_index(torch.tensor(place), tensor.shape))] += 1
        assert not equal_bytes(tensor, other)
        assert not equal_bytes(other, tensor)


def test_nan_is_itself_and_nothing_else() -> None:
    nan = torch.tensor([torch.nan])
    assert equal_bytes(nan, nan.clone())
    assert not equal_bytes(nan, NAN_OF_ANOTHER_KIND)
    assert not equal_bytes(torch.tensor([0.0]), torch.tensor([-0.0]))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_tensor_counts_on_several_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_copies, "WORTH_THREADS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    tensors = [torch.rand(size) for size in (5, 1, 900, 40)]
    copies = [(tensor, tensor.clone()) for tensor in tensors]
    assert hold_copies(copies)
    for tensor in tensors:
        tensor[-1] += 1
        assert not hold_copies(copies)
        tensor[-1] = next(saved for known, saved in copies if known is tensor)[-1]
    assert hold_copies(copies)


def test_copies_that_hold_are_lent_again_and_no_others(network: nn.Module) -> None:
    first = read_weights(network)
    assert read_weights(network) is first
    network[0].weight.data[0, 0, 0, 0] += 1  # which no version of the parameter tells
    assert not hold_copies(first)
    second = read_weights(network)
    assert second is not first
    assert hold_copies(second)
    network[0].weight = nn.Parameter(network[0].weight.detach().clone())
    assert read_weights(network)[0][0] is network[0].weight
    other = nn.Linear(2, 2)
    read_weights(other)
    assert network not in weight_copies._LATEST  # the memory of one network, not of all


WRITES: dict[str, Callable[[Tensor], object]] = {
    "in place": lambda weight: weight.detach().add_(1),
    "through data": lambda weight: weight.data.view(-1)[-1:].add_(1e-6),
    "through numpy": lambda weight: np.negative(weight.detach().numpy(), out=weight.detach().numpy()),
    "another block": lambda weight: setattr(weight, "data", weight.data * 2),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_the_owner_writes_between_two_loans_stays(name: str, network: nn.Module) -> None:
    """The owner may write in any way that leaves no version behind; nobody is blamed for it, and it is not undone."""
    with guard(network, "careful"):
        pass
    WRITES[name](network[0].weight)
    expected = network[0].weight.detach().clone()
    with guard(network, "careful"):
        pass
    assert torch.equal(network[0].weight, expected)
    with pytest.raises(Refusal, match="clumsy changed weights"), guard(network, "clumsy"):
        WRITES[name](network[0].weight)
    assert torch.equal(network[0].weight, expected)


def test_inside_a_loan_another_one_gives_back_what_the_first_borrower_wrote(network: nn.Module) -> None:
    weight = network[0].weight
    before = weight.detach().clone()
    with pytest.raises(Refusal, match="outer changed weights"), guard(network, "outer"):
        WRITES["through data"](weight)
        between = weight.detach().clone()
        with pytest.raises(Refusal, match="inner changed weights"), guard(network, "inner"):
            WRITES["in place"](weight)
        assert torch.equal(weight, between)
    assert torch.equal(weight, before)


def test_a_block_of_another_shape_is_put_back(network: nn.Module) -> None:
    pairs = read_weights(network)
    expected = network[0].weight.detach().clone()
    network[0].weight.data = torch.zeros(2)
    assert not hold_copies(pairs)
    write_weights(pairs)
    assert torch.equal(network[0].weight, expected)
