"""What holds for models trained anew, and how many seeds would settle what these models say already. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from scipy.special import ndtri, stdtrit

from .scopes import LEAST_SEEDS
from .statistics.power import seeds_needed


def look_ahead(numbers: Mapping[str, Any], seeds: Mapping[str, int], methods: Collection[str]) -> dict[str, Any]:
    """What the pairs of methods on a board say of models trained anew, ready for JSON.

    Args:
        numbers: what a board says by one metric: `pairs` of these models, and `trained_anew`.
        seeds: the number of seeds of each architecture.
        methods: those that count, which are no controls.

    Returns:
        `seeds` there are, `least` that it takes to say anything; of the pairs that these models tell apart (`pairs`),
        how many hold for models trained anew as well (`hold`), and for how many seeds the rest would (`needed`, None if
        nothing is left or can be said; `beyond` counts pairs that no number of seeds settles, for lack of rows).
    """
    fewest = min(seeds.values(), default=0)
    names = set(methods)
    here = {(p["a"], p["b"]): p for p in numbers.get("pairs") or () if p["apart"] and {p["a"], p["b"]} <= names}
    anew = {(p["a"], p["b"]): p for p in (numbers.get("trained_anew") or {}).get("pairs") or ()}
    common = {key: (pair, anew[key]) for key, pair in here.items() if key in anew}
    still = [seeds_to_settle(*both, fewest, len(anew)) for both in common.values() if not both[1]["apart"]]
    known = [count for count in still if count is not None]
    return {
        "seeds": fewest,
        "least": LEAST_SEEDS,
        "pairs": len(common),
        "hold": sum(both[1]["apart"] for both in common.values()),
        "needed": max(known, default=None),
        "beyond": len(still) - len(known),
    }


def seeds_to_settle(here: Mapping[str, Any], anew: Mapping[str, Any], seeds: int, pairs: int) -> int | None:
    """The seeds, more than there are, for which a pair would be told apart on models trained anew; None if none are.

    The standard error of these models is that of the rows, which more seeds leave as it is; what the one of models
    trained anew has more comes from the seeds. The error is shared out over all pairs that are compared.
    """
    if None in (anew["difference"], anew["low"], anew["high"], here["low"], here["high"]):
        return None
    from_rows = (here["high"] - here["low"]) / 2 / float(ndtri(0.975))
    total = (anew["high"] - anew["low"]) / 2 / student_quantile(anew.get("freedom"))
    from_seeds = max(total**2 - from_rows**2, 0.0) ** 0.5
    needed = seeds_needed(anew["difference"], from_rows, from_seeds, seeds, alpha=0.05 / pairs)
    return None if needed is None else max(needed, seeds + 1)


def student_quantile(freedom: float | None) -> float:
    """The quantile of Student's t that a 95 % interval reaches to; of the normal distribution for None.

    >>> round(student_quantile(2), 2), round(student_quantile(None), 2)
    (4.3, 1.96)
    """
    return float(stdtrit(freedom, 0.975)) if freedom else float(ndtri(0.975))
