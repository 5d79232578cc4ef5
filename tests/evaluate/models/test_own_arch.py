"""Networks of the user's own, by name: built for the classes, started, frozen, trained, filed and found again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from an8flower import spec as specs
from an8flower.__main__ import main
from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate.models.accuracy_check import check_accuracy
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.frozen import freeze_up_to
from an8flower.evaluate.models.pretrained import load_pretrained
from an8flower.evaluate.models.training import train
from an8flower.evaluate.registry import archs
from an8flower.generate import generate
from an8flower.store import FlowerStore

NETWORKS = """
import torch
import torch.nn.functional as F
from torch import nn

from an8flower.evaluate import wrap

class Functional(nn.Module):
    "ReLUs and pooling are functions; in training mode there is an auxiliary output."

    def __init__(self, classes, auxiliary=True):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.aux = nn.Linear(8, classes)
        self.head = nn.Linear(16, classes)
        self.auxiliary = auxiliary

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        early = x.mean((2, 3))
        x = F.adaptive_avg_pool2d(F.relu(self.second(x)), 1).flatten(1)
        if self.training and self.auxiliary:
            return self.head(x), self.aux(early)
        return self.head(x)

def net(classes, size):
    return Functional(classes)

def thousand():
    return Functional(1000)

def stubborn(classes):
    return Functional(classes + 1)

class Pair(Functional):
    def forward(self, x):
        return super().forward(x), x

class Named(Functional):
    def forward(self, x):
        logits = super().forward(x)
        return {"out": logits} if self.training else logits

class Nested(nn.Module):
    "It calls a part of itself as a Classifier calls its network."

    def __init__(self):
        super().__init__()
        self.network = nn.Conv2d(3, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.network(x).mean((2, 3)))

def pair(num_classes):
    return Pair(num_classes)

def named(num_classes):
    return Named(num_classes, auxiliary=False)

class Headless(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(3, 10, 1)

    def forward(self, x):
        return self.last(x).mean((2, 3))

class Large(Functional):
    def forward(self, x):
        assert x.shape[2] == 224, "224 px only"
        return super().forward(x)

def large(classes):
    return Large(classes)

def flat(classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes))

def wants(classes, depth):
    return Functional(classes)

def failing(classes):
    raise ValueError("no such depth")

def text(classes):
    return "network"

