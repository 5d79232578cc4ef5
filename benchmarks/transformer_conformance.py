"""How far our maps of vision transformers are from a toolkit's, and from slow second versions of the same formulas.

The second versions are those of the tests: in double precision, image by image and head by head, with every
contribution written out, or by finite differences. The networks are the tests' as well: the slow versions want small
ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
import torch
import torchcam.methods
from torch import Tensor

from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.attention_relevance import AttnLrp, CpLrp
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.maps import upsample
from an8flower.evaluate.models.classifier import Classifier

sys.path.insert(0, str(Path(__file__).parents[1]))  # where the tests are
from tests.evaluate.explainers import test_explainers_attention_gradients as gradients
from tests.evaluate.explainers import test_explainers_attention_relevance as relevance

IMAGES = 4


@dataclass(frozen=True)
class SlowPair:
    """One method of ours, and the same of somebody else, as maps (B, H, W)."""

    method: str
    peer: str
    network: Callable[[], Classifier]
    theirs: Callable[[Classifier, Query], Tensor]
    note: str = ""


def legrad_of_torchcam(classifier: Classifier, query: Query) -> Tensor:
    """TorchCAM's map before its normalisation, resized as ours is."""
    network: Any = classifier.network
    with torchcam.methods.LeGrad(network, [*network.encoder.layers]) as cam:
        scores = network(classifier.normalise(query.images))
        (maps,) = cam(query.targets.tolist(), scores, normalized=False)
    return upsample(maps.detach(), query.images)


def by_image(slow: Callable[..., Tensor]) -> Callable[[Classifier, Query], Tensor]:
    """Maps by a slow version, which explains one image in double precision."""

    def theirs(classifier: Classifier, query: Query) -> Tensor:
        classifier.network.double()
        rows = [slow(classifier, image, int(target)) for image, target in zip(*query[:2], strict=True)]
        return upsample(torch.stack(rows).float(), query.images)

    return theirs


def summed(method: Any) -> Callable[[Classifier, Query], Tensor]:
    """The slow relevance of the pixels, over the colours."""

    def theirs(classifier: Classifier, query: Query) -> Tensor:
        classifier.network.double()
        pairs = zip(*query[:2], strict=True)
        rows = [relevance.slow_relevance(classifier, image, int(target), method) for image, target in pairs]
        return torch.stack(rows).float().sum(1)

    return theirs


def tiny_relevance() -> Classifier:
    """The network of the tests of relevance, in single precision as ours wants it."""
    classifier = relevance.tiny()
    classifier.network.float()
    return classifier


RELEVANCE = "every contribution by itself"
PAIRS = (
    SlowPair("legrad", "TorchCAM LeGrad", gradients.tiny, legrad_of_torchcam, "compared before its normalisation"),
    SlowPair("legrad", "slow version", gradients.tiny, by_image(gradients.slow_legrad), "finite differences"),
    SlowPair("generic_attention", "slow version", gradients.tiny, by_image(gradients.slow_generic), "whole matrices"),
    SlowPair("attnlrp", "slow version", tiny_relevance, summed(AttnLrp()), RELEVANCE),
    SlowPair("cplrp", "slow version", tiny_relevance, summed(CpLrp()), RELEVANCE),
)


def compared() -> Iterator[dict[str, Any]]:
    """A line of the table for every pair."""
    images = torch.rand(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    query = Query(images, torch.arange(IMAGES), torch.arange(IMAGES))
    for pair in PAIRS:
        classifier = pair.network()
        ours = explain(classifier, parse_method(pair.method).explainer, query).maps
        theirs = pair.theirs(classifier, query)
        scale, apart = float(theirs.abs().max()), float((ours - theirs).abs().max())
        yield {
            "method": f"`{pair.method}`",
            "peer": pair.peer,
            "largest value": scale,
            "largest deviation": apart,
            "relative": apart / scale,
            "note": pair.note,
        }


def main() -> None:
    """Compare, and report."""
    torch.set_num_threads(1)
    about = {
        "network": "torchvision's VisionTransformer of 2 x 2 patches, two or three blocks, drawn weights",
        "images": f"{IMAGES} of noise",
        "slow version": "ours, in the tests: double precision, image by image",
        "relative": "the largest deviation of any pixel, as a share of the peer's largest value",
    }
    report.write("conformance-transformers", list(compared()), about)


if __name__ == "__main__":
    main()
