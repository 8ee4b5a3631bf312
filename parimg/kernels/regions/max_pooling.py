"""Max-pooled region search: activations as nine levels, integral images of their powers, grid and refinement.

Compiled; called by `search_loop.py` and `branch_and_bound.py`. Maps come channels-last, finite, not negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from parimg.kernels.regions.windows import grid_lines, keep_best, moved_window, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Strategy: the maximum over a region is nearly the root of a sum of powers, and integral images give sums in
# O(1). Powers of floats cancel: the fourth digit of a small region is lost beside a strong activation. Levels
# 0 to 8 of each channel's largest value have whole powers, 8**10 = 2**30, that int64 adds up without rounding
# over any map. What takes time then is a root a channel a window; it is computed in float32 from the bits of
# its argument, 16 channels at once.

LEVELS = 8
# log2(1 + u) / u and ((2**f - 1) / f - 1) / (f - 1) on [0, 1], least largest error: 3e-7 and 1.3e-7.
_LOG = tuple(
    np.float32(c)
    for c in (
        1.442667841911316,
        -0.7205854654312134,
        0.473553329706192,
        -0.32590171694755554,
        0.19429391622543335,
        -0.07955743372440338,
        0.015529830008745193,
    )
)
_EXP = tuple(
    np.float32(c) for c in (0.3068470060825348, 0.06669989973306656, 0.010844600386917591, 0.0018968498334288597)
)
_ONE = np.float32(1)


def _bits(_typing_context: Any, _value: Any) -> tuple[Any, Callable[..., ir.Value]]:
    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), generate


def _float(_typing_context: Any, _bits: Any) -> tuple[Any, Callable[..., ir.Value]]:
    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


bits_of: Any = intrinsic(_bits)
float_of: Any = intrinsic(_float)


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def root(power_sum: np.float32, inverse_alpha: np.float32) -> np.float32:
    """``power_sum ** inverse_alpha`` of whole numbers, relative error below 1e-6; 0 for 0."""
    bits = bits_of(power_sum)
    u = float_of(np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000))) - _ONE
    log = _LOG[5] + u * _LOG[6]
    log = _LOG[3] + u * (_LOG[4] + u * log)
    log = u * (_LOG[0] + u * (_LOG[1] + u * (_LOG[2] + u * log)))
    exponent = (np.float32(np.int32((bits >> np.int32(23)) - np.int32(127))) + log) * inverse_alpha
    whole = np.int32(exponent)
    f = exponent - np.float32(whole)
    mantissa = _ONE + f * (_ONE + (f - _ONE) * (_EXP[0] + f * (_EXP[1] + f * (_EXP[2] + f * _EXP[3]))))
    root = float_of(np.int32(bits_of(mantissa) + np.int32(whole << np.int32(23))))
    return root if power_sum > 0 else np.float32(0)


@numba.njit(cache=True, nogil=True)
def largest_of_channels(cells: Any, largest: Any) -> float:
    """Write the largest value of every channel; return the smallest of all. Of NaN this says nothing."""
    smallest = np.inf
    largest[:] = cells[0]
    for i in range(len(cells)):
        lowest = cells[i, 0]
        for c in range(cells.shape[1]):
            largest[c] = max(largest[c], cells[i, c])
            lowest = min(lowest, cells[i, c])
        smallest = min(smallest, np.float64(lowest))
    return smallest


@numba.njit(cache=True, nogil=True)
def fill_power_integral(cells: Any, largest: Any, powers: NDArray[np.int64], integral: NDArray[np.int64]) -> None:
    """Sums of the levels' powers over the cells above and left, shape (height, width, channels), no border."""
    height, width, channels = cells.shape
    factor = np.empty(channels)
    for c in range(channels):
        factor[c] = LEVELS / np.float64(largest[c]) if largest[c] > 0 else 0.0
    running = np.empty(channels, np.int64)
    for y in range(height):
        running[:] = 0
        for x in range(width):
            for c in range(channels):
                level = np.int64(np.float64(cells[y, x, c]) * factor[c] + 0.5)
                running[c] += powers[level]
            if y == 0:
                integral[y, x] = running
            else:
                for c in range(channels):
                    integral[y, x, c] = integral[y - 1, x, c] + running[c]


