"""How numbers are written on the page: one way for each kind, and a dash where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..results import wording
from ..results.wording import join_names as join_names

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


class CalibratedInterval(NamedTuple):
    """A mean and its 95 % interval on a scale where 0 is a random map and 1 is the truth."""

    mean: float
    low: float
    high: float


def number(value: float | None, digits: int = 3) -> str:
    """A number as text, with a typographic minus and without a negative zero; a dash for None.

    >>> number(0.12345), number(-0.0001), number(-2.0, 0) == MINUS + "2", number(None) == DASH
    ('0.123', '0.000', True, True)
    """
    return DASH if value is None else wording.number(value, digits).replace("-", MINUS)


def brief(value: float | None) -> str:
    """A number of any size as text, in three significant figures.

    >>> brief(1234.56), brief(0.0123456)
    ('1235', '0.0123')
    """
    if value is None:
        return DASH
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """A share as text in percent.

    >>> percent(0.9834), percent(0.05, 0)
    ('98.3 %', '5 %')
    """
    return DASH if share is None else f"{share:.{digits}%}".replace("%", " %").replace("-", MINUS)


def between(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval as text, from its low end to its high end.

    >>> between(0.1, 0.25, 2)
    '0.10 to 0.25'
    """
    return DASH if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def between_shares(share: Mapping[str, Any]) -> str:
    """The interval of a share as text in percent."""
    return DASH if share["low"] is None else f"{percent(share['low'])} to {percent(share['high'])}"


def count_of(count: int, noun: str) -> str:
    """A count with its noun, which takes an s unless there is one.

    >>> count_of(1, "model"), count_of(2, "model")
    ('1 model', '2 models')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def calibrated_interval(m: Mapping[str, Any]) -> CalibratedInterval | None:
    """The mean and the interval of a metric on the scale from chance, 0, to the truth, 1.

    None if it is undefined, or if chance and the truth score so alike that the interval would span the scale many
    times.
    """
    chance, oracle, mean = m.get("chance"), m.get("oracle"), m.get("calibrated")
    if mean is None or chance is None or oracle is None or oracle == chance:
        return None
    if m.get("low") is None or m.get("high") is None:
        return None
    ends = wording.calibrated_ends(m)
    if ends is None:
        return None
    known = all(map(math.isfinite, ends)) and (ends[1] - ends[0]) / 2 < wording.UNKNOWN
    return CalibratedInterval(mean, *ends) if known else None
