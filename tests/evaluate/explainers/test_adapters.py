"""Methods of other toolkits by one line: what is read, what is refused, and that the toolkit's own numbers come."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.cam import GradCam, LayerCam
from an8flower.evaluate.explainers.toolkits.adapters import parse_foreign
from an8flower.evaluate.explainers.toolkits.foreign import Toolkit, mute
from an8flower.evaluate.explaining.contract import CHECKS, NETWORKS, Trial, judge, likeness
from an8flower.evaluate.explaining.contract_networks import CLASSES, randomise_weights
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier, wrap

captum = pytest.importorskip("captum.attr")
pytest.importorskip("pytorch_grad_cam")
pytest.importorskip("zennit")
pytest.importorskip("torchcam")
MakeQuery = Callable[[Classifier], Query]


@pytest.fixture
def plain() -> Classifier:
    """A network that toolkits understand without help: every operation is a module of its own, none in place."""
    layers = (nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1), nn.ReLU())
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, len(CLASSES)))
    return wrap(randomise_weights(network), CLASSES, 16, "3").eval()


def maps_of(text: str, classifier: Classifier, query: Query) -> Tensor:
    return explain(classifier, parse_method(text).explainer, query).maps


# What is typed.


def test_a_line_is_a_method() -> None:
    method = parse_method("captum:Occlusion(strides=(3, 4,4), sliding_window_shapes=(3,8,8))")
    assert method.name == "captum:Occlusion"
    assert repr(method.explainer) == (
        "Captum(kind='Occlusion', arguments='sliding_window_shapes=(3, 8, 8), strides=(3, 4, 4)', "
        "pooling='sum', layer=None)"
    )
    assert method.explainer == parse_foreign("captum:Occlusion(sliding_window_shapes=(3,8,8),strides=(3,4,4))")
    assert parse_foreign("captum:Saliency(pooling='abs_max')").pooling == "abs_max"
    assert parse_foreign("captum:Saliency") == parse_foreign("captum:Saliency()")
    assert not parse_method("grad_cam:EigenCAM").class_sensitive


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("captum:Salency", 'unknown class of captum "Salency"; did you mean "Saliency"?'),
        ("grad_cam:GradCam", 'unknown class of grad_cam "GradCam"; did you mean "GradCAM"?'),
        ("torchcam:LayerCam", 'unknown class of torchcam "LayerCam"; did you mean "LayerCAM"?'),
        ("torchcam:SSCAM(num_sample=3)", 'unknown argument "num_sample"; did you mean "num_samples"?'),
        ("torchcam:GradCAM(input_shape=3)", 'unknown argument "input_shape"'),
        ("torchcam:FinerCAM(base_method='GradCam')", 'did you mean "GradCAM"?'),
        ("torchcam:RefineCAM", 'unknown class of torchcam "RefineCAM"'),
        ("zennit:EpsilonPlusFlatt", 'did you mean "EpsilonPlusFlat"?'),
        ("captum:IntegratedGradients(n_step=3)", 'unknown argument "n_step"; did you mean "n_steps"?'),
        ("captum:IntegratedGradients(target=3)", 'unknown argument "target"'),
        ("zennit:EpsilonPlus(eps=1)", 'unknown argument "eps"; did you mean "epsilon"?'),
        ("grad_cam:GradCAM(model=3)", 'unknown argument "model"'),
        ("captum:Saliency(pooling='max')", 'unknown pooling "max"'),
        ("captum:Occlusion", "captum:Occlusion needs sliding_window_shapes; write captum:Occlusion(sliding_window_sha"),
        ("captum:NoiseTunnel(attribution_method='Salency')", 'did you mean "Saliency"?'),
        ("grad_cam:FinerCAM(base_method='GradCam')", 'did you mean "GradCAM"?'),
        ("zennit:EpsilonPlus(layer='3')", "zennit:EpsilonPlus looks at no layer"),
        ("captum:Saliency(", "cannot be read; write Name(argument=VALUE, ...)"),
        ("captum:", "cannot be read"),
        ("captum:Saliency(3)", "cannot be read"),
        ("captum:Saliency(**{})", "cannot be read"),
        ("captum:Saliency(abs=open('x'))", "cannot be read"),
        ("captum:a.b(c=1)", "cannot be read"),
        ("captum:__import__('os')", "cannot be read"),
    ],
)
def test_what_cannot_be_understood(text: str, says: str) -> None:
    with pytest.raises(WrongUsage, match=re.escape(says)):
        parse_method(text)


def test_a_toolkit_that_is_not_installed() -> None:
    with pytest.raises(WrongUsage, match=r"nothing cannot be imported .*; install it with `pip install no-thing`"):
        Toolkit("nothing", "no-thing", "no_such_toolkit").load()


# The toolkit's own numbers.


def normalising(classifier: Classifier) -> nn.Module:
    """What a user of a toolkit would hand it."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = classifier.network

        def forward(self, images: Tensor) -> Tensor:
            return self.network(classifier.normalise(images))

    return Whole()


