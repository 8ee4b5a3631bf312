"""Nearest neighbours and matches of image descriptors, with the answers of OpenCV's brute-force matcher.

Arrays in, arrays out: no I/O, no cluster, one thread, and the GIL is free while pairs are compared. Memory
grows with n + m, never with n x m. Tasks and users call this; `nearest_scan.py` holds the inner loops.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from parimg.kernels.descriptors import layout, nearest_scan

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Strategy: what is compared decides how. Bytes, and floats that are whole numbers from 0 to 255 as SIFT
# gives them, are multiplied as 8-bit integers, and every squared distance is exact. Other floats are scaled
# and rounded to 16-bit integers, which takes a third of the time of a float32 product. The scan then keeps
# a few nearest of each, and their distances are computed from the floats themselves. By the triangle
# inequality a descriptor that was not kept is at least as far as the rounded ones are, less both rounding
# errors. Where that does not decide, for fewer than one RootSIFT descriptor in a thousand, the distances to
# all are computed.

# Wider bytes leave too little room for an index beside the squared distance; they are treated as floats.
_WIDEST_EXACT = 2048
# From here on the roots of neighbouring integers can be the same float32, and OpenCV compares the roots.
_ROOTS_COLLIDE = 2**22

_Descriptors = NDArray[Any]  # C-contiguous, uint8 or float32


class Matches(NamedTuple):
    """Pairs of descriptors, ordered by query.

    Attributes
    ----------
    query, train : ndarray of int32, shape (matches,)
        Row numbers in the two arrays.
    distance : ndarray of float32, shape (matches,)
        Euclidean distance, or the number of differing bits.
    """

    query: NDArray[np.int32]
    train: NDArray[np.int32]
    distance: NDArray[np.float32]


class _Ranking(NamedTuple):
    """The k nearest of every row, shape (n, k); -1 and infinity where there are fewer."""

    nearest: NDArray[np.int32]
    distance: NDArray[np.float32]


class _Rounding(NamedTuple):
    """How floats became 16-bit integers: times `scale`, at most `error` off for both sides together.

    Squared distances of the integers are less than `unit` off.
    """

    scale: float
    error: float
    unit: int


def nearest_descriptors(
    query: ArrayLike | None,
    train: ArrayLike | None,
    k: Literal[1, 2] = 2,
    *,
    norm: Literal["l2", "hamming"] = "l2",
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the k nearest train descriptors of every query descriptor.

    Parameters
    ----------
    query, train : array_like, shape (n, width) and (m, width)
        Descriptors, both uint8, or both of the same other real dtype, which is converted to float32. ``None``
        is what OpenCV returns for an image without keypoints and counts as no descriptors.
    k : 1 or 2
        How many to find.
    norm : {"l2", "hamming"}
        Euclidean distance, or the number of differing bits of binary descriptors such as ORB's, which are
        uint8.

    Returns
    -------
    index : ndarray of int32, shape (n, k)
        Row numbers in `train`, nearest first, -1 where `train` has too few. The lowest index wins a tie.
    distance : ndarray of float32, shape (n, k)
        The distances; infinite where the index is -1.

    Raises
    ------
    TypeError
        When the dtypes differ or are not real numbers, or `norm` is "hamming" and they are not uint8.
    ValueError
        When an array is not two-dimensional, the widths differ or are 0, or a value is NaN or infinite; when
        `k` or `norm` is none of the above.

    Notes
    -----
    The answer is that of ``cv2.BFMatcher(cv2.NORM_L2).knnMatch``. It is bit-identical for uint8 and for
    floats that are whole numbers from 0 to 255, up to squared distances of 2**24, beyond which OpenCV itself
    rounds. For other floats OpenCV's own distances carry float32 rounding, and two neighbours closer together
    than that may swap; here distances are summed in float64 and rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> train = np.array([[0, 0, 0, 9], [0, 3, 4, 0], [1, 0, 0, 0]], np.uint8)
    >>> index, distance = nearest_descriptors(np.zeros((1, 4), np.uint8), train)
    >>> index
    array([[2, 1]], dtype=int32)
    >>> distance
    array([[1., 5.]], dtype=float32)
    """
    if k not in (1, 2):
        raise ValueError(f"k must be 1 or 2 (got {k!r})")
    query_array, train_array = _checked(query, train, norm)
    if len(query_array) == 0 or len(train_array) == 0:
        shape = (len(query_array), k)
        return np.full(shape, -1, np.int32), np.full(shape, np.inf, np.float32)
    ranking, _ = _rank(query_array, train_array, k, norm)
    return ranking.nearest, ranking.distance


