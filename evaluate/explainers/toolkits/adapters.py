"""Methods of other toolkits by one line: `captum:IntegratedGradients(n_steps=20)`, `zennit:EpsilonPlus`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .foreign import Foreign

# A toolkit as typed before the colon -> where its adapter is, loaded when a method needs it.
ADAPTERS = {
    "captum": "captum_methods:Captum",
    "grad_cam": "grad_cam_methods:PytorchGradCam",
    "torchcam": "torchcam_methods:TorchCam",
    "zennit": "zennit_methods:Zennit",
}


def is_foreign(text: str) -> bool:
    """Whether a method's name begins with a toolkit's name."""
    return text.partition(":")[0] in ADAPTERS and ":" in text


def parse_foreign(text: str) -> Foreign:
    """Make an explainer of a toolkit's method as it is typed, such as `captum:Saliency`.

    Raises:
        WrongUsage: the toolkit is not installed, it has no such class or argument, or the text cannot be read.
    """
    from ...options import format_arguments, parse_call
    from .foreign import PSEUDO  # here, as few runs use a toolkit

    toolkit, _, call = text.partition(":")
    kind, arguments = parse_call(call)
    ours = {name: arguments.pop(name) for name in PSEUDO if name in arguments}
    module, _, adapter = ADAPTERS[toolkit].partition(":")
    explainer = getattr(importlib.import_module(f".{module}", __package__), adapter)
    return explainer(kind, format_arguments(arguments), **ours)
