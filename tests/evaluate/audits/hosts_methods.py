"""A slow method that notes on which host it runs, for the tests of an audit over two hosts."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from torch import Tensor

from an8flower.evaluate.case import Query
from an8flower.evaluate.models.classifier import Classifier


@dataclass(frozen=True)
class Noted:
    """The brightness to some power; each call notes its network namespace and its process."""

    power: float = 1.0

    def __call__(self, classifier: Classifier, query: Query) -> Tensor:
        with open(os.environ["NOTES"], "a") as file:
            file.write(f"{os.stat('/proc/self/ns/net').st_ino} {os.getpid()}\n")
        time.sleep(float(os.environ["SLOWNESS"]))
        return query.images.mean(1) ** self.power
