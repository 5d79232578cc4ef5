"""The cards of the measures of prototypes: what is needed to read their numbers. No torch in here.

These measures score a model and its prototypes. They score no maps, so that `score` does not take them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FAMILY = "prototypes"
SCORES_PROTOTYPES = "prototypes, not maps: ask with `an8flower prototypes`, or in a plan with a table [prototypes]"
NO_CHANCE = "none: it is a count"
PIPNET = "Nauta et al.: PIP-Net: Patch-Based Intuitive Prototypes for Interpretable Image Classification, CVPR 2023"
EVALPROTO = (
    "Huang et al.: Evaluation and Improvement of Interpretability for Self-Explainable Part-Prototype Networks, "
    "ICCV 2023"
)
MISALIGNED = (
    "Sacha et al.: Interpretability Benchmark for Evaluating Spatial Misalignment of Prototypical Parts Explanations, "
    "AAAI 2024"
)
NEVER = "the prototype is found in no row"
NO_ROWS = "no row of the prototype's class is looked at"
NOT_IN_CLASS = "the prototype is found in no row of its class"
NO_OUTSIDE = "the box of its highest 5 %, with the margin, covers the whole image"
NO_RENDERER = "the data have no spec, so that no scene can be rendered again"


@dataclass(frozen=True)
class PrototypeMeasure:
    """A measure of prototypes with everything that a reader of its numbers has to know."""

    name: str
    definition: str
    over: str  # what it is the mean of: prototypes, rows or weights
    undefined: str
    source: str
    chance: str = NO_CHANCE
    published: str = ""  # the published definition, computed with the option `published`; empty if it is the same
    unit: str = "share"
    bounds: tuple[float, float] = (0.0, 1.0)
    higher_is_better: bool = True
    needs: tuple[str, ...] = ("model", "parts")
    version: int = 1
    further: Mapping[str, str] = field(default_factory=dict, hash=False)

    def card(self) -> dict[str, Any]:
        """The description in the form of a metric's card, ready for JSON."""
        published = {"published": self.published} if self.published else {}
        return {
            "name": self.name,
            "family": FAMILY,
            "definition": self.definition,
            "unit": self.unit,
            "bounds": [bound if math.isfinite(bound) else None for bound in self.bounds],
            "higher_is_better": self.higher_is_better,
            "chance": self.chance,
            "scores": SCORES_PROTOTYPES,
            "sign": "none: no map is read",
            "ties": "of equal values the first row, and in it the first cell, counts",
            "undefined": self.undefined,
            "level": self.over,
            "needs": list(self.needs),
            "parameters": {"published": False} if self.published else {},
            "source": self.source,
            "version": self.version,
            **published,
            **self.further,
        }


PATCH = (
    "a patch is the cell of the similarity map where the prototype is found most strongly in a row, laid over the "
    "image; the network sees more than this box, up to its receptive field"
)
CLASS = "the class for which the prototype has the largest weight"

