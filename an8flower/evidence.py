"""Which parts tell a class from the others: the truth that explanations are held against."""

from __future__ import annotations

import itertools

from .factors import FACTORS, Value, part_of
from .looks import ABSENT, class_look
from .spec import DatasetSpec


def sufficient_sets(spec: DatasetSpec, label: int) -> tuple[frozenset[str], ...]:
    """The minimal sets of parts by which a class differs from every other one.

    A set is sufficient when no other class looks the same on all its parts. More than one minimal set means that the
    class is redundant: any of them alone gives it away.
    """
    look = class_look(spec, label)
    others = [class_look(spec, other) for other in range(spec.class_count) if other != label]
    minimal: list[frozenset[str]] = []
    for size in range(1, len(look) + 1):
        for parts in map(frozenset, itertools.combinations(sorted(look), size)):
            is_sufficient = all(any(look[part] != other[part] for part in parts) for other in others)
            if is_sufficient and not any(smaller <= parts for smaller in minimal):
                minimal.append(parts)
    return tuple(minimal)


def evidence_parts(spec: DatasetSpec, label: int) -> frozenset[str]:
    """The parts in any minimal sufficient set of a class: what a row's mask marks."""
    return frozenset().union(*sufficient_sets(spec, label))


def used_parts(spec: DatasetSpec, label: int) -> frozenset[str]:
    """The parts that the best classifier uses for a class: its evidence, and whatever tells what a suppressor adds.

    A suppressor says nothing of the class by itself. But evidence shows the class and a nuisance mixed, and whoever
    knows the nuisance from elsewhere can take it away. Source: Haufe et al., NeuroImage 87 (2014) 96-110.
    """
    parts = evidence_parts(spec, label)
    if spec.suppressor is None or part_of(spec.suppressor.evidence) not in parts:
        return parts
    return parts | {spec.suppressor.background.partition(".")[0]}


def discriminative_parts(spec: DatasetSpec, first: int, second: int) -> frozenset[str]:
    """The parts in which two classes differ."""
    first_look, second_look = class_look(spec, first), class_look(spec, second)
    return frozenset(part for part in first_look if first_look[part] != second_look[part])


def redundant(spec: DatasetSpec) -> bool:
    """Whether some class can be told by more than one minimal set of parts."""
    return any(len(sufficient_sets(spec, label)) > 1 for label in range(spec.class_count))


def absent_evidence(spec: DatasetSpec, label: int) -> dict[str, int]:
    """Evidence parts that a class lacks, with the count that they have in the first class that has them."""
    missing = {}
    for part in evidence_parts(spec, label):
        counts = spec.classes.get(f"{part}.count")
        if counts and counts[label] == 0:
            missing[part] = next(int(count) for count in counts if count)
    return missing


def other_geometries(spec: DatasetSpec, label: int) -> list[dict[str, Value]]:
    """How many, how large and of what form the evidence parts of a class are in the other classes, if not the same.

    A mapping of factors to values for each way that differs from the class's own. Colours say nothing of geometry.
    """
    parts = evidence_parts(spec, label)
    names = [name for name in spec.classes if part_of(name) in parts and FACTORS[name].kind != "colour"]
    ways = [{name: spec.classes[name][other] for name in names} for other in range(spec.class_count)]
    return [way for place, way in enumerate(ways) if way != ways[label] and way not in ways[:place]]


def shared_evidence(spec: DatasetSpec, label: int, other: int) -> list[str]:
    """The evidence parts of another class that look the same in this one, and are there."""
    look, other_look = class_look(spec, label), class_look(spec, other)
    return [part for part in sorted(evidence_parts(spec, other)) if look[part] == other_look[part] != ABSENT]
