"""How much can flow from the class token down to each token, through attention as pipes.

Source: Abnar and Zuidema, ACL 2020, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Capacities are multiples of 1 / UNIT, because scipy takes integers of 32 bits only.
UNIT = 2**30


def flows(blocks: list[np.ndarray]) -> np.ndarray:
    """The maximum flow (N,) from the class token above the last block to every token below the first one.

    Args:
        blocks: (N, N) each, the first block first: the capacity from a token (row) above it to a token (column) below,
            in [0, 1], with rows that sum to 1.

    Capacities are rounded to multiples of 2**-30; for these the flow is exact. It errs by at most 2**-31 for each edge
    of a cut, that is by less than (2 N + (L - 2) N**2) 2**-31: 4e-5 for 197 tokens and 4 blocks; some 1e-7 in practice.
    Costs N flows: for 197 tokens about 0.4 s on one core with 4 blocks, 5 s with 12.
    """
    if len(blocks) == 1:
        return blocks[0][0]
    from scipy.sparse.csgraph import maximum_flow  # here, as it takes a while to load

    graph = pipes(blocks)
    target = graph.shape[0] - 1
    count, amounts = len(blocks[0]), []
    for column in to_whole_units(blocks[0]).T:
        graph.data[-count:] = column
        amounts.append(maximum_flow(graph, 0, target).flow_value / UNIT)
    return np.array(amounts)


def pipes(blocks: list[np.ndarray]) -> csr_array:
    """The graph of pipes that leads to one token; its last N edges, those of the first block, are left to be filled in.

    Nodes are the class token above the last block, all tokens between two blocks, and the token that is asked for.
    """
    from scipy.sparse import csr_array  # here, as it takes a while to load

    count, between = len(blocks[0]), len(blocks) - 1
    levels = 1 + np.arange(between * count).reshape(between, count)
    capacities = [blocks[-1][:1], *blocks[-2:0:-1], np.zeros((count, 1))]
    ends = [levels[0], *(np.tile(level, count) for level in levels[1:]), np.full(count, 1 + between * count)]
    edges = [count] * (1 + (between - 1) * count) + [1] * count + [0]
    starts = np.cumsum([0, *edges])
    values = np.concatenate([to_whole_units(block).ravel() for block in capacities])
    shape = (len(edges), len(edges))
    return csr_array((values, np.concatenate(ends).astype(np.int32), starts.astype(np.int32)), shape=shape)


def to_whole_units(capacities: np.ndarray) -> np.ndarray:
    """Turn capacities into whole numbers of 1 / `UNIT`, int32."""
    return np.rint(np.asarray(capacities, np.float64) * UNIT).astype(np.int32)
