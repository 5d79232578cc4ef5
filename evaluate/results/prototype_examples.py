"""How single pictures were recognised by prototypes: this looks like that. No torch in here.

`JudgedModel.examples` holds these documents, and its file of pictures the rows themselves.
"""

from __future__ import annotations

from .prototype_places import Box, StoredForm

TYPICAL, MISTAKEN, NARROW = "typical", "mistaken", "narrow"
RULES = {
    TYPICAL: "a typical row: of those that are predicted rightly, the one with the median margin between the two "
    "largest logits",
    MISTAKEN: "the surest mistake: of the rows that are predicted wrongly, the one with the largest margin",
    NARROW: "the narrowest success: of the rows that are predicted rightly, the one with the smallest margin",
}
"""By which rules rows are chosen as examples; of equal margins, the first row."""


class Resemblance(StoredForm):
    """A prototype that speaks for or against the predicted class of a row: this looks like that."""

    number: int  # of the prototype
    weight: float  # for the predicted class
    similarity: float  # how strongly it is found in the row
    cell: tuple[int, int]  # where, in the similarity map: from the top, from the left
    box: Box  # the pixels that are the cell's share of the row
    part: str  # that most pixels of the box show
    share: float  # of the pixels of the box that show it, in (0, 1]

    @property
    def contribution(self) -> float:
        """What it adds to the sum of the predicted class, from which the logit is made."""
        return self.weight * self.similarity


class Example(StoredForm):
    """A row with the prototypes that weigh most in the sum of its predicted class, the heaviest first."""

    row: int  # of the split
    rule: str  # by which it was chosen: a key of `RULES`
    label: int
    predicted: int
    total: float  # the sum of all contributions to the predicted class
    logit: float  # of the predicted class: the same sum, or a function of it
    rival: int  # the class with the next largest logit; the row's class if the prediction is wrong
    rival_logit: float
    resembles: tuple[Resemblance, ...]
    others: int  # further prototypes that add something
    rest: float  # the sum of what they add
