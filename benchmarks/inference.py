"""How often intervals and tests keep their word, in both scopes: `python benchmarks/inference.py [--repeats 400]`.

Scores of equally good methods are made up: normal, skewed, tied and bounded ones, with and without an interaction of
method and seed. An interval of 95 % should cover the truth in 93 to 97.5 % of the cases, and at most 6 % of the audits
may tell any two methods apart.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from typing import Any

import report

from an8flower.evaluate.results.scopes import ANEW, LEAST_SEEDS, THESE
from an8flower.evaluate.results.statistics.simulation import SCORES, SimulationSetting, simulate


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=400)
    options.add_argument("--rows", type=int, nargs="+", default=[12, 30, 60, 120, 300])
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 5])
    options.add_argument("--methods", type=int, default=5)
    chosen = options.parse_args()
    settings = [
        SimulationSetting(scores, rows, seeds, interaction, chosen.methods)
        for scores, rows, seeds, interaction in product(SCORES, chosen.rows, chosen.seeds, (0.0, 0.25))
        if seeds > 1 or not interaction
    ]
    rows = [row(setting, THESE, chosen.repeats) for setting in settings]
    rows += [row(setting, ANEW, chosen.repeats) for setting in settings if setting.seeds >= LEAST_SEEDS]
    about = {"audits made up for each line": chosen.repeats, "methods": chosen.methods}
    report.write("inference", rows, about)


def row(setting: SimulationSetting, scope: str, repeats: int) -> dict[str, Any]:
    """One line of the table."""
    outcome = simulate(setting, scope, repeats)
    print(f"{scope}: {setting}: {outcome}", file=sys.stderr, flush=True)
    return {
        "scope": scope,
        "scores": setting.scores,
        "rows": setting.rows,
        "seeds": setting.seeds,
        "interaction": setting.interaction,
        "intervals of means cover": None if scope == ANEW else outcome.means,
        "intervals of differences cover": outcome.differences,
        "a false difference": outcome.familywise,
        "holds": "yes" if outcome.holds else "no",
    }


if __name__ == "__main__":
    main()
