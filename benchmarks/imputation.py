"""How long it takes to fill in what ROAD removes, beside pytorch-grad-cam and Quantus, on the same images."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from quantus.functions.perturb_func import noisy_linear_imputation
from report import write
from scipy.ndimage import gaussian_filter
from torch import Tensor

from an8flower.evaluate.metrics.imputation import impute

SIZES = {42: 6, 112: 2}  # pixels: images
REPEATS = 2
Fill = Callable[[Tensor, Tensor], Tensor]
"""An image (3, H, W) and which pixels are gone, (H, W) bool -> the image filled in."""

FILLS: dict[str, Fill] = {
    "an8flower": lambda image, gone: impute(image[None], gone[None])[0],
    "pytorch-grad-cam": lambda image, gone: NoisyLinearImputer(0)(image, (~gone).float()),
    "Quantus": lambda image, gone: torch.from_numpy(
        noisy_linear_imputation(image.numpy(), gone.flatten().nonzero()[:, 0].numpy(), noise=0.0)
    ),
}


def holes(size: int, images: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random images, and in each the largest tenth, two tenths, ... of a smooth map."""
    source = torch.Generator().manual_seed(0)
    for image in torch.rand(images, 3, size, size, generator=source):
        values = gaussian_filter(torch.rand(size, size, generator=source).numpy(), size / 20)
        for tenth in range(1, 10):
            yield image, torch.from_numpy(values >= np.quantile(values, 1 - tenth / 10))


def measure(size: int, images: int) -> Iterator[dict[str, Any]]:
    """A row for each implementation: milliseconds of the processor for an image, and how far it is from ours."""
    seconds, apart = dict.fromkeys(FILLS, 0.0), dict.fromkeys(FILLS, 0.0)
    cases = [*holes(size, images)] * REPEATS
    for image, gone in cases:
        ours = FILLS["an8flower"](image, gone)
        for name, fill in FILLS.items():
            began = time.process_time()
            filled = fill(image, gone)
            seconds[name] += time.process_time() - began
            apart[name] = max(apart[name], float((filled - ours).abs().max()))
    for name in FILLS:
        yield {"px": size, "what": name, "ms": 1e3 * seconds[name] / len(cases), "largest deviation": apart[name]}


def main() -> None:
    """Measure, and report."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rows = [row for size, images in SIZES.items() for row in measure(size, images)]
    about = {"time": "of the processor, one thread, the mean over images and shares from 10 to 90 %", "noise": "none"}
    write("imputation", rows, about)


if __name__ == "__main__":
    main()
