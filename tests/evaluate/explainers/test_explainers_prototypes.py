"""The maps of networks with prototypes: closed forms, any kind of such a network, and what does not apply."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.prototypes import OnePrototype, PrototypeEvidence, count_prototypes
from an8flower.evaluate.explainers.ranges import resolve_ranges
from an8flower.evaluate.explaining.applicability import Applicability, Pictures, try_method
from an8flower.evaluate.explaining.contract import make_query
from an8flower.evaluate.explaining.contract_networks import build_prototypes
from an8flower.evaluate.explaining.methods import parse_method, parse_methods
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.prototypes.network import PrototypeNetwork
from an8flower.evaluate.models.streamlined import streamline


class ColourNet(PrototypeNetwork):
    """Its prototypes are red, green and blue, found in each pixel; the classes are warm, with red, and cold."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 3, 1, bias=False)
        self.table = nn.Parameter(torch.tensor([[2.0, 0.5, -1.0], [-3.0, 0.0, 1.0]]))
        with torch.no_grad():
            self.backbone.weight.copy_(torch.eye(3)[:, :, None, None])

    @property
    def weights(self) -> Tensor:
        return self.table

    def locate(self, images: Tensor) -> Tensor:
        found: Tensor = self.backbone(images)
        return found.clamp(min=0)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return wrap(ColourNet(), ("warm", "cold"), 6, "backbone", (0, 0, 0), (1, 1, 1)).eval()


def query() -> Query:
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(4))
    return Query(images, torch.tensor([0, 1]), torch.tensor([1, 2]))


def test_the_evidence_is_the_weighted_sum_of_where_prototypes_are(classifier: Classifier) -> None:
    images = query().images
    warm, cold = 2 * images[0, 0] + 0.5 * images[0, 1], images[1, 2]
    maps = PrototypeEvidence()(classifier, query())
    assert torch.allclose(maps, torch.stack((warm, cold)))
    maps = PrototypeEvidence(against=True)(classifier, query())
    assert torch.allclose(maps, torch.stack((warm - images[0, 2], cold - 3 * images[1, 0])))
    assert PrototypeEvidence().map_grid(classifier, query()) == (6, 6)


def test_one_prototype_is_where_it_is_found(classifier: Classifier) -> None:
    for k in (0, 2, -1):
        assert torch.allclose(OnePrototype(k)(classifier, query()), query().images[:, k])
    with pytest.raises(WrongUsage, match=r"k is 3; expected -3 to 2, the prototypes of ColourNet"):
        OnePrototype(3)(classifier, query())
    assert count_prototypes(classifier) == 3
    assert resolve_ranges(OnePrototype, classifier)["k"].ends == (0, 2)


def test_a_map_costs_one_pass(classifier: Classifier) -> None:
    for explainer in (PrototypeEvidence(), OnePrototype(1)):
        with classifier.counting() as cost:
            explainer(classifier, query())
        assert (cost.forwards, cost.backwards) == (2, 0)


def test_other_networks_have_no_prototypes() -> None:
    plain = build("flowernet", ("a", "b"), 16, 0).eval()
    images = Query(torch.rand(1, 3, 16, 16), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(NotApplicable, match=r"prototypes needs a network that looks for prototypes, and flowernet is"):
        PrototypeEvidence()(plain, images)
    with pytest.raises(NotApplicable, match=r"prototype needs a network that looks for prototypes"):
        OnePrototype().map_grid(plain, images)
    assert count_prototypes(plain) == 0


ATTENTION = ["attention_flow", "ca_attention", "generic_attention", "legrad", "raw_attention", "rollout", "tibav"]
RELEVANCE = ["attnlrp", "cplrp", "deep_taylor", "deeplift", "excitation_backprop", "lrp"]
RECTIFIED = ["deconvnet", "guided_backprop", "guided_gradcam", "guided_gradcam_pp", "vebi"]


@pytest.fixture(scope="module")
def protopnet() -> Classifier:
    return build_prototypes().eval()


@pytest.mark.parametrize("name", ["gradcam", "scorecam", "ablationcam", "gradient", "integrated_gradients:steps=3"])
def test_other_methods_run_on_such_a_network(protopnet: Classifier, name: str) -> None:
    assert _try(protopnet, name).status == "runs"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lrp", "lrp has no rule for squared_distances and truediv and log and amax in ProtoPNet; use gradcam"),
        ("guided_backprop", "guided_backprop needs ReLUs; ProtoPNet uses sigmoid; use gradient"),
        ("cam", 'cam: behind "backbone", ProtoPNet does not go on with the mean and one linear layer; use gradcam'),
    ],
)
def test_methods_that_do_not_apply_say_why(protopnet: Classifier, name: str, reason: str) -> None:
    result = _try(protopnet, name)
    assert (result.status, result.reason) == ("does not apply", reason)


@pytest.mark.slow
def test_every_method_runs_or_says_why_not(protopnet: Classifier) -> None:
    results = {method.name: try_method(method, protopnet, _pictures(), "") for method in parse_methods(["all"])}
    assert {name for name, result in results.items() if result.status == "fails"} == set()
    skipped = {name for name, result in results.items() if result.status == "does not apply"}
    assert skipped == {"cam", *ATTENTION, *RELEVANCE, *RECTIFIED} - {"vebi"}  # which is not tried without rows


def test_copies_of_the_network_give_the_same(protopnet: Classifier) -> None:
    """The folded copy of methods that ask hundreds of times, and the halves at the layer of CAMs."""
    images = _pictures().query.images
    with torch.no_grad():
        logits = protopnet(images)
        assert torch.allclose(streamline(protopnet)(images), logits, atol=1e-4)
        assert torch.allclose(protopnet.tail(protopnet.head(images)), logits, atol=1e-4)


def _pictures() -> Pictures:
    return Pictures(make_query(2))


def _try(classifier: Classifier, name: str) -> Applicability:
    return try_method(parse_method(name), classifier, _pictures(), "")
