"""Images of which something is taken away, and what the network says of them: each is shown to it once.

Whoever scores maps by masking says which kinds of changed images it wants. All that are wanted of one batch, by
whatever metric, pass through the network in full portions, and what it said is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from an8flower.errors import WrongUsage
from an8flower.names import check_known

from ..case import Case, Query
from ..data.images import REPLACEMENTS, convolution_matrix
from ..maps import normalise_range
from ..models.classifier import Classifier
from ..models.networks.batched_passes import Network, predict_perturbed
from ..models.streamlined import streamline
from ..seeds import generator, seed_of


def blur_like_rise(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) blurred as RISE begins its insertion: 11 x 11 pixels, sigma 5 at 224 px, scaled to the width.

    Beyond the border the outermost pixel goes on, where RISE has the colour of the normaliser.

    Source: Petsiuk, Das and Saenko, BMVC 2018, the authors' code.
    """
    line = rise_kernel(images.shape[-1])
    down, across = (convolution_matrix(line, side).float().to(images.device) for side in images.shape[-2:])
    return (down @ images @ across.T).clamp(0, 1)  # rows of a matrix sum to one but for rounding


def rise_kernel(width: int) -> Tensor:
    """One axis of the kernel, (2 r + 1,) float64: a Gaussian mirrored at the kernel's ends; nearly a box."""
    radius = max(1, int(5 * width / 224 + 0.5))
    middle = np.zeros(2 * radius + 1)
    middle[radius] = 1
    from scipy.ndimage import gaussian_filter1d  # here, as it takes a while to load

    return torch.from_numpy(gaussian_filter1d(middle, 5 * width / 224))


# Images (B, 3, H, W) in [0, 1] -> what masked pixels become, of the same shape and range.
BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "black": REPLACEMENTS["black"],
    "mean": REPLACEMENTS["mean"],  # each image's own colour
    "blur": blur_like_rise,
}


def check_baseline(name: str) -> None:
    """Raise WrongUsage with the nearest name where there is no such baseline."""
    check_known("baseline", name, BASELINES)


class ImageChange(ABC):
    """One way to change every image of a batch. Kinds that are equal make equal images: subclasses are frozen."""

    @abstractmethod
    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The changed images (n, 3, H, W) in [0, 1] of some rows (n,)."""

    def changed_rows(self, masking: Masking) -> Tensor:
        """Which rows may have become another image, (B,) bool; the network need not see the others again."""
        return torch.ones(len(masking.maps), dtype=torch.bool, device=masking.maps.device)


@dataclass(frozen=True)
class Original(ImageChange):
    """The images as they are."""

    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The images of some rows without any change."""
        return masking.query.images.index_select(0, rows)


ORIGINAL = Original()


