"""The tables of the page on which metric may be believed, from what `benchmarks/believed.py` measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markup import code, plain, table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def proxy_taus() -> str:
    """Kendall's tau of each metric with each truth, an architecture after the other."""
    document = _measured("metric_agreement")
    return "\n\n".join(
        f"**{name}** ({plain(words)})\n\n{_taus_of(document, name)}" for name, words in _architectures(document).items()
    )


def quick_taus() -> str:
    """Kendall's tau of each metric of the quick audit with each truth, an architecture after the other."""
    document = _measured("metric_agreement_quick")
    return "\n\n".join(f"**{name}**\n\n{_taus_of(document, name)}" for name in _architectures(document))


def _taus_of(document: Mapping[str, Any], architecture: str) -> str:
    rows = [row for row in document["rows"] if row["architecture"] == architecture]
    truths = list(dict.fromkeys(row["truth"] for row in rows))
    proxies = list(dict.fromkeys(row["metric"] for row in rows if row["proxy"]))
    by_pair = {(row["metric"], row["truth"]): row for row in rows}
    cells = [[code(m), *(_tau(by_pair.get((m, truth))) for truth in truths)] for m in (*proxies, *truths)]
    return table(["metric", *map(code, truths)], cells)


def proxy_verdicts() -> str:
    """For each proxy the lowest and the highest tau over the truths, and how many intervals lie off 0."""
    document = _measured("metric_agreement")
    proxies = dict.fromkeys((row["architecture"], row["metric"]) for row in document["rows"] if row["proxy"])
    rows = []
    for architecture, metric in proxies:
        of_metric = [row for row in document["rows"] if (row["architecture"], row["metric"]) == (architecture, metric)]
        spans = [[(row[key], row[low], row[high]) for row in of_metric] for key, low, high in TAUS]
        rows.append([architecture, code(metric), *(cell for span in spans for cell in _range_of(span))])
    head = ["network", "metric", "tau", "above 0, below 0", "tau without controls", "above 0, below 0"]
    return table(head, rows)


TAUS = (
    ("tau", "low", "high"),
    ("without controls", "without controls, low", "without controls, high"),
)


def _range_of(spans: list[tuple[float | None, float | None, float | None]]) -> list[str]:
    """The lowest and the highest of several values with intervals, and how many intervals lie above and below 0."""
    known = [(value, low, high) for value, low, high in spans if None not in (value, low, high)]
    if not known:
        return ["-", "-"]
    values = [value for value, _, _ in known]
    above, below = sum(low > 0 for _, low, _ in known), sum(high < 0 for _, _, high in known)
    return [f"{_number(min(values))} to {_number(max(values))}", f"{above}, {below} of {len(known)}"]


def row_taus() -> str:
    """Tau without the controls, tau for models trained anew, and the means over rows of tau and of Spearman's rho."""
    document = _measured("metric_agreement")
    rows = [
        [
            row["architecture"],
            code(row["metric"]),
            code(row["truth"]),
            _span(row["without controls"], row["without controls, low"], row["without controls, high"]),
            _span(row["anew"], row["anew, low"], row["anew, high"]),
            _number(row["tau by row"]),
            _number(row["rho by row"]),
        ]
        for row in document["rows"]
        if row["proxy"]
    ]
    return table(
        ["network", "metric", "truth", "tau without controls", "tau trained anew", "tau by row", "rho by row"], rows
    )


def known_maps() -> str:
    """What each metric makes of maps of known worth, an architecture after the other."""
    document = _measured("known_maps")
    rows = [
        [
            row["architecture"],
            code(row["metric"]),
            _span(row["in order"], row["low"], row["high"]),
            "-" if row["lost at"] is None else f"{row['lost at']:.0%}",
            row["takes for the truth"] or "none",
            row["prefers to the truth"] or "none",
        ]
        for row in document["rows"]
    ]
    head = ["network", "metric", "in order", "lost at", "takes for the truth", "prefers to the truth"]
    return table(head, rows)


def adversaries() -> str:
    """The maps that a metric should not take for the truth, each in words."""
    from an8flower.evaluate.results.metric_tests import ADVERSARIES

    return table(["map", "what it is"], [[code(name), plain(words)] for name, words in ADVERSARIES.items()])


def _architectures(document: Mapping[str, Any]) -> dict[str, str]:
    names = dict.fromkeys(row["architecture"] for row in document["rows"])
    return {name: str(document["about"][name]) for name in names}


def _tau(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else _span(row["tau"], row["low"], row["high"])


def _span(mean: float | None, low: float | None, high: float | None) -> str:
    return _number(mean) + (f" ({_number(low)} to {_number(high)})" if low is not None else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.2f}"


def _measured(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return document
