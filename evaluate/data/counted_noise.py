"""Noise from a counter: a value is computed from its place alone, so that it is the same wherever and in what batch.

A generator with a state draws on the CPU, in order, and a GPU waits for the copy. Philox has no state: it scrambles the
number of a value under a key. A GPU does so for all values at once, in integers of torch; a processor in a compiled
loop. The integers are the same on every device, and the normal numbers made of them but for rounding.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..seeds import seed_of

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)  # by which the key moves from round to round
ROUNDS = 10
LOW = 0xFFFFFFFF  # the lower 32 bits
STREAM = seed_of("counted noise")  # the upper half of every counter, which keeps other uses of a seed apart
BITS = 23  # of a word that make a number in (0, 1): single precision can tell them all apart


def standard_normal(seeds: Tensor, numbers: range, shape: torch.Size) -> Tensor:
    """Standard normal noise for seeds and numbers: (N, B, *shape) float32 on the seeds' device.

    No value is beyond 5.8; one in a hundred million should be.

    Args:
        seeds: (B,) int64, of rows.
        numbers: N numbers from 0 on and below 2**32; each is other noise.
        shape: of the noise of one seed and number.

    Source: Box and Muller, A Note on the Generation of Random Normal Deviates, 1958.
    """
    count = math.prod(shape)
    radius, angle = uniform(seeds, numbers, -(-count // 4)).unflatten(2, (2, 2)).unbind(2)
    radius, angle = radius.log_().mul_(-2).sqrt_(), angle.mul_(2 * math.pi)
    pairs = torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], 2)
    return pairs.flatten(2)[..., :count].unflatten(2, shape)


def uniform(seeds: Tensor, numbers: range, blocks: int) -> Tensor:
    """Uniform noise in (0, 1), (N, B, 4, blocks) float32, exact on every device; arguments as in `words_of`."""
    if seeds.device.type != "cpu":
        return ((words_of(seeds, numbers, blocks) >> (32 - BITS)).float() + 0.5).mul_(2.0**-BITS)
    from .counted_noise_loop import fill_uniform  # here, as numba takes a while to load

    noise = np.empty((len(numbers), len(seeds), 4, blocks), np.float32)
    fill_uniform(noise, seeds.numpy(), np.array(numbers, np.int64), STREAM)
    return torch.from_numpy(noise)


def words_of(seeds: Tensor, numbers: range, blocks: int) -> Tensor:
    """Words of 32 random bits, (N, B, 4, blocks) int64, of the counters from 0 to `blocks` - 1 under seeds (B,)."""
    places = torch.arange(blocks, device=seeds.device)
    which = torch.arange(numbers.start, numbers.stop, numbers.step, device=seeds.device)[:, None, None]
    counter = (places, which, torch.full_like(places, STREAM & LOW), torch.full_like(places, STREAM >> 32))
    key = (seeds[:, None] & LOW, (seeds[:, None] >> 32) & LOW)
    return torch.stack(torch.broadcast_tensors(*philox(counter, key)), 2)


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four words of a counter, scrambled under a key of two; int64 tensors below 2**32 that broadcast.

    Source: Salmon, Moraes, Dror and Shaw, Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011.
    """
    first, second, third, fourth = counter
    for step in range(ROUNDS):
        keys = [(part + step * move) & LOW for part, move in zip(key, STEPS, strict=True)]
        # Products overflow into the sign, which a shift and a mask take out again.
        product, other = first * MULTIPLIERS[0], third * MULTIPLIERS[1]
        first, second = ((other >> 32) & LOW) ^ second ^ keys[0], other & LOW
        third, fourth = ((product >> 32) & LOW) ^ fourth ^ keys[1], product & LOW
    return first, second, third, fourth
