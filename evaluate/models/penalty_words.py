"""The words for a penalty on gradients, for plans and commands that load no torch."""

from __future__ import annotations

from typing import Literal

Distance = Literal["cosine", "mae", "mse", "histogram"]
Scalar = Literal["loss", "logit"]
STRENGTH = 7.5e-3  # for a ResNet-18 on CIFAR-100 with the cosine; 1e-3 for a MobileNet-V2
