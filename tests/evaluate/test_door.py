"""`an8flower.evaluate` is one door: light, whole, never shadowed by a room, and the only place the manual names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import an8flower.evaluate as door
from tests.warm import WarmServer

ROOT = Path(__file__).parents[2]
OPEN = {"an8flower.evaluate", *(f"an8flower.{name}" for name in ("errors", "spec", "store", "factors", "evidence"))}
MADE = {"commands.md", "methods.md", "metrics.md", "presets.md"}  # from docstrings, which may name inner modules
READERS = [
    *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in MADE),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
]
CODE = re.compile(r"^```(?:python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FORGET_OURS = (
    "import sys\n"
    "for name in [name for name in sys.modules if name.partition('.')[0] == 'an8flower']:\n"
    "    del sys.modules[name]\n"
)
IMPORT = re.compile(r"^\s*(?:from (an8flower[\w.]*) import (.+)|import (an8flower[\w.]*).*)$", re.MULTILINE)


def run(code: str) -> str:
    """What a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_importing_the_door_is_light() -> None:
    """Neither the import nor a look around loads torch; an unknown name is an AttributeError."""
    code = (
        "import sys, an8flower.evaluate as e; assert set(e.__all__) <= set(dir(e)); "
        "assert not hasattr(e, 'nothing'); print(*{'torch', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    assert run(code) == ""


def test_the_two_tables_are_equal() -> None:
    """What editors and mypy see is what is imported."""
    tree = ast.parse(Path(door.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    table = {name: place.partition(":") for name, place in door.PLACES.items()}
    assert seen == {name: (module, inner or name) for name, (module, _, inner) in table.items()}
    assert set(door.__all__) == set(seen)


def test_no_name_is_that_of_a_room() -> None:
    beside = {path.stem for path in Path(door.__file__).parent.iterdir()}
    assert not beside & set(door.__all__)


def test_every_name_is_there_in_both_orders(warm_server: WarmServer | None, tmp_path: Path) -> None:
    """The function and not the room, whether the rooms were imported before or after.

    Each order has a process without any module of ours, forked from one that has torch and its like.
    """
    rooms = "".join(f"import an8flower.evaluate.{place.partition(':')[0]}\n" for place in door.PLACES.values())
    names = f"from an8flower.evaluate import {', '.join(door.__all__)}\n"
    check = (
        "import an8flower.evaluate as e, types\n"
        "assert not [n for n in e.__all__ if isinstance(getattr(e, n), types.ModuleType)]\n"
        f"assert all(getattr(e, n) is globals()[n] for n in {door.__all__})\n"
        "assert isinstance(e.explaining, types.ModuleType) and isinstance(e.metrics, types.ModuleType)\n"
        "print(explain.__module__, explain_batch.__module__)"
    )
    for code in (rooms + names + check, names + rooms + check):
        if warm_server is None:
            printed = run(code)
        else:
            done = warm_server.run(["-c", FORGET_OURS + code], tmp_path)
            assert done.status == 0, done.stderr
            printed = done.stdout.strip()
        assert printed == "an8flower.evaluate.calls an8flower.evaluate.explaining.explain"


def imported(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The modules of the project that the examples of a page import, with the names that are taken from each."""
    for block in CODE.findall(path.read_text(encoding="utf-8")):
        for module, names, whole in IMPORT.findall(block):
            yield module or whole, [name.split(" as ")[0].strip() for name in names.strip("()").split(",") if name]


@pytest.mark.parametrize("path", [*READERS, ROOT / "tests" / "plugin" / "garden.py"], ids=lambda path: path.name)
def test_pages_and_the_plug_in_import_from_the_door_alone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = imported(path) if path.suffix == ".md" else ((m or w, n.split(", ")) for m, n, w in IMPORT.findall(text))
    for module, names in named:
        if module == "an8flower":
            assert {f"an8flower.{name}" for name in names} <= OPEN, path.name
        else:
            assert module in OPEN, f"{path.name} imports {module}"
            assert all(hasattr(import_module(module), name) for name in names), f"{path.name}: {names}"


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.name)
def test_the_prose_of_pages_names_the_door_alone(path: Path) -> None:
    for name in re.findall(r"an8flower\.evaluate\.(\w+)", path.read_text(encoding="utf-8")):
        assert name in door.__all__, f"{path.name}: an8flower.evaluate.{name}"
