"""The tables of which a plan is made: their common rules, and the types of their values. No torch in here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class PlanTable(BaseModel):
    """One table of a plan: it never changes, and refuses keys that it does not know and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def to_words(table: BaseModel, name: str, later: Iterable[str] = ()) -> str:
    """A table of a plan as text; the names of cells depend on it.

    A key that was added later than cells were filed counts only where it differs from its default, so that the cells
    of older plans keep their names.

    >>> class Shown(PlanTable):
    ...     rows: int = 6
    ...     extremes: int = 3
    >>> to_words(Shown(rows=2), "Pictures"), to_words(Shown(), "Pictures", later=["extremes"])
    ('Pictures(rows=2, extremes=3)', 'Pictures(rows=6)')
    """
    fields, late = type(table).model_fields, set(later)
    values = {name: getattr(table, name) for name in fields}
    shown = [f"{key}={value!r}" for key, value in values.items() if key not in late or value != fields[key].default]
    return f"{name}({', '.join(shown)})"
