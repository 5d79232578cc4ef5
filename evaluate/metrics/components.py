"""Connected components of all pixels above each of many thresholds, compiled by numba: one pass per map, not one each.

Pixels join in the order of the thresholds that they lie above, and a union-find keeps the components (4-connectivity)
with their sizes and tight boxes. A box is (top, left, bottom, right), its ends excluded, and (0, 0, 0, 0) if empty.

Not `scipy.ndimage.label`, threshold by threshold: on maps of 112 pixels a side it takes 450 times as long.

All of it is one file, because numba's cache notices changes in a compiled function's own file only. Arrays are read
number by number: a slice costs more than what is done with it here.
"""

from __future__ import annotations

import numpy as np

from an8flower.kernels import compile_kernel

# What is known of a component, in the row of its root. Of any other pixel, LINK alone counts.
LINK, SIZE, TOP, LEFT, BOTTOM, RIGHT = range(6)  # LINK: a pixel nearer to the root; itself if root, -1 if outside


def largest_boxes(levels: np.ndarray, cuts: int) -> np.ndarray:
    """The box of the largest component of the pixels above each cut.

    Args:
        levels: (B, H, W) int64: how many of the cuts, which ascend, each pixel lies above.
        cuts: T, how many there are.

    Returns:
        (B, T, 4) int64. Of several components of the largest size it is the box around all of them.
    """
    boxes = np.zeros((len(levels), cuts, 4), np.int64)
    _fill_boxes(np.ascontiguousarray(levels), boxes)
    return boxes


def best_overlaps(levels: np.ndarray, cuts: int, truths: np.ndarray) -> np.ndarray:
    """The largest IoU of a box with the box of any component of the pixels above each cut.

    Args:
        levels: (B, H, W) int64: how many of the cuts, which ascend, each pixel lies above.
        cuts: T, how many there are.
        truths: (B, 4) int64, a box per map, not empty.

    Returns:
        (B, T) float64; 0 where no pixel is above the cut.
    """
    overlaps = np.zeros((len(levels), cuts))
    _fill_overlaps(np.ascontiguousarray(levels), np.ascontiguousarray(truths), overlaps)
    return overlaps


@compile_kernel
def _fill_boxes(levels: np.ndarray, boxes: np.ndarray) -> None:
    rows, height, width = levels.shape
    cuts = boxes.shape[1]
    forest, order = np.empty((height * width, 6), np.int64), np.empty(height * width, np.int64)
    above = np.empty(cuts + 1, np.int64)
    for row in range(rows):
        _begin(levels, row, forest, order, above)
        most = 0
        for cut in range(cuts - 1, -1, -1):
            if cut + 1 < cuts:
                for side in range(4):
                    boxes[row, cut, side] = boxes[row, cut + 1, side]
            for place in range(above[cut + 1], above[cut]):
                root = _join(forest, order[place], height, width)
                # The largest size never falls, and a component that grows beyond it is alone there.
                if forest[root, SIZE] > most:
                    most = forest[root, SIZE]
                    for side in range(4):
                        boxes[row, cut, side] = forest[root, TOP + side]
                elif forest[root, SIZE] == most:
                    for side in range(2):
                        boxes[row, cut, side] = min(boxes[row, cut, side], forest[root, TOP + side])
                        boxes[row, cut, 2 + side] = max(boxes[row, cut, 2 + side], forest[root, BOTTOM + side])


@compile_kernel
def _fill_overlaps(levels: np.ndarray, truths: np.ndarray, overlaps: np.ndarray) -> None:
    rows, height, width = levels.shape
    cuts = overlaps.shape[1]
    forest, order = np.empty((height * width, 6), np.int64), np.empty(height * width, np.int64)
    above, roots = np.empty(cuts + 1, np.int64), np.empty(height * width, np.int64)
    for row in range(rows):
        _begin(levels, row, forest, order, above)
        count = 0
        for cut in range(cuts - 1, -1, -1):
            for place in range(above[cut + 1], above[cut]):
                _join(forest, order[place], height, width)
                roots[count] = order[place]
                count += 1
            alive = 0  # roots that other components have taken in are forgotten
            for place in range(count):
                root = roots[place]
                if forest[root, LINK] == root:
                    roots[alive] = root
                    alive += 1
                    overlaps[row, cut] = max(overlaps[row, cut], _iou(forest, root, truths, row))
            count = alive


@compile_kernel
def _begin(levels: np.ndarray, row: int, forest: np.ndarray, order: np.ndarray, above: np.ndarray) -> None:
    """No pixel has joined; `order` has those above most cuts first, and above[t] of them lie above cut t, (T + 1,)."""
    _, height, width = levels.shape
    for cut in range(len(above)):
        above[cut] = 0
    for pixel in range(height * width):
        forest[pixel, LINK] = -1
        level = levels[row, pixel // width, pixel % width]
        if level > 0:
            above[level - 1] += 1
    for cut in range(len(above) - 2, -1, -1):
        above[cut] += above[cut + 1]
    place = above[1:].copy()
    for pixel in range(height * width):
        level = levels[row, pixel // width, pixel % width]
        if level > 0:
            order[place[level - 1]] = pixel
            place[level - 1] += 1


@compile_kernel
def _join(forest: np.ndarray, pixel: int, height: int, width: int) -> int:
    """Take in a pixel, which unites the components beside it; the root of the component that it is in then."""
    y, x = pixel // width, pixel % width
    forest[pixel, LINK], forest[pixel, SIZE] = pixel, 1
    forest[pixel, TOP], forest[pixel, LEFT], forest[pixel, BOTTOM], forest[pixel, RIGHT] = y, x, y + 1, x + 1
    root = pixel
    for side in range(4):
        if side == 0 and y > 0:
            root = _unite(forest, root, pixel - width)
        elif side == 1 and x > 0:
            root = _unite(forest, root, pixel - 1)
        elif side == 2 and x < width - 1:
            root = _unite(forest, root, pixel + 1)
        elif side == 3 and y < height - 1:
            root = _unite(forest, root, pixel + width)
    return root


@compile_kernel
def _unite(forest: np.ndarray, root: int, neighbour: int) -> int:
    """The root of a component together with that of a neighbouring pixel, if that one has joined."""
    if forest[neighbour, LINK] < 0:
        return root
    other = neighbour
    while forest[other, LINK] != other:
        forest[other, LINK] = forest[forest[other, LINK], LINK]
        other = forest[other, LINK]
    if other == root:
        return root
    if forest[other, SIZE] > forest[root, SIZE]:
        root, other = other, root
    forest[other, LINK] = root
    forest[root, SIZE] += forest[other, SIZE]
    for side in range(2):
        forest[root, TOP + side] = min(forest[root, TOP + side], forest[other, TOP + side])
        forest[root, BOTTOM + side] = max(forest[root, BOTTOM + side], forest[other, BOTTOM + side])
    return root


@compile_kernel
def _iou(forest: np.ndarray, root: int, truths: np.ndarray, row: int) -> float:
    """IoU of a component's box with the box of the truth."""
    both, area, truth = 1, 1, 1
    for side in range(2):
        top, bottom = forest[root, TOP + side], forest[root, BOTTOM + side]
        both *= max(0, min(bottom, truths[row, 2 + side]) - max(top, truths[row, side]))
        area *= bottom - top
        truth *= truths[row, 2 + side] - truths[row, side]
    return both / (area + truth - both)
