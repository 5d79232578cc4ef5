"""explain(): the one guarded call around any explainer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from an8flower.errors import NotApplicable, Refusal, WrongUsage

from ..case import Explainer, Query
from ..models.classifier import Classifier
from ..models.costs import Cost
from ..models.networks.guard import guard
from ..registry import is_ours
from ..resources import in_flight_on, is_lack_of_double, is_out_of_memory, release_memory


class BatchExplanation(NamedTuple):
    """The saliency maps of a query, and what they cost in all."""

    maps: Tensor  # (B, H, W) float32, finite, on the images' device; larger = more evidence for the target
    cost: Cost


def explain(classifier: Classifier, explainer: Explainer, query: Query, batch: int | None = None) -> BatchExplanation:
    """Explain a query in batches; the classifier is given back as it was, whatever the explainer does.

    `batch` bounds how many images are in the network at once, those that a method makes of an image included; where it
    is None, the device decides. Where memory runs out, goes on with half of it. Works under `torch.no_grad` and
    `torch.inference_mode` too.

    Raises:
        WrongUsage: the query has other shapes, dtypes or targets than the classifier takes.
        Refusal: images that are no images; maps that are no maps; an explainer that leaves traces.
    """
    with forgetting_halves(classifier, explainer), guard(classifier, name_of(explainer)):
        return explain_lent(classifier, explainer, query, batch)


def explain_lent(
    classifier: Classifier, explainer: Explainer, query: Query, batch: int | None = None
) -> BatchExplanation:
    """Explain a query as `explain` does, with a classifier that the caller has under guard for many calls in a row."""
    check_query(classifier, query)
    batch = in_flight_on(classifier.device) if batch is None else batch
    if batch < 1:
        raise WrongUsage(f"batches of {batch} images were asked for; expected at least 1")
    maps: list[Tensor] = []
    cost, start = Cost(), 0
    while start < len(query.images):
        portion = Query(*(tensor[start : start + batch].detach().clone() for tensor in query))
        done = attempt(classifier, explainer, portion, batch)
        if done is None and batch == 1:
            raise Refusal(
                f"{name_of(explainer)} runs out of memory on one image; "
                "use a smaller model or image, or allow an audit more with --memory-limit"
            )
        if done is None:
            release_memory(classifier.device)  # not before: the error held what the explainer had in memory
            batch = (len(portion.images) if len(portion.images) > 1 else batch) // 2
            continue
        check_maps(explainer, done.maps, portion)
        check_images(explainer, portion.images, query.images[start : start + batch])
        maps.append(done.maps.detach().clone())  # a method may return one buffer again and again
        cost, start = cost + done.cost, start + len(portion.images)
    return BatchExplanation(torch.cat(maps), cost)


@contextmanager
def forgetting_halves(classifier: Classifier, explainer: object) -> Iterator[None]:
    """Lend a classifier to an explainer; halves that a stranger's code had in its hands are not used again.

    What our explainers make of the weights, such as a folded copy of the network, they make once in the block.
    """
    ours = is_ours(getattr(explainer, "explainer", explainer))  # a fitted one has its own inside
    try:
        with classifier.keeping() if ours else classifier.keeping_nothing():
            yield
    finally:
        if not ours:
            classifier.forget_halves()


def attempt(classifier: Classifier, explainer: Explainer, query: Query, in_flight: int) -> BatchExplanation | None:
    """Explain one batch and count its cost; None if memory runs out."""
    began, process = time.perf_counter(), os.getpid()
    try:
        with classifier.holding(in_flight), classifier.counting() as cost:
            maps = explainer(classifier, query)
        if os.getpid() != process:  # a copy that the explainer has forked and let go on: it would do all the rest twice
            os._exit(0)
    except NotApplicable as reason:
        if not classifier.black_box:
            raise
        raise NotApplicable(
            f"{name_of(explainer)} cannot explain {classifier.arch}: {classifier.black_box}"
        ) from reason
    except (RuntimeError, MemoryError, TypeError) as error:
        if is_lack_of_double(error):
            raise Refusal(
                f"{name_of(explainer)} computes in float64, which {query.images.device} does not know; use --device cpu"
            ) from error
        if not is_out_of_memory(error):
            raise
        return None
    if classifier.device.type == "cuda":
        torch.cuda.synchronize(classifier.device)
    cost.seconds = time.perf_counter() - began
    return BatchExplanation(maps, cost)


def check_query(classifier: Classifier, query: Query) -> None:
    """Check what every explainer may rely on: shapes, dtypes, device, pixel values and targets of a query."""
    count, size, classes = len(query.images), classifier.size, len(classifier.class_names)
    expected = (("images", (count, 3, size, size), torch.float32), ("targets", (count,), torch.int64))
    for name, shape, dtype in (*expected, ("seeds", (count,), torch.int64)):
        tensor = getattr(query, name)
        if tensor.shape != shape or tensor.dtype != dtype or tensor.device != classifier.device:
            wanted = describe_tensor(shape, dtype, classifier.device)
            raise WrongUsage(
                f"{name} are {describe_tensor(tensor.shape, tensor.dtype, tensor.device)}; expected {wanted}"
            )
    if not count:
        raise WrongUsage("the query is empty; give at least one image")
    extremes = (*query.images.aminmax(), *(extreme.float() for extreme in query.targets.aminmax()))
    low, high, least, most = torch.stack(extremes).tolist()  # in one, since a GPU has to be waited for
    if not (low >= 0 and high <= 1):  # also where one is NaN
        raise Refusal(f"images reach from {low:.3g} to {high:.3g}; expected finite values in [0, 1]")
    if least < 0 or most >= classes:
        raise WrongUsage(f"targets are {sorted(set(query.targets.tolist()))}; expected 0 to {classes - 1}, the classes")


def check_maps(explainer: Explainer, maps: Tensor, query: Query) -> None:
    """Check what every judge may rely on: shape, dtype, device and finite values of the maps."""
    images = query.images
    shape = (len(images), *images.shape[2:])
    if not isinstance(maps, Tensor):
        raise Refusal(f"{name_of(explainer)} returned {type(maps).__name__}; expected a tensor of maps {shape}")
    if maps.shape != shape or maps.dtype != torch.float32 or maps.device != images.device:
        wanted = describe_tensor(shape, torch.float32, images.device)
        raise Refusal(
            f"{name_of(explainer)} returned {describe_tensor(maps.shape, maps.dtype, maps.device)}; expected {wanted}"
        )
    if not maps.isfinite().all():
        bad = (~maps.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        raise Refusal(
            f"{name_of(explainer)} returned NaN or infinity in the maps {bad} of {len(maps)}; give zeros instead"
        )


def check_images(explainer: Explainer, images: Tensor, before: Tensor) -> None:
    """Check that the images are what they were, since the next explainer reads them too."""
    if not torch.equal(images, before):
        raise Refusal(f"{name_of(explainer)} changed its input images in place; have it work on a copy")


def describe_tensor(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> str:
    """The shape, the dtype and the device of a tensor, in words."""
    return f"{tuple(shape)} {str(dtype).removeprefix('torch.')} on {device}"


def name_of(explainer: Explainer) -> str:
    """The name of an explainer in messages."""
    return getattr(explainer, "__name__", None) or repr(explainer)
