"""Explainers that read attention, against closed forms and slow second versions.

No library that could be asked implements TIBAV by its rules (captum has none), nor rollout without vit-explain's slip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Explainer, Query
from an8flower.evaluate.explainers.attention import (
    AttentionFlow,
    RawAttention,
    Rollout,
    Tibav,
    add_residual,
    attention_of,
    multiply_blocks,
    normalise_rows,
)
from an8flower.evaluate.explainers.attribution.attention_flow import flows
from an8flower.evaluate.explainers.attribution.transformer_relevance import RelevanceAttending, relevance_of_attention
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.networks.attention import Attending

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]
ALL = [RawAttention(), Rollout(), AttentionFlow(), Tibav()]
CLASSES = ("rose", "lily", "aster", "iris")

# The reference's example: two blocks, three tokens.
FIRST = torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
SECOND = torch.tensor([[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1]])


def tiny(network: nn.Module | None = None, seed: int = 0, **options: Any) -> Classifier:
    """A vision transformer of 2 x 2 patches, three blocks of two heads, with weights that let everything matter."""
    network = network or VisionTransformer(8, 4, 3, 2, 8, 16, num_classes=4, **options)
    source = torch.Generator().manual_seed(seed)
    for weights in network.parameters():
        weights.data.copy_(torch.randn(weights.shape, generator=source) * 0.5)
    return wrap(network, CLASSES, 8, "encoder.ln").eval()


def upsample(grid: Tensor, size: int) -> Tensor:
    return F.interpolate(grid[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def asked_of_torch(classifier: Classifier, images: Tensor) -> list[Tensor]:
    """The attention of every block, as nn.MultiheadAttention itself returns it."""
    found = []
    network = classifier.network
    tokens = network._process_input(classifier.normalise(images))
    tokens = torch.cat([network.class_token.expand(len(images), -1, -1), tokens], 1) + network.encoder.pos_embedding
    with torch.no_grad():
        for block in network.encoder.layers:
            normed = block.ln_1(tokens)
            found.append(block.self_attention(normed, normed, normed, average_attn_weights=False)[1])
            tokens = block(tokens)
    return found


# Recording.


def test_recorded_attention_is_that_of_torch(make: Make, query: MakeQuery) -> None:
    classifier = make("vit").eval()
    images = query(classifier).images
    found, expected = attention_of(classifier, images), asked_of_torch(classifier, images)
    assert [each.shape for each in found] == [(5, 4, 197, 197)] * 4
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each, other)


@pytest.mark.parametrize("grad", [False, True])
def test_logits_stay_what_they_are(make: Make, query: MakeQuery, grad: bool) -> None:
    classifier = make("vit").eval()
    images = query(classifier).images
    with torch.set_grad_enabled(grad), Attending() as attending:
        logits = classifier(images)
    torch.testing.assert_close(logits, classifier(images), rtol=1e-4, atol=1e-4)
    assert all(each.requires_grad == grad for each in attending.weights)


BOOLEAN = torch.tensor([[True, False, False], [True, True, False], [False, True, True]])
MULTI_HEADS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"batch_first": True}, {"average_attn_weights": False}),
    ({"bias": False}, {"need_weights": False}),
    ({"kdim": 4, "vdim": 4}, {}),
    ({}, {"attn_mask": ~BOOLEAN}),
    ({}, {"attn_mask": torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(0))}),
    ({}, {"attn_mask": torch.ones(3, 3).triu(1).bool(), "is_causal": True, "need_weights": False}),
]


@pytest.mark.parametrize(("options", "call"), MULTI_HEADS)
def test_multi_head_attention_in_steps(options: dict[str, Any], call: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(4, 2, **options).eval()
    tokens = torch.randn(4, 3, 4) if options.get("batch_first") else torch.randn(3, 4, 4)
    with torch.no_grad():
        for given in ((tokens, tokens, tokens), (tokens, tokens + 1, tokens * 2)):
            expected = module(*given, **call)
            with Attending() as attending:
                found = module(*given, **call)
            torch.testing.assert_close(found, expected)
            assert len(attending.weights) == 1


@pytest.mark.parametrize(
    "call", [{}, {"scale": 0.3}, {"is_causal": True}, {"attn_mask": BOOLEAN}, {"attn_mask": BOOLEAN.float()}]
)
def test_attention_in_steps(call: dict[str, Any]) -> None:
    query, key, value = torch.randn(3, 2, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    with Attending() as attending:
        found = F.scaled_dot_product_attention(query, key, value, **call)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(query, key, value, **call))
    torch.testing.assert_close(found, attending.weights[0] @ value)


@pytest.mark.parametrize(
    ("options", "call", "says"),
    [
        ({"add_bias_kv": True}, {}, "with bias_k and bias_v cannot be read"),
        ({"add_zero_attn": True}, {}, "with add_zero_attn"),
        ({}, {"key_padding_mask": torch.zeros(4, 3, dtype=torch.bool)}, "with key_padding_mask"),
    ],
)
def test_multi_head_attention_that_is_refused(options: dict[str, Any], call: dict[str, Any], says: str) -> None:
    module, tokens = nn.MultiheadAttention(4, 2, **options).eval(), torch.randn(3, 4, 4)
    with Attending(), pytest.raises(NotApplicable, match=says):
        module(tokens, tokens, tokens, **call)


@pytest.mark.parametrize(("keys", "dropout"), [(3, 0.5), (2, 0.0)])
def test_attention_that_is_refused(keys: int, dropout: float) -> None:
    query, key = torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, keys, 2)
    with Attending(), pytest.raises(NotApplicable, match=f"to \\(1, 1, {keys}, 2\\) with dropout {dropout:g} cannot"):
        F.scaled_dot_product_attention(query, key, key, dropout_p=dropout)


# Models that do not fit.


class Attentive(nn.Module):
    """One block of attention over some tokens of an image, then what the case wants to be there."""

    def __init__(self, tokens: int = 5, after: Callable[[Tensor, nn.Module], Tensor] = lambda x, _: x) -> None:
        super().__init__()
        self.tokens, self.after = tokens, after
        self.embed, self.head, self.extra = nn.Linear(192, tokens * 6), nn.Linear(6, 4), nn.Conv1d(6, 6, 1)
        self.encoder = nn.ModuleDict({"ln": nn.Identity()})

    def forward(self, images: Tensor) -> Tensor:
        x = self.encoder["ln"](self.embed(images.flatten(1)).unflatten(1, (self.tokens, 6)))
        heads = x.unflatten(2, (2, 3)).transpose(1, 2)
        x = F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2) + x
        return self.head(self.after(x, self)[:, 0])


def in_place(x: Tensor, network: nn.Module) -> Tensor:
    x[:, 0] *= 2
    return x


def aliased(x: Tensor, network: nn.Module) -> Tensor:
    return F.relu(x, inplace=True) + x


BEHIND: list[tuple[Callable[[Tensor, nn.Module], Tensor], str]] = [
    (lambda x, network: network.extra(x.transpose(1, 2)).transpose(1, 2), "no rule for Convolution, which"),
    (lambda x, network: x * x.sigmoid(), "no rule for Mul and Sigmoid, which"),
    (lambda x, network: x.mean(1, keepdim=True), "no rule for Mean"),
    (in_place, "no rule for AsStrided and CopySlices, which"),
    (aliased, "other logits once its operations are replaced one by one"),
]


@pytest.mark.parametrize(("after", "says"), BEHIND)
def test_operations_without_a_rule(after: Callable[[Tensor, nn.Module], Tensor], says: str, query: MakeQuery) -> None:
    classifier = tiny(Attentive(after=after))
    explain(classifier, Rollout(), query(classifier))
    with pytest.raises(NotApplicable, match=f"{says}.*use rollout"):
        explain(classifier, Tibav(start_layer=0), query(classifier))


FITTING: list[Callable[[Tensor, nn.Module], Tensor]] = [
    lambda x, network: 0.5 * x * network.head.bias.sum() + 0.25,
    lambda x, network: torch.tanh(F.silu(F.relu(x, inplace=True))),
    lambda x, network: F.dropout(x, training=False).contiguous().to(x.dtype).unsqueeze(0).squeeze(0),
    lambda x, network: F.linear(x, network.extra.weight[..., 0], bias=network.extra.bias),
]


@pytest.mark.parametrize("after", FITTING)
def test_operations_with_a_rule(after: Callable[[Tensor, nn.Module], Tensor], query: MakeQuery) -> None:
    classifier = tiny(Attentive(after=after))
    assert explain(classifier, Tibav(start_layer=0), query(classifier)).maps.any()


@pytest.mark.parametrize("explainer", ALL)
def test_a_network_without_attention(explainer: Explainer, query: MakeQuery) -> None:
    classifier = build("resnet18", CLASSES, 32, seed=0)
    with pytest.raises(NotApplicable, match="needs attention, and resnet18 has none; use gradcam"):
        explain(classifier, explainer, query(classifier))


@pytest.mark.parametrize("explainer", ALL)
def test_a_network_without_class_token(explainer: Explainer, query: MakeQuery) -> None:
    classifier = tiny(Attentive(tokens=4))
    with pytest.raises(NotApplicable, match=r"needs a class token .* has \(batch, tokens\) \[\(5, 4\)\] for 5 images"):
        explain(classifier, explainer, query(classifier))


# Raw attention.


@pytest.mark.parametrize("block", [-1, 0, 2])
@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_raw_attention(query: MakeQuery, block: int, fusion: str) -> None:
    classifier = tiny()
    heads = asked_of_torch(classifier, query(classifier).images)[block][:, :, 0, 1:]
    row = {"mean": heads.mean(1), "max": heads.amax(1), "min": heads.amin(1)}[fusion]
    maps = explain(classifier, RawAttention(block, fusion), query(classifier)).maps
    torch.testing.assert_close(maps, upsample(row.unflatten(1, (2, 2)), 8))


# Rollout.


def test_rollout_in_closed_form() -> None:
    joint = multiply_blocks([normalise_rows(add_residual(each[None])) for each in (FIRST, SECOND)])[0]
    torch.testing.assert_close(joint[0], torch.tensor([0.475, 0.24375, 0.28125]))
    torch.testing.assert_close(joint.sum(1), torch.ones(3))


def slow_rollout(attention: list[Tensor], fusion: str, discard: float, start: int) -> Tensor:
    """Image by image and entry by entry, in numpy; (B, N)."""
    rows = []
    for image in range(len(attention[0])):
        joint = np.eye(attention[0].shape[-1])
        for block in attention[start:]:
            fused = getattr(block[image].double().numpy(), fusion)(axis=0)
            order = np.argsort(fused, axis=None)[: int(discard * fused.size)]
            fused.flat[[place for place in order if place != 0]] = 0
            for number, row in enumerate(fused):
                row[number] += 1
                row /= row.sum()
            joint = fused @ joint
        rows.append(torch.from_numpy(joint[0]).float())
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("fusion", "discard", "start"), [("mean", 0, 0), ("max", 0.9, 0), ("min", 0.5, 1), ("mean", 0.97, 2)]
)
def test_rollout_equals_the_slow_version(make: Make, query: MakeQuery, fusion: str, discard: float, start: int) -> None:
    for classifier in (tiny(), make("vit").eval()):
        asked = query(classifier)
        row = slow_rollout(asked_of_torch(classifier, asked.images), fusion, discard, start)
        side = int((row.shape[1] - 1) ** 0.5)
        maps = explain(classifier, Rollout(start, fusion, discard), asked).maps
        torch.testing.assert_close(maps, upsample(row[:, 1:].unflatten(1, (side, side)), classifier.size))
    assert maps.any()


# Attention flow.


def halved(*attention: Tensor) -> list[np.ndarray]:
    return [(add_residual(each.double()) / 2).numpy() for each in attention]


def test_attention_flow_in_closed_form() -> None:
    found = flows(halved(FIRST, SECOND))
    np.testing.assert_allclose(found, [0.775, 0.4, 0.425], atol=1e-7)
    np.testing.assert_allclose(found / found.sum(), [0.484375, 0.25, 0.265625], atol=1e-7)
    np.testing.assert_allclose(flows(halved(FIRST)), [0.6, 0.15, 0.25], atol=1e-7)


def slow_flows(blocks: list[np.ndarray]) -> list[float]:
    """On the whole graph, every node and every edge by its name."""
    graph, tokens = nx.DiGraph(), range(len(blocks[0]))
    for level, (above, below) in itertools.product(range(len(blocks)), itertools.product(tokens, tokens)):
        graph.add_edge((level + 1, above), (level, below), capacity=blocks[level][above, below])
    return [nx.maximum_flow_value(graph, (len(blocks), 0), (0, token)) for token in tokens]


@pytest.mark.parametrize(("count", "tokens"), [(1, 5), (2, 6), (3, 9), (4, 6), (5, 3)])
@pytest.mark.parametrize("sharpness", [0.5, 5])
def test_flows_equal_those_of_networkx(count: int, tokens: int, sharpness: float) -> None:
    source = torch.Generator().manual_seed(count)
    scores = torch.randn(count, tokens, tokens, generator=source, dtype=torch.float64) * sharpness
    blocks = halved(*scores.softmax(-1))
    bound = (2 * tokens + max(count - 2, 0) * tokens**2) * 2**-31
    np.testing.assert_allclose(flows(blocks), slow_flows(blocks), atol=bound, rtol=0)


def test_the_map_of_attention_flow(query: MakeQuery) -> None:
    classifier = tiny()
    asked = query(classifier)
    attention = asked_of_torch(classifier, asked.images)
    rows = [slow_flows(halved(*(block[image].mean(0) for block in attention))) for image in range(5)]
    row = torch.tensor(rows, dtype=torch.float32)
    plain, normalised = (explain(classifier, AttentionFlow(each), asked).maps for each in (False, True))
    torch.testing.assert_close(plain, upsample(row[:, 1:].unflatten(1, (2, 2)), 8))
    torch.testing.assert_close(normalised, plain / row.sum(1)[:, None, None])


# TIBAV.


def test_tibav_in_closed_form() -> None:
    """One head, no residual: the class token attends by (.2, .5, .3) to values of two channels, read by w = (1, 2)."""
    attention, weight = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([[1.0, 2.0]])
    value = torch.tensor([[1.0, 0], [2, 1], [0, 3]])[None, None]
    modes = Attending(), RelevanceAttending()
    for mode in modes:
        with mode:
            mixed = F.scaled_dot_product_attention(
                torch.ones(1, 1, 3, 1), attention.log()[None, None, :, None], value, scale=1.0
            )
            torch.testing.assert_close(mixed[0, 0, 0], torch.tensor([1.2, 1.4]))
            logits = F.linear(mixed[:, 0, 0], weight)
    (relevance,) = relevance_of_attention(logits, torch.tensor([0]), modes[1].weights)
    mixed = modes[0].weights[0] @ value
    (gradient,) = torch.autograd.grad(F.linear(mixed[:, 0, 0], weight).sum(), modes[0].weights)
    torch.testing.assert_close(relevance[0, 0, 0], torch.tensor([0.025, 0.25, 0.225]))
    torch.testing.assert_close(gradient[0, 0, 0], torch.tensor([1.0, 4, 6]))
    torch.testing.assert_close((gradient * relevance).relu()[0, 0, 0], torch.tensor([0.025, 1, 1.35]))
    assert not relevance[0, 0, 1:].any()


def safe(relevance: Tensor, values: Tensor) -> Tensor:
    """The authors' safe_divide."""
    below = values.clamp(min=1e-9) + values.clamp(max=1e-9)
    return relevance / (below + (below == 0) * 1e-9) * (values != 0)


