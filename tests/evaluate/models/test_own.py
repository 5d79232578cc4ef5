"""One's own network, weights, labels and picture: explained and scored without a data set of ours; what is refused."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file

from an8flower.__main__ import main
from an8flower.evaluate.models.classifier import build

Run = Callable[..., CompletedProcess[str]]
NETWORKS = """
import torch
from torch import nn

class Channels(nn.Module):
    "Logits: how much of each colour there is, by weights that say which class is which colour."

    def __init__(self):
        super().__init__()
        self.colours = nn.Conv2d(3, 3, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.9)

    def forward(self, x):
        return self.dropout(self.relu(self.colours(x))).mean((2, 3))

class Pair(Channels):
    def forward(self, x):
        return super().forward(x), x

class Strict(Channels):
    def forward(self, x):
        assert x.shape[2] == 64, "64 px only"
        return super().forward(x)

def network():
    return Channels().train()

ready = Channels()
pair, strict = Pair, Strict

def failing():
    raise ValueError("no such checkpoint")

def text():
    return "network"
"""
BLUE_FIRST = torch.eye(3).flip(0).view(3, 3, 1, 1)  # class 0 is blue, class 2 red
HOSTILE = ["<script>alert(1)</script>", 'grün & "süß"', "it's\tred"]


class Touching:
    """What touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of networks, weights, labels and a picture: a blue square on red, off the centre."""
    (tmp_path / "ownnets.py").write_text(NETWORKS)
    save_file({"colours.weight": BLUE_FIRST.clone()}, tmp_path / "w.safetensors")
    (tmp_path / "labels.txt").write_text("\n".join(HOSTILE) + "\n", encoding="utf-8")
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[..., 0] = 200
    pixels[6:18, 40:52] = (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "own.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ownnets", raising=False)
    return tmp_path


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def explained(*words: object) -> Result:
    """Explain the picture with the network; later words win."""
    asked = {"--image": "own.png", "--model": "ownnets:network", "--method": "gradcam", "--size": 48}
    asked |= dict(zip(words[::2], words[1::2], strict=True))
    return call("explain", *(word for pair in asked.items() if pair[1] is not None for word in pair))


def test_any_model_and_picture_without_a_data_set(home: Path, run_in: Run) -> None:
    """In a process of its own: the map is bright where the square is, and nothing but picture and map is written."""
    before = set(os.listdir(home))
    words = "explain --image own.png --model ownnets:network --weights w.safetensors --labels labels.txt --target 0"
    words += " --size 48 --method gradcam --normalise none -o out/why.png"
    done = run_in(*words.split(), cwd=home)
    assert repr(HOSTILE[0]) in done.stdout
    assert f"the model says {HOSTILE[2]!r}" in done.stdout  # most of it is red
    assert set(os.listdir(home)) - before <= {"out", "__pycache__"}
    assert set(os.listdir(home / "out")) == {"why.png", "why.npy"}
    found = np.load(home / "out" / "why.npy")
    blue = np.zeros((48, 48), bool)
    blue[6:18, 40 - 16 : 52 - 16] = True  # 16 columns on either side are not seen
    assert found.dtype == np.float32
    assert found[blue].min() > 0
    assert (found[~blue] == 0).all()


def test_defaults_of_a_bare_network(home: Path) -> None:
    """224 px, classes by number, ImageNet's normalisation, the predicted class; an instance will do for a factory."""
    done = explained("--model", "ownnets:ready", "--size", None)
    assert done.exit_code == 0, done.output
    assert np.load(home / "explanation.npy").shape == (224, 224)
    assert "'class " in done.output


