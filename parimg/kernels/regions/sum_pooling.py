"""Sum-pooled region search: the windows that the published loops find, ties included.

Compiled; called by `search_loop.py`. Maps come channels-last, float32 or float64, finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from parimg.kernels.regions.published_distances import direct_sum, dot, published_distance, settle, window_sum
from parimg.kernels.regions.window_norms import (
    ROUNDING,
    add_row,
    fill_strip,
    inverse_norm,
    norm_floor,
    row_start,
    strip_place,
    strip_size,
)
from parimg.kernels.regions.window_scan import PADDING, ask_for, highest_score
from parimg.kernels.regions.windows import (
    admissible_widths,
    grid_has_window,
    grid_lines,
    keep_best,
    moved_window,
    pack,
    unpack,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strategy: the cosine of a window with the query is a numerator, which one integral image of `query . map` gives
# in O(1), times an inverse norm. Both carry rounding, and so do the published sums. `slack` bounds what numerators
# can be off, MARGIN what a stored norm can. The scan keeps every window that could be the published winner within
# these bounds: one, mostly. Of several, the published formula decides, in its own order of additions.

# Norms are stored as float32, cosines are at most 1.
MARGIN = 2.0**-22
_NEVER = -1e300
_NORMS_A_LINE = 16  # of the cache


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _four_dots(
    one: Any, two: Any, three: Any, four: Any, query: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Of four cells: the query is loaded once for all."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(len(query)):
        value = query[i]
        a += np.float64(one[i]) * value
        b += np.float64(two[i]) * value
        c += np.float64(three[i]) * value
        d += np.float64(four[i]) * value
    return a, b, c, d


@numba.njit(cache=True, nogil=True)
def _numerators(cells: Any, query: NDArray[np.float64]) -> NDArray[np.float64]:
    """The integral image of the dot products with the query.

    The map is read as four streams, a quarter each: out of memory that takes 36 us of 590 kB, where neighbouring
    cells four at a time take 66, and prefetching them besides no less.
    """
    height, width, channels = cells.shape
    flat = cells.reshape(height * width, channels)
    dots = np.empty(height * width)
    quarter = len(dots) // 4
    half, most = 2 * quarter, 3 * quarter
    for i in range(quarter):
        dots[i], dots[i + quarter], dots[i + half], dots[i + most] = _four_dots(
            flat[i], flat[i + quarter], flat[i + half], flat[i + most], query
        )
    for i in range(4 * quarter, len(dots)):
        dots[i] = dot(flat[i], query)
    integral = np.zeros((height + 1, width + 1))
    for y in range(height):
        running = 0.0
        for x in range(width):
            running += dots[y * width + x]
            integral[y + 1, x + 1] = integral[y, x + 1] + running
    return integral


@numba.njit(cache=True, nogil=True)
def _window_score(
    cells: Any,
    numerators: NDArray[np.float64],
    inverse: NDArray[np.float32],
    total: float,
    floor: float,
    scratch: NDArray[np.float64],
    key: int,
) -> float:
    y1, x1, y2, x2 = unpack(key)
    height, width, _ = cells.shape
    numerator = numerators[y2, x2] - numerators[y1, x2] - (numerators[y2, x1] - numerators[y1, x1])
    if len(inverse):
        place = strip_place(height, y1, y2) * strip_size(width) + row_start(width, x2 - x1) + x1
        return float(numerator * inverse[place])
    direct_sum(cells, key, scratch)
    return float(numerator * inverse_norm(dot(scratch, scratch), total, floor))


@numba.njit(cache=True, nogil=True)
def _refine(
    cells: Any,
    numerators: NDArray[np.float64],
    inverse: NDArray[np.float32],
    whole: NDArray[np.float64],
    total: float,
    floor: float,
    query: NDArray[np.float64],
    widths: NDArray[np.int64],
    scores: NDArray[np.float64],
    keys: NDArray[np.int64],
) -> int:
    """Move the edges of each window by 3, 2 and 1 cells while that helps; return how many were looked at."""
    height, width, channels = cells.shape
    scratch = np.empty(channels)
    starts = keys.copy()
    scores[:] = -np.inf
    keys[:] = -1
    looked_at = 0
    for start in starts:
        if start < 0:
            break
        key, score = start, _window_score(cells, numerators, inverse, total, floor, scratch, start)
        for stride in (3, 2, 1):
            while True:
                next_key, next_score = key, score
                for move in range(32):
                    tried = moved_window(key, move, stride, height, width, widths)
                    if tried >= 0:
                        looked_at += 1
                        tried_score = _window_score(cells, numerators, inverse, total, floor, scratch, tried)
                        if tried_score > next_score:
                            next_key, next_score = tried, tried_score
                if next_key == key:
                    break
                key, score = next_key, next_score
        window_sum(cells, whole, key, scratch)
        keep_best(scores, keys, -published_distance(scratch, query), key)
    return looked_at


@numba.njit(cache=True, nogil=True)
def _take_strip(numerators: NDArray[np.float64], y1: int, y2: int, strip: NDArray[np.float64]) -> None:
    for x in range(numerators.shape[1]):
        strip[x] = numerators[y2, x] - numerators[y1, x]


@numba.njit(cache=True, nogil=True)
def _collect(
    strip: NDArray[np.float64],
    norms: NDArray[np.float32],
    y1: int,
    y2: int,
    first: int,
    end: int,
    columns: NDArray[np.int64],
    step: int,
    slack: float,
    lows: NDArray[np.float64],
    low_keys: NDArray[np.int64],
    found: NDArray[np.int64],
    highs: NDArray[np.float64],
    number: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], int, int]:
    """Append the windows of a strip that may be among the best, and what they may score at most.

    `lows` are the best scores that are sure. The last value returned is how many windows there were.
    """
    width = columns[-1]
    looked_at = 0
    for dx in range(first, end):
        row = row_start(width, dx)
        looked_at += width + 1 - dx if step == 1 else 0
        if step == 1 and highest_score(strip, norms, dx, dx + 1, row, slack) < lows[-1] - MARGIN:
            continue
        for x1 in columns:
            x2 = x1 + dx
            if x2 > width:
                break
            if step > 1:
                if x2 % step != 0 and x2 != width:
                    continue
                looked_at += 1
            norm = norms[row + x1]
            if norm == 0:
                continue
            numerator = strip[x2] - strip[x1]
            high = (numerator + slack) * norm
            if high < lows[-1] - MARGIN:
                continue
            key = pack(y1, x1, y2, x2)
            if number == len(found):
                found = np.concatenate((found, np.empty_like(found)))
                highs = np.concatenate((highs, np.empty_like(highs)))
            found[number], highs[number] = key, high
            number += 1
            keep_best(lows, low_keys, (numerator - slack) * norm, key)
    return found, highs, number, looked_at


@numba.njit(cache=True, nogil=True)
def _ask_for_norms(inverse: NDArray[np.float32], widths: NDArray[np.int64], height: int, width: int) -> None:
    """Have the norms that `_highest_of_strips` will read fetched.

    They lie here and there: waiting for one after the other takes 15 us of a search whose caches are cold.
    """
    for y1 in range(height):
        for y2 in range(y1 + 1, height + 1):
            first, end = widths[y2 - y1]
            if first < end:
                start = strip_place(height, y1, y2) * strip_size(width)
                last = start + row_start(width, end) - 1
                for place in range(start + row_start(width, first), last, _NORMS_A_LINE):
                    ask_for(inverse, place)
                ask_for(inverse, last)


@numba.njit(cache=True, nogil=True)
def _highest_of_strips(
    numerators: NDArray[np.float64],
    inverse: NDArray[np.float32],
    widths: NDArray[np.int64],
    slack: float,
    highs: NDArray[np.float64],
) -> int:
    """Write the highest score of each strip; return how many windows that were."""
    height, width = numerators.shape[0] - 1, numerators.shape[1] - 1
    strip = np.zeros(width + 1 + PADDING)
    looked_at = 0
    for y1 in range(height):
        for y2 in range(y1 + 1, height + 1):
            first, end = widths[y2 - y1]
            if first < end:
                _take_strip(numerators, y1, y2, strip)
                place = strip_place(height, y1, y2)
                norms = inverse[place * strip_size(width) :]
                highs[place] = highest_score(strip, norms, first, end, row_start(width, first), slack)
                looked_at += row_start(width, end) - row_start(width, first)
    return looked_at


@numba.njit(cache=True, nogil=True)
def search_sums(
    cells: Any,
    inverse: NDArray[np.float32],
    whole: NDArray[np.float64],
    total: float,
    exact: bool,
    query: NDArray[np.float64],
    ratio: float,
    low: float,
    high: float,
    step: int,
    min_size: int,
    refine: bool,
    best_distance: NDArray[np.float64],
    best_keys: NDArray[np.int64],
) -> int:
    """Write the nearest windows, nearest first, and return how many were looked at.

    Parameters
    ----------
    cells : float32 or float64, shape (height, width, channels)
    inverse : float32, all strips and PADDING, or empty: then norms are computed as they are needed
    whole : float64, the exact sum of all cells, shape (channels,), or empty
    total, exact : what `total_length` and `is_exact` said
    query : float64, shape (channels,), of unit length
    best_distance, best_keys : shape (top_k,), written; infinite and -1 where there are fewer
    """
    height, width, channels = cells.shape
    best_distance[:] = np.inf
    best_keys[:] = -1
    if total == 0.0:
        return 0
    widths = admissible_widths(height, width, ratio, low, high, min_size)
    if not grid_has_window(height, width, step, widths):
        step = 1
    floor = norm_floor(cells.shape, total, exact)
    slack = (channels + 4 * (height + width) + 16) * 2 * ROUNDING + 4.0 * floor / total
    stored = len(inverse) > 0
    if stored and step == 1:
        _ask_for_norms(inverse, widths, height, width)
    numerators = _numerators(cells, query / total)
    rows, columns = grid_lines(height, step), grid_lines(width, step)
    size = strip_size(width)
    strip = np.zeros(width + 1 + PADDING)
    lows, low_keys = np.full(len(best_keys), _NEVER), np.full(len(best_keys), -1, np.int64)
    found, highs, number = np.empty(64, np.int64), np.empty(64), 0

    running = np.empty(0 if stored else channels)
    sums = np.empty((0 if stored else width + 1, channels))
    own = np.empty(0 if stored else size + PADDING, np.float32)

    looked_at = 0
    strip_highs = np.full(height * (height + 1) // 2, np.inf)
    if stored and step == 1:
        # The best strip first: its windows rule out nearly all others.
        strip_highs[:] = -np.inf
        looked_at = _highest_of_strips(numerators, inverse, widths, slack, strip_highs)
        best = int(np.argmax(strip_highs))
        y1 = 0
        while strip_place(height, y1 + 1, y1 + 2) <= best:
            y1 += 1
        y2 = best - strip_place(height, y1, y1 + 1) + y1 + 1
        first, end = widths[y2 - y1]
        _take_strip(numerators, y1, y2, strip)
        found, highs, number, _ = _collect(
            strip, inverse[best * size :], y1, y2, first, end, columns, step, slack, lows, low_keys,
            found, highs, number,
        )  # fmt: skip
        strip_highs[best] = -np.inf
    for i in range(len(rows)):
        y1 = rows[i]
        sums[:] = 0.0
        added = y1
        for y2 in rows[i + 1 :]:
            first, end = widths[y2 - y1]
            place = strip_place(height, y1, y2)
            if first >= end or not strip_highs[place] >= lows[-1] - MARGIN:
                continue
            _take_strip(numerators, y1, y2, strip)
            if stored:
                norms = inverse[place * size :]
            else:
                while added < y2:
                    add_row(cells[added], sums, running)
                    added += 1
                fill_strip(sums, first, end, total, floor, own)
                norms = own
            found, highs, number, windows = _collect(
                strip, norms, y1, y2, first, end, columns, step, slack, lows, low_keys, found, highs, number
            )
            if not (stored and step == 1):
                looked_at += windows
    candidates = found[:number][highs[:number] >= lows[-1] - MARGIN]
    distances = settle(cells, whole, query, candidates, exact, floor)
    scores = np.full(len(best_keys), -np.inf)
    for i in range(len(candidates)):
        if distances[i] == distances[i]:
            keep_best(scores, best_keys, -distances[i], candidates[i])
    if refine and step > 1:
        looked_at += _refine(cells, numerators, inverse, whole, total, floor, query, widths, scores, best_keys)
    best_distance[:] = -scores
    return looked_at
