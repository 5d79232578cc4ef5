"""The files that are mutated: small ones of every kind, made by the commands themselves or committed in `corpus/`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.warm import WarmServer

COMMITTED = Path(__file__).with_name("corpus")
FINDINGS = COMMITTED / "findings"
MODIFIED = re.compile(rb"(\x12\x00\x08\x00\x00\x00\x00\x00\x01\x00\x00\x00)....", re.DOTALL)  # when, in HDF5
TIME = re.compile(r'("seconds": )[\d.e-]+')
PIXELS = 24  # the side of a picture
PICTURES = {
    "rgb.png": ("RGB", {}),
    "clear.png": ("RGBA", {}),
    "palette.png": ("P", {}),
    "deep.png": ("I;16", {}),
    "bits.png": ("1", {}),
    "turned.jpg": ("RGB", {"exif": "turned"}),
    "printed.jpg": ("CMYK", {}),
    "grey.jpg": ("L", {}),
    "web.webp": ("RGB", {"lossless": True}),
    "packed.tiff": ("RGB", {"compression": "tiff_deflate"}),
    "plain.bmp": ("RGB", {}),
    "moving.gif": ("P", {}),
}
MAKING = [
    "generate spec.toml -o data.hdf5",
    "generate photo.toml -o photo.hdf5",
    "shard spec.toml 1/2 -o .",
    "shard spec.toml 2/2 -o .",
    "merge tiny-1of2.h5 tiny-2of2.h5 -o merged.hdf5",
    "import images masks -o imported.hdf5",
    "audit plan.toml --engine inline --device cpu -o runs/tiny",
]


def make_corpus(server: WarmServer, folder: Path) -> None:
    """Fill a folder with one whole file of every kind; what that imports, the server has from then on."""
    for place in COMMITTED.iterdir():
        if place.is_file():
            shutil.copy(place, folder)
    make_pictures(folder)
    make_pairs(folder)
    make_photographs(folder / "photographs")
    make_model(folder / "model.safetensors")
    for words in MAKING:
        outcome = server.run(words.split(), folder, seconds=300, keep_imports=True)
        assert outcome.status == 0, outcome.stderr
    forget_times(folder)


def make_pictures(folder: Path) -> None:
    """Write a picture of each kind that is accepted."""
    pixels = np.random.default_rng(0).integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8)
    for name, (mode, options) in PICTURES.items():
        _in_mode(pixels, mode).save(folder / name, **({**options, "exif": _turned()} if "exif" in options else options))


def _in_mode(pixels: np.ndarray, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(pixels).convert(mode)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    return exif


def make_pairs(folder: Path) -> None:
    """Write pictures and masks of two classes, as `import` wants them."""
    rng = np.random.default_rng(1)
    for name in ("blue", "red"):
        for kind in ("images", "masks"):
            (folder / kind / name).mkdir(parents=True)
        for i in range(6):
            image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(folder / "images" / name / f"{i}.png")
            Image.fromarray((image[..., 0] > 200).astype(np.uint8) * 255).save(folder / "masks" / name / f"{i}.png")


def make_photographs(folder: Path) -> None:
    """Write soft pictures that lie behind the flowers of a file."""
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((30, 24)).save(folder / f"{i}.png")


def make_model(path: Path) -> None:
    """Write an untrained classifier of two classes."""
    from an8flower.evaluate.models.classifier import build

    build("flowernet", ("blue", "red"), 16, seed=0).save(path)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()  # its writer takes any order
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def forget_times(folder: Path) -> None:
    """Replace what differs from run to run, so that a seed and a number give the same bytes again."""
    merged = folder / "merged.hdf5"
    merged.write_bytes(MODIFIED.sub(rb"\1" + bytes(4), merged.read_bytes()))
    run = folder / "runs" / "tiny"
    costs = json.loads((run / "costs.json").read_text())
    (run / "costs.json").write_text(json.dumps(dict.fromkeys(costs, 0.25), indent=2) + "\n")
    for path in run.glob("scores/*.parquet"):
        table = pq.read_table(path)
        seconds = pa.array([0.25] * len(table), table.schema.field("seconds").type)
        pq.write_table(table.set_column(table.column_names.index("seconds"), table.field("seconds"), seconds), path)
    text = TIME.sub(r"\g<1>0.25", (run / "summary.json").read_text()).replace(str(folder.resolve()), "/somewhere")
    (run / "summary.json").write_text(text)
