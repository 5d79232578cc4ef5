"""The aspects of one data set in an audit: scores, certificates, sanity, pictures, filters.

Each knows its cells, and what they come to in the summary. Pictures and filters are of what was scored, hence come in
a second round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from ..explaining.methods import Method, parse_methods
from ..results import files
from ..results.ledger import Cell, Ledger
from ..scoring.model_cells import ModelCells
from . import pictures
from .desk import Desk
from .pieces import Filing, Keeping, Picturing, Piece
from .work import certify_model, check_sanity, look_into_filters, sanity_plan, score_cell, take_pictures

INTERPRETED = "vebi"  # the method whose filters are looked into


class Scores:
    """What methods score on models, and what chance and the truth do."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.ledger: Ledger = (Keeping if desk.study.keep_maps else Ledger)(desk.run)

    def pieces(self) -> Iterator[Piece]:
        """The cells of `score`."""
        opened = self.desk.opened
        for cell, _ in opened.references():
            yield self.desk.piece(self.ledger, cell, score_cell, opened.models[0].source, cell.name)
        for model in opened.models:
            for cell, _ in model.cells(opened.plan.methods):
                yield self.desk.piece(self.ledger, cell, score_cell, model.source, cell.name)

    def told(self) -> dict[str, Any]:
        """The document of `score`, with the cards."""
        return {"scores": {**self.desk.opened.document(self.ledger), "cards": self.desk.opened.cards()}}


class Certificates:
    """What the models rely on."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.ledger = desk, desk.filing("certificates", ".json")

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Cell]]:
        """One a model, where the data can be rendered again."""
        asked = self.desk.plan.certificate
        if asked is None or self.desk.opened.judge.world is None:
            return []
        return [(model, self.desk.cell("certificates", model, "", asked)) for model in self.desk.opened.models]

    def pieces(self) -> Iterator[Piece]:
        """Its cells."""
        asked = self.desk.plan.certificate
        for model, cell in self.cells:
            assert asked, "there are no cells else"
            place = str(self.ledger.place(cell))
            yield self.desk.piece(self.ledger, cell, certify_model, model.source, asked.rows, place)

    def told(self) -> dict[str, Any]:
        """The certificates, or why there are none."""
        found = [files.read_json(self.ledger.place(cell)) for _, cell in self.cells]
        certificates = [each for each in found if each]
        if certificates:
            return {"certificates": certificates}
        lacking = "the data have no spec, so that nothing can be rendered with one thing changed"
        why = lacking if self.desk.opened.judge.world is None else "not asked for"
        return {"certificates": [], "no_certificate": why if not self.cells else "it failed for every model"}


class SanityChecks:
    """Whether methods notice that a model is randomised."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.ledger = Picturing(desk.run, "sanity", ".json", desk.neighbours)

    @cached_property
    def cells(self) -> list[tuple[ModelCells, str | None, Cell]]:
        """For each model what all methods share, then one a method."""
        asked = self.desk.plan.sanity
        if asked is None:
            return []
        methods = [method.text for method in parse_methods(asked.methods or self.desk.plan.methods)]
        wanted = asked.model_copy(update={"methods": None})
        return [
            (model, method, self.desk.cell("sanity", model, method or "", wanted))
            for model in self.desk.opened.models
            for method in (None, *methods)
        ]

    def pieces(self) -> Iterator[Piece]:
        """Its cells."""
        asked = self.desk.plan.sanity
        for model, method, cell in self.cells:
            assert asked, "there are no cells else"
            available = len(self.desk.opened.judge.split)
            plan = sanity_plan(self.desk.study, asked.rows, asked.steps, asked.draws, asked.labels, available)
            place = str(self.ledger.place(cell))
            yield self.desk.piece(self.ledger, cell, check_sanity, model.source, plan, method, place)

    def told(self) -> dict[str, Any]:
        """A document for each model, as `sanity --json` prints it."""
        return {"sanity": [each for each in map(self._document, self.desk.opened.models) if each]}

    def _document(self, model: ModelCells) -> dict[str, Any] | None:
        own = [(method, files.read_json(self.ledger.place(cell))) for one, method, cell in self.cells if one is model]
        shared = next((found for method, found in own if method is None), None)
        if not shared:
            return None
        skipped, failed = (
            [each for each in told if each["model"] == model.name] for told in (self.ledger.skipped, self.ledger.failed)
        )
        results = [found for method, found in own if method and found]
        return {**shared, "results": results, "skipped": skipped, "failed": failed}


