"""Networks of timm, torchvision, transformers and ONNX by one word: what each says of itself, and what is refused."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import pickle
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from an8flower.__main__ import main
from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.evaluate.audits.plan import may_be_imported
from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.contract_networks import randomise_weights
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import describe_methods, parse_method
from an8flower.evaluate.models.classifier import Classifier, normalisation_of
from an8flower.evaluate.models.elsewhere import opening
from an8flower.evaluate.models.elsewhere.opening import fetch
from an8flower.evaluate.models.elsewhere.transformers_networks import read_normalisation, read_size
from an8flower.evaluate.models.probing import is_within_attention
from an8flower.evaluate.models.sources import Source, open_judged, open_source, pair_with_weights
from an8flower.store import FlowerStore

CPU = torch.device("cpu")
COLOURS = ("red", "orange", "yellow", "blue", "violet", "white")
HALF = (0.5, 0.5, 0.5)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with empty caches of the toolkits, and no network behind the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    if importlib.util.find_spec("huggingface_hub"):
        constants = importlib.import_module("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def save_weights(network: nn.Module, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return path


def open_place(place: str, **settings: Any) -> Classifier:
    return open_source(Source(place, **settings), CPU)


# timm.


def fill_hub(cache: Path, repository: str, network: nn.Module) -> None:
    """Put weights where the hub keeps what it has downloaded."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_weights(network, folder / "snapshots" / ("0" * 40) / "model.safetensors")


def test_timm_is_read_from_the_cache_with_its_own_configuration(home: Path) -> None:
    timm = pytest.importorskip("timm")
    network = randomise_weights(timm.create_model("test_vit")).eval()
    config = timm.get_pretrained_cfg("test_vit")
    with pytest.raises(
        Refusal, match="its weights are not on this machine, and nothing is downloaded unasked; add --d"
    ):
        open_place("timm:test_vit")
    fill_hub(home / "hub", config.hf_hub_id, network)
    classifier = open_place("timm:test_vit")
    assert classifier.arch == "timm:test_vit"
    assert classifier.size == config.input_size[-1] == 160
    assert tuple(normalisation_of(classifier).mean) == pytest.approx(config.mean) == HALF
    assert len(classifier.class_names) == 1000
    assert classifier.class_names[283].startswith("Persian cat")
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.allclose(classifier(images), network((images - 0.5) / 0.5), atol=1e-5)


def test_timm_with_weights_of_a_user_for_the_classes_and_size_of_the_data(home: Path, small_file: Path) -> None:
    timm = pytest.importorskip("timm")
    store = FlowerStore(small_file)
    path = save_weights(randomise_weights(timm.create_model("test_resnet", num_classes=6)), home / "w.safetensors")
    classifier = open_judged(Source("timm:test_resnet", path), store, CPU)
    assert (classifier.class_names, classifier.size) == (tuple(store.class_names), store.size)
    (source,) = pair_with_weights(["timm:test_resnet"], [path])
    assert open_judged(source, store, CPU).digest == classifier.digest
    assert open_judged(Source.of(str(source)), store, CPU).digest == classifier.digest


