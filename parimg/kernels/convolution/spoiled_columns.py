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
    limit: float,
    largest: float,
    is_finite: bool,
    work: NDArray[Any],
    width: int,
    step: int,
    is_spoiled: NDArray[np.bool_],
) -> bool:
    """Mark the sums that a spoiled column reaches, `width` taps of `step` columns each; whether there are any.

    Spoiled is what is more than `limit` times what else is in its column, not below `largest`, or not finite,
    which is looked for unless all `is_finite`. `work` is overwritten, three lines of the same dtype.
    """
    size, columns = lines.shape
    high, highest, lowest = work[0, :columns], work[1, :columns], work[2, :columns]
    highest[:] = 0
    lowest[:] = np.inf
    for group in range(_GROUPS):
        high[:] = 0
        for i in range(group * size // _GROUPS, (group + 1) * size // _GROUPS):
            line = lines[i]
            for column in range(columns):
                high[column] = max(high[column], abs(line[column]))
        for column in range(columns):
            value = high[column]
            highest[column] = max(highest[column], value)
            value = value if value > 0 else lowest[column]
            lowest[column] = min(lowest[column], value)
    one, bound = lines.dtype.type(limit), lines.dtype.type(largest)
    n_spoiled = 0
    for column in range(columns):
        n_spoiled += not (highest[column] < bound and highest[column] <= one * lowest[column])
    if n_spoiled == 0 and is_finite:
        return False
    n_sums = columns - (width - 1) * step
    is_spoiled[:n_sums] = False
    for column in range(columns):
        is_bad = not (highest[column] < bound and highest[column] <= one * lowest[column])
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
    sums[:] = 0
    for y in range(height):
        for x in range(width):
            weight = weights[y, x]
            if weight != 0:
                line = lines[y, first + x * step : first + x * step + len(sums)]
                for i in range(len(sums)):
                    sums[i] += weight * line[i]
