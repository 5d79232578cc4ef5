"""Building, saving, loading, copying and counting of classifiers."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.sources import check_fits

Make = Callable[[str], Classifier]
NAMES = ("red", "blue", "white")


@pytest.fixture
def flowernet() -> Classifier:
    return build("flowernet", NAMES, 28, seed=3).eval()


def images(size: int = 28, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_normalisation_lies_inside(flowernet: Classifier) -> None:
    normalised = (images() - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    torch.testing.assert_close(flowernet(images()), flowernet.network(normalised))


def test_the_predicted_class_has_the_largest_logit(flowernet: Classifier) -> None:
    predicted = flowernet.predict(images())
    assert torch.equal(predicted, flowernet(images()).argmax(1))
    assert not predicted.requires_grad


def test_the_seed_fixes_the_weights_and_nothing_global_moves() -> None:
    before = torch.get_rng_state()
    first, again, other = (build("flowernet", NAMES, 28, seed).digest for seed in (3, 3, 4))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_a_saved_classifier_comes_back(flowernet: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "f.safetensors"
    flowernet.save(path)
    back = load(path)
    assert back.digest == flowernet.digest
    assert back.card == flowernet.card
    assert torch.equal(back(images()), flowernet(images()))
    assert [each.name for each in path.parent.iterdir()] == ["f.safetensors"]


def test_a_place_that_cannot_be_written(flowernet: Classifier, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match="cannot be written"):
        flowernet.save(tmp_path / "file" / "f.safetensors")


def spoil(path: Path, how: str, classifier: Classifier) -> None:
    weights = dict(classifier.state_dict())
    metadata = classifier.card.to_metadata()
    if how == "text":
        path.write_text("not safetensors at all")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif how == "no metadata":
        save_file(weights, path)
    elif how == "foreign":
        save_file(weights, path, {"format": "pt"})
    elif how == "arch":
        save_file(weights, path, {**metadata, "arch": json.dumps("os:system")})
    elif how == "classes":
        save_file(weights, path, {**metadata, "class_names": json.dumps(["a", "b"])})
    elif how == "missing":
        path.unlink()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "no such file; train one with"),
        ("text", "not a safetensors file"),
        ("truncated", "not a safetensors file, or damaged"),
        ("no metadata", "its metadata are not ours"),
        ("foreign", "its metadata are not ours"),
        ("arch", 'architecture "os:system", and importing a module runs its code'),
        ("classes", "weights do not fit flowernet with 2 classes"),
    ],
)
def test_files_that_are_no_classifier(flowernet: Classifier, tmp_path: Path, how: str, says: str) -> None:
    path = tmp_path / "f.safetensors"
    flowernet.save(path)
    spoil(path, how, flowernet)
    with pytest.raises(Refusal, match=says) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *[("seed", text) for text in ('"/../../../../outside/name"', "-1", "0.5", "9" * 400, "true", "[1]")],
        *[("size", text) for text in ("null", '"28"', "-1", "0", "1000000", "NaN")],
        *[("class_names", text) for text in ("[]", "[[[]]]", "[1, 2, 3]", '"red"', "[" * 9000, "{}")],
        *[("arch", text) for text in ("null", '""', "7", "{")],
        *[("accuracy", text) for text in ("2", '"all"', "Infinity")],
        *[("data", text) for text in ("[]", '{"epochs": 3}')],
    ],
)
def test_a_card_has_bounds(flowernet: Classifier, tmp_path: Path, field: str, text: str) -> None:
    """What a card says goes into names of files, and decides how large a network is built."""
    path = tmp_path / "f.safetensors"
    save_file(dict(flowernet.state_dict()), path, {**flowernet.card.to_metadata(), field: text})
    with pytest.raises(Refusal, match="its metadata are not ours") as caught:
        load(path)
    assert len(str(caught.value).replace(str(path), "")) <= 400
    assert "\n" not in str(caught.value)


def test_weights_that_were_changed_are_refused(flowernet: Classifier, tmp_path: Path) -> None:
    """The metadata stay as they were, so that only the checksum of the tensors can tell."""
    path = tmp_path / "f.safetensors"
    flowernet.save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = {name: tensor.clone() for name, tensor in flowernet.state_dict().items()}
    save_file(weights, path, metadata)
    assert load(path).digest == flowernet.digest
    weights["network.classifier.bias"][0] += 1
    save_file(weights, path, metadata)
    with pytest.raises(Refusal, match="its tensors are not those of its checksum, so they were changed; train one"):
        load(path)


def test_a_file_of_before_the_checksum_still_loads(flowernet: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    save_file(dict(flowernet.state_dict()), path, flowernet.card.to_metadata())
    assert load(path).digest == flowernet.digest


def test_a_named_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refusal, match="a named pipe came"):
        load(tmp_path / "pipe")


def test_digest_depends_on_weights_buffers_and_names(flowernet: Classifier) -> None:
    before = flowernet.digest
    flowernet.network.features[1].running_mean += 1
    assert flowernet.digest != before


def test_a_copy_is_cut_on_its_own(flowernet: Classifier) -> None:
    flowernet.head(images())
    twin = copy.deepcopy(flowernet)
    nn.init.zeros_(twin.network.classifier.weight)
    nn.init.zeros_(twin.network.classifier.bias)
    assert not twin.tail(twin.head(images())).any()
    torch.testing.assert_close(flowernet.tail(flowernet.head(images())), flowernet(images()))
    assert pickle.loads(pickle.dumps(flowernet)).digest == flowernet.digest


def test_a_moved_classifier_is_cut_anew() -> None:
    classifier = build("flowervit", NAMES, 28, seed=0).eval()
    classifier.head(images())
    classifier.double()
    features = classifier.head(images().double())
    torch.testing.assert_close(classifier.tail(features), classifier(images().double()))


def test_tokens_return_to_their_grid() -> None:
    classifier = build("flowervit", NAMES, 28, seed=0).eval()
    values = torch.arange(197.0)[None, :, None].expand(2, -1, 5)  # every token holds its own number
    maps = classifier.spatial(values)
    assert maps.shape == (2, 5, 14, 14)
    assert maps[0, 0, 0, 0] == 1  # the class token is gone
    assert maps[0, 0, 1, 0] == 15


def test_maps_have_no_token_grid(flowernet: Classifier) -> None:
    assert flowernet.spatial(torch.ones(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def test_counting_whole_passes(flowernet: Classifier) -> None:
    pixels = images().requires_grad_()
    with flowernet.counting() as cost:
        with torch.no_grad():
            flowernet(images())
        torch.autograd.grad(flowernet(pixels).sum(), pixels)
    flowernet(pixels)
    assert (cost.forwards, cost.backwards) == (8, 4)


def test_counting_halves(make: Make) -> None:
    classifier = make("vit").eval()
    head, tail = classifier.share(classifier.target_layer)
    assert head + tail == pytest.approx(1)
    assert 0.2 < tail < 0.3  # a bit less than one block of four
    with classifier.counting() as outer, classifier.counting() as cost:
        with torch.no_grad():
            features = classifier.head(images())
        assert cost.forwards == pytest.approx(4 * head)
        values = features.values.clone().requires_grad_()
        torch.autograd.grad(classifier.tail(features._replace(values=values)).sum(), values)
    assert cost.forwards == pytest.approx(4)
    assert cost.backwards == pytest.approx(4 * tail)
    assert cost == outer


def test_counting_a_backward_through_both_halves(flowernet: Classifier) -> None:
    pixels = images().requires_grad_()
    with flowernet.counting() as cost:
        torch.autograd.grad(flowernet.tail(flowernet.head(pixels)).sum(), pixels)
    assert cost.forwards == pytest.approx(4)
    assert cost.backwards == pytest.approx(4)


def test_hooks_cost_the_whole_network_in_each_half(make: Make) -> None:
    assert make("untraceable").share("features") == (1, 1)


def test_a_network_of_the_users_own(make: Make) -> None:
    network = make("inplace").network
    assert wrap(network, "abcd", 16, "features").class_names == ("a", "b", "c", "d")
    with pytest.raises(Refusal, match=r"gives \(1, 4\) for one image; expected \(1, 3\)"):
        wrap(network, NAMES, 16, "features")
    with pytest.raises(WrongUsage, match="did you mean"):
        wrap(network, "abcd", 16, "feature")


@pytest.mark.parametrize(
    ("names", "says"),
    [("ab", "3 classes and the data have 2"), (["red", "white", "blue"], "knows the classes red, blue")],
)
def test_classes_that_do_not_fit(flowernet: Classifier, names: list[str], says: str) -> None:
    check_fits(flowernet, list(NAMES))
    with pytest.raises(Refusal, match=says):
        check_fits(flowernet, names)


def test_an_arch_that_cannot_take_the_size() -> None:
    for arch in ("flowervit", "flowervit_tiny"):
        with pytest.raises(Refusal, match=f"{arch} cuts .* 100 px is no multiple of 14; use 98 px"):
            build(arch, NAMES, 100, 0)
    with pytest.raises(WrongUsage, match='unknown arch "resnet81"; did you mean "resnet18"'):
        build("resnet81", NAMES, 64, 0)
