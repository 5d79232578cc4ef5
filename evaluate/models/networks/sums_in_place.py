"""Sums that are written over one of their terms, since new memory costs more than an addition."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx, nn

from .unrolled import module_of

SUMS = (operator.add, operator.iadd, torch.add)


def write_sums_over_convolutions(network: fx.GraphModule) -> fx.GraphModule:
    """Have a sum lie where a convolution wrote its term, if nothing else reads that; the network changes in place."""
    for node in network.graph.nodes:
        if node.op == "call_function" and node.target in SUMS and len(node.args) == 2 and not node.kwargs:
            first, second = node.args
            if is_free(network, first):
                node.target = add_over
            elif is_free(network, second):
                node.target, node.args = add_over, (second, first)
    network.recompile()
    return network


def is_free(network: fx.GraphModule, node: Any) -> bool:
    """Whether a node gives the output of a convolution that one other node reads.

    The first convolution does not count: what stands in for it in a cut network belongs to somebody else.
    """
    if not isinstance(module_of(network, node), nn.Conv2d) or len(node.users) != 1:
        return False
    return all(before.op != "placeholder" for before in node.all_input_nodes)


def add_over(term: Tensor, other: Any) -> Tensor:
    """The sum of a tensor and another one, or a number, in the place of the first if it has the shape of the sum."""
    if isinstance(other, Tensor) and (other.dtype != term.dtype or other.shape != term.shape):
        return term + other
    return term.add_(other)
