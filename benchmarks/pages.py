"""Puts what the other benchmarks found last on the pages docs/performance.md and docs/conformance.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import goals
import report

DOCS = Path(__file__).parents[1] / "docs"
GOALS = "goals"  # a table of numbers from the others


class Page(NamedTuple):
    """A page of tables."""

    name: str
    opening: str
    parts: dict[str, str]  # name of the results -> title of the section


PAGES = (
    Page(
        "performance",
        """# Performance

What an explanation or a score costs beside the same of other toolkits: same model, same images, both in one run,
medians of ratios taken turn by turn. F is one bare batched forward pass of one image through the classifier as it is,
B its way back to the pixels. Methods of one pass pay for the guard that gives a borrowed model back as it was, which
other toolkits do not have; what it takes stands in the table of explainers that contrast. Written by `make bench`,
all but the last two tables, which `make bench-long` measures; the figures are those of the machine named below each
table.""",
        {
            GOALS: "What we mean to reach",
            "explainers-resnet18": "Explainers: ResNet-18 at 112 px",
            "explainers-flowervit": "Explainers: flowervit at 112 px",
            "explainers-contrast": "Explainers that contrast and refine: ResNet-18 at 112 px",
            "explainers-resnet50": "Explainers: ResNet-50 at 224 px",
            "explainers-vgg16": "Explainers: VGG-16 at 224 px",
            "memory": "Memory of explainers",
            "localisation": "Localisation metrics",
            "faithfulness": "Faithfulness metrics",
            "sanity": "Sanity checks",
            "interventions": "Intervention metrics of several methods",
            "start": "Start of commands",
            "quick_audit": "Quick audit",
            "suite": "Tests",
            "gradient_penalty": "Training with a penalty on gradients",
            "certificate": "Reliance certificate",
            "plans": "Shipped plans",
        },
    ),
    Page(
        "conformance",
        """# Conformance

How far our maps and scores are from those of other toolkits on identical input. Where definitions differ, the table
says how, and both are compared up to the step at which they part. Written by `make bench`.""",
        {
            "conformance-explainers": "Explainers",
            "conformance-transformers": "Explainers of vision transformers",
            "conformance-metrics": "Metrics",
        },
    ),
)


def section(name: str, title: str) -> str:
    """One table with what it was measured on; a line that says so where it was not measured."""
    if name == GOALS:
        return f"## {title}\n\n{report.table(goals.rows())}"
    path = report.RESULTS / f"{name}.json"
    if not path.exists():
        return f"## {title}\n\nNot measured."
    found = json.loads(path.read_text())
    facts = report.facts(found["about"]), report.facts(report.flat(found["machine"]))
    return f"## {title}\n\n{facts[0]}\n\n{report.table(found['rows'])}\n\n{facts[1]}"


def text(page: Page) -> str:
    """A page with all its tables."""
    return "\n\n".join([page.opening, *(section(*part) for part in page.parts.items())]) + "\n"


def main() -> None:
    """Write the pages."""
    for page in PAGES:
        path = DOCS / f"{page.name}.md"
        path.write_text(text(page))
        print(path)


if __name__ == "__main__":
    main()
