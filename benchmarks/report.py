"""How every benchmark reports: one JSON document and one Markdown table, with the machine that was measured."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "an8flower",
    "numpy",
    "numba",
    "torch",
    "scipy",
    "h5py",
    "quantus",
    "captum",
    "zennit",
    "grad-cam",
    "torchcam",
)

Row = Mapping[str, Any]


def write(name: str, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write `results/NAME.json` and `results/NAME.md`, and print the latter.

    `about` says in words and numbers what was measured and how; the keys of `rows` are the table's columns.
    """
    document: dict[str, Any] = {"about": dict(about), "machine": machine(), "rows": [dict(row) for row in rows]}
    text = f"# {name.capitalize()}\n\n{facts(about)}\n\n{table(rows)}\n\n{facts(flat(document['machine']))}\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[
            0
        ],  # of the last minute: above the threads of the benchmark itself, others were at work
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def table(rows: Sequence[Row]) -> str:
    """Rows of equal keys as a Markdown table; numbers to three digits.

    >>> print(table([{"what": "sort", "ms": 0.06421}]))
    | what | ms |
    |---|---|
    | sort | 0.0642 |
    """
    columns = list(rows[0])
    lines = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(columns), *body])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def facts(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {_cell(value)}" for name, value in facts.items())


def flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, "versions": ", ".join(f"{name} {found}" for name, found in facts["versions"].items())}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
