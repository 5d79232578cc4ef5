"""The compiled loop by which a processor makes noise from a counter; what the noise is, `counted_noise` says."""

from __future__ import annotations

import numpy as np

from an8flower.kernels import compile_kernel


@compile_kernel
def fill_uniform(noise: np.ndarray, seeds: np.ndarray, numbers: np.ndarray, stream: int) -> None:
    """Fill in uniform noise (N, B, 4, blocks) float32 of the words that `philox` gives: it has the same constants."""
    shift, low_half = np.uint64(32), np.uint64(0xFFFFFFFF)
    half, scale = np.float32(0.5), np.float32(2.0**-23)
    for number in range(noise.shape[0]):
        for row in range(noise.shape[1]):
            for block in range(noise.shape[3]):
                first, second = np.uint64(block), np.uint64(numbers[number])
                third, fourth = np.uint64(stream) & low_half, np.uint64(stream) >> shift
                low, high = np.uint64(seeds[row]) & low_half, np.uint64(seeds[row]) >> shift
                for _ in range(10):
                    product, other = first * np.uint64(0xD2511F53), third * np.uint64(0xCD9E8D57)
                    first, second = (other >> shift) ^ second ^ low, other & low_half
                    third, fourth = (product >> shift) ^ fourth ^ high, product & low_half
                    low = (low + np.uint64(0x9E3779B9)) & low_half
                    high = (high + np.uint64(0xBB67AE85)) & low_half
                noise[number, row, 0, block] = (np.float32(first >> np.uint64(9)) + half) * scale
                noise[number, row, 1, block] = (np.float32(second >> np.uint64(9)) + half) * scale
                noise[number, row, 2, block] = (np.float32(third >> np.uint64(9)) + half) * scale
                noise[number, row, 3, block] = (np.float32(fourth >> np.uint64(9)) + half) * scale
