"""What a model says of changed rows whatever the map: asked once for all methods of a run, and filed beside the scores.

A file is named after all that its content depends on: rows, targets, the data set and, unless pictures are filed, the
weights of the model. A file that is damaged, or not ours, is made anew. Where the world has no folder nothing is filed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from an8flower.errors import Refusal
from an8flower.gate.regular import FileKind

from ...case import Case
from ...models.safetensors_files import LARGEST, UNWRITABLE, read_tensors, write_tensors

VERSION = 1  # of what is measured and how: raise it with any change of swaps, near classes or removals
FORMAT = "an8flower interventions 1"
INTERVENTIONS = FileKind("interventions", LARGEST, "delete it, and it is made anew")

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class AnswerFile:
    """The file for answers of one kind about some rows; without a path nothing is read or written."""

    path: Path | None
    identity: str

    @classmethod
    def of(cls, case: Case, kind: str, asks_model: bool = True) -> AnswerFile:
        """The file of a kind for the rows, the targets and, unless only pictures are filed, the model of a case."""
        assert case.world is not None, "where nothing can be rendered, nothing is changed"
        if case.world.folder is None:
            return cls(None, "")
        split, rows, targets = case.world.split, case.truth.rows.tolist(), case.query.targets.tolist()
        model = case.classifier.digest if asks_model and case.classifier is not None else None
        document = [VERSION, kind, model, split.store.fingerprint, split.name, rows, targets]
        identity = hashlib.sha256(json.dumps(document).encode()).hexdigest()
        return cls(case.world.folder / f"{kind}-{identity[:16]}.safetensors", identity)

    def read(self) -> dict[str, Tensor] | None:
        """The tensors on the CPU; None if there is no such file, or it is damaged or another one."""
        if self.path is None or not self.path.exists():
            return None
        try:
            metadata, tensors = read_tensors(self.path, INTERVENTIONS)
        except Refusal:
            return None
        return tensors if metadata == {"format": FORMAT, "identity": self.identity} else None

    def write(self, tensors: Tensors) -> None:
        """File tensors, whole or not at all."""
        if self.path is not None:
            with suppress(*UNWRITABLE):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_tensors(self.path, tensors, {"format": FORMAT, "identity": self.identity})


def measure_once(file: AnswerFile, device: torch.device, measure: Callable[[], Tensors]) -> Tensors:
    """What a file holds, on a device; where there is none it is measured and filed."""
    tensors: Tensors | None = file.read()
    if tensors is None:
        tensors = measure()
        file.write(tensors)
    return {name: tensor.to(device) for name, tensor in tensors.items()}


class KnownLogits(NamedTuple):
    """Logits (C,) by row and key, and the file in which they lie."""

    values: dict[tuple[int, int], Tensor]
    file: AnswerFile
    device: torch.device  # of the logits

    @classmethod
    def read(cls, file: AnswerFile, device: torch.device) -> KnownLogits:
        """The logits that a file holds; none where there is no file."""
        tensors = file.read()
        if tensors is None:
            return cls({}, file, device)
        pairs = zip(tensors["rows"].tolist(), tensors["keys"].tolist(), strict=True)
        return cls(dict(zip(pairs, tensors["logits"].to(device), strict=True)), file, device)

    def add(self, values: Mapping[tuple[int, int], Tensor]) -> None:
        """Add logits, and file them with what others have filed in the meantime."""
        self.values.update(values)
        if self.file.path is not None:
            everything = KnownLogits.read(self.file, self.device).values | self.values
            rows, keys = torch.tensor(list(everything)).T
            self.file.write({"rows": rows, "keys": keys, "logits": torch.stack(list(everything.values()))})