def transformer(classes, size):
    from torchvision.models import VisionTransformer
    return VisionTransformer(size, size // 4, 2, 2, hidden_dim=16, mlp_dim=32, num_classes=classes)

ready = Functional(6)

def wrapped():
    return wrap(Functional(10), [str(i) for i in range(10)], 40, "first", (0.5,) * 3, (0.25,) * 3)
"""

REGISTERED = """
from mynets import Functional

from an8flower.evaluate import register_arch

@register_arch("stubborn-functional", layer="second")
def stubborn(k, side):
    return Functional(k + 1)

@register_arch("registered-functional", layer="second", learning_rate=3e-3, epochs=1, normalise="none")
def registered(classes, size):
    return Functional(classes)
"""
UNMET = 'wants "depth", which nobody knows here; write a factory of the number of classes'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of networks, which is imported anew and forgotten with all that it registered."""
    (tmp_path / "mynets.py").write_text(NETWORKS)
    (tmp_path / "myarchs.py").write_text(REGISTERED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mynets", "myarchs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    archs.names()
    monkeypatch.setattr(archs, "_entries", dict(archs._entries))
    yield tmp_path
    for name in ("mynets", "myarchs"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def store(small_file: Path) -> FlowerStore:
    return FlowerStore(small_file)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


# Built


@pytest.mark.parametrize(
    "arch",
    ["mynets:net", "mynets:thousand", "mynets:Nested", "myarchs:registered", "torchvision:resnet18"],
)
def test_a_network_is_built_for_the_classes(home: Path, store: FlowerStore, arch: str) -> None:
    built = build(arch, store.class_names, store.size, 0)
    images = torch.rand(2, 3, store.size, store.size)
    assert built.eval()(images).shape == (2, 6)
    assert built.digest == build(arch, store.class_names, store.size, 0).digest
    assert built.digest != build(arch, store.class_names, store.size, 1).digest
    assert built.code
    assert ":" not in built.name


def test_a_replaced_head_is_said_and_with_it_those_of_auxiliary_outputs(home: Path, store: FlowerStore) -> None:
    sentences: list[str] = []
    built = build("mynets:thousand", store.class_names, store.size, 0, note=sentences.append)
    assert sentences == [
        "mynets:thousand: its last linear layer, head, was replaced (and those of its auxiliary outputs, aux): "
        "1000 to 6 classes"
    ]
    assert {module.out_features for module in built.modules() if isinstance(module, nn.Linear)} == {6}
    build("mynets:net", store.class_names, store.size, 0, note=sentences.append)
    assert len(sentences) == 1


def test_what_a_network_brings_counts_and_options_more(home: Path, store: FlowerStore) -> None:
    names = store.class_names
    bare, registered = (build(name, names, store.size, 0) for name in ("mynets:net", "myarchs:registered"))
    assert (bare.target_layer, bare.card.layer) == ("second", "second")
    assert torch.allclose(bare.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    assert registered.mean.abs().sum() == 0
    wrapped = build("mynets:wrapped", names, 40, 0)
    assert (wrapped.target_layer, wrapped.mean.flatten().tolist(), wrapped.class_names) == (
        "first",
        [0.5] * 3,
        tuple(names),
    )
    transformer = build("mynets:transformer", names, store.size, 0)
    assert transformer.target_layer == "encoder.layers.encoder_layer_1.ln_1"  # and not its first convolution
    assert build("mynets:net", names, store.size, 0, layer="first").target_layer == "first"
    with pytest.raises(WrongUsage, match='unknown layer "thirst"; did you mean "first"'):
        build("mynets:net", names, store.size, 0, layer="thirst")


@pytest.mark.parametrize(
    ("arch", "sentence"),
    [
        ("mynets:nothing", '"mynets:nothing" cannot be imported'),
        ("nowhere:net", '"nowhere:net" cannot be imported'),
        (
            "mynets:stubborn",
            "gives 7 logits where 6 classes were asked for; expected one logit a class",
        ),
        ("myarchs:stubborn", "gives 7 logits where 6 classes were asked for; expected one logit a class"),
        (
            "mynets:pair",
            "Pair gives tuple for one image; expected logits (1, C): auxiliary outputs are for",
        ),
        ("mynets:Headless", "tells 10 classes apart, the data have 6, and it has no last linear layer that could be"),
        ("mynets:large", "Large does not take an image of 40 x 40 px (AssertionError: 224 px only)"),
        ("mynets:flat", "no layer has spatial extent"),
        (
            "mynets:wants",
            UNMET,
        ),
        ("mynets:failing", "mynets:failing cannot be called (ValueError: no such depth)"),
        ("mynets:text", "mynets:text returned str; expected a torch module"),
        (
            "mynets:ready",
            "mynets:ready is a network already; name a function that makes one, so that each seed has its own",
        ),
        (
            "mynets:named",
            "gives dict in training mode; expected logits (32, 6), or a tuple whose first is",
        ),
        ("torchvision:resnet81", 'torchvision has no classifier "resnet81"; did you mean "torchvision:resnet18"?'),
        ("torchvision:raft_large", 'torchvision has no classifier "raft_large"'),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(
    home: Path, small_file: Path, arch: str, sentence: str
) -> None:
    done = call("train", "--data", small_file, "--arch", arch, "--epochs", 1)
    assert done.exit_code in (1, 2)
    assert done.output.startswith("Error: ")
    assert sentence in done.output
    assert "Traceback" not in done.output
    assert done.output.count("\n") == 1
    assert not (home / "runs").exists()


def test_timm_that_is_missing_is_named(home: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    done = call("train", "--data", small_file, "--arch", "timm:resnet10t")
    assert done.exit_code == 1
    assert "install it with pip install timm" in done.output


# Started


def stored(network: nn.Module, **changes: Tensor | None) -> dict[str, Tensor]:
    """The tensors of a network, with some changed and those that are None left out."""
    tensors: dict[str, Tensor | None] = {
        **network.state_dict(),
        **{k.replace("__", "."): v for k, v in changes.items()},
    }
    return {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}


def test_pretrained_weights_are_loaded_but_for_the_head(home: Path, store: FlowerStore) -> None:
    import mynets

    torch.manual_seed(5)
    whole = mynets.Functional(1000)
    save_file(stored(whole), home / "w.safetensors")
    network = mynets.Functional(6)
    head = network.head.weight.clone()
    sentence = load_pretrained(network, home / "w.safetensors", store.size)
    assert sentence == f"{home}/w.safetensors: 9 tensors loaded, new are aux.weight, aux.bias, head.weight and 1 more"
    assert torch.equal(network.second.weight, whole.second.weight)
    assert torch.equal(network.norm.running_mean, whole.norm.running_mean)
    assert torch.equal(network.head.weight, head)
    save_file(stored(mynets.Functional(6), extra=torch.zeros(2)), home / "v.safetensors")
    assert load_pretrained(network, home / "v.safetensors", store.size).endswith(
        "13 tensors loaded, its head as well; not taken from there: extra"
    )


def test_a_file_of_train_is_a_start_too(home: Path, store: FlowerStore) -> None:
    import mynets

    first = build("mynets:net", store.class_names, store.size, 3)
    first.save(home / "first.safetensors")
    network = mynets.Functional(9)
    assert "new are aux.weight, aux.bias, head.weight" in load_pretrained(
        network, home / "first.safetensors", store.size
    )
    assert torch.equal(network.second.weight, first.network.second.weight)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"second__weight": None}, "in 12 of its 13 tensors, but it lacks second.weight"),
        (
            {"first__weight": torch.zeros(8, 3, 5, 5)},
            "first.weight is (8, 3, 5, 5) there and (8, 3, 3, 3) in the network",
        ),
    ],
)
def test_weights_that_fit_in_part_are_refused(
    home: Path, store: FlowerStore, changes: dict[str, Tensor | None], reason: str
) -> None:
    import mynets

    save_file(stored(mynets.Functional(6), **changes), home / "w.safetensors")
    network = mynets.Functional(6)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(Refusal, match="fits Functional in part") as caught:
        load_pretrained(network, home / "w.safetensors", store.size)
    assert reason in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


# Frozen


def names_of(network: nn.Module, parameters: tuple[nn.Parameter, ...]) -> set[str]:
    return {name for name, parameter in network.named_parameters() if any(parameter is other for other in parameters)}


def test_a_token_that_acts_through_the_layer_alone_is_frozen() -> None:
    """A class token belongs to the network itself, and is read by the first block."""
    network = build("flowervit", ["a", "b"], 28, 0).network
    frozen = names_of(network, freeze_up_to(network, "encoder.layers.encoder_layer_0", 28).parameters)
    assert {"class_token", "encoder.pos_embedding", "conv_proj.weight"} <= frozen
    assert not any("encoder_layer_1" in name or name.startswith(("heads", "encoder.ln")) for name in frozen)
    every = {name for name, _ in network.named_parameters() if "encoder_layer_0" in name}
    assert every <= frozen


def test_frozen_layers_and_their_statistics_stay(home: Path, store: FlowerStore) -> None:
    untrained = build("mynets:net", store.class_names, store.size, 0).network
    trained = train(store, "mynets:net", epochs=1, freeze="norm")
    network = trained.classifier.network
    for name, tensor in network.state_dict().items():
        moved = not torch.equal(tensor, untrained.state_dict()[name])
        assert moved == name.startswith(("second", "aux", "head")), name
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert trained.notes == ("frozen up to norm: 240 of 1,564 parameters, and the statistics of batch norms there",)
    assert trained.classifier.card.data["freeze"] == "norm"


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ("third", 'unknown layer "third"'),
        ("aux", "this layer does not run in eval mode"),
    ],
)
def test_layers_that_cannot_be_frozen(home: Path, small_file: Path, layer: str, sentence: str) -> None:
    done = call("train", "--data", small_file, "--arch", "mynets:net", "--freeze", layer)
    assert sentence in done.output
    assert done.output.startswith("Error: ")


def test_nothing_left_to_train(home: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(Refusal, match="no layer behind it is left to train"):
        freeze_up_to(network, "3", 16)
    assert names_of(network, freeze_up_to(network, "1", 16).parameters) == {"0.weight", "0.bias"}


# Trained


def test_an_auxiliary_output_takes_part_in_the_loss(home: Path, store: FlowerStore) -> None:
    untrained = build("mynets:net", store.class_names, store.size, 0).network
    network = train(store, "mynets:net", epochs=1).classifier.network
    assert not torch.equal(network.aux.weight, untrained.aux.weight)


def test_the_recipe_of_an_architecture_counts(home: Path, store: FlowerStore) -> None:
    assert train(store, "myarchs:registered").epochs == 1
    calm, wild = (train(store, "mynets:net", epochs=1, learning_rate=rate).classifier for rate in (1e-9, 1e-2))
    untrained = build("mynets:net", store.class_names, store.size, 0).network
    assert torch.allclose(calm.network.head.weight, untrained.head.weight, atol=1e-6)
    assert not torch.allclose(wild.network.head.weight, untrained.head.weight, atol=1e-6)


def test_what_was_trained_is_found_again_with_consent_alone(home: Path, small_file: Path) -> None:
    """By the commands: two seeds, files without a colon; a file that names code runs with --trust, or by its name."""
    (home / "mynets.py").write_text(NETWORKS + "print('imported')\n")
    words = ["--data", small_file, "--arch", "mynets:net", "--epochs", 1, "--normalise", "none", "--layer", "first"]
    done = call("train", *words, "--seed", 0, "--seed", 1, "--json")
    assert done.exit_code == 0, done.output
    places = [entry["model"] for entry in json.loads(done.stdout)]
    assert places == [f"runs/small/mynets.net-seed{seed}.safetensors" for seed in (0, 1)]
    del sys.modules["mynets"]
    with pytest.raises(Refusal, match='holds the architecture "mynets:net", and importing a module runs its code'):
        load(places[0])
    assert "mynets" not in sys.modules
    classifier = load(places[0], trust=True)
    card = classifier.card
    assert (card.arch, card.layer, card.data["normalise"], classifier.target_layer) == (
        "mynets:net",
        "first",
        "none",
        "first",
    )
    assert classifier.mean.abs().sum() == 0
    score = ["score", "--data", small_file, "--method", "gradcam", "--rows", 6, "--json"]
    refused = call(*score, "--model", places[0])
    assert (refused.exit_code, "add --trust" in refused.output) == (1, True)
    trusted = call(*score, "--model", places[0], "--model", places[1], "--trust")
    assert trusted.exit_code == 0, trusted.output
    models = json.loads(trusted.stdout)["models"]
    assert [(model["arch"], model["seed"]) for model in models] == [("mynets:net", 0), ("mynets:net", 1)]
    by_name = call(*score, "--model", "mynets:net", "--weights", places[0])
    assert by_name.exit_code == 0, by_name.output
    assert json.loads(by_name.stdout)["models"][0]["digest"] == models[0]["digest"]
    other = call(*score, "--model", "mynets:thousand", "--weights", places[0])
    assert other.exit_code == 1
    explain = ["explain", "--data", small_file, "--row", 0, "--method", "gradcam", "--model", places[1]]
    assert call(*explain).exit_code == 1
    assert call(*explain, "--trust").exit_code == 0
    assert not [path for path in home.rglob("*") if ":" in path.name]


def test_a_factory_of_classes_and_size_is_a_model_too(home: Path, small_file: Path) -> None:
    """It is told the classes and the size of the data; without data, nobody knows them unless labels are named."""
    words = ["--data", small_file, "--model", "mynets:net", "--method", "gradcam"]
    assert call("explain", *words, "--row", 0).exit_code == 0
    Image.new("RGB", (40, 40)).save("p.png")
    done = call("explain", "--image", "p.png", "--size", 40, "--data", small_file, *words[2:])
    assert done.exit_code == 0, done.output
    done = call("explain", "--image", "p.png", "--size", 40, *words[2:])
    assert (
        'mynets:net wants "classes", the number of classes; name them with --class-names, or give --data' in done.output
    )
    Path("l.txt").write_text("a\nb\nc\n")
    done = call("explain", "--image", "p.png", "--size", 40, *words[2:], "--labels", "l.txt", "--target", 2)
    assert "gradcam for 'c'" in done.output


def test_a_model_knows_that_its_code_has_changed(home: Path, store: FlowerStore) -> None:
    trained = train(store, "mynets:net", epochs=1).classifier
    trained.save("m.safetensors")
    assert load("m.safetensors", trust=True).code == trained.card.data["code"]
    (home / "mynets.py").write_text(NETWORKS.replace("F.relu(self.second(x))", "torch.tanh(self.second(x))"))
    del sys.modules["mynets"]
    again = load("m.safetensors", trust=True)
    assert again.code != again.card.data["code"]
    again.card = replace(again.card, accuracy=1.0)
    doubt = check_accuracy(again, store["test"]).doubt
    assert "the code of mynets:net is not what it was trained with; put it back, or train it anew" in doubt


# In a plan

PLAN = """
name = "own"
methods = ["gradcam"]
metrics = ["iou"]
rows = 6

[[data]]
file = "{data}"

[[models]]
arch = "mynets:net"
seeds = [0, 1]
epochs = 1
normalise = "none"
freeze = "first"
init = "start.safetensors"
"""


@pytest.mark.slow
def test_a_plan_trains_a_network_of_ones_own_with_consent_alone(home: Path, small_file: Path) -> None:
    """Without --trust nothing is imported; with it both seeds are trained, and found again by the same command."""
    build("mynets:net", FlowerStore(small_file).class_names, 40, 7).save("start.safetensors")
    del sys.modules["mynets"]
    Path("plan.toml").write_text(PLAN.format(data=small_file))
    words = ["audit", "plan.toml", "--engine", "inline", "-o", "runs/own"]
    refused = call(*words)
    assert refused.exit_code == 1
    assert "plan.toml names mynets:net, and importing a module runs its code" in refused.output
    assert "mynets" not in sys.modules
    done = call(*words, "--trust")
    assert done.exit_code == 0, done.output
    places = sorted((home / "runs" / "own" / "models").iterdir())
    assert [place.name[:31] for place in places] == [f"small-mynets.net-seed{seed}-1epochs-" for seed in (0, 1)]
    cards = [load(place, trust="mynets:net").card for place in places]
    assert [card.seed for card in cards] == [0, 1]
    assert {(card.data["freeze"], card.data["normalise"]) for card in cards} == {("first", "none")}
    before = [place.stat().st_mtime_ns for place in places]
    again = call(*words, "--trust")
    assert again.exit_code == 0, again.output
    assert "0 cells done" in again.output
    (home / "mynets.py").write_text(NETWORKS.replace("return self.head(x)\n", "return 1.0 * self.head(x)\n"))
    del sys.modules["mynets"]
    anew = call(*words, "--trust")
    assert anew.exit_code == 0, anew.output
    assert all(place.stat().st_mtime_ns != time for place, time in zip(places, before, strict=True))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ('arch = "flowernet"\nlabels = "l.txt"', "labels go with source; what is trained has the classes of the data"),
        (
            'source = "m.safetensors"\nfreeze = "first"',
            "freeze goes with arch, which is trained; m.safetensors is as it",
        ),
        ('arch = "flowernet"\nlearning_rate = 0.0', "models[0].learning_rate: expected more than 0"),
    ],
)
def test_keys_of_a_plan_that_do_not_go_together(home: Path, small_file: Path, changes: str, sentence: str) -> None:
    Path("plan.toml").write_text(PLAN.format(data=small_file).partition("[[models]]")[0] + f"[[models]]\n{changes}\n")
    done = call("audit", "plan.toml")
    assert done.exit_code == 1
    assert sentence in done.output


@pytest.mark.parametrize("arch", ["timm:test_resnet", "timm:test_vit"])
def test_networks_of_timm(home: Path, small_file: Path, arch: str) -> None:
    """One takes images of any size; the other is made for one, and gets that of the data. Neither needs --trust."""
    pytest.importorskip("timm")
    generate(specs.load("single-6c").with_changes(rows=60, size=32), Path("f.h5"), workers=1)
    done = call("train", "--data", "f.h5", "--arch", arch, "--epochs", 1, "--json")
    assert done.exit_code == 0, done.output
    classifier = load(json.loads(done.stdout)["model"])
    assert classifier.arch == arch
    assert classifier.spatial(classifier.head(torch.rand(2, 3, 32, 32)).values).shape[2] > 1
    with pytest.raises(WrongUsage, match='timm has no classifier "hf-hub:somebody/something"'):
        build("timm:hf-hub:somebody/something", ["a", "b"], 32, 0)
