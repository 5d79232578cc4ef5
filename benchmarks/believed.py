"""Which metric may be believed? The plan `metrics` at its reduced size, and what it says of every metric.

Two results: how far each metric orders methods as the truths do, and what it makes of maps of known worth. What lies in
the folder already is taken from there, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from report import write

from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit

Row = dict[str, Any]
ENDS = (("", "mean"), (", low", "low"), (", high", "high"))


def agreement_rows(agreements: list[Mapping[str, Any]]) -> Iterator[Row]:
    """A row for each architecture, metric and truth."""
    for entry in agreements:
        for pair in entry["pairs"]:
            yield {
                "architecture": entry["architecture"],
                "metric": pair["metric"],
                "proxy": pair["metric"] in entry["proxies"],
                "truth": pair["truth"],
                **{key: pair["tau"][end] for key, end in (("tau", "mean"), ("low", "low"), ("high", "high"))},
                "without controls": pair["tau_without_controls"]["mean"],
                "without controls, low": pair["tau_without_controls"]["low"],
                "without controls, high": pair["tau_without_controls"]["high"],
                **{f"anew{words}": (pair["trained_anew"] or {}).get(end) for words, end in ENDS},
                "tau by row": pair["row_tau"]["mean"],
                "rho by row": pair["row_spearman"]["mean"],
            }


def map_rows(tests: list[Mapping[str, Any]]) -> Iterator[Row]:
    """A row for each architecture and metric."""
    for entry in tests:
        for name, test in entry["metrics"].items():
            outcomes = {adversary: numbers["outcome"] for adversary, numbers in test["adversaries"].items()}
            yield {
                "architecture": entry["architecture"],
                "metric": name,
                **{key: test["in_order"][end] for key, end in (("in order", "mean"), ("low", "low"), ("high", "high"))},
                "lost at": test["lost_at"],
                "takes for the truth": ", ".join(key for key, value in outcomes.items() if value == "not told"),
                "prefers to the truth": ", ".join(key for key, value in outcomes.items() if value == "preferred"),
            }


def describe(entries: list[Mapping[str, Any]]) -> dict[str, str]:
    """The models, the rows and the methods of each architecture, in words."""
    return {
        entry["architecture"]: f"{', '.join(entry['models']) or 'no certified model'}, {entry['rows']} rows"
        + (f", methods: {', '.join(entry['methods'])}" if entry.get("methods") else "")
        for entry in entries
    }


def main() -> None:
    """Carry out the plan, except for what is done already, and write both results."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps data, models and results; a temporary one unless given")
    folder = options.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        plan = plans.load("metrics").at_reduced_size()
        outcome = audit(plan, place / "runs" / plan.name, How(device="cpu", data_folder=place / "data"))
        (study,) = outcome.summary["studies"]
    publish(study)


def publish(study: Mapping[str, Any]) -> None:
    """Write both results of a data set of a finished audit."""
    data = study["dataset"]
    about = {"command": "an8flower audit metrics --reduced", "data": f"{data['name']}, {data['size']} px"}
    truths = {truth["metric"]: truth["question"] for truth in study["metric_agreement"][0]["truths"]}
    agreements, tests = study["metric_agreement"], study["metric_tests"]
    write("metric_agreement", list(agreement_rows(agreements)), {**about, **truths, **describe(agreements)})
    write("known_maps", list(map_rows(tests)), {**about, **describe(tests)})


if __name__ == "__main__":
    main()
