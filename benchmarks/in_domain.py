"""Faithfulness inside the data beside counterfactuals: the plan `in-domain` at its reduced size.

Two results: how far each metric orders methods as the truths do, and what road gives to maps beside their blurred
copies. What lies in the folder already is taken from there, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from believed import agreement_rows, describe
from report import write

from an8flower.evaluate.audits import plan as plans
from an8flower.evaluate.audits.run import How, audit
from an8flower.evaluate.models.files import read_classifier

MEANS = ("road", "road_blurred", "idsds", "idsds:tuned=false", "ffidelity", "counterfactual_deletion")


def score_rows(results: list[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row for each method: the means of what stays inside the data."""
    for result in results:
        means = {name: result["metrics"][name]["mean"] for name in MEANS}
        yield {"method": result["text"], **means}


def describe_tuning(folder: Path) -> dict[str, str]:
    """What fine-tuning did to the models of a run, by what was taken away."""
    cards = [read_classifier(path)[0].data for path in sorted((folder / "models").glob("*.tuned-*.safetensors"))]
    return {f"cross entropy without what {card['tuned']} takes away": card["tuned_loss"] for card in cards}


def publish(summary: Mapping[str, Any], folder: Path) -> None:
    """Write what a finished audit of one data set says of its metrics."""
    (study,) = summary["studies"]
    data, agreements = study["dataset"], study["metric_agreement"]
    about = {"command": "an8flower audit in-domain --reduced", "data": f"{data['name']}, {data['size']} px"}
    truths = {truth["metric"]: truth["question"] for truth in agreements[0]["truths"]}
    write("in_domain_agreement", list(agreement_rows(agreements)), {**about, **truths, **describe(agreements)})
    write("in_domain_scores", list(score_rows(study["scores"]["results"])), {**about, **describe_tuning(folder)})


def main() -> None:
    """Carry out the plan, except for what is done already, and write what it says."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps data, models and results; a temporary one unless given")
    folder = options.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        plan = plans.load("in-domain").at_reduced_size()
        run = place / "runs" / plan.name
        publish(audit(plan, run, How(device="cpu", data_folder=place / "data")).summary, run)


if __name__ == "__main__":
    main()
