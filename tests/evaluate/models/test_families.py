"""The layer that CAMs look at in families of timm, torchvision and transformers: late, whole, and one that counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.models.costs import measure_shares
from an8flower.evaluate.models.layer_choice import choose_layer
from an8flower.evaluate.models.networks.split import split
from an8flower.evaluate.models.probing import probe_network
from an8flower.evaluate.models.sources import Source, open_source

# A network of 5 classes at 64 px -> its layer, and the side of the maps there: 64 px over the strides on the way.
QUICK = {
    "timm:test_vit": ("blocks.5.norm1", 4),
    "timm:test_mambaout": ("stages", 2),
    "transformers:Swin": ("model.swin.layernorm", 4),
    "transformers:ConvNext": ("model.convnext.encoder.stages.3", 2),
}
SLOW = {
    "transformers:ViT": ("model.vit.layers.2.layernorm_before", 4),
    "torchvision:shufflenet_v2_x0_5": ("conv5", 2),
    "timm:test_vit3": ("blocks.8.norm1", 4),
    "timm:test_resnet": ("layer4", 2),
    "timm:convnextv2_atto": ("norm_pre", 2),
    "timm:mobilenetv3_small_050": ("blocks", 2),
    "timm:efficientnet_b0": ("bn2", 2),
    "timm:regnety_002": ("final_conv", 2),
    "timm:densenet121": ("features", 2),
    "timm:resmlp_12_224": ("blocks.11", 4),
    "timm:mixer_s32_224": ("norm", 2),
    "timm:eva02_tiny_patch14_224": ("blocks.11", 4),
    "timm:cait_xxs24_224": ("blocks_token_only.1.norm1", 4),
    "timm:xcit_nano_12_p16_224": ("cls_attn_blocks.1.norm1", 4),
    "timm:swin_tiny_patch4_window7_224": ("norm", 2),
    "timm:swinv2_tiny_window8_256": ("norm", 2),
    "timm:pvt_v2_b0": ("stages", 2),
    "timm:coatnet_nano_rw_224": ("norm", 2),
    "timm:mobilevit_xxs": ("final_conv", 2),
    "timm:poolformer_s12": ("stages", 2),
    "timm:levit_128s": ("stages.1", 2),
    "timm:convit_tiny": ("blocks.11.norm1", 4),
    "timm:pit_ti_224": ("transformers.2.blocks.3.norm1", 2),
    "timm:sequencer2d_s": ("norm", 4),
    "timm:nest_tiny": ("norm", 4),
    "timm:mvitv2_tiny": ("norm", 2),
    "timm:hiera_tiny_224": ("blocks.11", 2),
    "timm:deit_tiny_distilled_patch16_224": ("blocks.11.norm1", 4),
    "torchvision:alexnet": ("features.11", 3),
    "torchvision:vgg11_bn": ("features", 2),
    "torchvision:resnet18": ("layer4", 2),
    "torchvision:densenet121": ("features", 2),
    "torchvision:googlenet": ("inception5b", 2),
    "torchvision:mnasnet0_5": ("layers", 2),
    "torchvision:mobilenet_v3_small": ("features", 2),
    "torchvision:efficientnet_b0": ("features", 2),
    "torchvision:regnet_y_400mf": ("trunk_output", 2),
    "torchvision:convnext_tiny": ("features", 2),
    "torchvision:swin_t": ("permute", 2),
    "torchvision:vit_b_16": ("encoder.layers.encoder_layer_11.ln_1", 4),
    "transformers:Beit": ("model.beit.layers.2", 4),
    "transformers:Dinov2": ("model.dinov2.layernorm", 4),
    "transformers:ResNet": ("model.resnet.encoder.stages.3", 2),
    "transformers:Segformer": ("model.segformer.stages.3", 2),
}


def make_network(place: str) -> nn.Module:
    """An untrained network of five classes for 64 px, whose weights of zero are drawn as well."""
    toolkit, _, name = place.partition(":")
    torch.manual_seed(0)
    makers = {"timm": make_timm, "torchvision": make_torchvision, "transformers": make_transformers}
    network = makers[toolkit](name)
    source = torch.Generator().manual_seed(0)
    for weights in network.parameters():
        if weights.abs().max() < 1e-3:
            nn.init.normal_(weights, std=0.05, generator=source)
    return network


def make_timm(name: str) -> nn.Module:
    pytest.importorskip("timm")
    from an8flower.evaluate.models.elsewhere.timm_networks import make

    return make(name, 64, {"num_classes": 5})


def make_torchvision(name: str) -> nn.Module:
    from an8flower.evaluate.models.elsewhere.torchvision_networks import make

    return make(name, 64, 224, {"num_classes": 5})


def make_transformers(name: str) -> nn.Module:
    transformers: Any = pytest.importorskip("transformers")
    from an8flower.evaluate.models.elsewhere.transformers_networks import LogitsAlone

    plain = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "patch_size": 16}
    stages = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    options: dict[str, dict[str, Any]] = {
        "ViT": plain | {"intermediate_size": 64, "image_size": 64},
        "Beit": plain | {"intermediate_size": 64, "image_size": 64},
        "Dinov2": plain | {"image_size": 64},
        "Swin": {"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [2, 2, 2], "window_size": 4},
        "ConvNext": stages,
        "ResNet": stages | {"embedding_size": 8, "layer_type": "basic"},
        "Segformer": {},
    }
    config = getattr(transformers, f"{name}Config")(num_labels=5, **options[name])
    return LogitsAlone(getattr(transformers, f"{name}ForImageClassification")(config))


def check_family(place: str, layer: str, side: int) -> None:
    """The layer is the expected one; its halves make the whole; each place in its maps counts; a CAM is no constant."""
    classifier = open_source(Source(make_network(place), size=64), torch.device("cpu")).eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert classifier.target_layer == layer
    features = classifier.head(images)
    assert torch.allclose(classifier.tail(features), classifier(images), atol=1e-4)
    values = features.values.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(classifier.tail(features._replace(values=values))[0, 1], values)
    maps = classifier.spatial(gradient)
    assert maps.shape[2:] == (side, side)
    assert (maps.abs().sum(1) > 0).all()
    query = Query(images, torch.tensor([1]), torch.tensor([1]))
    for method in ("gradcam", "eigencam"):
        maps = explain(classifier, parse_method(method).explainer, query).maps
        assert maps.shape == (1, 64, 64)
    assert maps.amax() > maps.amin()


@pytest.mark.parametrize("place", QUICK)
def test_a_family(place: str) -> None:
    check_family(place, *QUICK[place])


@pytest.mark.slow
@pytest.mark.parametrize("place", SLOW)
def test_a_large_family(place: str) -> None:
    check_family(place, *SLOW[place])


class Tokens(nn.Module):
    """Patches, a class token that is a parameter, two blocks of which the last one mixes, and a head that reads it."""

    def __init__(self, mean: bool = False, transposed: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.blocks = nn.ModuleList([Mixing(), Mixing()])
        self.head = nn.Linear(6, 4)
        self.mean, self.transposed = mean, transposed

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens, self.token.expand(len(images), -1, -1))
        return self.head(tokens[:, 1:].mean(1) if self.mean else tokens[:, 0])


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.attn = Attention()

    def forward(self, tokens: Tensor, token: Tensor) -> Tensor:
        return tokens + self.attn(self.norm(tokens))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.1)

    def forward(self, tokens: Tensor) -> Tensor:
        weights = self.drop((tokens @ tokens.transpose(1, 2)).softmax(-1)[:, None])  # (B, 1, T, T), no maps
        return weights[:, 0] @ tokens


@pytest.mark.parametrize(("mean", "layer"), [(False, "blocks.1.norm"), (True, "blocks.1")])
def test_the_last_tokens_that_count(mean: bool, layer: str) -> None:
    """Read from a class token, the last block's own output counts at one token alone; read from the mean, at all."""
    torch.manual_seed(0)
    network = Tokens(mean).eval()
    assert choose_layer(network, probe_network(network, 16)) == layer


