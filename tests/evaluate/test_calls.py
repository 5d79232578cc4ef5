"""The words of the command line as Python calls: the same numbers, networks given back as they were, HTML escaped."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from an8flower.__main__ import main
from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate import audit, explain, score
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.baselines import Random
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.sources import Source
from an8flower.evaluate.results.notebook import BESIDE, NUMBERS, AuditResult
from an8flower.store import FlowerStore

HOSTILE = ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"&\n<b>', "d", "e", "f"]


class Tags(HTMLParser):
    """Which elements a piece of HTML has, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@dataclass(frozen=True)
class Corner:
    """An explainer that points to the upper left."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        maps = torch.zeros_like(query.images[:, 0])
        maps[:, 0, 0] = 1
        return maps


def network() -> nn.Module:
    torch.manual_seed(0)
    stem = [nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU(), nn.ReLU()]
    return nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 6, bias=False))


def test_scores_are_those_of_the_command(small_file: Path, tmp_path: Path) -> None:
    build("flowernet", FlowerStore(small_file).class_names, 40, 0).save(tmp_path / "m.safetensors")
    found = score(
        data=small_file,
        models=tmp_path / "m.safetensors",
        methods=["gradcam", "random"],
        metrics=["iou", "pointing"],
        rows=12,
        output=tmp_path / "python",
        device="cpu",
    )
    line = ["score", "--data", small_file, "--model", tmp_path / "m.safetensors", "--rows", 12, "--device", "cpu"]
    line += ["--method", "gradcam", "--method", "random", "--metric", "iou", "--metric", "pointing", "--json"]
    done = CliRunner().invoke(main, [*map(str, line), "-o", str(tmp_path / "command")])
    document = json.loads(done.stdout)
    for each in (*document["results"], *found.document["results"]):
        each.pop("cost")  # seconds
    assert found.document["results"] == document["results"]
    assert found.frame.columns.tolist() == ["method", "metric", *NUMBERS, *BESIDE]
    for line_ in found.frame.to_dict("records"):
        (result,) = (each for each in document["results"] if each["text"] == line_["method"])
        for name in (*NUMBERS, *BESIDE):
            told = result["metrics"][line_["metric"]].get(name)
            assert line_[name] == told or (told is None and np.isnan(line_[name]))
    assert len(found.frame) == 4
    own = found.rows.query("metric == 'iou' and explainer.str.lower().str.startswith('gradcam')")
    assert len(own) == 12
    assert own["value"].mean() == pytest.approx(found.frame.query("metric == 'iou'")["mean"].iloc[0])
    assert found.table.num_rows == len(found.rows)


def test_networks_are_given_back_as_they_came(small_file: Path, tmp_path: Path) -> None:
    """In training mode, with dropout: scores and maps are those of eval mode, and the mode is what it was."""
    given = network().train()
    before = {name: value.clone() for name, value in given.state_dict().items()}
    asked: dict[str, Any] = {"data": small_file, "methods": "gradcam", "metrics": "iou"}
    first = score(models=given, output=tmp_path / "a", **asked)
    second = score(models=[network().eval()], output=tmp_path / "b", **asked)
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.rows["predicted"].equals(second.rows["predicted"])
    maps = [explain(method="gradcam", model=each, data=small_file, row=2).map for each in (given, network().eval())]
    assert (maps[0] == maps[1]).all()
    assert all(module.training for module in given.modules())
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert not any(module._forward_hooks for module in given.modules())


def test_another_target_layer_is_another_model(small_file: Path, tmp_path: Path) -> None:
    """Same weights, same folder: what was filed for one layer is not taken for the other, nor for other code."""
    names = FlowerStore(small_file).class_names
    asked: dict[str, Any] = {"data": small_file, "methods": "gradcam", "metrics": "iou", "rows": 6}
    found = [score(models=wrap(network(), names, 40, layer), output=tmp_path, **asked) for layer in ("1", "4")]
    assert found[0].frame["mean"][0] != found[1].frame["mean"][0]
    changed = network()
    changed[4] = nn.Softplus()  # has no weights either
    other = score(models=wrap(changed, names, 40, "4"), output=tmp_path, **asked)
    assert other.document["models"][0]["digest"] != found[1].document["models"][0]["digest"]


def test_explainers_themselves_are_methods(small_file: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"data": FlowerStore(small_file), "models": network(), "metrics": "pointing", "rows": 6}
    found = score(methods=[Corner(), Random(), "random"], output=tmp_path, **asked)
    assert found.frame["method"].tolist() == ["Corner()", "Random()"]  # the third is the second
    assert found.frame["mean"][0] == 0  # no flower reaches into the corner
    assert found.frame["mean"][1] == score(methods="random", output=tmp_path, **asked).frame["mean"][0]
    assert explain(method=Corner(), model=network(), image=Image.new("RGB", (9, 9))).map[0, 0] == 1


def test_pictures_of_every_kind_give_the_same_map(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    given = (pixels, Image.fromarray(pixels), tmp_path / "p.png", str(tmp_path / "p.png"))
    found = [explain(method="gradcam", model=network(), image=each, size=32, target=1) for each in given]
    assert all((each.map == found[0].map).all() for each in found)
    assert found[0].overlay.size == (50, 30)
    assert found[0].map.shape == (32, 32)
    assert found[0].probabilities.sum() == pytest.approx(1)


def test_what_notebooks_show_is_escaped(small_file: Path, tmp_path: Path) -> None:
    found = explain(method="gradcam", model=network(), image=Image.new("RGB", (40, 40)), labels=HOSTILE, target=0)
    shown = Tags(found._repr_html_())
    assert shown.tags == ["figure", "img", "figcaption"]
    assert HOSTILE[0] in shown.text
    assert found._repr_png_().startswith(b"\x89PNG")
    result = score(data=small_file, models=network(), methods="gradcam", metrics="iou", rows=6, output=tmp_path)
    result.document["dataset"]["name"] = result.document["results"][0]["text"] = HOSTILE[1]
    result.document["warnings"] = [HOSTILE[0]]
    shown = Tags(result._repr_html_())
    assert not {"script", "img", "b"} & set(shown.tags)
    assert shown.text.count(HOSTILE[1]) == 2
    assert HOSTILE[0] in shown.text


def test_an_audit_is_read_from_its_folder(tmp_path: Path) -> None:
    numbers = {**dict.fromkeys(NUMBERS, 0.5), "n": 6, "undefined": 1, "calibrated": None}
    scores = {"results": [{"text": HOSTILE[0], "metrics": {"iou": numbers}}]}
    studies = [{"dataset": {"name": name}, "scores": scores} for name in ("one", "two")]
    failed = [{"cell": "c", "method": HOSTILE[1], "model": "m", "dataset": "one", "reason": "<hr>"}]
    summary = {"name": "x", "title": HOSTILE[0], "studies": studies, "failed": failed}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    found = AuditResult.read(tmp_path)
    assert found.frame["dataset"].tolist() == ["one", "two"]
    assert found.frame["calibrated"].isna().all()
    assert found.frame["n"].tolist() == [6, 6]
    assert found.page == tmp_path / "report.html"
    assert not {"script", "img", "hr"} & set(Tags(found._repr_html_()).tags)
    (tmp_path / "summary.json").write_text('{"results": []}')  # that of `an8flower score`
    with pytest.raises(Refusal, match="not the summary of an audit"):
        AuditResult.read(tmp_path)
    with pytest.raises(Refusal, match="no finished audit is there"):
        AuditResult.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "give either image, or row"),
        ({"image": "a.png", "row": 1}, "give either image, or row"),
        ({"row": 1}, "row 1 of which data set"),
        ({"image": np.zeros((4, 4, 3))}, r"image is float64 of shape \(4, 4, 3\); expected uint8"),
        ({"image": np.zeros((4, 4, 3), np.uint8), "weights": "w.safetensors"}, "load them into the network yourself"),
        ({"image": np.zeros((4, 4, 3), np.uint8), "labels": ["a"]}, "1 class names came"),
    ],
)
def test_wrong_words_are_refused(asked: dict[str, Any], expected: str) -> None:
    with pytest.raises(Refusal, match=expected):
        explain(method="gradcam", model=network(), **asked)


def test_a_row_that_is_not_there(small_file: Path) -> None:
    with pytest.raises(Refusal, match="test has rows 0 to 23; asked for -1"):
        explain(method="gradcam", model=network(), data=small_file, row=-1)
    with pytest.raises(WrongUsage, match='unknown split "tset"'):
        explain(method="gradcam", model=network(), data=small_file, row=1, split="tset")


PLAN = """
name = "foreign"
methods = ["random"]
[[data]]
file = "none.h5"
"""
MODEL = """
[[models]]
arch = "flowernet"
"""


@pytest.mark.parametrize(
    "text",
    [
        PLAN + '[[models]]\nsource = "evil:thing"',
        PLAN + '[[models]]\narch = "evil:thing"',
        PLAN.replace("random", "evil:thing") + MODEL,
        PLAN.replace("random", "evil:thing:a=1") + MODEL,
        'metrics = ["evil:thing"]' + PLAN + MODEL,
        PLAN + MODEL + '[sanity]\nmethods = ["evil:thing"]',
        PLAN + MODEL + '[reduced]\narchs = { flowernet = "evil:thing" }',
    ],
)
@pytest.mark.parametrize("reduced", [False, True])
def test_a_plan_that_names_a_module_does_not_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reduced: bool
) -> None:
    """Wherever it names it, and even where a file lies there that is called so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('touched', 'w')")
    (tmp_path / "plan.toml").write_text(text)
    if "source" not in text:
        (tmp_path / "evil:thing").touch()
    with pytest.raises(Refusal, match=r"names evil:thing.*, and importing a module runs its code"):
        audit("plan.toml", reduced=reduced, output=tmp_path / "run", engine="inline")
    done = CliRunner().invoke(main, ["audit", "plan.toml", "-o", "run", *(["--reduced"] if reduced else [])])
    assert done.exit_code == 1
    assert "evil" not in sys.modules
    assert not {"touched", "run"} & {path.name for path in tmp_path.iterdir()}


