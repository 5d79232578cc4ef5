"""The script for a GPU runs where there is none, with numbers of everything it is asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
STEPS = {
    "ceilings": "us per image",
    "explainers": "in F",
    "metrics": "ms per map",
    "training": "epochs",
    "plan": "cells",
}


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.mark.slow
def test_every_step_has_numbers_on_a_cpu(tmp_path: Path) -> None:
    done = run(str(SCRIPT), "--device", "cpu", "--tiny", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for step, column in STEPS.items():
        document = json.loads((tmp_path / f"gpu-{step}.json").read_text())
        assert (document["about"]["device"], document["about"]["precision"]) == ("cpu", "float32")
        assert document["rows"]
        assert all(row[column] > 0 for row in document["rows"]), step
        assert not any(row.get("failed") for row in document["rows"])
        assert column in (tmp_path / f"gpu-{step}.md").read_text()


@pytest.mark.slow
def test_the_sources_are_enough(tmp_path: Path) -> None:
    """A Python that has the packages but not this one imports it from the sources, and so do its workers."""
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import from_sources; "
        f"from pathlib import Path; sys.path.insert(0, str(from_sources.link(Path({str(tmp_path)!r})))); "
        "import an8flower.evaluate as e, an8flower.evaluate.audits.plan as p; "
        "print(e.__file__, p.load('vebi-iou').name)"
    )
    done = run("-P", "-S", "-c", f"import sys; sys.path[:0] = {packages()!r}; {code}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "an8flower" / "evaluate" / "__init__.py"), "vebi-iou"]


def packages() -> list[str]:
    """The folders of installed packages, without what makes this package importable."""
    return [place for place in sys.path if place.endswith("site-packages")]
