"""The loss that a classifier is trained by: cross entropy, that of auxiliary outputs, and a penalty on gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from an8flower.errors import Refusal

from ..resources import is_out_of_memory
from .classifier import Classifier
from .gradient_penalty import GradientPenalty
from .networks.twice_differentiable import TwiceDifferentiable

AUXILIARY = 0.3  # the weight of the loss of an auxiliary output
AMPERE = (8, 0)  # the first generation of NVIDIA's GPUs that multiplies in bfloat16


def loss_of(classifier: Classifier, images: Tensor, labels: Tensor, penalty: GradientPenalty | None = None) -> Tensor:
    """The loss of uint8 images, in the precision that is fast on their device."""
    normalised = classifier.normalise(images.float() / 255)
    if penalty is None:
        return _cross_entropy(run(classifier, normalised), labels)
    normalised.requires_grad_()
    with TwiceDifferentiable() as ways:
        outputs = run(classifier, normalised)
    return _cross_entropy(outputs, labels) + penalty.penalise(outputs[0], labels, normalised, ways)


def _cross_entropy(outputs: list[Tensor], labels: Tensor) -> Tensor:
    """The mean cross entropy of the logits, plus that of auxiliary outputs, which counts less."""
    logits, *auxiliary = (F.cross_entropy(output.float(), labels) for output in outputs)
    return logits + sum(AUXILIARY * loss for loss in auxiliary)


def run(classifier: Classifier, normalised: Tensor) -> list[Tensor]:
    """What a network gives in training mode: the logits (B, C), then auxiliary outputs of the same shape.

    Raises:
        Refusal: the first output is no tensor (B, C).
    """
    kind = precision(normalised.device)
    with torch.autocast(normalised.device.type, dtype=kind, enabled=kind is not None):
        output = _call(classifier, normalised)
    several = output if isinstance(output, tuple | list) else [output]
    expected = (len(normalised), len(classifier.class_names))
    fitting = [value for value in several if isinstance(value, Tensor) and tuple(value.shape) == expected]
    if not fitting or fitting[0] is not several[0]:
        raise Refusal(
            f"{classifier.arch} gives {type(output).__name__} in training mode; expected logits {expected}, "
            "or a tuple whose first is"
        )
    return fitting


def _call(classifier: Classifier, normalised: Tensor) -> Any:
    """What a network gives; whatever a network of somebody's own raises becomes a Refusal, but for want of memory."""
    try:
        return classifier.network(normalised)
    except Exception as error:
        if ":" not in classifier.arch or is_out_of_memory(error):
            raise
        raise Refusal(
            f"{classifier.arch} cannot be trained on {len(normalised)} images of {classifier.size} px "
            f"({type(error).__name__}: {error}); mend what it does in training mode"
        ) from error


def precision(device: torch.device) -> torch.dtype | None:
    """The dtype to multiply in while training: bfloat16 if the device has it (about twice as fast), else None."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= AMPERE else None
    if device.type == "cpu":
        native: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases do not tell
        return torch.bfloat16 if native.get("avx512_bf16") or native.get("amx_bf16") else None
    return None
