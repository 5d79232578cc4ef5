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


def row(store: FlowerStore, model: Path, resources: Resources, rows: int) -> dict[str, object]:
    """One line of the table."""
    classifier = open_model(str(model), store, resources.device)
    world = World.of(store["test"], resources.device)
    chosen = select_rows(world.split.labels, rows, 0)
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
        "evidence alone": f"{found.evidence_alone.mean:.1%}",
        "rim alone": f"{found.rim_alone.mean:.1%}",
        "all else alone": f"{found.rest_alone.mean:.1%}",
        "90 % of the effect on": f"{found.use.area.mean:.1%}",
        "pieces": f"{found.use.piece_share.mean:.1%}",
        "error": f"{found.use.error.mean:.1%}",
        "decided by the shortcut": f"{found.shortcut.by_shortcut.mean:.1%}" if found.shortcut else None,
        "pictures": (passes[0] + 2) * len(chosen),  # the rows, each question, the twins and the rows beside them
        "seconds": time.perf_counter() - began,
    }


def shrink(spec: specs.DatasetSpec, size: int, training: int | None) -> specs.DatasetSpec:
    """A spec with pictures of another size, and with fewer training rows where a number is given."""
    rows = spec.rows.model_copy(update={"train": training}) if training else spec.rows
    return spec.model_copy(update={"size": size, "rows": rows})


def main() -> None:
    """Generate, train, certify, preset by preset; what is in the folder already is taken from there."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--preset", action="append", help="may be repeated; a choice of them unless given")
    options.add_argument("--folder", type=Path, help="keeps data and models; a temporary one unless given")
    options.add_argument("--rows", type=int, default=ROWS, help="test rows that are certified")
    options.add_argument("--size", type=int, default=112, help="side of the pictures in pixels")
    options.add_argument("--training", type=int, help="training rows; as the preset has them unless given")
    given = options.parse_args()
    resources = Resources(parse_device("auto"))
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for name in given.preset or PRESETS:
            data, model = folder / f"{name}.h5", folder / f"{name}.safetensors"
            generate(shrink(specs.load(name), given.size, given.training), data)
            store = FlowerStore(data)
            if not model.exists():
                train(store, "flowernet", device=resources.device).classifier.save(model)
            rows.append(row(store, model, resources, given.rows))
    what = f"flowernet, {given.rows} test rows of {given.size} px"
    write("certificate", rows, {"what": what, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
