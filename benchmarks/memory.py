"""The most memory that a method takes on the host: 32 images of ResNet-50 at 224 px, each method in its own process.

What a method is asked for is cut short (few masks, steps, iterations): the peak does not depend on how many follow one
another, which the two lines of RISE show.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import report
import torch

from an8flower.evaluate.case import Query
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.methods import parse_method
from an8flower.evaluate.models.classifier import build

IMAGES, SIZE = 32, 224
METHODS = (
    "random",
    "gradient",
    "integrated_gradients:steps=2",
    "guided_gradcam",
    "gradcam",
    "eigencam",
    "ablationcam",
    "opticam:iterations=2",
    "rise:masks=16",
    "rise:masks=48",
    "extremal_perturbation:iterations=2",
    "lrp",
    "deeplift",
)


def measure(method: str) -> None:
    """Explain in this process, and print the peak of its memory in MB."""
    torch.set_num_threads(2)
    classifier = build("resnet50", "abcdef", SIZE, 0).eval()
    images = torch.rand(IMAGES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(IMAGES)
    explain(classifier, parse_method(method).explainer, Query(images, rows % 6, rows))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measured(method: str) -> float:
    """The peak of a process of its own, in MB."""
    print(method, file=sys.stderr)
    done = subprocess.run([sys.executable, __file__, method], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure all methods and report; with a method as argument, measure that one here."""
    if len(sys.argv) > 1:
        return measure(sys.argv[1])
    rows = [{"method": method, "peak MB": measured(method)} for method in METHODS]
    report.write("memory", rows, {"images": f"{IMAGES} of {SIZE} px", "network": "resnet50", "to reach": "3,000 MB"})
    return None


if __name__ == "__main__":
    main()
