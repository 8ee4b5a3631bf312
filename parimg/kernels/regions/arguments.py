"""What users give a region search: checked, with messages that name it, and laid out as kernels want it.

Called by `region_index.py`.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.regions.window_norms import lay_out
from parimg.kernels.regions.windows import LARGEST_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from numpy.typing import ArrayLike, NDArray

Box = tuple[int, int, int, int]

_DOUBLE = np.dtype(np.float64)
_STEP_BEFORE_BOUNDS = 3  # the paper's grid, refined: what branch and bound starts from
# Bytes of a cache line, and of the widest vector.
ALIGNMENT = 64


def aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> NDArray[Any]:
    """Empty, and beginning where a cache line does: searches load whole lines."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -address(memory) % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def checked_map(feature_map: ArrayLike) -> NDArray[Any]:
    cells = np.asarray(feature_map)
    if cells.dtype.kind not in "uif":
        raise TypeError(f"feature_map must hold real numbers (got dtype {cells.dtype})")
    if cells.ndim != 3 or cells.size == 0:
        raise ValueError(
            f"feature_map must have shape (channels, height, width), each at least 1 (got {cells.shape})"
        )
    return cells


def channels_last(cells: NDArray[Any]) -> NDArray[Any]:
    """A copy of shape (height, width, channels): float32 if that holds every value, else float64."""
    channels, height, width = cells.shape
    if cells.dtype != np.float32:
        with np.errstate(over="ignore"):
            single = cells.astype(np.float32)
        fits = np.can_cast(cells.dtype, np.float32) or np.array_equal(single, cells, equal_nan=True)
        cells = single if fits else cells.astype(np.float64)
    source = np.require(cells, requirements=["C_CONTIGUOUS", "ALIGNED"]).reshape(channels, height * width)
    target = aligned((height * width, channels), cells.dtype)
    lay_out(source, target)
    return target.reshape(height, width, channels)


def not_finite(name: str, values: NDArray[Any]) -> ValueError:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong) == 0:
        return ValueError(f"{name} must hold values whose squares are finite (got {np.abs(values).max():g})")
    place = tuple(wrong[0].tolist())
    return ValueError(f"{name} must hold finite values only (got {values[place]} at {place})")


def checked_box(box: Sequence[int], height: int, width: int) -> Box:
    try:
        y1, x1, y2, x2 = (operator.index(edge) for edge in box)
    except ValueError:
        raise ValueError(f"box must be (y1, x1, y2, x2) (got {box!r})") from None
    if not (0 <= y1 < y2 <= height and 0 <= x1 < x2 <= width):
        raise ValueError(f"box must be (y1, x1, y2, x2), not empty, within {height} x {width} cells (got {box!r})")
    return y1, x1, y2, x2


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        raise ValueError(f"image_size must be (height, width) in pixels (got {size!r})") from None
    if height < 1 or width < 1:
        raise ValueError(f"image_size must be at least 1 x 1 (got {size!r})")
    return height, width


def checked_query(query: ArrayLike, channels: int) -> NDArray[np.float64]:
    """As compiled code wants it; of any length, which the search looks at."""
    if type(query) is np.ndarray and query.dtype is _DOUBLE and query.flags.carray and query.shape == (channels,):
        return query
    vector = np.array(query)
    if vector.dtype.kind not in "uif":
        raise TypeError(f"query must hold real numbers (got dtype {vector.dtype})")
    if vector.shape != (channels,):
        raise ValueError(f"query must have shape ({channels},), one value a channel (got {vector.shape})")
    return vector if vector.dtype is _DOUBLE else vector.astype(np.float64)


