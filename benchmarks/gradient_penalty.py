"""What a training step costs with a penalty on gradients, beside a plain one: the same network, batch and process."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from report import write
from torch import Tensor

from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.gradient_penalty import GradientPenalty
from an8flower.evaluate.models.networks.rectifiers import Rectifying
from an8flower.evaluate.models.training_loss import loss_of, precision, run

NETWORKS = (("flowernet", 112, 16), ("resnet18", 64, 8), ("mobilenet_v2", 64, 8))  # arch, pixels, images of a batch
CLASSES = "abcdef"

BOUND = (
    "one pass forwards serves three ways back: a guided one, the plain one to the pixels, and the one to the "
    "weights through both; counted in convolutions 1 + 1 + 1 + 4 of them for each layer beside 3 of a plain step, "
    "2.3 times; by itself torch runs each group of a convolution alone when it differentiates a second time, and "
    "takes a batch norm apart into some twenty passes over its features"
)


def main() -> None:
    """Time steps in turns, and tell the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--turns", type=int, default=15)
    turns = options.parse_args().turns
    torch.set_num_threads(1)
    rows = [measure(arch, size, batch, turns) for arch, size, batch in NETWORKS]
    about = {
        "what": "forward and backward of a training step by turns, in CPU seconds: without the cosine penalty, with "
        "it, and with it where torch differentiates the gradient by itself, from two passes forwards",
        "turns": turns,
        "threads": 1,
        "precision": str(precision(torch.device("cpu")) or "float32").removeprefix("torch."),
        "bound": BOUND,
    }
    write("gradient_penalty", rows, about)


def measure(arch: str, size: int, batch: int, turns: int) -> dict[str, object]:
    """The median costs of three kinds of step, and the medians of their ratios to the plain one."""
    classifier = build(arch, CLASSES, size, 0).train().to(memory_format=torch.channels_last)
    penalty = GradientPenalty()
    losses = (loss_of, partial(loss_of, penalty=penalty), partial(loss_by_torch, penalty=penalty))
    for loss in losses:
        step(classifier, batch, loss)
    rounds = [[step(classifier, batch, loss) for loss in losses] for _ in range(turns)]
    plain, penalised, by_torch = (statistics.median(seconds[i] for seconds in rounds) for i in range(3))
    ratio, torch_ratio = (statistics.median(seconds[i] / seconds[0] for seconds in rounds) for i in (1, 2))
    return {
        "arch": arch,
        "px": size,
        "batch": batch,
        "plain s": plain,
        "penalty s": penalised,
        "ratio": ratio,
        "by torch alone s": by_torch,
        "ratio of that": torch_ratio,
    }


def loss_by_torch(classifier: Classifier, images: Tensor, labels: Tensor, penalty: GradientPenalty) -> Tensor:
    """The same loss as torch differentiates it twice by itself: a pass for the guided gradient, and one besides."""
    leaf = classifier.normalise(images.float() / 255).requires_grad_()
    with Rectifying("guided"):
        total = penalty.total(run(classifier, leaf)[0], labels)
    (guided,) = torch.autograd.grad(total, leaf)
    (logits,) = run(classifier, leaf)
    (gradient,) = torch.autograd.grad(penalty.total(logits, labels), leaf, create_graph=True)
    return F.cross_entropy(logits.float(), labels) + penalty.strength * penalty.measure(gradient, guided)


def step(classifier: Classifier, batch: int, loss: Callable[[Classifier, Tensor, Tensor], Tensor]) -> float:
    """The CPU seconds of a step."""
    images = torch.randint(256, (batch, 3, classifier.size, classifier.size), dtype=torch.uint8)
    labels = torch.arange(batch) % len(CLASSES)
    began = time.process_time()
    loss(classifier, images, labels).backward()
    classifier.zero_grad()
    return time.process_time() - began


if __name__ == "__main__":
    main()
