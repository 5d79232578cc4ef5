"""Cross-attention pooling: closed forms, a slow second version, parameter counts, frozen backbones, files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.cross_attention import CrossAttentionMap
from an8flower.evaluate.models.archs.cross_attention_pooled import BASES, CONVNEXT, RESNET
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.cross_attention import (
    BackboneStages,
    CrossAttention,
    CrossAttentionPooled,
    attend,
)
from an8flower.evaluate.models.factories import find_arch
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.training import train
from an8flower.evaluate.registry import archs
from an8flower.evaluate.trust.sanity.randomisation import redraw
from an8flower.store import FlowerStore

Run = Callable[..., CompletedProcess[str]]
CLASSES = ("a", "b", "c")


def pictures(size: int = 32) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3))


def pooled_of(classifier: Classifier) -> CrossAttentionPooled:
    assert isinstance(classifier.network, CrossAttentionPooled)
    return classifier.network


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("make", "stages", "widths", "added"),
    [
        (models.resnet18, RESNET, (64, 64, 128, 256, 512), 439_808),
        (models.resnet50, RESNET, (64, 256, 512, 1024, 2048), 6_969_152),
        (models.convnext_small, CONVNEXT, (96, 192, 384, 768), 979_104),
        (models.convnext_base, CONVNEXT, (128, 256, 512, 1024), 1_739_648),
    ],
)
def test_as_many_parameters_as_printed(
    make: Callable[[], nn.Module], stages: BackboneStages, widths: tuple[int, ...], added: int
) -> None:
    with torch.device("meta"):
        backbone = make()
        assert count(CrossAttentionPooled(backbone, stages, widths)) - count(backbone) == added


@pytest.mark.parametrize("name", BASES)
def test_a_query_of_zeros_pools_by_the_mean(name: str) -> None:
    """Then all positions get the same attention; with the identity behind it, it is the backbone itself."""
    classifier = build(f"{name}+ca-final", CLASSES, 32, 0).eval()
    network = pooled_of(classifier)
    (block,) = network.stream
    assert isinstance(block, CrossAttention)
    with torch.no_grad():
        network.first.values.zero_()
        block.projection.weight.copy_(torch.eye(len(block.projection.weight)))
        block.projection.bias.zero_()
        images = classifier.normalise(pictures())
        assert torch.allclose(network(images), network.backbone(images), atol=1e-6)


def test_a_strong_query_picks_one_position() -> None:
    tokens = torch.zeros(1, 2, 4)
    tokens[0, :, 2] = torch.tensor([3.0, 1.0])
    query = torch.tensor([[100.0, 100.0]])
    assert torch.allclose(attend(tokens, query, 2), torch.tensor([[0.0, 0, 1, 0]]))
    block = CrossAttention(2, 2)
    with torch.no_grad():
        expected = block.projection(tokens[:, :, 2])
        assert torch.allclose(block(tokens.unflatten(2, (2, 2)), query), expected, atol=1e-5)


def slow_stream(network: CrossAttentionPooled, images: Tensor) -> Tensor:
    """Position by position, in the words of the publication."""
    features = images
    query = network.first.values.repeat(len(images), 1)
    for paths, block in zip(network.stages.parts, network.stream, strict=True):
        assert isinstance(block, CrossAttention)
        for path in paths:
            features = network.backbone.get_submodule(path)(features)
        pooled = torch.zeros_like(query)
        for i in range(len(images)):
            tokens = features[i].flatten(1).T
            weights = [math.exp(float(token @ query[i]) / math.sqrt(len(token))) for token in tokens]
            for token, weight in zip(tokens, weights, strict=True):
                pooled[i] += token * weight / sum(weights)
        query = pooled @ block.projection.weight.T + block.projection.bias
    logits: Tensor = network.backbone.get_submodule(network.stages.head)(query)
    return logits


@pytest.mark.parametrize("name", ["flowernet+ca-stream", "resnet18+ca-stream"])
def test_the_stream_equals_the_slow_version(name: str) -> None:
    classifier = build(name, CLASSES, 24, 0).eval()
    images = classifier.normalise(pictures(24))
    with torch.no_grad():
        assert torch.allclose(classifier.network(images), slow_stream(pooled_of(classifier), images), atol=1e-5)


@pytest.mark.parametrize("name", ["flowernet+ca-final", *(f"{base}+ca-stream" for base in BASES if base != "resnet50")])
def test_it_can_be_cut_at_its_layer_and_drawn_anew(name: str) -> None:
    classifier = build(name, CLASSES, 64, 0).eval()
    images = pictures(64)
    with torch.no_grad():
        halves = classifier.tail(classifier.head(images))
        assert torch.allclose(halves, classifier(images), atol=1e-6)
    assert type(classifier.split(classifier.target_layer)).__name__ == "GraphSplit"  # not the whole network twice
    assert redraw(classifier, 1).keys() == dict(classifier.network.named_parameters()).keys()


def test_the_attention_map_sums_to_one_and_shows_the_stage() -> None:
    classifier = build("flowernet+ca-stream", CLASSES, 32, 0).eval()
    query = Query(pictures(), torch.tensor([0, 1]), torch.tensor([1, 2]))
    for stage, side in ((0, 16), (1, 8), (-1, 8)):
        explainer = CrossAttentionMap(stage)
        assert explainer.map_grid(classifier, query) == (side, side)
        attention = explainer._attention(classifier, query.images)
        assert torch.allclose(attention.sum((1, 2)), torch.ones(2), atol=1e-5)
    assert CrossAttentionMap()(classifier, query).shape == (2, 32, 32)
    with pytest.raises(WrongUsage, match="stage is 4; expected -4 to 3, the stages"):
        CrossAttentionMap(4)(classifier, query)
    with pytest.raises(NotApplicable, match="ca_attention needs cross-attention pooling, and flowernet has none"):
        CrossAttentionMap()(build("flowernet", CLASSES, 32, 0).eval(), query)


def test_a_frozen_backbone_stays_as_it_was_and_its_file_gives_the_same_logits(small_file: Path, tmp_path: Path) -> None:
    store = FlowerStore(small_file)
    plain = build("flowernet", store.class_names, store.size, 5)
    plain.save(tmp_path / "plain.safetensors")
    trained = train(
        store,
        "flowernet+ca-stream",
        epochs=1,
        init=tmp_path / "plain.safetensors",
        freeze="backbone",
    )
    loaded, frozen = trained.notes
    assert loaded.endswith("its head as well")
    assert frozen.startswith("frozen the backbone and its head: ")
    backbone = pooled_of(trained.classifier).backbone.state_dict()
    for name, values in plain.network.state_dict().items():
        assert torch.equal(backbone[name], values), name
    fresh = pooled_of(build("flowernet+ca-stream", store.class_names, store.size, 0))
    assert not torch.equal(fresh.first.values, pooled_of(trained.classifier).first.values)
    trained.classifier.save(tmp_path / "pooled.safetensors")
    again = load(tmp_path / "pooled.safetensors")
    with torch.no_grad():
        assert torch.equal(again(pictures(store.size)), trained.classifier(pictures(store.size)))


def test_a_pooling_that_does_not_fit_is_refused() -> None:
    with pytest.raises(WrongUsage, match=r"flowervit cannot be pooled by ca-stream; it fits convnext_tiny, flowernet"):
        find_arch("flowervit+ca-stream")
    assert archs["resnet18+ca-stream"].about["pooling"] == "ca-stream"


def test_weights_of_another_pooling_are_refused(tmp_path: Path, small_file: Path) -> None:
    store = FlowerStore(small_file)
    build("flowernet+ca-final", store.class_names, store.size, 0).save(tmp_path / "final.safetensors")
    with pytest.raises(Refusal, match=r"holds a flowernet\+ca-final, .* give a plain flowernet,"):
        train(store, "flowernet+ca-stream", epochs=1, init=tmp_path / "final.safetensors")


def test_the_command_trains_with_a_pooling(run: Run, small_file: Path, tmp_path: Path) -> None:
    words = ["train", "--data", small_file, "--epochs", 1, "--device", "cpu", "--json"]
    outcome = json.loads(run(*words, "--pool", "ca-final", "-o", "m.safetensors").stdout)
    assert outcome["arch"] == "flowernet+ca-final"
    done = run(*words, "--pool", "ca-stream", "--arch", "flowervit", check=False)
    assert done.returncode == 2
    assert "flowervit cannot be pooled by ca-stream; it fits" in done.stderr
