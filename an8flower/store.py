"""FlowerStore: reading a data set from its HDF5 file, lazily, and proving that it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from . import draw
from .errors import Refusal, WrongUsage
from .factors import FACTORS, PARTS
from .gate.documents import parse_json
from .gate.hdf5 import DAMAGE, Schema, open_hdf5, refuse_damage
from .gate.regular import FileKind, shorten
from .names import unknown
from .spec import DatasetSpec, from_json
from .splits import SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from .album import Album

FORMAT, SCHEMA = "an8flower", 2
READ_SCHEMAS = (1, 2)  # files of schema 1 have no coverage
SHARD_FORMAT = f"{FORMAT} shard"  # so that nobody takes a shard for a data set: its rows have other numbers
ALWAYS = ("images", "labels", "masks")  # what every file has; rendered ones have these as well:
RENDERED = ("parts", "factors", "coverage")
PLACED = 4  # numbers that say where a mark lies: which one (-1 none), top, left, longer side
STRETCH = 32  # indices closer than this are read in one go: they mostly share a compressed chunk
READ_ROWS = 512  # rows held at once when a whole split is read through
READ_BYTES = 2**20  # the same of photographs, which are one long row of bytes
LARGEST_PORTION = 2**26  # bytes of rows held at once; of large pictures fewer rows
REMAKE = "make it again with `an8flower generate --force` or `an8flower import --force`"
KIND = FileKind("a data set", 2**50, REMAKE, "make it with `an8flower generate` or `an8flower import`")
DATASETS = {
    "images": ("uint8", 4),
    "labels": ("int64", 1),
    "masks": ("uint8", 3),
    "parts": ("uint8", 3),
    "factors": ("V", 1),
    "coverage": ("uint8", 3),
    "below": ("uint8", 4),
    "placed": ("int64", 2),
}
ATTRIBUTES = {
    "format": "text",
    "schema": "integer",
    "complete": "truth",
    "name": "text",
    "class_names": "texts",
    "part_names": "texts",
    "size": "integer",
    "digest": "text",
    "canonical": "text",
    "spec": "text",
    "generator": "text",
    "shards": "text",
    "shard": "integers",
    "planting": "text",
}
PHOTOGRAPHS = "photographs"  # the group of what lies behind the plants, where those are photographs
FILE = Schema({**DATASETS, "entries": ("V", 1), "content": ("uint8", 1)}, (*SPLITS, PHOTOGRAPHS), ATTRIBUTES)
REQUIRED = ("name", "class_names", "part_names", "size", "digest")
LARGEST_SIZE = 4096  # pixels
MOST_SPEC_CLASSES = 1000  # what is derived from a spec grows with the square of its classes
MASK_KINDS = 4  # none, evidence by presence, evidence by absence, evidence by gap
COVERED = 255  # the coverage of a pixel that shows nothing but evidence
TOUCHED = (
    1  # the coverage of one that shows no evidence, and yet changes its colour with the evidence, as a shadow does
)
NO_COVERAGE = (
    "was written before files had coverage (schema 1), so pixels at the rim of the evidence count as all others do; "
    "have them left out by `an8flower generate --force`"
)


class StoredRows(NamedTuple):
    """Rows of a split as numpy arrays."""

    images: np.ndarray  # (n, S, S, 3) uint8, sRGB
    labels: np.ndarray  # (n,) int64
    masks: np.ndarray  # (n, S, S) uint8: 0 none, 1 evidence by presence, 2 by absence, 3 by gap
    parts: np.ndarray | None  # (n, S, S) uint8: id of the part visible at the pixel's centre, 0 background
    factors: np.ndarray | None  # (n,) compound: the value of every factor of the row
    coverage: np.ndarray | None = None  # (n, S, S) uint8: how much of the pixel is evidence, see `void`
    below: np.ndarray | None = None  # (n, P, P, 3) uint8: the photograph where a planted mark lies or could lie
    placed: np.ndarray | None = None  # (n, 4) int64: which mark (-1 none), its top, left and longer side in pixels

    @property
    def void(self) -> np.ndarray | None:
        """The pixels that are neither evidence nor not, (n, S, S) bool; None where nothing is known of coverage.

        Evidence is what the mask marks and evidence covers whole. Not evidence is what the mask leaves out and evidence
        neither covers nor changes. All else is void: the rim, whose pixels show both, and a shadow that evidence casts.
        """
        if self.coverage is None:
            return None
        return np.where(self.masks > 0, self.coverage != COVERED, self.coverage != 0)


class SplitArrays(NamedTuple):
    """Rows of a split as most libraries take them: channels first, colours in [0, 1], masks of two values."""

    x: np.ndarray  # (n, 3, S, S) float32 in [0, 1]
    y: np.ndarray  # (n,) int64
    s: np.ndarray  # (n, 1, S, S) bool: whether a pixel is evidence of any kind


class FlowerStore:
    """A data set in an HDF5 file on disk.

    >>> store = FlowerStore("data/single-6c.h5")  # doctest: +SKIP
    >>> store["test"].rows(0, 32).images.shape  # doctest: +SKIP
    (32, 112, 112, 3)

    Pickles as its path: a worker process opens the file itself. Raises Refusal where the file is missing, not ours, of
    another schema, unfinished or of wrong shapes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._check()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __getitem__(self, split: str) -> FlowerSplit:
        if split not in self.splits:
            raise WrongUsage(f"{self.path}: {unknown('split', split, self.splits)}")
        return FlowerSplit(self, split)

    @cached_property
    def file(self) -> h5py.File:
        """The open file; opened on first use in each process."""
        return open_file(self.path)

    @property
    def splits(self) -> list[str]:
        """The splits that have rows, in the usual order."""
        return [split for split in SPLITS if split in self.file and len(self.file[split]["labels"])]

    @cached_property
    def spec(self) -> DatasetSpec | None:
        """What the data set was made from; None for imported images."""
        text = self.file.attrs.get("spec")
        return None if text is None else from_json(str(text), str(self.path))

    @property
    def name(self) -> str:
        """The name of the data set."""
        return str(self.file.attrs["name"])

    @property
    def digest(self) -> str:
        """The sha256 of the canonical spec, or of the checksums if there is no spec."""
        return str(self.file.attrs["digest"])

    @cached_property
    def fingerprint(self) -> str:
        """What tells the rows of this file from any other's: the sha256 over all recorded checksums."""
        return fingerprint(self.file)

    def is_made_from(self, spec: DatasetSpec) -> bool:
        """Whether the file holds the data set of a spec; files of before 0.1.0 had digests of another kind."""
        return is_made_from(self.file, spec)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; index = label."""
        return [str(name) for name in self.file.attrs["class_names"]]

    @property
    def part_names(self) -> list[str]:
        """Names of the parts; index = id in the part maps. Empty where the file has none."""
        return [str(name) for name in self.file.attrs["part_names"]]

    @property
    def size(self) -> int:
        """Side of the square pictures in pixels."""
        return int(self.file.attrs["size"])

    @property
    def schema(self) -> int:
        """The version of the layout of the file."""
        return int(self.file.attrs["schema"])

    @property
    def lack(self) -> str | None:
        """What a rendered file of an earlier version lacks, in a sentence; None where it lacks nothing."""
        return f"{self.path} {NO_COVERAGE}" if self.spec is not None and self.schema == 1 else None

    @cached_property
    def shards(self) -> dict[Path, str]:
        """The files over which a merged one lies, with their fingerprints; none for a file that holds its own rows."""
        recorded = parse_json(str(self.file.attrs.get("shards", "{}")))
        return {self.path.parent / name: fingerprint for name, fingerprint in recorded.items()}

    def album(self, split: str) -> Album | None:
        """The photographs of a split, as rows are rendered on them; None if the spec has none.

        Raises:
            Refusal: the file lacks its photographs, as one that was imported from an export does.
        """
        spec = self.spec
        if spec is None or spec.background is None:
            return None
        if PHOTOGRAPHS not in self.file:
            raise Refusal(
                f"{self.path}: holds no copies of its photographs, so its rows cannot be rendered again; "
                "use the file that `an8flower generate` wrote"
            )
        if split not in self._albums:
            from .album import Album  # here, as it brings the compiler of the renderer

            entries = self.file[PHOTOGRAPHS]["entries"][:]
            chosen = entries[entries["split"] == split.encode()]
            self._albums[split] = Album(chosen, self._read_content, self.size, self.path)
        return self._albums[split]

    @cached_property
    def _albums(self) -> dict[str, Album]:
        return {}

    def _read_content(self, start: int, stop: int) -> bytes:
        with refuse_damage(self.path, REMAKE):
            content: np.ndarray = self.file[PHOTOGRAPHS]["content"][start:stop]
        return content.tobytes()

    def close(self) -> None:
        """Close the file; it opens again when it is needed."""
        if "file" in self.__dict__:
            self.__dict__.pop("file").close()

    def _check(self) -> None:
        """Everything that can be known without reading the data."""
        with refuse_damage(self.path, REMAKE):
            self._check_attributes()
            self._check_catalogue()
            for split in self.file:
                if split != PHOTOGRAPHS:
                    self._check_shapes(split)
            self._check_photographs()
            self._check_shards()

    def _check_attributes(self) -> None:
        attributes = self.file.attrs
        if attributes.get("format") != FORMAT:
            raise Refusal(f"{self.path}: an HDF5 file, but not one of {FORMAT}; {REMAKE}")
        if attributes.get("schema") not in READ_SCHEMAS:
            known = " and ".join(map(str, READ_SCHEMAS))
            raise Refusal(f"{self.path}: schema {attributes.get('schema')} came, {known} are read here; {REMAKE}")
        if not attributes.get("complete", False):
            raise Refusal(f"{self.path}: unfinished; {REMAKE}")
        if missing := [name for name in REQUIRED if name not in attributes]:
            raise Refusal(f"{self.path}: lacks the attribute {missing[0]}; {REMAKE}")
        if not 1 <= self.size <= LARGEST_SIZE:
            raise Refusal(f"{self.path}: pictures of {self.size} px came, expected 1 to {LARGEST_SIZE}; {REMAKE}")
        self._check_spec()

    def _check_spec(self) -> None:
        """Raise Refusal if the spec is not that of these pictures, classes and digest."""
        text, canonical = self.file.attrs.get("spec"), self.file.attrs.get("canonical")
        if text is None:
            return
        if len(self.class_names) > MOST_SPEC_CLASSES:
            raise Refusal(
                f"{self.path}: {len(self.class_names)} classes came, expected at most {MOST_SPEC_CLASSES}; {REMAKE}"
            )
        if canonical is not None and hashlib.sha256(str(canonical).encode()).hexdigest() != self.digest:
            raise Refusal(f"{self.path}: its digest is that of another spec; {REMAKE}")
        document = parse_json(str(text))
        stated = (document["size"], document["class_names"], document["name"])
        if stated != (self.size, self.class_names, self.name):
            raise Refusal(f"{self.path}: its spec is that of another data set; {REMAKE}")

    def _check_catalogue(self) -> None:
        """A file may know fewer parts and factors than we do, but not others."""
        tables = [group["factors"].dtype for group in self.file.values() if "factors" in group]
        columns = [(name, table[name]) for table in tables for name in table.names]
        strange = [name for name, _ in columns if name not in FACTORS]
        strange += [name for id_, name in enumerate(self.part_names) if name not in PARTS[id_ : id_ + 1]]
        if strange:
            raise Refusal(
                f"{self.path}: knows {shorten(strange[0])}, which this version does not; "
                f"use an8flower {self.file.attrs.get('generator')} or later"
            )
        for name, dtype in columns:
            if dtype != np.dtype(FACTORS[name].dtype):
                raise Refusal(f"{self.path}: {name} is {dtype}, expected {FACTORS[name].dtype}; {REMAKE}")

    def _check_shards(self) -> None:
        """HDF5 reads a shard that is missing as zeros, and one that was replaced as it is."""
        self.refuse_missing_shards()
        for path, recorded in self.shards.items():
            with open_file(path) as shard:
                if shard.attrs.get("format") != SHARD_FORMAT or fingerprint(shard) != recorded:
                    raise Refusal(
                        f"{self.path}: its shard {path} has changed since the shards were merged; merge again"
                    )

    def refuse_missing_shards(self) -> None:
        """Raise Refusal where a shard is no longer there."""
        missing = [path for path in self.shards if not path.is_file()]
        if missing:
            raise Refusal(
                f"{self.path}: {len(missing)} of its {len(self.shards)} shards are missing, the first is {missing[0]}; "
                "put them back, or make them and merge again"
            )

    def _check_photographs(self) -> None:
        """Raise ValueError if the photographs of the file are not those of its spec."""
        if PHOTOGRAPHS in self.file:
            if self.spec is None or self.spec.background is None:
                raise ValueError("it holds photographs, and its spec has none")
            from .album import check_entries  # here, as it brings the compiler of the renderer

            group = self.file[PHOTOGRAPHS]
            check_entries(group["entries"][:], len(group["content"]), self.spec.background.digest)

    def _check_shapes(self, split: str) -> None:
        group = self.file[split]
        missing = [name for name in ALWAYS if name not in group]
        if missing:
            raise Refusal(f"{self.path}: {split} lacks {', '.join(missing)}; {REMAKE}")
        rows, square = len(group["labels"]), (self.size, self.size)
        expected = {
            "images": (rows, *square, 3),
            "masks": (rows, *square),
            "parts": (rows, *square),
            "factors": (rows,),
            "coverage": (rows, *square),
            "placed": (rows, PLACED),
            "below": (rows, *_patch(group, self.size), 3),
        }
        for name, shape in expected.items():
            if name in group and group[name].shape != shape:
                raise Refusal(f"{self.path}: {split}/{name} has shape {group[name].shape}, expected {shape}; {REMAKE}")


class FlowerSplit:
    """The rows of one split of a store."""

    def __init__(self, store: FlowerStore, name: str) -> None:
        self.store, self.name = store, name

    def __len__(self) -> int:
        return len(self._group["labels"])

    @property
    def _group(self) -> h5py.Group:
        return self.store.file[self.name]

    @property
    def album(self) -> Album | None:
        """The photographs that the rows lie on, see `FlowerStore.album`."""
        return self.store.album(self.name)

    @property
    def labels(self) -> np.ndarray:
        """The labels of all rows, (N,) int64; raises Refusal if one is of no class."""
        with refuse_damage(self.store.path, REMAKE):
            return self._check_labels(self._group["labels"][:])

    @property
    def placed(self) -> np.ndarray:
        """Where the marks of all rows lie, (N, 4) int64, see `StoredRows`; the file has to have planted marks."""
        with refuse_damage(self.store.path, REMAKE):
            return np.asarray(self._group["placed"][:])

    def list_damage(self) -> list[str]:
        """The data sets of the split whose bytes are not those of their recorded checksums; reads all of them."""
        return [
            f"{self.name}/{name}"
            for name, data in self._group.items()
            if _read_through(data, lambda: None).checksum != data.attrs.get("sha256")
        ]

    def rows(self, start: int, stop: int) -> StoredRows:
        """Rows start to stop; raises IndexError outside the split and Refusal where the file is damaged."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"{self.store.path}: {self.name} has rows 0 to {len(self)}; asked for {start} to {stop}")
        self.store.refuse_missing_shards()
        try:
            rows = StoredRows._make(self._read(name, slice(start, stop)) for name in StoredRows._fields)
            self._check_labels(rows.labels)
            return rows._replace(factors=self._with_later_factors(rows, start))
        except MemoryError:
            raise Refusal(
                f"{self.store.path}: {stop - start:,} rows at once are more than the memory holds; read fewer at once"
            ) from None
        except DAMAGE as error:
            raise Refusal(
                f"{self.store.path}: {self.name} rows {start} to {stop} are damaged ({shorten(error)}); {REMAKE}"
            ) from None

    def arrays(self, start: int, stop: int) -> SplitArrays:
        """Rows start to stop as x, y and s; raises IndexError and Refusal as `rows` does.

        >>> x, y, s = FlowerStore("data/single-6c.h5")["test"].arrays(0, 64)  # doctest: +SKIP
        """
        rows = self.rows(start, stop)
        x = np.ascontiguousarray(rows.images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        return SplitArrays(x, rows.labels, (rows.masks > 0)[:, None])

    @property
    def frame(self) -> pd.DataFrame:
        """A line for each row of the split: its number, its label, its class, the share that is evidence, the factors.

        Factors are called as in a spec (`petals.colour`); several values of one are `distractors.x.0` and so on. All
        masks are read for it, some at a time. Raises Refusal where the file is damaged.
        """
        import pandas as pd

        starts = range(0, len(self), READ_ROWS)
        read = (self.rows(start, min(start + READ_ROWS, len(self))) for start in starts)
        frame = pd.concat([_to_frame(self.store.class_names, rows) for rows in read], ignore_index=True)
        frame.insert(0, "row", range(len(frame)))
        return frame

    def take(self, indices: np.ndarray) -> StoredRows:
        """Rows by their sorted indices, read stretch by stretch."""
        stretches = np.split(indices, np.flatnonzero(np.diff(indices) >= STRETCH) + 1)
        return _concatenate([self._pick(stretch) for stretch in stretches])

    def _pick(self, stretch: np.ndarray) -> StoredRows:
        first, last = (int(stretch[0]), int(stretch[-1])) if len(stretch) else (0, -1)
        read = self.rows(first, last + 1)
        return StoredRows._make(None if values is None else values[stretch - first] for values in read)

    def _check_labels(self, labels: np.ndarray) -> np.ndarray:
        """The labels that came; raises Refusal if one is of no class, since labels are used as indices."""
        low, high, last = labels.min(initial=0), labels.max(initial=0), len(self.store.class_names) - 1
        if not 0 <= low <= high <= last:
            raise Refusal(
                f"{self.store.path}: {self.name} has labels from {low} to {high}, expected 0 to {last}; {REMAKE}"
            )
        return labels

    def _with_later_factors(self, rows: StoredRows, start: int) -> np.ndarray | None:
        """The factors table with the columns that the catalogue has got since the file was written, as drawn today.

        By the rules of the catalogue they draw nothing that is not in the pictures.
        """
        table, spec = rows.factors, self.store.spec
        if table is None or spec is None or len(table.dtype.names or ()) == len(FACTORS):
            return table
        written = table.dtype.names or ()
        later = [name for name in FACTORS if name not in written]
        complete = draw.factors_of(spec, self.name, rows.labels, start, later)
        for name in written:
            complete[name] = table[name]
        return complete

    def _read(self, name: str, where: slice) -> np.ndarray | None:
        return self._group[name][where] if name in self._group else None


def _patch(group: h5py.Group, size: int) -> tuple[int, int]:
    """The shape of the patches below marks: square, and no larger than the picture."""
    side = min(group["below"].shape[1], size) if "below" in group else 0
    return side, side


def _to_frame(class_names: list[str], rows: StoredRows) -> pd.DataFrame:
    import pandas as pd

    columns: dict[str, Any] = {
        "label": rows.labels,
        "class": [class_names[label] for label in rows.labels],
        "evidence": (rows.masks > 0).mean((1, 2)),
    }
    table = np.empty(0, []) if rows.factors is None else rows.factors
    for name in table.dtype.names or ():
        values = table[name]
        values = np.char.decode(values, "ascii") if values.dtype.kind == "S" else values
        several = values.reshape(len(values), -1).T
        columns |= {name: values} if values.ndim == 1 else {f"{name}.{i}": of_one for i, of_one in enumerate(several)}
    return pd.DataFrame(columns)


def _concatenate(pieces: list[StoredRows]) -> StoredRows:
    return StoredRows._make(
        None if values[0] is None else np.concatenate(values) for values in zip(*pieces, strict=True)
    )


def open_file(path: Path) -> h5py.File:
    """Open a data set or a shard for reading, once the gate has looked at it."""
    return open_hdf5(path, KIND, FILE)


def is_made_from(file: h5py.File, spec: DatasetSpec) -> bool:
    """Whether a file, or a shard, holds rows of a spec, whichever version wrote its digest."""
    if file.attrs.get("digest") == spec.digest:
        return True
    text = file.attrs.get("spec")
    return text is not None and "canonical" not in file.attrs and from_json(str(text), file.filename) == spec


def fingerprint(file: h5py.File) -> str:
    """What tells the rows of a file from any other's: sha256 over the checksums that were recorded in it."""
    lines = [f"{split}/{name} {data.attrs.get('sha256')}" for split in file for name, data in file[split].items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def verify(path: Path, alive: Callable[[], None] = lambda: None) -> Iterator[tuple[str, bool]]:
    """Recompute each checksum; yields ("train/images", whether it holds) for every data set of a file.

    Where one of a merged file does not hold, ("train/images of x-2of3.h5", False) follows for each damaged shard. Where
    values are none that they can be, ("train/labels: -1 to 5 came, expected 0 to 3", False) follows. `alive` is called
    after every few rows.
    """
    store = FlowerStore(path)
    for split in store.file:
        for name, data in store.file[split].items():
            contents = _read_through(data, alive, _limits(store).get(name, np.inf))
            holds = contents.checksum == data.attrs.get("sha256")
            yield f"{split}/{name}", holds
            if not holds:
                yield from _damaged_shards(store, f"{split}/{name}", alive)
            if contents.strange:
                yield f"{split}/{name}: {contents.strange}", False
    yield from _damaged_photographs(store, alive)
    store.close()


def _damaged_photographs(store: FlowerStore, alive: Callable[[], None]) -> Iterator[tuple[str, bool]]:
    """Each copy of a photograph that cannot be decoded."""
    for split in SPLITS if PHOTOGRAPHS in store.file else ():
        album = store.album(split)
        for number in range(len(album.entries) if album else 0):
            try:
                assert album is not None
                album.decode(number)
            except Refusal as refusal:
                yield str(refusal).removeprefix(f"{store.path}: "), False
            alive()


def _limits(store: FlowerStore) -> dict[str, int]:
    """The number of values that labels, masks and parts may have, counted from 0."""
    return {"labels": len(store.class_names), "masks": MASK_KINDS, "parts": len(store.part_names)}


def _damaged_shards(store: FlowerStore, place: str, alive: Callable[[], None]) -> Iterator[tuple[str, bool]]:
    for path in store.shards:
        with open_file(path) as shard:
            if place in shard and _read_through(shard[place], alive).checksum != shard[place].attrs.get("sha256"):
                yield f"{place} of {path.name}", False


class _Contents(NamedTuple):
    """What is found when a data set is read through."""

    checksum: str  # sha256 of the uncompressed bytes in row order; empty where some cannot be read
    strange: str = ""  # values that cannot be, in words


def _read_through(data: h5py.Dataset, alive: Callable[[], None], values: float = np.inf) -> _Contents:
    """Read all rows once; whole numbers are expected to be 0 or more and below `values`, factors to be finite."""
    running, strange = hashlib.sha256(), ""
    try:
        step = READ_BYTES if data.ndim == 1 and data.dtype == np.uint8 else _portion(data)
        for start in range(0, len(data), step):
            rows = np.ascontiguousarray(data[start : start + step])
            running.update(rows.data)
            strange = strange or _strange_values(rows, values)
            alive()
    except DAMAGE:  # chunks that cannot be read
        return _Contents("", strange)
    return _Contents(running.hexdigest(), strange)


def _portion(data: h5py.Dataset) -> int:
    """How many rows of a data set are read at once."""
    row = data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=np.int64))
    return max(STRETCH, min(READ_ROWS, LARGEST_PORTION // max(row, 1)))


def _strange_values(rows: np.ndarray, values: float) -> str:
    if rows.dtype.names:
        numbers = [name for name in rows.dtype.names if rows.dtype[name].base.kind == "f"]
        odd = [name for name in numbers if not np.isfinite(rows[name]).all()]
        return f"{odd[0]} is not finite" if odd else ""
    if np.isinf(values) or (rows.min(initial=0) >= 0 and rows.max(initial=0) < values):
        return ""
    return f"{rows.min()} to {rows.max()} came, expected 0 to {int(values) - 1}"
