"""The published integral image of a feature map, and the descriptor of a region from it.

Public through `region_index.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from parimg.kernels.regions.arguments import checked_box, checked_map, not_finite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def integral_image(feature_map: ArrayLike) -> NDArray[np.float64]:
    """Add a feature map up, so that the sum over any region takes four values.

    Parameters
    ----------
    feature_map : array_like, shape (channels, height, width)
        Real numbers.

    Returns
    -------
    ndarray of float64, shape (channels, height + 1, width + 1)
        ``integral[:, y, x]`` is the sum over ``feature_map[:, :y, :x]``.

    Raises
    ------
    TypeError
        When the map does not hold real numbers.
    ValueError
        When the map has another number of dimensions, an empty one, or a NaN or infinite value.

    Notes
    -----
    The published function, except that float32 maps are added up in float64, too; the published one adds them
    up in float32 and loses the fourth digit of a small region of a large map.

    Examples
    --------
    >>> import numpy as np
    >>> integral_image(np.ones((1, 2, 2)))
    array([[[0., 0., 0.],
            [0., 1., 2.],
            [0., 2., 4.]]])
    """
    cells = checked_map(feature_map)
    if not np.isfinite(cells).all():
        raise not_finite("feature_map", cells)
    channels, height, width = cells.shape
    integral = np.zeros((channels, height + 1, width + 1))
    inner = integral[:, 1:, 1:]
    np.cumsum(cells, axis=2, dtype=np.float64, out=inner)
    np.cumsum(inner, axis=1, out=inner)
    return integral


def region_descriptor(integral: ArrayLike, box: Sequence[int]) -> NDArray[np.float64]:
    """Sum a feature map over a region and normalise.

    Parameters
    ----------
    integral : array_like, shape (channels, height + 1, width + 1)
        What `integral_image` returned.
    box : sequence of four int
        ``(y1, x1, y2, x2)``, half open.

    Returns
    -------
    ndarray of float64, shape (channels,)
        Of unit length; zeros where the sum over the region is zero. (The published function returns NaN there,
        which no search can choose, and `RegionIndex.search` does not either.)

    Raises
    ------
    ValueError
        When the integral image has another number of dimensions, or the box is empty or leaves the map.

    Examples
    --------
    >>> import numpy as np
    >>> feature_map = np.array([[[3, 0], [0, 0]], [[0, 4], [0, 0]]])
    >>> region_descriptor(integral_image(feature_map), (0, 0, 1, 2))
    array([0.6, 0.8])
    """
    sums_above = np.asarray(integral, np.float64)
    if sums_above.ndim != 3:
        raise ValueError(f"integral must have shape (channels, height + 1, width + 1) (got {sums_above.shape})")
    y1, x1, y2, x2 = checked_box(box, sums_above.shape[1] - 1, sums_above.shape[2] - 1)
    total: NDArray[np.float64] = (
        sums_above[:, y2, x2] + sums_above[:, y1, x1] - sums_above[:, y1, x2] - sums_above[:, y2, x1]
    )
    norm = math.sqrt(np.sum(total * total))
    return total / norm if norm > 0 else np.zeros_like(total)
