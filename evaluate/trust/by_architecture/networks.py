"""A classifier's network over a canvas of 2 x 2 pictures, connected so that a class can be read in one cell only.

Source: Rao, Böhle, Schiele: Towards Better Understanding Attribution Methods, CVPR 2022.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, fx, nn

from an8flower.errors import NotApplicable

from ...models.classifier import Classifier, normalisation_of, wrap
from ...models.networks.guard import evaluating
from ...models.networks.split import GraphSplit

SIDE = 2  # cells along each side of a canvas
CELLS = SIDE * SIDE
WIDEST = 33  # how many pixels a cell may be wider than the picture, and one more: most networks take steps of 32

Setting = Literal["gridpg", "difull", "dipart"]
SETTINGS: dict[Setting, str] = {
    "gridpg": "the network as it is over the whole canvas; it may look everywhere",
    "difull": "the features of each cell are computed alone, and the logits read those of one cell: nothing beside the "
    "cell can matter",
    "dipart": "the features are computed over the whole canvas, and the logits read those of one cell: no more of the "
    "others can matter than lies in the receptive fields at the cell's border",
}


class CanvasNetwork(nn.Module):
    """A network in two halves, over a canvas: how its features are computed, and which of them the logits read."""

    def __init__(self, first: fx.GraphModule, last: fx.GraphModule, setting: Setting, size: int, cell: int) -> None:
        super().__init__()
        self.first = first
        self.features = nn.Identity()  # the layer that CAMs look at: the features of the whole canvas
        self.last = last
        self.setting = setting
        self.size = size
        self.cell = cell

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of normalised canvases (B, 3, 2 S, 2 S)."""
        features = self.features(self._compute(images))
        seen = features if self.setting == "gridpg" else take_cell(features, self.cell)
        logits: Tensor = self.last(seen.clone())  # it may work in place
        return logits

    def _compute(self, images: Tensor) -> Tensor:
        """The features (B, K, 2 h, 2 w) of canvases; of `difull`, each cell by itself."""
        if self.setting != "difull":
            whole: Tensor = self.first(images)[0]
            return whole
        cells = [self.first(take_place(images, cell, self.size))[0] for cell in range(CELLS)]
        return join_cells(cells)


def take_place(canvases: Tensor, cell: int, size: int) -> Tensor:
    """A cell (..., size, size) of canvases, from its pixels' places: what a traced graph can hold for any batch."""
    row, column = divmod(cell, SIDE)
    return canvases[..., row * size : (row + 1) * size, column * size : (column + 1) * size]


def take_cell(values: Tensor, cell: int) -> Tensor:
    """One cell (..., h, w) of values (..., 2 h, 2 w)."""
    row, column = divmod(cell, SIDE)
    return values.chunk(SIDE, -2)[row].chunk(SIDE, -1)[column]


def join_cells(cells: list[Tensor]) -> Tensor:
    """Four cells (..., h, w), row by row, side by side: (..., 2 h, 2 w)."""
    return torch.cat([torch.cat(cells[row * SIDE : (row + 1) * SIDE], -1) for row in range(SIDE)], -2)


def over_canvas(classifier: Classifier, setting: Setting, cell: int) -> Classifier:
    """A classifier of canvases made of a classifier of pictures: weights are shared; the logits read one cell.

    Raises NotApplicable as `measure_cell` does.
    """
    side = measure_cell(classifier)
    halves = cut_for_canvas(classifier)
    network = CanvasNetwork(*halves.modules, setting, side, cell)
    normalisation = normalisation_of(classifier)
    return wrap(network, classifier.class_names, SIDE * side, "features", *normalisation).eval()


def cut_for_canvas(classifier: Classifier) -> GraphSplit:
    """The network's halves at its target layer.

    Raises NotApplicable: it cannot be cut there, or more crosses the cut than the maps of this layer.
    """
    layer = classifier.target_layer
    halves = classifier.split(layer)
    if not isinstance(halves, GraphSplit):
        raise NotApplicable(f"{classifier.arch} cannot be cut at {layer}, so it cannot be laid over a canvas")
    with evaluating(classifier), torch.no_grad():
        features = halves.head(classifier.probe(1))
    if features.carried or features.values.ndim != 4:
        raise NotApplicable(f"{classifier.arch}: what follows {layer} reads more than maps of this layer")
    return halves


def measure_cell(classifier: Classifier) -> int:
    """The side of a canvas's cells in pixels: that of the pictures, or a little more.

    The smallest with which a canvas has a feature for each feature of its cells, at the same places: a multiple of the
    network's steps.

    Raises:
        NotApplicable: the network cannot be cut (see `cut_for_canvas`), or takes no pictures of other sizes.
    """
    first, _ = cut_for_canvas(classifier).modules
    for side in range(classifier.size, classifier.size + WIDEST):
        cell, canvas = (measure_features(first, pixels, classifier) for pixels in (side, SIDE * side))
        if canvas == tuple(SIDE * length for length in cell) and not any(side % length for length in cell):
            return side
    raise NotApplicable(f"{classifier.arch} has no features of a canvas that are those of its cells")


@torch.no_grad()
def measure_features(first: fx.GraphModule, pixels: int, classifier: Classifier) -> tuple[int, ...]:
    """The height and width of the features of a picture; raises NotApplicable if the network takes no such picture."""
    try:
        with evaluating(classifier):
            return tuple(first(torch.zeros(1, 3, pixels, pixels, device=classifier.device))[0].shape[2:])
    except Exception as error:  # foreign code raises whatever it likes
        raise NotApplicable(f"{classifier.arch} takes no pictures of {pixels} px ({type(error).__name__})") from error
