"""A network that is not what it should be on the data is told: at chance, below its file's word, in another order.

The pictures are plain greys, one for each class, and the networks are nearest means in closed form.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from an8flower.__main__ import main
from an8flower.errors import DoubtfulModel, Refusal
from an8flower.evaluate import score
from an8flower.evaluate.models.accuracy_check import AccuracyCheck, best_order, check_accuracy
from an8flower.evaluate.models.classifier import Classifier, wrap
from an8flower.evaluate.models.sources import NetworkSettings, open_judged, pair_with_weights
from an8flower.importing import import_folders
from an8flower.store import FlowerStore

NAMES = ("dark", "middle", "pale")
GREYS = (0.2, 0.5, 0.8)
SIDE = 12

NETWORKS = """
import torch
from torch import nn

GREYS = {"dark": 0.2, "middle": 0.5, "pale": 0.8}

class Nearest(nn.Module):
    "The logit of a grey c is 2 c x - c^2: the largest is that of the nearest grey to the mean x."

    def __init__(self, names):
        super().__init__()
        self.mean = nn.Conv2d(3, 1, 1, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(1, len(names))
        greys = torch.tensor([GREYS[name] for name in names])
        with torch.no_grad():
            self.mean.weight.fill_(1 / 3)
            self.head.weight.copy_(2 * greys[:, None])
            self.head.bias.copy_(-(greys**2))

    def forward(self, x):
        return self.head(self.pool(self.mean(x)).flatten(1))

class Squared(Nearest):
    def forward(self, x):
        return super().forward(x).sort(1).values.flip(1)

def ordered():
    return Nearest(["dark", "middle", "pale"])

def turned():
    return Nearest(["middle", "pale", "dark"])

def squared():
    return Squared(["middle", "pale", "dark"])
"""


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures of three greys; the file holds 12 of them as test rows."""
    folder = tmp_path_factory.mktemp("greys")
    for name, grey in zip(NAMES, GREYS, strict=True):
        for number in range(20):
            for kind, value in (("images", round(255 * grey)), ("masks", 255)):
                place = folder / kind / name / f"{number}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (SIDE, SIDE), value).save(place)
    import_folders(folder / "images", folder / "masks", folder / "greys.h5", workers=1)
    return folder / "greys.h5"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "greynets.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "greynets", raising=False)
    yield tmp_path
    sys.modules.pop("greynets", None)


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


class Guess(nn.Module):
    """A network that names the same class for each picture, whatever it shows."""

    def __init__(self, label: int = 0) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 3, 1)
        self.label = label

    def forward(self, images: Tensor) -> Tensor:
        return 0 * self.features(images).mean((2, 3)) + torch.eye(3)[self.label]


def guessing(accuracy: float | None = None) -> Classifier:
    classifier = wrap(Guess(), NAMES, SIDE, "features")
    classifier.card = replace(classifier.card, accuracy=accuracy)
    return classifier


