"""Inner loops of `graph.pixel_graph`: which pixels of a skeleton touch, and the tree of each junction.

Nothing is checked here; `graph.py` checks and is the only caller.
"""

from __future__ import annotations

from functools import lru_cache
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

_WORD = 8  # bytes of a word
_BLOCK = 4  # words that are looked at together
_CHUNK = 512  # blocks that are gone through at a time
_FEWEST = 4096
_LEFT_OUT = 2**16 - 1  # instead of a place
BEHIND = 2**63 - 1  # behind the last position, so that no cursor needs to ask for the end


class Neighbourhood(NamedTuple):
    """The 3**ndim places around a pixel, itself included, in the order of their coordinates."""

    lines: NDArray[np.int64]
    """Offsets along all axes but the last, shape (lines, ndim - 1); line i has the places 3 i to 3 i + 2."""
    distances: NDArray[np.float64]
    """Length of the step to each place."""
    ranks: NDArray[np.int64]
    """Number of each place's length among the different lengths, shortest first."""
    n_ranks: int


@lru_cache(maxsize=16)  # it takes 0.2 ms in three dimensions
def neighbourhood(spacing: tuple[float, ...]) -> Neighbourhood:
    """Places around a pixel, and how far they are."""
    offsets = np.stack(np.meshgrid(*[np.arange(-1, 2)] * len(spacing), indexing="ij"), -1).reshape(
        -1, len(spacing)
    )
    distances = np.sqrt(np.sum((offsets * spacing) ** 2, axis=1))
    lengths, ranks = np.unique(distances, return_inverse=True)
    lines = np.ascontiguousarray(offsets[::3, :-1], np.int64)
    return Neighbourhood(lines, distances, ranks.astype(np.int64), len(lengths))


