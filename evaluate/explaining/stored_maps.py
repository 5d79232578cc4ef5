"""Maps that lie in files as a method: `maps:FILE`, `maps:FOLDER:name=NAME`, scored as any other.

They explain the rows of one split to one model, and nothing else: no other picture, class or model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import NotApplicable, Refusal, WrongUsage
from an8flower.names import unknown
from an8flower.store import FlowerSplit

from ..case import Query
from ..data.images import as_images
from ..models.classifier import Classifier
from ..options import STORED
from ..results.map_files import MapCollection, MapPart, MapsManifest, open_maps, read_maps
from ..seeds import row_seed

TEXT = re.compile(r"maps:(?P<path>.+?)(?::name=(?P<name>[^:]*))?(?::method=(?P<method>.+))?", re.DOTALL)
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,59}", re.ASCII)
AGAIN = {"method", "threshold"}  # what a metric may need that maps in files cannot give


class StoredMaps:
    """Maps from files, before it is known for which rows and which model.

    Its repr, by which results are filed, depends on the name and on the maps, and not on where they lie.
    """

    __slots__ = ("__dict__", "collections")  # so that `vars` gives what the page lists, and nothing else

    def __init__(self, name: str, collections: tuple[MapCollection, ...]) -> None:
        self.collections = collections  # one for each model
        self.__dict__.update(name=name, content=" ".join(item.content[:16] for item in collections))

    def __repr__(self) -> str:
        return f"StoredMaps(name={vars(self)['name']!r}, content={vars(self)['content']!r})"

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        """Refuse to explain what has no row."""
        raise NotApplicable(_only_these(self))

    def bind(self, split: FlowerSplit, model: str, target: str, seed: int) -> BoundMaps:
        """The maps of a split's rows for a model.

        Args:
            model: the digest of the classifier.
            target: the class that is explained, `label` or `predicted`.
            seed: of the run, by which rows are known from the seeds of a query.

        Raises:
            NotApplicable: the maps are of another data set, split, model or class.
            Refusal: they are not those of the split's rows.
        """
        collection = self._choose(split, model, target)
        return BoundMaps(self, split, collection.places_of(split), target, seed)

    def _choose(self, split: FlowerSplit, model: str, target: str) -> MapCollection:
        """The collection that explains just this; the reason against the first one is raised if there is none."""
        reasons = [(collection, collection.reason_against(split, model, target)) for collection in self.collections]
        fitting = [collection for collection, reason in reasons if reason is None]
        if not fitting:
            raise NotApplicable(reasons[0][1])
        return fitting[0]


@dataclass(frozen=True, repr=False, eq=False)
class BoundMaps:
    """Maps from files for the rows of one split; each is given for its own picture and class alone."""

    maps: StoredMaps
    split: FlowerSplit
    places: dict[int, tuple[MapPart, int]]
    target: str
    seed: int

    def __repr__(self) -> str:
        return repr(self.maps)

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        """Look the maps (B, H, W) of a query's rows up.

        Raises NotApplicable for pictures or classes that are not those of the rows.
        """
        rows = self._rows_of(query.seeds)
        stored = self.split.take(np.unique(rows))
        order = np.searchsorted(np.unique(rows), rows)
        labels = torch.from_numpy(stored.labels[order]).to(query.targets.device)
        targets = labels if self.target == "label" else classifier.predict(query.images)
        same_images = torch.equal(as_images(stored.images[order], query.images.device), query.images)
        if not same_images or not torch.equal(targets, query.targets):
            raise NotApplicable(_only_these(self))
        return torch.from_numpy(self._read(rows)).to(query.images.device)

    def refuse_missing(self, rows: np.ndarray) -> None:
        """Raise a Refusal unless every row of a run has a map."""
        missing = [row for row in rows.tolist() if row not in self.places]
        if missing:
            place = next(iter(self.places.values()))[0].place if self.places else "the file"
            raise Refusal(
                f"{place}: {len(self.places)} maps came, and none for {len(missing)} of the {len(rows)} rows of this "
                f"run, the first is row {missing[0]}; give a map for each, or ask for fewer rows with --rows"
            )

    def _rows_of(self, seeds: Tensor) -> np.ndarray:
        rows = [self._rows_by_seed.get(seed) for seed in seeds.tolist()]
        if None in rows:
            raise NotApplicable(_only_these(self))
        return np.array(rows, np.int64)

    @cached_property
    def _rows_by_seed(self) -> dict[int, int]:
        """The row of each seed of a query."""
        digest, name = self.split.store.digest, self.split.name
        return {row_seed(self.seed, digest, name, row): row for row in self.places}

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """The maps of rows in any order, each part read once."""
        side = self.split.store.size
        maps = np.empty((len(rows), side, side), np.float32)
        parts = [self.places[row][0] for row in rows.tolist()]
        for part in {id(part): part for part in parts}.values():
            mine = np.array([other is part for other in parts])
            places, back = np.unique([self.places[row][1] for row in rows[mine].tolist()], return_inverse=True)
            maps[mine] = read_maps(part, places)[back]
        return maps


def expand_stored(text: str) -> list[str]:
    """A text for each method whose maps a folder holds; one that names a method, or a file, stands for itself."""
    path, name, method = _parse(text)
    methods = list(dict.fromkeys(item.manifest.method for item in _open_once(path, _marks(path))))
    if method is not None or len(methods) == 1:
        return [text]
    if name is not None:
        raise WrongUsage(f'{path}: holds maps of {len(methods)} methods, so that "{name}" names none; leave it out')
    return [f"{text}:method={other}" for other in methods]


def parse_stored(text: str) -> tuple[str, StoredMaps, str]:
    """The name, the maps and the family in a text such as `maps:FILE:name=NAME`.

    Raises:
        WrongUsage: the text cannot be read, or the folder holds other methods.
        Refusal: no maps, or none that can be used.
    """
    path, name, method = _parse(text)
    collections = _open_once(path, _marks(path))
    methods = {item.manifest.method for item in collections}
    if method is None and len(methods) > 1:
        raise WrongUsage(f"{path}: holds maps of {len(methods)} methods; write {STORED}{path}:method=WORDS")
    if method is not None and method not in methods:
        raise WrongUsage(f"{path}: {unknown('method', method, methods)}")
    chosen = tuple(item for item in collections if method in (None, item.manifest.method))
    for first, second in pairwise(chosen):
        _refuse_twice(path, first.manifest, second.manifest)
    name = name or _plain_name(chosen[0].manifest.method) or _plain_name(path.stem) or "maps"
    return name, StoredMaps(name, chosen), chosen[0].manifest.family


def _refuse_twice(path: Path, one: MapsManifest, other: MapsManifest) -> None:
    if one[:4] == other[:4]:
        differing = [key for key in one._fields if getattr(one, key) != getattr(other, key)]
        raise Refusal(
            f"{path}: holds maps of {one.method or 'one method'} twice for one model, with different "
            f"{' and '.join(differing)}; put them in folders of their own"
        )


def _parse(text: str) -> tuple[Path, str | None, str | None]:
    match = TEXT.fullmatch(text)
    if match is None:
        raise WrongUsage(f'"{text}": expected maps:FILE, or maps:FOLDER:name=NAME')
    name = match["name"]
    if name is not None and not NAME.fullmatch(name):
        raise WrongUsage(f'"{name}": no name for maps; give letters, digits and . _ + - in it, at most 60')
    return Path(match["path"]), name, match["method"]


def _plain_name(text: str) -> str:
    """What of a text may stand in the name of a file."""
    return re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-._+")[:60]


def _only_these(maps: object) -> str:
    return f"{maps!r}: the maps lie in files, for the rows, the classes and the model that were explained; no other"


Marks = tuple[tuple[str, int, int], ...]


def _marks(path: Path) -> Marks:
    """What tells the files at a path from later ones: names, sizes and times of change."""
    files: Iterable[Path] = sorted(path.iterdir()) if path.is_dir() else [path, path.with_name(f"{path.name}.json")]
    known = [(str(file), file.stat()) for file in files if file.is_file()]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in known)


@lru_cache(maxsize=8)
def _open_once(path: Path, marks: Marks) -> tuple[MapCollection, ...]:
    """Read through the maps at a path, once for as long as the files do not change."""
    return tuple(open_maps(path))
