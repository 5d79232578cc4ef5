"""Which kinds of files there are, which commands read them, and what of their results has to stay equal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import Outcome

from .corpus import PICTURES

SECONDS = re.compile(r"\d[\d.]* m?s\b")  # how long something took
TIMED = {"seconds", "cost", "costs", "machine", "versions", "command", "path"}  # keys of JSON that differ between runs
TOLERANCE = 6  # digits after the point that have to be equal


@dataclass(frozen=True)
class Command:
    """A command that reads the mutated file, `{}` in its words, and where it leaves results."""

    words: str
    weight: int  # how often it is taken, beside the others of its kind
    results: tuple[str, ...] = ()  # files
    prints: bool = True  # what it says on stdout is a result too

    def typed(self, file: str) -> list[str]:
        """The words of the command for a file."""
        return [word.replace("{}", file) for word in self.words.split()]


@dataclass(frozen=True)
class Kind:
    """Files of one kind in the corpus."""

    name: str
    files: tuple[str, ...]  # patterns of what is mutated
    beside: tuple[str, ...]  # patterns of what has to lie there too
    commands: tuple[Command, ...]
    format: str  # which mutations know its inside
    sealed: bool = True  # a command that accepts a mutant gives the results of the whole file
    weight: int = 1


SCORE = "score --method random --method gradient --metric iou --rows 2 --device cpu --json -o runs/s"
EXPLAIN = "explain --method gradient --device cpu --model model.safetensors"
NUMBERS = ("explanation.npy",)
AGAIN = Command(
    "audit plan.toml --engine inline --device cpu -o runs/tiny", 2, ("runs/tiny/summary.json",), prints=False
)
REPORT = Command("report runs/tiny", 3)
RUN = ("runs/tiny/**", "data.hdf5", "model.safetensors", "plan.toml")


def _data_commands(file: str) -> tuple[Command, ...]:
    return (
        Command(f"verify {file}", 6),
        Command(f"inspect {file} --json", 4),
        Command(f"{EXPLAIN} --data {file} --row 1", 3, NUMBERS),
        Command(f"{SCORE} --data {file} --model model.safetensors", 2),
        Command(f"inspect {file} --sheet sheet.png --rows 2", 1),
    )


KINDS = (
    Kind(
        "data",
        ("data.hdf5",),
        ("model.safetensors",),
        (
            *_data_commands("{}"),
            Command("certify --data {} --model model.safetensors --rows 4 --device cpu --json", 1),
            Command("train --data {} --epochs 1 --device cpu -o t.safetensors", 1),
        ),
        "hdf5",
        weight=10,
    ),
    Kind(
        "photographs",
        ("photo.hdf5",),
        ("model.safetensors",),
        (
            *_data_commands("{}"),
            Command("certify --data {} --model model.safetensors --rows 4 --device cpu --json", 2),
        ),
        "hdf5",
        weight=4,
    ),
    Kind("imported", ("imported.hdf5",), ("model.safetensors",), _data_commands("{}"), "hdf5", weight=2),
    Kind("merged", ("merged.hdf5",), ("model.safetensors", "tiny-*.h5"), _data_commands("{}"), "hdf5", weight=4),
    Kind(
        "shard", ("tiny-1of2.h5",), ("model.safetensors", "merged.hdf5", "tiny-*.h5"),
        (*_data_commands("merged.hdf5"), Command("merge tiny-1of2.h5 tiny-2of2.h5 -o m.hdf5", 2)), "hdf5", weight=2,
    ),
    Kind(
        "model",
        ("model.safetensors",),
        ("data.hdf5", "rgb.png"),
        (
            Command(f"{EXPLAIN} --image rgb.png", 6, NUMBERS),
            Command(f"{SCORE} --data data.hdf5 --model {{}}", 2),
            Command("certify --data data.hdf5 --model {} --rows 4 --device cpu --json", 1),
        ),
        "safetensors",
        weight=6,
    ),
    Kind("scores", ("runs/tiny/scores/*.parquet",), RUN, (AGAIN,), "parquet", weight=2),
    Kind("arrays", ("runs/tiny/pictures/*.npz",), RUN, (AGAIN, REPORT), "npz", weight=2),
    Kind("documents", ("runs/tiny/certificates/*.json", "runs/tiny/costs.json"), RUN, (AGAIN,), "json", weight=2),
    Kind("summary", ("runs/tiny/summary.json", "runs/tiny/plan.json"), RUN, (REPORT,), "json", False, weight=3),
    Kind(
        "plan", ("plan.toml",), ("data.hdf5", "model.safetensors"),
        (Command("audit plan.toml --engine inline --device cpu --rows 4 --method random --metric iou "
                 "--data data.hdf5 --model model.safetensors -o runs/p", 1),),
        "toml", False, weight=1,
    ),
    Kind(
        "spec", ("spec.toml",), (), (Command("generate {} --rows 16 --size 16 -o new.hdf5", 1),),
        "toml", False, weight=4,
    ),
    Kind(
        "picture", tuple(PICTURES), ("model.safetensors",), (Command(f"{EXPLAIN} --image {{}}", 1),),
        "picture", False, weight=6,
    ),
    Kind(
        "pair", ("images/red/0.png", "masks/blue/1.png"), ("images/**", "masks/**"),
        (Command("import images masks -o new.hdf5", 2), Command("import images masks --size 20 -o new.hdf5", 1)),
        "picture", False, weight=3,
    ),
    Kind(
        "labels", ("labels.txt", "labels.json"), ("model.safetensors", "rgb.png"),
        (Command(f"{EXPLAIN} --image rgb.png --labels {{}}", 1),), "text", False, weight=2,
    ),
)  # fmt: skip


def results_of(command: Command, outcome: Outcome, folder: Path) -> Any:
    """What a command has told and left, without what differs from run to run."""
    words = [_settle(outcome.stdout)] if command.prints else []
    return words + [_settle((folder / name).read_bytes()) for name in command.results]


def _settle(text: str | bytes) -> Any:
    try:
        return _untimed(json.loads(text))
    except (ValueError, RecursionError):
        return SECONDS.sub("", text) if isinstance(text, str) else text


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(entry) for key, entry in value.items() if key not in TIMED}
    if isinstance(value, list):
        return [_untimed(entry) for entry in value]
    return round(value, TOLERANCE) if isinstance(value, float) else value


def choose(choices: Sequence[Any], draw: Callable[[int], int]) -> Any:
    """One of the choices, each as often as its weight says; `draw(n)` gives 0 to n - 1."""
    tickets = [choice for choice in choices for _ in range(choice.weight)]
    return tickets[draw(len(tickets))]
