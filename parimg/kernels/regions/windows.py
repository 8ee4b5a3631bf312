"""What both poolings of a region search share: which windows count, how they are ordered, where arrays lie.

Compiled; called by `sum_pooling.py`, `max_pooling.py` and `branch_and_bound.py`. Nothing is checked here.

A window is one integer, its key: y2, x2, y1, x1 from the highest bits down. The published loops visit windows
in ascending order of it, so that the lowest key is the window that they find first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Of each of the four numbers in a key.
KEY_BITS = 15
LARGEST_SIDE = (1 << KEY_BITS) - 1
_MASK = LARGEST_SIDE


def _pointer(_typing_context: Any, address: Any) -> tuple[Any, Callable[..., Any]]:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.voidptr(address), generate


pointer: Any = intrinsic(_pointer)


@numba.njit(cache=True, nogil=True)
def pack(y1: int, x1: int, y2: int, x2: int) -> int:
    """The key of a window."""
    return ((y2 << KEY_BITS | x2) << KEY_BITS | y1) << KEY_BITS | x1


@numba.njit(cache=True, nogil=True)
def unpack(key: int) -> tuple[int, int, int, int]:
    """The window of a key, as a box."""
    return key >> KEY_BITS & _MASK, key & _MASK, key >> 3 * KEY_BITS, key >> 2 * KEY_BITS & _MASK


@numba.njit(cache=True, nogil=True)
def admissible_widths(
    height: int, width: int, ratio: float, low: float, high: float, min_size: int
) -> NDArray[np.int64]:
    """The first width and the one after the last that count, for windows of every height; (height + 1, 2).

    The quotient falls as the width grows, also in floating point: what counts is one interval. A ratio of 0
    is no restriction.
    """
    widths = np.zeros((height + 1, 2), np.int64)
    for dy in range(min_size, height + 1):
        first, end = width + 1, min_size
        for dx in range(min_size, width + 1):
            if ratio == 0.0 or low < dy / dx / ratio < high:
                first, end = min(first, dx), dx + 1
        widths[dy, 0], widths[dy, 1] = first, max(first, end)
    return widths


@numba.njit(cache=True, nogil=True)
def grid_lines(size: int, step: int) -> NDArray[np.int64]:
    """Multiples of the step, and the far edge."""
    lines = np.empty(-(-size // step) + 1, np.int64)
    for i in range(len(lines)):
        lines[i] = min(i * step, size)
    return lines


@numba.njit(cache=True, nogil=True)
def grid_has_window(height: int, width: int, step: int, widths: NDArray[np.int64]) -> bool:
    """Whether a window with its edges on grid lines counts."""
    rows, columns = grid_lines(height, step), grid_lines(width, step)
    for i in range(len(rows)):
        for y2 in rows[i + 1 :]:
            first, end = widths[y2 - rows[i]]
            for j in range(len(columns)):
                for x2 in columns[j + 1 :]:
                    if first <= x2 - columns[j] < end:
                        return True
    return False


@numba.njit(cache=True, nogil=True)
def keep_best(scores: NDArray[np.float64], keys: NDArray[np.int64], score: float, key: int) -> None:
    """Put a window into its place of a list of fixed length, highest score first; the last one falls out."""
    place = len(scores) - 1
    if score < scores[place] or (score == scores[place] and key >= keys[place]):
        return
    for i in range(len(keys)):
        if keys[i] == key:
            return
    while place > 0 and (score > scores[place - 1] or (score == scores[place - 1] and key < keys[place - 1])):
        scores[place] = scores[place - 1]
        keys[place] = keys[place - 1]
        place -= 1
    scores[place] = score
    keys[place] = key


@numba.njit(cache=True, nogil=True)
def moved_window(key: int, move: int, step: int, height: int, width: int, widths: NDArray[np.int64]) -> int:
    """The window after one of 32 moves, or -1 where it does not count.

    A move takes one edge (0 to 7) or two (8 to 31) one step inwards or outwards: alone, an edge can hardly
    move where the aspect ratio is bound, while two keep it.
    """
    y1, x1, y2, x2 = unpack(key)
    if move < 8:
        first, second, directions = move >> 1, -1, move & 1
    else:
        pair, directions = (move - 8) >> 2, (move - 8) & 3
        # (0, 1) (0, 2) (0, 3) (1, 2) (1, 3) (2, 3)
        first = 0 if pair < 3 else 1 if pair < 5 else 2
        second = pair + 1 if pair < 3 else pair - 1 if pair < 5 else 3
    for edge, backwards in ((first, directions & 1), (second, directions >> 1)):
        shift = -step if backwards else step
        if edge == 0:
            y1 += shift
        elif edge == 1:
            x1 += shift
        elif edge == 2:
            y2 += shift
        elif edge == 3:
            x2 += shift
    if y1 < 0 or x1 < 0 or y2 > height or x2 > width or y2 <= y1 or x2 <= x1:
        return -1
    if not widths[y2 - y1, 0] <= x2 - x1 < widths[y2 - y1, 1]:
        return -1
    return int(pack(y1, x1, y2, x2))
