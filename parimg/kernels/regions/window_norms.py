"""Building an index for sum pooling: the map channels-last, and the inverse norm of every window.

Compiled; called by `region_index.py`, and by `sum_pooling.py` where norms are not stored. Nothing is checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strategy: a norm does not depend on the query. Norms are stored strip by strip (all windows with the same y1
# and y2), within a strip by width and then by x1, so that windows side by side are neighbours. In a strip, the
# sum over a window is the difference of two sums of columns: one subtraction and one multiplication a channel.
# The difference is exact where float64 adds the map up without rounding, as it does nearly every float32 map.

ROUNDING = 2.0**-53


@numba.njit(cache=True, nogil=True)
def strip_size(width: int) -> int:
    """How many windows have the same y1 and y2."""
    return width * (width + 1) // 2


@numba.njit(cache=True, nogil=True)
def strip_place(height: int, y1: int, y2: int) -> int:
    """The place of a strip among all."""
    return y1 * height - y1 * (y1 - 1) // 2 + y2 - y1 - 1


@numba.njit(cache=True, nogil=True)
def row_start(width: int, dx: int) -> int:
    """Where the windows of one width begin in a strip."""
    return (dx - 1) * width - (dx - 1) * (dx - 2) // 2


@numba.njit(cache=True, nogil=True)
def lay_out(source: Any, target: Any) -> None:
    """Transpose (channels, cells) to (cells, channels).

    A constant number of channels is unrolled: a third of the time of tiles, or of numpy.
    """
    channels, cells = source.shape
    whole = channels // 16 * 16
    for first in range(0, whole, 16):
        for i in range(cells):
            row = target[i]
            for c in range(16):
                row[first + c] = source[first + c, i]
    for i in range(cells):
        for c in range(whole, channels):
            target[i, c] = source[c, i]


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def total_length(cells: Any) -> float:
    """The lengths of all cells' vectors, added up: no region's sum is longer. Not finite if a value is not."""
    total = 0.0
    for i in range(len(cells)):
        squared = 0.0
        for c in range(cells.shape[1]):
            value = np.float64(cells[i, c])
            squared += value * value
        total += np.sqrt(squared)
    return total


@numba.njit(cache=True, nogil=True)
def is_exact(cells: Any, total: float) -> bool:
    """Whether float64 adds the values up without rounding, in any order.

    It does when all are multiples of a unit that leaves their sum 52 bits. Adding and taking off a large
    number rounds to the unit.
    """
    if total == 0.0:
        return True
    large = 1.5 * 2.0 ** (np.ceil(np.log2(total)) + 1.0)
    for i in range(len(cells)):
        wrong = np.int64(0)
        for c in range(cells.shape[1]):
            value = np.float64(cells[i, c])
            wrong += np.int64((value + large) - large != value)
        if wrong:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def add_row(cells: Any, columns: NDArray[np.float64], running: NDArray[np.float64]) -> None:
    """Add one row of a map to the sums of the columns left of every x, shape (width + 1, channels)."""
    running[:] = 0.0
    for x in range(len(cells)):
        cell, column = cells[x], columns[x + 1]
        for c in range(len(running)):
            value = running[c] + cell[c]
            running[c] = value
            column[c] += value


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _squared_distances(one: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """From one vector to four: each of its values is loaded once for all."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(len(one)):
        value = one[i]
        a += (others[0, i] - value) * (others[0, i] - value)
        b += (others[1, i] - value) * (others[1, i] - value)
        c += (others[2, i] - value) * (others[2, i] - value)
        d += (others[3, i] - value) * (others[3, i] - value)
    return a, b, c, d


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _squared_distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    total = 0.0
    for i in range(len(one)):
        total += (other[i] - one[i]) * (other[i] - one[i])
    return total


@numba.njit(cache=True, nogil=True)
def inverse_norm(squared: float, total: float, floor: float) -> float:
    """Relative to the whole map's length, so that float32 holds it; 0 for a window without a direction."""
    norm = max(np.sqrt(squared), floor)
    return total / norm if norm > 0.0 else 0.0


@numba.njit(cache=True, nogil=True)
def fill_strip(
    columns: NDArray[np.float64],
    first: int,
    end: int,
    total: float,
    floor: float,
    inverse: NDArray[np.float32],
) -> None:
    """Inverse norms of the windows of a strip with widths from `first` up to `end`."""
    width = len(columns) - 1
    for x1 in range(width - first + 1):
        last = min(width + 1, x1 + end)
        x2 = x1 + first
        while x2 + 4 <= last:
            for lane, squared in enumerate(_squared_distances(columns[x1], columns[x2 : x2 + 4])):
                inverse[row_start(width, x2 + lane - x1) + x1] = inverse_norm(squared, total, floor)
            x2 += 4
        while x2 < last:
            squared = _squared_distance(columns[x1], columns[x2])
            inverse[row_start(width, x2 - x1) + x1] = inverse_norm(squared, total, floor)
            x2 += 1


@numba.njit(cache=True, nogil=True)
def norm_floor(shape: tuple[int, int, int], total: float, exact: bool) -> float:
    """How much rounding can add to the published sum over a region; shorter ones have no sure direction."""
    return 0.0 if exact else 16.0 * (shape[0] + shape[1]) * ROUNDING * total


@numba.njit(cache=True, nogil=True)
def fill_inverse_norms(
    cells: Any, total: float, floor: float, inverse: NDArray[np.float32], whole: NDArray[np.float64]
) -> None:
    """Inverse norms of all windows of a map (height, width, channels), strip after strip; and the sum of all."""
    height, width, channels = cells.shape
    size = strip_size(width)
    running = np.empty(channels)
    columns = np.empty((width + 1, channels))
    for y1 in range(height):
        columns[:] = 0.0
        for y2 in range(y1 + 1, height + 1):
            add_row(cells[y2 - 1], columns, running)
            start = strip_place(height, y1, y2) * size
            fill_strip(columns, 1, width + 1, total, floor, inverse[start : start + size])
        if y1 == 0:
            whole[:] = columns[width]
