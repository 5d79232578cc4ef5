"""What the lines of the ruler's table share: one data set, three small models, and what `score` says of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from an8flower import spec as specs
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.models.files import load
from an8flower.evaluate.models.training import train
from an8flower.evaluate.resources import Resources
from an8flower.evaluate.scoring.leading import DEFAULT
from an8flower.evaluate.scoring.run import ScoringPlan, score
from an8flower.generate import generate
from an8flower.store import FlowerStore

PRESET, TRAINED = "single-6c", 2400
MODELS = (("flowernet", 0, None), ("flowernet", 1, None), ("flowervit", 0, 5))  # architecture, seed, epochs
CONTROLS = ("random", "center", "edges", "mean_mask")
METHODS = (
    *("gradient", "gradient_x_input", "smoothgrad:samples=10", "guided_backprop", "gradcam", "xgradcam", "layercam"),
    *("eigencam", "lrp", "vebi", "rollout", "tibav"),
)
LEADING, DELETION = DEFAULT
CPU = Resources(torch.device("cpu"), 64)


@dataclass(frozen=True)
class RulerSetting:
    """A folder with data and models, made where they are not there yet, and how many rows are looked at."""

    folder: Path
    rows: int
    size: int

    @cached_property
    def store(self) -> FlowerStore:
        """The data set."""
        path = self.folder / f"{PRESET}-{self.size}.h5"
        if not path.exists():
            generate(specs.load(PRESET).with_changes(rows=TRAINED, size=self.size), path)
        return FlowerStore(path)

    @cached_property
    def models(self) -> list[Path]:
        """The files of the trained models."""
        return [self._train(*model) for model in MODELS]

    def classifier(self, number: int = 0) -> Classifier:
        """A trained model, by its place in MODELS."""
        return load(self.models[number])

    @cached_property
    def document(self) -> dict[str, Any]:
        """What `score` says of all methods on all models, by the leading metrics and two more."""
        metrics = (*DEFAULT, "iou", "energy_pointing")
        models = tuple(map(str, self.models))
        plan = ScoringPlan(self.store.path, models, (*METHODS, *CONTROLS), metrics, rows=self.rows)
        return score(plan, CPU, self.folder / f"scores-{self.size}-{self.rows}").document

    def boards(self) -> list[tuple[str, dict[str, Any]]]:
        """The boards of single architectures by the architecture's name."""
        boards = self.document["boards"]
        return [(next(iter(b["architectures"])), b) for b in boards if len(b["architectures"]) == 1]

    def _train(self, arch: str, seed: int, epochs: int | None) -> Path:
        path = self.folder / f"{arch}-{self.size}-seed{seed}.safetensors"
        if not path.exists():
            options = {} if epochs is None else {"epochs": epochs}
            train(self.store, arch, seed=seed, **options).classifier.save(path)
        return path
