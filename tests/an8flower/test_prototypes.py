"""The command about prototypes: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from an8flower.__main__ import main
from an8flower.errors import WrongUsage
from an8flower.evaluate.metrics.naming import parse_metrics
from an8flower.evaluate.results.prototype_cards import MEASURES
from an8flower.evaluate.results.prototype_results import PrototypesDocument
from an8flower.evaluate.results.prototype_words import class_words, source_words, undefined_words
from an8flower.evaluate.trust.by_hand.scenes import spec_of
from an8flower.generate import generate

NETWORKS = """
import torch
from torch import nn
from an8flower.evaluate.models.prototypes.network import PrototypeNetwork
from an8flower.evaluate.trust.by_hand.networks import detect_colours

class Colours(PrototypeNetwork):
    def __init__(self, weights):
        super().__init__()
        self.backbone = detect_colours(primary=True, secondary=True)
        self.register_buffer("table", torch.tensor(weights))

    @property
    def weights(self):
        return self.table

    def locate(self, images):
        return self.backbone(images)

def petals():
    return Colours([[1.0, 0, 0, 0.5, 0, 0], [0, 1.0, 0, 0, 0.5, 0], [0, 0, 1.0, 0, 0, 0]])

def plain():
    return nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene whose petals have the colour of the class, and whose background has another bright colour by chance."""
    place = tmp_path_factory.mktemp("prototypes") / "backdrop.h5"
    generate(spec_of("backdrop"), place, workers=1)
    return place


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "colournets.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "170")
    monkeypatch.delitem(sys.modules, "colournets", raising=False)
    yield tmp_path
    sys.modules.pop("colournets", None)


def call(data: Path, *words: object) -> Result:
    every = ["prototypes", "--data", data, "--normalise", "none", "--rows", 12, "--device", "cpu", *words]
    return CliRunner().invoke(main, list(map(str, every)))


def test_it_prints_measures_and_cards_and_files_them(home: Path, data: Path) -> None:
    done = call(data, "--model", "colournets:petals", "--model", "colournets:plain", "-o", home / "out")
    assert done.exit_code == 0, done.output
    assert "5 of 6 prototypes have a weight; a patch is one of 42 x 42 cells of 42 px." in done.output
    assert "Purity 1.00" in done.output
    assert "skipped: Sequential-seedNone" in done.output
    assert all(measure.name in done.output for measure in MEASURES)
    document = json.loads((home / "out" / "prototypes.json").read_text())
    judged = PrototypesDocument.model_validate(document["prototypes"])
    assert (judged.rows, judged.split, judged.published) == (12, "test", False)
    (model,) = judged.results
    assert [prototype.part for prototype in model.prototypes] == ["petals"] * 3 + ["background"] * 2
    (line,) = [line for line in done.output.splitlines() if line.split()[:2] == ["1", "#10e010"]]
    assert line.split()[2:5] == ["+1.00", "near", "row"]
    assert "petals 100%" in line
    with np.load(home / "out" / model.pictures) as pictures:
        assert pictures["sources"].shape == (5, 42, 42, 3)
    assert undefined_words(model) == []
    assert class_words(model.prototypes[3]) == "#e01010 +0.50"
    assert source_words(model.prototypes[0]).startswith("near row ")


def test_json_is_what_is_filed(home: Path, data: Path) -> None:
    done = call(data, "--model", "colournets:petals", "--json", "-o", home / "out")
    assert json.loads(done.stdout) == json.loads((home / "out" / "prototypes.json").read_text())
    again = json.loads(call(data, "--model", "colournets:petals", "--json").stdout)
    assert again["prototypes"]["results"][0]["scores"] == json.loads(done.stdout)["prototypes"]["results"][0]["scores"]


def test_networks_and_data_that_do_not_do_are_refused(home: Path, data: Path) -> None:
    plain = call(data, "--model", "colournets:plain", "-o", home / "out")
    assert (plain.exit_code, plain.stdout) == (1, "")
    assert "Error: Sequential has no prototypes; train with --pool protopnet or --pool pipnet" in plain.stderr
    assert not (home / "out").exists()
    (home / "foreign.h5").write_bytes(data.read_bytes())
    with h5py.File(home / "foreign.h5", "r+") as file:
        del file["test"]["parts"]
        del file["train"]["parts"]
        del file["val"]["parts"]
        del file.attrs["spec"]
    foreign = call(home / "foreign.h5", "--model", "colournets:petals")
    assert foreign.exit_code == 1
    assert "has no part maps, by which prototypes are judged" in foreign.stderr
    many = call(data, "--model", "colournets:petals", "--rows", 9999)
    assert many.exit_code == 2
    assert "--rows 9999: expected 1 to" in many.stderr


def test_measures_of_prototypes_are_listed_and_score_no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    listed = json.loads(CliRunner().invoke(main, ["metrics", "--json"]).stdout)
    assert [card["name"] for card in listed if card["family"] == "prototypes"] == [entry.name for entry in MEASURES]
    card = CliRunner().invoke(main, ["metrics", "purity"]).stdout
    assert "what patches drawn at random would give" in card
    family = json.loads(CliRunner().invoke(main, ["metrics", "family:prototypes", "--json"]).stdout)
    assert len(family) == len(MEASURES)
    with pytest.raises(WrongUsage, match="purity scores prototypes, not maps: ask with `an8flower prototypes`"):
        parse_metrics(["purity"])
    assert "purity" not in [metric.name for metric in parse_metrics(["all"])]
