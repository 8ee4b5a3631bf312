"""Inner loops of `skeletons.pixel_graph`: which pixels of a skeleton touch, and the tree of each junction.

Nothing is checked here; `skeletons.py` checks and is the only caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strategy: the image is looked at once, for the positions of its pixels in C order; from then on there are
# only pixels. The neighbours of a pixel lie in 3**(ndim - 1) lines along the last axis, three places in each.
# As pixels are visited in order, the three places of a line move forward only, so one cursor a line walks
# through the sorted positions and every neighbour is found without a look into the image. Lines in the order of
# their offsets give the neighbours of a pixel in ascending order.
#
# Where three or more pixels meet there is a cluster of pixels with more than two neighbours each, with short
# cuts between all of them. Kruskal's algorithm leaves of the links inside each cluster a shortest tree: links
# go in by length, equal ones by their pixels' numbers, as SciPy's `minimum_spanning_tree` takes them. There are
# few different lengths, so they are sorted by counting.

_WORD = 8  # bytes that are looked at together
_FEWEST = 1024


class Neighbourhood(NamedTuple):
    """The 3**ndim places around a pixel, itself included, in the order of their coordinates."""

    lines: NDArray[np.int64]
    """Offsets along all axes but the last, shape (lines, ndim - 1); line i has the places 3 i to 3 i + 2."""
    distances: NDArray[np.float64]
    """Length of the step to each place."""
    ranks: NDArray[np.int64]
    """Number of each place's length among the different lengths, shortest first."""
    n_ranks: int


def neighbourhood(spacing: NDArray[np.float64]) -> Neighbourhood:
    """Places around a pixel, and how far they are."""
    offsets = np.stack(np.meshgrid(*[np.arange(-1, 2)] * len(spacing), indexing="ij"), -1).reshape(
        -1, len(spacing)
    )
    distances = np.sqrt(np.sum((offsets * spacing) ** 2, axis=1))
    lengths, ranks = np.unique(distances, return_inverse=True)
    lines = np.ascontiguousarray(offsets[::3, :-1], np.int64)
    return Neighbourhood(lines, distances, ranks.astype(np.int64), len(lengths))


