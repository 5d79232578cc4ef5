"""Parquet files: columns and counts are held against what is expected before anything is unpacked."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import Refusal
from .parquet_pages import read_pages
from .regular import FileKind, check_regular, megabytes, shorten

DAMAGE = (OSError, ValueError, TypeError, LookupError, RuntimeError, MemoryError, pa.ArrowException)
"""What pyarrow raises where a file is damaged."""

ROWS, ROW = 2**22, 100  # of a file, and the bytes that one takes at least
VALUE = 8  # bytes that a value takes while it is read: itself, and where in its list it stands
UNPACKED = 2**30  # bytes of all columns
NAMES, PARTS = 2**24, 2**20  # bytes of a text, and entries of a list, in the head of a file


def read_parquet(path: Path, kind: FileKind, schema: pa.Schema) -> pa.Table:
    """The table of a file with just these columns, its checksums verified; raises Refusal for any other."""
    check_regular(path, kind)
    texts = [field.name for field in schema if pa.types.is_string(field.type)]  # which may repeat a long one
    try:
        with pq.ParquetFile(
            path,
            read_dictionary=texts,
            page_checksum_verification=True,
            thrift_string_size_limit=NAMES,
            thrift_container_size_limit=PARTS,
        ) as file:
            if not file.schema_arrow.equals(_with_dictionaries(schema)):
                raise ValueError("other columns than expected")
            _check_counts(file.metadata)
            _check_memory(sum(page.unpacked + VALUE * page.values for page in read_pages(path)))
            table = file.read()
            _check_memory(sum(_text_bytes(table[name]) for name in texts))
            return table.cast(schema.with_metadata(table.schema.metadata))
    except DAMAGE as error:
        raise Refusal(f"{path}: no table, or damaged ({shorten(error)}); {kind.remedy}") from None


def _with_dictionaries(schema: pa.Schema) -> pa.Schema:
    """The schema of a table in which each text is kept once."""
    kinds = {field.name: field.type for field in schema}
    kept_once = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([(name, kept_once if pa.types.is_string(kind) else kind) for name, kind in kinds.items()])


def _text_bytes(column: pa.ChunkedArray) -> int:
    """The bytes of the texts of a column if each row has its own."""
    lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)
    return sum(pc.sum(counts.cast(pa.int64())).as_py() or 0 for counts in lengths)


def _check_memory(size: int) -> None:
    if size > UNPACKED:
        raise ValueError(f"reading it would take {megabytes(size)}")


def _check_counts(head: pq.FileMetaData) -> None:
    """Hold what the head declares against the bounds; the heads of columns are not asked, which kills on odd ones."""
    unpacked = sum(head.row_group(i).total_byte_size for i in range(head.num_row_groups))
    if head.num_rows > ROWS or unpacked > UNPACKED:
        raise ValueError(f"{head.num_rows:,} rows would take {megabytes(max(unpacked, head.num_rows * ROW))}")