def test_timm_with_weights_of_a_network_made_for_another_size(home: Path) -> None:
    timm = pytest.importorskip("timm")
    network = randomise_weights(timm.create_model("test_vit", num_classes=6, img_size=48))
    path = save_weights(network, home / "w.safetensors")
    classifier = open_place("timm:test_vit", weights=path, class_names=COLOURS, size=48)
    assert classifier.grid_of(10) == (3, 3)
    with pytest.raises(Refusal, match="pos_embed is "):
        open_place("timm:test_vit", weights=path, class_names=COLOURS)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("timm:test_vitt", 'timm has no classifier "test_vitt"; did you mean "timm:test_vit"?'),
        ("timm:resnet18.a9_in1k", 'timm has no weights "resnet18.a9_in1k"; did you mean "timm:resnet18'),
        ("timm:hf-hub:somebody/something", "timm has no classifier"),
        ("timm:", "timm: names no network; write timm:NAME"),
        ("torchvision:resnett18", 'torchvision has no classifier "resnett18"; did you mean "torchvision:resnet18"?'),
    ],
)
def test_names_that_there_are_not(home: Path, place: str, says: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(WrongUsage, match=re.escape(says)):
        open_place(place)


@pytest.mark.parametrize("package", ["timm", "transformers", "onnxruntime"])
def test_a_package_that_is_missing_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    (home / "net").mkdir()
    (home / "net" / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    (home / "net.onnx").write_bytes(b"x")
    place = {"timm": "timm:resnet18", "transformers": "hf:net", "onnxruntime": "onnx:net.onnx"}[package]
    with pytest.raises(Refusal, match=rf"^{package} cannot be imported .*install it with pip install {package}"):
        open_place(place)


# torchvision.


def test_torchvision_is_read_from_the_cache_with_its_own_configuration(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of the weights is that of a file on disk, so that --download fetches it as it would another."""
    from torchvision import models

    network = randomise_weights(models.mobilenet_v3_small()).eval()
    torch.save(network.state_dict(), home / "served.pth")
    digest = hashlib.sha256((home / "served.pth").read_bytes()).hexdigest()
    served = (home / "served.pth").rename(home / f"small-{digest[:8]}.pth")
    known = models.get_model_weights("mobilenet_v3_small").DEFAULT
    entry = known.value
    monkeypatch.setattr(known, "_value_", type(entry)(served.as_uri(), entry.transforms, entry.meta))
    with pytest.raises(Refusal, match="add --download"):
        open_place("torchvision:mobilenet_v3_small")
    fetch(["torchvision:mobilenet_v3_small"])
    assert (home / "torch" / "hub" / "checkpoints" / served.name).is_file()
    classifier = open_place("torchvision:mobilenet_v3_small")
    assert classifier.size == 224
    assert classifier.class_names == tuple(known.meta["categories"])
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(classifier(images), network(known.transforms(resize_size=224)(images)), rtol=1e-3)
    served.write_bytes(served.read_bytes() + b"x")
    (home / "torch" / "hub" / "checkpoints" / served.name).unlink()
    with pytest.raises(Refusal, match="mobilenet_v3_small: cannot be downloaded"):  # its hash is another
        fetch(["torchvision:mobilenet_v3_small"])


def test_a_cached_file_is_never_unpickled(home: Path) -> None:
    from torchvision import models

    path = home / "torch" / "hub" / "checkpoints" / Path(models.get_model_weights("squeezenet1_1").DEFAULT.url).name
    path.parent.mkdir(parents=True)

    class Touching:
        def __reduce__(self) -> Any:
            return Path.touch, (home / "touched",)

    path.write_bytes(pickle.dumps(Touching()))
    with pytest.raises(Refusal, match="cannot be opened"):
        open_place("torchvision:squeezenet1_1")
    assert not (home / "touched").exists()


def test_nothing_to_download() -> None:
    with pytest.raises(WrongUsage, match="--download is for --model timm:NAME, torchvision:NAME or hf:NAME"):
        fetch(["onnx:net.onnx", "mine:network", nn.Flatten()])


def test_download_on_the_command_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What --model names is fetched before anything is opened, wherever the option stands; else nothing is."""
    asked: list[str] = []
    monkeypatch.setitem(opening.FETCHERS, "timm", asked.append)
    picture = home / "p.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(picture)
    words = ("explain", "--image", picture, "--model", "timm:test_vit", "--method", "edges", "--weights", "none")
    assert call(*words).exit_code == 1
    assert asked == []
    assert "none: no such file" in call(words[0], "--download", *words[1:]).output
    assert asked == ["test_vit"]
    assert call("score", "--method", "edges", "--model", "onnx:x", "--download").exit_code == 2


# transformers.


def write_folder(folder: Path, names: tuple[str, ...] = COLOURS, **preprocessor: Any) -> nn.Module:
    """Write a small residual network as save_pretrained does, and give it back."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    network = randomise_weights(transformers.ResNetForImageClassification(config)).eval()
    network.save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return network


def test_a_folder_of_transformers(home: Path, small_file: Path) -> None:
    """The logits are those of transformers behind its own preprocessor; classes in another order are put in order."""
    preprocessor = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    network = write_folder(home / "net", COLOURS[::-1], size={"shortest_edge": 40}, **preprocessor)
    classifier = open_place("hf:net")
    assert (classifier.arch, classifier.size, classifier.class_names) == ("net", 40, COLOURS[::-1])
    assert classifier.target_layer.startswith("model.resnet.encoder.stages.3")
    images = torch.rand(2, 3, 40, 40)
    import transformers

    with torch.no_grad():
        processor = transformers.ConvNextImageProcessor(do_resize=False, **preprocessor)
        pixels = processor(list((images * 255).byte()), return_tensors="pt")["pixel_values"]
        expected = network(pixel_values=pixels).logits
        got = classifier((images * 255).byte() / 255)
        assert torch.allclose(got, expected, atol=1e-4)
        store = FlowerStore(small_file)
        judged = open_judged(Source("hf:net"), store, CPU)
        assert judged.class_names == tuple(store.class_names) == COLOURS
        pictures = torch.rand(1, 3, store.size, store.size)
        expected = network(pixel_values=classifier.normalise(pictures)).logits.flip(1)
        assert torch.allclose(judged(pictures), expected, atol=1e-4)


def damage(folder: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if kind == "pickle":
        (folder / "model.safetensors").unlink()
        torch.save({}, folder / "pytorch_model.bin")
    elif kind == "no classifier":
        config["architectures"] = ["ResNetModel"]
    elif kind == "own code":
        config["architectures"] = ["MineForImageClassification"]
        config["auto_map"] = {"AutoModelForImageClassification": "mine.MineForImageClassification"}
        (folder / "mine.py").write_text("raise SystemExit('ran')")
    elif kind == "no architecture":
        del config["architectures"]
    elif kind == "other shape":
        config["embedding_size"] = 16
    elif kind == "lacking":
        config["depths"] = [1, 1, 1, 2]
    elif kind == "no config":
        (folder / "config.json").unlink()
        return
    elif kind == "no json":
        (folder / "config.json").write_text("{")
        return
    elif kind == "cut":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:100])
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("pickle", "holds no model.safetensors; pickles are not read"),
        ("no classifier", "holds ResNetModel, which is no image classifier"),
        ("own code", "is code of its own, which is not run"),
        ("no architecture", "config.json names no architecture"),
        ("other shape", "hf:net: "),
        ("lacking", "which would be drawn at random"),
        ("no config", "holds no config.json"),
        ("no json", "config.json"),
        ("cut", "hf:net: cannot be opened"),
    ],
)
def test_folders_that_are_refused(home: Path, kind: str, says: str) -> None:
    write_folder(home / "net")
    damage(home / "net", kind)
    with pytest.raises(Refusal, match=re.escape(says)) as caught:
        open_place("hf:net")
    assert "\n" not in str(caught.value)


def test_a_folder_that_there_is_not(home: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(WrongUsage, match="hf:nothing: no such folder"):
        open_place("hf:nothing")
    with pytest.raises(Refusal, match=r"hf:some/thing: no such folder, .*add --download"):
        open_place("hf:some/thing")
    with pytest.raises(Refusal, match="hf:some/thing: cannot be downloaded"):  # the hub is offline here
        fetch(["hf:some/thing"])


@pytest.mark.parametrize(
    ("document", "mean", "size"),
    [
        ({}, None, None),
        ({"image_mean": 0.5, "image_std": 0.5, "size": 32}, HALF, 32),
        ({"image_mean": list(HALF), "image_std": list(HALF), "do_normalize": False}, (0.0,) * 3, None),
        ({"image_mean": list(HALF), "image_std": list(HALF), "rescale_factor": 1 / 127.5}, (0.25,) * 3, None),
        ({"size": {"height": 48, "width": 48}, "crop_size": 40, "do_center_crop": True}, None, 40),
        ({"size": {"shortest_edge": 48}, "crop_size": 40}, None, 48),
    ],
)
def test_what_a_preprocessor_says(document: dict[str, Any], mean: tuple[float, ...] | None, size: int | None) -> None:
    normalisation = read_normalisation(document)
    assert (normalisation and tuple(normalisation.mean)) == (mean and pytest.approx(mean))
    assert read_size(document) == size


# ONNX.


def write_onnx(path: Path, batch: bool = True, size: int = 32, outputs: int = 1) -> nn.Module:
    """Write a small network, whose file takes a batch of any size or one image alone, and give it back."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    class Network(nn.Sequential):
        def forward(self, images: torch.Tensor) -> Any:
            logits = super().forward(images)
            return (logits,) * outputs if outputs == 1 else (logits, logits * 2)

    layers = (nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6))
    network = randomise_weights(Network(*layers)).eval()
    export(network, path, torch.zeros(1, 3, size, size), {"x": {0: "b"}} if batch else {})
    return nn.Sequential(*network)


def export(network: nn.Module, path: Path, images: torch.Tensor, free: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (images,), path, dynamo=False, input_names=["x"], dynamic_axes=free)


@pytest.mark.parametrize("batch", [True, False])
def test_an_onnx_file_gives_the_logits_of_its_network(home: Path, batch: bool) -> None:
    network = write_onnx(home / "my net.onnx", batch)
    classifier = open_place("onnx:my net.onnx", class_names=COLOURS)
    assert (classifier.arch, classifier.size) == ("my_net", 32)
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        expected = network(classifier.normalise(images))
    assert torch.allclose(classifier(images), expected, atol=1e-5)
    for again in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert torch.allclose(again(images), expected, atol=1e-5)
        assert again.digest == classifier.digest
    write_onnx(home / "other.onnx", size=16)
    assert open_place("onnx:other.onnx", class_names=COLOURS).digest != classifier.digest


BLACK_BOX = {"center", "edges", "fakecam", "intensity", "kernelshap", "lime", "occlusion", "random", "rise"}


def test_methods_of_black_boxes_alone_explain_an_onnx_file(home: Path) -> None:
    """Every method of ours either gives maps, or says that it gets neither layers nor gradients."""
    write_onnx(home / "net.onnx")
    classifier = open_place("onnx:net.onnx", class_names=COLOURS)
    query = Query(torch.rand(1, 3, 32, 32), torch.tensor([1]), torch.tensor([2]))
    small = {"rise": "rise:masks=8", "lime": "lime:samples=20", "kernelshap": "kernelshap:samples=20"}
    cheap = {"occlusion": "occlusion:window=16,stride=16"}
    explained = set()
    for name in (method["name"] for method in describe_methods()):
        if name in ("mean_mask", "vebi", "upsam_act_relevant"):  # which learn from examples before
            continue
        try:
            explain(classifier, parse_method({**small, **cheap}.get(name, name)).explainer, query)
            explained.add(name)
        except NotApplicable as reason:
            assert "an ONNX file gives logits alone, neither layers nor gradients" in str(reason)
    assert explained == BLACK_BOX


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("missing.onnx", "missing.onnx"),
        ("text.onnx", "onnx:text.onnx: cannot be opened"),
        ("pair.onnx", "gives 2 outputs"),
        ("flat.onnx", "its input x is tensor(float) (1, 12); expected floats (B, 3, S, S)"),
    ],
)
def test_onnx_files_that_are_refused(home: Path, file: str, says: str) -> None:
    write_onnx(home / "pair.onnx", outputs=2)
    (home / "text.onnx").write_text("no network")
    export(nn.Linear(12, 2), home / "flat.onnx", torch.zeros(1, 12), {})
    with pytest.raises(Refusal, match=re.escape(says)):
        open_place(f"onnx:{file}")


