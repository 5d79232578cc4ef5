"""AttnLRP and CP-LRP: a slow second version that hands relevance down by the paper's equations, Zennit, and LXT."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.attention_relevance import AttentionAwareRelevance, AttnLrp, CpLrp
from an8flower.evaluate.explainers.attribution.attention_aware_rules import AttentionAware
from an8flower.evaluate.explaining.contract_networks import randomise_attention
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, wrap

MakeQuery = Callable[[Classifier], Query]
CLASSES = ("rose", "lily", "aster", "iris")
BOTH = [AttnLrp, CpLrp]
PLAIN = {"gamma_linear": 0.0, "gamma_conv": 0.0}


def tiny(seed: int = 0) -> Classifier:
    """A vision transformer of 2 x 2 patches and two blocks, in double precision."""
    network = VisionTransformer(8, 4, 2, 2, 8, 16, num_classes=4)
    source = torch.Generator().manual_seed(seed)
    for weights in network.parameters():
        weights.data.copy_(torch.randn(weights.shape, generator=source) * 0.5)
    return wrap(network.double(), CLASSES, 8, "encoder.ln").eval()


# The slow second version: relevance itself, handed down image by image, with contributions one by one.


def linear_rule(relevance: Tensor, values: Tensor, weight: Tensor, bias: Tensor, gamma: float) -> Tensor:
    """Contributions (T, J, I) of inputs and, last of them, of the bias: those of the output's sign count more."""
    parts = torch.cat([values[:, None] * weight, bias[None, :, None].expand(len(values), -1, 1)], 2)
    same_sign = parts * (parts.sign() == parts.sum(2, keepdim=True).sign())
    parts = parts + gamma * same_sign
    return (parts / parts.sum(2, keepdim=True) * relevance[:, :, None]).sum(1)[:, :-1]


def norm_rule(relevance: Tensor, values: Tensor, norm: nn.LayerNorm) -> Tensor:
    """The linear map (x - mean) * weight / deviation + bias, as a matrix for every token."""
    deviation = (values.var(1, unbiased=False) + norm.eps).sqrt()
    centre = torch.eye(values.shape[1], dtype=values.dtype) - 1 / values.shape[1]
    rows = [
        linear_rule(relevance[[token]], values[[token]], norm.weight[:, None] * centre / deviation[token], norm.bias, 0)
        for token in range(len(values))
    ]
    return torch.cat(rows)


