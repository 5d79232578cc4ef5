"""How many photographs a second `an8flower plant` plants and writes, once they are decoded.

Decoding is Pillow's, and depends on the photographs; so pictures of noise, which compress worst, come from memory, and
photographs of scikit-image, cut into tiles, beside them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from report import write as write_report
from skimage import data

from an8flower.planted import Planting
from an8flower.planting import Wish, plan_marks, plant_rows
from an8flower.store import StoredRows
from an8flower.writing import Block, WritingPlan, write

ROWS, SIZE, REPEATS, WORKERS = 3000, 112, 5, 2


def cut_tiles() -> np.ndarray:
    """Tiles (ROWS, SIZE, SIZE, 3) of a photograph."""
    picture, random = data.coffee(), np.random.default_rng(0)
    corners = random.integers(0, np.array(picture.shape[:2]) - SIZE, (ROWS, 2))
    return np.stack([picture[y : y + SIZE, x : x + SIZE] for y, x in corners.tolist()])


def measure(images: np.ndarray, planting: Planting, folder: Path) -> tuple[float, float]:
    """Seconds of planting alone in one thread, and of planting and writing in `WORKERS` threads."""
    labels = np.arange(ROWS) % 4
    began = time.perf_counter()
    for start in range(0, ROWS, 256):
        part = slice(start, start + 256)
        plant_rows(images[part], labels[part], planting, Block("train", start, min(start + 256, ROWS)))
    alone = time.perf_counter() - began

    def make(block: Block) -> StoredRows:
        part = slice(block.start, block.stop)
        return plant_rows(images[part], labels[part], planting, block)

    attributes = {"name": "x", "class_names": [*"abcd"], "part_names": [], "size": SIZE}
    plan = WritingPlan(folder / "x.h5", {**attributes, "planting": planting.to_json()}, {"train": ROWS}, "x", make)
    began = time.perf_counter()
    write(plan, WORKERS)
    return alone, time.perf_counter() - began


def main() -> None:
    """Measure tiles and noise in turns and write the table."""
    planting = plan_marks(Wish(), "abcd")
    noise = np.random.default_rng(0).integers(0, 255, (ROWS, SIZE, SIZE, 3)).astype(np.uint8)
    kinds = {"tiles of a photograph": cut_tiles(), "noise": noise}
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPEATS):
            for name, images in kinds.items():
                runs[name].append(measure(images, planting, Path(folder)))
    table = []
    for name, seconds in runs.items():
        alone, written = (statistics.median(column) for column in zip(*seconds, strict=True))
        table.append({"pictures": name, "planted/s": ROWS / alone, "planted and written/s": ROWS / written})
    what = f"marks planted on {ROWS} decoded pictures of {SIZE} px, in one thread; written by {WORKERS}"
    write_report("planting", table, {"what": what, "figures": f"median of {REPEATS} runs, kinds taking turns"})


if __name__ == "__main__":
    main()
