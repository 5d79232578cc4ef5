"""The house rules that a test can hold: who may import whom, what is light, what a wheel puts where."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"an8flower": "an8flower", "evaluate": "an8flower.evaluate"}


def modules() -> dict[str, Path]:
    """Every module of the project by its installed name."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def imports(name: str, path: Path) -> Iterator[tuple[str, bool]]:
    """Each module that a module imports, and whether it does so at import time (not for types alone)."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        early = node in tree.body
        if isinstance(node, ast.Import):
            yield from ((alias.name, early) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(name, path.name == "__init__.py", node)
            yield base, early
            yield from ((f"{base}.{alias.name}", early) for alias in node.names)


def _absolute(name: str, package: bool, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = name.split(".")
    kept = parts[: len(parts) - node.level + package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _below(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def test_the_data_side_knows_nothing_of_judging_nor_of_torch() -> None:
    for name, path in modules().items():
        if any(_below(name, f"an8flower.{above}") for above in ("evaluate", "commands", "__main__")):
            continue
        for target, _ in imports(name, path):
            assert not _below(target, "an8flower.evaluate"), f"{name} imports {target}"
            assert not _below(target, "torch"), f"{name} imports {target}"


def test_nobody_but_the_command_line_knows_the_commands() -> None:
    for name, path in modules().items():
        for target, _ in imports(name, path):
            assert not _below(target, "an8flower.__main__"), f"{name} imports {target}"
            if not (_below(name, "an8flower.commands") or name == "an8flower.__main__"):
                assert not _below(target, "an8flower.commands"), f"{name} imports {target}"


# Which other rooms the files of a room may import. The loose files, which all rooms may import, are below the table.
ROOMS = {
    "data": set(),
    "results": set(),
    "models": {"data"},
    "report": {"results"},
    "explainers": {"data", "models"},
    "metrics": {"data", "models", "results"},
    "explaining": {"data", "models", "explainers", "results"},
    "scoring": {"data", "models", "metrics", "explaining", "results"},
    "trust": {"data", "models", "metrics", "explaining", "results"},
    "audits": {"data", "models", "explainers", "metrics", "explaining", "scoring", "trust", "results", "report"},
}
LOOSE = {"__init__", "calls", "case", "maps", "options", "registry", "resources", "seeds"}
FACE = {"__init__", "calls"}  # what users import: it stands above all rooms


def test_the_judging_side_has_ten_rooms() -> None:
    entries = {path.stem for path in (ROOT / "evaluate").iterdir() if path.name != "__pycache__"}
    assert entries == set(ROOMS) | LOOSE


def test_arrows_between_rooms_are_allowed() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, path in modules().items()
        if (room := _room(name)) in ROOMS
        for target, _ in imports(name, path)
        if (other := _room(target)) is not None and other not in {room, *ROOMS[room], *(LOOSE - FACE)}
    ]
    assert not wrong


def test_loose_files_name_rooms_for_their_types_alone() -> None:
    for name, path in modules().items():
        if _room(name) in LOOSE - FACE:
            rooms = {_room(target) for target, early in imports(name, path) if early}
            assert rooms <= LOOSE | {None}, name


def test_no_chain_of_rooms_is_longer_than_six() -> None:
    def height(room: str) -> int:
        return 1 + max(map(height, ROOMS[room]), default=0)

    assert max(map(height, ROOMS)) == 6


def _room(name: str) -> str | None:
    """The room, or the loose file, of a module of the judging side."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["an8flower", "evaluate"] and len(parts) > 2 else None


@pytest.mark.parametrize("room", ["results", "report"])
def test_a_room_loads_no_torch(room: str) -> None:
    """A fresh process imports each module of the room, and none of them brings torch along."""
    names = [name for name in modules() if _room(name) == room]
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_packages_of_the_distribution_are_the_folders() -> None:
    """`setup.cfg` names each folder with modules once, so that a wheel forgets none."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = config["options"]["packages"].split()
    folders = {name for name, path in modules().items() if path.name == "__init__.py"}
    assert named == sorted(folders)


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_imports_what_there_is(path: Path) -> None:
    """Each name that a benchmark takes from the project is there; what it takes from peers need not be installed."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("an8flower"):
            for alias in node.names:
                exec(f"from {node.module} import {alias.name}", {})


def test_imports_run_one_way() -> None:
    known = modules()
    graph = {
        name: {target for target, early in imports(name, path) if early and target in known and target != name}
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_root_is_light() -> None:
    """A fresh process that imports the package, or asks for help, has loaded neither torch nor numba nor numpy."""
    code = "import sys, an8flower, an8flower.__main__; print(*{'torch', 'numba', 'numpy', 'h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_the_wheel_adds_one_name(tmp_path: Path) -> None:
    """A wheel built from the sources holds the package alone, complete, and works where nothing of the sources is."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"an8flower"}
    expected = {
        str(path.relative_to(ROOT)).replace("evaluate/", "an8flower/evaluate/", 1) for path in modules().values()
    }
    assert expected <= set(names)
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--no-compile", "--target", site, wheel], check=True)
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} <= {"an8flower", "bin"}
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); "
        "import an8flower.evaluate.registry as r, an8flower.spec as s; print(r.__file__, len(s.presets()))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert str(site) in done.stdout
    assert done.stdout.split()[-1] == "11"
