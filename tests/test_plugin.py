"""A third party's explainer, installed as its own package: listed, scored and checked like ours; and two bad ones."""

from __future__ import annotations

import configparser
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

GARDEN = Path(__file__).parent / "plugin"
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plug-in as pip would lay it down, without pip: modules, and a dist-info with the entry points."""
    site = tmp_path / "site"
    info = site / "an8flower_garden-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(GARDEN / "garden.py", site)
    config = configparser.ConfigParser()
    config.read(GARDEN / "setup.cfg")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {config['metadata']['name']}\nVersion: 1.0\n")
    points = config["options.entry_points"]["an8flower.explainers"]
    (info / "entry_points.txt").write_text(f"[an8flower.explainers]{points}\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


def test_it_is_listed_scored_and_checked(run: Run, installed: Path, small_file: Path, tmp_path: Path) -> None:
    listed = {each["name"]: each for each in json.loads(run("methods", "--json").stdout)}
    assert listed["garden-gradient"]["family"] == "garden"
    assert listed["garden-gradient"]["parameters"] == {"power": 1.0}
    (tmp_path / "data").mkdir()
    shutil.copy(small_file, tmp_path / "data" / "single-6c.h5")
    run("train", "--epochs", 1, "--device", "cpu")
    words = ["score", "--rows", 6, "--metric", "auroc", "--device", "cpu", "--json"]
    (installed / "an8flower_garden-1.0.dist-info" / "entry_points.txt").write_text(
        "[an8flower.explainers]\ngarden-gradient = garden:GardenGradient\nweeds = garden:Weeds\n"
    )
    whole = run(*words, "--method", "family:garden", "--method", "garden-gradient:power=2")
    scored = [(each["method"], each["parameters"]) for each in json.loads(whole.stdout)["results"]]
    assert scored == [("garden-gradient", {"power": power}) for power in (1.0, 2.0)]
    assert 'left out: the plug-in "weeds" (garden:Weeds) cannot be loaded' in whole.stderr
    done = run("check", "garden-gradient:power=2", "--json")
    assert json.loads(done.stdout)["holds"]


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("Hooked", (), "Hooked() leaves hooks of the model changed; have it put back what it borrows"),
        (
            "Dicing",
            ("--in-process",),
            "Dicing() draws from torch's global random state; draw from `an8flower.evaluate.seeds.generator",
        ),
        ("Raising", ("--in-process",), "Raising() raised ValueError: no flowers today"),
    ],
)
def test_bad_ones_fail_the_check_with_a_sentence(
    run: Run, installed: Path, name: str, more: tuple[str, ...], says: str
) -> None:
    done = run("check", f"garden:{name}", *more, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert says in done.stderr
    assert done.stderr.startswith(f"Error: garden:{name} fails ")
    assert "FAILED" in done.stdout