def match_descriptors(
    query: ArrayLike | None,
    train: ArrayLike | None,
    cross_check: Literal["mutual", "one-way"] | None = "mutual",
    max_ratio: float | None = None,
    max_distance: float | None = None,
    *,
    norm: Literal["l2", "hamming"] = "l2",
) -> Matches:
    """Match every query descriptor with at most one train descriptor.

    Parameters
    ----------
    query, train : array_like, shape (n, width) and (m, width)
        As for `nearest_descriptors`.
    cross_check : {"mutual", "one-way", None}
        "mutual" keeps a pair when each is the nearest of the other: ``cv2.BFMatcher(..., crossCheck=True)``
        of OpenCV 5. "one-way" lets every train descriptor choose its nearest query, and of those that chose
        the same query keeps the closest: ``crossCheck=True`` of older OpenCV. None gives every query its
        nearest train. The lowest index wins a tie everywhere.
    max_ratio : float, optional
        Lowe's ratio test: keep a match when its distance is less than `max_ratio` times the distance to the
        second nearest. The second nearest is looked for on the side that is searched: in `train` for "mutual"
        and None, in `query` for "one-way", there before the closest is kept. Where that side has one
        descriptor only, nothing rivals the match and it is kept.
    max_distance : float, optional
        Keep matches of at most this distance.
    norm : {"l2", "hamming"}
        As for `nearest_descriptors`.

    Returns
    -------
    Matches
        Ordered by query. Empty when either side is.

    Raises
    ------
    TypeError, ValueError
        As `nearest_descriptors`; ValueError also when `cross_check` is none of the above, `max_ratio` is not
        in (0, 1], or `max_distance` is negative or NaN.

    Notes
    -----
    The ratio test is that of D. Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 60
    (2004).

    Examples
    --------
    >>> import numpy as np
    >>> query = np.array([[0, 0, 0, 9], [0, 3, 4, 0], [0, 3, 5, 0]], np.uint8)
    >>> train = np.array([[0, 3, 4, 1], [0, 0, 0, 6]], np.uint8)
    >>> matches = match_descriptors(query, train)
    >>> matches.query, matches.train
    (array([0, 1], dtype=int32), array([1, 0], dtype=int32))
    >>> matches.distance
    array([3., 1.], dtype=float32)
    """
    if cross_check not in ("mutual", "one-way", None):
        raise ValueError(f"cross_check must be 'mutual', 'one-way' or None (got {cross_check!r})")
    if max_ratio is not None and not 0 < max_ratio <= 1:
        raise ValueError(f"max_ratio must be above 0 and at most 1 (got {max_ratio!r})")
    if max_distance is not None and not max_distance >= 0:
        raise ValueError(f"max_distance must not be negative (got {max_distance!r})")
    query_array, train_array = _checked(query, train, norm)
    if len(query_array) == 0 or len(train_array) == 0:
        return Matches(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    k = 1 if max_ratio is None else 2
    if cross_check == "one-way":
        ranking, of_train = _rank(train_array, query_array, k, norm)
    else:
        ranking, of_train = _rank(query_array, train_array, k, norm, both=cross_check == "mutual")
    seeker = np.arange(len(ranking.nearest), dtype=np.int32)
    found, distance = ranking.nearest[:, 0], ranking.distance[:, 0]
    kept = np.ones(len(seeker), bool)
    # In float64, as Python compares `match.distance` with a number.
    if max_ratio is not None:
        kept &= distance.astype(np.float64) < max_ratio * ranking.distance[:, 1].astype(np.float64)
    if max_distance is not None:
        kept &= distance.astype(np.float64) <= max_distance
    if of_train is not None:
        kept &= of_train.nearest[found, 0] == seeker
    seeker, found, distance = seeker[kept], found[kept], distance[kept]
    if cross_check != "one-way":
        return Matches(seeker, found, distance)
    closest_first = np.lexsort((seeker, distance, found))
    matched, first = np.unique(found[closest_first], return_index=True)
    return Matches(matched, seeker[closest_first[first]], distance[closest_first[first]])


def _checked(query: ArrayLike | None, train: ArrayLike | None, norm: str) -> tuple[_Descriptors, _Descriptors]:
    """Both sides C-contiguous, of the same width, uint8 or float32."""
    if norm not in ("l2", "hamming"):
        raise ValueError(f"norm must be 'l2' or 'hamming' (got {norm!r})")
    given = {"query": query, "train": train}
    sides = {name: np.asarray(side) for name, side in given.items() if side is not None}
    for name, side in sides.items():
        if side.dtype.kind not in "uif":
            raise TypeError(f"{name} must hold real numbers (got dtype {side.dtype})")
        if side.ndim != 2 or side.shape[1] == 0:
            raise ValueError(f"{name} must have shape (descriptors, width), width at least 1 (got {side.shape})")
        if norm == "hamming" and side.dtype != np.uint8:
            raise TypeError(f"{name} must be uint8 for the Hamming distance (got {side.dtype})")
    if len(sides) < len(given):
        like = next(iter(sides.values()), np.empty((0, 1), np.uint8))
        sides = {name: sides.get(name, like[:0]) for name in given}
    left, right = sides["query"], sides["train"]
    if left.dtype != right.dtype:
        raise TypeError(f"query and train must have the same dtype (got {left.dtype} and {right.dtype})")
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"query and train must have the same width (got {left.shape[1]} and {right.shape[1]})")
    if left.dtype == np.uint8:
        return np.ascontiguousarray(left), np.ascontiguousarray(right)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(left, np.float32), np.ascontiguousarray(right, np.float32)


