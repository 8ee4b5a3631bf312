"""Branch and bound: the best max-pooled window of all, proven, without comparing all.

Compiled; called by `search_loop.py`, with windows that a grid search found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

from parimg.kernels.regions.max_pooling import root, take_power_sums, take_roots, window_score
from parimg.kernels.regions.windows import KEY_BITS, keep_best, pack, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strategy: a set of windows is a range for each of the four edges. Pooled values grow with the window: those of
# every window in the set lie between those of the smallest (the intersection, which may be empty) and those of
# the largest (the union). Let l <= d <= u, q the query, s the best score so far, v any unit vector. If
# sum(max((q - s v) l, (q - s v) u)) < 0, then q.d < s v.d <= s |d|: no window in the set reaches s, and the set
# is dropped. The best v points where the best d within the limits does, which is the query clipped to them; two
# passes find it well enough. What is not dropped is halved along its longest range, the half with the larger
# windows last in and first out. The arithmetic is float32: sets within _MARGIN of the best are kept, too.

_MARGIN = 1e-5
# A bound takes two pooled vectors. Sets of fewer windows are compared one by one.
FEW = 12
LEADERS = 128
_Y1, _X1, _Y2, _X2 = 0, 2, 4, 6  # places of the ranges, both ends included


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _clip(
    lowest: NDArray[np.float32],
    highest: NDArray[np.float32],
    query: NDArray[np.float32],
    factor: np.float32,
    clipped: NDArray[np.float32],
) -> tuple[np.float32, np.float32]:
    """Clip the query times a factor to the limits; the product with the query and the squared length."""
    product, squared = np.float32(0), np.float32(0)
    for i in range(len(query)):
        value = min(max(factor * query[i], lowest[i]), highest[i])
        clipped[i] = value
        product += value * query[i]
        squared += value * value
    return product, squared


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _surplus(
    lowest: NDArray[np.float32],
    highest: NDArray[np.float32],
    query: NDArray[np.float32],
    direction: NDArray[np.float32],
    score: np.float32,
) -> tuple[np.float32, np.float32]:
    """The largest q.d - s v.d within the limits, and the sum of its terms' sizes, which bounds its rounding."""
    total, size = np.float32(0), np.float32(0)
    for i in range(len(query)):
        weight = query[i] - score * direction[i]
        term = max(weight * lowest[i], weight * highest[i])
        total += term
        size += abs(term)
    return total, size


@numba.njit(cache=True, nogil=True)
def _may_hold(
    lowest: NDArray[np.float32],
    highest: NDArray[np.float32],
    query: NDArray[np.float32],
    score: float,
    clipped: NDArray[np.float32],
) -> bool:
    """Whether a vector within the limits may score that much."""
    product, squared = _clip(lowest, highest, query, np.float32(1e30), clipped)
    for _ in range(3):
        if not product > 0 or not squared > 0:
            return True
        product, squared = _clip(lowest, highest, query, np.float32(squared / product), clipped)
    if not squared > 0:
        return True
    total, size = _surplus(lowest, highest, query, clipped, np.float32(score / np.sqrt(np.float64(squared))))
    return bool(total > -1e-5 * size)


@numba.njit(cache=True, nogil=True)
def _count(ranges: NDArray[np.int64], widths: NDArray[np.int64]) -> int:
    """How many windows of a set count; more than FEW are not told apart."""
    windows = 0
    for y1 in range(ranges[_Y1], ranges[_Y1 + 1] + 1):
        for y2 in range(max(ranges[_Y2], y1 + 1), ranges[_Y2 + 1] + 1):
            first, end = widths[y2 - y1]
            if first >= end:
                continue
            for x1 in range(ranges[_X1], ranges[_X1 + 1] + 1):
                low, high = max(ranges[_X2], x1 + first), min(ranges[_X2 + 1] + 1, x1 + end)
                windows += max(high - low, 0)
                if windows > FEW:
                    return FEW + 1
    return windows


