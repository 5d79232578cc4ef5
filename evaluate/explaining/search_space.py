"""The parameters of a method that can be tuned on some networks, and methods with other values of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.names import unknown

from ..explainers.ranges import Between, Choices, ranges_of, resolve_ranges, to_text
from ..models.classifier import Classifier
from ..options import METHOD, defaults
from .methods import Method

DIGITS = 3  # of a number that is tried, so that its text is short and says all of it

Values = dict[str, Any]
Space = Mapping[str, Between | Choices]


@dataclass(frozen=True)
class Tunable:
    """A method as the user named it, and the values of its parameters among which a search chooses."""

    method: Method
    space: Space

    @property
    def count(self) -> float:
        """How many combinations of values there are; infinite if a parameter is no whole number."""
        return math.prod(values.count for values in self.space.values())

    @property
    def start(self) -> Values:
        """The values of the method as the user named it."""
        return {name: getattr(self.method.explainer, name) for name in self.space}

    def grid(self) -> Iterator[Values]:
        """All combinations of values, if there are finitely many."""
        columns = [_list(values) for values in self.space.values()]
        return (dict(zip(self.space, row, strict=True)) for row in itertools.product(*columns))

    def with_values(self, values: Values) -> Method:
        """The method with other values; its text has those that are not the user's."""
        changes = {name: value for name, value in values.items() if value != self.start[name]}
        if not changes:
            return self.method
        apart = "," if _parameters_of(self.method) else ":"
        explainer = replace(cast(Any, self.method.explainer), **changes)
        return self.method._replace(text=f"{self.method.text}{apart}{to_text(changes)}", explainer=explainer)


def find_tunable(method: Method, classifiers: Sequence[Classifier], names: Sequence[str] = ()) -> Tunable:
    """Find the values that the parameters of a method may have on all of these networks.

    What the user has set in the method's text stays as it is.

    Args:
        names: of the parameters to tune; all that have a range where empty.

    Raises:
        WrongUsage: a parameter has no range, or is set already.
        NotApplicable: the method leaves no choice on these networks.
    """
    kind, fixed = type(method.explainer), _parameters_of(method)
    declared = ranges_of(kind)
    for name in names:
        if name not in declared:
            raise WrongUsage(f"{method.name}: {unknown('parameter with a range', name, declared)}")
        if name in fixed:
            raise WrongUsage(f"{method.text}: {name} is set there already; leave it out of the one or of the other")
    spaces = [resolve_ranges(kind, classifier) for classifier in classifiers]
    common = {name: _intersect([space[name] for space in spaces if name in space]) for name in declared}
    wanted = [name for name in names or declared if name not in fixed]
    space = {name: common[name] for name in wanted if all(name in space for space in spaces) and common[name].count > 1}
    if not space:
        raise NotApplicable(f"{method.text} has no parameter that leaves a choice here; see `an8flower methods`")
    return Tunable(method, space)


def shorten(values: Values) -> Values:
    """The same values with few digits, so that a text says all of them.

    >>> shorten({"spread": 0.123456, "count": 3, "pooling": "sum"})
    {'spread': 0.123, 'count': 3, 'pooling': 'sum'}
    """
    return {name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for name, value in values.items()}


def _parameters_of(method: Method) -> set[str]:
    """The parameters that the text of a method sets."""
    match = METHOD.fullmatch(method.text)
    assigned = match["parameters"] if match else None
    known = defaults(type(method.explainer))
    return {name for part in (assigned or "").split(",") if (name := part.partition("=")[0].strip()) in known}


def _intersect(ranges: Sequence[Between | Choices]) -> Between | Choices:
    """The values that are in all of several ranges of one parameter; no choice if there is no range."""
    if not ranges:
        return Choices(())
    first = ranges[0]
    if isinstance(first, Choices):
        return Choices(tuple(value for value in first.values if all(value in it.ends for it in ranges)))
    low = max(it.ends[0] for it in ranges)
    return Between(low, min(it.ends[-1] for it in ranges), first.log)


def _list(values: Between | Choices) -> list[Any]:
    """All values of a range that has finitely many."""
    return [*values.values] if isinstance(values, Choices) else [*range(int(values.low), int(values.high) + 1)]
