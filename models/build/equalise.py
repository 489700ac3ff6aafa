"""Owns the scaling of bottleneck channels, which spends the int8 range of their shared tensor evenly.

Between a block's last convolution and the next block's first one nothing but additions happens, so dividing a channel
by s there and multiplying the next weights by s changes nothing in float (Nagel et al. 2019, arXiv:1906.04721, section
4.1; here the whole residual chain shares one s).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from graph import ADD, CONV

if TYPE_CHECKING:
    from graph import Graph
    from observe import Observations


def equalise(graph: Graph, seen: Observations) -> None:
    """Scale the weights of `graph` in place, and what was observed with them."""
    for chain in _chains(graph):
        made = [n for n in range(len(graph.operators)) if graph.output(n) in chain]
        taken = [n for n in range(len(graph.operators)) if graph.kind(n) == CONV and graph.input(n) in chain]
        reach = np.max([np.maximum(np.abs(seen.low[n]), np.abs(seen.high[n])) for n in made], 0)
        scale = reach / np.exp(np.log(reach).mean())
        scale = np.exp2(np.round(np.log2(scale) * 8) / 8).astype(np.float32)
        for n in made:
            seen.low[n] = seen.low[n] / scale
            seen.high[n] = seen.high[n] / scale
            if graph.kind(n) == CONV:
                graph.set_constant(n, 1, graph.constant(n, 1) / scale[:, None, None, None])
                graph.set_constant(n, 2, graph.constant(n, 2) / scale)
        for n in taken:
            graph.set_constant(n, 1, graph.constant(n, 1) * scale)
            seen.moments[n].mean /= scale
            seen.moments[n].covariance /= np.outer(scale, scale)


def _chains(graph: Graph) -> list[set[int]]:
    """Sets of tensors that one linear convolution makes or additions join."""
    chains: list[set[int]] = []
    for n in range(len(graph.operators)):
        if graph.kind(n) == CONV and not graph.relu6(n):
            chains.append({graph.output(n)})
        elif graph.kind(n) == ADD:
            joined = {graph.output(n), *(int(t) for t in graph.operators[n].inputs)}
            apart = [chain for chain in chains if not chain & joined]
            chains = [*apart, joined.union(*(chain for chain in chains if chain & joined))]
    return chains
