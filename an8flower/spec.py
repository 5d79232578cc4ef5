"""DatasetSpec: what a data set is, in one validated value. TOML in, JSON in and out, one digest."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from .checks import check_design, check_name_count, check_terms
from .errors import Refusal, WrongUsage
from .factors import CATALOGUE, FACTORS, Value, part_of
from .gate.documents import parse_json
from .gate.regular import shorten
from .names import unknown
from .photographs import assign_splits, digest_shares, find_folder, list_photographs
from .slips import check_slips
from .splits import SPLITS, split_sizes
from .terms import Nuisance, PhotographTerms, RowCounts, Shortcut, SpecModel, Suppressor, as_nuisance
from .toml import parse, read, sentence, tuples

PRESETS = files("an8flower") / "presets"


class DatasetSpec(SpecModel):
    """A data set: its classes, what else varies, its size. Complete: factors that were left out are filled in."""

    name: str
    title: str = ""
    purpose: str = ""
    size: int = 112  # pixels, square
    seed: Annotated[int, Field(ge=0)] = 0
    rows: RowCounts
    classes: dict[str, tuple[Value, ...]]
    class_names: tuple[str, ...] = ()
    nuisance: dict[str, Nuisance] = Field(default_factory=dict)
    shortcut: Shortcut | None = None
    suppressor: Suppressor | None = None
    background: PhotographTerms | None = None

    @model_validator(mode="before")
    @classmethod
    def _expand_product(cls, document: Any) -> Any:
        """Write a product of classes out as lists."""
        if not isinstance(document, dict) or not isinstance(document.get("classes"), dict):
            return document
        return {**document, "classes": _expand(document["classes"])}

    @model_validator(mode="after")
    def _complete(self) -> DatasetSpec:
        """Let every factor that is not mentioned vary as the catalogue says, and name the classes."""
        silent = FACTORS.keys() - self.classes.keys() - self.nuisance.keys()
        defaults = {name: as_nuisance(FACTORS[name].default) for name in FACTORS if name in silent}
        object.__setattr__(self, "nuisance", {**self.nuisance, **defaults})
        check_terms(self)
        if not self.class_names:
            object.__setattr__(self, "class_names", _derive_names(self.classes))
        check_name_count(self)
        return self

    @property
    def class_count(self) -> int:
        """The number of classes that the spec tells apart."""
        return len(next(iter(self.classes.values())))

    def to_json(self) -> str:
        """Write down the whole spec, defaults filled in: equal specs give equal texts."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True), sort_keys=True)

    def canonical_json(self) -> str:
        """Write down what makes this data set: all that differs from the defaults, and the catalogue's version.

        A factor that is added to the catalogue later has its default here, so the text stays as it is. Photographs are
        named by their digest, not by where they lie.
        """
        document = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        varied = {name for name, value in self.nuisance.items() if value != as_nuisance(FACTORS[name].default)}
        document["nuisance"] = {name: value for name, value in document["nuisance"].items() if name in varied}
        if self.background:
            document["background"] = {"digest": self.background.digest, "quality": self.background.quality}
        return json.dumps({"catalogue": CATALOGUE, **document}, sort_keys=True)

    @property
    def digest(self) -> str:
        """The sha256 of the canonical text; it survives whatever is added to the catalogue."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def with_changes(
        self,
        *,
        rows: int | None = None,
        size: int | None = None,
        seed: int | None = None,
        agreement: float | None = None,
    ) -> DatasetSpec:
        """A copy of the spec with other numbers of rows, another size, another seed or another shortcut.

        `agreement` is the share of the training and validation rows whose shortcut agrees with their class; it becomes
        part of the name, `shortcut-6c-80`. Raises Refusal if the spec has no shortcut.

        `rows` is the total, which training, validation and test split share 70/10/20.
        """
        counts = None if rows is None else split_sizes(rows)
        changes = {"rows": counts, "size": size, "seed": seed}
        document = json.loads(self.to_json()) | {key: value for key, value in changes.items() if value is not None}
        if agreement is not None:
            if self.shortcut is None:
                raise Refusal(f"{self.name}: has no shortcut, so nothing can agree in {agreement:.0%} of the rows")
            document["shortcut"] |= {"train": agreement, "val": agreement}
            document["name"] = f"{self.name}-{100 * agreement:g}"
        changed = from_mapping(document, "the command line", None)
        if self.background is None:
            return changed
        return changed.model_copy(update={"background": self.background})


def from_mapping(document: Mapping[str, Any], source: str, beside: Path | None = Path()) -> DatasetSpec:
    """Validate what somebody wrote; raises Refusal with the place and the remedy.

    Args:
        source: names the spec in messages.
        beside: the folder that a folder of photographs is relative to; None: photographs are not looked for.
    """
    spec = _validate(document, source)
    try:
        check_design(spec)
    except ValueError as error:
        raise Refusal(f"{source}: {error}") from None
    return spec if beside is None else with_photographs(spec, source, beside)


def with_photographs(spec: DatasetSpec, source: str, beside: Path) -> DatasetSpec:
    """The spec with the digest of its photographs, and where they lie; unchanged if it names none.

    Raises:
        Refusal: the folder cannot be used, or holds other photographs than those whose digest the spec states.
    """
    terms = spec.background
    if terms is None:
        return spec
    folder = find_folder(terms.images, beside)
    digest = digest_shares(assign_splits(list_photographs(folder, terms.only).photographs, SPLITS))
    if terms.digest not in ("", digest):
        raise Refusal(
            f"{source}: background.digest: {folder} holds other photographs; remove the line, or put them back"
        )
    named = terms if not Path(terms.images).is_absolute() else terms.model_copy(update={"images": folder.name})
    return spec.model_copy(update={"background": named.at(folder, digest)})  # no file tells where a user keeps pictures


def from_json(text: str, source: str) -> DatasetSpec:
    """Read what `to_json` wrote, in this version or an earlier one; raises Refusal if it is damaged."""
    try:
        document = parse_json(text)
    except ValueError as error:
        raise Refusal(f"{source}: not JSON ({shorten(error)}); the spec has been damaged") from None
    return _validate(document, source)


def from_toml(path: Path) -> DatasetSpec:
    """Read a spec that somebody wrote."""
    return from_mapping(read(path, "give a preset's name or a .toml file"), str(path), path.parent)


def presets() -> list[str]:
    """List the names of the specs that ship with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in PRESETS.iterdir() if entry.name.endswith(".toml"))


