"""Everything on a pretended GPU: no tensor is on the wrong device, the CPU's numbers, and no more waiting than today.

`pretend_gpu.json` says for each run how often at most tensors are copied between the devices, and how often the host
waits for the GPU. After a change that makes them fewer, or for a new method or metric, write it anew:
`python -P tests/pretend_gpu_runs.py --write`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from an8flower.evaluate.registry import explainers, metrics

SCRIPT = Path(__file__).with_name("pretend_gpu_runs.py")
TABLE: dict[str, list[int]] = json.loads(SCRIPT.with_name("pretend_gpu.json").read_text())
REMEDY = "write the table anew: python -P tests/pretend_gpu_runs.py --write"


@pytest.fixture(scope="module")
def document() -> Any:
    """What was seen in a process of its own, since a pretended GPU changes torch for good."""
    done = subprocess.run([sys.executable, "-P", SCRIPT], capture_output=True, text=True, check=False, timeout=550)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_planted_mistakes_are_seen(document: Any) -> None:
    for name, (kind, seen) in document["planted"].items():
        assert (kind in seen) if kind else ("mistake" not in seen), name


def test_every_method_and_metric_is_run() -> None:
    names = {f"explainer {name}" for name in explainers.names() if name not in explainers.plug_ins()}
    strangers = {*metrics.plug_ins(), *(name for name in metrics.names() if name.startswith("strange_"))}  # of tests
    names |= {f"metric {name}" for name in metrics.names() if name not in strangers}
    assert names == {name for name in TABLE if name.startswith(("explainer ", "metric "))}, REMEDY


@pytest.mark.parametrize("name", TABLE)
def test_a_gpu_gives_what_the_cpu_gives(document: Any, name: str) -> None:
    seen = document["runs"][name]
    assert "error" not in seen, seen
    assert seen["launches"] > 0
    assert not seen["mistakes"]
    assert seen["apart"] <= 1e-4


@pytest.mark.parametrize("name", TABLE)
def test_no_more_waiting_than_the_table_says(document: Any, name: str) -> None:
    transfers, waits = TABLE[name]
    seen = document["runs"][name]
    assert (seen["transfers"] <= transfers, seen["waits"] <= waits) == (True, True), (seen, TABLE[name])
