"""One vector for a whole image: MAC and R-MAC of a feature map, and query expansion.

Arrays in, arrays out: no I/O, no cluster, one thread, and the GIL is free while maxima are sought. Tasks and
users call this to make the shortlist that region search re-ranks. The vectors have length 1, so that their dot
product is the cosine similarity. `whitening.py` holds the whitening.
"""

from __future__ import annotations

import math
import operator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from parimg.kernels.pooling.whitening import finite_float32

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from parimg.kernels.pooling.whitening import Whitening

_OVERLAP = 0.4  # share of a region's side that the next one of the coarsest level covers, as published


# -- MAC and R-MAC -------------------------------------------------------------------------------------------


def mac(feature_map: ArrayLike, *, whitening: Whitening | None = None) -> NDArray[np.float32]:
    """Maximum activations of convolutions: the largest value of every channel, at length 1.

    Parameters
    ----------
    feature_map : array_like, shape (channels, height, width)
        Real numbers; computed in float32.
    whitening : Whitening, optional
        Applied to the vector, which is then brought to length 1 again.

    Returns
    -------
    ndarray of float32, shape (channels,) or (components,)
        Of length 1; all zeros if the maxima are.

    Raises
    ------
    TypeError
        If the map does not hold real numbers.
    ValueError
        If it has another number of axes, no cells or no channels, holds NaN or infinity, or `whitening` is for
        another number of channels.

    References
    ----------
    G. Tolias, R. Sicre, H. Jégou, "Particular object retrieval with integral max-pooling of CNN activations",
    ICLR 2016, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> mac(np.array([[[0, 3], [1, 2]], [[4, 0], [0, 0]]]))
    array([0.6, 0.8], dtype=float32)
    """
    checked = _checked_map(feature_map)
    whole = np.array([[0, 0, *checked.shape[1:]]])
    return _aggregate(_pooled(checked, whole), whitening)


def rmac(feature_map: ArrayLike, levels: int = 3, *, whitening: Whitening | None = None) -> NDArray[np.float32]:
    """Regional maximum activations of convolutions: the sum of the MAC vectors of `rmac_regions`, at length 1.

    Parameters
    ----------
    feature_map : array_like, shape (channels, height, width)
        Real numbers; computed in float32. Fastest where it is C-contiguous, or a view with the channels first
        of a C-contiguous array with the channels last.
    levels : int, default 3
        Number of region sizes.
    whitening : Whitening, optional
        Applied to the vector of every region, which is then brought to length 1 again, before the sum.

    Returns
    -------
    ndarray of float32, shape (channels,) or (components,)
        Of length 1. Regions whose maxima are all zero are left out; all zeros if they all are.

    Raises
    ------
    TypeError
        If the map does not hold real numbers, or `levels` is no integer.
    ValueError
        If it has another number of axes, no cells or no channels, holds NaN or infinity, `levels` is below 1,
        or `whitening` is for another number of channels.

    References
    ----------
    G. Tolias, R. Sicre, H. Jégou, "Particular object retrieval with integral max-pooling of CNN activations",
    ICLR 2016, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> rmac(np.array([[[0, 3], [1, 2]], [[4, 0], [0, 0]]])).round(3)
    array([0.894, 0.447], dtype=float32)
    """
    return _aggregate(_regional_maxima(feature_map, levels), whitening)


def region_vectors(feature_map: ArrayLike, levels: int = 3) -> NDArray[np.float32]:
    """MAC vectors of the regions that R-MAC sums up, before whitening: what `learn_whitening` learns from.

    Parameters
    ----------
    feature_map : array_like, shape (channels, height, width)
        Real numbers; computed in float32.
    levels : int, default 3
        Number of region sizes.

    Returns
    -------
    ndarray of float32, shape (regions, channels)
        One row for each of `rmac_regions`, of length 1; all zeros where the region's maxima are.

    Raises
    ------
    TypeError
        If the map does not hold real numbers, or `levels` is no integer.
    ValueError
        If it has another number of axes, no cells or no channels, holds NaN or infinity, or `levels` is
        below 1.

    Examples
    --------
    >>> import numpy as np
    >>> region_vectors(np.array([[[0, 3], [1, 2]], [[4, 0], [0, 0]]]), levels=1)
    array([[0.6, 0.8]], dtype=float32)
    """
    return _unit(_regional_maxima(feature_map, levels))


