"""Which metric may be believed? The plan `metrics` at its reduced size, and what it says of every metric.

Two results: how far each metric orders methods as the truths do, and what it makes of maps of known worth. The first of
them is read off the quick audit as well, which has a transformer. What lies in the folder already is taken from there,
so an interrupted run goes on.
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
    """Carry out both plans, except for what is done already, and write what they say of the metrics."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps data, models and results; a temporary one unless given")
    folder = options.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        for plan, suffix in ((plans.load("metrics").at_reduced_size(), ""), (plans.load(plans.QUICK), "_quick")):
            outcome = audit(plan, place / "runs" / plan.name, How(device="cpu", data_folder=place / "data"))
            publish(outcome.summary, suffix)


def publish(summary: Mapping[str, Any], suffix: str = "") -> None:
    """Write what a finished audit of one data set says of its metrics; the suffix ends the names of the results."""
    (study,) = summary["studies"]
    data, agreements, tests = study["dataset"], study["metric_agreement"], study.get("metric_tests", [])
    command = "an8flower audit " + (summary["name"].replace("-reduced", " --reduced") if not suffix else "--quick")
    about = {"command": command, "data": f"{data['name']}, {data['size']} px"}
    truths = {truth["metric"]: truth["question"] for truth in agreements[0]["truths"]}
    write(f"metric_agreement{suffix}", list(agreement_rows(agreements)), {**about, **truths, **describe(agreements)})
    if tests:
        write(f"known_maps{suffix}", list(map_rows(tests)), {**about, **describe(tests)})


if __name__ == "__main__":
    main()
