"""Pictures per second of every preset, from the factors table to images and part maps, on one thread and on two.

Then the rate on each kind of ground as a share of the plain one's: medians of ratios, two threads, in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import report

from an8flower import draw
from an8flower.album import Album, open_album
from an8flower.factors import FACTORS
from an8flower.render import render
from an8flower.scene import build
from an8flower.spec import from_mapping, load, presets

SIZE, ROWS, BLOCK, TURNS = 112, 1024, 128, 9
ON_PHOTOGRAPHS = {
    "name": "photographs",
    "size": SIZE,
    "rows": {"train": 2, "val": 2, "test": 2},
    "classes": {"petals.colour": ("red", "blue")},
    "nuisance": {"background.kind": "photo"},
    "background": {
        "images": "package:skimage.data",
        "only": ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "camera.png", "grass.png", "brick.png"),
    },
}


def pictures(table: np.ndarray, threads: int, album: Album | None = None) -> None:
    """Make all pictures of a table, block by block, as `generate` does."""
    blocks = [table[start : start + BLOCK] for start in range(0, len(table), BLOCK)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda block: render(build(block, album), SIZE, threads=1), blocks))


def seconds(work: Callable[[], object]) -> list[float]:
    """Times of several turns, after one to warm up."""
    work()
    times = []
    for _ in range(TURNS):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return times


def measure(name: str) -> dict[str, Any]:
    """One row of the report."""
    table, album = draw.factors(load(name), "train", 0, ROWS), open_album(load(name), "train")
    one, two = seconds(lambda: pictures(table, 1, album)), seconds(lambda: pictures(table, 2, album))
    return {
        "preset": name,
        "images/s, 1 thread": ROWS / median(one),
        "images/s, 2 threads": ROWS / median(two),
        "best, 2 threads": ROWS / min(two),
        "scene, us a row": 1e6 / ROWS * median(seconds(lambda: build(table, album))),
    }


def measure_grounds(kinds: list[str]) -> list[dict[str, Any]]:
    """The rate of single-6c on each kind of ground, beside that on a plain one, in turns."""
    table = draw.factors(load("single-6c"), "train", 0, ROWS)
    album = open_album(from_mapping(ON_PHOTOGRAPHS, "the benchmark"), "train")
    tables = {kind: draw.override(table, {"background.kind": kind}) for kind in kinds}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(TURNS + 1):  # the first warms up
        for kind, changed in tables.items():
            began = perf_counter()
            pictures(changed, 2, album)
            times[kind].append(perf_counter() - began)
    plain = times["plain"][1:]
    return [
        {
            "background.kind": kind,
            "images/s, 2 threads": ROWS / median(turns[1:]),
            "share of the plain rate": round(median(p / t for p, t in zip(plain, turns[1:], strict=True)), 3),
        }
        for kind, turns in times.items()
    ]


def main() -> None:
    """Measure and report."""
    about = {"size": f"{SIZE} px, 2 x 2 samples a pixel", "images": ROWS, "figures": f"medians of {TURNS} turns"}
    report.write("rendering", [measure(name) for name in presets()], about)
    report.write("grounds", measure_grounds(list(FACTORS["background.kind"].choices)), about)


if __name__ == "__main__":
    main()
