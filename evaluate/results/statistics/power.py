"""How many rows it takes to tell two methods apart."""

from __future__ import annotations

import math

REASON = 1000  # seeds: nobody trains more to settle a pair


def rows_needed(effect: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Rows for which a two-sided paired test at `alpha` finds an effect d_z with probability `power`.

    This is the normal approximation, without a correction for several pairs, for the models at hand. None if there is
    no effect, or so small an effect that the number of rows would be beyond reason.

    Source: Cohen: Statistical Power Analysis (1988).

    >>> rows_needed(0.5), rows_needed(-0.1), rows_needed(0.0)
    (32, 785, None)
    """
    if math.isnan(effect) or abs(effect) < 1e-6:
        return None
    return math.ceil(((normal_quantile(1 - alpha / 2) + normal_quantile(power)) / effect) ** 2)


def rows_to_decide(value: float, reach: float, n: int, bound: float) -> int | None:
    """Rows for which the 95 % interval of a mean leaves a bound out with a probability of 80 %.

    The spread of the rows is taken from the interval at hand, which reaches from the mean towards the bound. None if
    the mean lies on the bound.

    Args:
        reach: the distance from the mean to the end of its interval on the side of the bound.
        n: the rows that the interval is of.

    >>> rows_to_decide(0.6, 0.2, 50, 0.5)
    409
    """
    spread = reach * math.sqrt(n) / normal_quantile(0.975)
    return rows_needed((value - bound) / spread) if spread > 0 else None


def rows_without_exception(bound: float) -> int | None:
    """Rows of which all agree, for which the exact 95 % interval of their share has a limit of at least the bound.

    None if no number of rows is enough.

    Source: Clopper, Pearson, Biometrika 26 (1934) 404-413.

    >>> rows_without_exception(0.9), rows_without_exception(1.0)
    (36, None)
    """
    return math.ceil(math.log(0.025) / math.log(bound)) if 0 < bound < 1 else None


def seeds_needed(
    difference: float, from_rows: float, from_seeds: float, seeds: int, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Seeds of an architecture for which two methods are told apart on models trained anew, with probability `power`.

    None if no number of seeds is enough, since the rows alone leave too much open, or if it is beyond reason. This is a
    normal approximation; for one of several pairs, `alpha` has to be divided by their number.

    Args:
        difference: of the means of the two methods.
        from_rows: the part of its standard error that comes from the rows, whatever the number of seeds.
        from_seeds: the part that comes from the seeds, with `seeds` of them; it falls with their root.

    >>> seeds_needed(0.3, 0.05, 0.2, 3), seeds_needed(0.1, 0.05, 0.2, 3)
    (14, None)
    """
    room = (difference / (normal_quantile(1 - alpha / 2) + normal_quantile(power))) ** 2 - from_rows**2
    if not room > 0:
        return None
    count = math.ceil(seeds * from_seeds**2 / room)
    return max(count, 1) if count <= REASON else None


def normal_quantile(probability: float) -> float:
    """The value that a standard normal number stays below with a probability."""
    from scipy.special import ndtri  # here, as it takes a while to load

    return float(ndtri(probability))
