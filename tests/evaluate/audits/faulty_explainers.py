"""Methods of somebody's own that go wrong in every way, and two that are well."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from an8flower.evaluate.case import Case, Query
from an8flower.evaluate.metrics.metric import Metric
from an8flower.evaluate.models.classifier import Classifier
from an8flower.evaluate.registry import metrics, register_metric

HELD: list[Tensor] = []
MODES: list[Any] = []


@dataclass(frozen=True)
class Well:
    """The brightness, which is the same in batches of any size."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        self.before(classifier, query)
        return query.images.mean(1)

    def before(self, classifier: Classifier, query: Query) -> None:
        """What goes wrong."""


@dataclass(frozen=True)
class Slow(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        time.sleep(0.5)


@dataclass(frozen=True)
class Raises(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        raise ValueError("no such layer: conv9")


@dataclass(frozen=True)
class Hangs(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        while True:
            pass


@dataclass(frozen=True)
class GivesNan(Well):
    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        return query.images.mean(1).fill_(torch.nan)


@dataclass(frozen=True)
class Leaks(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        while True:
            HELD.append(torch.zeros(2**24))


@dataclass(frozen=True)
class Mutates(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        query.images.zero_()


@dataclass(frozen=True)
class Dies(Well):
    def before(self, classifier: Classifier, query: Query) -> None:
        os._exit(0)


@dataclass(frozen=True)
class WantsSmallBatches(Well):
    """A GPU without room for more than three images."""

    def before(self, classifier: Classifier, query: Query) -> None:
        if len(query.images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


# What follows gives good maps, but leaves the model or the process changed.


class Amplified(nn.ReLU):
    """A class that a module is made an instance of."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 3


class Halving(TorchFunctionMode):
    """A mode in which rectified values are half as large."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        return output / 2 if getattr(func, "__name__", "").startswith("relu") else output


def layer_of(classifier: Classifier, kind: type[nn.Module]) -> Any:
    """The first layer of a kind."""
    return next(module for module in classifier.modules() if isinstance(module, kind))


def scale_weights(classifier: Classifier) -> None:
    with torch.no_grad():
        for weights in classifier.parameters():
            weights.mul_(0.7)


def scale_data(classifier: Classifier) -> None:
    """Past autograd's counter of versions."""
    for weights in classifier.parameters():
        weights.data.mul_(0.7)


def sample_dropout(classifier: Classifier) -> None:
    """Monte Carlo dropout, as it is often written: running statistics move."""
    classifier.train()
    classifier(torch.rand(4, 3, classifier.size, classifier.size, generator=torch.Generator().manual_seed(1)))
    classifier.eval()


def replace_parameter(classifier: Classifier) -> None:
    layer = layer_of(classifier, nn.Conv2d)
    layer.weight = nn.Parameter(layer.weight.detach() * 0.5)


def replace_forward(classifier: Classifier) -> None:
    layer = layer_of(classifier, nn.ReLU)
    layer.forward = lambda images: images.clamp(min=0) * 3


def keep_changing(classifier: Classifier) -> None:
    """A thread that goes on changing weights when the method has long returned."""
    weights = next(classifier.parameters())

    def change() -> None:
        for _ in range(400):
            time.sleep(0.005)
            with torch.no_grad():
                weights.mul_(0.9)

    threading.Thread(target=change, daemon=True).start()


def tamper_with_halves(classifier: Classifier) -> None:
    halves: Any = classifier.split(classifier.target_layer)
    tail = halves._tail
    halves._tail = lambda *inputs: tail(*(values * 0.1 for values in inputs))


def patch_class(classifier: Classifier) -> None:
    kind = type(classifier.network)
    forward = kind.forward
    kind.forward = lambda self, images: forward(self, images) * -1  # type: ignore[method-assign]


def add_global_hook(classifier: Classifier) -> None:
    nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: output * 2 if isinstance(module, nn.ReLU) else None
    )


def enter_inference_mode(classifier: Classifier) -> None:
    MODES.append(torch.inference_mode())
    MODES[-1].__enter__()


def patch_relu(classifier: Classifier) -> None:
    torch.relu = lambda images: images * 0  # type: ignore[assignment]
    F.relu = lambda images, inplace=False: images * 0  # type: ignore[assignment]
    nn.ReLU.forward = lambda self, images: images * 0  # type: ignore[method-assign]


LEAVES: dict[str, tuple[str, Callable[[Classifier], object]]] = {
    "weights": ("weights or buffers", scale_weights),
    "data": ("weights or buffers", scale_data),
    "dropout": ("weights or buffers", sample_dropout),
    "mean": ("weights or buffers", lambda classifier: classifier.mean.add_(0.2)),
    "parameter": ("parameters", replace_parameter),
    "forward": ("attributes of modules", replace_forward),
    "class": ("classes of modules", lambda classifier: setattr(layer_of(classifier, nn.ReLU), "__class__", Amplified)),
    "code": ("code of modules", patch_class),
    "eps": ("attributes of modules", lambda classifier: setattr(layer_of(classifier, nn.BatchNorm2d), "eps", 10.0)),
    "stride": ("attributes of modules", lambda classifier: setattr(layer_of(classifier, nn.Conv2d), "padding", (2, 2))),
    "layer": ("attributes of modules", lambda classifier: setattr(classifier, "target_layer", "network.0")),
    "card": ("attributes of modules", lambda classifier: classifier.card.data.update(name="other")),
    "halves": ("halves of the network", tamper_with_halves),
    "hook": ("global module hooks", add_global_hook),
    "relu": ("functions of torch", patch_relu),
    "mode": ("the stack of torch's function modes", lambda classifier: Halving().__enter__()),
    "dtype": ("the default dtype", lambda classifier: torch.set_default_dtype(torch.float64)),
    "device": ("the default device", lambda classifier: torch.set_default_device("meta")),
    "threads": ("the number of threads", lambda classifier: torch.set_num_threads(7)),
    "grad": ("grad mode", lambda classifier: torch._C._set_grad_enabled(False)),
    "inference": ("inference mode", enter_inference_mode),
    "autocast": ("autocast", lambda classifier: torch.autocast("cpu").__enter__()),
    "anomaly": ("anomaly mode", lambda classifier: torch.autograd.set_detect_anomaly(True)),
    "algorithms": ("torch's choice of algorithms", lambda classifier: torch.use_deterministic_algorithms(True)),
    "denormals": ("the treatment of denormal numbers", lambda classifier: torch.set_flush_denormal(True)),
    "saved": (
        "the default hooks of saved tensors",
        lambda classifier: torch.autograd.graph.saved_tensors_hooks(lambda t: t * 0, lambda t: t).__enter__(),
    ),
    "numpy": ("numpy's handling of errors", lambda classifier: np.seterr(all="raise")),
    "folder": ("the current folder", lambda classifier: os.chdir("/")),
}
"""What is left changed, as the reason names it, and the code that does it."""


@dataclass(frozen=True)
class Leaves(Well):
    """Good maps, and one thing left changed."""

    what: str = "weights"

    def before(self, classifier: Classifier, query: Query) -> None:
        LEAVES[self.what][1](classifier)


@dataclass(frozen=True)
class LeavesThread(Well):
    """Good maps, and a thread that goes on."""

    def before(self, classifier: Classifier, query: Query) -> None:
        keep_changing(classifier)


@dataclass(frozen=True)
class SameBuffer(Well):
    """One buffer for all maps that it ever gives."""

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        buffer = BUFFERS.setdefault(query.images.shape, torch.empty_like(query.images[:, 0]))
        return torch.mean(query.images, 1, out=buffer)


BUFFERS: dict[torch.Size, Tensor] = {}


# Metrics of somebody's own.


def average(maps: Tensor, case: Case) -> Tensor:
    """The mean of a map, squashed."""
    return maps.mean((1, 2)).sigmoid()


def broken(maps: Tensor, case: Case) -> Tensor:
    raise ValueError("no such curve")


def infinite(maps: Tensor, case: Case) -> Tensor:
    return average(maps, case) / 0


def write_everywhere(maps: Tensor, case: Case) -> Tensor:
    scores = average(maps, case)
    maps.zero_()
    case.truth.masks.zero_()
    case.query.images.zero_()
    return scores


def scale_model(maps: Tensor, case: Case) -> Tensor:
    if case.classifier is not None:
        scale_weights(case.classifier)
    torch.set_default_dtype(torch.float64)
    return average(maps, case)


SCORES: dict[str, tuple[str, Callable[[Tensor, Case], Any]]] = {
    "broken": ("ValueError: no such curve", broken),
    "infinite": ("from inf to inf; expected 0 to 1", infinite),
    "huge": ("from 3e+38", lambda maps, case: average(maps, case) * 0 + 3e38),
    "outside": ("from 9.3 to 9.3", lambda maps, case: average(maps, case) * 0 + 9.3),
    "column": ("expected (12,), one value a row", lambda maps, case: average(maps, case)[:, None]),
    "few": ("expected (12,), one value a row", lambda maps, case: average(maps, case)[1:]),
    "whole": ("returned int64", lambda maps, case: (average(maps, case) > 0).long()),
    "list": ("returned list", lambda maps, case: average(maps, case).tolist()),
    "model": ("changed the default dtype", scale_model),
    "everywhere": ("", write_everywhere),
    "good": ("", average),
}
"""What is wrong with a metric, as the reason says it, and its score."""

WORDS = {"unit": "share", "sign": "as it is", "ties": "none", "undefined": "never", "source": "a test"}


def make_metric(name: str, score: Callable[[Tensor, Case], Any]) -> Metric:
    metric = Metric(name, "strange", score, bounds=(0.0, 1.0), higher_is_better=True, version=1, **WORDS)
    return replace(metric, needs=("model",)) if name == "strange_model" else metric


def register_once(metric: Metric) -> Metric:
    """Register a metric, unless this file was imported under another name before: then that metric is given."""
    known = metric.name in metrics.names()
    return metrics[metric.name].item if known else register_metric(metric)


METRICS = {name: register_once(make_metric(f"strange_{name}", score)) for name, (_, score) in SCORES.items()}
UNREGISTERED = make_metric("strange_unregistered", average)
IMPOSTOR = make_metric("iou", average)
METRIC_BROKEN = METRICS["broken"]