@torch.enable_grad()
def z_rule(relevance: Tensor, function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The authors' RelPropSimple."""
    inputs = tuple(each.detach().requires_grad_() for each in inputs)
    output = function(*inputs)
    gradients = torch.autograd.grad(output, inputs, safe(relevance, output.detach()))
    return [each.detach() * gradient for each, gradient in zip(inputs, gradients, strict=True)]


def linear_rule(relevance: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """The authors' Linear with alpha = 1: contributions one by one, in a tensor (tokens, outputs, inputs)."""
    positive = (values[:, None] * weight).clamp(min=0)
    return (safe(relevance, positive.sum(2))[:, :, None] * positive).sum(1)


def add_rule(relevance: Tensor, *terms: Tensor) -> list[Tensor]:
    """The authors' Add, of one image."""
    parts = z_rule(relevance, torch.add, *terms)
    sums = [float(part.sum()) for part in parts]
    share = [abs(each) / (abs(sums[0]) + abs(sums[1])) * float(relevance.sum()) for each in sums]
    return [part * each / own for part, each, own in zip(parts, share, sums, strict=True)]


class SlowBlock:
    """One block of torchvision's vision transformer for one image, head by head, forwards and backwards."""

    def __init__(self, block: nn.Module, x: Tensor) -> None:
        self.block, self.x, attention = block, x, block.self_attention
        self.normed = block.ln_1(x)
        self.parts = (self.normed @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, -1)
        self.q, self.k, self.v = ([*part.chunk(attention.num_heads, -1)] for part in self.parts)
        self.a = [(q @ k.T / q.shape[1] ** 0.5).softmax(-1) for q, k in zip(self.q, self.k, strict=True)]
        self.mixed = torch.cat([a @ v for a, v in zip(self.a, self.v, strict=True)], -1)
        self.attended = attention.out_proj(self.mixed)
        self.middle = self.attended + x
        self.normed2 = block.ln_2(self.middle)
        self.active = block.mlp[1](block.mlp[0](self.normed2))
        self.read = block.mlp[3](self.active)
        self.output = self.read + self.middle

    @torch.no_grad()
    def relevance(self, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """That of the block's input, and of its attention (heads, N, N)."""
        block, attention = self.block, self.block.self_attention
        read, past = add_rule(relevance, self.read, self.middle)
        read = linear_rule(linear_rule(read, self.active, block.mlp[3].weight), self.normed2, block.mlp[0].weight)
        attended, past = add_rule(read + past, self.attended, self.x)
        mixed = linear_rule(attended, self.mixed, attention.out_proj.weight).chunk(attention.num_heads, -1)
        found, heads = [], []
        for head, (q, k, a, v) in enumerate(zip(self.q, self.k, self.a, self.v, strict=True)):
            of_a, of_v = (each / 2 for each in z_rule(mixed[head], torch.matmul, a, v))
            of_q, of_k = (each / 2 for each in z_rule(of_a, lambda q, k: q @ k.T, q, k))
            found.append(of_a)
            heads.append((of_q, of_k, of_v))
        joined = torch.cat([part for parts in zip(*heads, strict=True) for part in parts], -1)
        return past + linear_rule(joined, self.normed, attention.in_proj_weight), torch.stack(found)


def slow_tibav(classifier: Classifier, image: Tensor, target: int, start: int, normalise: bool) -> Tensor:
    """The class token's row (N,), in double precision."""
    network: Any = wrap(classifier.network, CLASSES, classifier.size, "encoder.ln").network
    patches = network._process_input(classifier.normalise(image[None]).double())
    x = (torch.cat([network.class_token, patches], 1) + network.encoder.pos_embedding)[0]
    blocks = []
    for block in network.encoder.layers:
        blocks.append(SlowBlock(block, x))
        x = blocks[-1].output
    normed = network.encoder.ln(x)
    logits = network.heads(normed[0])
    gradients = [torch.stack(torch.autograd.grad(logits[target], each.a, retain_graph=True)) for each in blocks]
    wanted = F.one_hot(torch.tensor([target]), len(logits)).double()
    relevance = torch.zeros_like(normed).detach()
    relevance[:1] = linear_rule(wanted, normed[:1], network.heads.head.weight).detach()
    joint = torch.eye(len(x), dtype=torch.float64)
    matrices = []
    for each, gradient in reversed([*zip(blocks, gradients, strict=True)]):
        relevance, of_attention = each.relevance(relevance)
        matrix = (gradient * of_attention).clamp(min=0).mean(0) + torch.eye(len(x))
        matrices.append(matrix / matrix.sum(1, keepdim=True) if normalise else matrix)
    for matrix in matrices[::-1][start:]:
        joint = matrix @ joint
    return joint[0].detach()


@pytest.mark.parametrize(("start", "normalise"), [(1, True), (0, True), (2, False), (0, False)])
def test_tibav_equals_the_slow_version(query: MakeQuery, start: int, normalise: bool) -> None:
    classifier = tiny()
    asked = query(classifier)
    maps = explain(classifier, Tibav(start, normalise), asked).maps
    classifier.network.double()
    rows = [
        slow_tibav(classifier, image, target, start, normalise)
        for image, target in zip(asked.images, asked.targets.tolist(), strict=True)
    ]
    expected = upsample(torch.stack(rows)[:, 1:].unflatten(1, (2, 2)), 8).float()
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-8)
    assert maps.any()


def test_tibav_equals_the_slow_version_on_flowervit(make: Make, query: MakeQuery) -> None:
    classifier = make("vit").eval()
    asked = Query(*(each[:1] for each in query(classifier)))
    maps = explain(classifier, Tibav(), asked).maps
    classifier.network.double()
    row = slow_tibav(classifier, asked.images[0], int(asked.targets[0]), 1, True)
    expected = upsample(row[None, 1:].unflatten(1, (14, 14)), 28).float()
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))