@pytest.mark.parametrize(
    ("text", "direct"),
    [
        (
            "captum:Occlusion(sliding_window_shapes=(3,8,8),strides=(3,4,4))",
            lambda model, x, y: captum.Occlusion(model).attribute(x, (3, 8, 8), (3, 4, 4), target=y),
        ),
        (
            "captum:IntegratedGradients(n_steps=20)",
            lambda model, x, y: captum.IntegratedGradients(model).attribute(x, target=y, n_steps=20),
        ),
        ("captum:DeepLift", lambda model, x, y: captum.DeepLift(model).attribute(x, target=y)),
        (
            "captum:IntegratedGradients(multiply_by_inputs=False,baselines=0.5)",
            lambda model, x, y: captum.IntegratedGradients(model, False).attribute(x, 0.5, target=y),
        ),
    ],
)
def test_captum(
    plain: Classifier, query: MakeQuery, text: str, direct: Callable[[nn.Module, Tensor, Tensor], Tensor]
) -> None:
    asked = query(plain)
    with mute():
        expected = direct(normalising(plain), asked.images.clone(), asked.targets).sum(1).detach()
    torch.testing.assert_close(maps_of(text, plain, asked), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("composite", ["EpsilonPlusFlat", "EpsilonAlpha2Beta1", "EpsilonPlus", "GuidedBackprop"])
def test_zennit(plain: Classifier, query: MakeQuery, composite: str) -> None:
    from zennit import attribution, composites

    asked = query(plain)
    images = plain.normalise(asked.images)
    with attribution.Gradient(plain.network, getattr(composites, composite)()) as attributor:
        expected = attributor(images, torch.eye(len(CLASSES))[asked.targets])[1].sum(1)
    torch.testing.assert_close(maps_of(f"zennit:{composite}", plain, asked), expected, rtol=1e-4, atol=1e-5)


def test_relevance_is_kept_through_sums_and_means(query: MakeQuery) -> None:
    """Residual sums, functional pooling and batch norm, which a toolkit does not see without help."""
    classifier = NETWORKS["reuse"]().eval()
    for module in classifier.modules():
        if getattr(module, "bias", None) is not None and not isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.running_mean)
            nn.init.zeros_(module.bias)
    asked = query(classifier)
    logits = classifier(asked.images).gather(1, asked.targets[:, None])[:, 0]
    total = maps_of("zennit:EpsilonPlus", classifier, asked).sum((1, 2))
    torch.testing.assert_close(total, torch.ones(5), rtol=1e-3, atol=1e-3)
    total = maps_of("captum:LRP", classifier, asked).sum((1, 2))
    torch.testing.assert_close(total, logits, rtol=1e-3, atol=1e-3)


