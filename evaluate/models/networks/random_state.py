"""The global random states of torch, numpy and Python, for code that draws from them and from nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from .process_state import RANDOM


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Put the global random states back afterwards, also on an error."""
    nothing = nn.Module()
    before = [(aspect, aspect.read(nothing)) for aspect in RANDOM]
    try:
        yield
    finally:
        for aspect, state in before:
            aspect.write(state)


@contextmanager
def seed_global_state(seed: int) -> Iterator[None]:
    """Start the global random states from a seed, and put them back afterwards."""
    with preserve_random_state():
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():  # before that, torch would remember the seed and use it after the block
            torch.cuda.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
