"""Class activation maps whose weights are scores: of masked images, or of features that lack a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from an8flower.names import check_known

from ..maps import normalise_range
from ..models.linear_stem import cut_stem
from ..models.networks.batched_passes import Network, Readout, logit, predict_perturbed, probability
from ..models.networks.features import Features, at_least_single
from ..models.streamlined import check_precision, streamline
from ..registry import explainers
from .activation_map import FAMILY, ActivationMap
from .attribution.activations import Activations, linear_after_mean
from .masked_images import SharedStem, can_share_stem, mask_images
from .ranges import SWITCH, Choices, Ranges

SCORES: dict[str, Readout] = {"logit": logit, "probability": probability}
ELEMENTS = 2**18  # numbers that the features of an image in flight may hold: 1 MiB in single precision


@explainers.register("scorecam", **FAMILY, source="Wang et al., CVPR workshops 2020", sign="positive")
@dataclass(frozen=True)
class ScoreCam(ActivationMap):
    """The class's score on the image times the channel, upsampled and scaled to [0, 1], as a mask.

    The score of a baseline, which the paper subtracts, cancels in the softmax over the channels. The authors' code is
    score=probability,channel_softmax=false. Constant channels are no masks: they get weight 0. Each distinct mask
    of an image passes through the network once.
    """

    score: str = "logit"  # or probability
    channel_softmax: bool = True  # otherwise the scores are the weights
    precision: str = "float32"  # or bf16, of the passes of masked images

    ranges: ClassVar[Ranges] = {"score": Choices(tuple(SCORES)), "channel_softmax": SWITCH}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_precision(self.precision)
        check_known("score", self.score, SCORES)

    def weights(self, seen: Activations) -> Tensor:
        """The scores (B, K, 1, 1), or their softmax over the channels that are masks."""
        scores, is_mask = self.scores(seen)
        if self.channel_softmax:
            # Not softmax, which is NaN where nothing is a mask.
            best = scores.where(is_mask, -torch.inf).amax(1, keepdim=True).nan_to_num(neginf=0.0)
            powers = (scores - best).exp().where(is_mask, 0.0)
            scores = powers / powers.sum(1, keepdim=True).clamp(min=torch.finfo(powers.dtype).tiny)
        return scores[:, :, None, None]

    @torch.no_grad()
    def scores(self, seen: Activations) -> tuple[Tensor, Tensor]:
        """The score of each channel (B, K), 0 where it is no mask, and which are masks (B, K)."""
        masks = normalise_range(seen.channels)
        is_mask = masks.amax((2, 3)) > 0
        place = first_equal(masks)
        rows, numbers = (is_mask & (place == torch.arange(place.shape[1], device=place.device))).nonzero().unbind(1)
        scores = torch.zeros_like(masks[:, :, 0, 0])
        if len(rows):
            network, perturb = self.look_through(seen, masks)
            values = predict_perturbed(network, seen.query.targets, rows, numbers, perturb, SCORES[self.score])
            scores[rows, numbers] = values.to(scores.dtype)
        return scores.gather(1, place), is_mask

    def look_through(self, seen: Activations, masks: Tensor) -> tuple[Network, Callable[[Tensor, Tensor], Tensor]]:
        """What is run for every mask, and what gives it the masked images, or their features behind its stem."""
        network = streamline(seen.classifier, self.precision)
        cut = cut_stem(network, overwriting=True)
        if can_share_stem(cut, masks):
            return cut, SharedStem(cut, seen.query, masks)
        return network, partial(mask_images, seen.query, masks)


def first_equal(masks: Tensor) -> Tensor:
    """For every mask (B, K, h, w) of an image, the number (B, K) of the first one that it equals."""
    images, count = masks.shape[:2]
    row = torch.arange(images, device=masks.device).repeat_interleave(count)
    with_row = torch.cat([row[:, None].to(masks.dtype), masks.flatten(0, 1).flatten(1)], 1)
    group = with_row.unique(dim=0, return_inverse=True)[1]
    place = torch.arange(len(group), device=group.device)
    first = torch.full_like(place, len(place)).scatter_reduce(0, group, place, "amin")
    return (first[group] - count * row).view(images, count)


@explainers.register("ablationcam", **FAMILY, source="Desai and Ramaswamy, WACV 2020", sign="positive")
@dataclass(frozen=True)
class AblationCam(ActivationMap):
    """How much the logit drops without the channel.

    Where the mean and one linear layer follow, the drop is a product; elsewhere the tail runs once for every channel
    that is not zero already.
    """

    relative: bool = False  # as a share of the logit's magnitude: the paper divides by the logit, whose sign flips maps

    ranges: ClassVar[Ranges] = {"relative": SWITCH}

    def weights(self, seen: Activations) -> Tensor:
        """The drop of the logit without each channel, (B, K, 1, 1)."""
        drops = drops_in_closed_form(seen)
        drops = drops_by_passes(seen) if drops is None else drops
        if self.relative:
            whole = logit(seen.logits(), seen.query.targets).abs()[:, None]
            drops = drops / torch.where(whole > 0, whole, 1.0)
        return drops[:, :, None, None]


def drops_in_closed_form(seen: Activations) -> Tensor | None:
    """The drop (B, K) of the logit without each channel, W_ck mean A_k; None unless the tail is mean and linear."""
    linear = linear_after_mean(seen)
    if linear is None:
        return None
    return at_least_single(linear.weight.detach()[seen.query.targets]) * seen.channels.mean((2, 3))


@torch.no_grad()
def drops_by_passes(seen: Activations) -> Tensor:
    """The drop (B, K) of the logit without each channel, by running the tail; channels of zeros are left out."""
    whole = logit(seen.logits(), seen.query.targets)
    drops = torch.zeros_like(seen.channels[:, :, 0, 0])
    rows, numbers = seen.channels.flatten(2).any(2).nonzero().unbind(1)
    for portion, which in portions(seen, rows, numbers):
        logits = seen.classifier.tail(remove_channels(seen.features, portion, which), seen.layer)
        drops[portion, which] = (whole[portion] - logit(logits, seen.query.targets[portion])).to(drops.dtype)
    return drops


def portions(seen: Activations, rows: Tensor, numbers: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of rows and channels, in portions that cost no more than the whole images that may be in flight at once.

    A portion takes no more operations than these images, and no more numbers than `ELEMENTS` for each of them.
    """
    classifier, features = seen.classifier, seen.features
    elements = sum(tensor[0].numel() for tensor in (features.values, *features.carried))
    share = classifier.share(seen.layer or classifier.target_layer).tail
    size = classifier.in_flight * min(ELEMENTS / elements, 1 / max(share, 1e-9))
    size = max(classifier.in_flight, int(size))
    return zip(rows.split(size), numbers.split(size), strict=True)


def remove_channels(features: Features, rows: Tensor, channels: Tensor) -> Features:
    """Copy the features of some rows, with one channel of each set to 0 at every position, and in every token."""
    values = features.values[rows]
    values.movedim(-1 if values.ndim == 3 else 1, 1)[torch.arange(len(rows), device=rows.device), channels] = 0
    return Features(values, tuple(tensor[rows] for tensor in features.carried))
