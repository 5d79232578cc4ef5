"""Vision transformers are known by their modules: their blocks, their tokens, and where CAMs look."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer, resnet18

from an8flower.errors import NotApplicable
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.attention import Rollout
from an8flower.evaluate.explainers.attention_gradients import GenericAttention, LeGrad
from an8flower.evaluate.explainers.attention_relevance import AttnLrp, CpLrp
from an8flower.evaluate.explainers.cam import EigenCam, GradCam
from an8flower.evaluate.explainers.cam_refined import layers_to_refine
from an8flower.evaluate.explainers.gradients import Gradient
from an8flower.evaluate.explaining.contract_networks import randomise_attention
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.maps import upsample
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.sources import Source, open_source
from an8flower.evaluate.models.transformers.description import describe


class Inside(nn.Module):
    """A network that holds another one."""

    def __init__(self, network: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.inner, self.after = network, after

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.inner(images))


def torchvision_vit(**options: Any) -> nn.Module:
    return VisionTransformer(16, 4, 2, 2, hidden_dim=16, mlp_dim=32, num_classes=4, **options)


def torchvision_swin() -> nn.Module:
    return SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=4)


def timm_vit(**options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 4}
    return timm.models.vision_transformer.VisionTransformer(**sizes, **options)


def timm_deit() -> nn.Module:
    timm = pytest.importorskip("timm")
    kind = timm.models.deit.VisionTransformerDistilled
    return kind(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=4)


def timm_swin() -> nn.Module:
    timm = pytest.importorskip("timm")
    kind = timm.models.swin_transformer.SwinTransformer
    return kind(img_size=32, patch_size=4, embed_dim=8, depths=(2, 2), num_heads=(2, 2), window_size=2, num_classes=4)


class Case(NamedTuple):
    """A network, and what must be known of it."""

    make: Callable[[], nn.Module]
    size: int
    layer: str  # that CAMs look at
    blocks: int  # that are to be read
    prefix: int = 1
    grid: tuple[int, int] | None = (4, 4)
    class_token: bool = True


TALL = {"img_size": 16, "patch_size": (2, 4)}
CASES = {
    "torchvision ViT": Case(torchvision_vit, 16, "encoder.layers.encoder_layer_1.ln_1", 2),
    "torchvision ViT with a representation": Case(
        lambda: torchvision_vit(representation_size=8), 16, "encoder.layers.encoder_layer_1.ln_1", 2
    ),
    "torchvision Swin": Case(torchvision_swin, 32, "permute", 0, 0, None, False),
    "timm ViT": Case(timm_vit, 16, "blocks.1.norm1", 2),
    "timm ViT with registers": Case(lambda: timm_vit(reg_tokens=9), 16, "blocks.1.norm1", 2, 10),
    "timm ViT that takes means": Case(
        lambda: timm_vit(global_pool="avg", class_token=False), 16, "blocks.1.norm1", 2, 0, class_token=False
    ),
    "timm DeiT": Case(timm_deit, 16, "blocks.1.norm1", 2, 2),
    "timm Swin": Case(timm_swin, 32, "norm", 0, 0, None, False),
    "inside another network": Case(
        lambda: Inside(torchvision_vit(), nn.Identity()), 16, "inner.encoder.layers.encoder_layer_1.ln_1", 2
    ),
}


def open_case(case: Case) -> Classifier:
    """The bare network as a classifier, with weights that let every token and class matter."""
    network = randomise_attention(case.make())
    return open_source(Source(network, size=case.size), torch.device("cpu")).eval()


def query(classifier: Classifier) -> Query:
    images = torch.rand(3, 3, classifier.size, classifier.size, generator=torch.Generator().manual_seed(5))
    return Query(images, torch.tensor([0, 3, 1]), torch.arange(3))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_a_transformer_is_described(case: Case) -> None:
    transformer = describe(case.make())
    assert transformer is not None
    assert transformer.target_layer == case.layer
    assert (len(transformer.blocks), transformer.prefix) == (case.blocks, case.prefix)
    assert (transformer.grid, transformer.class_token) == (case.grid, case.class_token)


@pytest.mark.parametrize("network", [resnet18(), nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten())])
def test_other_networks_are_not_described(network: nn.Module) -> None:
    assert describe(network) is None


def slow_gradcam(classifier: Classifier, case: Case, asked: Query) -> Tensor:
    """Grad-CAM by a hook, its tokens or maps brought into (B, K, h, w) by hand."""
    kept: list[Tensor] = []
    module = classifier.network.get_submodule(case.layer)
    handle = module.register_forward_hook(lambda _m, _i, output: kept.append(output))
    logits = classifier(asked.images)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, asked.targets[:, None]).sum(), kept)

    def to_maps(values: Tensor) -> Tensor:
        if values.ndim == 3:
            return values[:, case.prefix :].transpose(1, 2).unflatten(2, case.grid or ())
        return values if case.layer == "permute" else values.permute(0, 3, 1, 2)

    channels, slopes = to_maps(kept[0].detach()), to_maps(gradient)
    assert channels.shape[2:] == (4, 4)
    return upsample((slopes.mean((2, 3), keepdim=True) * channels).sum(1).relu(), asked.images)


def test_cams_of_a_bare_transformer_look_at_its_last_norm(case: Case) -> None:
    classifier = open_case(case)
    asked = query(classifier)
    assert classifier.target_layer == case.layer
    maps = explain(classifier, GradCam(), asked).maps
    torch.testing.assert_close(maps, slow_gradcam(classifier, case, asked), rtol=1e-3, atol=1e-6)
    assert maps.any()
    assert explain(classifier, EigenCam(), asked).maps.std() > 0


def test_layers_with_channels_behind_give_maps() -> None:
    """In a Swin transformer every layer but the first convolution gives (B, h, w, K)."""
    classifier = open_case(CASES["torchvision Swin"])
    asked = query(classifier)
    for layer, channels, side in (
        ("features.0.0", 8, 8),
        ("features.1.1", 8, 8),
        ("features.3", 16, 4),
        ("norm", 16, 4),
    ):
        features = classifier.head(asked.images, layer)
        assert features.values.shape == (3, channels, side, side)
        torch.testing.assert_close(classifier.tail(features, layer), classifier(asked.images), rtol=1e-3, atol=1e-5)
    at_norm, at_permute = (explain(classifier, GradCam(layer=layer), asked).maps for layer in ("norm", "permute"))
    torch.testing.assert_close(at_norm, at_permute)


def test_patches_need_not_be_square() -> None:
    classifier = open_case(CASES["timm ViT"]._replace(make=lambda: timm_vit_of(**TALL)))
    assert classifier.transformer is not None
    assert classifier.transformer.grid == (8, 4)
    maps = explain(classifier, LeGrad(), query(classifier)).maps
    assert maps.shape == (3, 16, 16)
    assert maps.any()


def timm_vit_of(**options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.models.vision_transformer.VisionTransformer(
        **{"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 4, **options}
    )


READERS: list[Any] = [Rollout(), GenericAttention(), LeGrad()]


@pytest.mark.parametrize("explainer", READERS, ids=lambda explainer: type(explainer).__name__)
def test_attention_is_read_or_refused_with_the_reason(case: Case, explainer: Any) -> None:
    classifier = open_case(case)
    asked = query(classifier)
    wants = 1 if isinstance(explainer, LeGrad) else case.class_token
    if case.blocks and wants:
        assert explain(classifier, explainer, asked).maps.std() > 0
        return
    says = "are not read from a class token" if case.blocks else "attends within windows"
    with pytest.raises(NotApplicable, match=says):
        explain(classifier, explainer, asked)


@pytest.mark.parametrize("explainer", [AttnLrp(), CpLrp(), Gradient()])
def test_relevance_and_gradients_run_on_every_family(case: Case, explainer: Any) -> None:
    classifier = open_case(case)
    assert explain(classifier, explainer, query(classifier)).maps.std() > 0


def test_which_layers_of_swin_are_refined() -> None:
    """The last one of each stage, and not the windows inside its blocks."""
    assert layers_to_refine(open_case(CASES["torchvision Swin"])) == ["features.1", "permute"]
    assert layers_to_refine(open_case(CASES["timm Swin"])) == ["layers.0", "norm"]


def test_a_block_is_scored_by_the_networks_own_head(case: Case) -> None:
    """Tokens that are all the same give the logits of that token, whichever of them the network reads."""
    transformer = describe(network := randomise_attention(case.make()).eval())
    assert transformer is not None
    if transformer.classify is None:
        with pytest.raises(NotImplementedError):
            transformer.score(torch.zeros(1, 3, 16))
        return
    tokens = torch.randn(2, case.prefix + math.prod(case.grid or ()), 16, generator=torch.Generator().manual_seed(0))
    same = tokens.mean(1, keepdim=True).expand_as(tokens)
    torch.testing.assert_close(transformer.score(tokens), transformer.classify(same))
    if isinstance(network, VisionTransformer):
        torch.testing.assert_close(transformer.score(tokens), network.heads(network.encoder.ln(tokens.mean(1))))


def test_what_lies_behind_the_transformer_is_found_out() -> None:
    classifier = open_case(CASES["torchvision ViT"]._replace(make=lambda: Inside(torchvision_vit(), nn.Linear(4, 4))))
    explain(classifier, GenericAttention(), query(classifier))
    with pytest.raises(NotApplicable, match="does more with the last block's tokens than torchvision's"):
        explain(classifier, LeGrad(), query(classifier))


def test_attention_that_timm_computes_itself() -> None:
    network = timm_vit()
    for block in network.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
    classifier = open_case(CASES["timm ViT"]._replace(make=lambda: network))
    with pytest.raises(NotApplicable, match="switch the fused attention of its blocks on"):
        explain(classifier, Rollout(), query(classifier))
    with pytest.raises(NotApplicable, match="has 0 in 2 runs of its 2 blocks"):
        explain(classifier, LeGrad(), query(classifier))


def test_networks_of_ours_keep_their_target_layers() -> None:
    for arch in ("flowervit", "flowervit_tiny", "resnet18"):
        classifier = build(arch, "abcd", 28, seed=0)
        transformer = classifier.transformer
        assert (transformer is not None) == (arch != "resnet18")
        assert transformer is None or transformer.target_layer == classifier.target_layer
