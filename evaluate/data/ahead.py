"""Work that is done a step ahead, in a thread: the next scenes are rendered while a network is asked about these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
END: Any = object()  # what stands for the end of the items


def make_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield items in their order, while a thread makes the next one; no more than one is made ahead.

    What making an item raises is raised where that item would have come. If nobody wants further items, or the process
    is interrupted, the item at hand is finished, and no other is begun.
    """
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, END)
        while (item := coming.result()) is not END:
            coming = thread.submit(next, source, END)
            yield item
