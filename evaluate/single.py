"""One picture explained: the panel as PNG, the map as .npy, and a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from an8flower.errors import Refusal
from an8flower.panel import panel
from an8flower.store import FlowerStore

from .case import Query
from .classifier import Classifier
from .explaining import explain
from .fit_files import fitted_once
from .fitting import StoredExamples
from .methods import Method, parse_method
from .models import open_model
from .resources import device_named
from .seeds import seed_of


def explain_row(
    data: Path, split: str, row: int, model: str, method: str, target: int | None, device: str, output: Path
) -> str:
    """Explain a row of a data set, for its label unless a target is given; the truth stands beside the map.

    A method that has to be fitted is fitted on the training split of the data set.
    """
    store = FlowerStore(data)
    rows = store[split]
    if row >= len(rows):
        raise Refusal(f"{data}: {split} has rows 0 to {len(rows) - 1}; asked for {row}")
    found = rows.rows(row, row + 1)
    classifier = open_model(model, store, device_named(device))
    wanted = int(found.labels[0]) if target is None else target
    return _explain(
        classifier,
        found.images[0],
        found.masks[0],
        _ready(method, classifier, model, store),
        wanted,
        seed_of("explain", 0, store.digest, split, row),
        output,
    )


def explain_image(
    image: Path, data: Path, model: str, method: str, target: int | None, device: str, output: Path
) -> str:
    """Explain any picture, scaled to the model's size, for the predicted class unless a target is given."""
    store = FlowerStore(data)
    classifier = open_model(model, store, device_named(device))
    try:
        with Image.open(image) as opened:
            picture = np.asarray(opened.convert("RGB").resize((classifier.size,) * 2, Image.Resampling.BICUBIC))
    except (OSError, Image.DecompressionBombError) as error:
        raise Refusal(f"{image}: cannot be read as a picture ({error})") from None
    ready = _ready(method, classifier, model, store)
    return _explain(classifier, picture, None, ready, target, seed_of("explain", image.name), output)


def _ready(method: str, classifier: Classifier, model: str, store: FlowerStore) -> Method:
    """A method that is ready to explain: fitted on the training split where it has to be."""
    parsed = parse_method(method)
    examples = StoredExamples(store, classifier.device)
    return parsed._replace(explainer=fitted_once(parsed.explainer, classifier, examples, model))


def _explain(
    classifier: Classifier,
    image: np.ndarray,
    mask: np.ndarray | None,
    method: Method,
    target: int | None,
    seed: int,
    output: Path,
) -> str:
    images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().div(255).to(classifier.device)
    with torch.inference_mode():
        chances = classifier(images).softmax(1)[0]
    guessed = int(chances.argmax())
    wanted = guessed if target is None else target
    query = Query(images, torch.tensor([wanted]).to(images.device), torch.tensor([seed]).to(images.device))
    saliency = explain(classifier, method.explainer, query).maps[0].cpu().numpy()
    output.parent.mkdir(parents=True, exist_ok=True)
    panel(image, saliency, mask).save(output)
    np.save(output.with_suffix(".npy"), saliency)
    names = classifier.class_names
    says = f"the model says {names[guessed]!r} with p = {chances[guessed]:.3f}"
    return f"{output}: {method.text} for {names[wanted]!r}; {says}; the map itself is in {output.with_suffix('.npy')}"
