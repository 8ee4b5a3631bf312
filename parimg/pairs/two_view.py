"""How two views of a pair belong together: which geometry explains their matches, as COLMAP tells them apart.

Points in, geometry out; called by `block_task` on engines.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from parimg.kernels.descriptors.verification import Verification, verify_matches

if TYPE_CHECKING:
    import numpy.typing as npt

Verify = Literal["fundamental", "homography"]
_MOST_ITERATIONS, _LEAST_ITERATIONS = 10_000, 50
_MISSED = 0.01  # share of the geometries with just enough inliers that samples may miss
_SAMPLES = {"fundamental": 7, "homography": 4}  # matches that a geometry is made of
_PLANAR_SHARE = 0.8  # of a fundamental matrix's inliers, as COLMAP has it


class Configuration(IntEnum):
    """COLMAP's names and numbers for what relates two views."""

    UNDEFINED = 0
    """Nothing is known: too few matches agree, or none were verified."""
    UNCALIBRATED = 3
    """A fundamental matrix."""
    PLANAR_OR_PANORAMIC = 6
    """A homography: what is seen is flat, or the camera only turned."""


class TwoViewGeometry(NamedTuple):
    """What relates two views.

    Attributes
    ----------
    configuration : Configuration
    inliers : ndarray of bool, shape (matches,)
    fundamental, homography : ndarray of float64, shape (3, 3)
        From the first view to the second, in pixels whose centres have whole coordinates; NaN where there is none.
    """

    configuration: Configuration
    inliers: npt.NDArray[np.bool_]
    fundamental: npt.NDArray[np.float64]
    homography: npt.NDArray[np.float64]


def relate_views(
    first: npt.NDArray[np.float32],
    second: npt.NDArray[np.float32],
    verify: Verify,
    *,
    threshold: float,
    min_inliers: int,
) -> TwoViewGeometry:
    """Find what relates two views, from the points that match.

    Parameters
    ----------
    first, second : ndarray, shape (matches, 2)
        x and y, pixels.
    verify : {"fundamental", "homography"}
        ``"fundamental"``: a fundamental matrix, and a homography where that explains at least 0.8 times as many
        matches. ``"homography"``: only that.
    threshold : float
        Largest distance of an inlier, pixels.
    min_inliers : int
        With fewer, nothing relates them.

    Returns
    -------
    TwoViewGeometry
        The same for the same points, whatever ran before: MAGSAC++ draws from a generator of its own, which begins
        anew for each pair.
    """
    none = unrelated(len(first))
    if len(first) < min_inliers:
        return none
    found = _verify(first, second, verify, threshold, min_inliers)
    n_found = int(found.inliers.sum())
    # What one homography explains, a fundamental matrix does, too: where that finds too little there is no other.
    if n_found < min_inliers:
        return none
    if verify == "homography":
        return TwoViewGeometry(Configuration.PLANAR_OR_PANORAMIC, found.inliers, none.fundamental, found.model)
    flat = _verify(first, second, "homography", threshold, math.ceil(_PLANAR_SHARE * n_found))
    n_flat = int(flat.inliers.sum())
    if n_flat < _PLANAR_SHARE * n_found:
        return TwoViewGeometry(Configuration.UNCALIBRATED, found.inliers, found.model, none.homography)
    inliers = flat.inliers if n_flat > n_found else found.inliers
    return TwoViewGeometry(Configuration.PLANAR_OR_PANORAMIC, inliers, found.model, flat.model)


def _verify(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], model: Verify, threshold: float, least: int
) -> Verification:
    """The geometry, sought as long as it takes to find one with so many inliers.

    One with fewer counts for nothing. The fundamental matrices of templeRing's pairs take 0.8 s in place of 3.5,
    and 3 of 358 verified pairs are missed, with 15 inliers each. One in 1 000 would take 1.0 s, and miss 2.
    """
    good = (least / len(first)) ** _SAMPLES[model]
    wanted = math.log(_MISSED) / math.log1p(-good) if good < 1 else 0
    iterations = int(min(_MOST_ITERATIONS, max(_LEAST_ITERATIONS, wanted)))
    return verify_matches(first, second, model, threshold, max_iterations=iterations)


def unrelated(n_matches: int) -> TwoViewGeometry:
    """What there is to say of two views whose matches no geometry explains."""
    nothing = np.full((3, 3), np.nan)
    return TwoViewGeometry(Configuration.UNDEFINED, np.zeros(n_matches, bool), nothing, nothing)