def product_rule(relevance: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Of left (I, K) @ right (K, J): half of the relevance to either factor, in proportion to the products."""
    parts = left[:, :, None] * right[None]
    shares = parts / parts.sum(1, keepdim=True) * relevance[:, None] / 2
    return shares.sum(2), shares.sum(0)


def softmax_rule(relevance: Tensor, scores: Tensor) -> Tensor:
    """Achtibat et al., eq. 13: R_i = x_i (R_i' - s_i sum_j R_j')."""
    return scores * (relevance - scores.softmax(-1) * relevance.sum(-1, keepdim=True))


class SlowBlock:
    """One block of torchvision's vision transformer for one image."""

    def __init__(self, block: Any, x: Tensor) -> None:
        self.block, self.x, attention = block, x, block.self_attention
        self.normed = block.ln_1(x)
        parts = (self.normed @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, -1)
        self.q, self.k, self.v = ([*part.chunk(attention.num_heads, -1)] for part in parts)
        self.scores = [q @ k.T / q.shape[1] ** 0.5 for q, k in zip(self.q, self.k, strict=True)]
        self.mixed = torch.cat([s.softmax(-1) @ v for s, v in zip(self.scores, self.v, strict=True)], -1)
        self.attended = attention.out_proj(self.mixed)
        self.middle = self.attended + x
        self.normed2 = block.ln_2(self.middle)
        self.inner = block.mlp[0](self.normed2)
        self.active = block.mlp[1](self.inner)
        self.output = block.mlp[3](self.active) + self.middle

    def relevance(self, relevance: Tensor, method: AttentionAwareRelevance) -> Tensor:
        block, attention, gamma = self.block, self.block.self_attention, method.gamma_linear
        share = relevance / self.output
        read = linear_rule(share * (self.output - self.middle), self.active, *parameters(block.mlp[3]), gamma)
        read = linear_rule(read, self.normed2, *parameters(block.mlp[0]), gamma)
        relevance = share * self.middle + norm_rule(read, self.middle, block.ln_2)
        share = relevance / self.middle
        mixed = linear_rule(share * self.attended, self.mixed, *parameters(attention.out_proj), gamma)
        heads = []
        for part, *head in zip(mixed.chunk(len(self.q), -1), self.q, self.k, self.v, self.scores, strict=True):
            heads.append(self.head_relevance(part, *head, method=method))
        joined = torch.cat([part for parts in zip(*heads, strict=True) for part in parts], -1)
        joined = linear_rule(joined, self.normed, attention.in_proj_weight, attention.in_proj_bias, gamma)
        return share * self.x + norm_rule(joined, self.x, block.ln_1)

    def head_relevance(
        self, relevance: Tensor, q: Tensor, k: Tensor, v: Tensor, scores: Tensor, method: AttentionAwareRelevance
    ) -> tuple[Tensor, Tensor, Tensor]:
        """That of queries, keys and values."""
        of_weights, of_values = product_rule(relevance, scores.softmax(-1), v)
        if isinstance(method, CpLrp):  # the weights are constants
            return torch.zeros_like(q), torch.zeros_like(k), 2 * of_values
        of_queries, of_keys = product_rule(softmax_rule(of_weights, scores), q, k.T)
        return of_queries, of_keys.T, of_values


def parameters(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.weight, layer.bias


@torch.no_grad()
def slow_relevance(classifier: Classifier, image: Tensor, target: int, method: AttentionAwareRelevance) -> Tensor:
    """The relevance (3, H, W) of the pixels."""
    network: Any = classifier.network
    pixels = classifier.normalise(image[None])
    patches = network._process_input(pixels)
    x = (torch.cat([network.class_token, patches], 1) + network.encoder.pos_embedding)[0]
    start, blocks = x, []
    for block in network.encoder.layers:
        blocks.append(SlowBlock(block, x))
        x = blocks[-1].output
    normed = network.encoder.ln(x)
    relevance = torch.zeros_like(x)
    logits = network.heads(normed[:1])
    begin = F.one_hot(torch.tensor([target]), 4) * logits
    relevance[:1] = linear_rule(begin, normed[:1], *parameters(network.heads.head), method.gamma_linear)
    relevance[:1] = norm_rule(relevance[:1], x[:1], network.encoder.ln)
    for block in reversed(blocks):
        relevance = block.relevance(relevance, method)
    relevance = (relevance / start)[1:] * patches[0]
    weight = network.conv_proj.weight
    unfolded = F.unfold(pixels, 4, stride=4)[0].T
    shares = linear_rule(relevance, unfolded, weight.flatten(1), network.conv_proj.bias, method.gamma_conv)
    return F.fold(shares.T[None], 8, 4, stride=4)[0]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("gammas", [PLAIN, {"gamma_linear": 0.1, "gamma_conv": 0.25}, {"gamma_conv": 100.0}])
def test_relevance_equals_the_slow_version(query: MakeQuery, kind: Any, gammas: dict[str, float]) -> None:
    classifier = tiny()
    asked = Query(*(tensor[:2] for tensor in query(classifier)))
    method = kind(**gammas)
    maps = method.attribution(classifier, asked)
    rows = [slow_relevance(classifier, image, int(target), method) for image, target in zip(*asked[:2], strict=True)]
    torch.testing.assert_close(maps, torch.stack(rows), rtol=1e-6, atol=1e-9 * float(maps.abs().max()))
    assert maps.std() > 0


@pytest.mark.parametrize("gamma", [0.25, 100.0])
def test_the_gamma_rule_is_zennits(gamma: float) -> None:
    from zennit.rules import Gamma

    source = torch.Generator().manual_seed(0)
    for layer, shape in ((nn.Linear(6, 5), (7, 6)), (nn.Conv2d(4, 6, 3, 2, 1, groups=2), (3, 4, 8, 8))):
        values = torch.randn(shape, generator=source).double().requires_grad_()
        layer = layer.double().requires_grad_(False)
        with AttentionAware(True, gamma, gamma):
            output = layer(values)
        relevance = torch.randn(output.shape, generator=source).double()
        torch.testing.assert_close(output, layer(values))
        (ours,) = torch.autograd.grad(output, values, relevance / output.detach())
        hook = Gamma(gamma=gamma, stabilizer=1e-12)
        handles = hook.register(layer)
        (theirs,) = torch.autograd.grad(layer(values), values, relevance)
        handles.remove()
        torch.testing.assert_close(ours * values, theirs)


class Rectified(nn.Module):
    """Convolution, ReLU, mean, linear: no attention and no norm."""

    def __init__(self, in_place: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3, 1, 1, bias=bias)
        self.relu = nn.ReLU(in_place)
        self.linear = nn.Linear(6, 4, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.relu(self.features(images)).mean((2, 3)))


def rectified(**options: Any) -> Classifier:
    torch.manual_seed(0)
    return wrap(Rectified(**options).double(), CLASSES, 8, "features").eval()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("in_place", [False, True])
def test_without_attention_and_gamma_it_is_gradient_x_input(query: MakeQuery, kind: Any, in_place: bool) -> None:
    classifier = rectified(in_place=in_place)
    asked = query(classifier)
    pixels = classifier.normalise(asked.images).requires_grad_()
    logits = classifier.network(pixels).gather(1, asked.targets[:, None])
    expected = pixels * torch.autograd.grad(logits.sum(), pixels)[0]
    torch.testing.assert_close(kind(**PLAIN).attribution(classifier, asked), expected.detach())


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_without_biases_relevance_adds_up_to_the_logit(query: MakeQuery, gamma: float) -> None:
    """In the transformer also without positions and class token; attention is a constant, hence CP-LRP alone."""
    vit = tiny()
    for name, weights in vit.network.named_parameters():
        if "bias" in name or name.endswith(("pos_embedding", "class_token")):
            weights.data.zero_()
    for classifier in (rectified(bias=False), vit):
        asked = query(classifier)
        total = CpLrp(gamma_linear=gamma, gamma_conv=gamma).attribution(classifier, asked).sum((1, 2, 3))
        expected = classifier.network(classifier.normalise(asked.images)).gather(1, asked.targets[:, None])[:, 0]
        torch.testing.assert_close(total, expected.detach(), rtol=1e-6, atol=1e-9)


def test_values_forwards_stay_what_they_are(query: MakeQuery) -> None:
    classifier = tiny().requires_grad_(False)
    images = classifier.normalise(query(classifier).images).requires_grad_()
    for through_softmax in (True, False):
        with AttentionAware(through_softmax, 0.1, 0.1):
            logits = classifier.network(images)
        torch.testing.assert_close(logits, classifier.network(images))


@pytest.fixture
def unpatched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LXT replaces the methods of torch's own classes; they come back behind the test."""
    for kind in (nn.GELU, nn.LayerNorm, nn.MultiheadAttention):
        monkeypatch.setattr(kind, "forward", kind.forward)
    yield
    for kind in (nn.GELU, nn.LayerNorm, nn.MultiheadAttention):
        if "original_forward" in vars(kind):
            del kind.original_forward


@pytest.mark.usefixtures("unpatched")
def test_lxt_on_cplrp(query: MakeQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its gamma rule does not reach the projections of attention, which are no modules: compared without it."""
    lxt = pytest.importorskip("lxt")
    # In the place of the package of language models, which only some versions of `transformers` can import.
    models = ModuleType("lxt.efficient.models")
    models.__path__ = [f"{folder}/efficient/models" for folder in lxt.__path__]
    models.get_default_map = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, models.__name__, models)
    from lxt.efficient.core import monkey_patch
    from lxt.efficient.models.vit_torch import cp_LRP
    from torchvision.models import vision_transformer

    classifier = tiny()
    asked = query(classifier)
    ours = CpLrp(**PLAIN).attribution(classifier, asked)
    monkey_patch(vision_transformer, patch_map=cp_LRP)
    pixels = classifier.normalise(asked.images).requires_grad_()
    logits = classifier.network(pixels).gather(1, asked.targets[:, None])
    theirs = pixels * torch.autograd.grad(logits.sum(), pixels)[0]
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-6, atol=1e-8)


# Networks of other kinds.


@pytest.mark.parametrize("kind", BOTH)
def test_swin_has_relevance(query: MakeQuery, kind: Any) -> None:
    """Windows, their masks and biases, merging: operations with rules. Attention is a constant to CP-LRP alone."""
    network = randomise_attention(SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=4))
    classifier = wrap(network, CLASSES, 32, "permute").eval()
    assert explain(classifier, kind(), query(classifier)).maps.std() > 0


def test_attention_of_swin_is_a_constant_to_cplrp(query: MakeQuery) -> None:
    """It calls its own softmax: without biases, relevance adds up to the logit only if none gets lost there."""
    network = randomise_attention(SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=4)).double()
    for name, weights in network.named_parameters():
        if name.endswith("bias"):
            weights.data.zero_()
    classifier = wrap(network, CLASSES, 32, "permute").eval()
    asked = query(classifier)
    logits = network(classifier.normalise(asked.images)).gather(1, asked.targets[:, None])[:, 0].detach()
    totals = [kind(**PLAIN).attribution(classifier, asked).sum((1, 2, 3)) for kind in (CpLrp, AttnLrp)]
    torch.testing.assert_close(totals[0], logits)
    assert not torch.allclose(totals[1], logits, rtol=1e-3)


class Odd(nn.Module):
    """A convolution, then an operation."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.features, self.operation = nn.Conv2d(3, 4, 3, 1, 1), operation

    def forward(self, images: Tensor) -> Tensor:
        return self.operation(self.features(images)).mean((2, 3))


WITHOUT_RULE: list[tuple[Callable[[Tensor], Tensor], str]] = [
    (lambda x: x * x.sigmoid(), "Sigmoid"),
    (lambda x: x / x.abs().sum(1, keepdim=True), "a quotient"),
    (lambda x: torch.einsum("bkij,bkij->bkij", x, x), "einsum"),
    (lambda x: F.normalize(x, dim=1), "no rule for"),
    (lambda x: F.batch_norm(x, None, None, training=True), "batch norm without running statistics"),
    (lambda x: x.square(), "Pow"),
    (lambda x: F.group_norm(x, 2), "NativeGroupNorm"),
    (lambda x: torch.maximum(x, x.roll(1, 2)), "maximum"),
]


@pytest.mark.parametrize(("operation", "says"), WITHOUT_RULE)
def test_operations_without_a_rule(operation: Callable[[Tensor], Tensor], says: str, query: MakeQuery) -> None:
    classifier = wrap(Odd(operation), CLASSES, 8, "features").eval()
    with pytest.raises(NotApplicable, match=says):
        explain(classifier, AttnLrp(), query(classifier))


WITH_RULE: list[Callable[[Tensor], Tensor]] = [
    lambda x: F.silu(x, inplace=True) + F.leaky_relu(x, 0.2, True),
    lambda x: torch.cat([x[:, :2], 2 - x[:, 2:] / 3], 1),
    lambda x: F.max_pool2d(F.hardswish(x), 2) * 0.5,
    lambda x: F.batch_norm(x, torch.zeros(4), torch.ones(4)),
    lambda x: F.layer_norm(x, x.shape[1:]),
    lambda x: F.gelu(input=x, approximate="tanh").permute(0, 2, 3, 1).permute(0, 3, 1, 2),
    lambda x: x.tanh().mul(x),
]


@pytest.mark.parametrize("operation", WITH_RULE)
def test_operations_with_a_rule(operation: Callable[[Tensor], Tensor], query: MakeQuery) -> None:
    classifier = wrap(Odd(operation), CLASSES, 8, "features").eval()
    assert explain(classifier, AttnLrp(), query(classifier)).maps.any()


def test_a_gate_shares_its_relevance(query: MakeQuery) -> None:
    """What x * tanh(x) hands down is all of the relevance: half through either factor, tanh by identity."""
    gated, plain = (
        wrap(Odd(operation), CLASSES, 8, "features").eval() for operation in (lambda x: x.tanh() * x, lambda x: x)
    )
    plain.network.load_state_dict(gated.network.state_dict())
    asked = query(gated)
    pixels = gated.normalise(asked.images).requires_grad_()
    x = gated.network.features(pixels)  # type: ignore[operator]
    relevance = (x.tanh() * x / x.shape[2:].numel()).detach() * F.one_hot(asked.targets, 4)[:, :, None, None]
    (gradient,) = torch.autograd.grad(x, pixels, relevance / x.detach())
    found = AttnLrp(**PLAIN).attribution(gated, asked)
    torch.testing.assert_close(found, (pixels * gradient).detach(), rtol=1e-3, atol=1e-6)


def test_attention_that_timm_computes_in_steps(query: MakeQuery) -> None:
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 2, "num_heads": 2, "num_classes": 4}
    network = randomise_attention(timm.models.vision_transformer.VisionTransformer(**sizes)).double()
    classifier = wrap(network, CLASSES, 8, "blocks.1.norm1").eval()
    asked = query(classifier)
    fused = [kind().attribution(classifier, asked) for kind in BOTH]
    for block in network.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
    for kind, expected in zip(BOTH, fused, strict=True):
        torch.testing.assert_close(kind().attribution(classifier, asked), expected)
    assert not torch.allclose(*fused)


# What they cost, and what they leave behind.


@pytest.mark.parametrize(("gammas", "passes"), [(PLAIN, 5), ({}, 10)])
def test_what_they_cost(query: MakeQuery, gammas: dict[str, float], passes: int) -> None:
    classifier = tiny().float()
    cost = explain(classifier, AttnLrp(**gammas), query(classifier)).cost
    assert (cost.forwards, cost.backwards) == (passes, passes)


@pytest.mark.parametrize("options", [{"gamma_linear": -0.1}, {"gamma_conv": float("inf")}])
def test_bad_parameters(options: dict[str, float]) -> None:
    with pytest.raises(WrongUsage, match="attnlrp: gamma_.* expected 0 or a positive number"):
        AttnLrp(**options)


def test_a_pass_that_raises_leaves_the_network_as_it_was(query: MakeQuery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the guard of `explain`: flags are put back by the method itself."""
    classifier = tiny().float()
    asked, network = query(classifier), classifier.network
    next(network.parameters()).requires_grad_(False)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    with monkeypatch.context() as patch:
        patch.setattr(network.encoder.layers[-1].mlp, "forward", lambda tokens: 1 / 0)  # type: ignore[union-attr]
        with pytest.raises(ZeroDivisionError):
            AttnLrp()(classifier, asked)
    assert flags == [parameter.requires_grad for parameter in network.parameters()]
    AttnLrp()(classifier, asked)
    assert flags == [parameter.requires_grad for parameter in network.parameters()]
    assert all(parameter.grad is None for parameter in network.parameters())
