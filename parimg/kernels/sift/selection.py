"""Which keypoints stay, and in which order: OpenCV's, down to its ties.

`features.py` calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

from parimg.kernels.sift.detection import ANGLE, RESPONSE, SIZE, X, Y

if TYPE_CHECKING:
    from numpy.typing import NDArray


def in_order(keypoints: NDArray[np.float32], octaves: NDArray[np.int32]) -> NDArray[np.intp]:
    """Row numbers by x, y, larger size, angle, larger response and octave, without copies.

    A copy differs from the one before it in nothing, or in response and octave only.
    """
    x, y, size, angle, response = (keypoints[:, column] for column in (X, Y, SIZE, ANGLE, RESPONSE))
    order = np.lexsort((-octaves, -response, angle, -size, y, x))
    ordered = keypoints[order, :RESPONSE]
    is_new = np.ones(len(order), bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order[is_new]


@numba.njit(cache=True, nogil=True)
def strongest(responses: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """Row numbers of the `n` largest responses and of those equal to the last, for n of 1 to their number.

    Their order is the one in which OpenCV leaves them: that of the C++ library's selection by medians of three,
    which GCC and Clang's GNU builds share.
    """
    order = np.arange(len(responses))
    first, last = 0, len(order)
    while last - first > 3:
        middle = first + (last - first) // 2
        a, b, c = responses[order[first + 1]], responses[order[middle]], responses[order[last - 1]]
        if a > b:
            median = middle if b > c else last - 1 if a > c else first + 1
        else:
            median = first + 1 if a > c else last - 1 if b > c else middle
        order[first], order[median] = order[median], order[first]
        pivot = responses[order[first]]
        low, high = first + 1, last
        while True:
            while responses[order[low]] > pivot:
                low += 1
            high -= 1
            while pivot > responses[order[high]]:
                high -= 1
            if low >= high:
                break
            order[low], order[high] = order[high], order[low]
            low += 1
        if low <= n - 1:
            first = low
        else:
            last = low
    for i in range(first + 1, last):
        moved = order[i]
        k = i
        while k > first and responses[moved] > responses[order[k - 1]]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = moved
    least = responses[order[n - 1]]
    first, last = n, len(order)
    while first < last:
        if responses[order[first]] >= least:
            first += 1
            continue
        last -= 1
        while first < last and responses[order[last]] < least:
            last -= 1
        if first < last:
            order[first], order[last] = order[last], order[first]
            first += 1
    return order[:first]
