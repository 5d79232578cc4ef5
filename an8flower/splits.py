"""The three splits of a data set, and how rows are shared out among them."""

from __future__ import annotations

SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1)  # of the first two splits; the last one has the rest


def split_sizes(count: int) -> dict[str, int]:
    """Share out a number of rows 70/10/20, without loss.

    >>> split_sizes(9)
    {'train': 6, 'val': 1, 'test': 2}
    """
    train, val = (round(share * count) for share in SHARES)
    return dict(zip(SPLITS, (train, val, count - train - val), strict=True))
