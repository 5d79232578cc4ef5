"""The ranges that explainers declare for their parameters: which values are worth a try.

An explainer names them in a class variable `ranges`, a dict from parameters to `Between`, `Choices`, `Layers`,
`Numbered` or `Pixels`. Those of its base classes count as well, unless it declares the same parameter anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from an8flower.errors import Refusal

from ..models.classifier import Classifier
from ..models.networks.guard import evaluating
from ..options import defaults
from .attribution.stages import list_stages


class ParameterRange(Protocol):
    """What the values of a parameter may be; those of some ranges depend on the network."""

    def resolve(self, classifier: Classifier) -> Between | Choices:
        """The values for one network."""
        ...

    def describe(self) -> dict[str, Any]:
        """The range as a JSON document."""
        ...


@dataclass(frozen=True)
class Between:
    """All numbers from one to another, both included; whole numbers alone if both ends are whole."""

    low: float
    high: float
    log: bool = False  # whether factors count, and not differences

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are in the range."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The smallest and the largest value, once if they are the same."""
        return tuple(dict.fromkeys((self.low, self.high)))

    @property
    def count(self) -> float:
        """How many values there are: infinitely many unless they are whole."""
        return self.high - self.low + 1 if self.whole else float("inf")

    def resolve(self, classifier: Classifier) -> Between:
        """The range itself, which is the same for every network."""
        return self

    def describe(self) -> dict[str, Any]:
        """The range as a JSON document."""
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {})}


@dataclass(frozen=True)
class Choices:
    """Some values, in any order."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """Every value, since none lies between others."""
        return self.values

    @property
    def count(self) -> float:
        """How many values there are."""
        return len(self.values)

    def resolve(self, classifier: Classifier) -> Choices:
        """The choices themselves, which are the same for every network."""
        return self

    def describe(self) -> dict[str, Any]:
        """The choices as a JSON document."""
        return {"values": list(self.values)}


@dataclass(frozen=True)
class Layers:
    """The layers of a network where a class activation map makes sense.

    Those are the last layer of each resolution up to the target layer or, in a vision transformer, the same place of
    each block; None stands for the target layer itself.
    """

    def resolve(self, classifier: Classifier) -> Choices:
        """The paths of the layers at which the network can be cut, the target layer (None) first."""
        paths = [path for path in list_stages(classifier) if path != classifier.target_layer]
        return Choices((None, *(path for path in paths if _can_be_cut(classifier, path))))

    def describe(self) -> dict[str, Any]:
        """What the range is, as a JSON document."""
        return {"network": "the last layer of each resolution, or the same place of each block"}


@dataclass(frozen=True)
class Numbered:
    """The numbers, from 0, of what a network has several of, such as the blocks of a transformer."""

    what: str  # in the plural
    count_in: Callable[[Classifier], int]

    def resolve(self, classifier: Classifier) -> Between:
        """The numbers of the first and of the last; 0 alone if the network has none."""
        return Between(0, max(1, self.count_in(classifier)) - 1)

    def describe(self) -> dict[str, Any]:
        """What the range is, as a JSON document."""
        return {"network": f"the {self.what}, from 0"}


@dataclass(frozen=True)
class Pixels:
    """Whole numbers of pixels between two shares of an image's side, of which factors count."""

    low: float
    high: float

    def resolve(self, classifier: Classifier) -> Between:
        """The numbers for images of the network's size, at least 1."""
        low, high = (max(1, round(share * classifier.size)) for share in (self.low, self.high))
        return Between(low, high, log=True)

    def describe(self) -> dict[str, Any]:
        """What the range is, as a JSON document."""
        return {"network": f"pixels, {self.low:g} to {self.high:g} of the image's side", "log": True}


def count_blocks(classifier: Classifier) -> int:
    """How many blocks a vision transformer has; 0 of other networks, and where the blocks are not known."""
    return len(classifier.transformer.blocks) if classifier.transformer else 0


BLOCKS = Numbered("blocks", count_blocks)
SWITCH = Choices((False, True))


Ranges = Mapping[str, ParameterRange]


def ranges_of(kind: Any) -> dict[str, ParameterRange]:
    """The ranges that the class of an explainer and its base classes declare, in the order of its parameters.

    >>> class Tinted:
    ...     ranges = {"power": Between(0.5, 2.0)}
    >>> ranges_of(Tinted)
    {'power': Between(low=0.5, high=2.0, log=False)}
    """
    declared: dict[str, ParameterRange] = {}
    for base in reversed(getattr(kind, "__mro__", ())):
        declared |= vars(base).get("ranges", {})
    order = list(defaults(kind)) if hasattr(kind, "__dataclass_fields__") else list(declared)
    return {name: declared[name] for name in order if name in declared}


def describe_ranges(kind: Any) -> dict[str, dict[str, Any]]:
    """The declared ranges of a class of explainers as a JSON document, by parameter."""
    return {name: value.describe() for name, value in ranges_of(kind).items()}


def resolve_ranges(kind: Any, classifier: Classifier) -> dict[str, Between | Choices]:
    """The values that each parameter may have on a network, for the parameters that leave a choice there."""
    resolved = {name: value.resolve(classifier) for name, value in ranges_of(kind).items()}
    return {name: value for name, value in resolved.items() if value.count > 1}


def to_text(values: Mapping[str, Any]) -> str:
    """Values of parameters as users write them behind a method's name.

    >>> to_text({"layer": None, "gamma": 0.25, "relu": True})
    'layer=none,gamma=0.25,relu=true'
    """
    return ",".join(f"{name}={_to_word(value)}" for name, value in values.items())


def _to_word(value: Any) -> str:
    """One value as users write it."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _can_be_cut(classifier: Classifier, path: str) -> bool:
    """Whether the network can be cut at a layer."""
    try:
        with evaluating(classifier):
            classifier.split(path)
    except Refusal:
        return False
    return True