def rmac_regions(height: int, width: int, levels: int = 3) -> NDArray[np.int64]:
    """Regions of R-MAC: squares of `levels` sizes, spread evenly over a map.

    Parameters
    ----------
    height, width : int
        Of the map, in cells.
    levels : int, default 3
        Number of sizes. At level l the side is ``2 * min(height, width) / (l + 1)`` cells, rounded down.

    Returns
    -------
    ndarray of int64, shape (regions, 4)
        Boxes ``(y1, x1, y2, x2)``, half open, largest first, then from top to bottom and left to right.

    Raises
    ------
    TypeError
        If an argument is no integer.
    ValueError
        If one is below 1.

    Notes
    -----
    At level l there are l regions along the shorter side and l + m - 1 along the longer one, from edge to edge,
    their offsets rounded down. m is the number, at least 2, whose overlap at level 1 is closest to 40 %; 1 if
    the map is square. In a map of few cells, sizes below one cell are left out, and regions that coincide are
    told once.

    References
    ----------
    G. Tolias, R. Sicre, H. Jégou, "Particular object retrieval with integral max-pooling of CNN activations",
    ICLR 2016, section 3.

    Examples
    --------
    >>> rmac_regions(2, 3, levels=2)
    array([[0, 0, 2, 2],
           [0, 1, 2, 3],
           [0, 0, 1, 1],
           [0, 1, 1, 2],
           [0, 2, 1, 3],
           [1, 0, 2, 1],
           [1, 1, 2, 2],
           [1, 2, 2, 3]])
    """
    sides = {"height": operator.index(height), "width": operator.index(width)}
    for name, side in sides.items():
        if side < 1:
            raise ValueError(f"{name} must be at least 1 (got {side})")
    return _regions(*sides.values(), _checked_levels(levels)).copy()


def expand_query(query: ArrayLike, neighbours: ArrayLike) -> NDArray[np.float32]:
    """Average query expansion: the mean of a query's vector and those of its best answers, at length 1.

    Parameters
    ----------
    query : array_like, shape (width,)
        The query's descriptor.
    neighbours : array_like, shape (n, width)
        Descriptors of the best answers, best verified ones first or in any order; n may be 0.

    Returns
    -------
    ndarray of float32, shape (width,)
        The query to search with again. All vectors are brought to length 1 before, so that all count the same.

    Raises
    ------
    TypeError
        If they do not hold real numbers.
    ValueError
        If they have other numbers of axes, differ in width, or hold NaN or infinity.

    References
    ----------
    O. Chum, J. Philbin, J. Sivic, M. Isard, A. Zisserman, "Total recall: automatic query expansion with a
    generative feature model for object retrieval", ICCV 2007.

    Examples
    --------
    >>> import numpy as np
    >>> expand_query(np.array([1, 0]), np.array([[0, 1], [1, 0]])).round(3)
    array([0.894, 0.447], dtype=float32)
    """
    start = finite_float32("query", query, "(width,)", 1)
    found = finite_float32("neighbours", neighbours, "(n, width)", 2)
    if found.shape[1] != len(start):
        raise ValueError(f"query and neighbours must have one width (got {len(start)} and {found.shape[1]})")
    return _sum_of(_unit(np.vstack([start[None], found])))


# -- inner workings ------------------------------------------------------------------------------------------


def _checked_map(feature_map: ArrayLike) -> NDArray[np.float32]:
    array = finite_float32("feature_map", feature_map, "(channels, height, width)", 3)
    if not array.size:
        raise ValueError(f"feature_map must have a channel and a cell (got shape {array.shape})")
    return array


def _regional_maxima(feature_map: ArrayLike, levels: int) -> NDArray[np.float32]:
    checked = _checked_map(feature_map)
    return _pooled(checked, _regions(*checked.shape[1:], _checked_levels(levels)))


def _checked_levels(levels: int) -> int:
    if operator.index(levels) < 1:
        raise ValueError(f"levels must be at least 1 (got {levels})")
    return operator.index(levels)


