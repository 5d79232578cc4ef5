"""How much a Parquet file unpacks to, read off the heads of its pages, which is where pyarrow reads it as well.

Neither the head of the file nor its size tells: a list that repeats one value takes a few bytes, and over odd heads of
columns pyarrow ends the process. All heads are Thrift structures in the compact protocol.

Source: Apache Parquet, `parquet.thrift`; Apache Thrift, "Thrift compact protocol encoding".
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HEAD = 2**24  # bytes of the head of a file or a page
TAIL = 8  # bytes at the end of a file: the length of its head, and PAR1

# The numbers of fields.
ROW_GROUPS, COLUMNS, COLUMN, VALUES, COLUMN_BYTES, FIRST_PAGE, DICTIONARY_PAGE = 4, 1, 3, 5, 7, 9, 11
PAGE_BYTES, STORED_BYTES, PAGE_KINDS, PAGE_VALUES = 2, 3, {5, 7, 8}, 1


class Page(NamedTuple):
    """What the head of a page states: the bytes that it unpacks to, and the values in it."""

    unpacked: int
    values: int


def read_pages(path: Path) -> Iterator[Page]:
    """Every page of every column of a file; raises ValueError, LookupError, TypeError or RecursionError if damaged."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = len(content) - TAIL
        start = end - int.from_bytes(content[end : end + 4], "little")
        for group in CompactReader(content, max(start, 0), end).struct().get(ROW_GROUPS, []):
            for column in group[COLUMNS]:
                yield from _pages_of(content, column[COLUMN])


def _pages_of(content: mmap.mmap, column: dict[int, Any]) -> Iterator[Page]:
    if not column[VALUES]:  # its places are not set, and pyarrow reads none of its pages
        return
    place, dictionary = column[FIRST_PAGE], column.get(DICTIONARY_PAGE, 0)
    if 0 < dictionary < place:
        place = dictionary
    end = place + column[COLUMN_BYTES]
    while place < end:
        reader = CompactReader(content, place, min(end, len(content)))
        head = reader.struct()
        (kind,) = PAGE_KINDS & head.keys()
        page, stored = Page(head[PAGE_BYTES], head[kind][PAGE_VALUES]), head[STORED_BYTES]
        if min(*page, stored) < 0:
            raise ValueError("a page of negative size")
        yield page
        place = reader.place + stored


class CompactReader:
    """Reads one Thrift structure of the compact protocol: fields by their numbers, as plain Python values."""

    def __init__(self, content: mmap.mmap, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= len(content):
            raise ValueError("a head that lies outside of the file")
        self.place, self._content, self._stop = start, content, min(stop, start + HEAD)

    def struct(self) -> dict[int, Any]:
        """The fields of a structure, by number."""
        fields, number = {}, 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind)  # a truth value has no bytes of its own
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind in (7, 8):
            return self._take(8 if kind == 7 else self._natural())
        if kind in (9, 10):
            return self._list()
        if kind == 12:
            return self.struct()
        raise ValueError(f"a field of the kind {kind}")

    def _list(self) -> list[Any]:
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self._natural()
        return [self._value(head & 15) for _ in range(length)]

    def _natural(self) -> int:
        """A number of seven bits a byte, the last of which has no upper bit."""
        value = shift = 0
        while (byte := self._byte()) > 127:
            value, shift = value | (byte & 127) << shift, shift + 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
        return value | byte << shift

    def _integer(self) -> int:
        value = self._natural()
        return value >> 1 ^ -(value & 1)

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        if count > self._stop - self.place:
            raise ValueError("a head that is longer than the file")
        self.place += count
        return self._content[self.place - count : self.place]