def test_an_audit_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_file: Path) -> None:
    """Factory, weights, data and a method by the words of the command line, with the scores of `score`."""
    (tmp_path / "auditnets.py").write_text(
        "from torch import nn\n"
        "def network():\n"
        "    return nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    tensors = {"0.weight": torch.randn(6, 3, 1, 1, generator=torch.Generator().manual_seed(3)), "0.bias": torch.ones(6)}
    save_file(tensors, tmp_path / "w.safetensors")
    (tmp_path / "plan.toml").write_text(PLAN + MODEL + "[certificate]\nrows = 2\n[pictures]\nrows = 2\nextremes = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    given: dict[str, Any] = {"data": small_file, "models": "auditnets:network", "weights": "w.safetensors"}
    given |= {"methods": "gradcam", "metrics": ["iou"], "rows": 6}
    done = audit("plan.toml", output="run", engine="inline", device="cpu", **given)
    assert done.failed == []
    assert done.page.exists()
    alone = score(output="alone", device="cpu", **given)
    pd.testing.assert_frame_equal(done.frame.drop(columns="dataset"), alone.frame)
    assert done.summary["studies"][0]["scores"]["models"][0]["digest"] == alone.document["models"][0]["digest"]


def test_a_source_in_words_is_the_same_source(tmp_path: Path) -> None:
    weights = tmp_path / "a with b.safetensors"
    for source in (Source("mine.nets:network", weights), Source("mine.nets:network"), Source("x with y.safetensors")):
        assert Source.of(str(source)) == source