def load(name: str) -> DatasetSpec:
    """Read a preset by its name, or the spec in a .toml file.

    The photographs of a preset are those of the digest that it states; they are looked for when rows are rendered.
    """
    if name in presets():
        return from_mapping(parse((PRESETS / f"{name}.toml").read_text(encoding="utf-8")), name, None)
    if name.endswith(".toml"):
        return from_toml(Path(name))
    raise WrongUsage(unknown("preset", name, presets()) + " (or give a .toml file)")


def _validate(document: Any, source: str) -> DatasetSpec:
    document = tuples(document)
    try:
        check_slips(document)
        return DatasetSpec.model_validate(document)
    except ValidationError as error:
        raise Refusal(f"{source}: {sentence(error, 'spec')}") from None
    except ValueError as error:
        raise Refusal(f"{source}: {error}") from None


def _expand(classes: dict[str, Any]) -> dict[str, Any]:
    """`product = { factor = [..], .. }` as lists of equal length, the last factor running fastest."""
    product = classes.get("product")
    if not isinstance(product, Mapping) or not all(isinstance(values, tuple) for values in product.values()):
        return classes
    if len(classes) > 1:
        raise ValueError("classes: give either a product or lists of equal length, not both")
    combinations = tuple(itertools.product(*product.values()))
    return {name: tuple(values[i] for values in combinations) for i, name in enumerate(product)}


def _derive_names(classes: Mapping[str, tuple[Value, ...]]) -> tuple[str, ...]:
    """`red` if one factor tells the classes, `red petals, no pot` if several do."""
    if len(classes) == 1:
        return tuple(str(value) for value in next(iter(classes.values())))
    return tuple(", ".join(map(_words, classes, values)) for values in zip(*classes.values(), strict=True))


def _words(name: str, value: Value) -> str:
    part = part_of(name)
    return f"no {part}" if value == 0 else f"{value} {part}"
