"""Tables of the literature as data: printed numbers, their methods under our names, and the trends the authors saw."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, model_validator

from an8flower.names import check_known
from an8flower.toml import parse, tuples

SHIPPED = files("an8flower.evaluate.audits.summary") / "tables"
OTHERS = "others"  # in an order: all methods of the table that it does not name
SECONDS = "seconds"  # in place of a metric: what an explanation costs


class PrintedRecord(BaseModel):
    """A part of a printed table: it never changes, and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PrintedColumn(PrintedRecord):
    """A metric as a publication prints it."""

    printed: str  # the heading of the column
    scale: float  # factor from our unit to the printed one


class PrintedRow(PrintedRecord):
    """The printed numbers of one method."""

    method: str  # as printed
    ours: str  # the name of the method here
    values: tuple[float, ...]
    spread: tuple[float, ...] | None = None  # what is printed behind a plus-minus sign


class PrintedTable(PrintedRecord):
    """Numbers of several methods on one network and one data set."""

    title: str
    columns: tuple[str, ...]  # names of metrics here
    rows: tuple[PrintedRow, ...]
    dataset: str | None = None  # the only data set of ours to compare with; any if None
    archs: tuple[str, ...] = ()  # our architectures that are like the printed one

    @model_validator(mode="after")
    def _check(self) -> PrintedTable:
        for line in self.rows:
            if {len(self.columns)} != {len(line.values), len(line.spread or line.values)}:
                raise ValueError(f"{self.title}: {line.method} has another number of values than there are columns")
        return self


class Trend(PrintedRecord):
    """A trend that the authors saw in a table. It holds if it holds by every one of its metrics."""

    statement: str
    metrics: tuple[str, ...]
    only: tuple[str, ...] = ()  # titles of the tables that show the trend; all if empty
    order: tuple[tuple[str, ...], ...] = ()  # groups of methods: each method is better than each of the later groups
    aside: tuple[str, ...] = ()  # methods that `others` leaves out
    pairs: tuple[tuple[str, str], ...] = ()  # the first less the second, in printed units,
    between: tuple[float, float] | None = None  # lies between these two
    widest: str | None = None  # the method that differs most from model to model

    @model_validator(mode="after")
    def _check(self) -> Trend:
        if [bool(self.order), bool(self.pairs and self.between), bool(self.widest)].count(True) != 1:
            raise ValueError(f"{self.statement}: give one of order, pairs with between, and widest")
        return self

    def groups(self, table: PrintedTable) -> list[list[str]]:
        """The order of the methods, with `others` written out."""
        named = {method for group in self.order for method in group} | set(self.aside)
        others = [line.ours for line in table.rows if line.ours not in named]
        return [
            [name for method in group for name in (others if method == OTHERS else [method])] for group in self.order
        ]


class Literature(PrintedRecord):
    """The tables of one kind from one publication."""

    title: str
    source: str
    note: str  # what readers have to know before they compare
    metrics: Mapping[str, PrintedColumn]
    tables: tuple[PrintedTable, ...]
    trends: tuple[Trend, ...]


def names() -> list[str]:
    """The names of the publications whose tables are shipped."""
    return sorted(file.name.removesuffix(".toml") for file in SHIPPED.iterdir() if file.name.endswith(".toml"))


def load(name: str) -> Literature:
    """The tables of a shipped publication; raises WrongUsage for an unknown name."""
    check_known("printed table", name, names())
    return Literature.model_validate(tuples(parse((SHIPPED / f"{name}.toml").read_text(encoding="utf-8"))))
