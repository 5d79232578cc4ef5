"""Changes to images under which a prototype should stay where it is: noise, all else drawn anew, pixels elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower import interventions
from an8flower.factors import PARTS

from ...data.images import as_images
from ...data.world import World
from ...models.classifier import Classifier
from ...models.networks.guard import evaluating
from ...results.prototype_results import Box
from ...seeds import generator, seed_of
from .locating import DECIMALS, network_of, similarity_maps

NOISE, LARGEST_NOISE = 0.2, 0.25  # of normalised images: standard deviation, and where it is cut off
SHARED = ("view", "light", "head")  # groups of factors that move a part or light it: they stay while all else changes
EPSILON, STEP, STEPS = 0.1, 0.01, 20  # of the attack on normalised images: reach, size and number of its steps
HIGH = 0.95  # quantile of an upsampled map above which pixels belong to a prototype's box
MARGIN = 10 / 224  # around that box, in units of the image's side


def add_noise(classifier: Classifier, images: Tensor, rows: np.ndarray, seed: int) -> Tensor:
    """Images (B, 3, S, S) with Gaussian noise that depends on the row alone; it may leave [0, 1].

    In the units of normalised images it has the standard deviation NOISE, and is cut off at LARGEST_NOISE.

    Source: Huang et al.: Evaluation and Improvement of Interpretability for Self-Explainable Part-Prototype Networks,
    ICCV 2023, and its public code (the cut).
    """
    seeds = [seed_of("prototype noise", seed, row) for row in rows.tolist()]
    noise = torch.stack([torch.randn(images.shape[1:], generator=generator(number)) for number in seeds])
    scaled = (NOISE * noise).clamp(-LARGEST_NOISE, LARGEST_NOISE).to(images.device)
    return images + scaled * classifier.std


def redraw_nuisance(world: World, rows: np.ndarray, seed: int) -> np.ndarray:
    """The factors (n,) of rows (n,) of the world's split with all that is left to chance drawn again."""
    names = interventions.nuisance_of(world.spec)
    table = world.factors(torch.from_numpy(rows))
    return interventions.redraw(world.spec, world.split.name, rows, table, names, seed)


def change_others(world: World, rows: np.ndarray, parts: np.ndarray, seed: int) -> np.ndarray:
    """The factors (m,) of rows (m,) with everything changed but one part of each, and where the camera and light are.

    All other parts and the background get the class factors of another class, and what is left to chance is drawn
    again. The direction of the head stays as well, since it moves the part.

    Args:
        parts: (m,) the id of the part that stays in each row; -1 changes all of them.
    """
    spec, table = world.spec, world.factors(torch.from_numpy(rows))
    names = [name for name in interventions.nuisance_of(spec) if name.partition(".")[0] not in SHARED]
    classes = [other_class(spec.class_count, label, seed, row) for row, label in _labels_of(world, rows)]
    changed = interventions.as_class(spec, table, np.array(classes, np.int64))
    changed = interventions.redraw(spec, world.split.name, rows, changed, names, seed)
    for part in np.unique(parts[parts >= 0]).tolist():
        stays = parts == part
        for name in table.dtype.names or ():
            if name.partition(".")[0] == PARTS[part]:
                changed[name][stays] = table[name][stays]
    return changed


def _labels_of(world: World, rows: np.ndarray) -> Iterator[tuple[int, int]]:
    return zip(rows.tolist(), world.split.labels[rows].tolist(), strict=True)


def other_class(classes: int, label: int, seed: int, row: int) -> int:
    """Another class than a row's label, fixed by the row's index."""
    return (label + 1 + seed_of("other class", seed, row) % max(1, classes - 1)) % classes


