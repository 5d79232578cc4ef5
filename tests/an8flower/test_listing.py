"""The lists that come with the package are what the registers say, and printing them loads no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from an8flower.commands.methods import methods, metrics
from an8flower.evaluate import registry
from an8flower.evaluate.results import listing


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("COLUMNS", "160")
    names = registry.metrics.names()  # loads the built-in ones
    strangers = [name for name in names if name.startswith("strange_")]  # which other tests have registered
    for name in strangers:
        monkeypatch.delitem(registry.metrics._entries, name)
    return lambda command, *words: CliRunner().invoke(command, words, catch_exceptions=False).output


@pytest.mark.parametrize("words", [(), ("--json",)])
@pytest.mark.parametrize("command", [methods, metrics])
def test_both_ways_print_the_same(run: object, monkeypatch: pytest.MonkeyPatch, command: object, words: object) -> None:
    shipped = run(command, *words)  # type: ignore[operator]
    monkeypatch.setattr(listing, "entry_points", lambda group: ["a plug-in"])
    assert run(command, *words) == shipped  # type: ignore[operator]


@pytest.mark.parametrize("name", ["iou", "deletion:steps=14"])
def test_the_card_of_a_metric_is_the_same_both_ways(run: object, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shipped = run(metrics, name, "--json")  # type: ignore[operator]
    monkeypatch.setattr(listing, "entry_points", lambda group: ["a plug-in"])
    assert run(metrics, name, "--json") == shipped  # type: ignore[operator]
    assert json.loads(shipped)[0]["name"].startswith(name.partition(":")[0])


@pytest.mark.parametrize("words", [["methods"], ["metrics"], ["metrics", "iou"]])
def test_no_torch_is_loaded(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv[1:] = {words!r}\n"
        "from an8flower.__main__ import main\n"
        "try: main(prog_name='an8flower')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'scipy', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-400:]
