"""Inner loops of `graph.branches`: paths between tips and junctions, skeletons, values along paths.

Nothing is checked here; `graph.py` and `analysis.py` call this with a graph's arrays.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

# Strategy: a branch is a path whose inner pixels have two neighbours each. From every pixel with another
# number of neighbours, in order, each link is followed until the next such pixel. Where a branch was walked
# already, from its other end, its first inner pixel says so; a link straight to another end is taken from the
# lower pixel only. What was not reached then are cycles without a junction; each begins and ends at its first
# pixel.


@numba.njit(cache=True, nogil=True)
def trace_paths(indptr: Any, indices: Any, distances: Any) -> Any:
    """Where each path begins in the list of pixels that all paths make, that list, and the paths' lengths."""
    n = indptr.size - 1
    n_ends = n_inner = 0
    for pixel in range(n):
        degree = indptr[pixel + 1] - indptr[pixel]
        if degree == 2:
            n_inner += 1
        else:
            n_ends += degree
    # Three pixels make the smallest cycle.
    most_cycles = n_inner // 3
    starts = np.empty(n_ends // 2 + most_cycles + 1, np.int64)
    pixels = np.empty(n_inner + n_ends + most_cycles, indices.dtype)
    lengths = np.empty(starts.size - 1, np.float64)
    starts[0] = 0
    is_walked = np.zeros(n, np.bool_)
    n_paths = at = 0
    for only_cycles in range(2):
        for first in range(n):
            degree = indptr[first + 1] - indptr[first]
            if (degree == 2) != (only_cycles == 1) or is_walked[first]:
                continue
            links = degree if only_cycles == 0 else 1
            for link in range(indptr[first], indptr[first] + links):
                pixel = indices[link]
                if indptr[pixel + 1] - indptr[pixel] == 2:
                    if is_walked[pixel]:
                        continue
                elif pixel < first:
                    continue
                pixels[at] = first
                at += 1
                before = first
                length = distances[link]
                while indptr[pixel + 1] - indptr[pixel] == 2 and pixel != first:
                    is_walked[pixel] = True
                    pixels[at] = pixel
                    at += 1
                    onward = indptr[pixel]
                    if indices[onward] == before:
                        onward += 1
                    before = pixel
                    pixel = indices[onward]
                    length += distances[onward]
                is_walked[first] = only_cycles == 1
                pixels[at] = pixel
                at += 1
                lengths[n_paths] = length
                n_paths += 1
                starts[n_paths] = at
    return starts[: n_paths + 1].copy(), pixels[:at].copy(), lengths[:n_paths].copy()


@numba.njit(cache=True, nogil=True)
def label_skeletons(indptr: Any, starts: Any, pixels: Any) -> Any:
    """Number of the skeleton that each path belongs to, in the order of the skeletons' first pixels."""
    n, n_paths = indptr.size - 1, starts.size - 1
    # Only the ends of paths are joined; the lowest pixel of each skeleton stands at its root.
    parents = np.empty(n, pixels.dtype)
    lowest = np.empty(n, pixels.dtype)
    for path in range(n_paths):
        for end in (pixels[starts[path]], pixels[starts[path + 1] - 1]):
            parents[end] = end
            lowest[end] = end
    for path in range(n_paths):
        first = pixels[starts[path]]
        for at in range(starts[path] + 1, starts[path + 1]):
            first = min(first, pixels[at])
        root, other = pixels[starts[path]], pixels[starts[path + 1] - 1]
        while parents[root] != root:
            parents[root] = parents[parents[root]]
            root = parents[root]
        while parents[other] != other:
            parents[other] = parents[parents[other]]
            other = parents[other]
        lowest[root] = min(first, lowest[root], lowest[other])
        parents[other] = root
    # Skeletons are counted at their first pixels; isolated pixels are skeletons, too.
    is_first = np.zeros(n, np.bool_)
    for path in range(n_paths):
        root = pixels[starts[path]]
        while parents[root] != root:
            root = parents[root]
        parents[pixels[starts[path]]] = root
        is_first[lowest[root]] = True
    numbers = np.empty(n, pixels.dtype)
    n_skeletons = 0
    for pixel in range(n):
        numbers[pixel] = n_skeletons
        n_skeletons += is_first[pixel] | (indptr[pixel] == indptr[pixel + 1])
    labels = np.empty(n_paths, np.int64)
    for path in range(n_paths):
        labels[path] = numbers[lowest[parents[pixels[starts[path]]]]]
    return labels


@numba.njit(cache=True, nogil=True)
def mean_and_deviation(starts: Any, pixels: Any, values: Any) -> Any:
    """Mean and standard deviation of the pixels' values along each path."""
    n_paths = starts.size - 1
    means = np.empty(n_paths, np.float64)
    deviations = np.empty(n_paths, np.float64)
    for path in range(n_paths):
        count = starts[path + 1] - starts[path]
        total = 0.0
        for at in range(starts[path], starts[path + 1]):
            total += values[pixels[at]]
        mean = total / count
        # From the mean, not from the sum of squares, which leaves rounding where all values are the same.
        squares = 0.0
        for at in range(starts[path], starts[path + 1]):
            squares += (values[pixels[at]] - mean) ** 2
        means[path] = mean
        deviations[path] = np.sqrt(squares / count)
    return means, deviations
