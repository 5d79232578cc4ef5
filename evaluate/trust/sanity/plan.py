"""SanityPlan: what the sanity checks of a plan, or of the command, are asked. No torch in here."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from ...results.checks import Switch, switches

Count = Annotated[int, Field(ge=1)]


class SanityPlan(BaseModel):
    """What is asked of the methods, and of the random models; checks that have a switch add a key each."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    methods: tuple[str, ...] | None = None  # those that are scored where None
    rows: Count = 30  # or all where there are fewer
    steps: Count = 8  # of the walks, at most
    draws: Count = 10  # of the whole network, among which the rows are dealt; at most as many as rows
    recalibrate: bool = False  # whether batch norms take new statistics from the rows; else they keep the trained ones

    def value_of(self, key: str) -> Any:
        """The value that a check is asked for with; None where it has no switch."""
        return getattr(self, key, None)


def sanity_plan_type() -> type[SanityPlan]:
    """`SanityPlan` with the keys of all checks that have a switch."""
    return _with_switches(tuple(switches().items()))


def sanity_plan(**values: Any) -> SanityPlan:
    """A plan with these values; keys that do not come keep their defaults."""
    return sanity_plan_type()(**values)


@cache
def _with_switches(named: tuple[tuple[str, Switch], ...]) -> type[SanityPlan]:
    keys: dict[str, Any] = {
        key: (bool, False) if switch.amount is None else (Count | None, None) for key, switch in named
    }
    return create_model("SanityPlan", __base__=SanityPlan, **keys)
