"""LeGrad and generic attention, against finite differences, a slow second version, closed forms and TorchCAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.attention_gradients import GenericAttention, LeGrad
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.maps import upsample
from an8flower.evaluate.models.classifier import Classifier, build, wrap

Make = Callable[[str], Classifier]
MakeQuery = Callable[[Classifier], Query]
CLASSES = ("rose", "lily", "aster", "iris")


def tiny(blocks: int = 3, heads: int = 2) -> Classifier:
    """A vision transformer of 2 x 2 patches, with weights that let everything matter."""
    network = VisionTransformer(8, 4, blocks, heads, 8, 16, num_classes=4)
    source = torch.Generator().manual_seed(0)
    for weights in network.parameters():
        weights.data.copy_(torch.randn(weights.shape, generator=source) * 0.5)
    return wrap(network, CLASSES, 8, "encoder.ln").eval()


class SlowVit:
    """Torchvision's vision transformer for one image, head by head and in double precision, attention as an input."""

    def __init__(self, classifier: Classifier, image: Tensor) -> None:
        self.network: Any = classifier.network
        patches = self.network._process_input(classifier.normalise(image[None]).double())
        self.start = (torch.cat([self.network.class_token, patches], 1) + self.network.encoder.pos_embedding)[0]
        self.attention: list[Tensor] = []
        self.inputs: list[Tensor] = []
        x = self.start
        for block in self.network.encoder.layers:
            self.inputs.append(x)
            self.attention.append(self.attend(block, x))
            x = self.run(block, x, self.attention[-1])

    def parts(self, block: Any, x: Tensor) -> list[list[Tensor]]:
        """Queries, keys and values, each a list of heads."""
        attention = block.self_attention
        joint = block.ln_1(x) @ attention.in_proj_weight.T + attention.in_proj_bias
        return [list(part.chunk(attention.num_heads, -1)) for part in joint.chunk(3, -1)]

    def attend(self, block: Any, x: Tensor) -> Tensor:
        queries, keys, _ = self.parts(block, x)
        return torch.stack([(q @ k.T / q.shape[1] ** 0.5).softmax(-1) for q, k in zip(queries, keys, strict=True)])

    def run(self, block: Any, x: Tensor, attention: Tensor) -> Tensor:
        """The tokens behind a block whose heads attend as they are told."""
        values = self.parts(block, x)[2]
        mixed = torch.cat([weights @ value for weights, value in zip(attention, values, strict=True)], -1)
        x = x + mixed @ block.self_attention.out_proj.weight.T + block.self_attention.out_proj.bias
        return x + block.mlp(block.ln_2(x))

    def block_score(self, number: int, attention: Tensor, target: int) -> Tensor:
        tokens = self.run(self.network.encoder.layers[number], self.inputs[number], attention)
        return self.network.heads(self.network.encoder.ln(tokens.mean(0)))[target]


@torch.no_grad()
def slow_legrad(classifier: Classifier, image: Tensor, target: int, start: int = 0) -> Tensor:
    """LeGrad (h, w) by central differences, entry by entry of every attention."""
    slow, step, blocks = SlowVit(classifier, image), 1e-5, []
    for number, attention in enumerate(slow.attention):
        gradient = torch.zeros_like(attention)
        for place in torch.ones_like(attention).nonzero().tolist():
            scores = []
            for sign in (1, -1):
                moved = attention.clone()
                moved[tuple(place)] += sign * step
                scores.append(float(slow.block_score(number, moved, target)))
            gradient[tuple(place)] = (scores[0] - scores[1]) / (2 * step)
        blocks.append(gradient.clamp(min=0).mean((0, 1)))
    return torch.stack(blocks[start:]).mean(0)[1:].unflatten(0, (2, 2))


@pytest.mark.parametrize("start", [0, 2])
def test_legrad_equals_finite_differences(query: MakeQuery, start: int) -> None:
    classifier = tiny()
    asked = Query(*(tensor[:2] for tensor in query(classifier)))
    maps = explain(classifier, LeGrad(start), asked).maps
    classifier.network.double()
    rows = [slow_legrad(classifier, image, int(target), start) for image, target in zip(*asked[:2], strict=True)]
    torch.testing.assert_close(maps, upsample(torch.stack(rows).float(), asked.images), rtol=1e-4, atol=1e-7)
    assert maps.std() > 0


def test_blocks_whose_score_ignores_attention_say_nothing(query: MakeQuery) -> None:
    classifier = tiny()
    for block in classifier.network.encoder.layers:  # type: ignore[union-attr]
        block.self_attention.out_proj.weight.data.zero_()
    assert not explain(classifier, LeGrad(), query(classifier)).maps.any()


def test_torchcam_on_legrad(make: Make, query: MakeQuery) -> None:
    from torchcam.methods import LeGrad as Peer

    for classifier in (tiny(), make("vit").eval()):
        asked, network = query(classifier), classifier.network
        with Peer(network, [*network.encoder.layers]) as peer:  # type: ignore[union-attr]
            scores = network(classifier.normalise(asked.images))
            (theirs,) = peer(asked.targets.tolist(), scores, normalized=False)
        ours = explain(classifier, LeGrad(), asked).maps
        torch.testing.assert_close(ours, upsample(theirs, asked.images), rtol=1e-3, atol=1e-4 * float(ours.max()))
        assert ours.std() > 0


