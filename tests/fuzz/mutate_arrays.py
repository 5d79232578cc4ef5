"""Weights, tables, arrays and pictures whose headers or contents are replaced."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from .mutate_texts import ODD_JSON

Rng = np.random.Generator
SIZES = (0, 1, 15_000, 65_535, 2**31 - 1)  # sides of a picture
DTYPES = ("F64", "F16", "BF16", "I64", "U8", "BOOL", "X9", "", "F8_E4M3")
SHAPES = ([], [0], [-1], [2**40], [2**62, 4], ["a"], None, [1, 1, 1, 1, 1, 1, 1, 1, 1])


def change_safetensors(path: Path, rng: Rng) -> str:
    """Change the card, the entry of a tensor, or the length of the header of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    words = (_change_card if rng.random() < 0.6 else _change_tensor)(header, rng)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return words


def _change_card(header: dict, rng: Rng) -> str:
    card = header["__metadata__"]
    key = list(card)[rng.integers(len(card))]
    if rng.random() < 0.15:
        del card[key]
        return f"no {key} on the card"
    card[key] = ODD_JSON[rng.integers(len(ODD_JSON))]
    return f"card's {key} = {card[key][:20]}"


def _change_tensor(header: dict, rng: Rng) -> str:
    names = [name for name in header if name != "__metadata__"]
    name, other = (names[i] for i in rng.choice(len(names), 2, replace=False))
    deed = rng.integers(5)
    if deed == 0:
        header[name]["dtype"] = DTYPES[rng.integers(len(DTYPES))]
    elif deed == 1:
        header[name]["shape"] = SHAPES[rng.integers(len(SHAPES))]
    elif deed == 2:
        header[name]["data_offsets"] = header[other]["data_offsets"]
    elif deed == 3:
        header["renamed"] = header.pop(name)
    else:
        header[name], header[other] = header[other], header[name]
    return f"tensor {name}, deed {deed}"


def change_parquet(path: Path, rng: Rng) -> str:
    """Write a valid Parquet file with other columns, types, rows or values."""
    table = pq.read_table(path)
    name = table.column_names[rng.integers(len(table.column_names))]
    deeds: dict[str, Callable[[], pa.Table]] = {
        "no column": lambda: table.drop_columns([name]),
        "column renamed": lambda: table.rename_columns([n if n != name else "other" for n in table.column_names]),
        "column of texts": lambda: _with(table, name, pa.array(["word"] * len(table))),
        "column of nulls": lambda: _with(table, name, pa.nulls(len(table))),
        "column of lists": lambda: _with(table, name, pa.array([[1.0, None]] * len(table))),
        "column of numbers": lambda: _with(table, name, pa.array(rng.choice([np.inf, np.nan, -1, 1e300], len(table)))),
        "half of the rows": lambda: table.slice(0, len(table) // 2),
        "no rows": lambda: table.slice(0, 0),
        "rows twice": lambda: pa.concat_tables([table, table]),
        "rows turned around": lambda: table.take(pa.array(range(len(table))[::-1])),
        "no metadata": lambda: table.replace_schema_metadata({}),
    }
    deed = list(deeds)[rng.integers(len(deeds))]
    pq.write_table(deeds[deed](), path)
    return f"{deed} ({name})"


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def change_npz(path: Path, rng: Rng) -> str:
    """Write an archive with an array replaced, missing, too many, or of another type or shape."""
    with np.load(path) as archive:
        arrays = dict(archive)
    name = list(arrays)[rng.integers(len(arrays))]
    values = arrays[name]
    odd = (
        np.array(None),
        np.array("word"),
        np.zeros(0),
        np.full(values.shape, np.nan),
        np.zeros((*values.shape, 2), values.dtype),
        values.astype(np.complex64) if values.dtype.kind in "iufb" else np.zeros(3, np.complex64),
        values[:1] if values.ndim else values,
        np.zeros((2000, 2000), np.uint8),
        np.zeros((3, 0, 4)),
    )
    i = int(rng.integers(len(odd) + 2))
    if i < len(odd):
        arrays[name] = odd[i]
    elif i == len(odd):
        del arrays[name]
    else:
        arrays["more"] = values
    np.savez_compressed(path, **arrays)
    return f"{name}, deed {i}"


def change_picture(path: Path, rng: Rng) -> str:
    """Give a picture an enormous size in its header, another format than its name says, or numbers of another type."""
    content = path.read_bytes()
    if content.startswith(b"\x89PNG") and rng.random() < 0.6:
        width, height = (SIZES[i] for i in rng.integers(len(SIZES), size=2))
        path.write_bytes(with_png_size(content, width, height))
        return f"{width} x {height} in the header"
    forms = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "TGA", "ICO", "PCX", "SGI", "EPS", "PDF", "DDS")
    form, mode = forms[rng.integers(len(forms))], ("RGB", "L", "F", "I", "CMYK", "LAB")[rng.integers(6)]
    written = io.BytesIO()
    try:
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).convert(mode).save(written, form)
    except (OSError, ValueError, KeyError):  # not every format holds every mode
        Image.new("F", (9, 9)).save(written, "TIFF")
    path.write_bytes(written.getvalue())
    return f"a {form} of mode {mode}"


def with_png_size(content: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says another size, with the right checksum."""
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
