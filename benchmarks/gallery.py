"""Every method on the same six flowers, in one picture to look at: `python benchmarks/gallery.py DATA MODEL PICTURE`.

The first strip shows the flowers with their evidence; each other strip the maps of one method laid over them, evidence
for the class only, each map scaled to its own largest value.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from an8flower.errors import NotApplicable
from an8flower.evaluate.case import Query
from an8flower.evaluate.data.selection import select_rows
from an8flower.evaluate.explainers.fittable import Examples
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.fitting import StoredExamples, prepare
from an8flower.evaluate.explaining.methods import Method, parse_methods
from an8flower.evaluate.explaining.panel import colour
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.models.sources import open_model
from an8flower.sheet import mark_evidence
from an8flower.store import FlowerStore

FLOWERS, SIDE, GAP, ACROSS, LINE = 6, 84, 3, 3, 16


def strip(pictures: list[np.ndarray], title: str) -> Image.Image:
    """A title above pictures side by side."""
    sheet = Image.new("RGB", (FLOWERS * (SIDE + GAP) + 2 * GAP, SIDE + LINE + 2 * GAP), "white")
    ImageDraw.Draw(sheet).text((GAP, GAP), title, "black", ImageFont.load_default(12))
    for i, picture in enumerate(pictures):
        tile = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(tile, (GAP + i * (SIDE + GAP), LINE + GAP))
    return sheet


def overlaid(image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """A map over the grey picture."""
    grey = image.mean(2, keepdims=True)
    return (0.35 * grey + 0.65 * colour(saliency.clip(min=0))).clip(0, 255).astype(np.uint8)


def explained(
    classifier: Classifier, method: Method, query: Query, images: np.ndarray, examples: Examples
) -> Image.Image | None:
    """The strip of one method; None where it does not apply."""
    began = perf_counter()
    try:
        explainer = prepare(method.explainer, classifier, examples)
        maps = explain(classifier, explainer, query).maps.cpu().numpy()
    except NotApplicable as reason:
        print(f"{method.text}: {reason}")
        return None
    print(f"{method.text}: {perf_counter() - began:.1f} s", flush=True)
    return strip([overlaid(*pair) for pair in zip(images, maps, strict=True)], method.text)


def arranged(strips: list[Image.Image]) -> Image.Image:
    """Strips in a few columns, from top to bottom."""
    down = -(-len(strips) // ACROSS)
    width, height = strips[0].size
    sheet = Image.new("RGB", (ACROSS * (width + 4 * GAP), down * height), "white")
    for i, each in enumerate(strips):
        sheet.paste(each, ((i // down) * (width + 4 * GAP), i % down * height))
    return sheet


def main(data: str, model: str, picture: str, *methods: str) -> None:
    """Explain and draw."""
    store = FlowerStore(data)
    rows = store["test"].take(select_rows(store["test"].labels, FLOWERS, 0))
    classifier = open_model(model, store, torch.device("cpu"))
    images = torch.from_numpy(rows.images).permute(0, 3, 1, 2).float().div(255).contiguous()
    query = Query(images, torch.from_numpy(rows.labels), torch.arange(FLOWERS))
    examples = StoredExamples(store, classifier.device)
    strips = [strip([mark_evidence(*pair) for pair in zip(rows.images, rows.masks, strict=True)], "the evidence")]
    for method in parse_methods(methods or ["all"]):
        strips += filter(None, [explained(classifier, method, query, rows.images, examples)])
    arranged(strips).save(Path(picture), optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
