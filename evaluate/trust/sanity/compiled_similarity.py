"""The loops behind similarities of maps, compiled by numba: ranks, Gaussian means, SSIM, and histograms of gradients.

All of it is one file, because numba's cache notices changes in a compiled function's own file only.
"""

from __future__ import annotations

import numpy as np

from an8flower.kernels import compile_kernel

DIGIT = 11  # bits that the radix sort looks at in one pass
UNSIGNED = {4: np.uint32, 8: np.uint64}  # by the bytes of a float
C1, C2 = 0.01**2, 0.03**2  # SSIM's constants


def rank_rows(values: np.ndarray) -> np.ndarray:
    """Rank the values within each row of (N, P) floats, from 0, as float64; equal values share their mean rank."""
    kind = UNSIGNED[values.dtype.itemsize]
    bits = np.ascontiguousarray(values + values.dtype.type(0)).view(kind)  # the sum makes -0 the 0 that it equals
    ranks = np.empty(values.shape)
    _rank(bits, kind(8 * values.dtype.itemsize - 1), kind(1), kind(DIGIT), ranks)
    return ranks


@compile_kernel
def _rank(bits: np.ndarray, last: int, one: int, digit: int, ranks: np.ndarray) -> None:
    """Fill ranks (N, P) of floats that came as their bits, by a stable radix sort of each row.

    `last` is the place of the sign bit; the numbers come in the type of the bits, so that nothing is widened.
    """
    rows, count = bits.shape
    keys, others = np.empty(count, bits.dtype), np.empty(count, bits.dtype)
    order, other_order = np.empty(count, np.int32), np.empty(count, np.int32)
    begins = np.empty(int(one << digit), np.int32)
    for row in range(rows):
        _make_sortable(bits[row], one << last, keys, order)
        shift = one - one
        for _ in range((last + digit) // digit):
            if _sort_by_digit(keys, order, shift, begins, others, other_order):
                keys, others, order, other_order = others, keys, other_order, order
            shift += digit
        _share_ranks(keys, order, ranks[row])


@compile_kernel
def _make_sortable(bits: np.ndarray, sign: int, keys: np.ndarray, order: np.ndarray) -> None:
    """Fill keys (P,) that are ordered as the floats with these bits are, and the order (P,) in which they stand."""
    for place in range(len(bits)):
        key = bits[place]
        keys[place] = ~key if key & sign else key | sign  # negative floats come the other way round
        order[place] = place


@compile_kernel
def _sort_by_digit(
    keys: np.ndarray, order: np.ndarray, shift: int, begins: np.ndarray, others: np.ndarray, other_order: np.ndarray
) -> bool:
    """Sort keys stably by the digit at a shift, into other arrays; False, and nothing is done, if all have the same."""
    mask = keys.dtype.type(len(begins) - 1)
    begins[:] = 0
    for place in range(len(keys)):
        begins[(keys[place] >> shift) & mask] += 1
    if begins[(keys[0] >> shift) & mask] == len(keys):
        return False
    total = 0
    for number in range(len(begins)):
        total, begins[number] = total + begins[number], total
    for place in range(len(keys)):
        key = keys[place]
        number = (key >> shift) & mask
        others[begins[number]], other_order[begins[number]] = key, order[place]
        begins[number] += 1
    return True


@compile_kernel
def _share_ranks(keys: np.ndarray, order: np.ndarray, ranks: np.ndarray) -> None:
    """Fill the ranks (P,) of sorted keys, at the places that they came from."""
    first = 0
    while first < len(keys):
        end = first + 1
        while end < len(keys) and keys[end] == keys[first]:
            end += 1
        for place in range(first, end):
            ranks[order[place]] = (first + end - 1) / 2
        first = end


def gaussian_means(values: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Average (N, H, W) float64 under a window of taps (T,) each way: (N, h, w), where the whole window lies inside."""
    means = np.empty((len(values), values.shape[1] - len(taps) + 1, values.shape[2] - len(taps) + 1))
    _average(np.ascontiguousarray(values), taps, means)
    return means


@compile_kernel
def _average(values: np.ndarray, taps: np.ndarray, means: np.ndarray) -> None:
    down = np.empty(values.shape[2])
    for row in range(len(values)):
        for line in range(means.shape[1]):
            _average_line(values[row, line : line + len(taps)], taps, down, means[row, line])


@compile_kernel
def _average_line(lines: np.ndarray, taps: np.ndarray, down: np.ndarray, mean: np.ndarray) -> None:
    """Average as many lines as there are taps, into `down` (W,), and that along itself, into `mean` (w,)."""
    down[:] = 0
    for tap in range(len(taps)):
        for column in range(len(down)):
            down[column] += taps[tap] * lines[tap, column]
    mean[:] = 0
    for tap in range(len(taps)):
        for column in range(len(mean)):
            mean[column] += taps[tap] * down[tap + column]


def structural_similarities(
    ours: np.ndarray, theirs: np.ndarray, our_means: np.ndarray, their_means: np.ndarray, taps: np.ndarray
) -> np.ndarray:
    """Compute SSIM (N,) of images (N, H, W) float64 from 0 to 1, with sample covariances.

    The means (N, 2, h, w) are the Gaussian ones of the values and of their squares, under the same taps.
    """
    values = np.empty(len(ours))
    _compare(ours, theirs, our_means, their_means, taps, values)
    return values


@compile_kernel
def _compare(
    ours: np.ndarray,
    theirs: np.ndarray,
    our_means: np.ndarray,
    their_means: np.ndarray,
    taps: np.ndarray,
    values: np.ndarray,
) -> None:
    height, width = our_means.shape[2], our_means.shape[3]
    down, mean, products = np.empty(ours.shape[2]), np.empty(width), np.empty((ours.shape[1], ours.shape[2]))
    for row in range(len(values)):
        _multiply(ours[row], theirs[row], products)
        total = 0.0
        for line in range(height):
            _average_line(products[line : line + len(taps)], taps, down, mean)
            total += _compare_line(our_means[row], their_means[row], line, mean, len(taps))
        values[row] = total / (height * width)


@compile_kernel
def _multiply(ours: np.ndarray, theirs: np.ndarray, products: np.ndarray) -> None:
    """Fill the products (H, W) of two images; a loop is compiled sooner than numpy's own product."""
    for line in range(products.shape[0]):
        for column in range(products.shape[1]):
            products[line, column] = ours[line, column] * theirs[line, column]


@compile_kernel
def _compare_line(ours: np.ndarray, theirs: np.ndarray, line: int, mean: np.ndarray, taps: int) -> float:
    """Add up SSIM along a line, of means of values and squares (2, h, w) each, and of the line's products (w,)."""
    unbiased, total = taps**2 / (taps**2 - 1.0), 0.0
    for column in range(len(mean)):
        our, their = ours[0, line, column], theirs[0, line, column]
        squares = ours[1, line, column] + theirs[1, line, column]
        product, power = our * their, our * our + their * their
        spread, shared = unbiased * (squares - power), unbiased * (mean[column] - product)
        total += (2 * product + C1) * (2 * shared + C2) / ((power + C1) * (spread + C2))
    return total


def sum_gradients(images: np.ndarray, cell: int, orientations: int) -> np.ndarray:
    """Add up the lengths of gradients in each cell, by direction: (N, rows, columns, orientations) float64.

    Images are (N, H, W) float64. Gradients point one way or the other along a direction; at the rim, a gradient across
    it is 0. What overhangs the cells is left out.
    """
    sums = np.zeros((len(images), images.shape[1] // cell, images.shape[2] // cell, orientations))
    angles = np.arange(1, orientations) * np.pi / orientations
    _sum_gradients(np.ascontiguousarray(images), cell, np.cos(angles), np.sin(angles), sums)
    return sums


@compile_kernel
def _sum_gradients(images: np.ndarray, cell: int, cosines: np.ndarray, sines: np.ndarray, sums: np.ndarray) -> None:
    inside = sums.shape[2] * cell
    downs, rights, lengths = np.empty(inside), np.empty(inside), np.empty(inside)
    directions = np.empty(inside, np.int64)
    for row in range(len(images)):
        for line in range(sums.shape[1] * cell):
            _take_gradients(images[row], line, downs, rights)
            _measure_gradients(downs, rights, cosines, sines, lengths, directions)
            for column in range(inside):
                sums[row, line // cell, column // cell, directions[column]] += lengths[column]


@compile_kernel
def _take_gradients(image: np.ndarray, line: int, downs: np.ndarray, rights: np.ndarray) -> None:
    """Fill the differences (w,) down and to the right along a line of an image (H, W), 0 at the rim across it."""
    height, width = image.shape
    downs[:], rights[:] = 0, 0
    if 0 < line < height - 1:
        for column in range(len(downs)):
            downs[column] = image[line + 1, column] - image[line - 1, column]
    for column in range(1, min(len(rights), width - 1)):
        rights[column] = image[line, column + 1] - image[line, column - 1]


@compile_kernel
def _measure_gradients(
    downs: np.ndarray,
    rights: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    lengths: np.ndarray,
    directions: np.ndarray,
) -> None:
    """Fill the lengths (w,) and the directions' numbers (w,) of gradients, which are turned upwards in place."""
    for column in range(len(downs)):
        down, right = downs[column], rights[column]
        lengths[column] = np.sqrt(down * down + right * right)
        turn = down < 0 or (down == 0 and right < 0)
        downs[column], rights[column] = -down if turn else down, -right if turn else right
        directions[column] = 0
    for angle in range(len(cosines)):  # a direction's number is how many of the angles it lies past
        for column in range(len(downs)):
            directions[column] += downs[column] * cosines[angle] >= rights[column] * sines[angle]
