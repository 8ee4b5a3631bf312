"""Thinning of masks to lines one pixel wide, as many rounds as asked for: what a part of a large image needs.

Arrays in, arrays out. In each round a pixel depends on those up to two away, so that of a part that is cut out of
an image all is right but a margin of two pixels a round. Tasks call this for tiles; of whole images
`skimage.morphology.skeletonize` makes the same.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

REACH = 2
"""Pixels, a round."""

# Strategy: the eight neighbours of a pixel are the bits of a number, and a table says for each number in which of
# a round's two halves the pixel goes, if it does: 1 the first, 2 the second, 3 either. Only foreground is looked
# at: its positions are kept in a list, which becomes shorter. All that go in a half round go at once.
#
# The paper keeps corners of lines, and lets pairs that touch go in either half, so that wide diagonal lines can
# vanish. scikit-image goes other ways for these neighbours, named by their directions.
_AROUND = ("n", "ne", "e", "se", "s", "sw", "w", "nw")
_OTHER_WAYS = {
    0: ("se s", "w nw"),
    1: ("n nw", "n ne", "ne e", "n ne e", "n w nw", "n e nw", "n ne w", "s w nw", "n sw w", "n ne sw w"),
    2: ("e se", "s sw", "sw w", "e se s", "s sw w", "n e se", "e s sw", "se s w", "ne e s sw"),
    3: ("n e", "e s", "n w", "s w"),
}


def thin(mask: NDArray[np.bool_], rounds: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Thin a mask by some rounds of the algorithm of Zhang and Suen, as scikit-image has it.

    Parameters
    ----------
    mask : ndarray of bool, shape (height, width)
    rounds : int
        At least 1. After enough of them nothing changes any more.

    Returns
    -------
    thinned : ndarray of bool, shape (height, width)
    changed : ndarray of bool, shape (height, width)
        Pixels that went in the last of these rounds; all False if fewer rounds did.

    References
    ----------
    T. Y. Zhang, C. Y. Suen, "A fast parallel algorithm for thinning digital patterns", Communications of the ACM
    27 (1984).

    Examples
    --------
    >>> thinned, changed = thin(np.ones((3, 5), bool), rounds=10)
    >>> thinned.astype(int)
    array([[0, 0, 0, 1, 0],
           [1, 1, 1, 0, 0],
           [0, 0, 0, 0, 0]])
    >>> changed.any()
    np.False_
    """
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    last = np.zeros(padded.shape, np.uint8)
    _thin(padded, last, _table(), rounds)
    return padded[1:-1, 1:-1].astype(bool), last[1:-1, 1:-1].astype(bool)


@cache
def _table() -> NDArray[np.uint8]:
    """By the conditions of the paper, but for some neighbours."""
    table = np.zeros(256, np.uint8)
    for number in range(256):
        above, _, right, _, below, _, left, _ = ring = [number >> bit & 1 for bit in range(8)]
        turns = sum(before < after for before, after in zip(ring, ring[1:] + ring[:1], strict=True))
        if 2 <= sum(ring) <= 6 and turns == 1:
            first = above * right * below == 0 and right * below * left == 0
            second = above * right * left == 0 and above * below * left == 0
            table[number] = first + 2 * second
    for halves, neighbours in _OTHER_WAYS.items():
        for names in neighbours:
            table[sum(1 << _AROUND.index(name) for name in names.split())] = halves
    return table


@numba.njit(cache=True, nogil=True)
def _thin(mask: Any, last: Any, table: Any, rounds: int) -> None:
    width = mask.shape[1]
    flat, marks = mask.reshape(-1), last.reshape(-1)
    n = 0
    for position in range(flat.size):
        n += flat[position] != 0
    positions = np.empty(n, np.int64)
    n = 0
    for position in range(flat.size):
        if flat[position]:
            positions[n] = position
            n += 1
    goes = np.empty(n, np.int64)
    for turn in range(rounds):
        removed = 0
        for half in (1, 2):
            n_goes = 0
            for k in range(n):
                at = positions[k]
                around = (
                    flat[at - width]
                    | flat[at - width + 1] << 1
                    | flat[at + 1] << 2
                    | flat[at + width + 1] << 3
                    | flat[at + width] << 4
                    | flat[at + width - 1] << 5
                    | flat[at - 1] << 6
                    | flat[at - width - 1] << 7
                )
                if table[around] & half:
                    goes[n_goes] = at
                    n_goes += 1
            for k in range(n_goes):
                flat[goes[k]] = 0
                marks[goes[k]] = turn == rounds - 1
            removed += n_goes
            kept = 0
            for k in range(n):
                positions[kept] = positions[k]
                kept += flat[positions[k]] != 0
            n = kept
        if not removed:
            return