def render_around(world: World, rows: np.ndarray, parts: np.ndarray, seed: int) -> Tensor:
    """Pictures (m, 3, S, S) in which the pixels of one part of each row are as they were, and all others changed.

    The scene is rendered again as `change_others` says, and the part's visible pixels are laid over it, so that they
    stay exactly as they were also where something else would now hide them.

    Args:
        parts: (m,) the id of the part that stays; -1 lets nothing stay.
    """
    pictures = world.photograph(change_others(world, rows, parts, seed)).images
    indices, places = np.unique(rows, return_inverse=True)
    stored = world.split.take(indices)
    assert stored.parts is not None, "rows with a spec have part maps"
    before = as_images(stored.images[places], pictures.device)
    stays = torch.from_numpy(stored.parts[places] == parts[:, None, None]).to(pictures.device)
    return torch.where(stays[:, None], before, pictures)


def similarities_at(
    classifier: Classifier, images: Tensor, which: np.ndarray, prototypes: np.ndarray, cells: np.ndarray
) -> np.ndarray:
    """How strongly prototypes are found at cells of images (B, 3, S, S): (m,) float64.

    Args:
        which: (m,) the place of an image.
        prototypes: (m,) the number of a prototype.
        cells: (m,) the number of a cell.
    """
    network = network_of(classifier)
    with evaluating(classifier), torch.no_grad():
        maps = similarity_maps(network, classifier.normalise(images)).flatten(2)
    values: np.ndarray = maps.cpu().numpy()[which, prototypes, cells]
    return values


def high_box(similarity: Tensor, size: int) -> Box:
    """The box around the pixels with the highest similarities of a map (h, w), after upsampling to the image's size.

    They are those of at least the quantile HIGH.

    Source: Chen et al.: This Looks Like That, NeurIPS 2019 (the box that is shown of a prototype).
    """
    upsampled = F.interpolate(similarity[None, None], size=(size, size), mode="bicubic", align_corners=False)[0, 0]
    places = (upsampled >= upsampled.flatten().quantile(HIGH)).nonzero()
    (top, left), (bottom, right) = places.amin(0).tolist(), places.amax(0).tolist()
    return Box(top, left, bottom + 1, right + 1)


def attack_outside(classifier: Classifier, images: Tensor, prototypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The similarity of one prototype for each image (m, 3, S, S), before and after an attack outside of its box.

    The pixels outside of `high_box`, and a margin around it, are changed by projected gradient descent on the
    similarity at the map's maximum. Pixels may leave [0, 1], as in the authors' code.

    Returns:
        Two (m,) float64: the largest similarity of the map before, and after; NaN after if no pixel is outside.

    Source: Sacha et al.: Interpretability Benchmark for Evaluating Spatial Misalignment of Prototypical Parts
    Explanations, AAAI 2024; reach and steps are those of the authors' code. It starts at a random place, ours does not.
    """
    network, size = network_of(classifier), images.shape[2]
    chosen, rows = torch.from_numpy(prototypes).to(images.device), torch.arange(len(images), device=images.device)
    with evaluating(classifier), torch.enable_grad():
        clean = classifier.normalise(images).detach()
        with torch.no_grad():
            maps = network.locate(clean)[rows, chosen]
        outside = torch.stack([_outside(high_box(similarity, size), size) for similarity in maps.cpu()]).to(
            clean.device
        )
        change = torch.zeros_like(clean)
        for _ in range(STEPS):
            leaf = (clean + change).requires_grad_()
            strongest = network.locate(leaf)[rows, chosen].flatten(1).amax(1)
            (gradient,) = torch.autograd.grad(strongest.sum(), leaf)
            change = ((change - STEP * gradient.sign()).clamp(-EPSILON, EPSILON) * outside).detach()
        with torch.no_grad():
            attacked = network.locate(clean + change)[rows, chosen]
    before, after = (values.flatten(1).amax(1).cpu().double().numpy().round(DECIMALS) for values in (maps, attacked))
    has_outside = outside.flatten(1).any(1).cpu().numpy()
    return before, np.where(has_outside, after, np.nan)


def _outside(box: Box, size: int) -> Tensor:
    """1 in the pixels outside of a box and the margin around it, 0 inside: (1, S, S) float32."""
    margin, mask = round(MARGIN * size), torch.ones(1, size, size)
    mask[:, max(0, box.top - margin) : box.bottom + margin, max(0, box.left - margin) : box.right + margin] = 0
    return mask
