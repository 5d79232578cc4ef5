"""The gallery: pictures, maps and truth, small enough to travel with the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..results.files import without_nan
from .pictures import encode_colour, encode_grey, levels
from .reading import Arrays, AuditFolder, Missing
from .study import StudyView

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
)  # how many rows of the gallery, and how many of the best and of the worst rows of a method
NEEDED = {"rows": 1, "roles": 1, "labels": 1, "predicted": 1, "images": 4, "masks": 3, "maps": 3, "iou": 1}

LATER = {"grounds": 1}  # what lies behind the plant


@dataclass(frozen=True)
class GalleryMap:
    """One map of the gallery, as it stands before the page's script draws it."""

    method: str
    row: int
    map: str  # how many thresholds each pixel is above, as a grey picture
    best: float | None  # IoU at the best threshold of this row


@dataclass(frozen=True)
class GalleryTable:
    """The gallery of one model on one data set: a line for each method, a column for each image."""

    key: str
    model: str
    rows: Sequence[int]  # of the gallery, the same for all methods
    cells: Mapping[str, Sequence[GalleryMap]]  # by method, one per row
    extremes: Mapping[str, Mapping[str, Sequence[GalleryMap]]]  # by method: best and worst rows
    pictures: Mapping[int, Mapping[str, Any]]  # by row: image, mask, class, prediction
    missing: Sequence[str] = field(default_factory=tuple)
    cut: bool = False  # whether rows were left out to keep the page small

    def to_document(self) -> dict[str, Any]:
        """The maps and the pictures of the gallery for the page's script."""
        maps = {f"{cell.method}\n{cell.row}": cell.map for cell in _all_maps(self.cells, self.extremes)}
        return {"maps": maps, "pictures": {str(row): dict(picture) for row, picture in self.pictures.items()}}

    @property
    def size(self) -> int:
        """About how many bytes the gallery takes on the page."""
        data = self.to_document()
        pictures = sum(len(picture["image"]) + len(picture["mask"]) for picture in data["pictures"].values())
        return pictures + sum(map(len, data["maps"].values()))


@dataclass(frozen=True)
class EncodedModel:
    """All maps and pictures of one model that a gallery could show, encoded once."""

    model: str
    cells: Mapping[str, Sequence[GalleryMap]]  # by method
    extremes: Mapping[str, Mapping[str, Sequence[GalleryMap]]]
    pictures: Mapping[int, Mapping[str, Any]]
    missing: Sequence[str]


def gallery_tables(studies: Sequence[StudyView], source: AuditFolder) -> dict[int, list[GalleryTable]]:
    """The galleries of all data sets, by the number of the data set: one model per architecture.

    If they take too much room together, all show fewer rows.
    """
    models = {study.index: _encode_models(study, source) for study in studies}
    tables: dict[int, list[GalleryTable]] = {}
    for i, limits in enumerate(STEPS):
        tables = {
            study.index: [_gallery_table(study, model, *limits, cut=i > 0) for model in models[study.index]]
            for study in studies
        }
        if sum(table.size for galleries in tables.values() for table in galleries) <= ROOM:
            break
    return tables


def _encode_models(study: StudyView, source: AuditFolder) -> list[EncodedModel]:
    seen: dict[int, Mapping[str, Any]] = {}  # a row is the same picture for every model and method
    return [_encode_model(study, model, files, seen) for model, files in _load_maps(study, source)]


def _load_maps(study: StudyView, source: AuditFolder) -> Iterator[tuple[str, dict[str, Arrays | Missing]]]:
    """The arrays of all methods for one model of each architecture."""
    entries = study.document.get("pictures") or ()
    chosen: dict[str, str] = {}
    for entry in entries:
        chosen.setdefault(str(entry["model"]).partition("-seed")[0], str(entry["model"]))
    for model in chosen.values():
        files = [entry for entry in entries if entry["model"] == model]
        yield model, {str(entry["method"]): _load_arrays(source, entry) for entry in files}


def _load_arrays(source: AuditFolder, entry: Mapping[str, Any]) -> Arrays | Missing:
    """The arrays of one method, or the reason why they are not shown."""
    return _check_shapes(source.arrays(entry["file"], NEEDED, LATER), entry)