def test_normalisation_counts(home: Path) -> None:
    """Grey that is the mean of the channels is 0 to the network, so that all classes are alike."""
    Image.new("RGB", (48, 48), (51, 102, 153)).save("flat.png")
    done = explained("--image", "flat.png", "--normalise", "0.2,0.4,0.6:1,1,1", "--weights", "w.safetensors")
    assert "p = 0.333" in done.output, done.output


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--image", "none.png"], 1, "none.png: no such file; name a picture's file"),
        (["--image", "ownnets.py"], 1, "ownnets.py: cannot be read as a picture"),
        (["--weights", "none.safetensors"], 1, "none.safetensors: no such file"),
        (["--weights", "own.png"], 1, "own.png: not a safetensors file, or damaged"),
        (["--weights", "more.safetensors"], 1, "1 unexpected (bias)"),
        (["--weights", "less.safetensors"], 1, "1 missing (colours.weight)"),
        (["--weights", "wide.safetensors"], 1, "colours.weight is (3, 3, 3, 3) there and (3, 3, 1, 1) in the network"),
        (["--weights", "parallel.safetensors"], 1, "without DataParallel's prefix"),
        (["--weights", "w.safetensors", "--model", "ours.safetensors", "--size", None], 2, "--weights is for --model"),
        (["--model", "ours.safetensors"], 2, "takes 28 px, and --size 48 came; leave --size out"),
        (["--model", "ours.safetensors", "--size", None, "--normalise", "none"], 2, "leave --normalise out"),
        (["--labels", "none.txt"], 1, "none.txt: no such file; expected a class name a line"),
        (["--labels", "own.png"], 1, "own.png: not UTF-8"),
        (["--labels", "two.txt"], 1, "2 class names came, and Channels tells 3 classes apart"),
        (["--labels", "gap.txt"], 1, "gap.txt: the name of class 1 is ''"),
        (["--labels", "gap.json"], 1, "2 names, and none for index 1"),
        (["--labels", "number.json"], 1, "number.json: cannot be read as class names (it holds int)"),
        (["--target", 3], 2, "--target 3: expected 0 to 2, the 3 classes of the model"),
        (["--target", -1], 2, "--target -1: expected 0 to 2"),
        (["--normalise", "imagnet"], 2, '--normalise "imagnet": expected imagenet, none, or'),
        (["--normalise", "0,0,0:1,0,1"], 2, "three positive standard deviations"),
        (["--layer", "layer9"], 2, "layer9"),
        (["--method", "vebi"], 2, "vebi learns from training data before it explains; give a data set with --data"),
        (["--model", "ownnets:failing"], 1, "ownnets:failing cannot be called (ValueError: no such checkpoint)"),
        (["--model", "ownnets:text"], 1, "ownnets:text returned str; expected a torch module"),
        (["--model", "ownnets:pair"], 1, "Pair gives tuple for one image; expected logits (1, C)"),
        (["--model", "ownnets:strict"], 1, "Strict does not take an image of 48 x 48 px (AssertionError: 64 px only)"),
        (["--model", "ownnets:nothing"], 2, "ownnets:nothing"),
        (["--output", "why.npy"], 2, "expected the name of a picture, as in why.png"),
    ],
)
def test_wrong_inputs_are_refused_in_a_sentence(home: Path, words: list[Any], code: int, expected: str) -> None:
    save_file({"colours.weight": BLUE_FIRST.clone(), "bias": torch.zeros(3)}, "more.safetensors")
    save_file({}, "less.safetensors")
    save_file({"colours.weight": torch.zeros(3, 3, 3, 3)}, "wide.safetensors")
    save_file({"module.colours.weight": BLUE_FIRST.clone()}, "parallel.safetensors")
    build("flowernet", ["a", "b"], 28, 0).save("ours.safetensors")
    Path("two.txt").write_text("a\nb\n")
    Path("gap.txt").write_text("a\n\nb\n")
    Path("gap.json").write_text('{"0": "a", "2": "b"}')
    Path("number.json").write_text("7")
    before = set(os.listdir(home))
    done = explained(*words)
    assert done.exit_code == code, done.output
    assert expected in done.output
    assert done.output.startswith("Error: ")
    assert "Traceback" not in done.output
    assert set(os.listdir(home)) - before <= {"__pycache__"}


@pytest.mark.parametrize("name", ["w.pth", "renamed.safetensors"])
@pytest.mark.parametrize("maker", ["torch", "pickle"])
def test_nothing_is_unpickled(home: Path, name: str, maker: str) -> None:
    thing = {"colours.weight": Touching(home / "touched")}
    if maker == "torch":
        torch.save(thing, name)
    else:
        Path(name).write_bytes(pickle.dumps(thing))
    done = explained("--weights", name)
    assert done.exit_code == 1
    assert "unpickling runs whatever code is in it" in done.output
    assert "safetensors.torch.save_file(model.state_dict()" in done.output
    assert not (home / "touched").exists()