@lru_cache(maxsize=256)  # the shapes of a job's maps
def _regions(height: int, width: int, levels: int) -> NDArray[np.int64]:
    shorter, longer = min(height, width), max(height, width)
    more = _more_along_the_longer_side(shorter, longer)
    boxes: list[tuple[int, int, int, int]] = []
    for level in range(1, levels + 1):
        side = 2 * shorter // (level + 1)
        if side < 1:
            break
        n_rows = level + (more if height > width else 0)
        n_columns = level + (more if width > height else 0)
        boxes += [
            (y, x, y + side, x + side)
            for y in _offsets(height - side, n_rows)
            for x in _offsets(width - side, n_columns)
        ]
    regions = np.array(list(dict.fromkeys(boxes)))
    regions.flags.writeable = False
    return regions


def _more_along_the_longer_side(shorter: int, longer: int) -> int:
    """How many regions more than along the shorter side: of the two nearest numbers, the one closer to 40 %."""
    if shorter == longer:
        return 0
    wanted = (longer - shorter) / ((1 - _OVERLAP) * shorter)
    candidates = {max(1, math.floor(wanted)), max(1, math.ceil(wanted))}
    return min(sorted(candidates), key=lambda more: abs(1 - (longer - shorter) / (more * shorter) - _OVERLAP))


def _offsets(last: int, n: int) -> list[int]:
    """Offsets from 0 to `last`, evenly spaced and rounded down."""
    return [0] if n == 1 else [last * i // (n - 1) for i in range(n)]


def _pooled(feature_map: NDArray[np.float32], boxes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Largest value of every channel in every box, shape (boxes, channels)."""
    maxima = np.empty((len(boxes), len(feature_map)), np.float32)
    channels_last = feature_map.transpose(1, 2, 0)
    if channels_last.flags.c_contiguous:
        _pool_channels_last(_read_only(channels_last), _read_only(boxes), maxima)
    else:
        _pool_channels_first(_read_only(np.ascontiguousarray(feature_map)), _read_only(boxes), maxima)
    return maxima


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that is read-only, so that numba compiles for one kind of array only."""
    view = array.view()
    view.flags.writeable = False
    return view


@numba.njit(cache=True, nogil=True)
def _pool_channels_first(
    feature_map: NDArray[np.float32], boxes: NDArray[np.int64], maxima: NDArray[np.float32]
) -> None:
    # Strategy: the largest of each column first, which is a loop of vector instructions over rows, and only once
    # for all boxes between the same rows; they follow each other. Then the largest of a few columns.
    n_channels, _, width = feature_map.shape
    columns = np.empty(width, np.float32)
    for channel in range(n_channels):
        for i in range(len(boxes)):
            y1, x1, y2, x2 = boxes[i]
            if i == 0 or y1 != boxes[i - 1, 0] or y2 != boxes[i - 1, 2]:
                columns[:] = feature_map[channel, y1]
                for y in range(y1 + 1, y2):
                    for x in range(width):
                        value = feature_map[channel, y, x]
                        columns[x] = max(columns[x], value)
            largest = columns[x1]
            for x in range(x1 + 1, x2):
                largest = max(largest, columns[x])
            maxima[i, channel] = largest


@numba.njit(cache=True, nogil=True)
def _pool_channels_last(
    feature_map: NDArray[np.float32], boxes: NDArray[np.int64], maxima: NDArray[np.float32]
) -> None:
    n_channels = feature_map.shape[2]
    for i in range(len(boxes)):
        y1, x1, y2, x2 = boxes[i]
        maxima[i] = feature_map[y1, x1]
        for y in range(y1, y2):
            for x in range(x1, x2):
                for channel in range(n_channels):
                    value = feature_map[y, x, channel]
                    maxima[i, channel] = max(maxima[i, channel], value)


def _unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Rows at length 1, summed in float64; rows of zeros stay."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    scaled: NDArray[np.float32] = (vectors / np.where(length > 0, length, 1)[:, None]).astype(np.float32)
    return scaled


def _sum_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    total: NDArray[np.float64] = vectors.sum(axis=0, keepdims=True, dtype=np.float64)
    return np.asarray(_unit(total)[0])


def _aggregate(vectors: NDArray[np.float32], whitening: Whitening | None) -> NDArray[np.float32]:
    """Normalise, whiten, normalise, sum, normalise."""
    vectors = _unit(vectors)
    if whitening is not None:
        if vectors.shape[1] != whitening.width:
            raise ValueError(f"whitening is for {whitening.width} channels (got a map of {vectors.shape[1]})")
        # Taking the mean off a vector of zeros would make something of nothing.
        vectors = _unit(whitening.apply(vectors[vectors.any(axis=1)]))
    return _sum_of(vectors)
