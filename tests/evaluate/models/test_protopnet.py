"""ProtoPNet: closed forms, slow second versions of its loss, the push and its proof, pruning, files, and refusals."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.data.batches import Batch, ResidentRows, open_rows
from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.factories import find_arch
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.prototypes.protopnet import ProtoPNet, similarity, squared_distances
from an8flower.evaluate.models.prototypes.protopnet_loss import (
    ProtoPNetLoss,
    cluster_cost,
    cross_weights,
    separation_cost,
)
from an8flower.evaluate.models.prototypes.pushing import NearestPatches, Prune, find_nearest_patches, prove_push, push
from an8flower.evaluate.models.recipe import Recipe
from an8flower.evaluate.models.sources import order_classes
from an8flower.evaluate.models.staged_training import StagedRecipe
from an8flower.evaluate.models.training import train
from an8flower.evaluate.registry import archs
from an8flower.evaluate.seeds import generator
from an8flower.evaluate.trust.sanity.randomisation import redraw
from an8flower.store import FlowerStore

Run = Callable[..., CompletedProcess[str]]
CLASSES = ("a", "b", "c")
BASES = ("flowernet", "resnet18", "mobilenet_v2", "convnext_tiny")


def network_of(classifier: Classifier) -> ProtoPNet:
    assert isinstance(classifier.network, ProtoPNet)
    return classifier.network


def small(classes: int = 3, per_class: int = 2, depth: int = 4) -> ProtoPNet:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return ProtoPNet(nn.Sequential(nn.Conv2d(3, depth, 3, 2)), depth, classes, per_class).eval()


def rows_of(count: int, classes: int, size: int = 24, seed: int = 1) -> ResidentRows:
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator(seed), dtype=torch.uint8)
    return ResidentRows(Batch(images, torch.arange(count) % classes, images[:, 0]))


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


@pytest.fixture(scope="module")
def trained(store: FlowerStore) -> Classifier:
    """A network that was trained by its whole recipe, an epoch a stage."""
    return train(store, "flowernet+protopnet", epochs=4, prototypes=2).classifier


# Closed forms


def test_an_exact_match_is_as_similar_as_can_be() -> None:
    assert similarity(torch.zeros(1)).item() == pytest.approx(math.log(1e4), abs=1e-5)
    assert math.log(1e4) == pytest.approx(9.2103, abs=1e-4)
    assert similarity(torch.tensor(1.0)).item() == pytest.approx(math.log(2 / 1.0001))
    assert similarity(torch.tensor(1e6)).item() == pytest.approx(0, abs=1e-5)


def test_a_prototype_that_is_there_is_found_where_it_is() -> None:
    """The prototype is the feature of one cell: its similarity there is log(1e4), and no larger anywhere."""
    network, images = small(), torch.rand(1, 3, 11, 11, generator=generator(2))
    with torch.no_grad():
        network.prototypes.vectors[1] = network.embed(images)[0, :, 3, 2, None, None]
        maps = network.locate(images)
        assert maps.shape == (1, 6, 5, 5)
        assert maps[0, 1, 3, 2].item() == pytest.approx(math.log(1e4), abs=1e-4)
        assert maps[0, 1].argmax() == 3 * 5 + 2
        assert torch.equal(network.find(images), maps.amax((2, 3)))
        assert torch.equal(network(images), network.find(images) @ network.weights.T)


def test_a_prototype_speaks_for_its_class_at_first() -> None:
    network = small(classes=3, per_class=2)
    assert network.class_identity.tolist() == [0, 0, 1, 1, 2, 2]
    assert network.weights.tolist()[1] == [-0.5, -0.5, 1, 1, -0.5, -0.5]
    assert network.source.tolist() == [[-1, -1, -1]] * 6


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**20))
def test_distances_are_those_of_a_slow_loop(batch: int, depth: int, count: int, seed: int) -> None:
    draws = generator(seed)
    features = torch.rand(batch, depth, 2, 3, generator=draws)
    prototypes = torch.rand(count, depth, 1, 1, generator=draws)
    distances = squared_distances(features, prototypes)
    for b, k, y, x in np.ndindex(batch, count, 2, 3):
        expected = sum(float(features[b, d, y, x] - prototypes[k, d, 0, 0]) ** 2 for d in range(depth))
        assert distances[b, k, y, x].item() == pytest.approx(expected, abs=1e-6)


def test_distances_are_exact_whatever_the_precision_around() -> None:
    """In bfloat16, three terms of about 40 would leave a small difference to chance."""
    features = 0.5 + 0.01 * torch.rand(2, 128, 3, 3, generator=generator(1))
    prototypes = features[0, :, 1, 1, None, None][None] + 1e-3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = squared_distances(features, prototypes)
    assert distances[0, 0, 1, 1].item() == pytest.approx(128e-6, rel=1e-3)


# The loss


def slow_costs(smallest: Tensor, labels: Tensor, identity: Tensor) -> tuple[float, float]:
    """The cluster and the separation cost in loops."""
    cluster = separation = 0.0
    for distances, label in zip(smallest.tolist(), labels.tolist(), strict=True):
        own, other = math.inf, math.inf
        for distance, owner in zip(distances, identity.tolist(), strict=True):
            if owner == label:
                own = min(own, distance)
            else:
                other = min(other, distance)
        cluster, separation = cluster + own, separation + other
    return cluster / len(labels), separation / len(labels)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 6), st.integers(2, 4), st.integers(1, 3), st.integers(0, 2**20))
def test_cluster_and_separation_are_those_of_a_slow_loop(rows: int, classes: int, per_class: int, seed: int) -> None:
    draws = generator(seed)
    identity = torch.arange(classes).repeat_interleave(per_class)
    smallest = 300 * torch.rand(rows, len(identity), generator=draws)  # beyond any bound that the code might assume
    labels = torch.randint(classes, (rows,), generator=draws)
    is_own = identity[None] == labels[:, None]
    expected = slow_costs(smallest, labels, identity)
    assert cluster_cost(smallest, is_own).item() == pytest.approx(expected[0], rel=1e-5)
    assert separation_cost(smallest, is_own).item() == pytest.approx(expected[1], rel=1e-5)


def test_the_gradient_of_the_cluster_cost_does_not_vanish_far_away() -> None:
    """Written as the maximum of (bound - d) times a mask, as the published code does, it would beyond the bound."""
    smallest = torch.tensor([[500.0, 400.0, 1.0]], requires_grad=True)
    cluster_cost(smallest, torch.tensor([[True, True, False]])).backward()
    assert smallest.grad is not None
    assert smallest.grad.tolist() == [[0, 1, 0]]


def test_the_loss_is_the_sum_of_its_terms() -> None:
    classifier = build("flowernet+protopnet", CLASSES, 24, 0).eval()
    network, rows = network_of(classifier), next(rows_of(5, 3).batches(torch.arange(5), 5))
    with torch.no_grad():
        images = classifier.normalise(rows.images.float() / 255)
        smallest = network.measure(images).amin((2, 3))
        cluster, separation = slow_costs(smallest, rows.labels, network.class_identity)
        across = sum(
            abs(float(network.last.weight[c, k])) for c in range(3) for k in range(15) if network.class_identity[k] != c
        )
        entropy = nn.functional.cross_entropy(network(images), rows.labels).item()
        loss = ProtoPNetLoss(0.8, 0.08, 1e-4)(classifier, rows.images, rows.labels, generator(0)).item()
    assert cross_weights(network).item() == pytest.approx(across) == 15.0
    assert loss == pytest.approx(entropy + 0.8 * cluster - 0.08 * separation + 1e-4 * across, rel=0.02)  # bfloat16
    assert ProtoPNetLoss().words() == "cross entropy +0.8 cluster -0.08 separation +0.0001 cross weights"


# The push


def test_after_the_push_each_prototype_is_the_nearest_patch_of_its_class() -> None:
    classifier, rows = build("flowernet+protopnet", CLASSES, 24, 3).eval(), rows_of(9, 3)
    network = network_of(classifier)
    before = find_nearest_patches(classifier, rows)
    push(classifier, rows)
    for k, (row, y, x) in enumerate(network.source.tolist()):
        label = int(network.class_identity[k])
        candidates = [before.distances[i, k].item() for i in range(9) if i % 3 == label]
        assert row % 3 == label
        assert before.distances[row, k].item() == min(candidates)
        (batch,) = rows.batches(torch.tensor([row]), 1)
        with torch.no_grad():
            images = classifier.normalise(batch.images.float() / 255)
            distances = network.measure(images)[0, k]
            assert distances.min().item() == pytest.approx(0, abs=1e-9)
            assert distances[y, x].item() == distances.min().item()
            assert network.find(images)[0, k].item() == pytest.approx(9.2103, abs=1e-3)


def test_a_prototype_beside_its_patch_is_refused() -> None:
    classifier, rows = build("flowernet+protopnet", CLASSES, 24, 3).eval(), rows_of(9, 3)
    push(classifier, rows)
    with torch.no_grad():
        network_of(classifier).prototypes.vectors[4] += 0.2
    with pytest.raises(Refusal, match=r"prototype 4 is at the squared distance 2\.6 from the patch of training row"):
        prove_push(classifier, rows)


def test_a_class_without_rows_is_refused_and_prototypes_stay() -> None:
    classifier, rows = build("flowernet+protopnet", CLASSES, 24, 3).eval(), rows_of(8, 2)
    before = network_of(classifier).prototypes.vectors.clone()
    with pytest.raises(Refusal, match=r"no training rows of c, whose prototypes are to become patches of them; train"):
        push(classifier, rows)
    assert torch.equal(network_of(classifier).prototypes.vectors, before)


@pytest.mark.parametrize(
    ("rows", "prototypes", "message"),
    [
        (rows_of(8, 2), 1, r"no training rows of c, whose"),
        (rows_of(3, 3, size=8), 5, r"5 prototypes of a, whose 1 training rows have 4 patches; give fewer with --proto"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_the_training(
    rows: ResidentRows, prototypes: int, message: str
) -> None:
    classifier = build("flowernet+protopnet", CLASSES, 8, 3)
    network_of(classifier).take_prototypes(prototypes)
    recipe = archs["flowernet+protopnet"].about["recipe"]
    with pytest.raises(Refusal, match=message):
        recipe.fit(classifier, rows, rows, _settings(recipe))


def _settings(recipe: StagedRecipe) -> Recipe:
    return Recipe(recipe.epochs, 4, 1e-3, 6, 0)


# Pruning


def test_prototypes_of_no_class_go_and_each_class_keeps_one() -> None:
    network = small(classes=3, per_class=2)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    near = {0: [0, 1, 2], 1: [3, 4, 5], 2: [0, 3, 6], 3: [1, 4, 7], 4: [6, 7, 8], 5: [7, 8, 0]}  # of each prototype
    distances = torch.ones(10, 6)
    for prototype, rows in near.items():
        distances[rows, prototype] = 0.1
    nearest = NearestPatches(distances, torch.zeros(10, 6, 2, dtype=torch.int64), labels)
    assert Prune(nearest=3, least=2).choose(network, nearest).tolist() == [0, 2, 4, 5]
    assert Prune(nearest=3, least=1).choose(network, nearest).tolist() == [0, 2, 3, 4, 5]
    assert Prune(nearest=3, least=3).choose(network, nearest).tolist() == [0, 2, 4]


def test_a_network_without_some_prototypes_is_the_sum_of_the_others() -> None:
    network, images = small(), torch.rand(2, 3, 9, 9, generator=generator(2))
    stays = torch.tensor([0, 3, 4])
    with torch.no_grad():
        expected = network.find(images)[:, stays] @ network.weights[:, stays].T
        network.keep_prototypes(stays)
        assert torch.allclose(network(images), expected)
    assert network.class_identity.tolist() == [0, 1, 2]
    assert network.source.shape == (3, 3)


# Training, files


def test_the_recipe_leaves_pushed_prototypes_and_says_so(store: FlowerStore, trained: Classifier) -> None:
    network, rows = network_of(trained), open_rows(store, "train", "cpu")
    assert trained.card.data["prototypes"] == "2"
    stages = [words.split()[0] for words in trained.card.data["recipe"].partition(": ")[2].split("; ")]
    assert [word for word in stages if word in ("backbone", "warm-up", "joint", "push", "prune", "last")] == [
        *("backbone", "warm-up", "joint", "push", "prune", "last")
    ]
    assert len(trained.card.data["recipe"]) <= 1000  # what a card may hold
    prove_push(trained, rows)  # training the last layer has not moved them
    labels = next(rows.batches(network.source[:, 0], 1000)).labels
    assert torch.equal(labels, network.class_identity)
    assert set(network.class_identity.tolist()) == set(range(len(store.class_names)))


def test_a_fresh_process_reads_the_same_network(trained: Classifier, tmp_path: Path) -> None:
    """One that was pruned to fewer prototypes than its architecture is built with: same logits, same prototypes."""
    trained.save(tmp_path / "m.safetensors")
    images = torch.rand(2, 3, trained.size, trained.size, generator=generator(7))
    with torch.no_grad():
        np.save(tmp_path / "images.npy", images.numpy())
        np.save(tmp_path / "logits.npy", trained(images).numpy())
    code = (
        "import numpy, torch; from an8flower.evaluate import load; torch.set_num_threads(1); "
        "c = load('m.safetensors'); n = c.network; torch.set_grad_enabled(False); "
        "print(numpy.array_equal(c(torch.from_numpy(numpy.load('images.npy'))).numpy(), numpy.load('logits.npy')), "
        "n.class_identity.tolist(), n.source.tolist(), float(n.prototypes.vectors.double().sum()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    network = network_of(trained)
    total = float(network.prototypes.vectors.detach().double().sum())
    identity, source = network.class_identity.tolist(), network.source.tolist()
    assert len(identity) <= 2 * len(trained.class_names) < len(network_of(_built(trained)).class_identity)
    assert done.stdout.strip() == f"True {identity} {source} {total}"


def _built(classifier: Classifier) -> Classifier:
    return build(classifier.arch, classifier.class_names, classifier.size, 0)


def test_files_of_other_networks_are_refused(trained: Classifier, tmp_path: Path) -> None:
    other = build("flowernet+ca-final", trained.class_names, trained.size, 0)
    other.card = replace(other.card, arch=trained.arch)
    other.save(tmp_path / "other.safetensors")
    with pytest.raises(Refusal, match=r"its weights do not fit flowernet\+protopnet with . classes"):
        load(tmp_path / "other.safetensors")
    broken = build(trained.arch, trained.class_names, trained.size, 0)
    network_of(broken).class_identity = network_of(broken).class_identity[:7]  # fewer than there are prototypes
    strange = build(trained.arch, trained.class_names, trained.size, 0)
    network_of(strange).class_identity[3] = 99
    for number, classifier in enumerate((broken, strange)):
        classifier.save(tmp_path / f"{number}.safetensors")
        with pytest.raises(Refusal, match="its weights do not fit .* classes; train one anew"):
            load(tmp_path / f"{number}.safetensors")
    older = build(trained.arch, trained.class_names, trained.size, 0)
    del network_of(older)._buffers["source"]  # as a version might have written it that did not know the sources
    older.save(tmp_path / "older.safetensors")
    with pytest.raises(Refusal, match="its weights do not fit .* classes; train one anew"):
        load(tmp_path / "older.safetensors")


def test_weights_of_another_pooling_do_not_start_a_training(store: FlowerStore, tmp_path: Path) -> None:
    build("flowernet+ca-final", store.class_names, store.size, 0).save(tmp_path / "final.safetensors")
    with pytest.raises(Refusal, match=r"final.safetensors: holds a flowernet\+ca-final, .* a plain flowernet,"):
        train(store, "flowernet+protopnet", init=tmp_path / "final.safetensors")


@pytest.mark.parametrize("name", BASES)
def test_it_can_be_cut_at_its_layer_and_drawn_anew(name: str) -> None:
    classifier = build(f"{name}+protopnet", CLASSES, 64, 0).eval()
    images = torch.rand(2, 3, 64, 64, generator=generator(3))
    with torch.no_grad():
        assert torch.allclose(classifier.tail(classifier.head(images)), classifier(images), atol=1e-5)
    assert type(classifier.split(classifier.target_layer)).__name__ == "GraphSplit"  # not the whole network twice
    assert redraw(classifier, 1).keys() == dict(classifier.network.named_parameters()).keys()


def test_classes_in_another_order_take_their_prototypes_along() -> None:
    classifier = build("flowernet+protopnet", CLASSES, 24, 0).eval()
    ordered, images = order_classes(classifier, ("c", "a", "b")), torch.rand(2, 3, 24, 24, generator=generator(3))
    with torch.no_grad():
        assert torch.allclose(ordered(images), classifier(images)[:, [2, 0, 1]])
    network = network_of(ordered)
    for k, label in enumerate(network_of(classifier).class_identity.tolist()):
        assert ("c", "a", "b")[int(network.class_identity[k])] == CLASSES[label]
        assert network.weights[network.class_identity[k], k] == 1


# Settings


def test_a_plain_network_may_be_its_backbone_and_stay_as_it_is(store: FlowerStore, tmp_path: Path) -> None:
    plain = build("flowernet", store.class_names, store.size, 5)
    plain.save(tmp_path / "plain.safetensors")
    start = {"init": tmp_path / "plain.safetensors", "freeze": "backbone", "prototypes": 1}
    trained = train(store, "flowernet+protopnet", epochs=4, **start)
    loaded, frozen, left_out, *_ = trained.notes
    assert loaded.endswith("all of the backbone; not taken from there: classifier.bias, classifier.weight")
    assert frozen.startswith("frozen up to backbone: ")
    assert left_out == "the stage backbone is left out, since all that it trains is frozen"
    backbone = network_of(trained.classifier).backbone.state_dict()
    for name, values in plain.network.get_submodule("features").state_dict().items():
        assert torch.equal(backbone[name], values), name


def test_settings_that_do_not_fit_are_refused(store: FlowerStore) -> None:
    with pytest.raises(Refusal, match=r'--freeze "add_on": prototypes are learnt behind the backbone; name backbone'):
        train(store, "flowernet+protopnet", freeze="add_on")
    with pytest.raises(WrongUsage, match=r"--prototypes came for flowernet, which has no prototypes of classes"):
        train(store, "flowernet", prototypes=3)
    with pytest.raises(WrongUsage, match=r"0 prototypes of each class came; expected at least 1"):
        train(store, "flowernet+protopnet", prototypes=0)
    with pytest.raises(WrongUsage, match=r"3 epochs came, and 4 stages train \(backbone, warm-up, joint, last layer\)"):
        train(store, "flowernet+protopnet", epochs=3)
    with pytest.raises(WrongUsage, match=r"flowervit cannot be pooled by protopnet; it fits convnext_tiny, flowernet"):
        find_arch("flowervit+protopnet")


def test_the_command_trains_and_writes_nothing_where_it_refuses(run: Run, small_file: Path, tmp_path: Path) -> None:
    words = ["train", "--data", small_file, "--device", "cpu", "--pool", "protopnet", "-o", "m.safetensors"]
    done = run(*words, "--prototypes", 2000, "--epochs", 4, check=False)
    assert done.returncode == 1
    assert "patches; give fewer with --prototypes" in done.stderr
    assert not (tmp_path / "m.safetensors").exists()
    outcome = json.loads(run(*words, "--prototypes", 1, "--epochs", 4, "--json").stdout)
    assert outcome["arch"] == "flowernet+protopnet"
    assert any(note.startswith("pushed ") for note in outcome["notes"])
