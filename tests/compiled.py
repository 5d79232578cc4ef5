"""The loops that numba compiles, compiled at the start of a test run for all workers, which would each compile them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from an8flower import draw, spec
from an8flower.evaluate.data.counted_noise_loop import fill_uniform
from an8flower.evaluate.metrics.components import best_overlaps, largest_boxes
from an8flower.evaluate.metrics.sorted_pixels import count_pairs, sort_pixels
from an8flower.evaluate.trust.sanity.compiled_similarity import (
    gaussian_means,
    rank_rows,
    structural_similarities,
    sum_gradients,
)
from an8flower.generate import generate
from an8flower.render import to_srgb_bytes
from an8flower.scene import build
from an8flower.scenery import paint_grounds

ROOT = Path(__file__).parents[1]
SIZE = 16  # of pictures


@contextmanager
def start_compiling() -> Iterator[None]:
    """Compile in processes of their own, which fill numba's cache while the workers collect tests."""
    with ExitStack() as stack:
        for half in HALVES:
            stack.enter_context(subprocess.Popen([sys.executable, "-m", "tests.compiled", half], cwd=ROOT, stdout=2))
        yield


def compile_pictures() -> None:
    """What renders plants, and what marks parts by what other pictures show."""
    with tempfile.TemporaryDirectory() as folder:
        for preset in ("single-6c", "absent-4c", "shape-6c"):
            generate(spec.load(preset).with_changes(rows=60, size=SIZE), Path(folder) / f"{preset}.h5", workers=1)


def compile_the_rest() -> None:
    """What paints grounds, and what is computed of maps, in the types in which they come."""
    scenes = build(draw.factors(spec.load("natural-12c"), "train", 0, 60))
    colours, images = to_srgb_bytes(scenes.backdrop), np.zeros((60, SIZE, SIZE, 3), np.uint8)
    paint_grounds(images, scenes.kind, colours, scenes.texture, scenes.ground, slice(0, 60))
    levels, maps, taps = np.zeros((1, 8, 8), np.int64), np.zeros((1, 8, 8)), np.ones(3)
    largest_boxes(levels, 2)
    best_overlaps(levels, 2, np.array([[0, 0, 4, 4]]))
    means = np.stack([gaussian_means(maps, taps)] * 2, 1)
    structural_similarities(maps, maps, means, means, taps)
    sum_gradients(maps, 2, 9)
    count_pairs(*sort_pixels(np.zeros((1, 8), np.float32), np.zeros((1, 8), bool)))
    for kind in (np.float32, np.float64):
        rank_rows(np.zeros((1, 8), kind))
    fill_uniform(np.zeros((1, 1, 4, 1), np.float32), np.zeros(1, np.int64), np.zeros(1, np.int64), 0)


HALVES = {"pictures": compile_pictures, "rest": compile_the_rest}

if __name__ == "__main__":
    HALVES[sys.argv[1]]()
