"""Methods as users write them."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from an8flower.errors import Refusal, WrongUsage
from an8flower.evaluate import registry
from an8flower.evaluate.explainers.baselines import Center
from an8flower.evaluate.explainers.cam import Cam, GradCam
from an8flower.evaluate.explaining.methods import (
    broken_plug_ins,
    describe_methods,
    parse_method,
    parse_methods,
    set_precisions,
)
from an8flower.evaluate.registry import explainers

FOREIGN = """
from __future__ import annotations
from dataclasses import dataclass, field

@dataclass(frozen=True)
class Noise:
    samples: int
    sigma: float = 0.1
    place: str = "a:b"
    names: tuple[str, ...] = field(default_factory=tuple)

    def __call__(self, classifier, query): ...

def function(classifier, query): ...
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "foreign_methods.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    explainers.names()
    monkeypatch.setattr(explainers, "_entries", dict(explainers._entries))  # what is adopted here is forgotten again
    return "foreign_methods:Noise"


@pytest.mark.parametrize(
    ("text", "name", "explainer"),
    [
        ("gradcam", "gradcam", GradCam()),
        ("gradcam:layer=layer4.1", "gradcam", GradCam(layer="layer4.1")),
        ("gradcam:layer=none", "gradcam", GradCam()),
        ("cam:relu=true", "cam", Cam(relu=True)),
        ("cam:relu=no, layer=features", "cam", Cam(layer="features")),
        ("center:width=1", "center", Center(width=1.0)),
        ("center:width=1e-1", "center", Center(width=0.1)),
    ],
)
def test_names_and_parameters(text: str, name: str, explainer: object) -> None:
    method = parse_method(text)
    assert (method.text, method.name, method.explainer) == (text, name, explainer)


def test_explainers_are_told_apart_by_their_repr() -> None:
    assert repr(parse_method("center:width=1").explainer) == "Center(width=1.0)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gradcan", 'unknown explainer "gradcan"; did you mean "gradcam"?'),
        ("cam:rellu=true", 'cam: unknown parameter "rellu"; did you mean "relu"?'),
        ("cam:relu=maybe", 'cam: relu is "maybe"; expected bool'),
        ("center:width=wide", 'center: width is "wide"; expected float'),
        ("center:width=0", "center: width is 0.0; expected a positive share"),
        ("center:width=1,sigma", 'center: unknown parameter "sigma"'),
        ("cam:relu=true,layer", "cam: parameter layer has no value; write layer=VALUE"),
        ("gradient:pooling=abs_mx", 'unknown pooling "abs_mx"; did you mean "abs_max"?'),
        ("", "an empty name of a method came"),
    ],
)
def test_what_cannot_be_understood(text: str, says: str) -> None:
    with pytest.raises(WrongUsage, match=re.escape(says)):
        parse_method(text)


def test_a_method_without_parameters() -> None:
    with pytest.raises(WrongUsage, match='edges: unknown parameter "size"'):
        parse_method("edges:size=3")


def test_foreign_methods(foreign: str) -> None:
    method = parse_method(f"{foreign}:samples=5,sigma=0.5,place=x:y")
    assert method.name == foreign
    assert repr(method.explainer) == "Noise(samples=5, sigma=0.5, place='x:y', names=())"
    with pytest.raises(WrongUsage, match=f"parameter samples has no default; write {foreign}:samples=VALUE"):
        parse_method(foreign)
    with pytest.raises(WrongUsage, match='samples is "many"; expected int'):
        parse_method(f"{foreign}:samples=many")
    with pytest.raises(WrongUsage, match="expected a frozen dataclass"):
        parse_method("foreign_methods:function")


def test_all_families_and_repetitions() -> None:
    names = [method.name for method in parse_methods(["family:cam", "gradcam", "random", "gradcam:layer=x"])]
    assert "cam" in names
    assert names.count("gradcam") == 2
    assert {"random", "gradcam", "gradient"} <= {method.name for method in parse_methods(["all"])}
    with pytest.raises(WrongUsage, match='unknown family "cams"; did you mean "cam"'):
        parse_methods(["family:cams"])


