"""Global random states: started from a seed, and put back, also on an error."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from an8flower.evaluate.models.networks.random_state import preserve_random_state, seed_global_state


def draws() -> tuple[float, float, float]:
    return float(torch.rand(1)), float(np.random.rand()), random.random()


def test_a_seed_fixes_all_draws() -> None:
    drawn = []
    for seed in (2**62 + 1, 2**62 + 1, 2):
        with seed_global_state(seed):
            drawn.append(draws())
    first, again, other = drawn
    assert first == again
    assert all(one != another for one, another in zip(first, other, strict=True))


@pytest.mark.parametrize("block", [preserve_random_state(), seed_global_state(1)], ids=["kept", "seeded"])
def test_states_are_put_back_also_on_an_error(block) -> None:  # type: ignore[no-untyped-def]
    with preserve_random_state():
        expected = draws()
    with pytest.raises(ValueError, match="broken"), block:
        draws()
        raise ValueError("broken")
    assert draws() == expected
