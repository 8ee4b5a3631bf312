"""Inner loops of `analysis.main_branch`: the longest of all shortest paths of a graph.

Nothing is checked here; `analysis.py` makes the graph of branches and is the only caller.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

# Strategy: every node keeps a lower and an upper bound of its eccentricity, the distance of the node that is
# farthest from it. Dijkstra's algorithm from one node gives its eccentricity e, and by the triangle inequality a
# node at distance d has one between max(e - d, d) and e + d. Nodes whose upper bound is no more than the longest
# path found are out; of the others the one with the largest upper bound is next. In a tree this takes two or
# three runs, in vessels with many loops some tens; only where all nodes are alike it is one for each.
# F. W. Takes, W. A. Kosters, "Determining the diameter of small world networks", CIKM 2011.


@numba.njit(cache=True, nogil=True)
def mark_longest(indptr: Any, neighbours: Any, edges: Any, lengths: Any, n_edges: int) -> Any:
    """For every component of a graph, mark the edges of its longest shortest path."""
    n = indptr.size - 1
    marks = np.zeros(n_edges, np.bool_)
    distances = np.full(n, np.inf)
    arrivals = np.full(n, -1, np.int64)  # the link by which a node was reached
    heap_keys = np.empty(neighbours.size + 1, np.float64)
    heap_nodes = np.empty(neighbours.size + 1, np.int64)
    upper = np.full(n, np.inf)
    is_seen = np.zeros(n, np.bool_)
    reached = np.empty(n, np.int64)
    component = np.empty(n, np.int64)
    for start in range(n):
        if is_seen[start]:
            continue
        size = _walk(indptr, neighbours, lengths, start, distances, arrivals, heap_keys, heap_nodes, reached)
        component[:size] = reached[:size]
        is_seen[component[:size]] = True
        longest, source, target = -1.0, start, start
        node = start
        while True:
            farthest = reached[size - 1]  # nodes are reached by distance
            eccentricity = distances[farthest]
            if eccentricity > longest:
                longest, source, target = eccentricity, node, farthest
            for k in range(size):
                other = component[k]
                upper[other] = min(upper[other], eccentricity + distances[other])
            upper[node] = -1.0
            for k in range(size):
                distances[component[k]] = np.inf
            node = component[0]
            for k in range(size):
                if upper[component[k]] > upper[node]:
                    node = component[k]
            if upper[node] <= longest:
                break
            _walk(indptr, neighbours, lengths, node, distances, arrivals, heap_keys, heap_nodes, reached)
        _walk(indptr, neighbours, lengths, source, distances, arrivals, heap_keys, heap_nodes, reached)
        node = target
        while node != source:
            link = arrivals[node]
            marks[edges[link]] = True
            # The other end of an undirected edge: where the link back from this node leads.
            before = node
            for back in range(indptr[node], indptr[node + 1]):
                if edges[back] == edges[link]:
                    before = neighbours[back]
            node = before
    return marks


@numba.njit(cache=True, nogil=True)
def _walk(
    indptr: Any,
    neighbours: Any,
    lengths: Any,
    source: int,
    distances: Any,
    arrivals: Any,
    heap_keys: Any,
    heap_nodes: Any,
    reached: Any,
) -> int:
    """Dijkstra's algorithm; where `distances` are infinite before. The nodes in the order they are reached."""
    n_reached = 0
    distances[source] = 0.0
    heap_keys[0], heap_nodes[0] = 0.0, source
    size = 1
    while size:
        key, node = heap_keys[0], heap_nodes[0]
        size -= 1
        last_key, last_node = heap_keys[size], heap_nodes[size]
        hole = 0
        while 2 * hole + 1 < size:
            child = 2 * hole + 1
            if child + 1 < size and heap_keys[child + 1] < heap_keys[child]:
                child += 1
            if heap_keys[child] >= last_key:
                break
            heap_keys[hole], heap_nodes[hole] = heap_keys[child], heap_nodes[child]
            hole = child
        heap_keys[hole], heap_nodes[hole] = last_key, last_node
        if key > distances[node]:  # a shorter way was found since
            continue
        reached[n_reached] = node
        n_reached += 1
        for link in range(indptr[node], indptr[node + 1]):
            other = neighbours[link]
            through = key + lengths[link]
            if through < distances[other]:
                distances[other] = through
                arrivals[other] = link
                hole = size
                size += 1
                while hole and heap_keys[(hole - 1) // 2] > through:
                    heap_keys[hole], heap_nodes[hole] = heap_keys[(hole - 1) // 2], heap_nodes[(hole - 1) // 2]
                    hole = (hole - 1) // 2
                heap_keys[hole], heap_nodes[hole] = through, other
    return n_reached
