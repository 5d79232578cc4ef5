"""TF32: off unless it is asked for, told apart in every result, and no reason to refuse a network.

No GPU is needed: `RoundedProducts` does to the products of this CPU what cuDNN does to those of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from an8flower.errors import WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.networks import arithmetic
from an8flower.evaluate.models.streamlined import copy_network
from an8flower.evaluate.resources import Resources, settle_on
from an8flower.evaluate.scoring.judge import Judge
from an8flower.store import FlowerStore

GPU, CPU = torch.device("cuda"), torch.device("cpu")
PRODUCTS = {"convolution": 2, "convolution_backward": 3}  # how many of the first arguments are multiplied


class RoundedProducts(TorchDispatchMode):
    """Round what convolutions multiply to ten bits of mantissa while cuDNN would: nearest, ties to even."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        count = PRODUCTS.get(func.overloadpacket.__name__, 0) * torch.backends.cudnn.allow_tf32
        args = (*(to_tf32(value) if isinstance(value, Tensor) else value for value in args[:count]), *args[count:])
        return func(*args, **(kwargs or {}))


def to_tf32(values: Tensor) -> Tensor:
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


@pytest.fixture(autouse=True)
def as_torch_comes() -> Iterator[None]:
    """Each test begins with TF32 on for convolutions, as torch is delivered."""
    with arithmetic.preserve_arithmetic():
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
        yield


def resnet(seed: int) -> Classifier:
    return build("resnet18", "abcdef", 32, seed).eval()


def query_for(classifier: Classifier) -> Query:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    return Query(images, torch.tensor([0, 1]), torch.tensor([4, 5]))


def test_rounding_is_that_of_tf32() -> None:
    """1 + 2^-10 can be written, 1 + 2^-11 lies half way and goes to the even one, a little more goes up."""
    values = torch.tensor([1 + 2**-10, 1 + 2**-11, 1 + 2**-11 + 2**-20, 1 + 3 * 2**-11, -(1 + 2**-12)])
    assert to_tf32(values).tolist() == [1 + 2**-10, 1, 1 + 2**-10, 1 + 2**-9, -1]


def test_rounding_refuses_no_network() -> None:
    """The folded copy is compared in full: compared in TF32, LRP refused this network, and its faster copy was none."""
    classifier = resnet(1)
    with RoundedProducts():
        explain(classifier, parse_method("lrp").explainer, query_for(classifier))
        assert isinstance(copy_network(classifier), fx.GraphModule)


def test_comparisons_put_the_choice_back() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True
    with pytest.raises(ZeroDivisionError), arithmetic.multiplying_in_full():
        assert arithmetic.arithmetic_on(GPU) == "float32"
        raise ZeroDivisionError
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (True, True)


def test_where_a_device_is_chosen_tf32_is_off() -> None:
    classifier = resnet(0)
    method, query = parse_method("integrated_gradients:steps=4").explainer, query_for(classifier)
    plain = explain(classifier, method, query).maps
    with RoundedProducts():
        rounded = explain(classifier, method, query).maps
        settle_on("cpu")
        in_full = explain(classifier, method, query).maps
    assert torch.equal(in_full, plain)
    assert (rounded - plain).abs().max() > 1e-3 * plain.abs().max()  # or this test would say nothing


def test_tf32_can_be_asked_for_on_a_gpu_alone() -> None:
    arithmetic.choose_arithmetic(GPU, "tf32")
    assert arithmetic.arithmetic_on(GPU) == "tf32"
    assert arithmetic.arithmetic_on(CPU) == "float32"
    assert torch.backends.cuda.matmul.allow_tf32
    arithmetic.choose_arithmetic(GPU)
    assert arithmetic.arithmetic_on(GPU) == "float32"
    with pytest.raises(WrongUsage, match="tf32 came for cpu; only GPUs of NVIDIA multiply so; leave it out"):
        settle_on("cpu", "tf32")
    with pytest.raises(WrongUsage, match='"tf23".*tf32'):
        settle_on("cpu", "tf23")


def test_results_of_tf32_have_names_of_their_own(small_file: Path) -> None:
    split = FlowerStore(small_file)["test"]
    judge = Judge(split, "label", 0, (), Resources(GPU))
    rounded = judge.identity
    arithmetic.choose_arithmetic(GPU)
    assert judge.identity == Judge(split, "label", 0, (), Resources(CPU)).identity
    assert set(rounded) - set(judge.identity) == {"tf32"}


def test_a_description_names_device_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arithmetic.describe_arithmetic(CPU) == {"device": "cpu", "precision": "float32"}
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(arithmetic, "read_driver", lambda: "580.65.06")
    facts = arithmetic.describe_arithmetic(GPU)
    assert facts | {"cuda": ""} == {
        "device": "cuda",
        "precision": "tf32",
        "gpu": "a card",
        "driver": "580.65.06",
        "cuda": "",
        "cudnn": "91002",
    }


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue\nGCC 12",
            "535.54.03",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n", "580.65.06"),
        ("nothing", None),
    ],
)
def test_the_driver_says_which_it_is(tmp_path: Path, text: str, version: str | None) -> None:
    place = tmp_path / "version"
    place.write_text(text)
    assert arithmetic.read_driver(place) == version
    assert arithmetic.read_driver(tmp_path / "missing") is None
