"""The three splits of a data set, and how rows are shared out among them."""

from __future__ import annotations

from collections.abc import Sequence

SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1)  # of the first two splits; the last one has the rest


def split_sizes(count: int) -> dict[str, int]:
    """Share out a number of rows 70/10/20, without loss.

    >>> split_sizes(9)
    {'train': 6, 'val': 1, 'test': 2}
    """
    train, val = (round(share * count) for share in SHARES)
    return dict(zip(SPLITS, (train, val, count - train - val), strict=True))


def share_out(count: int, splits: Sequence[str]) -> dict[str, int]:
    """Share out a number of things, at least one for each of some splits, as near to 70/10/20 as that allows.

    >>> share_out(10, SPLITS), share_out(4, SPLITS), share_out(9, ("train", "test"))
    ({'train': 7, 'val': 1, 'test': 2}, {'train': 2, 'val': 1, 'test': 1}, {'train': 7, 'test': 2})
    """
    weights = dict(zip(SPLITS, (*SHARES, 1 - sum(SHARES)), strict=True))
    counts = dict.fromkeys(splits, 1)
    whole = sum(weights[split] for split in splits)
    for _ in range(count - len(splits)):
        neediest = max(splits, key=lambda split: weights[split] / whole * count - counts[split])
        counts[neediest] += 1
    return counts
