"""The values of maps in ascending order beside their masks, and pairs counted in it, by loops that numba compiles.

Not numpy's sort: a key has few enough bits for three passes, which are faster than comparisons.
"""

from __future__ import annotations

import numpy as np

from an8flower.kernels import compile_kernel

SIGN, ONE = np.uint32(2**31), np.uint64(1)
DIGIT, LAST = np.uint64(11), np.uint64(2**11 - 1)  # bits of a digit, and its largest value
DIGITS = 3  # of a key: the 32 bits of a value, and one that says whether it is of the mask


def sort_pixels(values: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows of values, and say which are mask pixels: the last ones among equals.

    Args:
        values: (B, N) float32, infinities allowed, no NaN.
        masks: (B, N) bool.

    Returns:
        Values in ascending order, (B, N) float32, with 0 for -0; whether each is a mask pixel, (B, N) bool.
    """
    bits = np.ascontiguousarray(values + np.float32(0)).view(np.uint32)  # the sum makes -0 the 0 that it equals
    ordered, hits = np.empty_like(bits), np.empty(bits.shape, np.bool_)
    _sort(bits, np.ascontiguousarray(masks), ordered, hits)
    return ordered.view(np.float32), hits


@compile_kernel
def _sort(bits: np.ndarray, masks: np.ndarray, ordered: np.ndarray, hits: np.ndarray) -> None:
    """Fill `ordered` and `hits` (B, N) with the bits and masks (B, N), sorted within their rows."""
    rows, count = bits.shape
    keys, others = np.empty(count, np.uint64), np.empty(count, np.uint64)
    begins = np.empty((DIGITS, 2**11), np.int64)
    for row in range(rows):
        _make_keys(bits[row], masks[row], keys, begins)
        for digit in range(DIGITS):
            _sort_by_digit(keys, np.uint64(digit) * DIGIT, begins[digit], others)
            keys, others = others, keys
        _read_keys(keys, ordered[row], hits[row])


@compile_kernel
def _make_keys(bits: np.ndarray, masks: np.ndarray, keys: np.ndarray, begins: np.ndarray) -> None:
    """Fill keys (N,) that are ordered as values and then masks are, and where each digit's value begins."""
    begins[:] = 0
    for place in range(len(bits)):
        value = bits[place]
        sortable = ~value if value & SIGN else value | SIGN  # negative values come the other way round
        key = (np.uint64(sortable) << ONE) | np.uint64(masks[place])
        keys[place] = key
        for digit in range(DIGITS):
            begins[digit, (key >> (np.uint64(digit) * DIGIT)) & LAST] += 1
    for digit in range(DIGITS):
        total = 0
        for value in range(begins.shape[1]):
            total, begins[digit, value] = total + begins[digit, value], total


@compile_kernel
def _sort_by_digit(keys: np.ndarray, shift: int, begins: np.ndarray, others: np.ndarray) -> None:
    """Fill `others` with keys (N,) in the order of the digit at a shift, and as they came where it is the same."""
    for place in range(len(keys)):
        key = keys[place]
        value = (key >> shift) & LAST
        others[begins[value]] = key
        begins[value] += 1


@compile_kernel
def _read_keys(keys: np.ndarray, ordered: np.ndarray, hits: np.ndarray) -> None:
    """Fill the bits of values (N,) and whether they are mask pixels (N,) from keys."""
    for place in range(len(keys)):
        key = keys[place]
        hits[place] = key & ONE
        sortable = np.uint32(key >> ONE)
        ordered[place] = sortable ^ SIGN if sortable & SIGN else ~sortable


def count_pairs(values: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Count the pairs of a mask pixel and one outside in each row: (B, 2) int64.

    The first number is of those where the mask pixel is not less, the second of those where both have the same value.

    Args:
        values: (B, N) float32, in ascending order.
        hits: (B, N) bool, which of them are mask pixels.
    """
    pairs = np.zeros((len(values), 2), np.int64)
    _count_pairs(np.ascontiguousarray(values), np.ascontiguousarray(hits), pairs)
    return pairs


@compile_kernel
def _count_pairs(values: np.ndarray, hits: np.ndarray, pairs: np.ndarray) -> None:
    """Fill the pairs (B, 2) of sorted values (B, N) and masks (B, N), from one run of equal values to the next."""
    rows, count = values.shape
    for row in range(rows):
        outside, end = 0, 0
        while end < count:
            begin, inside = end, 0
            while end < count and values[row, end] == values[row, begin]:
                inside += hits[row, end]
                end += 1
            equal = end - begin - inside
            outside += equal
            pairs[row, 0] += inside * outside
            pairs[row, 1] += inside * equal
