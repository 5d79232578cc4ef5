"""How single pictures were recognised by prototypes: this looks like that. No torch in here.

`JudgedModel.examples` holds these documents, and its file of pictures the rows themselves.
"""

from __future__ import annotations

from pydantic import Field

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

    number: int = Field(description="Of the prototype.")
    weight: float = Field(description="The weight for the predicted class.")
    similarity: float = Field(description="How strongly it is found in the row.")
    cell: tuple[int, int] = Field(
        description="The cell of the similarity map where it is found, from the top and from the left."
    )
    box: Box = Field(description="The pixels of that cell.")
    part: str = Field(description="The part that most pixels of the box show.")
    share: float = Field(description="The share of the pixels of the box that show the part, above 0.")

    @property
    def contribution(self) -> float:
        """What it adds to the sum of the predicted class, from which the logit is made."""
        return self.weight * self.similarity


class Example(StoredForm):
    """A row with the prototypes that weigh most in the sum of its predicted class, the heaviest first."""

    row: int = Field(description="Of the split.")
    rule: str = Field(
        description="By which rule it was chosen: typical, the right prediction of median margin; mistaken, the wrong "
        "one of largest margin; narrow, the right one of smallest margin."
    )
    label: int = Field(description="The class of the row.")
    predicted: int = Field(description="The class that the model names.")
    total: float = Field(description="The sum of what all prototypes add to the predicted class.")
    logit: float = Field(description="Of the predicted class: the same sum, or a function of it.")
    rival: int = Field(description="The class with the next largest logit; the true one if the prediction is wrong.")
    rival_logit: float = Field(description="Of that class.")
    resembles: tuple[Resemblance, ...] = Field(description="The prototypes that add most by size, five at most.")
    others: int = Field(description="How many further prototypes add something.")
    rest: float = Field(description="The sum of what they add.")