@numba.njit(cache=True, nogil=True)
def take_power_sums(integral: NDArray[np.int64], key: int, power_sums: NDArray[Any]) -> None:
    """Write the sums of powers over a window, int64 or float32.

    One loop for each border, as a choice of rows outside it kept LLVM from vectorising: twice as long.
    """
    y1, x1, y2, x2 = unpack(key)
    a = integral[y2 - 1, x2 - 1]
    if y1 > 0 and x1 > 0:
        b, c, d = integral[y1 - 1, x1 - 1], integral[y1 - 1, x2 - 1], integral[y2 - 1, x1 - 1]
        for i in range(len(power_sums)):
            power_sums[i] = (a[i] - c[i]) - (d[i] - b[i])
    elif y1 > 0 or x1 > 0:
        e = integral[y1 - 1, x2 - 1] if y1 > 0 else integral[y2 - 1, x1 - 1]
        for i in range(len(power_sums)):
            power_sums[i] = a[i] - e[i]
    else:
        for i in range(len(power_sums)):
            power_sums[i] = a[i]


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def take_roots(
    power_sums: NDArray[np.float32],
    scale: NDArray[np.float32],
    inverse_alpha: np.float32,
    pooled: NDArray[np.float32],
) -> None:
    """Write the pooled vector of a window, in units of the largest scale."""
    for i in range(len(pooled)):
        pooled[i] = root(power_sums[i], inverse_alpha) * scale[i]


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _cosine(
    power_sums: NDArray[np.float32],
    scale: NDArray[np.float32],
    query: NDArray[np.float32],
    inverse_alpha: np.float32,
) -> float:
    numerator, squared = np.float32(0), np.float32(0)
    for i in range(len(query)):
        value = root(power_sums[i], inverse_alpha) * scale[i]
        numerator += value * query[i]
        squared += value * value
    return numerator / np.sqrt(squared) if squared > 0 else -np.inf


@numba.njit(cache=True, nogil=True)
def window_score(
    integral: NDArray[np.int64],
    scale: NDArray[np.float32],
    inverse_alpha: np.float32,
    query: NDArray[np.float32],
    power_sums: NDArray[np.float32],
    key: int,
) -> float:
    """The cosine of a window's pooled vector with the query; minus infinity for a window of zeros.

    `power_sums` is working memory. That roots are computed in a loop of their own, of floats only, fills the
    vector registers.
    """
    take_power_sums(integral, key, power_sums)
    return float(_cosine(power_sums, scale, query, inverse_alpha))


@numba.njit(cache=True, nogil=True)
def pool(integral: NDArray[np.int64], scale: NDArray[np.float32], alpha: int, key: int) -> NDArray[np.float64]:
    """The pooled vector of a window, in float64, in units of the largest scale."""
    power_sums = np.empty(integral.shape[2], np.int64)
    take_power_sums(integral, key, power_sums)
    pooled = np.empty(integral.shape[2])
    for i in range(len(pooled)):
        pooled[i] = np.float64(power_sums[i]) ** (1.0 / alpha) * scale[i]
    return pooled


@numba.njit(cache=True, nogil=True)
def search_grid(
    integral: NDArray[np.int64],
    scale: NDArray[np.float32],
    inverse_alpha: np.float32,
    query: NDArray[np.float32],
    widths: NDArray[np.int64],
    step: int,
    scores: NDArray[np.float64],
    keys: NDArray[np.int64],
) -> int:
    """Write the best windows whose edges are multiples of the step or the map's; return how many there were."""
    height, width, channels = integral.shape
    power_sums = np.empty(channels, np.float32)
    rows, columns = grid_lines(height, step), grid_lines(width, step)
    looked_at = 0
    for i in range(len(rows)):
        for y2 in rows[i + 1 :]:
            first, end = widths[y2 - rows[i]]
            if first >= end:
                continue
            for j in range(len(columns)):
                for x2 in columns[j + 1 :]:
                    if first <= x2 - columns[j] < end:
                        looked_at += 1
                        key = pack(rows[i], columns[j], y2, x2)
                        score = window_score(integral, scale, inverse_alpha, query, power_sums, key)
                        if score >= scores[-1] and score > -np.inf:
                            keep_best(scores, keys, score, key)
    return looked_at


@numba.njit(cache=True, nogil=True)
def refine_windows(
    integral: NDArray[np.int64],
    scale: NDArray[np.float32],
    inverse_alpha: np.float32,
    query: NDArray[np.float32],
    widths: NDArray[np.int64],
    scores: NDArray[np.float64],
    keys: NDArray[np.int64],
) -> int:
    """Move the edges of each window by 3, 2 and 1 cells while that helps; return how many were looked at."""
    height, width, channels = integral.shape
    power_sums = np.empty(channels, np.float32)
    starts, start_scores = keys.copy(), scores.copy()
    keys[:] = -1
    scores[:] = -np.inf
    looked_at = 0
    for i in range(len(starts)):
        if starts[i] < 0:
            break
        key, score = starts[i], start_scores[i]
        for stride in (3, 2, 1):
            while True:
                next_key, next_score = key, score
                for move in range(32):
                    tried = moved_window(key, move, stride, height, width, widths)
                    if tried >= 0:
                        looked_at += 1
                        tried_score = window_score(integral, scale, inverse_alpha, query, power_sums, tried)
                        if tried_score > next_score:
                            next_key, next_score = tried, tried_score
                if next_key == key:
                    break
                key, score = next_key, next_score
        keep_best(scores, keys, score, key)
    return looked_at
