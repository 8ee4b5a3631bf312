"""Columns of a block of lines that their own transform would spoil: found, and summed tap by tap.

`across_lines.py` is the only caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strategy: a transform is wrong by a share of the largest value in its column of the block. What else is there is
# told by the largest value of each quarter of its lines, the least of these that is not 0: a star is in one
# quarter or two. All is decided by what lies in the column, so that a sum is the same wherever an image is cut;
# for that its order is plain, too, and it is not fused.

_GROUPS = 4


@numba.njit(cache=True, nogil=True)
def find_spoiled(
    lines: NDArray[Any],
    columns: int,
    limit: float,
    largest: float,
    is_finite: bool,
    work: NDArray[Any],
    width: int,
    step: int,
    is_spoiled: NDArray[np.bool_],
) -> bool:
    """Mark the sums that a spoiled one of so many columns reaches, `width` taps of `step`; whether there are any.

    Spoiled is what is more than `limit` times what else is in its column, not below `largest`, or not finite,
    which is looked for unless all `is_finite`. `work` is overwritten, three lines of the same dtype.
    """
    size = len(lines)
    high, highest, lowest = work[0], work[1], work[2]  # unpacked at once, they would not be known as contiguous
    highest[:columns] = 0
    lowest[:columns] = np.inf
    for group in range(_GROUPS):
        first, end = group * size // _GROUPS, (group + 1) * size // _GROUPS
        one, other = lines[first], lines[end - 1]
        for column in range(columns):
            high[column] = max(abs(one[column]), abs(other[column]))
        # In pairs, and by no max(): 1.6 us for 64 lines of 448, one by one 1.9.
        for i in range(first + 1, end - 1, 2):
            one, other = lines[i], lines[i + 1]
            for column in range(columns):
                value, second, before = abs(one[column]), abs(other[column]), high[column]
                value = value if value > second else second  # noqa: FURB136
                high[column] = value if value > before else before  # noqa: FURB136
        for column in range(columns):
            value, before, low = high[column], highest[column], lowest[column]
            highest[column] = value if value > before else before  # noqa: FURB136
            lowest[column] = value if (value > 0) & (value < low) else low
    times, bound = lines.dtype.type(limit), lines.dtype.type(largest)
    is_fit = True
    for column in range(columns):
        is_fit &= (highest[column] < bound) & (highest[column] <= times * lowest[column])
    if is_fit and is_finite:
        return False
    n_sums = columns - (width - 1) * step
    is_spoiled[:n_sums] = False
    for column in range(columns):
        is_bad = not (highest[column] < bound and highest[column] <= times * lowest[column])
        for i in range(0 if is_finite or is_bad else size):
            is_bad |= not np.isfinite(lines[i, column])
        for tap in range(width if is_bad else 0):
            place = column - tap * step
            if 0 <= place < n_sums:
                is_spoiled[place] = True
    return bool(is_spoiled[:n_sums].any())


@numba.njit(cache=True, nogil=True)
def sum_taps(
    lines: NDArray[Any], weights: NDArray[np.float64], first: int, step: int, sums: NDArray[np.float64]
) -> None:
    """Sums of the first line from column `first` on, in C order of the weights, without those that are 0."""
    height, width = weights.shape
    n = len(sums)
    sums[:] = 0
    for y in range(height):
        x = 0
        while x < width:
            taps, begin = weights[y, x : x + 4], first + x * step
            if len(taps) == 4 and taps.all():  # one by one takes twice as long
                one, two, three, four = taps[0], taps[1], taps[2], taps[3]
                line = lines[y, begin : begin + 3 * step + n]
                for i in range(n):
                    value = sums[i] + one * line[i]
                    value += two * line[i + step]
                    value += three * line[i + 2 * step]
                    sums[i] = value + four * line[i + 3 * step]
                x += 4
                continue
            if taps[0] != 0:
                line = lines[y, begin : begin + n]
                for i in range(n):
                    sums[i] += taps[0] * line[i]
            x += 1
