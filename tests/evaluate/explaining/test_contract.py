"""What explainers promise: every registered one on every network; and that each check finds what it looks for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.gradients import Gradient
from an8flower.evaluate.explaining.contract import (
    CHECKS,
    NETWORKS,
    Trial,
    check_explainer,
    difference,
    hasten,
    judge,
    likeness,
    outcome,
)
from an8flower.evaluate.explaining.contract_networks import networks_for
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.registry import explainers

BUILT_IN = [name for name in explainers.names() if name not in explainers.plug_ins()]


@cache
def trial_of(name: str, network: str) -> Trial:
    """One for all checks, which share its first maps."""
    entry = explainers[name]
    return Trial(entry.item(), network, entry.about.get("class_sensitive", True))


@pytest.mark.parametrize(
    ("name", "network"), [(name, network) for name in BUILT_IN for network in networks_for(explainers[name].item)]
)
def test_every_method_keeps_the_contract(name: str, network: str) -> None:
    """All checks are one test: to set up a test of its own takes longer than most of them."""
    try:
        CHECKS[0].judge(trial_of(name, network))
    except NotApplicable as reason:
        pytest.skip(str(reason))
    for check in CHECKS[1:]:
        if check.name != "cuda":
            with suppress(NotApplicable):
                check.judge(trial_of(name, network))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_keeps_the_contract_on_a_gpu(name: str) -> None:
    (check,) = (check for check in CHECKS if check.name == "cuda")
    for network in networks_for(explainers[name].item):
        with suppress(NotApplicable):
            check.judge(trial_of(name, network))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_applies_somewhere(name: str) -> None:
    assert any(
        judge(trial_of(name, network), CHECKS[0]).status == "ok" for network in networks_for(explainers[name].item)
    )


# That checks can fail.


def gradient(classifier: Classifier, query: Query) -> Tensor:
    return Gradient()(classifier, query)


def shouting(classifier: Classifier, query: Query) -> Tensor:
    """A hook that stays only where a pass raises."""
    handle = classifier.network.register_forward_hook(lambda module, inputs, output: None)
    maps = gradient(classifier, query)
    handle.remove()
    return maps


def with_weights_scaled(classifier: Classifier, query: Query) -> Tensor:
    maps = gradient(classifier, query)
    next(classifier.network.parameters()).data.mul_(1.1)
    return maps


def through_weights(classifier: Classifier, query: Query) -> Tensor:
    """It wants gradients of weights, and does not say so."""
    weights = [weight for weight in classifier.network.parameters() if weight.requires_grad]
    return gradient(classifier, query) * len(weights)


def coarse_in_bfloat16(classifier: Classifier, query: Query) -> Tensor:
    maps = gradient(classifier, query)
    return maps if classifier.dtype == torch.float32 else -maps


def calling(classifier: Classifier, query: Query) -> Tensor:
    raise ZeroDivisionError("by zero")


BAD: list[tuple[str, Callable[[Classifier, Query], Any], str]] = [
    ("maps", lambda c, q: gradient(c, q).double(), "float64"),
    ("maps", lambda c, q: gradient(c, q).fill_(torch.nan), "returned NaN or infinity"),
    ("maps", calling, "raised ZeroDivisionError: by zero"),
    ("target", lambda c, q: q.images.mean(1), "gives the same maps for other targets"),
    ("seeds", lambda c, q: gradient(c, q) * torch.rand(1).item(), "draws from torch's global random state"),
    ("seeds", lambda c, q: gradient(c, q) * (torch.initial_seed() % 1009), "called again with the same seeds"),
    ("batch", lambda c, q: gradient(c, q) / len(q.images), "gives other maps when the batch is split"),
    ("batch", lambda c, q: gradient(c, q) * (2 + q.seeds[0] % 2), "compute nothing over the whole batch"),
    ("model", with_weights_scaled, "leaves weights or buffers of the model changed"),
    ("model", lambda c, q: (setattr(c.network, "linear", deepcopy(c.network.linear)), gradient(c, q))[1], "submodules"),
    ("model", lambda c, q: (c.train(), c.eval(), c.requires_grad_(False), gradient(c, q))[3], "requires_grad of param"),
    ("error", shouting, "leaves hooks of the model changed when a pass raises"),
    ("inputs", lambda c, q: (gradient(c, q), q.images.mul_(0.5))[0], "changed images in place"),
    ("inputs", lambda c, q: (gradient(c, q), q.seeds.add_(1))[0], "changed seeds in place"),
    ("frozen", through_weights, "with frozen parameters"),
    ("bfloat16", coarse_in_bfloat16, "correlate with those in float32 by -"),
]


@pytest.mark.parametrize(("name", "explainer", "says"), BAD)
def test_each_check_finds_what_it_looks_for(name: str, explainer: Any, says: str) -> None:
    check = next(check for check in CHECKS if check.name == name)
    found = judge(Trial(explainer, "in-place"), check)
    assert found.status == "FAILED"
    assert says in found.reason


@pytest.mark.parametrize("name", [check.name for check in CHECKS if check.name != "cuda"])
def test_each_check_lets_a_good_explainer_pass(name: str) -> None:
    check = next(check for check in CHECKS if check.name == name)
    assert judge(Trial(gradient, "reuse"), check).status == "ok"


def test_a_hook_that_stays_is_named() -> None:
    def hooked(classifier: Classifier, query: Query) -> Tensor:
        classifier.network.register_forward_hook(lambda module, inputs, output: None)
        return gradient(classifier, query)

    verdicts = list(check_explainer(hooked))
    assert "hooked leaves hooks of the model changed" in str(outcome("hooked", verdicts))


def test_what_applies_nowhere_is_said() -> None:
    def picky(classifier: Classifier, query: Query) -> Tensor:
        raise NotApplicable("picky: wants a forest")

    verdicts = list(check_explainer(picky))
    assert {each.status for each in verdicts} == {"not applicable"}
    assert len(verdicts) == len(NETWORKS)  # where there are no maps, nothing else is judged
    assert "picky is not applicable to any of the networks" in str(outcome("picky", verdicts))
    assert "wants a forest" in str(outcome("picky", verdicts))


def test_a_layer_that_a_network_does_not_have_is_no_failure() -> None:
    def layered(classifier: Classifier, query: Query) -> Tensor:
        if classifier.arch != "ReuseNet":
            raise WrongUsage("unknown layer")
        return gradient(classifier, query)

    verdicts = list(check_explainer(layered))
    assert {each.network for each in verdicts if each.status == "ok"} == {"reuse"}
    assert outcome("layered", verdicts) is None


def test_who_says_that_the_target_does_not_matter_is_believed() -> None:
    check = next(check for check in CHECKS if check.name == "target")
    assert judge(Trial(lambda c, q: q.images.mean(1), "vit", class_sensitive=False), check).status == "not applicable"


@dataclass(frozen=True)
class Long:
    steps: int = 1000
    width: float = 1.0
    quick: ClassVar[dict[str, Any]] = {"steps": 3}

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return gradient(classifier, query)


def test_long_methods_are_shortened_where_nothing_was_asked_for() -> None:
    assert hasten(Long()) == Long(steps=3)
    assert hasten(Long(steps=20, width=2.0)) == Long(steps=20, width=2.0)
    assert hasten(gradient) is gradient


def test_how_maps_are_compared() -> None:
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    other = maps.clone()
    other[0, 1, 1] = 3.0
    assert difference(maps, maps) == 0
    assert difference(other, maps) == pytest.approx(0.25)
    assert likeness(maps, maps) == pytest.approx(1)
    assert likeness(-maps, maps) == pytest.approx(0)  # -1 and, where both are constant, 1
    assert likeness(maps.flip(0), maps) == 0