@numba.njit(cache=True, nogil=True)
def _take_leaders(
    integral: NDArray[np.int64], scale: NDArray[np.float32], query: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Sums, scales and query of only the channels that count most for it, and the query with NaN for those.

    The sums have a border of zeros above and left; their shape is ((height + 1) * (width + 1), leaders).
    """
    height, width, channels = integral.shape
    chosen = np.sort(np.argsort(-np.abs(query))[: min(LEADERS, channels)])
    leaders = np.zeros(((height + 1) * (width + 1), len(chosen)), np.int64)
    for y in range(height):
        for x in range(width):
            cell, target = integral[y, x], leaders[(y + 1) * (width + 1) + x + 1]
            for i in range(len(chosen)):
                target[i] = cell[chosen[i]]
    rest = query.copy()
    rest[chosen] = np.nan
    return leaders, scale[chosen], query[chosen], rest


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _bound_rest(
    lowest: NDArray[np.float32], highest: NDArray[np.float32], rest: NDArray[np.float32]
) -> tuple[np.float32, np.float32]:
    """The largest product with the query and the smallest squared length of the channels that do not lead."""
    product, squared = np.float32(0), np.float32(0)
    for i in range(len(rest)):
        counts = rest[i] == rest[i]
        product += max(rest[i] * lowest[i], rest[i] * highest[i]) if counts else np.float32(0)
        squared += lowest[i] * lowest[i] if counts else np.float32(0)
    return product, squared


@numba.njit(cache=True, nogil=True)
def _take_leading_sums(
    leaders: NDArray[np.int64], columns: int, key: int, power_sums: NDArray[np.float32]
) -> None:
    y1, x1, y2, x2 = unpack(key)
    a, b = leaders[y2 * columns + x2], leaders[y1 * columns + x1]
    c, d = leaders[y1 * columns + x2], leaders[y2 * columns + x1]
    for i in range(len(power_sums)):
        power_sums[i] = np.float32((a[i] - c[i]) - (d[i] - b[i]))


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _highest_cosine(
    power_sums: NDArray[np.float32],
    scale: NDArray[np.float32],
    query: NDArray[np.float32],
    inverse_alpha: np.float32,
    product: np.float32,
    squared: np.float32,
) -> float:
    """Of a window whose leading channels are given, and bounds of the others."""
    for i in range(len(query)):
        value = root(power_sums[i], inverse_alpha) * scale[i]
        product += value * query[i]
        squared += value * value
    return product / np.sqrt(squared) if squared > 0 else np.inf


@numba.njit(cache=True, nogil=True)
def _pool(
    integral: NDArray[np.int64],
    scale: NDArray[np.float32],
    inverse_alpha: np.float32,
    key: int,
    power_sums: NDArray[np.float32],
    pooled: NDArray[np.float32],
) -> None:
    take_power_sums(integral, key, power_sums)
    take_roots(power_sums, scale, inverse_alpha, pooled)


@numba.njit(cache=True, nogil=True)
def search_bounds(
    integral: NDArray[np.int64],
    scale: NDArray[np.float32],
    inverse_alpha: np.float32,
    query: NDArray[np.float32],
    widths: NDArray[np.int64],
    scores: NDArray[np.float64],
    keys: NDArray[np.int64],
) -> int:
    """Write the best windows of all; return how many windows and sets of windows were looked at.

    `scores` and `keys` come with good windows in them, best first.
    """
    height, width, channels = integral.shape
    power_sums = np.empty(channels, np.float32)
    leaders, leading_scale, leading, rest = _take_leaders(integral, scale, query)
    few_sums = np.empty(len(leading), np.float32)
    # Each split adds one set to the stack, and a set can be split once for each bit of its four ranges.
    depth = 4 * (KEY_BITS + 1)
    stack = np.empty((depth, 8), np.int64)
    lowest, highest = np.zeros((depth, channels), np.float32), np.empty((depth, channels), np.float32)
    stack[0] = (0, height - 1, 0, width - 1, 1, height, 1, width)
    _pool(integral, scale, inverse_alpha, pack(0, 0, height, width), power_sums, highest[0])
    counts = np.full(depth, FEW + 1)
    if _count(stack[0], widths) == 0:
        return 0
    number, looked_at = 1, 1
    while number > 0:
        top = number - 1
        ranges, low, high = stack[top], lowest[top], highest[top]
        if scores[-1] > 0 and not _may_hold(low, high, query, scores[-1] - _MARGIN, power_sums):
            number -= 1
            continue
        longest = 0
        for side in range(2, 8, 2):
            if ranges[side + 1] - ranges[side] > ranges[longest + 1] - ranges[longest]:
                longest = side
        middle = (ranges[longest] + ranges[longest + 1]) // 2
        # The half with the larger windows goes on top. It shares the largest window with the whole, the other
        # half the smallest.
        large, small = stack[number], ranges
        large[:] = ranges
        if longest < _Y2:
            large[longest + 1], small[longest] = middle, middle + 1
        else:
            large[longest], small[longest + 1] = middle + 1, middle
        counts[top] = _count(small, widths)
        counts[number] = _count(large, widths)
        if counts[number] <= FEW or counts[top] <= FEW:
            product, squared = _bound_rest(low, high, rest)
        for place in (number, top):
            if counts[place] > FEW:
                continue
            part = stack[place]
            for y1 in range(part[_Y1], part[_Y1 + 1] + 1):
                for y2 in range(max(part[_Y2], y1 + 1), part[_Y2 + 1] + 1):
                    first, end = widths[y2 - y1]
                    for x1 in range(part[_X1], part[_X1 + 1] + 1):
                        start, stop = max(part[_X2], x1 + first), min(part[_X2 + 1] + 1, x1 + end)
                        for x2 in range(start, stop):
                            key = pack(y1, x1, y2, x2)
                            if scores[-1] > 0:
                                _take_leading_sums(leaders, width + 1, key, few_sums)
                                bound = _highest_cosine(
                                    few_sums, leading_scale, leading, inverse_alpha, product, squared
                                )
                                if bound < scores[-1] - _MARGIN:
                                    continue
                            looked_at += 1
                            score = window_score(integral, scale, inverse_alpha, query, power_sums, key)
                            if score > -np.inf:
                                keep_best(scores, keys, score, key)
        if counts[number] > FEW:
            highest[number] = high
            lowest[number] = 0
            if large[_Y1 + 1] < large[_Y2] and large[_X1 + 1] < large[_X2]:
                key = pack(large[_Y1 + 1], large[_X1 + 1], large[_Y2], large[_X2])
                _pool(integral, scale, inverse_alpha, key, power_sums, lowest[number])
                looked_at += 1
            number += 1
        if counts[top] > FEW:
            key = pack(small[_Y1], small[_X1], small[_Y2 + 1], small[_X2 + 1])
            _pool(integral, scale, inverse_alpha, key, power_sums, high)
            looked_at += 1
        else:
            # The other half, if it is kept, takes this place.
            number -= 1
            if number > top:
                stack[top], counts[top] = stack[number], counts[number]
                lowest[top], highest[top] = lowest[number], highest[number]
    return looked_at
