"""Noise from a counter against the known answers of Philox, a plain version in Python's integers, and its promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from an8flower.evaluate.data.counted_noise import STREAM, philox, standard_normal, uniform, words_of

# Counter, key, words: philox4x32 with 10 rounds in `kat_vectors` of Random123, the authors' library.
KNOWN = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)
SEEDS = torch.tensor([0, 1, 2**32 + 7, 2**63 - 1])


def numbers_of(text: str) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter: str, key: str, words: str) -> None:
    low, high = numbers_of(key)
    assert philox(numbers_of(counter), (low, high)) == numbers_of(words)


def plain(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in Python's integers, which do not overflow."""
    for _ in range(10):
        product, other = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [
            (other >> 32) ^ counter[1] ^ key[0],
            other % 2**32,
            (product >> 32) ^ counter[3] ^ key[1],
            product % 2**32,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


@given(seed=st.integers(-(2**63), 2**63 - 1), number=st.integers(0, 2**32 - 1), block=st.integers(0, 5))
def test_the_counter_is_that_of_the_place(seed: int, number: int, block: int) -> None:
    expected = plain([block, number, STREAM % 2**32, STREAM >> 32], [seed % 2**32, (seed >> 32) % 2**32])
    words = words_of(torch.tensor([seed]), range(number, number + 1), 6)
    assert words[0, 0, :, block].tolist() == expected
    compiled = uniform(torch.tensor([seed]), range(number, number + 1), 6)  # in a loop of its own on a processor
    assert compiled[0, 0, :, block].tolist() == [((word >> 9) + 0.5) / 2**23 for word in expected]


def test_neither_batch_nor_portion_changes_a_value() -> None:
    whole = standard_normal(SEEDS, range(6), torch.Size((3, 5, 7)))
    assert whole.shape == (6, 4, 3, 5, 7)
    assert whole.dtype == torch.float32
    parts = [standard_normal(SEEDS[2:3], range(number, number + 1), torch.Size((3, 5, 7))) for number in range(6)]
    torch.testing.assert_close(torch.cat(parts)[:, 0], whole[:, 2], rtol=1e-6, atol=1e-7)


def test_noise_is_standard_normal_and_differs_by_seed_and_number() -> None:
    drawn = standard_normal(SEEDS, range(3), torch.Size((3, 60, 60))).flatten(0, 1).flatten(1).double()
    count = drawn.numel()
    assert abs(drawn.mean().item()) < 4 / math.sqrt(count)
    assert abs(drawn.square().mean().item() - 1) < 4 * math.sqrt(2 / count)
    assert abs(drawn.pow(4).mean().item() - 3) < 4 * math.sqrt(96 / count)  # the variance of a fourth power is 96
    correlations = torch.corrcoef(drawn) - torch.eye(len(drawn))
    assert correlations.abs().max() < 5 / math.sqrt(drawn.shape[1])
    ranked = torch.special.ndtr(drawn.flatten()).sort().values  # Kolmogorov and Smirnov: 2 is passed once in 1,500
    assert (ranked - torch.arange(count) / count).abs().max() * math.sqrt(count) < 2


def test_no_value_is_infinite() -> None:
    noise = uniform(SEEDS, range(2), 50_000)
    assert noise.min() > 0
    assert noise.max() < 1
