"""What explanations by contrast share: the lead of a class over others as what is explained, and classes by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import unknown

from ...models.classifier import Classifier
from ...models.networks.batched_passes import Readout, logit


def lead_over(classifier: Classifier, contrast: str | None) -> Readout:
    """A readout: the target's logit less that of the class to contrast it with; the logit alone where that is None.

    A row whose target is this class itself has a lead of 0, and a map of zeros.

    Raises:
        WrongUsage: the classifier has no such class.
    """
    if contrast is None:
        return logit
    other = class_number(classifier, contrast)
    return lambda logits, targets: logit(logits, targets) - logits[:, other]


def class_number(classifier: Classifier, name: str) -> int:
    """The number of a class, from its name or its number as a text; raises WrongUsage where there is none."""
    names = classifier.class_names
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise WrongUsage(unknown("class", name, names))


def closest_classes(logits: Tensor, targets: Tensor, count: int) -> Tensor:
    """The classes (B, n) whose logits are closest to the target's, without it; n is `count`, or all there are."""
    distances = (logits - logit(logits, targets)[:, None]).detach().abs()
    distances = distances.scatter(1, targets[:, None], float("inf"))
    return distances.topk(min(count, logits.shape[1] - 1), dim=1, largest=False).indices


def describe_options(explainer: Any, later: Collection[str]) -> str:
    """The repr of a dataclass of parameters; options that came later are left out where they are None.

    So a method keeps its identity, and with it the results that are on disk, when it gets a new option.
    """
    values = {option.name: getattr(explainer, option.name) for option in fields(explainer)}
    told_of = [f"{name}={value!r}" for name, value in values.items() if not (name in later and value is None)]
    return f"{type(explainer).__qualname__}({', '.join(told_of)})"