def test_every_method_is_described() -> None:
    told = {each["name"]: each for each in describe_methods()}
    assert {"layer": None, "relu": False}.items() <= told["cam"]["parameters"].items()
    assert told["smoothgrad"]["ranges"]["spread"] == {"low": 0.02, "high": 0.5, "log": True}
    assert told["rise"]["ranges"]["masks"] == {"low": 500, "high": 4000, "log": True}
    keys = {"name", "family", "parameters", "ranges", "source", "needs", "class_sensitive"}
    assert all({*each} - {"note"} == keys for each in told.values())
    assert told["cam"]["class_sensitive"]
    assert not told["random"]["class_sensitive"]


@pytest.fixture
def plugged_in(foreign: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plug-ins of all sorts: one that works, and two that do not."""
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group: [
            EntryPoint("fine", "an8flower.evaluate.explainers.baselines:Center", ""),
            EntryPoint("missing", "no.such.module:thing", ""),
            EntryPoint("no-default", foreign, ""),
        ],
    )


def test_broken_plug_ins_are_told_and_left_out(plugged_in: None) -> None:
    told = {each["name"]: each for each in describe_methods()}
    assert "error" not in told["fine"]
    assert 'the plug-in "missing" (no.such.module:thing) cannot be loaded (ModuleNotFound' in told["missing"]["error"]
    assert "parameter samples has no default" in told["no-default"]["error"]
    assert {*broken_plug_ins()} == {"missing", "no-default"}
    names = {method.name for method in parse_methods(["all"])}
    assert "fine" in names
    assert not {"missing", "no-default"} & names
    assert [method.name for method in parse_methods(["family:baselines"])].count("fine") == 1
    with pytest.raises(Refusal, match=r'the plug-in "missing" .* cannot be loaded .*; mend or uninstall it'):
        parse_methods(["missing"])


def test_methods_say_whether_the_target_matters() -> None:
    assert parse_method("gradcam").class_sensitive
    assert not parse_method("center:width=0.1").class_sensitive


RAISING = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Picky:
    size: int = 3

    def __post_init__(self):
        raise ValueError("never happy")
"""


def test_foreign_code_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raising_methods.py").write_text(RAISING)
    (tmp_path / "unreadable_methods.py").write_text("class 3")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WrongUsage, match=r"Picky does not take .*'size': 4.* \(ValueError: never happy\)"):
        parse_method("raising_methods:Picky:size=4")
    with pytest.raises(WrongUsage, match="cannot be imported"):
        parse_method("unreadable_methods:Picky")


def test_a_precision_is_for_the_methods_that_have_one_and_leave_it_open() -> None:
    given = ["gradcam", "rise:masks=5", "occlusion", "scorecam:precision=float32"]
    coarse = set_precisions(parse_methods(given), "bf16")
    assert [method.text for method in coarse] == [
        "gradcam",
        "rise:masks=5,precision=bf16",
        "occlusion:precision=bf16",
        "scorecam:precision=float32",
    ]
    assert coarse == [parse_method(method.text) for method in coarse]
    assert set_precisions(parse_methods(given), "float32") == parse_methods(given)
    with pytest.raises(WrongUsage, match='unknown precision "bf61"; did you mean "bf16"'):
        set_precisions(parse_methods(["rise"]), "bf61")


def test_a_note_on_the_patent_stands_beside_relevance_propagation() -> None:
    """Beside the methods that hand relevance down by rules of LRP, and beside no other."""
    noted = {method["name"] for method in describe_methods() if "LRP is patented" in method.get("note", "")}
    assert noted == {"lrp", "deep_taylor", "attnlrp", "cplrp", "tibav"}
