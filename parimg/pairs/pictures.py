"""Matched pairs on matplotlib's axes: one pair with its lines, and all pairs as a matrix."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import numpy as np

from parimg.errors import TaskError
from parimg.job.plotting import new_axes
from parimg.pairs.feature_task import gray_as_stored
from parimg.pairs.two_view import Configuration
from parimg.tasks._axes import set_caption, show_image
from parimg.tasks._match_picture import MOST_LINES, match_picture, shrunk

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.pairs.pair_job import PairJob

    Gray = npt.NDArray[np.uint8]

_UNMATCHED = "#ececec"


def plot_pair(
    job: PairJob | str | os.PathLike[str],
    first: str | int,
    second: str | int,
    *,
    images: tuple[Gray, Gray] | None = None,
    max_matches: int = MOST_LINES,
    longest: int | None = 1000,
    ax: Axes | None = None,
) -> Axes:
    """Draw two images side by side, with lines between their matches; outliers below them, thin and red.

    Parameters
    ----------
    job : PairJob or path
        Or its directory.
    first, second : str or int
        Images by name, key, path or number.
    images : pair of ndarray of uint8, optional
        The images themselves, gray or RGB, needed if they were given as arrays.
    max_matches : int, default 200
        Draw at most so many inliers, and so many outliers, evenly chosen.
    longest : int or None, default 1000
        Images with a longer side are scaled down to it.
    ax : matplotlib Axes, optional
        By default in a new figure, which is not shown.

    Returns
    -------
    matplotlib Axes
        Images are not turned by their EXIF orientation, as features are found.

    Raises
    ------
    JobError
        If there is no such image, it was given as an array, or matplotlib is not installed.
    ImageError
        If one cannot be read.

    Examples
    --------
    >>> parimg.plot_pair(job, "a.jpg", "b.jpg")  # doctest: +SKIP
    """
    opened = _opened(job)
    found = opened.match(first, second)
    numbers = (found.first, found.second)
    if images is None:
        images = (opened.pixels_of(found.first), opened.pixels_of(found.second))
    views, points = [], []
    for image, number, column in zip(images, numbers, found.matches.T, strict=True):
        small, scale = shrunk(gray_as_stored(image, str(number)), longest)
        views.append(small)
        points.append(opened.features_of(number).points[column, :2] * np.float32(scale))
    # Colours by place: no distances are kept.
    places = np.arange(len(found.matches))
    is_verified = found.configuration != Configuration.UNDEFINED
    inliers = None if opened.keeps_unverified and not is_verified else found.inliers
    picture = match_picture((views[0], views[1]), (points[0], points[1]), places, inliers, most=max_matches)
    ax = ax if ax is not None else new_axes(1, width=9.0, height=4.0)[0]
    show_image(ax, picture)
    names = opened.names()
    said = f"{len(found.matches)} matches, {int(found.inliers.sum())} inliers"
    set_caption(ax, f"{names[found.first]} and {names[found.second]}\n{said}")
    return ax


def plot_match_graph(
    job: PairJob | str | os.PathLike[str],
    *,
    by: Literal["inliers", "matches"] = "inliers",
    most: int = 800,
    ax: Axes | None = None,
) -> Axes:
    """Draw which images match which: a matrix of all pairs, brighter for more inliers.

    Parameters
    ----------
    job : PairJob or path
        Or its directory.
    by : {"inliers", "matches"}
    most : int, default 800
        Cells of a side at most. Where there are more images, a cell is the best of several pairs.
    ax : matplotlib Axes, optional
        By default in a new figure, which is not shown.

    Returns
    -------
    matplotlib Axes
        Gray for pairs that were not matched, dark blue for no inliers, then by their logarithm up to yellow.

    Raises
    ------
    TaskError
        If there are no images, or a parameter is out of its range.
    JobError
        If matplotlib is not installed.

    Examples
    --------
    >>> parimg.plot_match_graph(job, by="matches")  # doctest: +SKIP
    """
    if by not in {"inliers", "matches"}:
        raise TaskError(f"by must be 'inliers' or 'matches' (got {by!r})")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise TaskError(f"most must be an integer of at least 1 (got {most!r})")
    opened = _opened(job)
    n_images = len(opened.images())
    if not n_images:
        raise TaskError(f"no image of {opened.directory!r} has features yet")
    each = -(-n_images // most)  # images of a cell
    n_cells = -(-n_images // each)
    counts = np.full((n_cells, n_cells), -1, np.int64)
    for table in opened.tables():
        rows, columns = table["first"] // each, table["second"] // each
        np.maximum.at(counts, (rows, columns), table[by])
        np.maximum.at(counts, (columns, rows), table[by])
    ax = ax if ax is not None else new_axes(1, width=6.0, height=5.0)[0]
    from matplotlib.colors import SymLogNorm

    ax.set_facecolor(_UNMATCHED)
    side = (-0.5, n_cells * each - 0.5)  # in numbers of images
    shown = ax.imshow(
        np.ma.masked_less(counts, 0),
        norm=SymLogNorm(1, vmin=0, vmax=max(int(counts.max()), 1)),
        extent=(*side, *side[::-1]),
        interpolation="nearest",
    )
    ax.figure.colorbar(shown, ax=ax, label=by)
    ax.set_xlabel("image")
    ax.set_ylabel("image")
    return ax


def _opened(job: PairJob | str | os.PathLike[str]) -> PairJob:
    if isinstance(job, str | os.PathLike):
        from parimg.pairs.pair_job import open_pairs

        return open_pairs(job)
    return job
