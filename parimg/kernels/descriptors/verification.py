"""Geometric verification: which matches one homography or fundamental matrix explains.

Points in, model and inliers out; OpenCV's MAGSAC++ finds the model. Called by tasks and by users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Model = Literal["homography", "fundamental"]
_LEAST_POINTS = {"homography": 4, "fundamental": 8}
_MAX_ITERATIONS = 10_000
_CONFIDENCE = 0.999


class Verification(NamedTuple):
    """What one geometric model says of matched points.

    Attributes
    ----------
    model : ndarray of float64, shape (3, 3)
        Homography from the first points to the second, or fundamental matrix F with ``second.T @ F @ first = 0``;
        all NaN where none was found.
    inliers : ndarray of bool, shape (n,)
        Which pairs it explains.
    """

    model: NDArray[np.float64]
    inliers: NDArray[np.bool_]


def verify_matches(
    first: ArrayLike,
    second: ArrayLike,
    model: Model,
    threshold: float = 3.0,
    *,
    max_iterations: int = _MAX_ITERATIONS,
) -> Verification:
    """Find the homography or fundamental matrix that explains the most matches.

    Parameters
    ----------
    first, second : array_like, shape (n, 2)
        x and y of the matched points, pixels.
    model : {"homography", "fundamental"}
        A homography relates views of a plane, or views from one place; a fundamental matrix any two views.
    threshold : float, default 3.0
        Largest distance of an inlier from where the model puts it (its epipolar line for "fundamental"), pixels.
    max_iterations : int, default 10 000
        How many samples are drawn at most; where many agree it ends earlier.

    Returns
    -------
    Verification
        Without inliers where fewer than 4 (homography) or 8 (fundamental) pairs are given, or none agree.

    Raises
    ------
    ValueError
        If the points differ in number or have another shape, the model is neither, or the threshold or
        `max_iterations` is not positive.

    Notes
    -----
    MAGSAC++ draws its samples from a generator with a fixed seed: the same points give the same answer.

    References
    ----------
    D. Barath, J. Noskova, M. Ivashechkin, J. Matas, "MAGSAC++, a fast, reliable and accurate robust estimator",
    CVPR 2020.

    Examples
    --------
    >>> import numpy as np
    >>> first = np.random.default_rng(0).uniform(0, 100, (20, 2))
    >>> found = verify_matches(first, first + [5, 7], "homography")
    >>> found.model.round(3)[:2, 2]
    array([5., 7.])
    >>> int(found.inliers.sum())
    20
    """
    if model not in get_args(Model):
        raise ValueError(f"model must be 'homography' or 'fundamental' (got {model!r})")
    if not threshold > 0:
        raise ValueError(f"threshold must be positive (got {threshold!r})")
    if not max_iterations >= 1:
        raise ValueError(f"max_iterations must be at least 1 (got {max_iterations!r})")
    start, end = _points("first", first), _points("second", second)
    if len(start) != len(end):
        raise ValueError(f"first and second must have as many points (got {len(start)} and {len(end)})")
    nothing = Verification(np.full((3, 3), np.nan), np.zeros(len(start), bool))
    if len(start) < _LEAST_POINTS[model]:
        return nothing
    import cv2

    try:
        if model == "homography":
            found, mask = cv2.findHomography(
                start, end, cv2.USAC_MAGSAC, threshold, maxIters=max_iterations, confidence=_CONFIDENCE
            )
        else:
            found, mask = cv2.findFundamentalMat(
                start, end, cv2.USAC_MAGSAC, threshold, _CONFIDENCE, max_iterations
            )
    except cv2.error:  # points without extent
        return nothing
    if found is None or found.shape != (3, 3) or not np.isfinite(found).all():
        return nothing
    return Verification(np.asarray(found, np.float64), np.asarray(mask).ravel().astype(bool))


def _points(name: str, points: ArrayLike) -> NDArray[np.float64]:
    array = np.ascontiguousarray(points, np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must have shape (n, 2) (got {array.shape})")
    return array
