"""What intervention metrics cost the first method of a run, and what each further one, in a minute.

A scene with one thing changed depends on no map, so it is rendered and shown to the model once, and kept with the run;
so is the threshold of important parts, which each method has of its own. Beside it, the same methods in runs of their
own, which share nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import report
import torch

from an8flower import spec as specs
from an8flower.evaluate.data.world import World
from an8flower.evaluate.models.training import train
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring.run import ScoringPlan, score
from an8flower.generate import generate
from an8flower.store import FlowerStore

METHODS, METRICS = ("gradcam", "layercam", "eigencam"), ("family:intervention",)
ROWS, SIZE, DATA = 30, 112, {"train": 600, "val": 90, "test": 90}


class Setting(NamedTuple):
    """Data, and a network trained on them."""

    data: Path
    model: Path


class Spent(NamedTuple):
    """What a method took in a run."""

    seconds: float
    scenes: int  # rendered


def lay_out(folder: Path) -> Setting:
    """Render a small data set, and train a network on it for an epoch."""
    small = specs.load("single-6c").with_changes(size=SIZE)
    data, model = folder / "flowers.h5", folder / "net.safetensors"
    generate(small.model_copy(update={"rows": small.rows.model_copy(update=DATA)}), data)
    train(FlowerStore(data), "flowernet", epochs=1).classifier.save(model)
    return Setting(data, model)


@contextmanager
def counting() -> Iterator[list[int]]:
    """The numbers of scenes that are rendered meanwhile, one a call of the renderer."""
    rendered, render = list[int](), World.render

    def count(world: World, table: np.ndarray) -> Any:
        rendered.append(len(table))
        return render(world, table)

    World.render = count  # type: ignore[method-assign]
    try:
        yield rendered
    finally:
        World.render = render  # type: ignore[method-assign]


def spend(setting: Setting, method: str, run: Path) -> Spent:
    """Score a method within a run, with what the run already keeps."""
    plan = ScoringPlan(setting.data, (str(setting.model),), (method,), METRICS, rows=ROWS)
    began = perf_counter()
    with counting() as rendered:
        score(plan, Resources(torch.device("cpu")), run)
    return Spent(perf_counter() - began, sum(rendered))


def row(place: int, method: str, together: Spent, alone: Spent) -> dict[str, Any]:
    """A line of the table."""
    return {
        "place in the run": place,
        "method": method,
        "scenes rendered": together.scenes,
        "seconds": together.seconds,
        "in a run of its own: scenes": alone.scenes,
        "in a run of its own: seconds": alone.seconds,
    }


def main() -> None:
    """Measure and report."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        setting = lay_out(folder)
        spend(setting, "random", folder / "warm up")
        rows = [
            row(place, method, spend(setting, method, folder / "run"), spend(setting, method, folder / method))
            for place, method in enumerate(METHODS, 1)
        ]
    about = {"what": f"{METRICS[0]} of {ROWS} rows of single-6c, {SIZE} px; flowernet", "threads": 1}
    report.write("interventions", rows, about)


if __name__ == "__main__":
    main()
