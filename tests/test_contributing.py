"""CONTRIBUTING.md is a map that can be trusted: its rooms, files and functions are there."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PLACES = [
    (place, name)
    for place, name in re.findall(r"`((?:an8flower|evaluate|docs|tests|benchmarks|data)/[\w./]*)`(?:\s`(\w+)`)?", TEXT)
    if "NAME" not in place  # stands for a name that the reader chooses
]


def allowed_imports() -> dict[str, set[str]]:
    """The table that the house rules hold."""
    description = importlib.util.spec_from_file_location("house_rules", ROOT / "tests" / "test_house.py")
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    description.loader.exec_module(module)
    return module.ROOMS


def test_the_rooms_are_those_of_the_house_rules() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| ?(.*) \|$|^\| `(\w+)` \| (.+?) \| \|$", TEXT, re.MULTILINE)
    rooms = {(first or second): imports for first, _, imports, second, _ in rows}
    allowed = allowed_imports()
    assert set(rooms) == set(allowed) == {path.parent.name for path in (ROOT / "evaluate").glob("*/__init__.py")}
    for room, imports in rooms.items():
        named = set(allowed) - {room} if imports == "all others" else set(re.findall(r"`(\w+)`", imports))
        assert named == allowed[room], room


def test_the_loose_files_are_all_named() -> None:
    for path in (ROOT / "evaluate").glob("*.py"):
        assert f"`{path.name}`" in TEXT, path.name


@pytest.mark.parametrize(("place", "name"), PLACES, ids=lambda text: text.replace("/", "."))
def test_what_it_names_is_there(place: str, name: str) -> None:
    path = ROOT / place
    assert path.exists(), place
    if name:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in defined, f"{place}: {name}"