def test_weights_are_for_networks_that_take_them(home: Path) -> None:
    path = save_weights(nn.Linear(2, 2), home / "w.safetensors")
    with pytest.raises(WrongUsage, match="holds its weights itself; leave --weights .*w.safetensors out"):
        open_place("onnx:net.onnx", weights=path)
    one, other = pair_with_weights(["onnx:net.onnx", "timm:test_vit"], ["w.safetensors"])
    assert (one.weights, other.weights) == (None, Path("w.safetensors"))


def test_what_toolkits_name_is_no_code_of_a_users() -> None:
    places = ("timm:resnet18", "torchvision:resnet18", "hf:folder", "onnx:net.onnx", "timm:resnet18 with w.safetensors")
    assert not any(map(may_be_imported, places))
    assert may_be_imported("timms:resnet18")
    assert may_be_imported("onnx.helper:make")


def test_parts_of_attention() -> None:
    assert is_within_attention("blocks.11.attn.k_norm")
    assert not is_within_attention("blocks.11.attn")


def test_the_sanity_of_a_network_without_weights_is_left_out(home: Path, small_file: Path) -> None:
    write_onnx(home / "net.onnx", size=FlowerStore(small_file).size)
    words = ("--data", small_file, "--model", "onnx:net.onnx", "--rows", 2, "--no-labels", "--in-process", "-o", "out")
    done = call("sanity", "--method", "edges", *words)
    assert "net shows no weights that could be drawn anew" in done.output
    assert "Traceback" not in done.output
    assert not isinstance(done.exception, ValueError)
