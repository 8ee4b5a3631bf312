"""The loop over indexes and queries, in compiled code: one call for all indexes of a kind.

Called by `region_index.py`, which has checked everything and keeps the arrays alive during the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba.np.numpy_support import carray

from parimg.kernels.regions.branch_and_bound import search_bounds
from parimg.kernels.regions.max_pooling import pool, refine_windows, search_grid
from parimg.kernels.regions.sum_pooling import search_sums
from parimg.kernels.regions.windows import admissible_widths, grid_has_window, pointer

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Indexes differ in size and dtype. A numba list of them costs 10 us an index to fill, and every combination of
# array types would be compiled anew; a row of integers, with the arrays' addresses, does neither.
KIND, CHANNELS, HEIGHT, WIDTH, MAIN, SIDE, SIDE_SIZE, EXACT, ALPHA = range(9)
SUM_OF_SINGLES, SUM_OF_DOUBLES, MAX = 0, 1, 2

# Of what `like` and `bounded` leave out nothing is compiled, as numba drops branches on None: a search of one kind
# takes 8 to 12 s to compile, once a host, and a job needs one.


@numba.njit(cache=True, nogil=True)
def search_all(
    like: NDArray[Any] | None,
    bounded: bool | None,
    table: NDArray[np.int64],
    totals: NDArray[np.float64],
    queries: NDArray[np.float64],
    ratios: NDArray[np.float64],
    low: float,
    high: float,
    step: int,
    min_size: int,
    refine: bool,
    distance: NDArray[np.float64],
    keys: NDArray[np.int64],
    looked_at: NDArray[np.int64],
) -> None:
    """Search every index of one kind for every query.

    Parameters
    ----------
    like : ndarray of the maps' dtype, or None
        Of sum-pooled indexes; None for max-pooled ones.
    bounded : True or None
        Whether what the grid finds is followed by branch and bound; for max-pooled indexes.
    table : int64, shape (indexes, 9)
        Kind, channels, height and width of each; addresses of its main array (map or sums of powers) and of its
        side array (inverse norms or scales), and the length of that; whether sums are exact; alpha.
    totals : float64, shape (indexes,)
    queries : float64, shape (queries, channels), of unit length
    ratios : float64, shape (queries,), 0 for no restriction
    low, high, step, min_size, refine : as users gave them
    distance, keys : float64 and int64, shape (indexes, queries, top_k), written
    looked_at : int64, shape (indexes, queries), written
    """
    for i in range(len(table)):
        row = table[i]
        shape = (row[HEIGHT], row[WIDTH], row[CHANNELS])
        side = carray(pointer(row[SIDE]), (row[SIDE_SIZE],), np.float32)
        for j in range(len(queries)):
            if like is not None:
                looked_at[i, j] = search_sums(
                    carray(pointer(row[MAIN]), shape, like.dtype), side, totals[i], row[EXACT] != 0, queries[j],
                    ratios[j], low, high, step, min_size, refine, distance[i, j], keys[i, j],
                )  # fmt: skip
            else:
                integral = carray(pointer(row[MAIN]), shape, np.int64)
                widths = admissible_widths(row[HEIGHT], row[WIDTH], ratios[j], low, high, min_size)
                looked_at[i, j] = _search_grid(
                    integral, side, row[ALPHA], queries[j], widths, step, refine, distance[i, j], keys[i, j]
                )
                if bounded is not None:
                    single, inverse_alpha = queries[j].astype(np.float32), np.float32(1.0 / row[ALPHA])
                    looked_at[i, j] += search_bounds(
                        integral, side, inverse_alpha, single, widths, distance[i, j], keys[i, j]
                    )
                _measure(integral, side, row[ALPHA], queries[j], keys[i, j], distance[i, j])


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