def _rank(
    query: _Descriptors, train: _Descriptors, k: int, norm: str, *, both: bool = False
) -> tuple[_Ranking, _Ranking | None]:
    """Find the k nearest trains of every query and, if `both`, the nearest query of every train."""
    if norm == "hamming":
        return _rank_bits(query, train, k, both=both)
    query_bytes, train_bytes = _as_bytes(query), _as_bytes(train)
    if query_bytes is None or train_bytes is None or query.shape[1] > _WIDEST_EXACT:
        return _rank_floats(query, train, k, both=both)
    return _rank_bytes(query_bytes, train_bytes, k, both=both)


def _rank_bits(
    query: NDArray[np.uint8], train: NDArray[np.uint8], k: int, *, both: bool
) -> tuple[_Ranking, _Ranking | None]:
    found = nearest_scan.scan(layout.lay_out_bits(query, train), exact=True)

    def first(count: NDArray[np.int64], index: NDArray[np.int32], k: int) -> _Ranking:
        return _Ranking(index[:, :k].copy(), np.where(index >= 0, count, np.inf)[:, :k].astype(np.float32))

    of_query = first(found.row_squared, found.row_index, k)
    if not both:
        return of_query, None
    return of_query, first(found.column_squared, found.column_index, 1)


def _rank_bytes(
    query: NDArray[np.uint8], train: NDArray[np.uint8], k: int, *, both: bool
) -> tuple[_Ranking, _Ranking | None]:
    if layout.MULTIPLIES_BYTES:
        laid_out = layout.lay_out_bytes(query, train)
    else:
        laid_out = layout.lay_out_words(query, train, exact=True)
    found = nearest_scan.scan(laid_out, exact=True)
    of_query = _settle_exact(query, train, found.row_squared, found.row_index, k)
    if not both:
        return of_query, None
    return of_query, _settle_exact(train, query, found.column_squared, found.column_index, 1)


def _settle_exact(
    own: NDArray[np.uint8],
    other: NDArray[np.uint8],
    squared: NDArray[np.int64],
    index: NDArray[np.int32],
    k: int,
) -> _Ranking:
    """Rank by square roots in float32 what a scan ranked by squares."""
    nearest, distance = np.empty((len(own), k), np.int32), np.empty((len(own), k), np.float32)
    if _take_roots(squared, index, nearest, distance):
        unsure = np.flatnonzero((squared[:, k - 1] >= _ROOTS_COLLIDE) & (nearest[:, -1] >= 0))
        # What was not kept has a larger square, or the same and a higher index.
        floor = np.sqrt(squared[:, -1] + 1)
        floats = own.astype(np.float32), other.astype(np.float32)
        nearest_scan.settle(*floats, unsure, index, floor, nearest, distance)
    return _Ranking(nearest, distance)