def slow_generic(classifier: Classifier, image: Tensor, target: int) -> Tensor:
    """Generic attention (h, w) by whole matrices, from the first block on."""
    network: Any = classifier.network
    slow = SlowVit(classifier, image)
    x, attention = slow.start, []
    for block in network.encoder.layers:
        attention.append(slow.attend(block, x))
        x = slow.run(block, x, attention[-1])
    logits = network.heads(network.encoder.ln(x)[0])
    gradients = torch.autograd.grad(logits[target], attention)
    joint = torch.eye(len(x), dtype=x.dtype)
    for weights, gradient in zip(attention, gradients, strict=True):
        joint = joint + (gradient * weights).clamp(min=0).mean(0) @ joint
    return joint[0, 1:].unflatten(0, (2, 2)).detach()


@pytest.mark.parametrize(("blocks", "heads"), [(1, 1), (2, 1), (3, 2)])
def test_generic_attention_equals_the_slow_version(query: MakeQuery, blocks: int, heads: int) -> None:
    classifier = tiny(blocks, heads)
    asked = query(classifier)
    maps = explain(classifier, GenericAttention(), asked).maps
    classifier.network.double()
    rows = [slow_generic(classifier, image, int(target)) for image, target in zip(*asked[:2], strict=True)]
    expected = upsample(torch.stack(rows).float(), asked.images)
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
    assert maps.std() > 0


class OneHead(nn.Module):
    """Three tokens, (class, patch...) in a row: the class token attends to values 1, 2, 4 and 8, one logit reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.eyes = nn.Conv2d(3, 1, 1, bias=False)
        self.register_buffer("values", torch.tensor([1.0, 2, 4, 8, 16])[:, None])
        self.register_buffer("scores", torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25]).log())

    def forward(self, images: Tensor) -> Tensor:
        nothing = 0 * self.eyes(images).mean((1, 2, 3))[:, None, None, None]
        keys = self.scores[:, None].expand(len(images), 1, 5, 1) + nothing
        queries = torch.ones_like(keys)
        values = self.values.expand(len(images), 1, 5, 1)
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, scale=1.0)[:, 0, 0]
        return torch.cat([mixed, -mixed, mixed * 0, mixed * 3], 1)


def test_generic_attention_in_closed_form(query: MakeQuery) -> None:
    """One block, one head, a logit that is w times the mix: dA * A = w v_i a_i, where w is positive, else nothing."""
    classifier = wrap(OneHead(), CLASSES, 8, "eyes").eval()
    asked = query(classifier)._replace(targets=torch.tensor([0, 1, 2, 3, 0]))
    maps = explain(classifier, GenericAttention(), asked).maps
    row = torch.tensor([2 * 0.2, 4 * 0.3, 8 * 0.15, 16 * 0.25]).view(1, 2, 2)
    expected = row * torch.tensor([1.0, 0, 0, 3, 1])[:, None, None]
    torch.testing.assert_close(maps, upsample(expected, asked.images))


BOTH: list[Any] = [LeGrad(), GenericAttention()]


@pytest.mark.parametrize("explainer", BOTH)
def test_what_they_cost(explainer: Any, query: MakeQuery) -> None:
    classifier = tiny()
    cost = explain(classifier, explainer, query(classifier)).cost
    assert (cost.forwards, cost.backwards) == (pytest.approx(5), pytest.approx(5))


@pytest.mark.parametrize("explainer", BOTH)
def test_a_network_that_is_no_transformer(explainer: Any, query: MakeQuery) -> None:
    classifier = build("resnet18", CLASSES, 32, seed=0)
    with pytest.raises(NotApplicable, match="resnet18.*use gradcam"):
        explain(classifier, explainer, query(classifier))


def test_blocks_that_are_not_there(query: MakeQuery) -> None:
    classifier = tiny()
    with pytest.raises(WrongUsage, match="start_layer is 3, and the network has 3 blocks"):
        explain(classifier, LeGrad(3), query(classifier))
    with pytest.raises(WrongUsage, match="start_layer is -1"):
        LeGrad(-1)


@pytest.mark.parametrize("explainer", BOTH)
def test_a_pass_that_raises_leaves_the_network_as_it_was(
    explainer: Any, query: MakeQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the guard of `explain`: hooks and flags are put back by the method itself."""
    classifier = tiny()
    asked, network = query(classifier), classifier.network
    last = network.encoder.layers[-1].mlp  # type: ignore[union-attr]
    next(network.parameters()).requires_grad_(False)
    flags = [parameter.requires_grad for parameter in network.parameters()]
    with monkeypatch.context() as patch:
        patch.setattr(last, "forward", lambda tokens: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            explainer(classifier, asked)
    assert flags == [parameter.requires_grad for parameter in network.parameters()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    explainer(classifier, asked)
    assert flags == [parameter.requires_grad for parameter in network.parameters()]
    assert all(parameter.grad is None for parameter in network.parameters())
