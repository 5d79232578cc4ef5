"""How much of the evidence other parts hide: the same scene with nothing but the evidence in it."""

from __future__ import annotations

import numpy as np

from . import draw
from .evidence import evidence_parts
from .factors import PARTS
from .render import render
from .scene import Scenes, build
from .spec import DatasetSpec

AT_ONCE = 1024  # scenes rendered at a time


def occlusion(
    spec: DatasetSpec, table: np.ndarray, labels: np.ndarray, parts: np.ndarray, threads: int = 1
) -> np.ndarray:
    """The share of the evidence parts' silhouette that other parts hide, (n,) float64 in [0, 1].

    NaN where no evidence is present: the class is told by what it lacks, or the evidence lies outside the picture. What
    one evidence part hides of another is not hidden.

    Args:
        table: (n,) the factors of the rows.
        labels: (n,).
        parts: (n, S, S) uint8, the part visible at each pixel's centre.
    """
    shown = evidence_table(spec)[labels]
    hidden = np.empty(len(table))
    for start in range(0, len(table), AT_ONCE):
        batch = slice(start, start + AT_ONCE)
        scenes = build(draw.override(table[batch], {"background.kind": "plain"}))  # what lies behind hides nothing
        whole = render(keep_parts(scenes, shown[batch]), spec.size, threads)[1] > 0
        seen = np.take_along_axis(shown[batch], parts[batch].reshape(len(whole), -1).astype(np.intp), 1)
        silhouette = whole.sum((1, 2))
        hidden[batch] = np.where(silhouette > 0, 1 - seen.sum(1) / np.maximum(silhouette, 1), np.nan)
    return hidden


def evidence_table(spec: DatasetSpec) -> np.ndarray:
    """Which parts are evidence for which class, (C, P) bool by part id."""
    return np.array([[part in evidence_parts(spec, label) for part in PARTS] for label in range(spec.class_count)])


def keep_parts(scenes: Scenes, wanted: np.ndarray) -> Scenes:
    """The same scenes with the ellipsoids of some parts alone, (n, P) bool by part id."""
    owner = np.repeat(np.arange(len(wanted)), np.diff(scenes.offsets))
    keep = wanted[owner, scenes.part]
    counts = np.bincount(owner[keep], minlength=len(wanted))
    columns = ("centre", "axes", "outline", "colour", "part", "material")
    left = {name: getattr(scenes, name)[keep] for name in columns}
    return scenes._replace(offsets=np.concatenate([[0], np.cumsum(counts)]), **left)