def test_tibav_passes_a_representation_layer(query: MakeQuery) -> None:
    classifier = tiny(representation_size=6)
    assert explain(classifier, Tibav(), query(classifier)).maps.any()


# All of them.


@pytest.mark.parametrize("explainer", ALL)
def test_which_of_them_see_the_target(explainer: Explainer, query: MakeQuery) -> None:
    classifier = tiny()
    asked = query(classifier)
    other = asked._replace(targets=(asked.targets + 1) % 4)
    same = torch.equal(explain(classifier, explainer, asked).maps, explain(classifier, explainer, other).maps)
    assert same == (not isinstance(explainer, Tibav))


@pytest.mark.parametrize("explainer", ALL)
def test_networks_of_half_precision(explainer: Explainer, query: MakeQuery) -> None:
    """Inputs and weights are the same numbers in both: what differs is the arithmetic, which TIBAV does exactly."""
    network = tiny().network.bfloat16()
    classifier = wrap(network, CLASSES, 8, "encoder.ln", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    asked = query(classifier)
    asked = asked._replace(images=(asked.images * 64).round() / 64)
    maps = explain(classifier, explainer, asked).maps
    assert classifier.dtype == torch.bfloat16
    expected = explain(classifier.float(), explainer, asked).maps
    tolerance = 1e-6 if isinstance(explainer, Tibav) else 0.02
    torch.testing.assert_close(maps, expected, rtol=tolerance, atol=tolerance * float(expected.max()))


@pytest.mark.parametrize(("explainer", "passes"), [(each, (5, 0)) for each in ALL[:3]] + [(ALL[3], (10, 10))])
def test_costs(explainer: Explainer, passes: tuple[int, int], query: MakeQuery) -> None:
    classifier = tiny()
    cost = explain(classifier, explainer, query(classifier)).cost
    assert (cost.forwards, cost.backwards) == passes


@pytest.mark.parametrize(
    ("make_it", "says"),
    [
        (lambda: RawAttention(fusion="mena"), 'fusion "mena"'),
        (lambda: Rollout(fusion="sum"), 'fusion "sum"'),
        (lambda: Rollout(discard=1), "discard is 1; expected a share"),
        (lambda: Rollout(discard=-0.1), "discard is -0.1"),
        (lambda: Rollout(start_layer=-1), "start_layer is -1"),
        (lambda: Tibav(start_layer=-2), "start_layer is -2"),
    ],
)
def test_bad_parameters(make_it: Callable[[], Explainer], says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        make_it()


@pytest.mark.parametrize(
    ("explainer", "says"),
    [
        (RawAttention(block=3), "block is 3; expected -3 to 2"),
        (RawAttention(block=-4), "block is -4"),
        (Rollout(start_layer=3), "start_layer is 3, and the network has 3 blocks"),
        (Tibav(start_layer=3), "start_layer is 3, and the network has 3 blocks"),
    ],
)
def test_blocks_that_are_not_there(explainer: Explainer, says: str, query: MakeQuery) -> None:
    classifier = tiny()
    with pytest.raises(WrongUsage, match=says):
        explain(classifier, explainer, query(classifier))
