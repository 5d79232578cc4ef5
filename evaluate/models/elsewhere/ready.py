"""What a network from elsewhere brings besides its weights, and how its toolkit is asked for them."""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from types import ModuleType

from torch import nn

from an8flower.errors import Refusal

from ..normalisation import Normalisation


@dataclass(frozen=True)
class ReadyNetwork:
    """A network with its weights, and what its own configuration says; None where that says nothing."""

    network: nn.Module  # normalised images (B, 3, S, S) -> logits (B, C)
    name: str  # the architecture as results call it
    normalisation: Normalisation | None = None
    size: int | None = None  # pixels: the side of the images that it was trained on
    class_names: tuple[str, ...] | None = None  # in the order of the logits
    black_box: str = ""  # why nothing but the logits can be read; empty where layers and gradients can


def import_toolkit(module: str, package: str = "") -> ModuleType:
    """Import an optional package; raises Refusal with the command that installs it."""
    try:
        with mute_toolkit():
            return importlib.import_module(module)
    except ImportError as error:
        raise Refusal(
            f"{module} cannot be imported ({error}); install it with pip install {package or module}"
        ) from None


@contextmanager
def mute_toolkit() -> Iterator[None]:
    """A block in which a toolkit warns and prints nothing: neither is about what the user does."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def refuse_absent(place: str, what: str) -> Refusal:
    """The Refusal of a network whose weights are not on this machine, where nobody asked for a download."""
    return Refusal(
        f"{place}: {what} not on this machine, and nothing is downloaded unasked; add --download, or give the weights "
        "with --weights FILE.safetensors"
    )


def refuse_download(place: str, error: Exception) -> Refusal:
    """The Refusal of a download that failed, which it does in any way it likes."""
    reason = str(error).strip().split("\n")[0]
    return Refusal(f"{place}: cannot be downloaded ({type(error).__name__}: {reason}); check the name and the network")


def refuse_broken(place: str, error: Exception) -> Refusal:
    """The Refusal of a network that its toolkit could not make or read."""
    reason = str(error).strip().split("\n")[0]
    return Refusal(f"{place}: cannot be opened ({type(error).__name__}: {reason}); fetch or write it anew")


def to_name(text: str) -> str:
    """A text as the name of an architecture, which stands in the names of files: letters, digits and . _ + - alone."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", text)


def three(values: Sequence[float] | float) -> tuple[float, ...]:
    """A number for each of the three channels, of three numbers or of one for all."""
    return (float(values),) * 3 if isinstance(values, int | float) else tuple(map(float, values))