class Noise(Guess):
    """A network that names any class for each picture."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * self.features(images).mean((2, 3)) + torch.rand(len(images), 3)


# The check


def test_a_network_at_chance_is_told(greys: Path) -> None:
    split = FlowerStore(greys)["test"]
    check = check_accuracy(guessing(), split, batch=5)
    assert (check.rows, check.right, check.chance) == (12, 4, pytest.approx(1 / 3))
    assert check.doubt == (
        "Guess is right in 4 of 12 rows of test (33%), which chance gives as well (33%); check its weights, "
        "its normalisation (--normalise) and the order of its outputs (--class-names)"
    )
    assert (
        "where its file states 98%; it was trained on other data (unknown)"
        in check_accuracy(guessing(0.98), split).doubt
    )


def test_a_network_that_is_right_is_not_doubted(home: Path, greys: Path) -> None:
    import greynets

    right = wrap(greynets.ordered(), NAMES, SIDE, "mean", (0.0,) * 3, (1.0,) * 3)
    assert check_accuracy(right, FlowerStore(greys)["test"]) == AccuracyCheck(12, 12, pytest.approx(1 / 3), None)


@pytest.mark.parametrize(("stated", "doubted"), [(1.0, True), (0.9, True), (0.8, False), (0.5, False)])
def test_far_below_what_a_file_states(home: Path, greys: Path, stated: float, doubted: bool) -> None:
    """Two of three classes right, 8 of 12 rows: the binomial tail decides, by the sum of its terms."""
    import math

    import greynets

    twisted = wrap(greynets.Nearest(["dark", "middle", "middle"]), NAMES, SIDE, "mean", (0.0,) * 3, (1.0,) * 3)
    store = FlowerStore(greys)
    twisted.card = replace(twisted.card, accuracy=stated, data={"digest": store.digest})
    check = check_accuracy(twisted, store["train"])
    assert (check.rows, check.right) == (42, 28)
    p = stated - 0.05
    tail = sum(math.comb(42, k) * p**k * (1 - p) ** (42 - k) for k in range(29))
    assert (tail < 0.01) == doubted
    assert ("train it for longer, or with another learning rate" in check.doubt) == doubted
    assert bool(check.doubt) == doubted


def test_another_normalisation_is_named(home: Path, greys: Path) -> None:
    """In ImageNet's normalisation the greys are -1.2, 0.2 and 1.5: the middle one counts as dark."""
    import greynets

    bare = wrap(greynets.ordered(), NAMES, SIDE, "mean")
    check = check_accuracy(bare, FlowerStore(greys)["test"])
    assert check.right == 8
    assert "rows of test (67%); with --normalise none (in Python: normalise=) it would be right in 12" in check.doubt


