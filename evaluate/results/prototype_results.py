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

from .prototype_examples import Example as Example
from .prototype_examples import Resemblance as Resemblance
from .prototype_places import Box as Box
from .prototype_places import StoredForm as StoredForm

KEY = "prototypes"  # of the study of a summary, and of the plan's table


class PrototypePatch(StoredForm):
    """The place of a row where a prototype is found most strongly: its cell's share of the image."""

    row: int  # of the split
    label: int  # the class of that row
    cell: tuple[int, int]  # of the similarity map: from the top, from the left
    box: Box  # the pixels that are the cell's share of the image; the network sees more than these
    window: Box  # the larger square that the picture `crops` shows; the box lies in it
    value: float  # how strongly the prototype is found there, > 0
    part: str  # that most pixels of the box show
    share: float  # of the pixels of the box that show it, in (0, 1]


class ClassWeight(StoredForm):
    """What a prototype adds to a class for which it speaks."""

    label: int
    class_name: str
    weight: float  # > 0


class PrototypeScore(StoredForm):
    """The value of one measure for one prototype, beside its chance level."""

    value: float | None  # None where it is undefined
    chance: float | None = None  # the expected value if patches were drawn at random; None where there is no such level
    part: str | None = None  # the part that it is about
    reason: str | None = None  # why it is undefined


class JudgedPrototype(StoredForm):
    """One prototype with all that is known of it."""

    number: int  # of the network's prototypes, from 0
    label: int  # the class for which it has the largest weight
    class_name: str
    weight: float  # that weight
    classes: tuple[ClassWeight, ...]  # all for which it has a weight above 0.001, the largest weight first
    largest: float  # how strongly it is found where it is found most strongly, in the rows that were looked at
    rows_found: float  # the share of these rows in which it is found, in [0, 1]
    shares: Mapping[str, float]  # of the pixels of its strongest patches, by part; they sum to 1; empty if never found
    scores: Mapping[str, PrototypeScore]  # by the names of the measures
    patches: tuple[PrototypePatch, ...]  # the strongest first, each of another row
    source: PrototypePatch | None = None  # the training patch that it is, or else the one where it is found most
    pushed: bool = False  # whether it is the patch `source`, as a push makes it; else `source` only comes nearest to it

    @property
    def part(self) -> str | None:
        """The part that it stands for: that on which most pixels of its strongest patches lie; None if never found."""
        return max(self.shares, key=lambda part: self.shares[part]) if self.shares else None


class ModelScore(StoredForm):
    """A measure of a model: the mean over prototypes (or rows, or a count), with its 95 % interval."""

    mean: float | None
    low: float | None = None  # None for counts, which have no interval
    high: float | None = None
    n: int  # prototypes, or rows, that have a value
    undefined: int = 0  # those that have none
    over: str  # "prototypes", "rows", "weights", or "model" for a count
    chance: float | None = None  # the mean of the chance levels of the same prototypes


class JudgedModel(StoredForm):
    """The prototypes of one model, judged on one data set."""

    model: str
    architecture: str
    total: int  # prototypes that the network has; those without a weight above 0.001 are not judged
    grid: tuple[int, int]  # the cells of a similarity map
    size: int  # the side of the images, in pixels
    class_names: tuple[str, ...]
    scores: Mapping[str, ModelScore]  # by the names of the measures
    prototypes: tuple[JudgedPrototype, ...]  # those with a weight, in their order
    examples: tuple[Example, ...]  # rows chosen by `RULES`, each once
    pictures: str = ""  # the file with the pictures, relative to the folder of the run; empty where there is none

    def of_class(self, label: int) -> list[JudgedPrototype]:
        """The prototypes of a class, those with the largest weights first."""
        members = [prototype for prototype in self.prototypes if prototype.label == label]
        return sorted(members, key=lambda prototype: -prototype.weight)


class SkippedModel(StoredForm):
    """A model whose prototypes were not judged, with the reason."""

    model: str
    reason: str


class PrototypesDocument(StoredForm):
    """What a summary holds of the prototypes of all models of a data set."""

    rows: int  # that were looked at, of `split`
    split: str
    strongest: int  # patches of each prototype that are looked at
    published: bool  # whether the published definitions were computed as well
    results: tuple[JudgedModel, ...]
    skipped: tuple[SkippedModel, ...]
