"""What `flowernet` reaches on each shipped data set, and how long it takes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from report import write

from an8flower import spec as specs
from an8flower.evaluate.models.training import train
from an8flower.evaluate.resources import parse_device
from an8flower.generate import generate
from an8flower.store import FlowerStore


def main() -> None:
    """Generate, train and tell, preset by preset."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--arch", default="flowernet")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--preset", action="append", help="may be repeated; all unless given")
    given = options.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.preset or specs.presets():
            path = Path(folder) / f"{name}.h5"
            generate(specs.load(name), path)
            trained = train(FlowerStore(path), given.arch, seed=given.seed, device=parse_device("auto"))
            rows.append(
                {
                    "data set": name,
                    "arch": given.arch,
                    "test accuracy": f"{trained.accuracy:.2%}",
                    "epochs": trained.epochs,
                    "seconds": trained.seconds,
                }
            )
    about = {
        "what": "an8flower train with its defaults, 4,200 training rows of 112 px",
        "threads": torch.get_num_threads(),
    }
    write("training", rows, about)


if __name__ == "__main__":
    main()