def test_a_file_that_names_a_module_does_not_import_it(home: Path) -> None:
    """Neither as its architecture nor as anything else in its metadata."""
    (home / "evil.py").write_text("open('touched', 'w')")
    build("flowernet", ["a", "b"], 28, 0).save("ours.safetensors")
    raw = Path("ours.safetensors").read_bytes().replace(b'\\"flowernet\\"', b'\\"evil:nets\\"')
    assert b"evil:nets" in raw
    Path("evil.safetensors").write_bytes(raw)
    done = explained("--model", "evil.safetensors", "--size", None)
    assert done.exit_code == 1
    assert 'the architecture "evil:nets", and importing a module runs its code' in done.output
    assert "evil" not in sys.modules
    assert not (home / "touched").exists()


def test_weights_under_shared_names(home: Path) -> None:
    """Tied tensors may be in the file once, as safetensors' `save_model` writes them."""
    from safetensors.torch import save_model

    from an8flower.evaluate.models.files import load_weights

    def tied() -> torch.nn.Module:
        network = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
        network["b"].weight = network["a"].weight
        return network

    torch.manual_seed(0)
    saved = tied()
    save_model(saved, "tied.safetensors")
    read = tied()
    load_weights(read, Path("tied.safetensors"))
    assert all(torch.equal(read.state_dict()[name], value) for name, value in saved.state_dict().items())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "\ufeffred\r\ngreen\r\nblau\u2028x\r\n"),
        ("a.json", '["red", "green", "blau\\u2028x"]'),
        ("b.json", '{"2": "blau\\u2028x", "0": "red", "1": "green"}'),
        ("c.json", '{"0": ["n01", "red"], "1": ["n02", "green"], "2": ["n03", "blau\\u2028x"]}'),
    ],
)
def test_labels_of_every_form(home: Path, name: str, text: str) -> None:
    from an8flower.evaluate.models.labels import read_labels

    Path(name).write_bytes(text.encode())
    assert read_labels(Path(name)) == ("red", "green", "blau\u2028x")


def test_weights_go_with_factories_in_order(home: Path, small_file: Path) -> None:
    words = ["score", "--data", small_file, "--method", "random", "--model", "ownnets:network"]
    done = call(*words, "--weights", "w.safetensors", "--weights", "w.safetensors")
    assert done.exit_code == 2
    assert "2 --weights came for 1 --model of the form package.module:factory" in done.output


def test_scores_of_a_factory_are_filed_by_its_weights(home: Path, small_file: Path) -> None:
    """Six channels stand for six classes; other weights are another model, the same ones are not computed again."""
    (home / "six.py").write_text(
        "from torch import nn\n"
        "def network():\n"
        "    return nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    for seed in (0, 1):
        source = torch.Generator().manual_seed(seed)
        tensors = {"0.weight": torch.randn(6, 3, 1, 1, generator=source), "0.bias": torch.ones(6)}
        save_file(tensors, f"six{seed}.safetensors")
    words = ["score", "--data", small_file, "--method", "gradcam", "--model", "six:network", "--rows", 6, "-o", "runs"]
    documents = []
    for seed in (0, 1, 0):
        done = call(*words, "--weights", f"six{seed}.safetensors", "--json")
        assert done.exit_code == 0, done.output
        documents.append(json.loads(done.stdout))
    first, other, again = documents
    assert first["models"][0]["digest"] != other["models"][0]["digest"]
    assert first == again
    assert len(list((home / "runs" / "scores").glob("*gradcam*"))) == 2
    assert json.loads(Path("runs/plan.json").read_text())["models"] == ["six:network with six0.safetensors"]
    told = call(
        "explain", "--data", small_file, "--row", 3, "--method", "gradcam", *words[5:7], "--weights", "six0.safetensors"
    )
    assert told.exit_code == 0, told.output
    assert np.load("explanation.npy").shape == (40, 40)