def find_pixels(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of the nonzero bytes of a contiguous array, in C order, and three of `BEHIND`."""
    flat = mask.reshape(-1)
    # Words must lie where the processor wants them, or numba compiles another version.
    head = min(-flat.ctypes.data % _WORD, flat.size)
    n_words = (flat.size - head) // _WORD
    words = flat[head : head + n_words * _WORD].view(np.uint64)
    positions: NDArray[np.int64] = _find(flat, words, head)
    return positions


@numba.njit(cache=True, nogil=True)
def _find(flat: Any, words: Any, head: int) -> Any:
    found = np.empty(_FEWEST + flat.size // 64, np.int64)  # what is not written to costs nothing
    blocks = np.empty(_CHUNK, np.int64)
    hits = np.empty(_CHUNK * _BLOCK, np.int64)
    n = _find_in_bytes(flat, 0, head, found, 0)
    n_blocks = words.size // _BLOCK
    for begin in range(0, n_blocks, _CHUNK):
        n_hits = _find_words(words, begin, min(begin + _CHUNK, n_blocks), blocks, hits)
        if n + (n_hits + _BLOCK) * _WORD > found.size:
            wider = np.empty(2 * found.size + _CHUNK * _BLOCK * _WORD, np.int64)
            wider[:n] = found[:n]
            found = wider
        n = _find_in_words(flat, head, hits, n_hits, found, n)
    n = _find_in_bytes(flat, head + n_blocks * _BLOCK * _WORD, flat.size, found, n)
    found[n : n + 3] = BEHIND
    return found[: n + 3]


# Every place is written down and kept or not by counting on: a branch for each would be mispredicted as often as
# there are pixels, which took twice as long. In one function with the loop above it takes ten times as long.


@numba.njit(cache=True, nogil=True)
def _find_words(words: Any, begin: int, end: int, blocks: Any, hits: Any) -> int:
    """Write down the nonzero words of some blocks of words."""
    n_blocks = 0
    for block in range(begin, end):
        any_bits = np.uint64(0)
        for k in range(_BLOCK):
            any_bits |= words[block * _BLOCK + k]
        blocks[n_blocks] = block
        n_blocks += any_bits != 0
    n_hits = 0
    for k in range(n_blocks):
        first = blocks[k] * _BLOCK
        for word in range(first, first + _BLOCK):
            hits[n_hits] = word
            n_hits += words[word] != 0
    return n_hits


@numba.njit(cache=True, nogil=True)
def _find_in_words(flat: Any, head: int, hits: Any, n_hits: int, found: Any, n: int) -> int:
    for k in range(n_hits):
        first = head + hits[k] * _WORD
        for position in range(first, first + _WORD):
            found[n] = position
            n += flat[position] != 0
    return n


@numba.njit(cache=True, nogil=True)
def _find_in_bytes(flat: Any, first: int, end: int, found: Any, n: int) -> int:
    for position in range(first, end):
        if flat[position]:
            found[n] = position
            n += 1
    return n


@numba.njit(cache=True, nogil=True)
def link_pixels(positions: Any, shape: Any, lines: Any, like: Any) -> Any:
    """Coordinates of the pixels, and the links of each to later ones: how many, other ends, places.

    Pixels and coordinates are numbered in the dtype of `like`.
    """
    n, ndim, n_lines = positions.size - 3, shape.size, len(lines)
    strides = np.ones(ndim, np.int64)
    for axis in range(ndim - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    steps = np.zeros(n_lines, np.int64)
    for line in range(n_lines):
        for axis in range(ndim - 1):
            steps[line] += lines[line, axis] * strides[axis]
    coordinates = np.empty((n, ndim), like.dtype)
    counts = np.empty(n, np.uint16)  # at most 3**8 // 2
    others = np.empty(2 * n + 3 * n_lines, like.dtype)
    places = np.empty(others.size, np.uint16)
    cursors = np.zeros(n_lines, np.int64)
    pixel = used = 0
    while True:
        pixel, used = _link_some(
            positions, pixel, used, shape, strides, lines, steps, cursors, coordinates, counts, others, places
        )
        if pixel == n:
            return coordinates, counts, others, places
        more_others = np.empty(2 * others.size, like.dtype)
        more_others[:used] = others[:used]
        more_places = np.empty(2 * places.size, np.uint16)
        more_places[:used] = places[:used]
        others, places = more_others, more_places


@numba.njit(cache=True, nogil=True)
def _link_some(
    positions: Any,
    pixel: int,
    n_links: int,
    shape: Any,
    strides: Any,
    lines: Any,
    steps: Any,
    cursors: Any,
    coordinates: Any,
    counts: Any,
    others: Any,
    places: Any,
) -> Any:
    """Go on at a pixel until all are linked or the next one's links might not fit."""
    n, ndim, n_lines = positions.size - 3, shape.size, len(lines)
    own_line = n_lines // 2
    inside = np.empty(n_lines, np.int64)  # later lines that do not leave the image
    n_inside = 0
    current = np.zeros(ndim, np.int64)
    row_start = row_end = np.int64(0)
    while pixel < n and n_links + 3 * n_lines <= others.size:
        position = positions[pixel]
        if position >= row_end:
            rest = position
            is_border = False
            for axis in range(ndim - 1):
                place = np.int64(np.uint64(rest) // np.uint64(strides[axis]))
                rest -= place * strides[axis]
                current[axis] = place
                is_border |= place == 0 or place == shape[axis] - 1
            row_start = position - rest
            row_end = row_start + shape[ndim - 1]
            if is_border or n_inside < n_lines - own_line - 1:
                n_inside = 0
                for line in range(own_line + 1, n_lines):
                    is_inside = True
                    for axis in range(ndim - 1):
                        is_inside &= 0 <= current[axis] + lines[line, axis] < shape[axis]
                    inside[n_inside] = line
                    n_inside += is_inside
        current[ndim - 1] = position - row_start
        for axis in range(ndim):
            coordinates[pixel, axis] = current[axis]
        links_before = n_links
        before = position > row_start
        behind = position < row_end - 1
        if behind and positions[pixel + 1] == position + 1:
            others[n_links] = pixel + 1
            places[n_links] = 3 * own_line + 2
            n_links += 1
        for k in range(n_inside):
            line = inside[k]
            middle = position + steps[line]
            first = middle - before
            last = middle + behind
            # Mostly none or a few are stepped over, which no branch prediction foresees.
            cursor = cursors[line]
            cursor += positions[cursor] < first
            cursor += positions[cursor] < first
            while positions[cursor] < first:
                cursor += 1
            cursors[line] = cursor
            while positions[cursor] <= last:
                others[n_links] = cursor
                places[n_links] = 3 * line + 1 + positions[cursor] - middle
                n_links += 1
                cursor += 1
        counts[pixel] = n_links - links_before
        pixel += 1
    return pixel, n_links


@numba.njit(cache=True, nogil=True)
def thin_junctions(counts: Any, others: Any, places: Any, distances: Any, ranks: Any, n_ranks: int) -> Any:
    """Leave a shortest tree of the links between pixels with more than two; CSR arrays of both directions."""
    n = counts.size
    degrees = counts.copy()
    end = 0
    for pixel in range(n):
        begin, end = end, end + counts[pixel]
        for link in range(begin, end):
            degrees[others[link]] += 1
    # Links of junctions by length: first how many of each, then where the next one of each goes.
    next_of_rank = np.zeros(n_ranks + 1, np.int64)
    end = 0
    for pixel in range(n):
        begin, end = end, end + counts[pixel]
        if degrees[pixel] > 2:
            for link in range(begin, end):
                if degrees[others[link]] > 2:
                    next_of_rank[ranks[places[link]] + 1] += 1
    for rank in range(n_ranks):
        next_of_rank[rank + 1] += next_of_rank[rank]
    ordered_pixels = np.empty(next_of_rank[n_ranks], np.int64)
    ordered_links = np.empty(next_of_rank[n_ranks], np.int64)
    end = 0
    for pixel in range(n):
        begin, end = end, end + counts[pixel]
        if degrees[pixel] > 2:
            for link in range(begin, end):
                if degrees[others[link]] > 2:
                    rank = ranks[places[link]]
                    ordered_pixels[next_of_rank[rank]] = pixel
                    ordered_links[next_of_rank[rank]] = link
                    next_of_rank[rank] += 1

    parents = np.arange(n if ordered_links.size else 0)
    for k in range(ordered_links.size):
        link = ordered_links[k]
        pixel, other = ordered_pixels[k], others[link]
        root, other_root = pixel, other
        while parents[root] != root:
            parents[root] = parents[parents[root]]
            root = parents[root]
        while parents[other_root] != other_root:
            parents[other_root] = parents[parents[other_root]]
            other_root = parents[other_root]
        if root != other_root:
            parents[max(root, other_root)] = min(root, other_root)
        else:
            degrees[pixel] -= 1
            degrees[other] -= 1
            places[link] = _LEFT_OUT

    # First where each row begins, in the entry of the next one; as the row fills, that becomes where it ends.
    indptr = np.empty(n + 1, np.int64)
    indptr[0] = n_links = 0
    for pixel in range(n):
        indptr[pixel + 1] = n_links
        n_links += degrees[pixel]
    indices = np.empty(n_links, others.dtype)
    lengths = np.empty(n_links, np.float64)
    # In this order rows come out ascending: links from earlier pixels first, then those to later ones.
    end = 0
    for pixel in range(n):
        begin, end = end, end + counts[pixel]
        for link in range(begin, end):
            if places[link] != _LEFT_OUT:
                other = others[link]
                length = distances[places[link]]
                at, back = indptr[pixel + 1], indptr[other + 1]
                indices[at], lengths[at] = other, length
                indices[back], lengths[back] = pixel, length
                indptr[pixel + 1] = at + 1
                indptr[other + 1] = back + 1
    return indptr, indices, lengths
