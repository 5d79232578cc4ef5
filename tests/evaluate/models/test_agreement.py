"""Whether two forms of a network say the same, by the precision of its weights."""

from __future__ import annotations

import pytest
import torch

from an8flower.evaluate.models.networks.agreement import HALF, SINGLE, agree

LOGITS = torch.tensor([[4.0, -2.0, 0.0]])


@pytest.mark.parametrize(
    ("precision", "tolerance"), [(torch.float64, SINGLE), (torch.float32, SINGLE), (torch.bfloat16, HALF)]
)
def test_outputs_agree_up_to_a_share_of_the_largest(precision: torch.dtype, tolerance: float) -> None:
    assert agree(LOGITS, LOGITS, precision)
    assert agree(LOGITS + 0.9 * tolerance * 4, LOGITS, precision)
    assert not agree(LOGITS + 1.1 * tolerance * 4, LOGITS, precision)


@pytest.mark.parametrize("output", [LOGITS * torch.nan, LOGITS[:, :2], LOGITS[:, :1]], ids=["nan", "fewer", "one"])
def test_other_outputs_never_agree(output: torch.Tensor) -> None:
    assert not agree(output, LOGITS, torch.bfloat16)
    assert not agree(LOGITS, output, torch.bfloat16)