def normalised(query: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of unit length, whatever it had."""
    largest = float(np.abs(query).max())
    if not math.isfinite(largest):
        raise not_finite("query", query)
    if largest == 0:
        raise ValueError("query must have a direction (got zeros only)")
    query = query / largest
    unit: NDArray[np.float64] = query / math.sqrt(float(query @ query))
    return unit


def checked_ratios(aspect_ratio: float | Sequence[float | None] | None, queries: int) -> list[float]:
    """One a query; 0 stands for None."""
    if aspect_ratio is None or isinstance(aspect_ratio, (int, float, np.number)):
        given: Sequence[float | None] = [aspect_ratio] * queries
    elif isinstance(aspect_ratio, str) or not hasattr(aspect_ratio, "__iter__"):
        raise TypeError(f"aspect_ratio must be a number, a sequence of them, or None (got {aspect_ratio!r})")
    else:
        given = list(aspect_ratio)
    if len(given) != queries:
        raise ValueError(f"aspect_ratio must be one, or one for each of {queries} queries (got {len(given)})")
    for ratio in given:
        if ratio is not None and not isinstance(ratio, (int, float, np.number)):
            raise TypeError(f"aspect_ratio must be a number, a sequence of them, or None (got {ratio!r})")
        if ratio is not None and not 0 < ratio < math.inf:
            raise ValueError(f"aspect_ratio must be positive and finite, or None (got {ratio!r})")
    return [0.0 if ratio is None else float(ratio) for ratio in given]


class Walk(NamedTuple):
    """Which windows a search compares, checked.

    Attributes
    ----------
    of_sums, of_maxima : ndarray of float64, shape (5 + queries,)
        What `search_loop.py` wants of indexes of either kind.
    exact : bool
        Whether the best window of a max-pooled index is to be proven.
    top_k : int
    """

    of_sums: NDArray[np.float64]
    of_maxima: NDArray[np.float64]
    exact: bool
    top_k: int


def checked_walk(
    aspect_ratio: float | Sequence[float | None] | None,
    aspect_range: tuple[float, float],
    step: int,
    min_size: int,
    refine: bool,
    top_k: int,
    exact: bool,
    queries: int = 1,
) -> Walk:
    """What is asked for is mostly what was asked for before, and then takes a look-up."""
    try:
        return _checked_walk(aspect_ratio, aspect_range, step, min_size, refine, top_k, exact, queries)
    except TypeError:  # of a list, which cannot be looked up, or of what is wrong, which is found again
        options = aspect_range, step, min_size, refine, top_k, exact
        return _checked_walk.__wrapped__(aspect_ratio, *options, queries)


def _pair(aspect_range: tuple[float, float]) -> tuple[float, float]:
    if isinstance(aspect_range, str) or not hasattr(aspect_range, "__iter__"):
        raise _no_pair(aspect_range)
    ends = tuple(aspect_range)
    if len(ends) != 2 or not all(isinstance(end, (int, float, np.number)) for end in ends):
        raise _no_pair(aspect_range)
    low, high = (float(end) for end in ends)
    if not low < high:
        raise ValueError(f"aspect_range must be two numbers, the lower one first (got {aspect_range!r})")
    return low, high


def _no_pair(aspect_range: object) -> TypeError:
    return TypeError(f"aspect_range must be two numbers, the lower one first (got {aspect_range!r})")


@functools.lru_cache(maxsize=64, typed=True)
def _checked_walk(
    aspect_ratio: float | Sequence[float | None] | None,
    aspect_range: tuple[float, float],
    step: int,
    min_size: int,
    refine: bool,
    top_k: int,
    exact: bool,
    queries: int,
) -> Walk:
    ratios = checked_ratios(aspect_ratio, queries)
    low, high = _pair(aspect_range)
    whole = {}
    for name, given in (("step", step), ("min_size", min_size), ("top_k", top_k)):
        try:
            whole[name] = operator.index(given)
        except TypeError:
            raise TypeError(f"{name} must be an integer (got {given!r})") from None
    for name, value in whole.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1 (got {value})")

    def walk(step: int, refine: bool) -> NDArray[np.float64]:
        # No map has more rows or columns.
        step, smallest = min(step, LARGEST_SIDE), min(whole["min_size"], LARGEST_SIDE + 1)
        return np.array([low, high, step, smallest, refine, *ratios], np.float64)

    step = whole["step"]
    if exact:  # of sums, comparing all windows is quicker than bounds
        return Walk(walk(1, refine), walk(_STEP_BEFORE_BOUNDS, True), True, whole["top_k"])
    return Walk(walk(step, refine), walk(step, refine), False, whole["top_k"])
