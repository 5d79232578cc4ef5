"""The smaller values of which a spec is made: ranges, numbers of rows, a shortcut."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

from .factors import Ends, Value
from .names import unknown

RowCount = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class SpecModel(BaseModel):
    """A frozen piece of a spec that answers an unknown key with the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, document: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        strange = [key for key in document if key not in known] if isinstance(document, dict) else []
        if strange:
            raise PydanticCustomError("unknown_key", "{words}", {"words": unknown("key", str(strange[0]), known)})
        return document


class Range(SpecModel):
    """Values drawn evenly between two ends, both included; written `{ from = 0, to = 360 }`."""

    low: float = Field(alias="from")
    high: float = Field(alias="to")


class RowCounts(SpecModel):
    """How many rows each split has."""

    train: RowCount
    val: RowCount
    test: RowCount

    @property
    def total(self) -> int:
        """The number of rows in all splits together."""
        return self.train + self.val + self.test


class Shortcut(SpecModel):
    """A factor that goes along with the class in a chosen share of the rows of each split.

    `values` has one entry per class. A row that agrees has its class's value, any other row that of another class.
    """

    factor: str
    values: tuple[Value, ...]
    train: Share
    val: Share
    test: Share

    @model_validator(mode="before")
    @classmethod
    def _val_as_train(cls, document: Any) -> Any:
        """Draw validation as training is drawn if the spec does not say otherwise."""
        return {"val": document.get("train"), **document} if isinstance(document, dict) else document


class Suppressor(SpecModel):
    """A number that evidence and background share, and that says nothing of the class: the table [suppressor].

    In every row both factors have the same value, drawn evenly between two ends.
    """

    evidence: str  # a factor of a part that tells the classes: petals.hue
    background: str  # a factor of what tells none: background.hue
    low: float = Field(alias="from")
    high: float = Field(alias="to")

    @property
    def factors(self) -> tuple[str, str]:
        """Both factors that share a value."""
        return self.evidence, self.background


class PhotographTerms(SpecModel):
    """Photographs of the user's own that may lie behind the plant: the table [background] of a spec."""

    images: str  # a folder, or one within an installed package: package:skimage.data
    only: tuple[str, ...] = ()  # files in it that are taken alone
    quality: Annotated[int, Field(ge=1, le=100)] = 90  # of the copies, as JPEG
    digest: str = ""  # sha256 over which photographs are in which split; filled in when the folder is read
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """Where the photographs lie on this machine; None for a spec that was read from a file of rows."""
        return self._folder

    def at(self, folder: Path | None, digest: str) -> PhotographTerms:
        """The same terms with the place of the photographs and their digest."""
        terms = self.model_copy(update={"digest": digest})
        terms._folder = folder
        return terms


Nuisance = Value | tuple[Value, ...] | Range


def as_nuisance(default: Value | Ends) -> Value | Range:
    """A default of the catalogue as a spec holds it.

    >>> as_nuisance(Ends(0, 90))
    Range(low=0.0, high=90.0)
    """
    return Range(**{"from": float(default.low), "to": float(default.high)}) if isinstance(default, Ends) else default
