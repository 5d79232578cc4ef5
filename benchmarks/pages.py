"""Puts what `explainers.py` and `memory.py` measured last on one page, docs/performance.md."""

from __future__ import annotations

import json
from pathlib import Path

import report

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
PARTS = {
    "explainers-resnet18": "ResNet-18 at 112 px",
    "explainers-resnet50": "ResNet-50 at 224 px",
    "explainers-vgg16": "VGG-16 at 224 px",
    "memory": "Memory",
}
OPENING = """# Performance

What an explanation costs beside the same method of other toolkits: same model, same images, both in one run, medians of
ratios taken turn by turn. F is one bare batched forward pass of one image through the classifier as it is, B its way
back to the pixels. Written by `make bench`; the figures are those of the machine named below each table.
"""


def section(name: str, title: str) -> str:
    """One table with what it was measured on; a line that says so where it was not measured."""
    path = report.RESULTS / f"{name}.json"
    if not path.exists():
        return f"## {title}\n\nNot measured."
    found = json.loads(path.read_text())
    facts = report.facts(found["about"]), report.facts(report.flat(found["machine"]))
    return f"## {title}\n\n{facts[0]}\n\n{report.table(found['rows'])}\n\n{facts[1]}"


def main() -> None:
    """Write the page."""
    PAGE.write_text("\n\n".join([OPENING.strip(), *(section(*each) for each in PARTS.items())]) + "\n")
    print(PAGE)


if __name__ == "__main__":
    main()
