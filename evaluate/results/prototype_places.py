"""Forms that documents on prototypes are made of: what never changes once it is made, and rectangles of pixels."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict


class StoredForm(BaseModel):
    """A part of a document that never changes once it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(NamedTuple):
    """A rectangle of pixels: rows [top, bottom) and columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int