@dataclass(frozen=True)
class Removed(ImageChange):
    """The pixels of some ranks, from `start` up to but not including `stop`, replaced by the baseline."""

    baseline: str
    start: int
    stop: int

    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The images whose pixels of these ranks are replaced; the mask is made anew each time, which saves memory."""
        ranks = masking.ranks.index_select(0, rows)
        return masking.replace(rows, self.baseline, ((ranks >= self.start) & (ranks < self.stop)).float())


def remove_ranks(baseline: str, start: int, stop: int) -> ImageChange:
    """Replace the pixels of some ranks by the baseline; the original image if there is no such rank."""
    return Removed(baseline, start, stop) if start < stop else ORIGINAL


@dataclass(frozen=True)
class Faded(ImageChange):
    """x n(M) + r (1 - n(M)): the image where the range-normalised map is large, the baseline r where it is small."""

    baseline: str

    def images(self, masking: Masking, rows: Tensor) -> Tensor:
        """The images, each pixel as far from the baseline as its map says."""
        return masking.replace(rows, self.baseline, 1 - masking.normalised_maps.index_select(0, rows))

    def changed_rows(self, masking: Masking) -> Tensor:
        """The rows in which a faded pixel differs from the baseline; only these are shown to the network again."""
        # Rounding would tell the others apart from the original, which they look like.
        other = (masking.query.images != masking.replacement(self.baseline)).any(1)
        return ((masking.normalised_maps < 1) & other).flatten(1).any(1)


@dataclass(frozen=True, eq=False)
class Masking:
    """A batch of maps, and the network's logits of images changed by them, each computed once."""

    maps: Tensor  # (B, H, W) float32, finite
    case: Case
    _logits: dict[ImageChange, Tensor] = field(default_factory=dict)  # logits (B, C) by kind
    _replacements: dict[str, Tensor] = field(default_factory=dict)  # (B, 3, H, W) by baseline

    @classmethod
    def of(cls, maps: Tensor, case: Case) -> Masking:
        """The masking of a case by maps (B, H, W): what every metric that masks prepares."""
        return cls(maps, case)

    @property
    def query(self) -> Query:
        """The query whose answers the maps are: images, classes and seeds."""
        return self.case.query

    @property
    def pixels(self) -> int:
        """The number N of pixels in a map."""
        return self.maps[0].numel()

    @cached_property
    def network(self) -> Network:
        """The faster copy of the classifier, for every image, so that all answers are rounded alike."""
        return streamline(require_classifier(self.case.classifier))

    @cached_property
    def ranks(self) -> Tensor:
        """Each pixel's place in the order of decreasing values, (B, H, W) int32 from 0; chance orders equal ones."""
        shuffled = self._shuffle()
        order = self.maps.flatten(1).gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
        places = torch.arange(self.pixels, dtype=torch.int32, device=order.device).expand_as(order)
        return torch.empty_like(places).scatter_(1, shuffled.gather(1, order), places).view_as(self.maps)

    def _shuffle(self) -> Tensor:
        """Shuffle the pixels of each row into an order that the row's seed fixes: (B, N) int64."""
        sources = [generator(seed_of("equal pixels", seed)) for seed in self.query.seeds.tolist()]
        return torch.stack([torch.randperm(self.pixels, generator=source) for source in sources]).to(self.maps.device)

    @cached_property
    def normalised_maps(self) -> Tensor:
        """The maps, range-normalised: (B, H, W) float32 in [0, 1], zeros where a map is constant."""
        return normalise_range(self.maps.double()).float()  # in double, where no range is too wide

    def replacement(self, baseline: str) -> Tensor:
        """What masked pixels become, (B, 3, H, W) in [0, 1]."""
        if baseline not in self._replacements:
            self._replacements[baseline] = BASELINES[baseline](self.query.images)
        return self._replacements[baseline]

    def replace(self, rows: Tensor, baseline: str, gone: Tensor) -> Tensor:
        """Images (n, 3, H, W) of rows (n,), each pixel as far gone as (n, H, W) says: 0 the image, 1 the baseline."""
        # At 0 and 1 lerp is exact, and on a processor many times faster than where.
        images, instead = self.query.images, self.replacement(baseline)
        return torch.lerp(images.index_select(0, rows), instead.index_select(0, rows), gone[:, None])

    def logits(self, kinds: Sequence[ImageChange]) -> Tensor:
        """The network's logits (B, K, C) of all rows, each changed in K ways."""
        new = [kind for kind in dict.fromkeys(kinds) if kind not in self._logits]
        if new:
            changed = torch.stack([kind.changed_rows(self) for kind in new]).cpu()  # a GPU is waited for once
            if ORIGINAL not in self._logits and not changed.all():  # its answer stands for rows that are not changed
                self._ask([ORIGINAL], torch.ones(1, len(self.maps), dtype=torch.bool))
            left = [place for place, kind in enumerate(new) if kind not in self._logits]
            self._ask([new[place] for place in left], changed[left])
        return torch.stack([self._logits[kind] for kind in kinds], 1)

    def _ask(self, kinds: Sequence[ImageChange], changed: Tensor) -> None:
        """Show the network, for each kind, the rows that it changes: (K, B) bool on the CPU."""
        if not kinds:
            return
        numbers, rows = changed.nonzero().unbind(1)
        if changed.all():
            said = self._answers(kinds, numbers, rows)
            self._logits.update(zip(kinds, said.view(len(kinds), len(self.maps), -1), strict=True))
            return
        logits = self._logits[ORIGINAL].repeat(len(kinds), 1)
        if len(rows):
            places = (numbers * len(self.maps) + rows).to(logits.device)
            logits[places] = self._answers(kinds, numbers, rows)
        self._logits.update(zip(kinds, logits.view(len(kinds), len(self.maps), -1), strict=True))

    def _answers(self, kinds: Sequence[ImageChange], numbers: Tensor, rows: Tensor) -> Tensor:
        """The logits (P, C) of some rows (P,), each changed in the way of its number (P,), both on the CPU.

        Numbers come in order.
        """

        def change(rows: Tensor, numbers: Tensor) -> Tensor:
            unique, counts = numbers.unique_consecutive(return_counts=True)
            pairs = zip(unique.tolist(), rows.split(counts.tolist()), strict=True)
            return torch.cat([kinds[number].images(self, portion) for number, portion in pairs])

        there = rows.to(self.maps.device)
        return predict_perturbed(self.network, self.query.targets, there, numbers, change, lambda logits, _: logits)


def require_classifier(classifier: Classifier | None) -> Classifier:
    """The classifier of a case; raises WrongUsage if the case has none."""
    if classifier is None:
        raise WrongUsage("the case has no classifier; masked images have to be shown to one")
    return classifier


def explain_images(case: Case, images: Tensor) -> Tensor:
    """Explain other images (B, 3, H, W) of a case with the same method, for the same classes: maps (B, H, W).

    Raises WrongUsage where a case has no method to ask.
    """
    if case.explain is None:
        raise WrongUsage("the case has no method; give Case(explain=...), which maps a query to maps")
    return case.explain(case.query._replace(images=images))