@given(st.permutations(range(4)), st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_the_best_order_is_the_best_of_all(order: list[int], outputs: list[int]) -> None:
    predicted = np.array(outputs)
    labels = (np.array(order)[predicted] + (np.arange(len(outputs)) % 3 == 0)) % 4
    best = best_order(predicted, labels, 4)
    assert sorted(best) == [0, 1, 2, 3]
    every = [(np.array(other)[predicted] == labels).sum() for other in permutations(range(4))]
    assert (best[predicted] == labels).sum() == max(every)


def test_noise_has_no_order(greys: Path) -> None:
    """Of forty networks that guess, hardly any is said to have its classes in another order."""
    split, named = FlowerStore(greys)["test"], 0
    for seed in range(40):
        torch.manual_seed(seed)
        check = check_accuracy(wrap(Noise(), NAMES, SIDE, "features"), split, batch=12)
        named += "outputs stood for" in check.doubt
    assert named <= 2


# In the commands


def test_another_order_of_classes_is_told_and_mended(home: Path, greys: Path) -> None:
    """Without labels it is said on standard error and in the document; with them, the network is right."""
    words = [
        "score",
        "--data",
        greys,
        "--method",
        "gradcam",
        "--model",
        "greynets:turned",
        "--normalise",
        "none",
        "--json",
    ]
    done = call(*words)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    sentence = (
        "Nearest is right in 0 of 12 rows of test (0%), which chance gives as well (33%); it would be right in 12 if "
        "its outputs stood for middle, pale, dark: if they do, name them in this order, one a line, in a file for "
        "--class-names (in Python: labels=)"
    )
    assert f"Warning: {sentence}\n" in done.stderr
    assert sentence in document["warnings"]
    assert document["models"][0]["accuracy_check"]["doubt"] == sentence
    (home / "labels.txt").write_text("middle\npale\ndark\n")
    mended = call(*words, "--labels", "labels.txt")
    assert mended.exit_code == 0, mended.output
    assert "Warning" not in mended.stderr
    (model,) = json.loads(mended.stdout)["models"]
    assert model["accuracy"] == 1
    assert model["accuracy_check"] == {"rows": 12, "accuracy": 1, "chance": 4 / 12, "stated": None, "doubt": None}


def test_python_warns_and_takes_the_same_words(home: Path, greys: Path) -> None:
    import greynets

    network = greynets.turned()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.warns(DoubtfulModel, match="right in 0 of 12 rows .* would be right in 12"):
        score(data=greys, models=network, methods="gradcam", normalise="none", output="a")
    result = score(
        data=greys, models=network, methods="gradcam", normalise="none", labels=["middle", "pale", "dark"], output="b"
    )
    assert result.document["models"][0]["accuracy"] == 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_labels_that_cannot_be_the_data_s(home: Path, greys: Path) -> None:
    words = ["score", "--data", greys, "--method", "gradcam", "--normalise", "none", "--labels", "labels.txt"]
    (home / "labels.txt").write_text("middle\npale\nnight\n")
    done = call(*words, "--model", "greynets:turned")
    assert done.exit_code == 1
    assert "Error: the labels name night, and the data have the classes dark, middle, pale" in done.output
    (home / "labels.txt").write_text("middle\npale\ndark\n")
    done = call(*words, "--model", "greynets:squared")
    assert done.exit_code == 1
    assert "since they do not come straight from a last linear layer; have it give them in that order" in done.output


def test_settings_are_for_bare_networks(home: Path, greys: Path) -> None:
    done = call("score", "--data", greys, "--method", "gradcam", "--normalise", "none", "--model", "m.safetensors")
    assert done.exit_code == 2
    assert "--normalise is for --model package.module:factory; a model's file says it itself" in done.output


def test_outputs_keep_their_values_in_another_order(home: Path, greys: Path) -> None:
    settings = NetworkSettings.read(None, "none", None, False)
    (plain,) = pair_with_weights(["greynets:turned"], [], settings)
    named = replace(plain, class_names=("middle", "pale", "dark"))
    store, device = FlowerStore(greys), torch.device("cpu")
    images = torch.rand(5, 3, SIDE, SIDE)
    before, after = (open_judged(source, store, device)(images) for source in (plain, named))
    assert torch.equal(after, before[:, [2, 0, 1]])
    with pytest.raises(Refusal, match="2 class names came, and Nearest tells 3 classes apart"):
        open_judged(replace(plain, class_names=("dark", "pale")), store, device)


@pytest.mark.slow
def test_an_audit_tells_it_on_its_page(home: Path, greys: Path) -> None:
    Path("plan.toml").write_text(
        'name = "tiny"\nmethods = ["random"]\nmetrics = ["iou"]\nrows = 6\n'
        f'[[data]]\nfile = "{greys}"\n[[models]]\nsource = "greynets:turned"\nnormalise = "none"\n'
    )
    done = call("audit", "plan.toml", "--trust", "--engine", "inline", "-o", "out")
    assert done.exit_code == 0, done.output
    assert "it would be right in 12 if its outputs stood for middle, pale, dark" in done.stderr
    assert "outputs stood for middle, pale, dark" in (home / "out" / "report.html").read_text()


def test_the_sanity_check_tells_it_too(home: Path, greys: Path) -> None:
    """There --labels is a check of its own, so that the class names have another option."""
    words = ["sanity", "--data", greys, "--model", "greynets:turned", "--normalise", "none", "--method", "gradcam"]
    words += ["--rows", 3, "--steps", 1, "--draws", 1, "--no-labels", "--json", "-o", "out"]
    done = call(*words)
    assert done.exit_code == 0, done.output
    assert "one a line, in a file for --class-names" in done.stderr
    assert len(json.loads(done.stdout)["warnings"]) == 1
    (home / "labels.txt").write_text("middle\npale\ndark\n")
    mended = call(*words, "--class-names", "labels.txt")
    assert mended.exit_code == 0, mended.output
    assert json.loads(mended.stdout)["warnings"] == []
    assert "Warning" not in mended.stderr
