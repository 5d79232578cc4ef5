"""explain(): what it refuses, and how it batches; what explainers promise is tested in test_contract.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.case import Explainer, Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.registry import explainers

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]


def flat(classifier: Classifier, query: Query) -> Tensor:
    """The simplest explainer: a map of the row's mean colour."""
    return query.images.mean((1, 2, 3))[:, None, None].expand_as(query.images[:, 0]).contiguous()


# Queries that cannot be answered.


def changed(query: Query, **changes: Any) -> Query:
    return query._replace(**{name: change(getattr(query, name)) for name, change in changes.items()})


def with_value(images: Tensor, value: float) -> Tensor:
    images[0, 0, 0, 0] = value
    return images


BAD_QUERIES = [
    ({"images": lambda x: x.double()}, WrongUsage, "images are (5, 3, 16, 16) float64 on cpu; expected (5, 3, 16, 16)"),
    ({"images": lambda x: x[:, :1]}, WrongUsage, "images are (5, 1, 16, 16)"),
    ({"images": lambda x: x[..., :8]}, WrongUsage, "images are (5, 3, 16, 8)"),
    ({"images": lambda x: x.to("meta")}, WrongUsage, "float32 on meta"),
    ({"images": lambda x: with_value(x, float("nan"))}, Refusal, "images reach from nan to nan"),
    ({"images": lambda x: with_value(x, 1.5)}, Refusal, "to 1.5; expected finite values in [0, 1]"),
    ({"images": lambda x: with_value(x, -0.5)}, Refusal, "images reach from -0.5"),
    ({"targets": lambda x: x + 1}, WrongUsage, "targets are [1, 2, 3, 4]; expected 0 to 3"),
    ({"targets": lambda x: x - 1}, WrongUsage, "targets are [-1, 0, 1, 2]"),
    ({"targets": lambda x: x.int()}, WrongUsage, "targets are (5,) int32"),
    ({"seeds": lambda x: x[:2]}, WrongUsage, "seeds are (2,) int64"),
    (dict.fromkeys(("images", "targets", "seeds"), lambda x: x[:0]), WrongUsage, "the query is empty"),
]


@pytest.mark.parametrize(("changes", "error", "says"), BAD_QUERIES)
def test_bad_queries(make: Make, query: MakeQuery, changes: dict[str, Any], error: type[Refusal], says: str) -> None:
    classifier = make("inplace")
    with pytest.raises(error, match=re.escape(says)):
        explain(classifier, flat, changed(query(classifier), **changes))


# Layers, models and parameters that cannot be used: each refused in one sentence.


@pytest.mark.parametrize(
    ("layer", "error", "says"),
    [
        ("featurs", WrongUsage, 'unknown layer "featurs"; did you mean "features"?'),
        ("linear", Refusal, 'layer "linear" gives 2 x 4, which has no spatial extent; choose one before the pooling'),
    ],
)
def test_bad_layers(make: Make, query: MakeQuery, layer: str, error: type[Refusal], says: str) -> None:
    classifier = make("inplace")
    with pytest.raises(error, match=re.escape(says)):
        explain(classifier, explainers["gradcam"].item(layer=layer), query(classifier))


@pytest.mark.parametrize("name", ["gradient", "gradcam", "occlusion", "captum:Saliency"])
def test_a_model_that_gives_nan(make: Make, query: MakeQuery, name: str) -> None:
    classifier = make("reuse")
    classifier.network.stem.weight.data[0] = torch.nan
    with pytest.raises(Refusal, match="gives NaN or infinity for these images; train it anew, or check its weights"):
        explain(classifier, parse_method(name).explainer, query(classifier))


@pytest.mark.parametrize(
    "text", ["integrated_gradients:steps=-5", "smoothgrad:samples=0", "rise:masks=-1", "lime:samples=0"]
)
def test_counts_below_one(text: str) -> None:
    with pytest.raises(WrongUsage, match=r"(steps|samples|masks) (is|are) (-5|0|-1)"):
        parse_method(text)


@pytest.mark.parametrize("trouble", [False, True], ids=["to the end", "raising in the middle"])
@pytest.mark.parametrize("name", ["gradcam", "gradient", "random"])
def test_the_model_comes_back_as_it_was(classifier: Classifier, query: MakeQuery, name: str, trouble: bool) -> None:
    last = [module for module in classifier.modules() if isinstance(module, nn.Linear)][-1]
    last.weight.requires_grad_(False)
    if trouble:
        last.register_forward_hook(stumble)
    before, modules = classifier.digest, list(classifier.modules())
    with suppress(ZeroDivisionError):
        explain(classifier, explainers[name].item(), query(classifier))
    assert classifier.digest == before
    assert list(classifier.modules()) == modules
    assert all(module.training for module in modules)
    assert sum(len(module._forward_hooks) for module in modules) == trouble
    assert [p.requires_grad for p in classifier.parameters()] == [p is not last.weight for p in classifier.parameters()]
    assert all(parameter.grad is None for parameter in classifier.parameters())


