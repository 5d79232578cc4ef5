"""A digest of what a network does besides its weights: its layers, their settings and the code of their classes."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator
from types import CodeType
from typing import Any

from torch import nn

KNOWN = ("torch", "torchvision", "an8flower")  # packages whose code goes with their versions
ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


def digest_code(network: nn.Module) -> str:
    """A digest of a network's layers with their settings, and of the methods of the classes that are somebody's own.

    Functions that these call are not looked into.
    """
    whole = hashlib.sha256(ADDRESS.sub("", repr(network)).encode())
    kinds = {type(module) for module in network.modules()}
    for kind in sorted(kinds, key=lambda kind: (kind.__module__, kind.__qualname__)):
        for piece in _describe_methods(kind):
            whole.update(piece.encode())
    return whole.hexdigest()


def _describe_methods(kind: type) -> Iterator[str]:
    """Names and byte code of the methods of a class, and of those that it inherits."""
    for owner in inspect.getmro(kind):
        if owner.__module__.split(".")[0] in KNOWN or owner is object:
            continue
        for name, method in sorted(vars(owner).items()):
            if code := getattr(inspect.unwrap(method) if callable(method) else method, "__code__", None):
                yield f"{name} {_to_text(code)}"


def _to_text(constant: Any) -> str:
    """A constant of a function, or code itself, as text that is the same in every process."""
    if isinstance(constant, CodeType):
        return f"{constant.co_code.hex()} {constant.co_names} {list(map(_to_text, constant.co_consts))}"
    if isinstance(constant, frozenset):
        return str(sorted(map(repr, constant)))
    return repr(constant)