def test_grad_cam(plain: Classifier, query: MakeQuery) -> None:
    """Its maps are ours but for its scaling to [0, 1] before they are enlarged."""
    asked = query(plain)
    for name, own in (("GradCAM", GradCam()), ("LayerCAM", LayerCam())):
        theirs = maps_of(f"grad_cam:{name}", plain, asked)
        assert theirs.max() <= 1
        assert likeness(theirs, explain(plain, own, asked).maps) > 0.99


@pytest.mark.parametrize(
    "name", ["CAM", "GradCAM", "GradCAMpp", "XGradCAM", "LayerCAM", "ScoreCAM", "ISCAM", "FinerCAM"]
)
def test_torchcam(plain: Classifier, query: MakeQuery, name: str) -> None:
    """The maps of the toolkit as a user of it gets them, enlarged; row by row, and in one batch."""
    from torchcam import methods

    asked = query(plain)
    model = normalising(plain)
    with mute(), getattr(methods, name)(model, model.network[3], input_shape=(3, 16, 16)) as cam:
        images = asked.images.clone().requires_grad_()
        (small,) = cam(asked.targets.tolist(), model(images))
    expected = nn.functional.interpolate(small[:, None].detach(), (16, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps_of(f"torchcam:{name}", plain, asked), expected, rtol=1e-4, atol=1e-4)


def test_torchcam_and_ours(plain: Classifier, query: MakeQuery) -> None:
    asked = query(plain)
    for name, method in (("GradCAM", GradCam()), ("LayerCAM", LayerCam())):
        theirs = maps_of(f"torchcam:{name}(normalized=False)", plain, asked)
        torch.testing.assert_close(theirs, explain(plain, method, asked).maps, rtol=1e-3, atol=1e-5)
    with pytest.raises(WrongUsage, match='unknown layer "7"'):
        maps_of("torchcam:GradCAM(layer='7')", plain, asked)


def test_torchcam_says_what_it_cannot_look_at(query: MakeQuery) -> None:
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = nn.Sequential(*layers, nn.Linear(4, 4), nn.Linear(4, len(CLASSES)))
    classifier = wrap(randomise_weights(network), CLASSES, 16, "1").eval()
    with pytest.raises(Refusal, match=r"torchcam:CAM cannot look at Sequential \(.*fully connected"):
        maps_of("torchcam:CAM", classifier, query(classifier))


def test_a_layer_by_name(plain: Classifier, query: MakeQuery) -> None:
    asked = query(plain)
    there = maps_of("captum:LayerGradCam(layer='1')", plain, asked)
    expected = captum.LayerGradCam(normalising(plain), plain.network[1]).attribute(asked.images, asked.targets)
    expected = nn.functional.interpolate(expected, (16, 16), mode="bilinear")[:, 0]
    torch.testing.assert_close(there, expected.detach(), rtol=1e-4, atol=1e-6)
    with pytest.raises(WrongUsage, match='unknown layer "7"'):
        maps_of("grad_cam:GradCAM(layer='7')", plain, asked)
    with pytest.raises(Refusal, match="has no spatial extent"):
        maps_of("grad_cam:GradCAM(layer='4')", plain, asked)


def test_tokens_are_maps_to_toolkits(query: MakeQuery) -> None:
    """Grad-CAM of a token model, by both toolkits, on the grid of its patches."""
    classifier = NETWORKS["vit"]().eval()
    asked = query(classifier)
    own = explain(classifier, GradCam(), asked).maps
    assert likeness(maps_of("captum:LayerGradCam(relu_attributions=True)", classifier, asked), own) > 0.999
    assert likeness(maps_of("grad_cam:GradCAM", classifier, asked), own) > 0.99


# What holds for all methods.

SOME = [
    "captum:Occlusion(sliding_window_shapes=(3,8,8),strides=(3,8,8))",
    "captum:GradientShap(n_samples=2)",
    "captum:KernelShap(n_samples=3)",
    "captum:NoiseTunnel(attribution_method='Saliency',nt_samples=2)",
    "captum:LayerLRP",
    "captum:GuidedGradCam",
    "captum:LayerConductance(n_steps=3)",
    "grad_cam:AblationCAM(batch_size=5)",
    "grad_cam:GradCAMPlusPlus",
    "grad_cam:ShapleyCAM",
    "grad_cam:RandomCAM",
    "torchcam:GradCAMpp",
    "torchcam:SSCAM(num_samples=2)",
    "torchcam:SmoothGradCAMpp(num_samples=2)",
    "zennit:EpsilonGammaBox",
]
TRIALS = {
    (text, network): Trial(parse_foreign(text), network, parse_foreign(text).class_sensitive)
    for text in SOME
    for network in NETWORKS
}


# The adapter is one for all classes of a toolkit: on tokens, one class for each toolkit is tried in every run.
ON_TOKENS = {"captum:LayerConductance(n_steps=3)", "grad_cam:GradCAMPlusPlus", "zennit:EpsilonGammaBox"}
DRAWING = {"torchcam:SSCAM(num_samples=2)", "torchcam:SmoothGradCAMpp(num_samples=2)"}  # as some of captum's do


def is_rare(text: str, network: str) -> bool:
    """Whether a trial runs with the slow tests alone."""
    return text in DRAWING or (network == "vit" and text not in ON_TOKENS)


@pytest.mark.parametrize(
    ("text", "network"),
    [pytest.param(text, network, marks=[pytest.mark.slow] * is_rare(text, network)) for text, network in TRIALS],
)
def test_they_keep_the_contract(text: str, network: str) -> None:
    try:
        CHECKS[0].judge(TRIALS[text, network])
    except NotApplicable as reason:
        pytest.skip(str(reason))
    for check in CHECKS[1:]:
        if check.name != "cuda":
            with suppress(NotApplicable):
                check.judge(TRIALS[text, network])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("text", SOME)
def test_they_keep_the_contract_on_a_gpu(text: str) -> None:
    (check,) = (check for check in CHECKS if check.name == "cuda")
    for network in NETWORKS:
        with suppress(NotApplicable):
            check.judge(TRIALS[text, network])


@pytest.mark.parametrize("text", SOME)
def test_each_applies_to_a_cnn(text: str) -> None:
    assert judge(TRIALS[text, "reuse"], CHECKS[0]).status == "ok"


@pytest.mark.parametrize(
    ("text", "forwards", "backwards"),
    [
        ("captum:Saliency", 1, 1),
        ("captum:Occlusion(sliding_window_shapes=(3,8,8),strides=(3,8,8))", 1 + 4, 0),
        ("captum:IntegratedGradients(n_steps=20)", 20, 20),
        ("captum:LayerGradCam", 1, 1),
        ("grad_cam:GradCAM", 1, 1),
        ("grad_cam:ScoreCAM", 1 + 6, 0),
        ("grad_cam:AblationCAM", 2 + 6, 0),
        ("torchcam:LayerCAM", 1, 1),
        ("torchcam:ScoreCAM", 2 + 6, 0),
        ("zennit:EpsilonPlus", 1, 1),
    ],
)
def test_costs(plain: Classifier, query: MakeQuery, text: str, forwards: int, backwards: int) -> None:
    cost = explain(plain, parse_foreign(text), query(plain)).cost
    assert cost.forwards / 5 == pytest.approx(forwards)
    assert cost.backwards / 5 == pytest.approx(backwards)


def test_a_network_that_cannot_be_traced(make: Callable[[str], Classifier], query: MakeQuery) -> None:
    classifier = make("untraceable")
    asked = query(classifier)
    assert maps_of("captum:Saliency", classifier, asked).any()
    assert maps_of("grad_cam:GradCAM", classifier, asked).any()
    with pytest.raises(NotApplicable, match="cannot be traced"):
        maps_of("captum:DeepLift", classifier, asked)
