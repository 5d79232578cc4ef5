"""What each network that explains itself reaches beside the plain one: accuracy, time, certificate, parameters.

A row that is done is kept in the folder, with its model, and not done again: delete its .json, or the folder, for that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from certificate import shrink
from report import write

from an8flower import spec as specs
from an8flower.evaluate.data.selection import select_rows
from an8flower.evaluate.data.world import World
from an8flower.evaluate.models.classifier import build
from an8flower.evaluate.models.gradient_penalty import GradientPenalty
from an8flower.evaluate.models.sources import open_model
from an8flower.evaluate.models.training import train
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.results.statistics.intervals import Interval, share_interval
from an8flower.evaluate.results.wording import reliance
from an8flower.evaluate.trust.certificate import ROWS, certify
from an8flower.generate import generate
from an8flower.store import FlowerStore

PRESETS = ("single-6c", "double-12c")
PLAIN = "plain"
POINTS = 100


@dataclass(frozen=True)
class Variant:
    """How a network is pooled and trained, and what is asked of its accuracy."""

    pooling: str = ""
    frozen: bool = False  # the backbone and its head, which are then those of the plain network
    penalty: GradientPenalty | None = None
    least: float | None = None  # test accuracy that is asked for; None: at most one point below the plain network

    def reaches(self, accuracy: float, plain: float | None) -> bool | None:
        """Whether an accuracy is what is asked for; None if the plain network was not trained."""
        if self.least is not None:
            return accuracy >= self.least
        return None if plain is None else round(POINTS * (plain - accuracy), 9) <= 1


VARIANTS = {
    PLAIN: Variant(),
    "ca-final": Variant("ca-final"),
    "ca-stream": Variant("ca-stream"),
    "ca-stream frozen": Variant("ca-stream", frozen=True),
    "cosine penalty": Variant(penalty=GradientPenalty()),
    "protopnet": Variant("protopnet", least=0.97),
    "pipnet": Variant("pipnet", least=0.97),
}


@dataclass(frozen=True)
class Bench:
    """A data set, an architecture and a seed, whose variants are trained and certified in a folder."""

    store: FlowerStore
    arch: str
    seed: int
    folder: Path
    resources: Resources
    certified: int  # test rows

    def place(self, name: str) -> Path:
        """The file of a variant's model."""
        return self.folder / self.store.name / f"{self.arch} {name} {self.seed}.safetensors".replace(" ", "-")

    def row(self, name: str) -> dict[str, Any]:
        """The numbers of a variant: from its file if they were taken, else taken now."""
        done = self.place(name).with_suffix(".json")
        if not done.exists():
            done.parent.mkdir(parents=True, exist_ok=True)
            numbers = {**self.train(name), **self.certify(name)}
            done.write_text(json.dumps(numbers, indent=2) + "\n")
        return dict(json.loads(done.read_text()))

    def train(self, name: str) -> dict[str, Any]:
        """Train a variant and write its model; accuracy, epochs, seconds and parameters."""
        variant = VARIANTS[name]
        frozen = {"init": self.place(PLAIN), "freeze": "backbone"} if variant.frozen else {}
        arch = f"{self.arch}+{variant.pooling}" if variant.pooling else self.arch
        device = self.resources.device
        result = train(self.store, arch, seed=self.seed, device=device, penalty=variant.penalty, **frozen)
        result.classifier.save(self.place(name))
        plain = build(self.arch, self.store.class_names, self.store.size, self.seed)
        size, plain_size = (sum(p.numel() for p in each.parameters()) for each in (result.classifier, plain))
        return {
            "accuracy": vars(self.accuracy(name)),
            "epochs": result.epochs,
            "seconds": result.seconds,
            "parameters": size,
            "parameters added": size - plain_size,
            "card": result.classifier.card.data,
        }

    def accuracy(self, name: str) -> Interval:
        """The share of all test rows that the saved model gets right."""
        classifier, split = open_model(str(self.place(name)), self.store, self.resources.device), self.store["test"]
        right = []
        for rows in np.array_split(np.arange(len(split)), max(len(split) // 200, 1)):
            images = torch.from_numpy(split.take(rows).images).permute(0, 3, 1, 2).to(classifier.device).float() / 255
            right.append(classifier.predict(images).cpu().numpy() == split.labels[rows])
        return share_interval(np.concatenate(right).astype(float), seed=0)

    def certify(self, name: str) -> dict[str, Any]:
        """The certificate of a saved model, as `certify --json` has it."""
        world = World.of(self.store["test"], self.resources.device)
        classifier = open_model(str(self.place(name)), self.store, self.resources.device)
        rows = select_rows(world.split.labels, min(self.certified, len(world.split)), 0)
        return {"certificate": certify(classifier, world, rows, batch=self.resources.in_flight).document()}


def line(bench: Bench, name: str, numbers: dict[str, Any], plain: dict[str, Any] | None) -> dict[str, object]:
    """One line of the table."""
    accuracy, certificate = numbers["accuracy"]["mean"], numbers["certificate"]
    plain_accuracy = plain and plain["accuracy"]["mean"]
    wanted = VARIANTS[name].reaches(accuracy, plain_accuracy)
    return {
        "data set": bench.store.name,
        "variant": name,
        "seed": bench.seed,
        "test accuracy": share(numbers["accuracy"]),
        "points below plain": None if plain_accuracy is None else f"{POINTS * (plain_accuracy - accuracy):.2f}",
        "goal": None if wanted is None else "reached" if wanted else "missed",
        "epochs": numbers["epochs"],
        "seconds": numbers["seconds"],
        "parameters added": f"{numbers['parameters added']:,}",
        "relies on the evidence": reliance(certificate),
        "flip rate": share(certificate["flip_rate"]),
        "stability": share(certificate["stability"]),
        "evidence alone": share(certificate["evidence_alone"]),
        "all else alone": share(certificate["rest_alone"]),
        "effect of the evidence": effect(certificate),
    }


def share(values: dict[str, Any]) -> str | None:
    """A share with its interval, in per cent."""
    if values["mean"] is None:
        return None
    return f"{POINTS * values['mean']:.2f} % ({POINTS * values['low']:.2f} to {POINTS * values['high']:.2f})"


def effect(certificate: dict[str, Any]) -> str | None:
    """How far the probability of the predicted class moves if a part of the evidence is that of another class."""
    swapped = [e for e in certificate["effects"] if e["change"] == "swapped" and e["part"] in certificate["evidence"]]
    values = [(e["part"], e["probability"]["mean"]) for e in swapped]
    return ", ".join(f"{part} {mean:.3f}" for part, mean in values if mean is not None) or None


def benches(given: argparse.Namespace) -> Iterator[Bench]:
    """The data sets and seeds that are asked for; data are rendered where they are missing."""
    folder, resources = given.folder, Resources(torch.device("cpu"))
    for name in given.preset or PRESETS:
        data = folder / f"{name}.h5"
        generate(shrink(specs.load(name), given.size, given.training), data)
        for seed in given.seed or (0,):
            yield Bench(FlowerStore(data), given.arch, seed, folder, resources, given.certified)


def main() -> None:
    """Train and certify, variant by variant, and write the table anew after each."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("runs/self_explaining"), help="keeps what is done")
    options.add_argument("--only", action="append", choices=list(VARIANTS), help="may be repeated; all unless given")
    options.add_argument("--preset", action="append", help=f"may be repeated; {' and '.join(PRESETS)} unless given")
    options.add_argument("--seed", type=int, action="append", help="may be repeated; 0 unless given")
    options.add_argument("--arch", default="flowernet")
    options.add_argument("--size", type=int, default=112, help="side of the pictures in pixels")
    options.add_argument("--training", type=int, help="training rows; as the preset has them unless given")
    options.add_argument("--certified", type=int, default=ROWS, help="test rows that are certified")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    wanted, lines = given.only or list(VARIANTS), list[dict[str, object]]()
    full = given.training is None and given.size == 112 and given.arch == "flowernet"
    rows = f"{given.training:,} training rows" if given.training else "all training rows"
    about = {
        "what": f"{given.arch} with the defaults of an8flower train, {rows} of {given.size} px, "
        f"certified on {given.certified} test rows",
        "threads": given.threads,
    }
    for bench in benches(given):
        needs_plain = any(VARIANTS[name].frozen for name in wanted)
        plain = bench.row(PLAIN) if needs_plain or bench.place(PLAIN).with_suffix(".json").exists() else None
        for name in wanted:
            numbers = bench.row(name)
            plain = numbers if name == PLAIN else plain
            lines.append(line(bench, name, numbers, plain))
            write("self_explaining" if full else "self_explaining_small", lines, about)


if __name__ == "__main__":
    main()
