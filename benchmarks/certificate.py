"""What the reliance certificate says of `flowernet` on shipped data sets, and how long it takes."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from report import write

from an8flower import spec as specs
from an8flower.evaluate.data.selection import select_rows
from an8flower.evaluate.data.world import World
from an8flower.evaluate.models.sources import open_model
from an8flower.evaluate.models.training import train
from an8flower.evaluate.resources import Resources, parse_device
from an8flower.evaluate.trust.certificate import ROWS, certify
from an8flower.generate import generate
from an8flower.store import FlowerStore

PRESETS = ("single-6c", "double-12c", "pair-12c", "absent-4c", "shortcut-6c")


def row(store: FlowerStore, model: Path, resources: Resources) -> dict[str, object]:
    """One line of the table."""
    classifier = open_model(str(model), store, resources.device)
    world = World.of(store["test"], resources.device)
    chosen = select_rows(world.split.labels, ROWS, 0)
    passes: list[int] = []
    began = time.perf_counter()
    found = certify(
        classifier, world, chosen, batch=resources.in_flight, progress=lambda done, total: passes.append(total)
    )
    return {
        "data set": store.name,
        "accuracy": f"{found.accuracy.mean:.1%}",
        "flip rate": f"{found.flip_rate.mean:.1%}",
        "stability": f"{found.stability.mean:.1%}",
        "decided by the shortcut": f"{found.shortcut.by_shortcut.mean:.1%}" if found.shortcut else None,
        "pictures": (1 + len(passes)) * len(chosen),
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    """Generate, train, certify, preset by preset; what is in the folder already is taken from there."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--preset", action="append", help="may be repeated; a choice of them unless given")
    options.add_argument("--folder", type=Path, help="keeps data and models; a temporary one unless given")
    given = options.parse_args()
    resources = Resources(parse_device("auto"))
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for name in given.preset or PRESETS:
            data, model = folder / f"{name}.h5", folder / f"{name}.safetensors"
            generate(specs.load(name), data)
            store = FlowerStore(data)
            if not model.exists():
                train(store, "flowernet", device=resources.device).classifier.save(model)
            rows.append(row(store, model, resources))
    write("certificate", rows, {"what": f"flowernet, {ROWS} test rows of 112 px", "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