class Pictures:
    """What methods say of a few rows: the same for all of them, and those that each explains best and worst."""

    def __init__(self, desk: Desk, scores: Scores) -> None:
        self.desk, self.scores, self.ledger = desk, scores, desk.filing("pictures", ".npz")

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Method, Any, Cell]]:
        """One for each method on each model that was scored."""
        if self.desk.plan.pictures is None:
            return []
        found = []
        for model in self.desk.opened.models:
            for method in self.desk.opened.plan.methods:
                rows = self._rows(model, method)
                if rows:
                    found.append((model, method, rows, self.desk.cell("pictures", model, method.text, rows)))
        return found

    def _rows(self, model: ModelCells, method: Method) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """`(role, rows)` each; nothing where the method was not scored on every row."""
        asked = self.desk.plan.pictures
        names = [cell.name for cell, _ in model.cells((method,)) if cell.explains]
        if asked is None or not set(names) <= set(self.scores.ledger.filed):
            return ()
        table = self.desk.run.table(names).to_pandas()
        extremes = pictures.best_and_worst(table, asked.extremes)
        labels = self.desk.opened.judge.split.labels[self.desk.opened.chosen]
        shown = pictures.gallery_rows(labels, self.desk.plan.seed, asked.rows)
        gallery = [int(self.desk.opened.chosen[row]) for row in shown]
        roles = {"gallery": gallery, **extremes}
        return tuple((role, tuple(map(int, rows))) for role, rows in roles.items())

    def pieces(self) -> Iterator[Piece]:
        """Its cells."""
        for model, method, rows, cell in self.cells:
            place = str(self.ledger.place(cell))
            yield self.desk.piece(self.ledger, cell, take_pictures, model.source, method.text, rows, place)

    def told(self) -> dict[str, Any]:
        """Where the pictures lie."""
        return {"pictures": _places(self.ledger, [(model, method, cell) for model, method, _, cell in self.cells])}


class Filters:
    """What the filters look for that an interpreting method found relevant."""

    def __init__(self, desk: Desk, scores: Scores) -> None:
        self.desk, self.scores, self.ledger = desk, scores, desk.filing("filters", ".npz")

    @cached_property
    def cells(self) -> list[tuple[ModelCells, Method, Cell]]:
        """One for each model on which it was scored."""
        done = {
            (each["method"], each.get("model")) for each in (*self.scores.ledger.skipped, *self.scores.ledger.failed)
        }
        return [
            (model, method, self.desk.cell("filters", model, method.text, ""))
            for method in self.desk.opened.plan.methods
            if method.name == INTERPRETED
            for model in self.desk.opened.models
            if (method.text, model.name) not in done
        ]

    def pieces(self) -> Iterator[Piece]:
        """Its cells."""
        for model, method, cell in self.cells:
            place = str(self.ledger.place(cell))
            yield self.desk.piece(self.ledger, cell, look_into_filters, model.source, method.text, place)

    def told(self) -> dict[str, Any]:
        """Where they lie."""
        return {"filters": _places(self.ledger, self.cells)}


def _places(ledger: Filing, cells: Sequence[tuple[ModelCells, Method, Cell]]) -> list[dict[str, str]]:
    """Where the files of those cells lie that have one, from the run's folder."""
    return [
        {
            "model": model.name,
            "method": method.text,
            "file": ledger.place(cell).relative_to(ledger.run.folder).as_posix(),
        }
        for model, method, cell in cells
        if cell.name in ledger.filed
    ]
