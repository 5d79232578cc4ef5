"""The card of a classifier as it may stand in a file: what it says goes into names of files and sizes of networks."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from an8flower.toml import sentence

MOST_CLASSES = 100_000
Name = Annotated[str, Field(max_length=1000)]


class CardBounds(BaseModel):
    """The fields of `Card`, each with its type and its bounds."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    arch: Annotated[Name, Field(min_length=1)]
    class_names: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MOST_CLASSES)]
    size: Annotated[int, Field(ge=1, le=4096)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    accuracy: Annotated[float, Field(ge=0, le=1)] | None
    data: dict[Name, Name]
    versions: dict[Name, Name]
    layer: Annotated[Name, Field(min_length=1)] | None = None


def check_card(document: str) -> CardBounds:
    """The fields of a card from its JSON; raises ValueError with one sentence if one is out of bounds."""
    try:
        return CardBounds.model_validate_json(document)
    except ValidationError as error:
        raise ValueError(sentence(error, "card")) from None
