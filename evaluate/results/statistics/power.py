"""How many rows it takes to tell two methods apart."""

from __future__ import annotations

import math

from scipy.special import ndtri


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
    return math.ceil(((ndtri(1 - alpha / 2) + ndtri(power)) / effect) ** 2)
