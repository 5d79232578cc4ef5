"""The examples of the page about other tools, executed where their packages are installed (the extra `interop`)."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from an8flower.evaluate import build
from an8flower.evaluate.results.map_files import open_maps
from an8flower.exporting.export import export
from an8flower.store import FlowerStore

PAGE = Path(__file__).parents[3] / "docs" / "interop.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(?:python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def code_of(section: str) -> str:
    """The code of a section of the page; of the opening where it has no name."""
    text = PAGE.read_text(encoding="utf-8")
    part = text.partition("\n## ")[0] if not section else dict(SECTION.findall(text))[section]
    return "\n".join(BLOCK.findall(part))


@pytest.fixture
def here(small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the default data set and model."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "single-6c.h5").symlink_to(small_file)
    store = FlowerStore(small_file)
    model = tmp_path / "runs" / "single-6c" / "flowernet-seed0.safetensors"
    build("flowernet", store.class_names, store.size, seed=0).save(model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*sections: str) -> dict[str, Any]:
    """The names that sections of the page leave, after its opening and what is said of torch."""
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        for section in ("", "torch", *sections):
            exec(compile(code_of(section), section, "exec"), names)
    return names


@pytest.mark.usefixtures("here")
def test_torch_gives_batches() -> None:
    names = run()
    assert names["images"].shape == (4, 3, 40, 40)
    assert np.array_equal(names["masks"].numpy() > 0, names["s"][:4, 0])
    assert np.array_equal(names["labels"].numpy(), names["y"][:4])


@pytest.mark.usefixtures("here")
def test_captum_and_back() -> None:
    pytest.importorskip("captum")
    names = run("Captum", "Maps back into an8flower")
    (collection,) = open_maps(Path("captum.h5"))
    assert collection.manifest.model == names["classifier"].digest
    gradient = names["attributions"]
    assert gradient.shape == (8, 3, 40, 40)
    assert all(0 < share < 1 for share in names["inside"])


@pytest.mark.usefixtures("here")
def test_quantus_scores() -> None:
    pytest.importorskip("captum")
    pytest.importorskip("quantus")
    names = run("Captum", "Quantus")
    for score, values, evidence in zip(names["scores"], names["maps"], names["s"][:, 0], strict=True):
        first = np.argsort(values.reshape(-1))[::-1][: evidence.sum()]  # the definition: as many pixels as are evidence
        assert score == pytest.approx(evidence.reshape(-1)[first].mean(), abs=1e-6)


@pytest.mark.usefixtures("here")
def test_pytorch_grad_cam_explains() -> None:
    pytest.importorskip("pytorch_grad_cam")
    maps = run("pytorch-grad-cam")["maps"]
    assert maps.shape == (8, 40, 40)
    assert 0 <= maps.min() < maps.max() <= 1


@pytest.mark.usefixtures("here")
def test_torchcam_explains() -> None:
    pytest.importorskip("torchcam")
    maps = run("TorchCAM")["maps"]
    assert maps.shape[0] == 8
    assert maps.max() > 0


def test_hugging_face_datasets(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("datasets").config.HF_DATASETS_CACHE = here / "cache"
    export(Path("data/single-6c.h5"), Path("single-6c"), "parquet")
    row = run("Hugging Face datasets")["row"]
    assert np.array_equal(np.asarray(row["image"]), FlowerStore("data/single-6c.h5")["test"].rows(0, 1).images[0])


@pytest.mark.usefixtures("here")
def test_pandas_groups() -> None:
    assert len(run("pandas")["frame"]) == 24


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_tf_data_batches(here: Path) -> None:
    """In a process of its own: TensorFlow and numba bring an LLVM each, and one process holds one."""
    code = code_of("") + code_of("tf.data") + "assert (images.numpy() == x[:4].transpose(0, 2, 3, 1)).all()\n"
    code += "assert (labels.numpy() == y[:4]).all() and (masks.numpy() == s[:4, 0]).all(); print('equal')"
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False)
    assert done.stdout.split()[-1:] == ["equal"], done.stderr
