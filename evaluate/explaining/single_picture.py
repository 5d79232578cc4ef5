"""The explanation of one picture, a row of a data set or a user's own, by any method for any model."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from an8flower.atomic import moved_into
from an8flower.errors import Refusal, WrongUsage
from an8flower.picture import Framed, frame
from an8flower.store import FlowerStore

from ..case import Query
from ..data.images import as_images
from ..explainers.fittable import Fittable
from ..models.classifier import Classifier
from ..models.networks.guard import evaluating
from ..models.sources import Source, open_model, open_source
from ..seeds import row_seed, seed_of
from .explain import explain
from .fitting import StoredExamples, fit_once
from .methods import Method
from .panel import draw_panel, draw_picture_overlay, draw_picture_panel


@dataclass(frozen=True, eq=False)
class Explanation:
    """A picture, and the map in which a method shows the evidence for a class."""

    method: str
    map: np.ndarray  # (S, S) float32 at the model's size; larger = more evidence for the target
    framed: Framed  # the picture, and the square of it that the model sees
    mask: np.ndarray | None  # (S, S) uint8: the truth, where it is known
    target: int  # the class whose evidence was asked for
    predicted: int
    probabilities: np.ndarray  # (C,) float32
    class_names: tuple[str, ...]

    @cached_property
    def overlay(self) -> Image.Image:
        """The whole picture in grey with the map over the square that the model sees."""
        return draw_picture_overlay(self.framed, self.map)

    @cached_property
    def panel(self) -> Image.Image:
        """Side by side: picture, map, overlay, and the truth if it is known."""
        if self.mask is not None:
            return draw_panel(self.framed.seen, self.map, self.mask)
        return draw_picture_panel(self.framed, self.map)

    @property
    def target_name(self) -> str:
        """The name of the class whose evidence the map shows."""
        return self.class_names[self.target]

    @property
    def predicted_name(self) -> str:
        """The name of the predicted class."""
        return self.class_names[self.predicted]

    @property
    def sentence(self) -> str:
        """A sentence that names method, target and the model's prediction."""
        chance = self.probabilities[self.predicted]
        return f"{self.method} for {self.target_name!r}; the model says {self.predicted_name!r} with p = {chance:.3f}"

    def save(self, path: str | Path) -> Path:
        """Write the panel as a picture, and the map beside it as .npy; returns where the map lies.

        Raises:
            WrongUsage: the path does not end as pictures do.
            Refusal: it cannot be written there.
        """
        path, kind = Path(path), Image.registered_extensions().get(Path(path).suffix.lower())
        beside = path.with_suffix(".npy")
        if kind not in Image.SAVE:
            raise WrongUsage(f"{path}: expected the name of a picture, as in {path.with_suffix('.png').name}")
        try:
            with moved_into(path) as unfinished:
                self.panel.save(unfinished, format=kind)
            with moved_into(beside) as unfinished, unfinished.open("wb") as file:
                np.save(file, self.map)
        except OSError as error:
            raise Refusal(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None
        return beside

    def _repr_png_(self) -> bytes:
        """The panel as PNG, which notebooks show."""
        buffer = io.BytesIO()
        self.panel.save(buffer, format="PNG")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        """The panel with its sentence as HTML, which notebooks show."""
        said = html.escape(self.sentence)
        data = base64.b64encode(self._repr_png_()).decode()
        return (
            f'<figure><img alt="Picture, map and overlay: {said}" src="data:image/png;base64,{data}">'
            f"<figcaption>{said}</figcaption></figure>"
        )


def explain_row(
    store: FlowerStore, split: str, row: int, source: Source, method: Method, target: int | None, device: torch.device
) -> Explanation:
    """Explain a row of a data set, for its label unless a target is given; the truth stands beside the map.

    A method that has to be fitted is fitted on the training split of the data set.
    """
    rows = store[split]
    if not 0 <= row < len(rows):
        raise Refusal(f"{store.path}: {split} has rows 0 to {len(rows) - 1}; asked for {row}")
    stored = rows.rows(row, row + 1)
    classifier = open_model(source, store, device)
    wanted = int(stored.labels[0]) if target is None else target
    picture = frame(Image.fromarray(stored.images[0]), classifier.size)
    seed = row_seed(0, store.digest, split, row)
    ready = _prepare_method(method, classifier, source, store)
    return _explain(classifier, picture, stored.masks[0], ready, wanted, seed)


def explain_picture(
    picture: Image.Image,
    name: str,
    source: Source,
    method: Method,
    target: int | None,
    device: torch.device,
    store: FlowerStore | None = None,
) -> Explanation:
    """Explain any RGB picture, for the predicted class unless a target is given.

    The model sees the square at the picture's centre, its shorter side whole, scaled to the model's size.

    Args:
        name: of the picture: what seeds depend on.
        store: what a method is fitted on that has to be; it also names the classes of a bare network.
    """
    classifier = open_source(source, device) if store is None else open_model(source, store, device)
    ready = _prepare_method(method, classifier, source, store)
    return _explain(classifier, frame(picture, classifier.size), None, ready, target, seed_of("explain", name))


def _prepare_method(method: Method, classifier: Classifier, source: Source, store: FlowerStore | None) -> Method:
    """Make a method ready to explain: fit it on the training split if it learns from examples."""
    if not isinstance(method.explainer, Fittable):
        return method
    if store is None:
        raise WrongUsage(f"{method.text} learns from training data before it explains; give a data set with --data")
    examples = StoredExamples(store, classifier.device)
    return method._replace(explainer=fit_once(method.explainer, classifier, examples, str(source)))


def _explain(
    classifier: Classifier, picture: Framed, mask: np.ndarray | None, method: Method, target: int | None, seed: int
) -> Explanation:
    names = classifier.class_names
    if target is not None and not 0 <= target < len(names):
        raise WrongUsage(f"--target {target}: expected 0 to {len(names) - 1}, the {len(names)} classes of the model")
    images = as_images(picture.seen[None].copy(), classifier.device)
    with evaluating(classifier), torch.no_grad():
        chances = classifier(images).softmax(1)[0].cpu()
    guessed = int(chances.argmax())
    wanted = guessed if target is None else target
    query = Query(images, torch.tensor([wanted]).to(images.device), torch.tensor([seed]).to(images.device))
    saliency = explain(classifier, method.explainer, query).maps[0].cpu().numpy()
    return Explanation(method.text, saliency, picture, mask, wanted, guessed, chances.numpy(), names)
