"""What a training step costs with a penalty on gradients, beside a plain one: the same network, batch and process."""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from report import write

from an8flower.evaluate.models.classifier import Classifier, build
from an8flower.evaluate.models.gradient_penalty import GradientPenalty
from an8flower.evaluate.models.training_loss import loss_of, precision

NETWORKS = (("flowernet", 112, 16), ("resnet18", 64, 8), ("mobilenet_v2", 64, 8))  # arch, pixels, images of a batch
CLASSES = "abcdef"


def main() -> None:
    """Time steps in turns, and tell the medians."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--turns", type=int, default=15)
    turns = options.parse_args().turns
    torch.set_num_threads(1)
    rows = [measure(arch, size, batch, turns) for arch, size, batch in NETWORKS]
    about = {
        "what": "forward and backward of a training step by turns, without and with the cosine penalty, in CPU seconds",
        "turns": turns,
        "threads": 1,
        "precision": str(precision(torch.device("cpu")) or "float32").removeprefix("torch."),
    }
    write("gradient_penalty", rows, about)


def measure(arch: str, size: int, batch: int, turns: int) -> dict[str, object]:
    """The median cost of both kinds of step, and the median of their ratios."""
    classifier = build(arch, CLASSES, size, 0).train().to(memory_format=torch.channels_last)
    penalty = GradientPenalty()
    step(classifier, batch, None)
    step(classifier, batch, penalty)
    pairs = [(step(classifier, batch, None), step(classifier, batch, penalty)) for _ in range(turns)]
    plain, penalised = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    ratio = statistics.median(second / first for first, second in pairs)
    return {"arch": arch, "px": size, "batch": batch, "plain s": plain, "penalty s": penalised, "ratio": ratio}


def step(classifier: Classifier, batch: int, penalty: GradientPenalty | None) -> float:
    """The CPU seconds of a step."""
    images = torch.randint(256, (batch, 3, classifier.size, classifier.size), dtype=torch.uint8)
    labels = torch.arange(batch) % len(CLASSES)
    began = time.process_time()
    loss_of(classifier, images, labels, penalty).backward()
    classifier.zero_grad()
    return time.process_time() - began


if __name__ == "__main__":
    main()