def _check_shapes(arrays: Arrays | Missing, entry: Mapping[str, Any]) -> Arrays | Missing:
    """The same arrays if they fit each other, else the reason why they are not shown."""
    if isinstance(arrays, Missing):
        return arrays
    counts = {len(values) for values in arrays.values()}
    shapes = {arrays["images"].shape[1:3], arrays["masks"].shape[1:], arrays["maps"].shape[1:]}
    fits = len(counts) == 1 and len(shapes) == 1 and arrays["images"].shape[-1] == 3
    kinds = arrays["images"].dtype == arrays["masks"].dtype == np.uint8 and arrays["maps"].dtype.kind == "f"
    return arrays if fits and kinds else Missing(f"{entry['file']}: its arrays do not fit each other")


def _encode_model(
    study: StudyView, model: str, files: Mapping[str, Arrays | Missing], seen: dict[int, Mapping[str, Any]]
) -> EncodedModel:
    complete = {method: arrays for method, arrays in files.items() if not isinstance(arrays, Missing)}
    missing = [f"{method}: {file.reason}" for method, file in files.items() if isinstance(file, Missing)]
    rows, most = STEPS[0]
    cells = {
        method: _encode_maps(method, arrays, _places(arrays, "gallery")[:rows]) for method, arrays in complete.items()
    }
    extremes = {
        method: {role: _encode_maps(method, arrays, _places(arrays, role)[:most]) for role in ("best", "worst")}
        for method, arrays in complete.items()
    }
    pictures: dict[int, Mapping[str, Any]] = {}
    for method, arrays in complete.items():
        rows_of = {cell.row for cell in _all_maps({method: cells[method]}, {method: extremes[method]})}
        pictures |= _encode_pictures(study, arrays, rows_of - pictures.keys(), seen)
    return EncodedModel(model, cells, extremes, pictures, missing)


def _all_maps(
    cells: Mapping[str, Sequence[GalleryMap]], extremes: Mapping[str, Mapping[str, Sequence[GalleryMap]]]
) -> Iterable[GalleryMap]:
    """Every map of a gallery: those of the common rows, then the best and the worst of each method."""
    for row in (*cells.values(), *(maps for roles in extremes.values() for maps in roles.values())):
        yield from row


def _gallery_table(study: StudyView, model: EncodedModel, rows: int, most: int, *, cut: bool) -> GalleryTable:
    """The gallery of a model with at most `rows` common rows, and at most `most` best and worst rows of a method."""
    shown = list(dict.fromkeys(cell.row for maps in model.cells.values() for cell in maps))[:rows]
    cells = {method: [cell for cell in maps if cell.row in shown] for method, maps in model.cells.items()}
    extremes = {method: {role: maps[:most] for role, maps in roles.items()} for method, roles in model.extremes.items()}
    used = {cell.row for cell in _all_maps(cells, extremes)}
    pictures = {row: picture for row, picture in model.pictures.items() if row in used}
    key = f"{study.key}-{len(model.model)}-{hash_of(model.model):x}"
    return GalleryTable(key, model.model, shown, cells, extremes, pictures, model.missing, cut)


def hash_of(text: str) -> int:
    """A number that stands for a text, the same in every process."""
    number = 0
    for code in text.encode("utf-8", "surrogatepass"):
        number = (number * 31 + code) % 2**32
    return number


def _places(arrays: Arrays, role: str) -> list[int]:
    places: list[int] = np.flatnonzero(arrays["roles"].astype(str) == role).tolist()
    return places


def _encode_maps(method: str, arrays: Arrays, places: Sequence[int]) -> list[GalleryMap]:
    return [
        GalleryMap(
            method, int(arrays["rows"][at]), encode_grey(levels(arrays["maps"][at])), without_nan(arrays["iou"][at])
        )
        for at in places
    ]


def _encode_pictures(
    study: StudyView, arrays: Arrays, rows: set[int], seen: dict[int, Mapping[str, Any]]
) -> dict[int, Mapping[str, Any]]:
    """The picture, the truth, the class and the prediction of each of some rows."""
    pictures: dict[int, Mapping[str, Any]] = {}
    for at, row in enumerate(arrays["rows"].tolist()):
        if row in rows:
            seen[row] = seen.get(row) or _encode_picture(study, arrays, at)
            pictures[row] = {**seen[row], "predicted": study.class_name(int(arrays["predicted"][at]))}
    return pictures


def _encode_picture(study: StudyView, arrays: Arrays, at: int) -> dict[str, Any]:
    return {
        "image": encode_colour(arrays["images"][at]),
        "mask": encode_grey(arrays["masks"][at]),
        "label": study.class_name(int(arrays["labels"][at])),
        "ground": str(arrays["grounds"][at]) if "grounds" in arrays else "",
        "size": int(arrays["images"].shape[1]),
    }
