"""What `an8flower methods` and `an8flower metrics` print, as a file that comes with the package."""

from __future__ import annotations

import json
from pathlib import Path

from an8flower.evaluate.results import listing as shipped

LISTING = Path(shipped.__file__).with_name(shipped.FILE)


def listing() -> str:
    """The lists of methods and metrics of the project's own, as JSON."""
    from an8flower.evaluate.explaining.methods import describe_method
    from an8flower.evaluate.metrics.naming import parse_metrics
    from an8flower.evaluate.registry import explainers

    ours = [name for name in explainers.names() if name not in explainers.plug_ins()]
    cards = [metric.card() for metric in parse_metrics(["all"])]
    lists = {"methods": [describe_method(name) for name in ours], "metrics": cards}
    return json.dumps(lists, indent=1) + "\n"
