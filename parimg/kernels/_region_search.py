"""The loop over indexes and queries, in compiled code: one call, one specialisation, for every kind of index.

Called by `regions.py`, which has checked everything and keeps the arrays alive during the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np
from numba.np.numpy_support import carray

from parimg.kernels._region_bounds import search_bounds
from parimg.kernels._region_maxima import pool, refine_windows, search_grid
from parimg.kernels._region_sums import search_sums
from parimg.kernels._region_windows import admissible_widths, grid_has_window, pointer

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Indexes differ in size and dtype. A numba list of them costs 10 us an index to fill, and every combination of
# array types would be compiled anew; a row of integers, with the arrays' addresses, does neither.
KIND, CHANNELS, HEIGHT, WIDTH, MAIN, SIDE, SIDE_SIZE, EXACT, ALPHA = range(9)
SUM_OF_SINGLES, SUM_OF_DOUBLES, MAX = 0, 1, 2


@numba.njit(cache=True, nogil=True)
def _search_maxima(
    row: NDArray[np.int64],
    query: NDArray[np.float64],
    widths: NDArray[np.int64],
    step: int,
    refine: bool,
    exact: bool,
    distance: NDArray[np.float64],
    keys: NDArray[np.int64],
) -> int:
    shape = (row[HEIGHT], row[WIDTH], row[CHANNELS])
    integral = carray(pointer(row[MAIN]), shape, np.int64)
    scale = carray(pointer(row[SIDE]), (row[CHANNELS],), np.float32)
    single = query.astype(np.float32)
    inverse_alpha = np.float32(1.0 / row[ALPHA])
    scores = np.full(len(keys), -np.inf)
    keys[:] = -1
    step = 3 if exact else step
    if not grid_has_window(shape[0], shape[1], step, widths):
        step = 1
    looked_at = search_grid(integral, scale, inverse_alpha, single, widths, step, scores, keys)
    if (refine and step > 1) or exact:
        looked_at += refine_windows(integral, scale, inverse_alpha, single, widths, scores, keys)
    if exact:
        looked_at += search_bounds(integral, scale, inverse_alpha, single, widths, scores, keys)
    for i in range(len(keys)):
        distance[i] = np.inf
        if keys[i] >= 0:
            pooled = pool(integral, scale, row[ALPHA], keys[i])
            pooled /= np.sqrt(np.sum(pooled * pooled))
            distance[i] = np.sqrt(np.sum((pooled - query) * (pooled - query)))
    return looked_at


@numba.njit(cache=True, nogil=True)
def search_table(
    table: NDArray[np.int64],
    totals: NDArray[np.float64],
    queries: NDArray[np.float64],
    ratios: NDArray[np.float64],
    low: float,
    high: float,
    step: int,
    min_size: int,
    refine: bool,
    exact: bool,
    distance: NDArray[np.float64],
    keys: NDArray[np.int64],
    looked_at: NDArray[np.int64],
) -> None:
    """Search every index for every query.

    Parameters
    ----------
    table : int64, shape (indexes, 9)
        Kind, channels, height and width of each; addresses of its main array (map or sums of powers) and of its
        side array (inverse norms or scales), and the length of that; whether sums are exact; alpha.
    totals : float64, shape (indexes,)
    queries : float64, shape (queries, channels), of unit length
    ratios : float64, shape (queries,), 0 for no restriction
    distance, keys : float64 and int64, shape (indexes, queries, top_k), written
    looked_at : int64, shape (indexes, queries), written
    """
    for i in range(len(table)):
        row = table[i]
        for j in range(len(queries)):
            query, ratio = queries[j], ratios[j]
            if row[KIND] == MAX:
                widths = admissible_widths(row[HEIGHT], row[WIDTH], ratio, low, high, min_size)
                looked_at[i, j] = _search_maxima(
                    row, query, widths, step, refine, exact, distance[i, j], keys[i, j]
                )
                continue
            shape = (row[HEIGHT], row[WIDTH], row[CHANNELS])
            inverse = carray(pointer(row[SIDE]), (row[SIDE_SIZE],), np.float32)
            if row[KIND] == SUM_OF_SINGLES:
                cells = carray(pointer(row[MAIN]), shape, np.float32)
                looked_at[i, j] = search_sums(
                    cells,
                    inverse,
                    totals[i],
                    row[EXACT] != 0,
                    query,
                    ratio,
                    low,
                    high,
                    1 if exact else step,
                    min_size,
                    refine,
                    distance[i, j],
                    keys[i, j],
                )
            else:
                wide = carray(pointer(row[MAIN]), shape, np.float64)
                looked_at[i, j] = search_sums(
                    wide,
                    inverse,
                    totals[i],
                    row[EXACT] != 0,
                    query,
                    ratio,
                    low,
                    high,
                    1 if exact else step,
                    min_size,
                    refine,
                    distance[i, j],
                    keys[i, j],
                )
