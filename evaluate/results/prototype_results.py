"""How the prototypes of models were judged, as it lies in the summary of a run and in the JSON of the command.

A study of `summary.json` has, under the key `prototypes`, what `PrototypesDocument` describes. The pictures of each
model lie beside it, in the .npz file that `JudgedModel.pictures` names, relative to the folder of the document:

- `numbers` (P,) int64: the prototypes that have pictures, in the order of `JudgedModel.prototypes`;
- `strongest` (P, S, S, 3) uint8: the row with the strongest patch of each, whole: `patches[0]` lies in it;
- `sources` (P, S, S, 3) uint8: the training row of `source` of each, whole; black where there is none;
- `crops` (P, N, W, W, 3) uint8: the windows around its N strongest patches; black where there are fewer;
- `examples` (E, S, S, 3) uint8: the rows of `JudgedModel.examples`;
- `example_maps` (E, T, h, w) float32, >= 0: how strongly each prototype of `Example.resembles` is found at each cell
  of that row; 0 where there are fewer than T.

No torch in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

KEY = "prototypes"  # of the study of a summary, and of the plan's table


class StoredForm(BaseModel):
    """A part of a document that never changes once it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(NamedTuple):
    """A rectangle of pixels: rows [top, bottom) and columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int


class PrototypePatch(StoredForm):
    """The place of a row where a prototype is found most strongly: its cell's share of the image."""

    row: int = Field(description="Of the split; that of a prototype's source is a training row.")
    label: int = Field(description="The class of that row.")
    cell: tuple[int, int] = Field(description="The cell of the similarity map, from the top and from the left.")
    box: Box = Field(description="The pixels that are the cell's share of the image; the network sees more than these.")
    window: Box = Field(description="The larger square that the picture crops shows; the box lies in it.")
    value: float = Field(description="How strongly the prototype is found there, above 0.")
    part: str = Field(description="The part that most pixels of the box show.")
    share: float = Field(description="The share of the pixels of the box that show the part, above 0.")


class ClassWeight(StoredForm):
    """What a prototype adds to a class for which it speaks."""

    label: int = Field(description="The class.")
    class_name: str = Field(description="The name of the class.")
    weight: float = Field(description="What the prototype adds to the class, above 0.001.")


class PrototypeScore(StoredForm):
    """The value of one measure for one prototype, beside its chance level."""

    value: float | None = Field(description="The value; null where it is undefined.")
    chance: float | None = Field(
        default=None,
        description="The expected value if patches were drawn at random; null where there is no such level.",
    )
    part: str | None = Field(default=None, description="The part that it is about.")
    reason: str | None = Field(default=None, description="Why it is undefined.")


class JudgedPrototype(StoredForm):
    """One prototype with all that is known of it."""

    number: int = Field(description="Of the network's prototypes, from 0.")
    label: int = Field(description="The class for which it has the largest weight.")
    class_name: str = Field(description="The name of that class.")
    weight: float = Field(description="The weight for that class.")
    classes: tuple[ClassWeight, ...] = Field(
        description="All classes for which it has a weight above 0.001, the largest weight first."
    )
    largest: float = Field(
        description="How strongly it is found where it is found most strongly, in the rows that were looked at."
    )
    rows_found: float = Field(description="The share of these rows in which it is found, in [0, 1].")
    shares: Mapping[str, float] = Field(
        description="The shares of parts in its strongest patches; they sum to 1; empty if it is never found."
    )
    scores: Mapping[str, PrototypeScore] = Field(description="By the names of the measures.")
    patches: tuple[PrototypePatch, ...] = Field(
        description="Its strongest patches, the strongest first, each of another row."
    )
    source: PrototypePatch | None = Field(
        default=None, description="The training patch that it is, or else the one where it is found most."
    )
    pushed: bool = Field(
        default=False,
        description="Whether it is the patch source, as a push makes it; else source only comes nearest to it.",
    )

    @property
    def part(self) -> str | None:
        """The part that it stands for: that on which most pixels of its strongest patches lie; None if never found."""
        return max(self.shares, key=lambda part: self.shares[part]) if self.shares else None


class ModelScore(StoredForm):
    """A measure of a model: the mean over prototypes (or rows, or a count), with its 95 % interval."""

    mean: float | None = Field(description="The mean, or the count; null if it is undefined everywhere.")
    low: float | None = Field(
        default=None, description="The lower end of the 95 % interval; null for counts, which have none."
    )
    high: float | None = Field(default=None, description="The upper end of the interval; null for counts.")
    n: int = Field(description="How many prototypes, or rows, or weights have a value.")
    undefined: int = Field(default=0, description="How many have none.")
    over: str = Field(description="What the mean is over: prototypes, rows or weights; model for a count.")
    chance: float | None = Field(default=None, description="The mean of the chance levels of the same prototypes.")


class Resemblance(StoredForm):
    """A prototype that speaks for the predicted class of a row: this looks like that."""

    number: int = Field(description="Of the prototype.")
    weight: float = Field(description="The weight for the predicted class.")
    similarity: float = Field(description="How strongly it is found in the row.")
    cell: tuple[int, int] = Field(
        description="The cell of the similarity map where it is found, from the top and from the left."
    )
    box: Box = Field(description="The pixels of that cell.")

    @property
    def contribution(self) -> float:
        """What it adds to the sum of the predicted class, from which the logit is made."""
        return self.weight * self.similarity


class Example(StoredForm):
    """A row with the prototypes that add most to the sum of its predicted class, the largest first."""

    row: int = Field(description="Of the split.")
    label: int = Field(description="The class of the row.")
    predicted: int = Field(description="The class that the model names.")
    logit: float = Field(description="Of the predicted class.")
    resembles: tuple[Resemblance, ...] = Field(description="The prototypes, three at most.")


class JudgedModel(StoredForm):
    """The prototypes of one model, judged on one data set."""

    model: str = Field(description="The name of the model.")
    architecture: str = Field(description="The architecture, and what its training did besides.")
    total: int = Field(
        description="How many prototypes the network has; those without a weight above 0.001 are not judged."
    )
    grid: tuple[int, int] = Field(description="The cells of a similarity map, down and across.")
    size: int = Field(description="The side of the images, in pixels.")
    class_names: tuple[str, ...] = Field(description="In the order of the labels.")
    scores: Mapping[str, ModelScore] = Field(description="By the names of the measures.")
    prototypes: tuple[JudgedPrototype, ...] = Field(description="The prototypes with a weight, in their order.")
    examples: tuple[Example, ...] = Field(description="One row of each class, where there is one.")
    pictures: str = Field(
        default="",
        description="The file with the pictures, relative to the folder of this document; empty where there is none.",
    )

    def of_class(self, label: int) -> list[JudgedPrototype]:
        """The prototypes of a class, those with the largest weights first."""
        members = [prototype for prototype in self.prototypes if prototype.label == label]
        return sorted(members, key=lambda prototype: -prototype.weight)


class SkippedModel(StoredForm):
    """A model whose prototypes were not judged, with the reason."""

    model: str = Field(description="The name of the model.")
    reason: str = Field(description="Why it was not judged, in a sentence.")


class PrototypesDocument(StoredForm):
    """What a summary holds of the prototypes of all models of a data set."""

    rows: int = Field(description="How many rows of the split were looked at.")
    split: str = Field(description="The split that the rows are of.")
    strongest: int = Field(description="How many patches of each prototype are looked at, at most.")
    published: bool = Field(description="Whether the published definitions were computed as well.")
    results: tuple[JudgedModel, ...] = Field(description="The models that were judged.")
    skipped: tuple[SkippedModel, ...] = Field(description="The models that were not.")
