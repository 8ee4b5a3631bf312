"""The loop over indexes and queries, in compiled code: one call for all indexes of a kind.

Called by `search.py`, whose callers have checked everything and keep the arrays alive during the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba.np.numpy_support import carray

from parimg.kernels.regions.branch_and_bound import search_bounds
from parimg.kernels.regions.max_pooling import pool, refine_windows, search_grid
from parimg.kernels.regions.published_distances import dot
from parimg.kernels.regions.sum_pooling import search_sums
from parimg.kernels.regions.windows import admissible_widths, grid_has_window, pointer, unpack

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Indexes differ in size and dtype. A numba list of them costs 10 us an index to fill, and every combination of
# array types would be compiled anew; a row of integers, with the arrays' addresses, does neither. Where caches are
# cold, each array or number that is handed to compiled code takes a microsecond: there are four arrays.
CHANNELS, HEIGHT, WIDTH, MAIN, SIDE, SIDE_SIZE, WHOLE, WHOLE_SIZE, EXACT, ALPHA, TOTAL = range(11)
_UNIT_TOLERANCE = 1e-6
# What is asked for; the aspect ratios of the queries follow.
LOW, HIGH, STEP, MIN_SIZE, REFINE, RATIOS = range(6)
# What is found: how many windows were looked at, and then of each window, nearest first, its distance and box.
WINDOW = 5
NO_WINDOW = -1.0  # in place of y1
NOT_UNIT = -1.0  # in place of how many windows: a query is not of unit length
First = tuple[float, float, float, float, float, float]

# A function for each kind of index: to compile one takes 8 to 12 s, once a host, and a job needs one.


@numba.njit(cache=True, nogil=True)
def is_unit(query: NDArray[np.float64]) -> bool:
    """Whether a query is taken as it is: rounding to float32 changes lengths more."""
    return abs(dot(query, query) - 1.0) <= _UNIT_TOLERANCE


@numba.njit(cache=True, nogil=True)
def search_singles(
    table: NDArray[np.int64], queries: NDArray[np.float64], walk: NDArray[np.float64], found: NDArray[np.float64]
) -> First:
    """Search every sum-pooled index of float32 for every query.

    Parameters
    ----------
    table : int64, shape (indexes, 11)
        Channels, height and width of each; addresses of its main array (map or sums of powers), of its side array
        (inverse norms or scales) and the length of that, and of the sum of all cells and the length of that;
        whether sums are exact; alpha; the bits of its total.
    queries : float64, shape (queries * channels,)
        Nothing is searched unless each is of unit length within float32 rounding.
    walk : float64, shape (5 + queries,)
        Lowest and highest ratio of ratios, step, smallest size, whether windows are refined, as users gave them;
        the aspect ratio of each query, 0 for no restriction.
    found : float64, shape (indexes * queries * (1 + 5 * top_k),), written
        How many windows were looked at, and of the nearest windows distance, y1, x1, y2, x2; a y1 of -1 is none.
        Empty for one index, one query and one window, of which the returned numbers are all.

    Returns
    -------
    tuple of six float
        The first of what was found, or NOT_UNIT and zeros. To make and read an array of them takes 20 us where
        caches are cold.
    """
    return _search_all(np.float32, None, table, queries, walk, found)


@numba.njit(cache=True, nogil=True)
def search_doubles(
    table: NDArray[np.int64], queries: NDArray[np.float64], walk: NDArray[np.float64], found: NDArray[np.float64]
) -> First:
    """Search every sum-pooled index of float64, as `search_singles`."""
    return _search_all(np.float64, None, table, queries, walk, found)


@numba.njit(cache=True, nogil=True)
def search_maxima(
    table: NDArray[np.int64], queries: NDArray[np.float64], walk: NDArray[np.float64], found: NDArray[np.float64]
) -> First:
    """Search every max-pooled index, as `search_singles`."""
    return _search_all(None, None, table, queries, walk, found)


@numba.njit(cache=True, nogil=True)
def search_maxima_exactly(
    table: NDArray[np.int64], queries: NDArray[np.float64], walk: NDArray[np.float64], found: NDArray[np.float64]
) -> First:
    """Search every max-pooled index, as `search_singles`; what its grid finds is followed by branch and bound."""
    return _search_all(None, True, table, queries, walk, found)


@numba.njit(cache=True, nogil=True)
def _search_all(
    dtype: Any,
    bounded: bool | None,
    table: NDArray[np.int64],
    queries: NDArray[np.float64],
    walk: NDArray[np.float64],
    found: NDArray[np.float64],
) -> First:
    """As `search_singles`; `dtype` is that of sum-pooled maps, or None.

    Of what `dtype` and `bounded` leave out nothing is compiled, as numba drops branches on None.
    """
    channels = table[0, CHANNELS]
    ratios = walk[RATIOS:]
    for j in range(len(ratios)):
        if not is_unit(queries[j * channels : (j + 1) * channels]):
            return NOT_UNIT, 0.0, 0.0, 0.0, 0.0, 0.0
    if len(found) == 0:
        found = np.empty(1 + WINDOW)
    low, high, refine = walk[LOW], walk[HIGH], walk[REFINE] != 0.0
    step, min_size = int(walk[STEP]), int(walk[MIN_SIZE])
    totals = table.view(np.float64)
    size = len(found) // (len(table) * len(ratios))
    distance, keys = np.empty(size // WINDOW), np.empty(size // WINDOW, np.int64)
    place = 0
    for i in range(len(table)):
        row = table[i]
        shape = (row[HEIGHT], row[WIDTH], row[CHANNELS])
        side = carray(pointer(row[SIDE]), (row[SIDE_SIZE],), np.float32)
        for j in range(len(ratios)):
            query = queries[j * channels : (j + 1) * channels]
            if dtype is not None:
                looked_at = search_sums(
                    carray(pointer(row[MAIN]), shape, dtype), side,
                    carray(pointer(row[WHOLE]), (row[WHOLE_SIZE],), np.float64), totals[i, TOTAL], row[EXACT] != 0,
                    query, ratios[j], low, high, step, min_size, refine, distance, keys,
                )  # fmt: skip
            else:
                integral = carray(pointer(row[MAIN]), shape, np.int64)
                widths = admissible_widths(row[HEIGHT], row[WIDTH], ratios[j], low, high, min_size)
                looked_at = _search_grid(integral, side, row[ALPHA], query, widths, step, refine, distance, keys)
                if bounded is not None:
                    single, inverse_alpha = query.astype(np.float32), np.float32(1.0 / row[ALPHA])
                    looked_at += search_bounds(integral, side, inverse_alpha, single, widths, distance, keys)
                _measure(integral, side, row[ALPHA], query, keys, distance)
            _write(looked_at, distance, keys, found[place : place + size])
            place += size
    return found[0], found[1], found[2], found[3], found[4], found[5]


@numba.njit(cache=True, nogil=True)
def _write(
    looked_at: int, distance: NDArray[np.float64], keys: NDArray[np.int64], found: NDArray[np.float64]
) -> None:
    found[0] = looked_at
    for i in range(len(keys)):
        window = found[1 + i * WINDOW : 1 + (i + 1) * WINDOW]
        window[0], window[1] = distance[i], NO_WINDOW
        if keys[i] >= 0:
            window[1], window[2], window[3], window[4] = unpack(keys[i])


@numba.njit(cache=True, nogil=True)
def _search_grid(
    integral: NDArray[np.int64],
    scale: NDArray[np.float32],
    alpha: int,
    query: NDArray[np.float64],
    widths: NDArray[np.int64],
    step: int,
    refine: bool,
    scores: NDArray[np.float64],
    keys: NDArray[np.int64],
) -> int:
    single = query.astype(np.float32)
    inverse_alpha = np.float32(1.0 / alpha)
    scores[:] = -np.inf
    keys[:] = -1
    if not grid_has_window(integral.shape[0], integral.shape[1], step, widths):
        step = 1
    looked_at = search_grid(integral, scale, inverse_alpha, single, widths, step, scores, keys)
    if refine and step > 1:
        looked_at += refine_windows(integral, scale, inverse_alpha, single, widths, scores, keys)
    return looked_at


@numba.njit(cache=True, nogil=True)
def _measure(
    integral: NDArray[np.int64],
    scale: NDArray[np.float32],
    alpha: int,
    query: NDArray[np.float64],
    keys: NDArray[np.int64],
    distance: NDArray[np.float64],
) -> None:
    """Distances of the windows found, from scores."""
    for i in range(len(keys)):
        distance[i] = np.inf
        if keys[i] >= 0:
            pooled = pool(integral, scale, alpha, keys[i])
            pooled /= np.sqrt(np.sum(pooled * pooled))
            distance[i] = np.sqrt(np.sum((pooled - query) * (pooled - query)))
