"""Otsu's threshold of gray levels: of an image, or of the counts of its tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from parimg.errors import TaskError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BINS = 256  # of floats, as scikit-image has them


def otsu(image: npt.NDArray[Any]) -> Any:
    """Otsu's threshold, a level of integers as it is.

    scikit-image makes a bin for each integer in the range, 30 GB for one level of 4e9; where squares of floats are
    beyond their dtype, they are taken times a power of two, which is exact.
    """
    import numpy as np
    from skimage.filters import threshold_otsu

    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise TaskError("the image has infinite levels, for which Otsu's method finds no threshold")
        if _is_usual(image.dtype, float(image.max()) - float(image.min())):
            return float(threshold_otsu(image))  # type: ignore[no-untyped-call]
        exponent = int(np.frexp(np.abs(image).max())[1])
        scaled = np.ldexp(image.astype(np.float64), -exponent)
        return np.ldexp(float(threshold_otsu(scaled)), exponent)  # type: ignore[no-untyped-call]
    if image.dtype.itemsize <= 2 and image.dtype != bool:
        return float(threshold_otsu(image))  # type: ignore[no-untyped-call]
    return _of_levels(*np.unique(image, return_counts=True))


def _is_usual(dtype: np.dtype[Any], span: float) -> bool:
    """Whether squares of floats of that span are within their dtype."""
    import numpy as np

    limits = np.finfo(dtype)
    return span == 0 or math.sqrt(limits.tiny) < span < math.sqrt(limits.max)


def _of_levels(levels: npt.NDArray[Any], counts: npt.NDArray[Any]) -> Any:
    """Of integers, by the levels that there are."""
    import numpy as np
    from skimage.filters import threshold_otsu

    if len(levels) == 1:
        return levels[0]
    # Counted from the lowest, neighbours beyond 2**53 stay apart.
    heights = (levels.astype(np.uint64) - levels[:1].astype(np.uint64)).astype(np.float64)
    height = threshold_otsu(hist=(counts, heights))  # type: ignore[no-untyped-call]
    return levels[np.searchsorted(heights, height)]


# -- by tiles ------------------------------------------------------------------------------------------------


def count_levels(part: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """The different integers of a part and how often each comes; of floats the least and the largest."""
    import numpy as np

    if part.dtype.kind == "f":
        if not np.isfinite(part).all():
            raise TaskError("the image has infinite levels, for which Otsu's method finds no threshold")
        return {"range": np.array([part.min(), part.max()])}
    levels, counts = np.unique(part, return_counts=True)
    return {"levels": levels, "counts": counts}


def count_bins(part: npt.NDArray[Any], least: float, most: float) -> npt.NDArray[Any]:
    """How many floats of a part lie in each bin between the least and the largest of all."""
    import numpy as np

    ends = np.array([least, most], part.dtype)
    counts, _ = np.histogram(part.reshape(-1), _BINS, range=(ends[0], ends[1]))
    return counts


def otsu_of_levels(parts: Iterable[dict[str, npt.NDArray[Any]]]) -> Any:
    """Otsu's threshold of an image of integers, of what `count_levels` found in its parts."""
    import numpy as np
    from skimage.filters import threshold_otsu

    levels, counts = None, None
    for part in parts:
        if levels is None or counts is None:
            levels, counts = part["levels"], part["counts"]
            continue
        both, places = np.unique(np.concatenate([levels, part["levels"]]), return_inverse=True)
        levels, counts = both, np.bincount(places, np.concatenate([counts, part["counts"]])).astype(np.int64)
    assert levels is not None, "there is a part"  # noqa: S101
    assert counts is not None, "and it has levels"  # noqa: S101
    if levels.dtype.itemsize > 2 or levels.dtype == bool:
        return _of_levels(levels, counts)
    if len(levels) == 1:
        return float(levels[0])
    every = np.arange(int(levels[0]), int(levels[-1]) + 1)
    there = np.zeros(len(every), np.int64)
    there[levels.astype(np.int64) - int(levels[0])] = counts
    return float(threshold_otsu(hist=(there, every)))  # type: ignore[no-untyped-call]


def otsu_of_bins(counts: npt.NDArray[Any], least: float, most: float, dtype: npt.DTypeLike) -> float:
    """Otsu's threshold of an image of floats, of the sum of what `count_bins` found in its parts."""
    import numpy as np
    from skimage.filters import threshold_otsu

    if least == most:
        return least
    if not _is_usual(np.dtype(dtype), most - least):
        raise TaskError(
            f"gray levels from {least:g} to {most:g} are too near to each other, or too far apart, for Otsu's "
            "method by tiles; give a number as threshold"
        )
    ends = np.array([least, most], dtype)
    edges = np.histogram_bin_edges(ends, _BINS, range=(ends[0], ends[1]))
    middles = (edges[:-1] + edges[1:]) / 2.0
    return float(threshold_otsu(hist=(counts, middles)))  # type: ignore[no-untyped-call]