def test_the_choice_leaves_no_trace() -> None:
    network = Tokens().train()
    network.token.requires_grad_(False)
    before = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in network.named_parameters()}
    state = torch.get_rng_state()
    choose_layer(network, probe_network(network, 16))
    assert all(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in network.named_parameters():
        assert torch.equal(tensor, before[name][0])
        assert (tensor.requires_grad, tensor.grad) == (before[name][1], None)


def test_the_shares_of_a_network_that_hands_views_of_parameters_about() -> None:
    """torch's counter of operations hooks what wants a gradient, and fails on views that were made without a graph."""
    network = Tokens().eval()
    image = torch.rand(1, 3, 16, 16)
    shares = measure_shares(network, split(network, "blocks.0", torch.rand(2, 3, 16, 16)), image)
    assert shares == (1, 1)  # it runs whole on either side of the cut, since torch.fx does not follow it


def test_maps_with_their_channels_behind() -> None:
    """Maps (B, s, s, K) of a network of no known family are read as maps, and not as s channels of s x K places."""

    class Behind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.mix, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.mix(self.body(images).permute(0, 2, 3, 1)).mean((1, 2)))

    torch.manual_seed(0)
    classifier: Classifier = open_source(Source(Behind(), size=20), torch.device("cpu"))
    assert classifier.target_layer == "mix"
    assert classifier.head(torch.rand(2, 3, 20, 20)).values.shape == (2, 8, 5, 5)
    query = Query(torch.rand(2, 3, 20, 20), torch.tensor([0, 1]), torch.arange(2))
    ours = explain(classifier, parse_method("gradcam").explainer, query).maps
    with torch.no_grad():  # for a mean and a linear layer, the weights are its row over the number of places
        values = classifier.network.mix(classifier.network.body(classifier.normalise(query.images)).permute(0, 2, 3, 1))
        maps = torch.einsum("bhwk,bk->bhw", values, classifier.network.head.weight[query.targets] / 25).relu()
    expected = nn.functional.interpolate(maps[:, None], (20, 20), mode="bilinear")[:, 0]
    assert torch.allclose(ours, expected, atol=1e-5)
