"""How the parts that tell the classes look in each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .factors import FACTORS, Value, part_of

if TYPE_CHECKING:
    from .spec import DatasetSpec

ClassLook = dict[str, tuple[tuple[str, Value], ...]]  # by part: its factors, with values that are equal if pictures are
ABSENT: tuple[tuple[str, Value], ...] = (("count", 0),)


def class_look(spec: DatasetSpec, label: int) -> ClassLook:
    """How each part that tells classes looks in one of them; a part with count 0 looks absent whatever else is said.

    Values that give the same pixels (`red` and `#e0202c`, 0 and 360 degrees) count as equal.
    """
    look: ClassLook = {}
    for name, values in spec.classes.items():
        part = str(part_of(name))
        absent = spec.classes.get(f"{part}.count", (1,) * spec.class_count)[label] == 0
        look[part] = ABSENT if absent else (*look.get(part, ()), (name, FACTORS[name].normalise(values[label])))
    return look