def stumble(module: nn.Module, inputs: Any, output: Any) -> None:
    raise ZeroDivisionError


# Maps, and manners, that are not accepted.

BAD_EXPLAINERS: list[tuple[Callable[[Classifier, Query], Any], str]] = [
    (lambda c, q: flat(c, q)[:, None], r"returned \(5, 1, 16, 16\) float32 on cpu; expected \(5, 16, 16\)"),
    (lambda c, q: flat(c, q).double(), "float64"),
    (lambda c, q: flat(c, q).numpy(), "returned ndarray; expected a tensor"),
    (lambda c, q: flat(c, q).to("meta"), "on meta"),
    (lambda c, q: flat(c, q).masked_fill(q.targets[:, None, None] == 1, torch.nan), r"in the maps \[1, 4\] of 5"),
    (lambda c, q: q.images.mul_(0.5)[:, 0].contiguous(), "changed its input images in place"),
    (lambda c, q: torch.rand(q.images.shape)[:, 0].contiguous(), "torch's global random state"),
    (lambda c, q: (c.train(), flat(c, q))[1], "training modes"),
]


@pytest.mark.parametrize(("explainer", "says"), BAD_EXPLAINERS)
def test_bad_explainers(make: Make, query: MakeQuery, explainer: Explainer, says: str) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    before = asked.images.clone()
    with pytest.raises(Refusal, match=says) as caught:
        explain(classifier, explainer, asked)
    assert "<lambda>" in str(caught.value)
    assert torch.equal(asked.images, before)


# Batches and costs.


def hungry(limit: int, error: Exception) -> tuple[Explainer, list[int]]:
    """An explainer that runs out of memory on more than so many images, and the sizes of the batches it was given."""
    sizes: list[int] = []

    def explainer(classifier: Classifier, query: Query) -> Tensor:
        sizes.append(len(query.images))
        classifier(query.images)
        if len(query.images) > limit:
            raise error
        return flat(classifier, query)

    return explainer, sizes


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=repr)
def test_half_the_batch_where_memory_runs_out(make: Make, query: MakeQuery, error: Exception) -> None:
    classifier = make("inplace")
    asked = query(classifier)
    explainer, sizes = hungry(2, error)
    explanation = explain(classifier, explainer, asked)
    assert sizes == [5, 2, 2, 1]
    torch.testing.assert_close(explanation.maps, flat(classifier, asked))
    assert explanation.cost.forwards == 5  # what was thrown away is not counted


def test_what_may_be_in_flight_holds_for_the_call_alone(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    classifier.in_flight = 7
    seen: list[int] = []

    def explainer(classifier: Classifier, query: Query) -> Tensor:
        seen.append(classifier.in_flight)
        if len(seen) == 3:
            raise ZeroDivisionError
        return flat(classifier, query)

    explain(classifier, explainer, query(classifier), batch=3)
    assert (seen, classifier.in_flight) == ([3, 3], 7)
    with pytest.raises(ZeroDivisionError):
        explain(classifier, explainer, query(classifier), batch=3)
    assert classifier.in_flight == 7


def test_batches_of_nothing(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    with pytest.raises(WrongUsage, match="batches of 0 images"):
        explain(classifier, flat, query(classifier), batch=0)


def test_memory_for_not_even_one(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    explainer, sizes = hungry(0, torch.OutOfMemoryError())
    with pytest.raises(Refusal, match="runs out of memory on one image"):
        explain(classifier, explainer, query(classifier))
    assert sizes == [5, 2, 1]


def test_a_method_that_needs_float64_on_apples_gpus(make: Make, query: MakeQuery) -> None:
    error = TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
    classifier = make("inplace")
    with pytest.raises(Refusal, match="computes in float64, which cpu does not know; use --device cpu"):
        explain(classifier, hungry(0, error)[0], query(classifier))


def test_other_errors_pass_through(make: Make, query: MakeQuery) -> None:
    classifier = make("inplace")
    explainer, _ = hungry(0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        explain(classifier, explainer, query(classifier))


def test_costs(make: Make, query: MakeQuery) -> None:
    classifier = make("vit")
    tail = classifier.share(classifier.target_layer).tail
    for name, forwards, backwards in (("random", 0, 0), ("gradient", 5, 5), ("gradcam", 5, 5 * tail)):
        cost = explain(classifier, explainers[name].item(), query(classifier), batch=2).cost
        assert cost.forwards == pytest.approx(forwards)
        assert cost.backwards == pytest.approx(backwards)
        assert cost.seconds > 0