def find_pixels(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of the nonzero bytes of a contiguous array, in C order."""
    flat = mask.reshape(-1)
    # Words must lie where the processor wants them, or numba compiles another version.
    head = min(-flat.ctypes.data % _WORD, flat.size)
    n_words = (flat.size - head) // _WORD
    words = flat[head : head + n_words * _WORD].view(np.uint64)
    positions: NDArray[np.int64] = _find(flat, words, head)
    return positions


@numba.njit(cache=True, nogil=True)
def _find(flat: Any, words: Any, head: int) -> Any:
    found = np.empty(max(_FEWEST, flat.size // 64), np.int64)
    n = 0
    for position in range(head):
        if flat[position]:
            found[n] = position
            n += 1
    for word in range(words.size):
        if words[word]:
            if n + _WORD > found.size:
                wider = np.empty(2 * found.size, np.int64)
                wider[:n] = found[:n]
                found = wider
            first = head + word * _WORD
            for position in range(first, first + _WORD):
                if flat[position]:
                    found[n] = position
                    n += 1
    if n + _WORD > found.size:
        wider = np.empty(2 * found.size, np.int64)
        wider[:n] = found[:n]
        found = wider
    for position in range(head + words.size * _WORD, flat.size):
        if flat[position]:
            found[n] = position
            n += 1
    return found[:n].copy()


@numba.njit(cache=True, nogil=True)
def link_pixels(positions: Any, shape: Any, lines: Any) -> Any:
    """Coordinates of the pixels, and the neighbours of each: CSR arrays, with the place of each neighbour."""
    n, ndim = positions.size, shape.size
    n_lines = len(lines)
    width = shape[ndim - 1]
    strides = np.ones(ndim, np.int64)
    for axis in range(ndim - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    steps = np.zeros(n_lines, np.int64)
    for line in range(n_lines):
        for axis in range(ndim - 1):
            steps[line] += lines[line, axis] * strides[axis]
    coordinates = np.empty((n, ndim), np.int64)
    indptr = np.empty(n + 1, np.int64)
    indptr[0] = 0
    indices = np.empty(3 * n + 3 * n_lines, np.int64)
    places = np.empty(indices.size, np.uint16)
    cursors = np.zeros(n_lines, np.int64)
    usable = np.ones(n_lines, np.bool_)  # lines that do not leave the image
    current = np.zeros(ndim, np.int64)
    row_start = row_end = np.int64(0)
    n_links = 0
    for pixel in range(n):
        position = positions[pixel]
        if position >= row_end:
            rest = position
            for axis in range(ndim - 1):
                current[axis] = rest // strides[axis]
                rest -= current[axis] * strides[axis]
            row_start = position - rest
            row_end = row_start + width
            for line in range(n_lines):
                usable[line] = True
                for axis in range(ndim - 1):
                    place = current[axis] + lines[line, axis]
                    usable[line] &= 0 <= place < shape[axis]
        current[ndim - 1] = position - row_start
        for axis in range(ndim):
            coordinates[pixel, axis] = current[axis]
        if n_links + 3 * n_lines > indices.size:
            more_indices = np.empty(2 * indices.size, np.int64)
            more_indices[:n_links] = indices[:n_links]
            indices = more_indices
            more_places = np.empty(indices.size, np.uint16)
            more_places[:n_links] = places[:n_links]
            places = more_places
        for line in range(n_lines):
            if not usable[line]:
                continue
            middle = position + steps[line]
            first = max(middle - 1, row_start + steps[line])
            last = min(middle + 1, row_end - 1 + steps[line])
            cursor = cursors[line]
            while cursor < n and positions[cursor] < first:
                cursor += 1
            cursors[line] = cursor
            while cursor < n and positions[cursor] <= last:
                if cursor != pixel:
                    indices[n_links] = cursor
                    places[n_links] = 3 * line + 1 + positions[cursor] - middle
                    n_links += 1
                cursor += 1
        indptr[pixel + 1] = n_links
    return coordinates, indptr, indices, places


@numba.njit(cache=True, nogil=True)
def thin_junctions(indptr: Any, indices: Any, places: Any, distances: Any, ranks: Any, n_ranks: int) -> Any:
    """Leave a shortest tree of the links between pixels with more than two neighbours; CSR arrays with lengths."""
    n = indptr.size - 1
    # Links of junctions, each once, counted by length.
    begin = np.zeros(n_ranks + 1, np.int64)
    for pixel in range(n):
        if indptr[pixel + 1] - indptr[pixel] > 2:
            for link in range(indptr[pixel], indptr[pixel + 1]):
                other = indices[link]
                if other > pixel and indptr[other + 1] - indptr[other] > 2:
                    begin[ranks[places[link]] + 1] += 1
    for rank in range(n_ranks):
        begin[rank + 1] += begin[rank]
    ordered_from = np.empty(begin[n_ranks], np.int64)
    ordered_link = np.empty(begin[n_ranks], np.int64)
    for pixel in range(n):
        if indptr[pixel + 1] - indptr[pixel] > 2:
            for link in range(indptr[pixel], indptr[pixel + 1]):
                other = indices[link]
                if other > pixel and indptr[other + 1] - indptr[other] > 2:
                    at = begin[ranks[places[link]]]
                    ordered_from[at] = pixel
                    ordered_link[at] = link
                    begin[ranks[places[link]]] += 1

    parents = np.arange(n if ordered_link.size else 0)
    n_links = indptr[n]
    is_left_out = np.zeros(n_links if ordered_link.size else 0, np.bool_)
    n_left_out = 0
    for k in range(ordered_link.size):
        pixel, other = ordered_from[k], indices[ordered_link[k]]
        root, other_root = pixel, other
        while parents[root] != root:
            parents[root] = parents[parents[root]]
            root = parents[root]
        while parents[other_root] != other_root:
            parents[other_root] = parents[parents[other_root]]
            other_root = parents[other_root]
        if root != other_root:
            parents[max(root, other_root)] = min(root, other_root)
            continue
        back = indptr[other]
        while indices[back] != pixel:
            back += 1
        is_left_out[ordered_link[k]] = True
        is_left_out[back] = True
        n_left_out += 2

    kept_indptr = np.empty(n + 1, np.int64)
    kept_indptr[0] = 0
    kept_indices = np.empty(n_links - n_left_out, np.int64)
    kept_distances = np.empty(n_links - n_left_out, np.float64)
    at = 0
    for pixel in range(n):
        for link in range(indptr[pixel], indptr[pixel + 1]):
            if n_left_out == 0 or not is_left_out[link]:
                kept_indices[at] = indices[link]
                kept_distances[at] = distances[places[link]]
                at += 1
        kept_indptr[pixel + 1] = at
    return kept_indptr, kept_indices, kept_distances
