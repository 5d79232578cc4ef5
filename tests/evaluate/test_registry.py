"""Names: owners, near misses, plug-ins and things named by their module."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate import registry
from an8flower.evaluate.registry import Registry, archs, explainers


@pytest.fixture
def fresh() -> Registry:
    return Registry("explainer", "an8flower.evaluate.explainers")


def test_built_ins_come_with_the_first_look_up() -> None:
    assert {"cam", "center", "edges", "fakecam", "gradcam", "gradient", "intensity", "random"} <= {*explainers.names()}
    assert {"flowernet", "flowervit", "resnet18", "resnet50", "vgg16"} <= {*archs.names()}


@pytest.mark.parametrize("kind", [explainers, archs])
def test_everybody_tells_family_and_source(kind: Registry) -> None:
    for name in kind.names():
        assert {"family", "source"} <= {*kind[name].about}


def test_a_second_owner_is_refused(fresh: Registry) -> None:
    fresh.register("mine", family="test")(object())
    with pytest.raises(Refusal, match='explainer "mine" is registered already by <object'):
        fresh.register("mine", family="test")(object())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gradcan", 'unknown explainer "gradcan"; did you mean "gradcam"?'),
        ("xyz", 'unknown explainer "xyz"; known are: '),
        ("no.such.module:thing", '"no.such.module:thing" cannot be imported (No module named'),
        ("math:thing", "write package.module:attribute"),
    ],
)
def test_unknown_names(name: str, says: str) -> None:
    with pytest.raises(WrongUsage, match=re.escape(says)):
        explainers[name]


def test_plug_ins_are_listed_without_being_imported(fresh: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    plug_ins = [EntryPoint("broken", "no.such.module:thing", ""), EntryPoint("tau", "math:tau", "")]
    asked: list[str] = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return plug_ins

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert {"broken", "tau"} <= {*fresh.names()}
    assert fresh.plug_ins() == ["broken", "tau"]
    assert fresh["tau"].item == pytest.approx(6.283, abs=1e-3)
    assert fresh["tau"].about == {"family": "third party"}
    with pytest.raises(
        Refusal, match=r'plug-in "broken" \(no.such.module:thing\) cannot be loaded .*; mend or uninstall'
    ):
        fresh["broken"]
    assert set(asked) == {"an8flower.explainers"}


def test_a_thing_by_its_module(fresh: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "garden_of_names.py").write_text("class Rose: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry: Any = fresh["garden_of_names:Rose"]
    assert entry.item.__name__ == "Rose"
    assert fresh["garden_of_names:Rose"] == entry
    assert "garden_of_names:Rose" not in fresh.names()  # asked for once, it is not among `all` later
