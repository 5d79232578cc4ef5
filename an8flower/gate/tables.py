"""Parquet files: columns and counts are held against what is expected before anything is unpacked."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import Refusal
from .regular import FileKind, check_regular, megabytes, shorten

DAMAGE = (OSError, ValueError, TypeError, LookupError, RuntimeError, MemoryError, pa.ArrowException)
"""What pyarrow raises where a file is damaged."""

ROWS, ROW = 2**22, 100  # of a file, and the bytes that one takes at least
UNPACKED = 2**30  # bytes of all columns
NAMES, PARTS = 2**24, 2**20  # bytes of a text, and entries of a list, in the head of a file


def read_parquet(path: Path, kind: FileKind, schema: pa.Schema) -> pa.Table:
    """The table of a file with just these columns, its checksums verified; raises Refusal for any other."""
    check_regular(path, kind)
    try:
        with pq.ParquetFile(
            path,
            page_checksum_verification=True,
            thrift_string_size_limit=NAMES,
            thrift_container_size_limit=PARTS,
        ) as file:
            if not file.schema_arrow.equals(schema):
                raise ValueError("other columns than expected")
            _check_counts(file.metadata)
            return file.read()
    except DAMAGE as error:
        raise Refusal(f"{path}: no table, or damaged ({shorten(error)}); {kind.remedy}") from None


def _check_counts(head: pq.FileMetaData) -> None:
    """Hold what the head declares against the bounds; the heads of columns are not asked, which kills on odd ones."""
    unpacked = sum(head.row_group(i).total_byte_size for i in range(head.num_row_groups))
    if head.num_rows > ROWS or unpacked > UNPACKED:
        raise ValueError(f"{head.num_rows:,} rows would take {megabytes(max(unpacked, head.num_rows * ROW))}")
