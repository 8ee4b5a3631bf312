"""The arrays of a region index: made from a map, and checked where they were read from a file.

Called by `region_index.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.regions import max_pooling as maxima
from parimg.kernels.regions import window_norms as norms
from parimg.kernels.regions.arguments import aligned, not_finite
from parimg.kernels.regions.window_scan import PADDING
from parimg.kernels.regions.windows import LARGEST_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# An index takes at most this many times the memory of the float32 map.
_LARGEST_INDEX = 3
# Eighths to a larger power do not fit into int64.
_LARGEST_ALPHA = 20
_KINDS = {"max": ("int64",), "sum": ("float32", "float64")}


class IndexArrays(NamedTuple):
    """What the compiled search works on.

    Attributes
    ----------
    main : ndarray, shape (height, width, channels)
        The map, float32 or float64, or integrals of powers, int64.
    side : ndarray of float32
        Inverse norms of all windows or none, or the scale of each channel.
    whole : ndarray of float64
        The exact sum of all cells, shape (channels,), beside norms; else empty.
    total : float
        Length of the map as one vector, or its largest value.
    exact : bool
        Whether float64 adds the map up exactly.
    """

    main: NDArray[Any]
    side: NDArray[np.float32]
    whole: NDArray[np.float64]
    total: float
    exact: bool


def sum_arrays(cells: NDArray[Any], *, store_norms: bool) -> IndexArrays:
    """Of a map, channels last, which is kept as it is.

    Raises
    ------
    ValueError
        When it holds NaN or infinity.
    """
    height, width, channels = cells.shape
    flat = cells.reshape(-1, channels)
    total = norms.total_length(flat)
    if not math.isfinite(total):
        raise not_finite("feature_map", cells.transpose(2, 0, 1))
    exact = norms.is_exact(flat, total)
    windows = height * (height + 1) // 2 * norms.strip_size(width)
    fits = cells.nbytes + 4 * (windows + PADDING) <= _LARGEST_INDEX * 4 * cells.size
    inverse = np.zeros(windows + PADDING if store_norms and fits else 0, np.float32)
    whole = np.empty(channels)
    if len(inverse):
        floor = norms.norm_floor(cells.shape, total, exact)
        norms.fill_inverse_norms(cells, total, floor, inverse, whole)
    fits = cells.nbytes + inverse.nbytes + whole.nbytes <= _LARGEST_INDEX * 4 * cells.size
    return IndexArrays(cells, inverse, whole if len(inverse) and exact and fits else whole[:0], total, exact)


def max_arrays(cells: NDArray[Any], alpha: int) -> IndexArrays:
    """Of a map, channels last, rounded to levels.

    Raises
    ------
    ValueError
        When it holds NaN, infinity or a negative value, or sums of powers could overflow.
    """
    height, width, channels = cells.shape
    if maxima.LEVELS**alpha * height * width >= 2**63:
        raise ValueError(f"alpha must be at least 1, and 8**alpha x {height} x {width} below 2**63 (got {alpha})")
    flat = cells.reshape(-1, channels)
    if not math.isfinite(norms.total_length(flat)):
        raise not_finite("feature_map", cells.transpose(2, 0, 1))
    largest = np.empty(channels, cells.dtype)
    smallest = maxima.largest_of_channels(flat, largest)
    if smallest < 0:
        raise ValueError(f"feature_map must not be negative for pooling='max' (got {smallest:g}); use 'sum'")
    integral = aligned(cells.shape, np.int64)
    powers = np.arange(maxima.LEVELS + 1) ** alpha
    maxima.fill_power_integral(cells, largest, powers, integral)
    top = float(largest.max())
    scale = (largest / (top if top > 0 else 1.0)).astype(np.float32)
    return IndexArrays(integral, scale, np.empty(0), top, True)  # int64 adds up exactly


def check_arrays(pooling: str, alpha: int, arrays: IndexArrays) -> None:
    """Refuse arrays that do not belong together: compiled code would read beyond their end.

    Raises
    ------
    ValueError
        If they do not, or hold what no map gives.
    """
    main, side, whole, total, exact = arrays
    if pooling not in _KINDS:
        raise ValueError(f"its pooling is {pooling!r}")
    kinds = _KINDS[pooling]
    height, width, channels = main.shape
    if pooling == "max":
        sizes: tuple[int, ...] = (channels,)
    else:
        sizes = (0, height * (height + 1) // 2 * norms.strip_size(width) + PADDING)
    if main.dtype.name not in kinds or not 0 < min(height, width) <= max(height, width) <= LARGEST_SIDE:
        raise ValueError(f"it holds {main.dtype} of shape {main.shape} for {pooling!r}")
    if side.dtype != np.float32 or side.shape not in {(size,) for size in sizes}:
        raise ValueError(f"it holds {side.dtype} of shape {side.shape} beside {main.shape}")
    may_be_whole = pooling == "sum" and exact and len(side) > 0
    if whole.dtype != np.float64 or whole.shape not in ({(0,), (channels,)} if may_be_whole else {(0,)}):
        raise ValueError(f"it holds {whole.dtype} of shape {whole.shape} as the sum of {main.shape}")
    if not all(array.dtype.isnative and array.flags.aligned for array in (main, side, whole)):
        raise ValueError(f"it holds {main.dtype} of another machine, or not where it should be")
    if not 0 <= total < math.inf or alpha < 1:
        raise ValueError(f"its total is {total}, its alpha {alpha}")
    if pooling != "max":  # all of the side would have to be read; a NaN in it only hides its window
        return
    if alpha > _LARGEST_ALPHA:
        raise ValueError(f"its alpha is {alpha}")
    if not (channels and side.min() >= 0 and side.max() < math.inf):
        raise ValueError("a channel's scale is NaN, infinite or below 0")
