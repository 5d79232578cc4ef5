"""The gallery: pictures, maps and truth, small enough to travel with the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..results.files import without_nan
from .pictures import colour, grey, levels
from .reading import Arrays, Missing, Source
from .study import Study

ROOM = 6_000_000  # bytes for all galleries of a page
STEPS = (
    (6, 3),
    (6, 2),
    (6, 1),
    (5, 1),
    (4, 1),
    (4, 0),
    (3, 0),
    (2, 0),
    (1, 0),
)  # rows of the gallery, best and worst of a method
NEEDED = {"rows": 1, "roles": 1, "labels": 1, "predicted": 1, "images": 4, "masks": 3, "maps": 3, "iou": 1}


@dataclass(frozen=True)
class Cell:
    """A map of the gallery, as it is drawn before the script takes over."""

    method: str
    row: int
    map: str  # levels, as a picture
    best: float | None  # IoU at the row's own best threshold


@dataclass(frozen=True)
class Shelf:
    """The pictures of one model on one data set."""

    key: str
    model: str
    rows: Sequence[int]  # of the gallery, the same for all methods
    cells: Mapping[str, Sequence[Cell]]  # by method, one per row
    extremes: Mapping[str, Mapping[str, Sequence[Cell]]]  # by method: its best and its worst rows
    pictures: Mapping[int, Mapping[str, Any]]  # by row: image, mask, class, prediction
    missing: Sequence[str] = field(default_factory=tuple)
    cut: bool = False  # whether rows were left out to keep the page small

    def data(self) -> dict[str, Any]:
        """As the script gets it."""
        every = [*self.cells.values(), *(cells for two in self.extremes.values() for cells in two.values())]
        maps = {f"{cell.method}\n{cell.row}": cell.map for cells in every for cell in cells}
        return {"maps": maps, "pictures": {str(row): dict(picture) for row, picture in self.pictures.items()}}

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        data = self.data()
        pictures = sum(len(each["image"]) + len(each["mask"]) for each in data["pictures"].values())
        return pictures + sum(map(len, data["maps"].values()))


@dataclass(frozen=True)
class Stock:
    """All that could be shown of one model, encoded once."""

    model: str
    cells: Mapping[str, Sequence[Cell]]  # by method
    extremes: Mapping[str, Mapping[str, Sequence[Cell]]]
    pictures: Mapping[int, Mapping[str, Any]]
    missing: Sequence[str]


def shelves(studies: Sequence[Study], source: Source) -> dict[int, list[Shelf]]:
    """The galleries of all data sets, by the number of the data set: one model per architecture.

    Where they take too much room together, all show fewer rows.
    """
    stocks = {study.index: _stocks(study, source) for study in studies}
    found: dict[int, list[Shelf]] = {}
    for i, limits in enumerate(STEPS):
        found = {
            study.index: [_shelf(study, stock, *limits, cut=i > 0) for stock in stocks[study.index]]
            for study in studies
        }
        if sum(shelf.size for own in found.values() for shelf in own) <= ROOM:
            break
    return found


def _stocks(study: Study, source: Source) -> list[Stock]:
    seen: dict[int, Mapping[str, Any]] = {}  # a row is the same picture for every model and method
    return [_stock(study, model, files, seen) for model, files in _loaded(study, source)]


def _loaded(study: Study, source: Source) -> Iterator[tuple[str, dict[str, Arrays | Missing]]]:
    """For one model of each architecture, the pictures of all methods."""
    entries = study.document.get("pictures") or ()
    chosen: dict[str, str] = {}
    for entry in entries:
        chosen.setdefault(str(entry["model"]).partition("-seed")[0], str(entry["model"]))
    for model in chosen.values():
        own = [entry for entry in entries if entry["model"] == model]
        yield model, {str(entry["method"]): _checked(source.arrays(entry["file"], NEEDED), entry) for entry in own}


def _checked(found: Arrays | Missing, entry: Mapping[str, Any]) -> Arrays | Missing:
    """Arrays that fit each other, or why they are not shown."""
    if isinstance(found, Missing):
        return found
    counts = {len(values) for values in found.values()}
    shapes = {found["images"].shape[1:3], found["masks"].shape[1:], found["maps"].shape[1:]}
    fits = len(counts) == 1 and len(shapes) == 1 and found["images"].shape[-1] == 3
    kinds = found["images"].dtype == found["masks"].dtype == np.uint8 and found["maps"].dtype.kind == "f"
    return found if fits and kinds else Missing(f"{entry['file']}: its arrays do not fit each other")


def _stock(
    study: Study, model: str, files: Mapping[str, Arrays | Missing], seen: dict[int, Mapping[str, Any]]
) -> Stock:
    found = {method: arrays for method, arrays in files.items() if not isinstance(arrays, Missing)}
    missing = [f"{method}: {each.reason}" for method, each in files.items() if isinstance(each, Missing)]
    rows, extremes = STEPS[0]
    cells = {method: _cells(method, arrays, _places(arrays, "gallery")[:rows]) for method, arrays in found.items()}
    both = {
        method: {role: _cells(method, arrays, _places(arrays, role)[:extremes]) for role in ("best", "worst")}
        for method, arrays in found.items()
    }
    pictures: dict[int, Mapping[str, Any]] = {}
    for method, arrays in found.items():
        wanted = {cell.row for part in (cells[method], *both[method].values()) for cell in part} - pictures.keys()
        pictures |= _pictures(study, arrays, wanted, seen)
    return Stock(model, cells, both, pictures, missing)


def _shelf(study: Study, stock: Stock, rows: int, extremes: int, *, cut: bool) -> Shelf:
    """What of a stock is shown."""
    shown = list(dict.fromkeys(cell.row for own in stock.cells.values() for cell in own))[:rows]
    cells = {method: [cell for cell in own if cell.row in shown] for method, own in stock.cells.items()}
    both = {method: {role: own[:extremes] for role, own in roles.items()} for method, roles in stock.extremes.items()}
    parts = [*cells.values(), *(own for roles in both.values() for own in roles.values())]
    used = {cell.row for own in parts for cell in own}
    pictures = {row: picture for row, picture in stock.pictures.items() if row in used}
    key = f"{study.key}-{len(stock.model)}-{hash_of(stock.model):x}"
    return Shelf(key, stock.model, shown, cells, both, pictures, stock.missing, cut)


def hash_of(text: str) -> int:
    """A short name of a text, the same in every process."""
    number = 0
    for code in text.encode("utf-8", "surrogatepass"):
        number = (number * 31 + code) % 2**32
    return number


def _places(arrays: Arrays, role: str) -> list[int]:
    places: list[int] = np.flatnonzero(arrays["roles"].astype(str) == role).tolist()
    return places


def _cells(method: str, arrays: Arrays, places: Sequence[int]) -> list[Cell]:
    return [
        Cell(method, int(arrays["rows"][at]), grey(levels(arrays["maps"][at])), without_nan(arrays["iou"][at]))
        for at in places
    ]


def _pictures(
    study: Study, arrays: Arrays, wanted: set[int], seen: dict[int, Mapping[str, Any]]
) -> dict[int, Mapping[str, Any]]:
    """The picture, the truth and the classes of rows."""
    found: dict[int, Mapping[str, Any]] = {}
    for at, row in enumerate(arrays["rows"].tolist()):
        if row in wanted:
            seen[row] = seen.get(row) or _picture(study, arrays, at)
            found[row] = {**seen[row], "predicted": study.class_name(int(arrays["predicted"][at]))}
    return found


def _picture(study: Study, arrays: Arrays, at: int) -> dict[str, Any]:
    return {
        "image": colour(arrays["images"][at]),
        "mask": grey(arrays["masks"][at]),
        "label": study.class_name(int(arrays["labels"][at])),
        "size": int(arrays["images"].shape[1]),
    }