MEASURES = (
    PrototypeMeasure(
        name="purity",
        definition="The share of the pixels of a prototype's ten strongest patches, each of another row, "
        "that lie on one part: on the part with most of them, which is named.",
        over="prototypes",
        undefined=NEVER,
        source=f"{PIPNET} (ten patches; pixels of exact parts instead of keypoints: ours)",
        chance="the share of that part among the pixels of all rows: what patches drawn at random would give",
        published="purity:published is the share of the ten patches, 32 px wide at 224 px, in which the "
        "keypoint of one part lies: of the part with most. The keypoint is the part's visible pixel nearest "
        "to its centre. Chance is the share of all cells whose patch holds that keypoint.",
        further={"patch": PATCH},
    ),
    PrototypeMeasure(
        name="on_object",
        definition="The share of the pixels of a prototype's ten strongest patches that show the object: any part, "
        "and not the background.",
        over="prototypes",
        undefined=NEVER,
        source="the overlap with object masks by which prototypes are judged where no masks of parts are there; ours",
        chance="the share of the object among the pixels of all rows",
        further={"patch": PATCH},
    ),
    PrototypeMeasure(
        name="same_part",
        definition="The share of the rows of a prototype's class in which its maximum lies on one part: on "
        "the part with most of them. A cell shows the part that most of its pixels show.",
        over="prototypes",
        undefined=NO_ROWS,
        source=f"{EVALPROTO} (the share behind their consistency, with exact parts: ours)",
        chance="the mean share of these rows' cells that show that part",
        further={"class": CLASS},
    ),
    PrototypeMeasure(
        name="consistency",
        definition="Whether a prototype's maximum lies on the same part in at least 0.8 of the rows of its "
        "class: 1 or 0; of a model, the share of its prototypes for which it does.",
        over="prototypes",
        undefined=NO_ROWS,
        source=EVALPROTO,
        chance="the exact probability of it for cells drawn at random, one in each row",
        published="consistency:published is 1 if some part's keypoint lies within 36 px, of 224, down and "
        "across, of the maximum of the upsampled map in at least 0.8 of the rows of the class in which that "
        "part is visible.",
        further={"class": CLASS},
    ),
    PrototypeMeasure(
        name="stability",
        definition="The share of the rows of a prototype's class in which its maximum lies on the same part "
        "after noise is added to the image, with a standard deviation of 0.2 in the units of normalised "
        "images, cut off at 0.25.",
        over="prototypes",
        undefined=f"{NO_ROWS}; or {NOT_IN_CLASS}",
        source=EVALPROTO,
        chance="the probability that two cells of a row, drawn at random, show the same part",
        published="stability:published compares which keypoints lie in the box of consistency:published.",
    ),
    PrototypeMeasure(
        name="redraw_stability",
        definition="The share of the rows of a prototype's class in which its maximum lies on the same part "
        "after the scene is rendered again with all that is left to chance drawn anew: place, view, light, "
        "background.",
        over="prototypes",
        undefined=f"{NO_ROWS}; {NOT_IN_CLASS}; or {NO_RENDERER}",
        source=f"{EVALPROTO} (stability; rendering instead of noise: ours)",
        chance="the probability that a cell of each picture, drawn at random, show the same part",
        needs=("model", "parts", "renderer"),
    ),
    PrototypeMeasure(
        name="misalignment",
        definition="The mean relative change of a prototype's similarity at the cell of its ten strongest "
        "patches when everything but the part under the cell is rendered again, as another class and with "
        "all else drawn anew; the part's pixels stay as they are.",
        over="prototypes",
        undefined=f"{NEVER}; or {NO_RENDERER}",
        source=f"{MISALIGNED} (change of activation; rendering instead of an attack: ours)",
        chance="the same mean when the part is rendered again as well",
        published="misalignment:published is the mean relative change of the largest similarity when the "
        "pixels outside of the box of the highest 5 % of the upsampled map, and 10 px of 224 around it, are "
        "attacked: 20 steps of 0.01 down its gradient's sign, at most 0.1, in the units of normalised images. "
        "Patches whose box leaves nothing outside do not count.",
        unit="relative change",
        bounds=(0.0, math.inf),
        higher_is_better=False,
        needs=("model", "parts", "renderer"),
    ),
    PrototypeMeasure(
        name="locality",
        definition="How many prototypes with a weight for the predicted class are found in a row: whose "
        "similarity is above a tenth of the largest one that the prototype has in any row.",
        over="rows",
        undefined="never",
        source=f"{PIPNET} (local size)",
        published="locality:published counts similarities above 0.1, whatever the largest one is.",
        unit="prototypes",
        bounds=(0.0, math.inf),
        higher_is_better=False,
        needs=("model",),
    ),
    PrototypeMeasure(
        name="size",
        definition="How many prototypes have a weight for some class: one whose size is above 0.001.",
        over="model",
        undefined="never",
        source=f"{PIPNET} (global size)",
        unit="prototypes",
        bounds=(0.0, math.inf),
        higher_is_better=False,
        needs=("model",),
    ),
    PrototypeMeasure(
        name="sparsity",
        definition="The share of the weights between prototypes and classes that are zero: whose size is at "
        "most 0.001.",
        over="weights",
        undefined="never",
        source=PIPNET,
        needs=("model",),
    ),
    PrototypeMeasure(
        name="abstention",
        definition="The share of rows in which no prototype is found that speaks for some class, with a weight above "
        "0.001. The sums of all classes are then 0 in a network whose weights are never negative.",
        over="rows",
        undefined="never",
        source=PIPNET,
        higher_is_better=False,
        needs=("model",),
    ),
)
"""All measures, in the order in which they are shown."""

PUBLISHED = ":published"
"""The end of the name of a measure by its published definition."""


def find_measure(name: str) -> PrototypeMeasure | None:
    """The measure of a name, which may end in `:published`; None if there is none."""
    return next((measure for measure in MEASURES if measure.name == name.removesuffix(PUBLISHED)), None)
