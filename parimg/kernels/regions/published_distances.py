"""Distances of sum-pooled windows by the published formula, to the last bit where several windows are near-tied.

Compiled; called by `sum_pooling.py`. Nothing is checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from parimg.kernels.regions.windows import unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Windows whose distances are computed side by side, each in its own order of additions.
_LANES = 64


@numba.njit(cache=True, nogil=True)
def integral_channels_last(cells: Any) -> NDArray[np.float64]:
    """The published integral image, added up in its order, with the channels last."""
    height, width, channels = cells.shape
    integral = np.zeros((height + 1, width + 1, channels))
    running = np.empty(channels)
    for y in range(height):
        running[:] = 0.0
        for x in range(width):
            for c in range(channels):
                running[c] += cells[y, x, c]
                integral[y + 1, x + 1, c] = integral[y, x + 1, c] + running[c]
    return integral


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def dot(cell: Any, query: NDArray[np.float64]) -> float:
    total = 0.0
    for c in range(len(query)):
        total += np.float64(cell[c]) * query[c]
    return total


@numba.njit(cache=True, nogil=True)
def _add_cells(cells: Any, y1: int, x1: int, y2: int, x2: int, total: NDArray[np.float64]) -> None:
    for y in range(y1, y2):
        fours = x1 + (x2 - x1) // 4 * 4
        for x in range(x1, fours, 4):
            a, b, c, d = cells[y, x], cells[y, x + 1], cells[y, x + 2], cells[y, x + 3]
            for i in range(len(total)):
                total[i] += (np.float64(a[i]) + np.float64(b[i])) + (np.float64(c[i]) + np.float64(d[i]))
        for x in range(fours, x2):
            last = cells[y, x]
            for i in range(len(total)):
                total[i] += last[i]


@numba.njit(cache=True, nogil=True)
def direct_sum(cells: Any, key: int, total: NDArray[np.float64]) -> None:
    """The sum over a window, cell by cell; the order of additions is not the published one."""
    y1, x1, y2, x2 = unpack(key)
    total[:] = 0.0
    _add_cells(cells, y1, x1, y2, x2, total)


@numba.njit(cache=True, nogil=True)
def window_sum(cells: Any, whole: NDArray[np.float64], key: int, total: NDArray[np.float64]) -> None:
    """The sum over a window; of one larger than half the map that of all cells less those around it.

    Both are exact where there is a sum of all cells. Adding up all of 590 kB takes a third of a search.
    """
    y1, x1, y2, x2 = unpack(key)
    height, width, _ = cells.shape
    if len(whole) == 0 or 2 * (y2 - y1) * (x2 - x1) <= height * width:
        direct_sum(cells, key, total)
        return
    total[:] = 0.0
    _add_cells(cells, 0, 0, y1, width, total)
    _add_cells(cells, y2, 0, height, width, total)
    _add_cells(cells, y1, 0, y2, x1, total)
    _add_cells(cells, y1, x2, y2, width, total)
    for i in range(len(total)):
        total[i] = whole[i] - total[i]


@numba.njit(cache=True, nogil=True)
def published_distance(total: NDArray[np.float64], query: NDArray[np.float64]) -> float:
    squared = 0.0
    for c in range(len(total)):
        squared += total[c] * total[c]
    if squared == 0.0:
        return np.nan
    norm = np.sqrt(squared)
    squared = 0.0
    for c in range(len(total)):
        difference = total[c] / norm - query[c]
        squared += difference * difference
    return float(np.sqrt(squared))


@numba.njit(cache=True, nogil=True)
def _published_distances(
    integral: NDArray[np.float64],
    query: NDArray[np.float64],
    keys: NDArray[np.int64],
    distance: NDArray[np.float64],
) -> None:
    """The published distance of every window, each in the published order of additions."""
    channels = len(query)
    block = np.zeros((channels, _LANES))
    norm, squared = np.empty(_LANES), np.empty(_LANES)
    for first in range(0, len(keys), _LANES):
        lanes = min(_LANES, len(keys) - first)
        for lane in range(lanes):
            y1, x1, y2, x2 = unpack(keys[first + lane])
            a, b, c, d = integral[y2, x2], integral[y1, x1], integral[y1, x2], integral[y2, x1]
            for channel in range(channels):
                block[channel, lane] = a[channel] + b[channel] - c[channel] - d[channel]
        norm[:] = 0.0
        squared[:] = 0.0
        for channel in range(channels):
            for lane in range(lanes):
                norm[lane] += block[channel, lane] * block[channel, lane]
        for lane in range(lanes):
            norm[lane] = np.sqrt(norm[lane]) if norm[lane] != 0.0 else np.nan
        for channel in range(channels):
            for lane in range(lanes):
                difference = block[channel, lane] / norm[lane] - query[channel]
                squared[lane] += difference * difference
        for lane in range(lanes):
            distance[first + lane] = np.sqrt(squared[lane])


@numba.njit(cache=True, nogil=True)
def settle(
    cells: Any,
    whole: NDArray[np.float64],
    query: NDArray[np.float64],
    keys: NDArray[np.int64],
    exact: bool,
    floor: float,
) -> NDArray[np.float64]:
    """The distances of candidates: published to the last bit where there are several.

    Where rounding can show, the published integral image is built.
    """
    distance = np.empty(len(keys))
    total = np.empty(len(query))
    height, width, _ = cells.shape
    additions = 0
    for key in keys:
        y1, x1, y2, x2 = unpack(key)
        additions += (y2 - y1) * (x2 - x1)
    if len(keys) == 1 or (exact and additions <= 4 * height * width):
        clear = True
        for i in range(len(keys)):
            window_sum(cells, whole, keys[i], total)
            distance[i] = published_distance(total, query)
            clear &= exact or np.sqrt(dot(total, total)) > 1e6 * floor
        if clear:
            return distance
    _published_distances(integral_channels_last(cells), query, keys, distance)
    return distance