@numba.njit(cache=True, nogil=True)
def _take_roots(
    squared: NDArray[np.int64],
    index: NDArray[np.int32],
    nearest: NDArray[np.int32],
    distance: NDArray[np.float32],
) -> bool:
    """Write the first of each row, and tell whether the roots of any may be equal where its squares are not."""
    k = nearest.shape[1]
    collide = False
    for i in range(len(nearest)):
        for level in range(k):
            found = index[i, level]
            nearest[i, level] = found
            distance[i, level] = np.sqrt(np.float32(squared[i, level])) if found >= 0 else np.float32(np.inf)
        collide |= index[i, k - 1] >= 0 and squared[i, k - 1] >= _ROOTS_COLLIDE
    return collide


def _rank_floats(
    query: _Descriptors, train: _Descriptors, k: int, *, both: bool
) -> tuple[_Ranking, _Ranking | None]:
    query, train = np.asarray(query, np.float32), np.asarray(train, np.float32)
    longest = max(_longest("query", query), _longest("train", train))
    # Rounding adds at most half a unit to each of `width` coordinates.
    room = nearest_scan.LARGEST_LENGTH - math.sqrt(query.shape[1]) / 2
    scale = room / longest if longest > 0 else 1.0
    query_words, train_words = np.empty(query.shape, np.int16), np.empty(train.shape, np.int16)
    error = _round_to_words(query, scale, query_words) + _round_to_words(train, scale, train_words)
    found = nearest_scan.scan(layout.lay_out_words(query_words, train_words, exact=False), exact=False)
    rounding = _Rounding(scale, error, found.unit)
    of_query = _settle_rounded(query, train, found.row_squared, found.row_index, k, rounding)
    if not both:
        return of_query, None
    return of_query, _settle_rounded(train, query, found.column_squared, found.column_index, 1, rounding)


def _settle_rounded(
    own: NDArray[np.float32],
    other: NDArray[np.float32],
    squared: NDArray[np.int64],
    index: NDArray[np.int32],
    k: int,
    rounding: _Rounding,
) -> _Ranking:
    """Rank by the floats' own distances what a scan ranked by those of rounded ones."""
    nearest, distance = np.empty((len(own), k), np.int32), np.empty((len(own), k), np.float32)
    rounded = np.sqrt(np.maximum(squared[:, -1] - rounding.unit, 0))
    floor = np.where(index[:, -1] >= 0, (rounded - rounding.error) / rounding.scale, np.inf)
    nearest_scan.settle(own, other, np.arange(len(own)), index, floor, nearest, distance)
    return _Ranking(nearest, distance)


def _as_bytes(values: _Descriptors) -> NDArray[np.uint8] | None:
    """The same numbers as uint8, or None when some are not whole or not in 0..255."""
    if values.dtype == np.uint8:
        return values
    as_bytes = np.empty(values.shape, np.uint8)
    return as_bytes if _copy_whole_numbers(values, as_bytes) else None


@numba.njit(cache=True, nogil=True)
def _copy_whole_numbers(values: NDArray[np.float32], out: NDArray[np.uint8]) -> bool:
    """Copy until a row holds something else than whole numbers from 0 to 255, and tell whether none did."""
    for i in range(len(values)):
        is_whole = True
        for j in range(values.shape[1]):
            value = values[i, j]
            byte = np.uint8(min(max(value, np.float32(0)), np.float32(255)))
            out[i, j] = byte
            is_whole &= np.float32(byte) == value
        if not is_whole:
            return False
    return True


def _longest(name: str, values: NDArray[np.float32]) -> float:
    """The largest Euclidean length of a row."""
    square, odd_row = _largest_square(values)
    if odd_row >= 0:
        raise ValueError(f"{name} must be finite in float32 (got NaN or infinity in row {odd_row})")
    return math.sqrt(square)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _largest_square(values: NDArray[np.float32]) -> tuple[float, int]:
    """The largest squared length, and the first row that has no finite one, or -1."""
    largest = 0.0
    for i in range(len(values)):
        square = 0.0
        for j in range(values.shape[1]):
            square += np.float64(values[i, j]) * np.float64(values[i, j])
        if not square < np.inf:
            return largest, i
        largest = max(largest, square)
    return largest, -1


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _round_to_words(values: NDArray[np.float32], scale: float, words: NDArray[np.int16]) -> float:
    """Write the integers nearest to `values * scale`, and return the largest length of a row of errors."""
    largest = 0.0
    for i in range(len(values)):
        square = 0.0
        for j in range(values.shape[1]):
            scaled = np.float64(values[i, j]) * scale
            word = np.rint(scaled)
            words[i, j] = np.int16(word)
            square += (scaled - word) * (scaled - word)
        largest = max(largest, square)
    return math.sqrt(largest)
